"""Compiles steps for accelerators that are not there, by JAX's plugins for them."""

import importlib.util
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jdarts.errors import InputError
from jdarts.xla.jax_compat import get_topology_desc

from .compilation import Compilation, timed_compilation

#: An H100 SXM5 as XLA describes it (openxla/xla#25919).
_H100 = """
gpu_device_info {
  threads_per_block_limit: 1024  threads_per_warp: 32
  shared_memory_per_block: 49152  shared_memory_per_core: 233472  shared_memory_per_block_optin: 232448
  threads_per_core_limit: 2048  core_count: 132  fpus_per_core: 128
  block_dim_limit_x: 2147483647  block_dim_limit_y: 65535  block_dim_limit_z: 65535
  memory_bandwidth: 3352320000000  l2_cache_size: 52428800  clock_rate_ghz: 1.98  device_memory_size: 84929347584
  cuda_compute_capability { major: 9 }
  registers_per_core_limit: 65536  registers_per_block_limit: 65536
  driver_version: "13.0.0"  runtime_version: "13.0.0"
  compile_time_toolkit_version: "13.0.0"
}
platform_name: "CUDA"
dnn_version_info { major: 9 minor: 7 }
runtime_version { major: 13 minor: 0 patch: 0 }
device_description_str: "NVIDIA H100 80GB HBM3"
"""

#: The name of the card; any other target is a topology of TPUs, such as `v5e:2x2`.
H100 = "h100"


class Target(NamedTuple):
    """What a program is compiled for.

    Attributes:
      platform: as `jax.default_backend` names it on such a machine.
      devices: descriptions of the devices.
    """

    platform: str
    devices: list[Any]


def environment(target: str) -> Mapping[str, str]:
    """Variables that the process needs before JAX starts its backends: no device is asked for."""
    variables = {
        "JAX_SKIP_CUDA_CONSTRAINTS_CHECK": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
        "TPU_SKIP_MDS_QUERY": "1",
        # Nothing of a TPU is taken, so several processes may compile.
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }
    if target == H100:
        # Choosing between algorithms needs a device.
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_autotune_level=0"
        variables["XLA_FLAGS"] = flags.strip()
    return variables


def check_plugin(target: str) -> None:
    """Checks that JAX's plugin for a target is installed.

    Raises:
      InputError: it is not.
    """
    module = "jax_cuda13_plugin" if target == H100 else "libtpu"
    if importlib.util.find_spec(module) is None:
        python = f".venv-aot-{H100 if target == H100 else 'tpu'}/bin/python"
        raise InputError(f"compiling for {target} needs {module}, which is not installed; make aot, then use {python}")


def describe_target(target: str) -> Target:
    """The devices of a target.

    Args:
      target: `h100`, or a topology of TPUs that the plugin knows.

    Raises:
      InputError: an unknown topology.
    """
    if target == H100:
        found = get_topology_desc(platform="cuda", target_config=_H100, topology="1x1x1")
        return Target("gpu", list(found.devices))
    try:
        found = get_topology_desc(platform="tpu", topology_name=target)
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"--target {target}: {reason[:200]}; give {H100} or a topology such as v5e:2x2") from error
    return Target("tpu", list(found.devices))


def compile_for(devices: list[Any], step: Any, shapes: Any, options: Mapping[str, Any]) -> Compilation:
    """Compiles a jitted function with whole arguments on every device.

    Args:
      devices: of a target.
      step: under `jax.jit`.
      shapes: its arguments, pytrees of `jax.ShapeDtypeStruct`.
      options: of the compiler.
    """
    sharding = NamedSharding(Mesh(np.array(devices), ("devices",)), PartitionSpec())
    placed = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes)
    return timed_compilation(step, placed, options)
