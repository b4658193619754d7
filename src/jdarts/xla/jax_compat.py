"""Every name of JAX that JAX's compatibility policy does not cover; no other file imports one.

The policy (https://docs.jax.dev/en/latest/api_compatibility.html) leaves out `jax._src`, `jax.core`, `jax.interpreters`,
`jax.experimental`, `jax.extend`, `jax.lib` and `jax.example_libraries`: a release may rename or remove their names. Every name
below is in 0.10.1 and in 0.12.0.1; a comment says what differs.
"""

import functools
import importlib
import os
import threading
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from jax._src import compilation_cache
from jax._src.compilation_cache_interface import CacheInterface
from jax._src.lib import utils  # pyright: ignore[reportPrivateImportUsage]
from jax.core import Tracer
from jax.experimental.layout import Layout, with_layout_constraint
from jax.experimental.multihost_utils import process_allgather, sync_global_devices
from jax.experimental.topologies import get_topology_desc
from jax.experimental.xla_metadata import set_xla_metadata

# In 0.12.0.1 `ClosedJaxpr` is another name of `Jaxpr`, which holds its constants itself.
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Primitive, jaxpr_as_fun, jaxprs_in_params
from jax.extend.random import define_prng_impl
from jax.interpreters.ad import (
    Zero,
    add_tangents,
    defjvp,
    instantiate_zeros,
    is_undefined_primal,
    primitive_jvps,
    primitive_transposes,
)
from jax.interpreters.batching import primitive_batchers
from jax.interpreters.mlir import LoweringRule, LoweringRuleContext, lower_fun, register_lowering
from jax.interpreters.partial_eval import dce_rules

__all__ = [
    "UNREADABLE_PROGRAM",
    "CacheInterface",
    "ClosedJaxpr",
    "Jaxpr",
    "JaxprEqn",
    "Layout",
    "Literal",
    "LoweringRule",
    "LoweringRuleContext",
    "Primitive",
    "Tracer",
    "Zero",
    "add_tangents",
    "define_dead_code_rule",
    "define_prng_impl",
    "defjvp",
    "folder_of_programs",
    "get_topology_desc",
    "instantiate_zeros",
    "is_for_export",
    "is_for_gpus_alone",
    "is_undefined_primal",
    "jaxpr_as_fun",
    "jaxprs_in_params",
    "lower_fun",
    "pallas",
    "pallas_tpu",
    "pallas_triton",
    "platform_of",
    "primitive_batchers",
    "primitive_jvps",
    "primitive_transposes",
    "process_allgather",
    "program_size",
    "register_lowering",
    "reset_compilation_cache",
    "results_of",
    "set_xla_metadata",
    "shape_beside",
    "silence_loading_of_programs",
    "sync_global_devices",
    "with_layout_constraint",
    "wrap_compilation_cache",
]

# JAX compresses programs with the package `zstandard`, or with `compression.zstd` of Python 3.14, where it has one of them.
_ZSTANDARD = (getattr(compilation_cache, name, None) for name in ("zstd", "zstandard"))
#: The level of XLA's log at which nothing but the end of the process is written. JAX sets the level at its import, by the
#: environment's TF_CPP_MIN_LOG_LEVEL, which always has a value after that.
_FATAL = 3
#: What reading a damaged program raises.
UNREADABLE_PROGRAM = (zlib.error, EOFError, ValueError, *(package.ZstdError for package in _ZSTANDARD if package))


def pallas() -> Any:
    """`jax.experimental.pallas`, which takes a second to import."""
    return importlib.import_module("jax.experimental.pallas")


def pallas_tpu() -> Any:
    """Pallas's names for TPUs."""
    return importlib.import_module("jax.experimental.pallas.tpu")


def pallas_triton() -> Any:
    """Pallas's names for NVIDIA's GPUs by Triton."""
    return importlib.import_module("jax.experimental.pallas.triton")


def shape_beside(operand: Any, shape: Sequence[int], dtype: Any) -> jax.ShapeDtypeStruct:
    """The shape of a kernel's result, which varies over the same mesh axes as an operand inside `shard_map`."""
    return jax.ShapeDtypeStruct(tuple(shape), dtype, manual_axis_type=jax.typeof(operand).mat)


