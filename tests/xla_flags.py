"""XLA's options that make compilation quick in tests, of those that the installed version knows: it ends at any other."""

from importlib import metadata

#: Whether XLA still has the older emitters of kernels for CPUs, which compile sooner; seen in 0.10.1.
HAS_OLDER_EMITTERS = tuple(map(int, metadata.version("jaxlib").split(".")[:2])) < (0, 11)

#: Programs that run for milliseconds need no optimisation and no newer emitters.
QUICK_COMPILATION = "--xla_llvm_disable_expensive_passes=true --xla_backend_optimization_level=0"
if HAS_OLDER_EMITTERS:
    QUICK_COMPILATION += " --xla_cpu_use_fusion_emitters=false"
