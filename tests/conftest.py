import contextlib
import gc
import os

import kept_programs
import slow_tests
import temporary_files
from xla_flags import QUICK_COMPILATION

# Before jax is imported anywhere: the same settings hold in the processes that tests start.
os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
# Compilation is what tests cost.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK_COMPILATION}".strip()
os.environ.update(kept_programs.environment())
# Runs write files through to their disk, and wait for it.
if folder := temporary_files.in_memory():
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(folder))

import jax
import numpy as np
import pytest
from _pytest import runner
from own_programs import own_programs
from shared_lowering import share_contexts

from jdarts import native
from jdarts.native import gpu
from jdarts.xla.compilation_cache import check_kept_programs
from jdarts.xla.tracing import with_stack_space

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
check_kept_programs()
share_contexts()
# An array of NumPy becomes one of JAX by a transfer, not by a program for each shape; seen in 0.10.1.
if hasattr(jax.lax, "stage_p"):
    jax.lax.stage_p.def_impl(lambda x: x if isinstance(x, jax.Array) else jax.device_put(x))
# Traces are many objects that live long: looking for dead cycles as often as Python does takes a tenth of the time.
gc.set_threshold(100_000, 50, 50)


def pytest_configure(config):
    if not hasattr(config, "workerinput"):
        kept_programs.remove_oldest()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Marks the slow tests, and puts the files that take longest first, so that no worker is left with one at the end."""
    for item in items:
        # The functions for GPUs take many seconds to build for a CPU.
        of_gpus = hasattr(item, "callspec") and item.callspec.params.get("image_path") == "GPU"
        if of_gpus or slow_tests.is_slow(item.path.name, getattr(item, "originalname", item.name)):
            item.add_marker("slow")
    items.sort(key=lambda item: -slow_tests.SECONDS.get(item.path.name, 0))


@pytest.hookimpl(tryfirst=True)
@with_stack_space
def pytest_runtest_protocol(item, nextitem):
    """Runs a test as pytest does, with space for the frames of all that it traces."""
    return runner.pytest_runtest_protocol(item, nextitem)


def pytest_collection_finish():
    """Leaves what the imports have made out of every later look for dead cycles."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure():
    """Looks for dead cycles of the last tests alone: pytest and Python would look through all
    that JAX keeps, which takes seconds.
    """
    gc.collect(1)
    gc.freeze()


@pytest.fixture
def standard_promotion():
    """Promotion as users have it, for tests with optax: its bias correction raises a float to an integer power."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@contextlib.contextmanager
def programs_written_to(folder):
    """Every program that JAX compiles meanwhile, as a text file."""
    names = ("jax_dump_ir_to", "jax_include_debug_info_in_dumps")
    before = [jax.config.values[name] for name in names]
    try:
        for name, value in zip(names, (str(folder), False)):
            jax.config.update(name, value)
        yield
    finally:
        for name, value in zip(names, before):
            jax.config.update(name, value)


#: Of calls by which programs for CPUs run the functions for GPUs.
MARKS = {"GPU": "@jdarts_emulated_", "fused": "@jdarts_emulated_separable"}


@contextlib.contextmanager
def computing_by(way, monkeypatch, folder):
    """One way to compute: by the native library, by the functions for GPUs, by those with fused ones, or in operations of XLA.

    JAX lowers a function once and keeps the program, whatever the environment says later. So each case begins without
    programs, and ends with a look at those that it compiled: some hold such calls, none does on the path of XLA.
    """
    if way == "XLA":
        monkeypatch.setenv("JDARTS_NATIVE", "0")
    else:
        monkeypatch.delenv("JDARTS_NATIVE", raising=False)
        monkeypatch.setenv("JDARTS_SEPARABLE", "fused" if way == "fused" else "parts")
        if native.lowering("pointwise", np.dtype(np.float32)) is None:
            pytest.skip("no native library can be built here")
    emulation = gpu.emulated() if way in MARKS else contextlib.nullcontext()
    with own_programs(), programs_written_to(folder), emulation:
        yield way
    programs = [program.read_text() for program in folder.glob("*.mlir")]
    assert programs, "the case has compiled nothing"
    mark = MARKS.get(way, "@jdarts_")
    calls = [mark in program for program in programs]
    assert any(calls) if way != "XLA" else not any(calls)


@pytest.fixture
def without_native(monkeypatch):
    """Operations of XLA alone."""
    monkeypatch.setenv("JDARTS_NATIVE", "0")
    with own_programs():
        yield


@pytest.fixture(params=["native", "XLA"])
def path(request, monkeypatch, tmp_path):
    """Both ways to compute on a CPU."""
    with computing_by(request.param, monkeypatch, tmp_path / "programs") as way:
        yield way


@pytest.fixture(params=["native", "XLA", "GPU"])
def image_path(request, monkeypatch, tmp_path):
    """Those, and the functions for GPUs, whose threads run in turn."""
    with computing_by(request.param, monkeypatch, tmp_path / "programs") as way:
        yield way


@pytest.fixture(params=["native", "XLA", "GPU", "fused"])
def separable_path(request, monkeypatch, tmp_path):
    """Those, and the functions for GPUs of which one computes a depthwise and a 1×1 convolution."""
    with computing_by(request.param, monkeypatch, tmp_path / "programs") as way:
        yield way


@pytest.fixture
def fused(monkeypatch, tmp_path):
    """The last of those."""
    with computing_by("fused", monkeypatch, tmp_path / "programs") as way:
        yield way
