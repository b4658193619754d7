"""Kills tiny runs again and again, restarts each until it ends, and compares its result with that of an undisturbed one.

Every run has a process of its own, forked from this one, which has imported everything and has used no device yet. SIGKILL
comes before a chosen change below the run's folder, whichever thread makes it, or at a random moment.

    python tests/torture.py --kills 1000 --seed 0
"""

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import os
import pickle
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import small_language
import small_pipeline
import small_runs
import small_search
import small_train

from jdarts import checkpoint, data
from jdarts.report.metrics import METRICS_FILE
from jdarts.search import search_seeds

EVERY_STEP = {"checkpoint_minutes": 1e-9}
#: Kills of one run before it is left alone to end.
KILLS_OF_ONE_RUN = 8
#: A process that takes longer hangs.
PATIENCE = 300.0

Start = Callable[[Path, Any], object]


def _seeds(folder: Path, digits: Any) -> object:
    config = small_search.config(folder, seeds="0,2", epochs=2, batch_size=300, **EVERY_STEP)
    return search_seeds(config, dataset=digits, stream=io.StringIO())


#: What each kind of run starts, and its share of the kills.
KINDS: dict[str, tuple[Start, float]] = {
    "search": (lambda folder, digits: small_search.run(folder, dataset=digits, **EVERY_STEP), 0.3),
    "seeds": (_seeds, 0.2),
    "train": (lambda folder, digits: small_train.run(folder, dataset=digits, **EVERY_STEP), 0.2),
    "text search": (lambda folder, _: small_language.run_search(folder, **EVERY_STEP), 0.1),
    "text train": (lambda folder, _: small_language.run_train(folder, **EVERY_STEP), 0.1),
    "pipeline": (lambda folder, digits: small_pipeline.run(folder, dataset=digits), 0.1),
}


class Child(NamedTuple):
    """A process that runs a run.

    Attributes:
      process: its number.
      deadline: when to kill it, by `time.monotonic`.
      patience: when it has taken too long.
      told: file of what it has found.
      errors: file of what it has said of errors.
    """

    process: int
    deadline: float
    patience: float
    told: Path
    errors: Path


class Found(NamedTuple):
    """What an ended run leaves.

    Attributes:
      seconds: time of its last process.
      changes: changes that this process made below the folder.
      result: everything that must be the same in every run of the kind.
    """

    seconds: float
    changes: int
    result: dict[str, str]


class Kind:
    """A kind of run under torture.

    Args:
      name: its name in `KINDS`.
      kills: how often runs of it are killed.
      workshop: a folder for its runs.
      digits: the images.
      operations: counts the changes that a process makes.
      seed: seed of the moments.

    Attributes:
      code: exit code of the last process that `work` has started, for whoever waits for it to fill in.
    """

    def __init__(
        self,
        name: str,
        kills: int,
        workshop: Path,
        digits: Any,
        operations: small_runs.FileOperations,
        seed: int,
    ) -> None:
        self.name = name
        self.wanted = kills
        self.kills, self.runs, self.seconds = 0, 0, 0.0
        self.differences: list[str] = []
        self._start = KINDS[name][0]
        self._workshop = workshop
        self._digits = digits
        self._random = random.Random(f"{seed} {name}")
        self._operations = operations
        self.code = 0

    def work(self) -> Iterator[Child]:
        """Starts one process after the other; the next one when the one before has ended."""
        folder = self._workshop / "undisturbed"
        for _ in range(2):  # The first one compiles.
            shutil.rmtree(folder, ignore_errors=True)
            child = self._begin(folder)
            yield child
            reference = self._found(child, folder)
        if reference is None:
            return
        began = time.monotonic()
        # All changes of an undisturbed run have their turn, in an order of chance.
        changes = list(range(1, reference.changes + 1))
        self._random.shuffle(changes)
        moments = itertools.cycle(changes)
        while self.kills < self.wanted:
            folder = self._workshop / f"run{self.runs}"
            for kill in range(KILLS_OF_ONE_RUN + 1):
                fatal, after = 0, PATIENCE
                if kill < KILLS_OF_ONE_RUN and self.kills < self.wanted:
                    if self._random.random() < 0.5:
                        fatal = next(moments)
                    else:
                        after = self._random.uniform(0, reference.seconds)
                child = self._begin(folder, fatal=fatal, after=after)
                yield child
                if self.code != -signal.SIGKILL:
                    break
                self.kills += 1
            self._compare(child, folder, reference)
            self.runs += 1
        self.seconds = time.monotonic() - began

    def _begin(self, folder: Path, *, fatal: int = 0, after: float = PATIENCE) -> Child:
        told, errors = folder.with_suffix(".told"), folder.with_suffix(".errors")
        told.unlink(missing_ok=True)
        process = os.fork()
        if not process:
            _in_child(lambda: self._run(folder, fatal, told), errors)
        now = time.monotonic()
        return Child(process, now + after, now + PATIENCE, told, errors)

    def _run(self, folder: Path, fatal: int, told: Path) -> None:
        began = time.monotonic()
        self._operations.watch(folder, fatal)
        self._start(folder, self._digits)
        seconds, changes = time.monotonic() - began, self._operations.count
        self._operations.watch("")
        told.write_bytes(pickle.dumps(Found(seconds, changes, result_of(folder))))

    def _found(self, child: Child, folder: Path) -> Found | None:
        if self.code == 0:
            return pickle.loads(child.told.read_bytes())
        self.differences.append(f"{folder} ends with {self.code}: {child.errors.read_text(errors='replace')[-2000:]}")
        return None

    def _compare(self, child: Child, folder: Path, reference: Found) -> None:
        found = self._found(child, folder)
        if found is None:
            return
        different = [
            name
            for name in sorted({*found.result, *reference.result})
            if found.result.get(name) != reference.result.get(name)
        ]
        if different:
            self.differences.append(f"{folder} differs in {', '.join(different)}")
        else:
            shutil.rmtree(folder)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _in_child(work: Callable[[], None], errors: Path) -> None:
    """Does the work of a forked process, and ends it."""
    descriptor = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    code = 1
    try:
        work()
        code = 0
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)


