import functools
import logging
import os
import re
import stat
import tempfile
import threading
import time
from functools import partial
from pathlib import Path

import command_line
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import warm_processes
from small_runs import environment, finish

from jdarts import native
from jdarts.errors import InputError
from jdarts.files.locked_folders import locked_folder
from jdarts.files.user_cache import is_private_file
from jdarts.native import build, gpu, gpu_rules, libraries, rules
from jdarts.nets.language import output_losses
from jdarts.ops.depthwise import depthwise_conv
from jdarts.ops.highway import mixed_highway
from jdarts.ops.mixing import combine, moments, products
from jdarts.ops.pointwise import pointwise
from jdarts.ops.pool import avg_pool_3x3, max_pool_3x3
from jdarts.ops.running_moments import Moments, batch_and_running_moments
from jdarts.ops.search_cell import search_cell
from jdarts.ops.separable import separable_conv
from jdarts.xla.leaves import join_leaves, split_leaves

LEAVES = build.Library("leaves", ("leaves.cc",), "float")
LOAD = f"from jdarts.native.build import Library, load_library; load_library({LEAVES})"


@pytest.fixture(scope="module")
def library():
    """The path of the library that this machine's compiler builds."""
    try:
        return Path(build.load_library(LEAVES)._name)
    except build.BuildError as error:
        pytest.skip(f"no native library: {error}")


