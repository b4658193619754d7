"""HTML from texts that may hold anything: what comes from a run's folder is escaped here."""

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from jdarts.runs.folder import PAGE

_BACKTICKS = re.compile("`([^`]*)`")
#: A longer command may break into lines.
_SHORT = 30


class Cell(NamedTuple):
    """One cell of a table.

    Attributes:
      text: what it shows.
      value: what it is sorted by, a number; None to sort by the text.
    """

    text: str
    value: float | None = None


def paragraph(text: str, kind: str = "") -> str:
    """A paragraph of plain text."""
    return f"<p{_class(kind)}>{escape(text)}</p>"


def problems(texts: Iterable[str]) -> str:
    """What could not be read, a paragraph for each plain text."""
    return "".join(paragraph(text, "problem") for text in texts)


def listed(texts: Iterable[str]) -> str:
    """A list of plain texts, in which commands stand between backticks; nothing for none."""
    items = "".join(f"<li>{_BACKTICKS.sub(_code, escape(text))}</li>" for text in texts)
    return f"<ul>{items}</ul>" if items else ""


def table(rows: Iterable[Sequence[str]], header: Sequence[str] = ()) -> str:
    """A table of plain texts."""
    head = "".join(f"<th>{escape(text)}</th>" for text in header)
    body = "".join(f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in rows)
    return f'<div class="wide"><table>{f"<thead><tr>{head}</tr></thead>" if head else ""}<tbody>{body}</tbody></table></div>'


def named_values(rows: Iterable[tuple[str, str]]) -> str:
    """A table of names and values."""
    body = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return f'<div class="wide"><table><tbody>{body}</tbody></table></div>'


def sorted_table(header: Sequence[str], rows: Sequence[Sequence[Cell]], links: Sequence[str | None] = ()) -> str:
    """A table that sorts by the column whose header is clicked.

    Args:
      header: names of the columns.
      rows: the cells.
      links: address to which the first cell of each row leads, or None; empty for none.
    """
    head = "".join(f'<th data-sort tabindex="0" role="button">{escape(text)}</th>' for text in header)
    listed_links = links or [None] * len(rows)
    body = "".join(
        f"<tr>{_cell(row[0], link)}{''.join(map(_cell, row[1:]))}</tr>" for row, link in zip(rows, listed_links)
    )
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def page_link(run: Path, place: Path) -> str | None:
    """The address of a run's own page on a page in another folder; None if the run has none.

    Args:
      run: the run's folder.
      place: the folder of the page that has the link.
    """
    page = run / PAGE
    return quote(os.path.relpath(page, place)) if page.exists() else None


def tiles(values: Iterable[tuple[str, str]]) -> str:
    """The most important values, each in a box: name and value."""
    items = "".join(
        f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for name, value in values
    )
    return f'<div class="tiles">{items}</div>' if items else ""


def folded(summary: str, content: str) -> str:
    """HTML that a click on a text shows."""
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def code(text: str, identifier: str) -> str:
    """A text to copy."""
    return f'<pre id="{identifier}">{escape(text)}</pre><button data-copy="{identifier}">Copy</button>'


def json_for_page(content: Mapping[str, Any]) -> str:
    """JSON that may stand in an element of a page."""
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _code(match: re.Match[str]) -> str:
    kind = ' class="short"' if len(match[1]) <= _SHORT else ""
    return f"<code{kind}>{match[1]}</code>"


def _cell(cell: Cell, link: str | None = None) -> str:
    sorted_by = "" if cell.value is None else f' data-value="{cell.value!r}"'
    text = escape(cell.text) if link is None else f'<a href="{escape(link)}">{escape(cell.text)}</a>'
    return f"<td{sorted_by}>{text}</td>"


def _class(kind: str) -> str:
    return f' class="{kind}"' if kind else ""
