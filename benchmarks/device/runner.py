"""Runs the processes of the parts wave by wave, each with its time limits, and writes every result at once."""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from jdarts.errors import InputError
from jdarts.files.json_data import Fields, parse_json

from .parts import GRAPHS, USUAL, Part
from .subject import FACTS, READY, REFUSED

_BENCHMARKS = Path(__file__).resolve().parents[1]
#: Seconds below which nothing more is begun.
_LEAST = 8.0
#: Of every line of a file of results.
_BEGINNING = b'{"part": "'


class Subject:
    """The process of a part, and the lines that it prints."""

    def __init__(self, part: Part, flags: dict[str, Any], cache: Path) -> None:
        self.part = part
        self.start = time.monotonic()
        self._errors = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "device.subject", part.to_json(), json.dumps(flags)],
            env=_environment(part, cache),
            # torch.compile starts processes of its own, which have to end with this one.
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        threading.Thread(target=self._read, daemon=True).start()

    def answer(self, mark: str, end: float) -> dict[str, Any]:
        """The facts of the line with a mark, or why there is none, as `error`.

        Args:
          mark: `READY` or `FACTS`.
          end: until when to wait, on the monotonic clock.
        """
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                what = "ready" if mark == READY else "measured"
                return {"error": f"not {what} in {time.monotonic() - self.start:.0f} s"}
            if line is None:
                return {"error": self._complaint()}
            if line.startswith(REFUSED):
                return {"error": line.removeprefix(REFUSED).strip()}
            if line.startswith(mark):
                return json.loads(line.removeprefix(mark))

    def begin_measuring(self) -> None:
        """Lets the process measure."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("measure\n")
            self._process.stdin.flush()

    def close(self) -> None:
        """Ends the process and those that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError, ValueError):
                    stream.close()
        self._errors.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with contextlib.suppress(ValueError):
            for line in self._process.stdout:
                self._lines.put(line)
        self._lines.put(None)

    def _complaint(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        # JAX adds notes of its own after an error.
        complaints = [line for line in lines if "error" in line.lower()] or lines
        return "".join(complaints[-1:])[:300] or f"ended with exit code {code}"


class Runner:
    """Measures parts.

    Args:
      out: the file of JSON lines that results are appended to.
      seconds: for everything.
      jobs: number of parts that are prepared side by side.
      programs: folder of JAX's compilation cache.
      flags: of `device.subject.prepare`.
      tell: is given a line on each event.
    """

    def __init__(
        self,
        out: Path,
        *,
        seconds: float,
        jobs: int,
        programs: Path,
        flags: dict[str, Any],
        tell: Callable[[str], None],
    ) -> None:
        self._out = out
        self._end = time.monotonic() + seconds
        self._jobs = jobs
        self._flags = flags
        self._tell = tell
        self._cache = programs.resolve()
        self._cache.mkdir(parents=True, exist_ok=True)

    def run(self, parts: Sequence[Part]) -> None:
        """Runs the parts wave by wave, as many of a wave at a time as there are jobs."""
        for wave in sorted({part.wave for part in parts}):
            of_wave = [part for part in parts if part.wave == wave]
            for first in range(0, len(of_wave), self._jobs):
                self._side_by_side(of_wave[first : first + self._jobs])

    def _side_by_side(self, parts: Sequence[Part]) -> None:
        if self._left() < _LEAST:
            for part in parts:
                self._write(part, {"error": "no time left"})
            return
        with contextlib.ExitStack() as stack:
            subjects = []
            for part in parts:
                subjects.append(Subject(part, self._flags, self._cache))
                stack.callback(subjects[-1].close)
            prepared = list(self._prepared(subjects))
            for subject, facts in prepared:
                end = min(self._end, time.monotonic() + subject.part.measure_s)
                subject.begin_measuring()
                found = subject.answer(FACTS, end)
                # Its memory on the device is free for the next one.
                subject.close()
                self._write(subject.part, {**facts, **found})

    def _prepared(self, subjects: Iterable[Subject]) -> Iterable[tuple[Subject, dict[str, Any]]]:
        for subject in subjects:
            # What others have prepared already must still be measured.
            reserve = min(30.0, 0.2 * max(0.0, self._end - subject.start))
            facts = subject.answer(READY, min(self._end - reserve, subject.start + subject.part.prepare_s))
            if "error" in facts:
                subject.close()
                self._write(subject.part, facts)
                continue
            # The machine may be lost before the time is known.
            self._write(subject.part, {**facts, "error": "prepared and not measured"})
            yield subject, facts

    def _left(self) -> float:
        return self._end - time.monotonic()

    def _write(self, part: Part, facts: dict[str, Any]) -> None:
        record = {"part": part.name, **json.loads(part.to_json()), **facts}
        with self._out.open("ab+") as file:
            # A process that was killed may have left half a line.
            file.seek(max(0, file.tell() - 1))
            file.write(b"\n" * (file.read() not in (b"", b"\n")) + f"{json.dumps(record)}\n".encode())
        said = facts.get("error") or ", ".join(f"{name} {facts[name]:.4g}" for name in ("median_s",) if name in facts)
        self._tell(f"{part.name}: {said or 'done'} ({self._left():.0f} s left)")


def read_records(out: Path) -> dict[str, dict[str, Any]]:
    """The last result of each part in a file of JSON lines; one that failed does not replace one that did not.

    Half a line, which a process that was killed may have left, is no result.

    Raises:
      InputError: a line is something else.
    """
    found: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(out.read_bytes().splitlines() if out.exists() else (), start=1):
        try:
            content = parse_json(line)
        except ValueError:
            if line[: len(_BEGINNING)] == _BEGINNING[: len(line)]:
                continue
            content = None
        try:
            fields = Fields(content)
            part = fields.text("part")
            fields.text("kind")
        except ValueError:
            raise InputError(f"line {number} of {out} is no result of a part; give another file with --out") from None
        record = {name: fields.get(name) for name in fields.names}
        before = found.get(part)
        if "error" not in record or before is None or "error" in before:
            found[part] = record
    return found


def _environment(part: Part, cache: Path) -> dict[str, str]:
    environment = {
        **os.environ,
        "JAX_COMPILATION_CACHE_DIR": str(cache),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_BENCHMARKS), os.environ.get("PYTHONPATH")))),
    }
    platforms = environment.get("JAX_PLATFORMS")
    if platforms and "cpu" not in platforms:
        environment["JAX_PLATFORMS"] = f"{platforms},cpu"
    if part.native is not None:
        environment["JDARTS_NATIVE"] = {"on": "1", "off": "0"}[part.native]
    if part.depthwise is not None:
        environment["JDARTS_DEPTHWISE"] = "" if part.depthwise == USUAL else part.depthwise
    if part.separable is not None:
        environment["JDARTS_SEPARABLE"] = part.separable
    if part.graphs is not None:
        environment["XLA_FLAGS"] = f"{environment.get('XLA_FLAGS', '')} {GRAPHS[part.graphs]}".strip()
    return environment