@pytest.fixture
def compiler(library, tmp_path, monkeypatch):
    """A stand-in for the compiler that copies the finished library, and an empty cache; its log of libraries.

    It takes as long as the variable `COMPILER_SECONDS` says.
    """
    script, log = tmp_path / "compiler", tmp_path / "compiler.log"
    script.write_text(
        "#!/bin/sh\n"
        'test "$1" = --version && { echo 1; exit; }\n'
        f'case " $* " in *" -shared "*) echo run >> {log};; esac\n'
        "sleep ${COMPILER_SECONDS:-0}\n"
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
    monkeypatch.setattr(libraries, "_loading", {})
    libraries._warn_without_library.cache_clear()


def every_primitive(x, kernels):
    """Each of the native functions once."""
    (sums,) = combine(x[0, 0, 0, 0][None], [x], routes=((0, 0, 0, 0),), sizes=(1,))
    pooled, pull_back = jax.vjp(max_pool_3x3, sums)
    _, change = jax.jvp(max_pool_3x3, (x,), (pooled,))
    means, spread = jax.vjp(avg_pool_3x3, x)
    running = batch_and_running_moments([x], Moments(*[x[0, 0, 0, 0][None]] * 2))[1]
    y, gradients = jax.vjp(depthwise_conv, x, kernels)
    z, of_separable = jax.vjp(separable_conv, x, kernels, kernels[0, :, 0, :2])
    back = jax.vjp(lambda x: separable_conv(x, kernels, kernels[0, :, 0, :2]), x)[1](z)
    mapped, of_pointwise = jax.vjp(lambda x, w: pointwise([x], [w]), x[0], kernels[0, 0, :1, :2])

    def highway(weights):
        return mixed_highway(weights, *[x[0, 0]] * 3).sum()

    derivatives = jax.value_and_grad(lambda weights: jax.grad(highway)(weights).sum())(x[0, 0, :, :, 0])
    rows, mask = x[0, 0], x[0, 0, 0]

    def losses(rows, words):
        return output_losses(rows, mask, words, words[:, 0], jnp.zeros(rows.shape[:2], np.int32)).sum()

    def cell(rows):
        matrices = jnp.zeros((1, 2, 4))
        mixture = jnp.tile(rows[0, :1], 2)
        return search_cell(mixture, matrices[0], matrices, jnp.tile(rows, 2), mask, mask, jnp.int32(1), (1,))[0].sum()

    recurrent = (
        jax.grad(losses, argnums=(0, 1))(rows, mask),
        *(
            jax.jvp(function, (rows,), (rows,))
            for function in (lambda rows: jax.grad(losses)(rows, mask), jax.grad(cell))
        ),
    )
    return (
        *(
            gradients(y),
            pull_back(change),
            spread(means),
            running,
            moments((x,)),
            products([x], [sums], routes=((0, 0, 0, 0),)),
        ),
        *(
            split_leaves(join_leaves([x, kernels]), [x.shape, kernels.shape]),
            of_separable(z),
            back,
            of_pointwise(mapped),
            highway(x[0, 0, :, :, 0]),
            derivatives,
            recurrent,
        ),
    )


X, KERNELS = np.random.default_rng(0).normal(size=(1, 1, 4, 4, 2)), np.ones((1, 1, 3, 3, 2))


def jitted():
    """A new function each time, for jax remembers how it lowered an old one."""
    return jax.jit(lambda x, kernels: every_primitive(x, kernels))


def lowered():
    return jitted().lower(X, KERNELS)


@pytest.fixture(scope="module")
def natively():
    """The program with native functions, where a library can be built."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("JDARTS_NATIVE", raising=False)
        return lowered()


@pytest.fixture(scope="module")
def native_results(natively):
    return jax.device_get(natively.compile()(X, KERNELS))


def native_calls(text):
    """The native functions that a program calls, all of them for numbers of float64."""
    return set(re.findall(r"@jdarts_(\w+)_float64", text))


def native_functions():
    return {function for functions in rules._RULES.values() for function in functions}


def runs(log):
    return len(log.read_text().splitlines()) if log.exists() else 0


def test_native_kernels_are_used_unless_switched_off(library, natively, monkeypatch):
    assert native_calls(natively.as_text()) == native_functions()
    for switched_on in ("1", ""):
        monkeypatch.setenv("JDARTS_NATIVE", switched_on)
        assert not libraries.is_disabled()
    monkeypatch.setenv("JDARTS_NATIVE", "0")
    assert not native_calls(lowered().as_text())
    monkeypatch.setenv("JDARTS_NATIVE", "off")
    with pytest.raises(InputError, match="JDARTS_NATIVE is off; give 0"):
        lowered()


command = command_line.fixture(lambda: 0, "any command")


@pytest.mark.parametrize("variable", ["JDARTS_NATIVE", "JDARTS_DEPTHWISE", "JDARTS_SEPARABLE"])
def test_a_command_refuses_what_the_environment_does_not_mean(command, variable, monkeypatch):
    monkeypatch.setenv(variable, "false")
    code, out, err = command()
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {variable} is false; give ") and err.count("\n") == 1


def test_other_types_and_backends_get_none(library):
    assert native.lowering("combine", np.dtype(np.float16)) is None
    traced = jitted().trace(X, KERNELS)
    for platforms in (("tpu",), ("cpu", "cuda")):
        assert not native_calls(traced.lower(lowering_platforms=platforms).as_text())


def test_programs_for_gpus_call_the_functions_for_gpus(library, monkeypatch):
    monkeypatch.delenv("JDARTS_NATIVE", raising=False)
    monkeypatch.setenv("JDARTS_SEPARABLE", "parts")
    calls = native_calls(jitted().trace(X, KERNELS).lower(lowering_platforms=("cuda",)).as_text())
    assert calls == {f"gpu_{function}" for function in gpu_rules._FUNCTIONS if function not in gpu_rules.SEPARABLE}


@pytest.mark.parametrize(("form", "sources"), [("parts", ["device.cu"]), ("fused", ["device.cu", "separable.cu"])])
def test_device_functions_are_compiled_where_programs_may_call_them(monkeypatch, form, sources):
    loaded = []
    monkeypatch.setattr(gpu, "load_library", lambda library: library.name)
    monkeypatch.setattr(gpu, "_load_device_functions", lambda *arguments: loaded.append(arguments))
    for cached in (gpu._built, gpu._has_others):
        monkeypatch.setattr(gpu, cached.__name__, functools.cache(cached.__wrapped__))
    monkeypatch.setenv("JDARTS_SEPARABLE", form)
    gpu.begin_building(np.dtype(np.float32))
    for thread in threading.enumerate():
        if thread.name == "building for float32":
            thread.join(60)
    assert loaded == [("gpu", source, "float") for source in sources]


@pytest.mark.parametrize("variable", ["CXX", "PATH"])
def test_without_a_working_compiler_one_line_says_so(
    variable, native_results, unregistered, monkeypatch, tmp_path, caplog
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv(variable, "/bin/false" if variable == "CXX" else str(tmp_path))
    program = lowered()
    assert not native_calls(program.as_text())
    without = program.compile()(X, KERNELS)
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.name.startswith("jdarts.")
    assert ("/bin/false failed" if variable == "CXX" else "no C++ compiler") in record.getMessage()
    assert not list(tmp_path.rglob("*.so"))
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-11), without, native_results)


def test_library_is_built_once(compiler):
    build.load_library(LEAVES)
    build.load_library(LEAVES)
    assert runs(compiler) == 1
    (kept,) = build.cache_folder().iterdir()
    assert kept.suffix == ".so"


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_library_is_built_again(compiler, damage):
    build.load_library(LEAVES)
    (kept,) = build.cache_folder().iterdir()
    whole = kept.read_bytes()
    kept.unlink()  # the loaded file itself must not change under this process
    kept.write_bytes(whole[:5000] if damage == "cut" else whole[:5000] + b"?" + whole[5001:])
    build.load_library(LEAVES)
    assert runs(compiler) == 2
    assert [path.read_bytes() == whole for path in build.cache_folder().iterdir()] == [True]


def test_library_and_folder_are_the_users_alone(compiler):
    mask = os.umask(0)
    try:
        build.load_library(LEAVES)
    finally:
        os.umask(mask)
    (kept,) = build.cache_folder().iterdir()
    for path in (kept, build.cache_folder(), build.cache_folder().parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


OTHER = 54321
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def give_away(path):
    os.chown(path, OTHER, -1)


def open_to_all(path):
    path.chmod(0o722)


def make_a_link(path):
    path.rename(path.parent / "elsewhere")
    path.symlink_to("elsewhere")


@pytest.mark.parametrize("change", [pytest.param(give_away, marks=needs_root), open_to_all, make_a_link])
def test_a_library_that_others_may_have_put_there_is_built_again(compiler, change):
    build.load_library(LEAVES)
    (kept,) = build.cache_folder().iterdir()
    change(kept)
    build.load_library(LEAVES)
    assert runs(compiler) == 2
    assert is_private_file(kept)


def test_a_library_in_a_folder_that_all_may_write_to_is_built_again(compiler):
    build.load_library(LEAVES)
    build.cache_folder().chmod(0o777)
    build.load_library(LEAVES)
    assert runs(compiler) == 2
    assert stat.S_IMODE(build.cache_folder().stat().st_mode) == 0o700


@needs_root
def test_a_folder_of_another_user_is_not_used(compiler, caplog):
    build.load_library(LEAVES)
    before = sorted(build.cache_folder().iterdir())
    os.chown(build.cache_folder(), OTHER, -1)
    build.load_library(LEAVES)
    assert runs(compiler) == 2
    assert "belongs to another user" in caplog.text
    assert sorted(build.cache_folder().iterdir()) == before


def test_builds_that_were_killed_leave_nothing_and_running_ones_stay(compiler):
    build.load_library(LEAVES)
    folder = build.cache_folder()
    (folder / "build-killed").mkdir()
    (folder / "build-killed" / "leaves.so").touch()
    with locked_folder(folder, "build-") as running:
        build.load_library(LEAVES)
        assert running.is_dir()
        assert sorted(path.name[:6] for path in folder.iterdir()) == ["build-", "leaves"]
    assert runs(compiler) == 1


def test_a_folder_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    """Another process takes it as abandoned, since nobody has locked it yet."""
    real, made = tempfile.mkdtemp, []

    def mkdtemp(**options):
        made.append(real(**options))
        if len(made) == 1:
            os.rmdir(made[0])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", mkdtemp)
    with locked_folder(tmp_path, "build-") as folder:
        assert [str(folder)] == made[1:] == [str(path) for path in tmp_path.iterdir()]


def test_unwritable_cache_folder(compiler, monkeypatch, tmp_path, caplog):
    """A file in the place of the folder stands for all reasons, also for root."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    build.load_library(LEAVES)
    assert "no cache folder" in caplog.text
    assert runs(compiler) == 1


def test_processes_that_build_at_once(compiler, monkeypatch):
    monkeypatch.setenv("COMPILER_SECONDS", "0.3")
    both = [warm_processes.start(["-c", LOAD], environment()) for _ in range(2)]
    for process in both:
        code, _, errors = finish(process)
        assert code == 0, errors
    assert [path.suffix for path in build.cache_folder().iterdir()] == [".so"]
    before = runs(compiler)
    build.load_library(LEAVES)
    assert runs(compiler) == before


def test_parts_of_a_library_are_compiled_at_the_same_time_and_linked(compiler, monkeypatch, tmp_path):
    """The stand-in waits in each part for the other one."""
    script = Path(os.environ["CXX"])
    script.write_text(
        script.read_text().replace(
            "sleep ${COMPILER_SECONDS:-0}\n",
            f'case " $* " in *" -c "*) touch {tmp_path}/part-$$\n'
            f"for turn in $(seq 200); do test $(ls {tmp_path}/part-* | wc -l) = 2 && break; sleep 0.1; done\n"
            f"test $turn = 200 && exit 1;; esac\n",
        )
    )
    build.load_library(build.Library("both", ("leaves.cc", "tiles.cc"), "float"))
    assert runs(compiler) == 1
    assert [path.name[:11] for path in build.cache_folder().iterdir()] == ["both-float-"]


def test_a_part_that_fails_ends_the_others(compiler, tmp_path):
    script = Path(os.environ["CXX"])
    script.write_text(
        script.read_text().replace(
            "sleep ${COMPILER_SECONDS:-0}\n", 'case "$*" in *leaves.cc*) exit 1;; *) sleep 60;; esac\n'
        )
    )
    begun = time.monotonic()
    with pytest.raises(build.BuildError, match="failed with exit code 1"):
        build.load_library(build.Library("both", ("leaves.cc", "tiles.cc"), "float"))
    assert time.monotonic() - begun < 30
    assert not list(build.cache_folder().iterdir())


def test_each_type_of_numbers_has_functions_of_its_own(library):
    def of_type(dtype):
        operands = [jax.ShapeDtypeStruct((2, 3), dtype)] * 2
        return jax.jit(lambda a, b: join_leaves([a, b])).lower(*operands).as_text()

    assert "@jdarts_join_float32" in of_type(np.float32)
    assert "@jdarts_join_float64" in of_type(np.float64)


def test_a_library_is_built_in_the_background_and_waited_for_where_it_is_needed(compiler, unregistered, monkeypatch):
    asked = threading.Event()
    load = build.load_library

    def slow(library):
        assert asked.wait(60)
        return load(library)

    monkeypatch.setattr(libraries, "load_library", slow)
    native.build_for_images("bfloat16")
    threading.Timer(0.5, asked.set).start()
    assert native.lowering("join", np.float32) is not None
    assert asked.is_set()
    assert runs(compiler) == 1
    assert [(library.name, library.number) for library in libraries._loading] == [("leaves", "float")]


def test_nothing_is_built_where_the_environment_asks_for_operations_of_xla(compiler, unregistered, monkeypatch):
    monkeypatch.setenv("JDARTS_NATIVE", "0")
    native.build_for_images("float32")
    native.build_for_text()
    assert not libraries._loading


@pytest.mark.parametrize(("platform", "calls"), [("cpu", 2), ("cuda", 0), ("tpu", 0)])
def test_operations_of_xla_are_calls_that_it_does_not_inline_on_cpus(monkeypatch, platform, calls):
    """Otherwise it computes earlier sums again inside of later ones, and compiling a step takes minutes and gigabytes."""
    monkeypatch.setenv("JDARTS_NATIVE", "0")

    def twice(weights, x):
        routes = ((0, 0, 0, 1), (0, 1, 0, 0))
        return combine(weights, combine(weights, [x], routes=routes, sizes=(2,)), routes=routes, sizes=(2,))

    traced = jax.jit(twice).trace(jnp.ones((2, 3)), jnp.ones((2, 4, 3)))
    assert traced.lower(lowering_platforms=(platform,)).as_text().count('inlineable = "false"') == calls
