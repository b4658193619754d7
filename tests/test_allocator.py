"""Freed memory stays with a process that asks for it."""

import platform
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_runs import run_in_a_process

from jdarts.xla import allocator
from jdarts.xla.allocator import keep_freed_memory

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
        code, shown, errors = run_in_a_process("-c", PROGRAM, word)
        assert code == 0, errors
        taken[word] = int(shown)
    assert taken["return"] > 4 * 64e6
    assert taken["keep"] < 65e6


@pytest.mark.parametrize(
    ("platforms", "plugins", "accelerator", "expected"),
    [
        ("cpu", ["xla_cuda13"], True, True),
        ("cuda", [], False, False),
        ("cuda,cpu", ["xla_cuda13"], True, False),
        (None, ["xla_cuda13"], True, False),
        (None, ["xla_cuda13"], False, True),
        (None, [], True, True),
    ],
)
def test_only_processes_that_compute_on_cpus_keep_memory(
    platforms: str | None,
    plugins: list[str],
    accelerator: bool,
    expected: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    calls, changed = [], []
    library = SimpleNamespace(mallopt=lambda *args: calls.append(args) or 1)
    monkeypatch.setattr(allocator, "_glibc", lambda: library)
    monkeypatch.setattr(allocator, "_ACCELERATORS", (str(tmp_path if accelerator else tmp_path / "none"),))
    monkeypatch.setattr(allocator.metadata, "entry_points", lambda group: plugins)
    monkeypatch.setattr(allocator.importlib.util, "find_spec", lambda name: None)
    config = SimpleNamespace(values={"jax_platforms": platforms}, update=lambda *args: changed.append(args))
    monkeypatch.setattr(allocator, "jax", SimpleNamespace(config=config))
    assert keep_freed_memory() == expected == bool(calls)
    assert changed == [("jax_cpu_enable_async_dispatch", False)] * expected


def test_memory_is_kept_before_jax_chooses_its_devices() -> None:
    program = "import os; from jdarts import keep_freed_memory; keep_freed_memory()"
    assert run_in_a_process("-c", program, JAX_PLATFORMS="cpu,none_such") == (0, "", "")
