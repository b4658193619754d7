"""What a display that redraws itself shows of a run, and the display of a terminal."""

import dataclasses
import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Protocol, TextIO

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

#: A shorter progress bar is left out.
BAR_COLUMNS = 20
#: Name of the last line.
SPEED = "speed"


class LiveDisplay(Protocol):
    """A display that redraws itself."""

    @property
    def width(self) -> int | None:
        """Characters of a line; None without a limit."""
        ...

    def start(self) -> None:
        """Shows it for the first time."""
        ...

    def stop(self) -> None:
        """Removes it."""
        ...

    def refresh(self) -> None:
        """Draws it again."""
        ...

    def print(self, text: str) -> None:
        """Writes a permanent line beside it."""
        ...

    def silence(self) -> None:
        """Lets it draw nothing from now on."""
        ...


@dataclasses.dataclass(frozen=True)
class Content:
    """The content of a display; rich lays it out for a terminal's width.

    Attributes:
      place: where the run is.
      done: steps that are done, and all steps.
      left: the remaining time as text.
      rows: a name and texts for each line.
      activity: long work without steps, as a spinner; None for none.
      doing: the same as text; empty for none.
    """

    place: str
    done: tuple[int, int]
    left: str
    rows: Sequence[tuple[str, Sequence[str]]]
    activity: Spinner | None = None
    doing: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text("")
        completed, total = self.done
        top_line = Table.grid(padding=(0, 2), expand=True)
        top_line.add_column(no_wrap=True)
        cells: list[RenderableType] = [Text(self.place, style="bold")]
        if options.max_width - len(self.place) - len(self.left) >= BAR_COLUMNS:
            top_line.add_column(ratio=1)
            cells.append(ProgressBar(total=total, completed=completed))
        top_line.add_column(no_wrap=True, justify="right")
        top_line.add_row(*cells, Text(self.left))
        yield top_line
        names = max((len(name) for name, _ in self.rows), default=0)
        # The numbers of the groups are aligned in columns; the line of the speed is too wide for them.
        aligned = [texts for name, texts in self.rows if name != SPEED]
        widths = [max(map(len, column)) for column in itertools.zip_longest(*aligned, fillvalue="")]
        for name, texts in self.rows:
            padded = texts if name == SPEED else [text.ljust(width) for text, width in zip(texts, widths)]
            line = Text.assemble((f"  {name:{names}}", "dim"), f"   {'   '.join(padded).rstrip()}")
            line.no_wrap, line.overflow = True, "ellipsis"
            yield line
        if self.activity:
            yield self.activity


def terminal_display(stream: TextIO, content: Callable[[], Content]) -> LiveDisplay | None:
    """The display of a terminal; None where the stream is none.

    Args:
      stream: the output.
      content: gives the content of the next drawing.
    """
    if not stream.isatty():
        return None
    console = _Console(file=stream, force_terminal=True, highlight=False)
    return None if console.is_dumb_terminal else _TerminalDisplay(console, stream, content)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        # rich would end the process here; the caller handles the error.
        raise


class _TerminalDisplay:
    """A few lines at the bottom of a terminal; permanent lines scroll above them."""

    def __init__(self, console: Console, stream: TextIO, content: Callable[[], Content]) -> None:
        self._console = console
        self._live = Live(
            console=console,
            get_renderable=content,
            auto_refresh=False,
            transient=True,
            # Other output appears above the display, unless it is redirected anyway.
            redirect_stdout=stream is sys.stdout,
            redirect_stderr=sys.stderr.isatty(),
        )

    @property
    def width(self) -> int:
        return self._console.width

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._live.stop()

    def refresh(self) -> None:
        self._live.refresh()

    def print(self, text: str) -> None:
        self._console.print(Text(text))

    def silence(self) -> None:
        self._console.quiet = True