def program_size(content: bytes) -> int:
    """The length of a program in bytes, from a file of JAX's compilation cache.

    Raises:
      one of `UNREADABLE_PROGRAM`: the content is damaged.
    """
    program, _ = compilation_cache.extract_executable_and_time(compilation_cache.decompress_executable(content))
    return len(program)


def folder_of_programs(store: CacheInterface) -> Path:
    """The folder of a store of compiled programs."""
    return Path(store._path)


def wrap_compilation_cache(wrap: Callable[[CacheInterface], CacheInterface]) -> None:
    """Puts a store around JAX's own store of compiled programs: the one in use, and those that JAX opens later.

    Args:
      wrap: from a store to its replacement; it may get a store that it has returned before.
    """
    make = compilation_cache.get_file_cache

    def make_wrapped(path: str) -> tuple[CacheInterface, str] | None:
        opened = make(path)
        return opened if opened is None else (wrap(opened[0]), opened[1])

    compilation_cache.get_file_cache = make_wrapped
    if compilation_cache._cache is not None:
        compilation_cache._cache = wrap(compilation_cache._cache)


def silence_loading_of_programs() -> None:
    """Keeps XLA's log quiet while JAX loads programs for CPUs from its compilation cache, in any thread, and at no other time.

    In 0.10.1 XLA logs long and wrong warnings that a program does not fit the machine that compiled it (openxla/xla#44565);
    0.12.0.1 does not. A real failure raises an error, which JAX reports.
    """
    load = compilation_cache.get_executable_and_time
    if hasattr(load, "__wrapped__"):
        return
    lock, running = threading.Lock(), 0

    def change(number: int) -> None:
        nonlocal running
        with lock:
            running += number
            level = _FATAL if running else int(os.environ["TF_CPP_MIN_LOG_LEVEL"])
            utils.absl_set_min_log_level(level)

    @functools.wraps(load)
    def load_silently(*args: Any, **kwargs: Any) -> Any:
        if jax.default_backend() != "cpu" or jax.config.values["jax_logging_level"] != "NOTSET":
            return load(*args, **kwargs)
        change(+1)
        try:
            return load(*args, **kwargs)
        finally:
            change(-1)

    compilation_cache.get_executable_and_time = load_silently


def reset_compilation_cache() -> None:
    """Makes JAX open its store of compiled programs again."""
    compilation_cache.reset_cache()


def results_of(equation: JaxprEqn, operands: Sequence[Any]) -> Sequence[Any]:
    """The results of one equation of a traced function at other operands."""
    primitive = equation.primitive
    with equation.ctx.manager:
        results = primitive.bind(*operands, **primitive.get_bind_params(equation.params))
    return results if primitive.multiple_results else [results]


def platform_of(context: LoweringRuleContext) -> str | None:
    """The kind of device that a primitive is lowered for: cpu, gpu or tpu; None where one program is for several."""
    platforms = {
        "gpu" if name in ("cuda", "rocm") else name for name in context.platforms or context.module_context.platforms
    }
    return platforms.pop() if len(platforms) == 1 else None


def is_for_gpus_alone(context: LoweringRuleContext) -> bool:
    """Whether the program that a primitive is lowered for runs on NVIDIA's GPUs and on nothing else."""
    return tuple(context.platforms or context.module_context.platforms) == ("cuda",)


def is_for_export(context: LoweringRuleContext) -> bool:
    """Whether `jax.export` exports the program that a primitive is lowered for."""
    return context.module_context.lowering_parameters.for_export


def define_dead_code_rule(
    primitive: Primitive, rule: Callable[[Sequence[bool], JaxprEqn], tuple[list[bool], JaxprEqn | None]]
) -> None:
    """Defines what JAX keeps of an equation when it removes dead code.

    Args:
      primitive: the equation's primitive.
      rule: `(which results are read, the equation) -> (which operands are read, the equation that replaces it)`; None removes
        the equation.
    """
    # In 0.12.0.1 a rule gets one more argument between the two.
    dce_rules[primitive] = lambda used, *others: rule(used, others[-1])
