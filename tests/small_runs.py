"""Runs in tests: their processes, their deaths, and their states compared bit by bit."""

import contextlib
import functools
import io
import json
import os
import shutil
import sys
import threading
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
import warm_processes
from state_leaves import is_key

from jdarts import checkpoint
from jdarts.files.atomic import replace_text
from jdarts.genotype import RecurrentGenotype
from jdarts.report import read_metrics
from jdarts.runs import CompiledPrograms
from jdarts.space import CELL_KINDS

TESTS = Path(__file__).parent
#: A PNG of one pixel.
_PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5"
    "f645400000000049454e44ae426082"
)

#: The programs that runs with the same stand-ins share; None where every run compiles its own.
shared_programs: CompiledPrograms | None = None


class ProgramsOfAnyCells(CompiledPrograms):
    """The compiled programs of quick networks, to which cells of a training and names of a set make no difference."""

    def get(self, key: Any, compiled):
        return super().get(_without_names(key), compiled)


def _without_names(part: Any) -> Any:
    """A key, or a part of it, without cells and sets in its settings, which are JSON; runs on text keep theirs."""
    if isinstance(part, tuple):
        return tuple(map(_without_names, part))
    if isinstance(part, str) and part.startswith('{"'):
        settings = json.loads(part)
        left_out = () if "bptt" in settings else ("dataset", "genotype")
        return json.dumps({name: value for name, value in settings.items() if name not in left_out})
    return part


#: Those of the quick networks of `small_search` and `small_train`, for all modules of a process.
programs_of_quick_networks = ProgramsOfAnyCells()


class Died(BaseException):
    """Ends a process's work where it stands: no handler of errors sees it, like a SIGKILL."""


@contextlib.contextmanager
def as_users_have_it():
    """JAX's own settings instead of the tests' strict ones; programs are kept however short their compilation was."""
    changed = {
        "jax_enable_x64": False,
        "jax_numpy_dtype_promotion": "standard",
        "jax_numpy_rank_promotion": "allow",
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    before = {name: getattr(jax.config, name) for name in changed}
    for name, value in changed.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


@pytest.fixture(scope="module")
def user_settings():
    with as_users_have_it():
        yield


class NoSummary(NamedTuple):
    """Stands in for a summary: its result is the run's folder."""

    result: Path

    def lines(self):
        return []


def take_no_steps(monkeypatch):
    """Lets runs end before their first step; the result of each is its folder."""
    from jdarts.runs.loop import Loop

    monkeypatch.setattr(Loop, "run", lambda loop: (NoSummary(loop._context.store.path),))


def leave_undrawn(replace):
    """Lets runs write a line of text in place of each picture: pictures take longer than the smallest runs."""
    import jdarts.runs.ending
    import jdarts.runs.loop

    replace(jdarts.runs.ending, "draw_cells", _write_cells)
    replace(jdarts.runs.loop, "cells_picture", lambda genotype: _PICTURE)
    replace(jdarts.runs.ending, "draw_curves", lambda records, path: replace_text(path, f"{len(records)} records"))


def _write_cells(genotype, folder, **_):
    for kind in ("recurrent",) if isinstance(genotype, RecurrentGenotype) else CELL_KINDS:
        replace_text(folder / f"{kind}.svg", str(genotype))


def with_stand_ins(quicken, programs=None):
    """A fixture that puts stand-ins in place for the tests of a module. All runs with them share their compiled programs.

    Args:
      quicken: puts the stand-ins in place; it is given what replaces an attribute.
      programs: keeps those that other modules with these stand-ins share.
    """
    shared = programs or CompiledPrograms()

    @pytest.fixture(scope="module")
    def quick(user_settings):
        with pytest.MonkeyPatch.context() as patch:
            quicken(patch.setattr)
            patch.setattr(sys.modules[__name__], "shared_programs", shared)
            # Of a process that has run many tests this takes longer than the compilation of a small program.
            patch.setattr("jdarts.runs.loop.return_freed_memory", lambda: None)
            yield

    return quick


def undisturbed_run(run):
    """A fixture: the folder of a run from its start to its end, which `run` is given to fill."""

    @pytest.fixture(scope="module")
    def undisturbed(quick, tmp_path_factory):
        folder = tmp_path_factory.mktemp("undisturbed") / "run"
        run(folder)
        return folder

    return undisturbed


def result_and_text(run, config, **given):
    """The result of `search`, `search_seeds` or `train`, with the programs that tests share, and what it shows."""
    stream = io.StringIO()
    return run(config, programs=shared_programs, stream=stream, **given), stream.getvalue()


def arguments(settings):
    """The options of a command line that say the settings."""
    words = []
    for name, value in settings.items():
        words += [f"--{name.replace('_', '-')}", *(value if isinstance(value, tuple) else (str(value),))]
    return words


def environment():
    paths = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    shared = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "PYTHONUNBUFFERED": "1", "PYTHONPATH": paths}
    return {**os.environ, **shared}


def start(program, settings) -> Any:
    """Starts a program with these options in a process of its own."""
    return warm_processes.start([*program, *arguments(settings)], environment())


def read_until(process: Any, text, seconds=300):
    """The line of a process's output that holds a text; those before it are dropped. A process that hangs is killed."""
    watch = threading.Timer(seconds, process.kill)
    watch.start()
    try:
        for line in process.stdout:
            if text in line:
                return line
    finally:
        watch.cancel()
    raise AssertionError(f"{text!r} was not shown; errors: {process.stderr.read()}")


