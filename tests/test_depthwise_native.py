import logging
import os
import stat
import subprocess
import sys
from functools import cache
from pathlib import Path

import jax
import numpy as np
import pytest

from jdarts.native import build, rules
from jdarts.ops.depthwise import depthwise_conv

LOAD = "from jdarts.native.build import load_library; load_library()"


@pytest.fixture(scope="module")
def library():
    """The path of the library that this machine's compiler builds."""
    try:
        return Path(build.load_library()._name)
    except build.BuildError as error:
        pytest.skip(f"no native library: {error}")


@pytest.fixture
def compiler(library, tmp_path, monkeypatch):
    """A stand-in for the compiler that copies the finished library, and an empty cache; its log of runs."""
    script, log = tmp_path / "compiler", tmp_path / "compiler.log"
    script.write_text(
        "#!/bin/sh\n"
        'test "$1" = --version && { echo 1; exit; }\n'
        f"echo run >> {log}\n"
        "sleep 0.3\n"
        'while test "$1" != -o; do shift; done\n'
        f'cp {library} "$2"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("CXX", str(script))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return log


@pytest.fixture
def unregistered(monkeypatch):
    """As in a process that has not used the native kernel yet."""
    monkeypatch.setattr(rules, "_registered", cache(rules._registered.__wrapped__))


def lowered():
    x, kernels = np.ones((1, 1, 4, 4, 2)), np.ones((1, 1, 3, 3, 2))
    return jax.jit(lambda x, kernels: depthwise_conv(x, kernels)).lower(x, kernels).as_text()


def runs(log):
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_native_kernel_is_used_unless_switched_off(library, monkeypatch):
    monkeypatch.delenv("JDARTS_NATIVE", raising=False)
    assert "jdarts_depthwise_forward" in lowered()
    monkeypatch.setenv("JDARTS_NATIVE", "0")
    assert "jdarts" not in lowered()
    assert "stablehlo.convolution" in lowered()


@pytest.mark.parametrize("variable", ["CXX", "PATH"])
def test_without_a_working_compiler_one_line_says_so(variable, unregistered, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv(variable, "/bin/false" if variable == "CXX" else str(tmp_path))
    assert "stablehlo.convolution" in lowered()
    assert "stablehlo.convolution" in lowered()
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.name.startswith("jdarts.")
    assert ("/bin/false failed" if variable == "CXX" else "no C++ compiler") in record.getMessage()
    assert not list(tmp_path.rglob("*.so"))


def test_library_is_built_once(compiler):
    build.load_library()
    build.load_library()
    assert runs(compiler) == 1
    (kept,) = build.cache_folder().iterdir()
    assert kept.suffix == ".so"


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_library_is_built_again(compiler, damage):
    build.load_library()
    (kept,) = build.cache_folder().iterdir()
    whole = kept.read_bytes()
    kept.unlink()  # the loaded file itself must not change under this process
    kept.write_bytes(whole[:5000] if damage == "cut" else whole[:5000] + b"?" + whole[5001:])
    build.load_library()
    assert runs(compiler) == 2
    assert [path.read_bytes() == whole for path in build.cache_folder().iterdir()] == [True]


def test_unwritable_cache_folder(compiler, monkeypatch, tmp_path, caplog):
    """A file in the place of the folder stands for all reasons, also for root."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    build.load_library()
    assert "no cache folder" in caplog.text
    assert runs(compiler) == 1


def test_processes_that_build_at_once(compiler):
    both = [subprocess.Popen([sys.executable, "-c", LOAD], stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    assert [path.suffix for path in build.cache_folder().iterdir()] == [".so"]
    before = runs(compiler)
    build.load_library()
    assert runs(compiler) == before


CHECKSUMS = """
import os, sys
if len(sys.argv) > 1:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
import hashlib, jax, numpy as np
from jdarts.ops.depthwise import depthwise_conv

def gradients(x, kernels):
    # Independent convolutions, so that several calls are under way at once.
    outputs = [depthwise_conv(x, (n + 1) * kernels, dilation=1 + n % 2) for n in range(6)]
    def loss(*o):
        return sum((depthwise_conv(*o, dilation=1 + n) ** 2).sum() for n in (0, 1))

    return outputs, jax.grad(loss, (0, 1))(x, kernels)

x = np.random.default_rng(0).standard_normal((2, 4, 32, 32, 24)).astype(np.float32)
kernels = np.random.default_rng(1).standard_normal((2, 3, 5, 5, 24)).astype(np.float32)
run = jax.jit(gradients)
for _ in range(5):
    leaves = jax.tree.leaves(run(x, kernels))
    print(hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in leaves)).hexdigest())
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs processor affinities")
def test_results_are_bit_identical_whatever_the_threads(library, monkeypatch):
    """Over repeated calls, with all threads, and with one on one core (which must not wait for others)."""
    sums = set()
    for options, flags in (([], ""), (["one"], "--xla_cpu_multi_thread_eigen=false"), (["one"], "")):
        monkeypatch.setenv("XLA_FLAGS", flags)
        command = [sys.executable, "-c", CHECKSUMS, *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.split()
        assert len(lines) == 5
        sums |= set(lines)
    assert len(sums) == 1
