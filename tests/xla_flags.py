"""XLA's options that make compilation quick in tests, of those that the installed version knows: it ends at any other."""

from importlib import metadata

#: Whether XLA still has the older emitters of kernels for CPUs, which compile sooner; seen in 0.10.1.
HAS_OLDER_EMITTERS = tuple(map(int, metadata.version("jaxlib").split(".")[:2])) < (0, 11)

#: Programs that run for milliseconds need no optimisation and no newer emitters; workers fill the cores, so that no threads
#: have to compile parts of a program side by side.
QUICK_COMPILATION = "--xla_llvm_disable_expensive_passes=true --xla_backend_optimization_level=0"
QUICK_COMPILATION += " --xla_cpu_parallel_codegen_split_count=1"
if HAS_OLDER_EMITTERS:
    QUICK_COMPILATION += " --xla_cpu_use_fusion_emitters=false"