def finish(process, seconds=180):
    """Exit code, standard output, standard error."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out, err


def run_in_a_process(*arguments, **variables):
    """Exit code, standard output and standard error of Python with these arguments, and with these variables besides."""
    return finish(warm_processes.start(arguments, environment() | variables))


def newest(folder):
    """The newest checkpoint of a run."""
    found = checkpoint.newest(folder / checkpoint.FOLDER, [])
    assert found is not None
    return found


def leaves(folder):
    """Every array of the newest checkpoint as bytes, by its place in the state."""
    found = newest(folder)
    return _leaves_of(found.path / checkpoint.ARRAYS, (found.path / checkpoint.CHECKSUMS).read_text())


@functools.lru_cache(maxsize=32)
def _leaves_of(arrays, checksums):
    """Loaded once where the checksums are the same: many runs are compared with an undisturbed one."""
    from orbax.checkpoint import v1 as ocp

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sharding info not provided")
        tree = ocp.load(str(arrays))
    return {
        jax.tree_util.keystr(place): np.asarray(jax.random.key_data(leaf) if is_key(leaf) else leaf).tobytes()
        for place, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def resume_before_every_ninth_change(folder, run, check):
    """Runs once, and then runs to the end and checks from what lay in the folder before every ninth change below it.

    A process that is killed leaves just that.

    Args:
      folder: the run's folder, which does not exist yet.
      run: runs to the end, after what is in the folder.
      check: is given what the run after a death has returned.

    Returns:
      The number of changes that the undisturbed run made.
    """
    kept = []

    def keep():
        kept.append(folder.parent / f"left_{len(kept)}")
        _copied(folder, kept[-1])
        operations.fatal += 9

    operations = FileOperations(keep)
    operations.watch(folder, 1)
    try:
        run()
    finally:
        changes = operations.count
        operations.watch("")
    for left in kept:
        shutil.rmtree(folder)
        if left.exists():
            left.rename(folder)
        check(run())
    return changes


def _copied(folder, target):
    """Copies a folder in which Orbax's threads may be writing a checkpoint that has no name yet."""
    try:
        if folder.exists():
            shutil.copytree(folder, target, symlinks=True)
    except shutil.Error as error:
        assert all("/.incomplete-" in str(source) for source, *_ in error.args[0]), error


def records(folder):
    """The records of metrics.jsonl without their time."""
    return [{key: value for key, value in record.items() if key != "time"} for record in read_metrics(folder)]


def assert_records_close(folder, reference):
    """The metrics of a run are those of another, up to float32's rounding."""
    found, expected = records(folder), records(reference)
    assert [list(record) for record in found] == [list(record) for record in expected]
    for one, other in zip(found, expected):
        for name, value in other.items():
            assert one[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


def assert_same_bits(folder, reference, names):
    """The run in a folder has come to the same, by the same way, as an undisturbed one; so have the named files."""
    found, expected = leaves(folder), leaves(reference)
    assert found.keys() == expected.keys()
    assert [place for place in expected if found[place] != expected[place]] == []
    assert records(folder) == records(reference)
    for name in names:
        assert (folder / name).read_bytes() == (reference / name).read_bytes(), name
    assert not list((folder / checkpoint.FOLDER).glob(".incomplete-*"))


def die_at(monkeypatch, owner, name, call):
    """Lets the n-th call of a function end the process's work."""
    function, calls = getattr(owner, name), []

    def counted(*args, **kwargs):
        calls.append(1)
        if len(calls) == call:
            raise Died
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, counted)


def die_in_turn(folder, run, deaths):
    """Runs again and again, each time to the next of these deaths.

    Args:
      folder: the run's folder.
      run: runs to the end, after what is in the folder, with changes of its settings.
      deaths: owner and name of a function, its call that is fatal, counted from the death before, changes of the settings
        until then, and the step of the newest checkpoint that is then left, 0 for none.
    """
    for owner, name, call, changes, left in deaths:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
            die_at(patch, owner, name, call)
            run(folder, **changes)
        found = checkpoint.newest(folder / checkpoint.FOLDER, [])
        step = found.step if found else 0
        assert step == left, f"{name} died at its call {call} after step {step}"


class FileOperations:
    """Counts what a process changes in a folder, and ends its work before the n-th change; Python cannot forget it.

    Args:
      die: what ends the work, or does something else then.
      every_thread: count the changes of every thread, such as those that Orbax writes from; else the main thread's alone.
    """

    def __init__(self, die, *, every_thread=False):
        self._die = die
        self._every_thread = every_thread
        self._folder, self.fatal, self.count = "", 0, 0
        sys.addaudithook(self._note)

    def watch(self, folder, fatal=0):
        """Counts from here on, up to the fatal change; none is fatal where it is 0. An empty folder's name ends it."""
        self._folder, self.fatal, self.count = str(folder), fatal, 0

    def _note(self, event, arguments):
        if self._folder and event in _CHANGES and str(arguments[0]).startswith(self._folder):
            if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
                return
            if not self._every_thread and threading.current_thread() is not threading.main_thread():
                return
            self.count += 1
            if self.count == self.fatal:
                self._die()


_CHANGES = {"open", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "shutil.rmtree"}


def assert_death_at_a_step_changes_nothing(run, folder, reference, call):
    """A run that dies while its n-th step is noted resumes after the one before, and ends with an undisturbed run's bits."""
    from jdarts.report import Progress

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Died):
        die_at(patch, Progress, "step", call)
        run(folder, checkpoint_minutes=1e-9)
    _, shown = run(folder)
    assert f"resuming {folder} after step {call - 1}" in shown
    assert_same_bits(folder, reference, ["curves.png"])


def signal_after_step(monkeypatch, step, number):
    """Sends a signal to this process while the loop notes a step as done."""
    from jdarts.report import Progress

    note = Progress.step

    def noting(progress, done, values=None):
        if done == step:
            os.kill(os.getpid(), number)
        note(progress, done, values)

    monkeypatch.setattr(Progress, "step", noting)
