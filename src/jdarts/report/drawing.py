"""Drawings in files: cells, curves of a run, mixtures. The suffix chooses SVG, PNG or PDF."""

import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jdarts.errors import InputError
from jdarts.files.atomic import replace_bytes
from jdarts.genotype import AnyGenotype
from jdarts.report.file_errors import os_errors_as_input

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# matplotlib is imported only when something is rendered, since its import takes a while.

#: Switches off the date and the program name in each format, so that equal drawings are equal files.
_METADATA: dict[str, dict[str, Any]] = {
    ".svg": {"Date": None, "Creator": None},
    ".png": {"Software": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}

_DPI = 144


def draw_genotype(genotype: AnyGenotype, path: str | os.PathLike[str], *, title: str | None = None) -> None:
    """Draws the cells of a genotype in one picture. The same genotype gives the same file, byte for byte.

    Text in an SVG is rendered as paths, so that it looks the same where the font is missing.

    Args:
      genotype: the cells to draw.
      path: the file; .svg, .png or .pdf. It is replaced whole or not at all.
      title: a line above the cells.

    Raises:
      InputError: another suffix, or the file cannot be written.
    """
    save_figure(lambda: _all_cells(genotype, title), check_suffix(path))


def draw_cells(genotype: AnyGenotype, folder: str | os.PathLike[str], *, title: str | None = None) -> list[Path]:
    """Draws each cell of a genotype as SVG and as PNG, as `draw_genotype` does.

    Args:
      genotype: the cells to draw.
      folder: the folder of the files, created if it is missing.
      title: a line above each cell.

    Returns:
      The files: normal.svg, normal.png, reduce.svg, reduce.png, or recurrent.svg, recurrent.png.

    Raises:
      InputError: a file cannot be written.
    """
    from jdarts.report.cell_figure import cell_kinds_of, cells_figure

    paths = []
    for kind in cell_kinds_of(genotype):
        for suffix in (".svg", ".png"):
            paths.append(Path(folder) / f"{kind}{suffix}")
            save_figure(lambda: cells_figure(genotype, (kind,), title), paths[-1])  # noqa: B023  called at once
    return paths


def cells_picture(genotype: AnyGenotype) -> bytes:
    """The cells of a genotype as a PNG, half as large as those of files."""
    return _rendered(lambda: _all_cells(genotype), ".png", dpi=_DPI // 2)


def cells_svg(genotype: AnyGenotype) -> str:
    """The cells of a genotype as an SVG element."""
    return _svg_element(_rendered(lambda: _all_cells(genotype), ".svg"))


def _all_cells(genotype: AnyGenotype, title: str | None = None) -> "Figure":
    from jdarts.report.cell_figure import cell_kinds_of, cells_figure

    return cells_figure(genotype, cell_kinds_of(genotype), title)


def draw_curves(records: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draws the numbers of a run over its steps, with a panel for each quantity.

    In a name, the part before the last slash is the curve and the part after it the quantity: `train/loss` and `valid/loss`
    share the panel "loss". Numbers that are not finite leave a gap.

    Args:
      records: the records of `read_metrics`.
      path: the file; .svg, .png or .pdf. It is replaced whole or not at all.

    Raises:
      InputError: no numbers, another suffix, or the file cannot be written.
    """
    path = check_suffix(path)
    from jdarts.report.curves_figure import curves_figure

    save_figure(lambda: curves_figure(records), path)


def curves_svg(records: Sequence[Mapping[str, Any]]) -> str:
    """The curves of `draw_curves` as an SVG element, with text that can be selected.

    Raises:
      InputError: no numbers.
    """
    from jdarts.report.curves_figure import curves_figure

    return _svg_element(_rendered(lambda: curves_figure(records), ".svg", text_as_paths=False))


def draw_budgets(results: Sequence[Mapping[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draws accuracy against size: what a pipeline has found within each of its budgets, and random cells beside it.

    Args:
      results: the list `budgets` of a pipeline's summary.
      path: the file; .svg, .png or .pdf. It is replaced whole or not at all.

    Raises:
      InputError: another suffix, or the file cannot be written.
    """
    path = check_suffix(path)
    from jdarts.report.budgets_figure import budgets_figure

    save_figure(lambda: budgets_figure(results), path)


def budgets_svg(results: Sequence[Mapping[str, Any]]) -> str:
    """The picture of `draw_budgets` as an SVG element, with text that can be selected."""
    from jdarts.report.budgets_figure import budgets_figure

    return _svg_element(_rendered(lambda: budgets_figure(results), ".svg", text_as_paths=False))


def check_suffix(path: str | os.PathLike[str]) -> Path:
    """The path of a drawing.

    Raises:
      InputError: a suffix other than .svg, .png and .pdf.
    """
    path = Path(path)
    if path.suffix.lower() not in _METADATA:
        raise InputError(f"cannot draw to {path}: its suffix is {path.suffix!r}; give .svg, .png or .pdf")
    return path


def _rendered(figure: Callable[[], "Figure"], suffix: str, *, dpi: int = _DPI, text_as_paths: bool = True) -> bytes:
    """The content of a file with this suffix. `dpi` is that of a PNG, `text_as_paths` is for SVG."""
    from matplotlib import style
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    content = io.BytesIO()
    # The user's matplotlib settings do not change the drawing, and are restored after it.
    settings = {"svg.fonttype": "path" if text_as_paths else "none", "svg.hashsalt": "jdarts"}
    with style.context(["default", settings]):
        made = figure()
        FigureCanvasAgg(made)
        made.savefig(content, format=suffix[1:], dpi=dpi, metadata=_METADATA[suffix])
    return content.getvalue()


def _svg_element(content: bytes) -> str:
    """An SVG file without its head, for a place in a page."""
    text = content.decode()
    return text[text.index("<svg") :]


def save_figure(figure: Callable[[], "Figure"], path: Path) -> None:
    """Draws a figure in jdarts's style and writes it, whole or not at all.

    Args:
      figure: builds the figure, from `matplotlib.figure.Figure` and without `pyplot`.
      path: the file; .svg, .png or .pdf. Missing folders are created.

    Raises:
      InputError: another suffix, or the file cannot be written.
    """
    suffix = check_suffix(path).suffix.lower()
    with os_errors_as_input(path):
        # Before the drawing, which takes a while: if the folder is removed meanwhile, it stays removed.
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_bytes(path, _rendered(figure, suffix))
