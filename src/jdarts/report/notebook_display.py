"""The display of a run in a notebook: a bar above the lines of the run, which IPython redraws."""

import sys
from collections.abc import Callable
from html import escape
from typing import Any, TextIO

from jdarts.report.live_display import Content


def notebook_display(stream: TextIO, content: Callable[[], Content]) -> "NotebookDisplay | None":
    """The display of the notebook in which this process computes; None elsewhere, and for another output.

    Args:
      stream: the output.
      content: gives the content of the next drawing.
    """
    if stream is not sys.stdout or "IPython" not in sys.modules:
        return None
    shell = sys.modules["IPython"].get_ipython()
    # A terminal's IPython has no kernel.
    return NotebookDisplay(stream, content) if getattr(shell, "kernel", None) is not None else None


class NotebookDisplay:
    """A bar with the numbers of the run, in one output of the notebook's cell; permanent lines follow it.

    Args:
      stream: where the permanent lines are written.
      content: gives the content of the next drawing.
    """

    width = None

    def __init__(self, stream: TextIO, content: Callable[[], Content]) -> None:
        self._stream = stream
        self._content = content
        self._handle: Any = None
        self._silent = False

    def start(self) -> None:
        """As `LiveDisplay.start`."""
        from IPython.display import DisplayHandle  # pyright: ignore[reportMissingImports]

        self._handle = DisplayHandle()
        self._handle.display(_bundle(self._content()), raw=True)

    def stop(self) -> None:
        """As `LiveDisplay.stop`."""
        if self._handle is not None:
            self._handle.update({"text/html": "", "text/plain": ""}, raw=True)

    def refresh(self) -> None:
        """As `LiveDisplay.refresh`."""
        if self._handle is not None and not self._silent:
            self._handle.update(_bundle(self._content()), raw=True)

    def print(self, text: str) -> None:
        """As `LiveDisplay.print`."""
        if not self._silent:
            print(text, file=self._stream, flush=True)

    def silence(self) -> None:
        """As `LiveDisplay.silence`."""
        self._silent = True


def _bundle(content: Content) -> dict[str, str]:
    """The content as HTML and as text."""
    done, total = content.done
    rows = "".join(
        f'<tr><th style="text-align: left">{escape(name)}</th>'
        f"{''.join(f'<td>{escape(text.strip())}</td>' for text in texts)}</tr>"
        for name, texts in content.rows
    )
    doing = f"<div>{escape(content.doing)}</div>" if content.doing else ""
    table = f"<table>{rows}</table>" if rows else ""
    html = (
        f'<div><b>{escape(content.place)}</b> <progress value="{done}" max="{total}" style="width: 30%; vertical-align: middle">'
        f"</progress> {escape(content.left)}</div>{table}{doing}"
    )
    return {"text/html": html, "text/plain": f"{content.place}  {content.left}".rstrip()}