def result_of(folder: Path) -> dict[str, str]:
    """Digests of everything below a folder that does not depend on time, by name; other files have only their names."""
    result = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder)
        if path.name == checkpoint.FOLDER:
            result |= {f"{name}{place}": _digest(leaf) for place, leaf in small_runs.leaves(path.parent).items()}
        elif path.name == METRICS_FILE:
            result[str(name)] = _digest(repr(small_runs.records(path.parent)).encode())
        elif path.name == "summary.json":
            result[str(name)] = _digest(json.dumps(_timeless(json.loads(path.read_bytes()))).encode())
        elif path.is_file() and not _OF_OTHERS.intersection(name.parts):
            result[str(name)] = "" if name.name == "table.txt" else _digest(path.read_bytes())
    return result


#: Orbax and TensorBoard choose the names of their files by the time.
_OF_OTHERS = {checkpoint.FOLDER, "best", "tensorboard"}


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _timeless(each) for name, each in value.items() if not name.endswith("seconds")}
    return [_timeless(each) for each in value] if isinstance(value, list) else value


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def quicken() -> None:
    """Puts quick networks into every kind of run, and a line in place of each drawing."""
    small_pipeline.quicken()


def torture(kinds: list[Kind], jobs: int) -> None:
    """Lets so many kinds work at once until all have had their kills."""
    waiting = [(kind, kind.work()) for kind in kinds]
    active: list[tuple[Kind, Iterator[Child], Child]] = []
    try:
        while waiting or active:
            while waiting and len(active) < jobs:
                kind, work = waiting.pop(0)
                if child := next(work, None):
                    active.append((kind, work, child))
            for entry in list(active):
                kind, work, child = entry
                now = time.monotonic()
                process, status = os.waitpid(child.process, os.WNOHANG)
                if not process:
                    if now > min(child.deadline, child.patience):
                        os.kill(child.process, signal.SIGKILL)
                    if now > child.patience:
                        kind.differences.append(f"process {child.process} takes more than {PATIENCE:.0f} s")
                    continue
                kind.code = os.waitstatus_to_exitcode(status)
                active.remove(entry)
                if child := next(work, None):
                    active.append((kind, work, child))
                else:
                    print(_line(kind), flush=True)
            time.sleep(0.002)
    finally:
        for _, _, child in active:
            os.kill(child.process, signal.SIGKILL)


def _line(kind: Kind) -> str:
    return f"{kind.name:<12}{kind.runs:>6}{kind.kills:>8}{kind.seconds:>9.0f} s{len(kind.differences):>13}"


def main() -> int:
    """Parses the command line, tortures, and prints a table; 1 where something differs."""
    parser = argparse.ArgumentParser(
        description="Kills tiny runs, restarts them, and compares their results bit by bit."
    )
    parser.add_argument("--kills", type=int, default=1000, help="kills in all (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once (default: 2)")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of runs (default: all)")
    options = parser.parse_args()
    quicken()
    digits = data.load("digits")
    share = sum(KINDS[name][1] for name in options.kinds)
    began = time.monotonic()
    workshop = Path(tempfile.mkdtemp(prefix="jdarts-torture-"))
    jax.config.update("jax_compilation_cache_dir", str(workshop / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    operations = small_runs.FileOperations(_die, every_thread=True)
    kinds = []
    for name in options.kinds:
        (workshop / name).mkdir()
        kills = max(1, round(options.kills * KINDS[name][1] / share))
        kinds.append(Kind(name, kills, workshop / name, digits, operations, options.seed))
    print(f"{'kind':<12}{'runs':>6}{'kills':>8}{'time':>11}{'differences':>13}", flush=True)
    torture(kinds, options.jobs)
    differences = [text for kind in kinds for text in kind.differences]
    print(
        f"{sum(kind.kills for kind in kinds)} kills of {sum(kind.runs for kind in kinds)} runs in "
        f"{time.monotonic() - began:.0f} s, {len(differences)} differences"
    )
    print(*differences, sep="\n", end="\n" if differences else "")
    if not differences:
        shutil.rmtree(workshop)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
