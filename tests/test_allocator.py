"""Freed memory stays with a process that asks for it."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
from jdarts import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
import jax, jax.numpy as jnp

@jax.jit
def step(x):  # 64 MiB in between.
    large = jax.lax.optimization_barrier(x[:, None] * x[None, :])
    return large @ x

x = jnp.ones(4096, jnp.float32)
for _ in range(20):  # One step may begin before the memory of the last one is back.
    step(x).block_until_ready()
taken = []
for _ in range(5):  # On a busy machine a step may begin early again, and take memory once more.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        step(x).block_until_ready()
    taken.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(min(taken) * resource.getpagesize())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep what is freed")
def test_steps_take_no_new_memory_from_the_system() -> None:
    taken = {}
    for word in ("keep", "return"):
        done = subprocess.run([sys.executable, "-c", PROGRAM, word], capture_output=True, text=True, check=True)
        taken[word] = int(done.stdout)
    assert taken["return"] > 4 * 64e6
    assert taken["keep"] < 65e6
