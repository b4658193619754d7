"""The display of a run: live on a terminal and in a notebook, plain lines anywhere else."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Self, TextIO

from rich.spinner import Spinner
from rich.text import Text

from jdarts.report.formatting import by_group, duration, rate, step_time
from jdarts.report.live_display import SPEED, Content, LiveDisplay, terminal_display
from jdarts.report.notebook_display import notebook_display
from jdarts.report.pace import Pace

REDRAW_SECONDS = 0.25
PLAIN_SECONDS = 10.0


class Progress:
    """Shows the position, the metrics and the remaining time of a run.

    On a terminal, a few lines at the bottom are redrawn up to four times a second, and permanent lines scroll above
    them. In a notebook, a bar above the permanent lines is redrawn as often. Elsewhere (a file, a pipe) there are only
    permanent lines without control characters: the estimated time, the state at most every ten seconds, and the end of
    each epoch.

    If the output fails (a full disk, a closed pipe), the error is raised once; after that nothing is written. A
    process without standard output writes nothing.

    Args:
      epochs: epochs of the whole run.
      steps_per_epoch: steps of an epoch.
      batch_size: units, such as images, of a step, for the speed in units per second.
      unit: name of the units.
      first_step: steps of earlier processes, 0 for a new run.
      title: first word of the live display.
      stream: the output; standard output by default.
      clock: a monotonic clock in seconds.
    """

    def __init__(
        self,
        *,
        epochs: int,
        steps_per_epoch: int,
        batch_size: int,
        unit: str = "images",
        first_step: int = 0,
        title: str = "search",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._epochs = epochs
        self._steps_per_epoch = steps_per_epoch
        self._batch_size = batch_size
        self._unit = unit
        self._title = title
        self._clock = clock
        self._stream = sys.stdout if stream is None else stream
        self._pace = Pace(epochs * steps_per_epoch, steps_per_epoch, first_step)
        self._step = first_step
        self._values: dict[str, float] = {}
        self._estimated = False
        self._epoch_start = self._last_shown = clock()
        self._activity: Spinner | None = None
        self._doing = ""
        self._silent = self._stream is None
        self._live = _live_display(self._stream, self._display)

    def __enter__(self) -> Self:
        self._epoch_start = self._last_shown = self._clock()
        if self._live:
            self._write(self._live.start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            # After a failure the console is quiet, and this only restores standard output.
            self._live.stop()

    def message(self, text: str) -> None:
        """Writes a permanent line, such as the path of a saved checkpoint."""
        live = self._live
        self._last_shown = self._clock()
        self._write(lambda: live.print(text) if live else self._plain(text))

    @contextlib.contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Shows long work without measurable progress, such as the compilation of the step.

        The display counts its seconds, and a permanent line at the end gives their number. They count neither as
        steps nor for the remaining time.
        """
        start = self._clock()
        if not self._live:
            self.message(f"{text} ...")
        with self._spinning(text), self._excluded(every_epoch=False):
            yield
        self.message(f"{text}: {duration(self._clock() - start)}")

    @contextlib.contextmanager
    def pause(self, text: str | None = None) -> Iterator[None]:
        """Marks time outside of steps, such as evaluation and saving.

        It does not count for the time of a step; the remaining time includes its average over the completed epochs.

        Args:
          text: text on the terminal meanwhile; None leaves the display unchanged.
        """
        with self._spinning(text), self._excluded(every_epoch=True):
            yield

    def step(self, step: int, values: Mapping[str, float] | None = None) -> None:
        """Records the end of a step. Cheap: most calls draw nothing.

        Args:
          step: its number, counted from 1 over the whole run.
          values: numbers that were just read from the device, by names such as `train/loss`, `valid/accuracy`
            (a fraction of 1), `learning_rate`, `alphas/entropy`. The display keeps them until newer ones arrive.
        """
        now = self._clock()
        self._step = step
        self._pace.step(step, now, synchronised=values is not None)
        if values:
            self._values.update(values)
        if not self._estimated and self._pace.step_seconds is not None:
            self._estimated = True
            if self._pace.epochs_left:
                self.message(self._estimate(self._pace.step_seconds))
        elif now - self._last_shown >= (REDRAW_SECONDS if self._live else PLAIN_SECONDS):
            self._last_shown = now
            self._show()

    def epoch_end(self, epoch: int, values: Mapping[str, float]) -> None:
        """Writes the permanent line of a completed epoch.

        Args:
          epoch: its number, counted from 1.
          values: numbers of the epoch, named as for `step`.
        """
        now = self._clock()
        took = duration(now - self._epoch_start)
        self._epoch_start = now
        self._values.update(values)
        self._pace.epoch_end()
        groups = by_group(values)
        parts = [self._epoch_text(epoch), *_short(groups, ("train", "valid")), f"{took:>11}"]
        parts += _short(groups, [name for name in groups if name not in ("train", "valid")])
        self.message(self._joined_to_width(parts))

    def _epoch_text(self, epoch: int) -> str:
        return f"epoch {epoch:{len(str(self._epochs))}}/{self._epochs}"

    def _place(self) -> str:
        epoch, step = divmod(max(0, self._step - 1), self._steps_per_epoch)
        width = len(str(self._steps_per_epoch))
        step_text = f"step {step + (self._step > 0):{width}}/{self._steps_per_epoch}"
        return f"{self._epoch_text(epoch + 1)}  {step_text}"

    def _estimate(self, seconds: float) -> str:
        epochs = self._pace.epochs_left
        remaining, each = ("epoch", "") if epochs == 1 else (f"{epochs} epochs", " each")
        return (
            f"about {duration(self._pace.seconds_left or 0)} for the remaining {remaining}: "
            f"{self._steps_per_epoch} steps{each}, {step_time(seconds)} a step "
            f"({rate(self._batch_size / max(seconds, 1e-9))} {self._unit}/s)"
        )

    def _speed(self) -> list[str]:
        seconds = self._pace.step_seconds
        if seconds is None:
            return []
        return [f"{rate(self._batch_size / max(seconds, 1e-9))} {self._unit}/s", f"{step_time(seconds)} a step"]

    def _time_left(self) -> str:
        left = self._pace.seconds_left
        return "" if left is None else f"{duration(left)} left"

    def _show(self) -> None:
        if self._live:
            self._write(self._live.refresh)
        else:
            groups = by_group(self._values)
            ends = [text for text in (*self._speed()[:1], self._time_left()) if text]
            self._write(lambda: self._plain("  ".join([self._place(), *_short(groups, groups), *ends])))

    def _joined_to_width(self, parts: list[str]) -> str:
        """Joins parts; on a terminal, leaves out those that do not fit into the line."""
        line = parts[0]
        for part in parts[1:]:
            longer = f"{line}   {part}"
            if self._live and self._live.width is not None and len(longer) > self._live.width:
                break
            line = longer
        return line

    def _plain(self, text: str) -> None:
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), file=self._stream, flush=True)

    def _display(self) -> Content:
        done = (self._step, self._epochs * self._steps_per_epoch)
        place = f"{self._title}  {self._place()}"
        return Content(place, done, self._time_left(), self._rows(), self._activity, self._doing)

    def _rows(self) -> list[tuple[str, list[str]]]:
        groups = by_group(self._values)
        ungrouped = groups.pop("", {})
        rows = [(group, [f"{name} {text}" for name, text in texts.items()]) for group, texts in groups.items()]
        last = [*self._speed(), *(f"{name} {text}" for name, text in ungrouped.items())]
        return [*rows, (SPEED, last)] if last else rows

    @contextlib.contextmanager
    def _excluded(self, *, every_epoch: bool) -> Iterator[None]:
        start = self._clock()
        try:
            yield
        finally:
            self._pace.exclude(self._clock() - start, every_epoch)

    @contextlib.contextmanager
    def _spinning(self, text: str | None) -> Iterator[None]:
        """Redraws from a separate thread, since the run's thread is busy; its errors are raised at the end."""
        if text is None or self._live is None or self._silent:
            yield
            return
        start, done, errors = self._clock(), threading.Event(), []
        self._activity = spinner = Spinner("line")

        def turn() -> None:
            while not done.is_set():
                seconds = int(self._clock() - start)
                self._doing = f"{text}  {duration(seconds)}" if seconds else text
                spinner.update(text=Text(self._doing))
                try:
                    self._show()
                except Exception as error:
                    errors.append(error)
                    return
                done.wait(REDRAW_SECONDS)

        thread = threading.Thread(target=turn, name="jdarts progress", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._activity, self._doing = None, ""
        if errors:
            raise errors[0]

    def _write(self, write: Callable[[], None]) -> None:
        if self._silent:
            return
        try:
            write()
        except (OSError, ValueError):
            self._silent = True
            if self._live:
                self._live.silence()
            raise


def _live_display(stream: TextIO | None, content: Callable[[], Content]) -> LiveDisplay | None:
    if stream is None:
        return None
    return terminal_display(stream, content) or notebook_display(stream, content)


def _short(groups: Mapping[str, Mapping[str, str]], names: Iterable[str]) -> list[str]:
    """One text per group, `train loss 1.234  56.1 %`: percentages have no name."""
    texts = []
    for name in names:
        if name in groups:
            items = [text if text.endswith("%") else f"{key} {text}" for key, text in groups[name].items()]
            texts.append(" ".join([name, *items]).strip())
    return texts
