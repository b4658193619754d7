"""Genotypes, spaces, results and runs as notebooks show them."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from jdarts.errors import InputError
from jdarts.genotype import AnyGenotype, Genotype, RecurrentGenotype
from jdarts.report.drawing import cells_svg
from jdarts.space import CELL_NAMES, RecurrentSpace, SearchSpace


class Shown(NamedTuple):
    """What a notebook shows as HTML.

    Attributes:
      html: the content.
    """

    html: str

    def _repr_html_(self) -> str:
        return self.html


def show(value: Any) -> Shown:
    """A rich form of a genotype, a space, a result or a run, for the last line of a notebook's cell.

    Args:
      value: a genotype, a search space, a result of a run, the folder of a run or of several, or anything else that has a rich
        form.

    Raises:
      InputError: it has none, or there is no run in the folder.
    """
    if isinstance(value, str | Path):
        return Shown(page_frame(Path(value)))
    if isinstance(value, Genotype | RecurrentGenotype):
        return Shown(cells_svg(value))
    if isinstance(value, SearchSpace | RecurrentSpace):
        return Shown(space_html(value))
    if hasattr(value, "lines") and hasattr(value, "genotype"):
        return Shown(text_html("\n".join(value.lines()), value.genotype))
    if hasattr(value, "_repr_html_"):
        return Shown(value._repr_html_())
    raise InputError(
        f"jdarts.show: cannot show a {type(value).__name__}; give a genotype, a space, a result or a run's folder"
    )


def page_frame(folder: Path) -> str:
    """The page of a run, or of the runs in a folder, in a frame.

    Raises:
      InputError: there is no run in the folder.
    """
    from jdarts.report.html.pages import page_of

    style = "width: 100%; height: 800px; border: 1px solid #8884"
    return f'<iframe srcdoc="{escape(page_of(folder))}" style="{style}" title="{escape(folder.name)}"></iframe>'


def space_html(space: SearchSpace | RecurrentSpace) -> str:
    """Tables of a space: one for each kind of cell, one row for each edge, with its candidates."""
    if isinstance(space, RecurrentSpace):
        return _edges("recurrent cell", space.edges, space.recurrent)
    return "".join(_edges(CELL_NAMES[kind], space.edges, space.operations(kind)) for kind in space.kinds)


def text_html(text: str, genotype: AnyGenotype | None) -> str:
    """A text, and the drawing of a genotype below it where there is one."""
    return f"<pre>{escape(text)}</pre>{'' if genotype is None else cells_svg(genotype)}"


def _edges(title: str, edges: Sequence[tuple[int, int]], operations: Sequence[Sequence[str]]) -> str:
    rows = [
        f"<tr><td>{source} → {target}</td><td>{escape(', '.join(names))}</td></tr>"
        for (source, target), names in zip(edges, operations)
    ]
    return f"<table><caption>{escape(title)}</caption><tr><th>edge</th><th>candidates</th></tr>{''.join(rows)}</table>"
