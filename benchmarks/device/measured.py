"""Times of steps on a device, and the two ceilings of its speed."""

import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

_PACKAGES = ("jax", "jaxlib", "flax", "torch", "nvidia-cudnn-cu13")


def timed(
    take: Callable[[], object], wait: Callable[[], object], *, seconds: float = 3.0, rounds: int = 20
) -> dict[str, Any]:
    """Takes steps, one after the other, until the rounds or the seconds are over.

    Args:
      take: starts a step.
      wait: waits until it is done.
      seconds: after which no further step is begun; at least three are taken.
      rounds: the most steps.

    Returns:
      `median_s`, `min_s`, `max_s` and `rounds` of steps that are waited for, and `queued_s`, the time of one of as many steps
      that are started without waiting.
    """
    for _ in range(2):
        take()
        wait()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or (len(times) < rounds and time.perf_counter() < end):
        start = time.perf_counter()
        take()
        wait()
        times.append(time.perf_counter() - start)
    start = time.perf_counter()
    for _ in times:
        take()
    wait()
    queued = (time.perf_counter() - start) / len(times)
    median = statistics.median(times)
    return {"median_s": median, "min_s": min(times), "max_s": max(times), "rounds": len(times), "queued_s": queued}


def ceilings(*, quick: bool) -> dict[str, Any]:
    """Bytes a second of a large copy, read and written ones counted, and operations a second of large products."""
    import jax
    import jax.numpy as jnp

    numbers, rows = (1 << 20, 256) if quick else (1 << 29, 8192)
    found: dict[str, Any] = {}

    def best(function: Callable[..., Any], *operands: Any) -> float:
        compiled = jax.jit(function)
        results: list[Any] = []

        def take() -> None:
            results[:] = [compiled(*operands)]

        return timed(take, lambda: jax.block_until_ready(results), seconds=1, rounds=20)["queued_s"]

    x = jax.random.normal(jax.random.key(0), (numbers,), jnp.float32)
    found["copy_bytes_s"] = 8 * numbers / best(lambda x: x * 1.0001, x)
    products = (("float32", "float32", "highest"), ("tf32", "float32", "default"), ("bfloat16", "bfloat16", "default"))
    for name, dtype, precision in products:
        a = jax.random.normal(jax.random.key(0), (rows, rows), dtype)
        found[f"{name}_flops"] = 2 * rows**3 / best(lambda a, p=precision: jnp.matmul(a, a, precision=p), a)
    return found


def device_facts() -> dict[str, Any]:
    """The device, its driver and the versions, as this process sees them."""
    import jax

    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    return {
        "device": device.device_kind if device.platform != "cpu" else f"CPU, {os.cpu_count()} cores",
        "platform": device.platform,
        "driver": driver(),
        "python": platform.python_version(),
        "versions": {name: version for name in _PACKAGES if (version := version_of(name))},
        "memory_bytes": stats.get("bytes_limit"),
    }


def version_of(package: str) -> str | None:
    """The installed version; None without one."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def driver() -> str | None:
    """The version of NVIDIA's driver; None where there is no `nvidia-smi`."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip().splitlines()[0] if answer.stdout.strip() else None
