"""The folder of compiled programs that runs of the tests share."""

import os

import jax
import kept_programs
import warm_processes
from small_runs import environment, finish


def test_the_oldest_programs_go_first(tmp_path):
    for age, name in enumerate(["newest", "older/second", "older/oldest"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (1e9 - age, 1e9 - age))
    kept_programs.remove_oldest(tmp_path, limit=300)
    assert len(list(tmp_path.rglob("*"))) == 4
    kept_programs.remove_oldest(tmp_path, limit=250)
    assert {path.name for path in tmp_path.rglob("*")} == {"newest", "older", "second"}
    kept_programs.remove_oldest(tmp_path / "missing", limit=0)


def test_every_program_is_kept_in_one_folder_for_this_jax(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "chosen")
    assert kept_programs.environment()["JAX_COMPILATION_CACHE_DIR"] == "chosen"
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    folder = kept_programs.folder_of_programs()
    assert kept_programs.environment()["JAX_COMPILATION_CACHE_DIR"] == str(folder)
    assert folder.parent == kept_programs.CACHE
    assert jax.__version__ in folder.name
    monkeypatch.setattr(kept_programs, "_processor", lambda: "another")
    assert kept_programs.folder_of_programs() != folder


PROGRAM = """
import warnings
warnings.simplefilter("error")
import jax, jax.numpy as jnp
from jdarts.xla.compilation_cache import check_kept_programs
check_kept_programs()
for number in range(30):
    assert jax.jit(lambda x: x * number)(jnp.int32(2)) == 2 * number
"""


def test_processes_that_compile_the_same_at_once_share_a_folder(tmp_path):
    variables = environment() | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path)}
    both = [warm_processes.start(["-c", PROGRAM], variables) for _ in range(2)]
    for process in both:
        code, _, errors = finish(process)
        assert code == 0, errors[-500:]
    programs = {path.name.removesuffix("-cache") for path in tmp_path.glob("*-cache")}
    assert len(programs) >= 30
    assert {path.name.removesuffix("-sha256") for path in tmp_path.glob("*-sha256")} == programs
