"""What a run leaves in its folder: drawings at its end, and its page."""

import json

from jdarts.report import draw_cells, draw_curves, read_metrics
from jdarts.runs.folder import MEMORY, PAGE
from jdarts.runs.memory import StepMemory, memory_facts
from jdarts.runs.store import Part
from jdarts.runs.summaries import Result


def write_drawings(part: Part, result: Result) -> None:
    """Writes the cells of a result, if it has any, with their drawings, and the curves of the run."""
    folder = part.folder
    if result.genotype is not None:
        folder.write_genotype(result.genotype)
        draw_cells(result.genotype, folder.path, title=part.title)
    draw_curves(read_metrics(folder.path), folder.path / "curves.png")


def write_page(part: Part, memory: StepMemory | None, *, live: bool) -> None:
    """Writes the page of a run, and the memory that it shows.

    Args:
      part: the run.
      memory: of its step; None if unknown.
      live: whether the page reloads itself.
    """
    # Imported here: it takes a while, and most steps do not need it.
    from jdarts.report.html.pages import page_of

    part.folder.write(MEMORY, json.dumps(memory_facts(memory)) + "\n")
    part.folder.write(PAGE, page_of(part.folder.path, live=live))
