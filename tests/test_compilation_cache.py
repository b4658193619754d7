"""Programs that JAX keeps on disk: a damaged one is replaced without a word."""

import contextlib
import threading
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from small_runs import run_in_a_process

from jdarts.runs.command import keep_compiled_programs
from jdarts.xla import jax_compat
from jdarts.xla.compilation_cache import check_kept_programs
from jdarts.xla.jax_compat import reset_compilation_cache


@contextlib.contextmanager
def settings(**values):
    before = {name: jax.config.values[name] for name in values}
    for name, value in values.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.fixture
def folder(tmp_path):
    """An empty folder in which JAX keeps every program."""
    reset_compilation_cache()
    with settings(
        jax_compilation_cache_dir=str(tmp_path / "programs"),
        jax_persistent_cache_min_compile_time_secs=0.0,
        jax_logging_level="ERROR",
    ):
        yield tmp_path / "programs"
    reset_compilation_cache()


def start():
    """The result of a small program, of which JAX has nothing but what is on disk: its function is a new one."""
    reset_compilation_cache()

    @jax.jit
    def twice_and_more(x):
        return 2 * x + 0.25

    return float(twice_and_more(jnp.float32(1)))


def entry(folder):
    (found,) = folder.glob("jit_twice_and_more*-cache")
    return found


def as_before(path):
    return path.stat().st_ino, path.stat().st_mtime_ns


DAMAGE = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda _: b"",
    "one bit": lambda content: content[:-30] + bytes([content[-30] ^ 4]) + content[-29:],
    "another file": lambda _: b"no program" * 100,
}


CASES = [(name, "there") for name in DAMAGE] + [
    (name, what) for name in ("cut", "empty") for what in ("lost", "damaged")
]


@pytest.mark.parametrize(("name", "checksum"), CASES)
def test_a_damaged_program_is_replaced_and_then_read(folder, name, checksum):
    damage = DAMAGE[name]
    check_kept_programs()
    assert start() == 2.25
    kept = entry(folder)
    (beside,) = folder.glob("jit_twice_and_more*-sha256")
    whole = kept.read_bytes()
    kept.write_bytes(damage(whole))
    if checksum == "lost":
        beside.unlink()
    elif checksum == "damaged":
        beside.write_bytes(b"\xff\xff")
    assert start() == 2.25
    assert kept.read_bytes()[4:] != damage(whole)[4:]
    replaced = as_before(kept)
    assert start() == 2.25
    assert as_before(kept) == replaced


def test_a_program_that_cannot_be_opened_is_replaced(folder):
    check_kept_programs()
    start()
    kept = entry(folder)
    kept.unlink()
    kept.mkdir()
    assert start() == 2.25
    assert kept.is_file()


def test_programs_without_a_checksum_are_read(folder):
    """Those that JAX has kept by itself."""
    check_kept_programs()
    start()
    for checksum in folder.glob("*-sha256"):
        checksum.unlink()
    before = as_before(entry(folder))
    assert start() == 2.25
    assert as_before(entry(folder)) == before


def test_programs_are_kept_where_nobody_else_may_write(monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with settings(jax_compilation_cache_dir=None, jax_logging_level="ERROR"):
        keep_compiled_programs()
        chosen = tmp_path / "cache" / "jdarts" / "programs"
        assert jax.config.values["jax_compilation_cache_dir"] == str(chosen)
        assert chosen.stat().st_mode & 0o777 == 0o700
        (chosen / "planted-cache").touch()
        chosen.chmod(0o777)
        jax.config.update("jax_compilation_cache_dir", None)
        keep_compiled_programs()
        assert not list(chosen.iterdir())
    with settings(jax_compilation_cache_dir=None, jax_logging_level="ERROR"):
        (tmp_path / "cache").chmod(0o777)
        keep_compiled_programs()
        assert jax.config.values["jax_compilation_cache_dir"] is None
    assert "compiled programs are not kept" in caplog.text


PROGRAM = """
import logging, jax
from jdarts.runs.command import keep_compiled_programs
keep_compiled_programs()
print(jax.jit(lambda x: jax.numpy.sin(x) @ x)(jax.numpy.ones((300, 300))).sum())
logging.getLogger("jax").warning("a warning of JAX")
"""


def test_loading_a_program_writes_nothing_and_other_messages_stay(tmp_path):
    variables = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "JAX_LOGGING_LEVEL": "NOTSET"}
    codes, shown, errors = zip(*(run_in_a_process("-c", PROGRAM, **variables) for _ in range(2)))
    assert codes == (0, 0), errors[-1]
    assert shown[0] == shown[1]
    assert [each.splitlines() for each in errors] == [["WARNING:jax:a warning of JAX"]] * 2


def test_the_log_is_quiet_while_a_program_is_loaded_alone(folder, monkeypatch):
    levels = []
    monkeypatch.setattr(jax_compat.utils, "absl_set_min_log_level", levels.append)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    jax_compat.silence_loading_of_programs()
    first = start()
    with settings(jax_logging_level="NOTSET"):
        levels.clear()
        assert start() == first
    assert levels[:2] == [3, 1]


def test_the_log_is_quiet_until_the_last_of_several_threads_has_loaded_its_program(monkeypatch):
    levels, leave, entered = [], threading.Event(), threading.Event()
    library: Any = jax_compat.compilation_cache

    def load(waits):
        if waits:
            entered.set()
            assert leave.wait(60)

    monkeypatch.setattr(library, "get_executable_and_time", load)
    monkeypatch.setattr(jax_compat.utils, "absl_set_min_log_level", levels.append)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "1")
    jax_compat.silence_loading_of_programs()
    with settings(jax_logging_level="NOTSET"):
        levels.clear()
        other = threading.Thread(target=lambda: library.get_executable_and_time(True))
        other.start()
        assert entered.wait(60)
        library.get_executable_and_time(False)
        leave.set()
        other.join()
        assert levels == [3, 3, 3, 1]
