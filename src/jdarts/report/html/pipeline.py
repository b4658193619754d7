"""The parts of a pipeline's page that its runs do not have: the result in words, and the candidates of its selection."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jdarts.errors import InputError
from jdarts.files.json_data import as_number
from jdarts.genotype import AnyGenotype, genotype_from_json
from jdarts.report.formatting import duration
from jdarts.report.html import markup
from jdarts.report.html.comparison import Group, mean_and_spread
from jdarts.report.html.markup import Cell
from jdarts.report.html.run_data import RunData

#: Folders of a pipeline that hold its runs, with what they hold in words.
PARTS: Mapping[str, str] = {
    "searches": "searches",
    "selection": "brief trainings",
    "trainings": "full trainings",
}
#: A difference of so many standard errors is more than chance.
_CLEAR = 2.0


class Arm(NamedTuple):
    """One way of finding cells, as a pipeline's summary has it.

    Attributes:
      name: `search`, or that of the baseline, with the budget in words where there are budgets.
      folders: how the names of its folders begin.
      fields: its numbers.
      genotype: the chosen cells; None where they are damaged.
    """

    name: str
    folders: str
    fields: Mapping[str, Any]
    genotype: AnyGenotype | None

    @property
    def accuracies(self) -> list[float]:
        """Test accuracies of the full trainings, 0 to 1."""
        listed = self.fields.get("test_accuracies")
        numbers = map(as_number, listed) if isinstance(listed, list) else ()
        return [value for value in numbers if value is not None and math.isfinite(value)]

    @property
    def mean(self) -> float:
        """Their mean."""
        return mean_and_spread(self.accuracies)[0]

    @property
    def spread(self) -> float | None:
        """Their standard deviation; None for a single training."""
        return mean_and_spread(self.accuracies)[1]

    @property
    def error(self) -> float:
        """The standard error of the mean; 0 for a single training."""
        return (self.spread or 0.0) / math.sqrt(len(self.accuracies))

    @property
    def candidates(self) -> list[Mapping[str, Any]]:
        """The candidates of its selection."""
        listed = self.fields.get("candidates")
        return [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []


def arms_of(run: RunData) -> list[Arm]:
    """The arms of a pipeline that has ended, those of all budgets; none before."""
    return [arm for together in _compared_arms(run) for arm in together]


def _compared_arms(run: RunData) -> list[list[Arm]]:
    """The arms that are compared with each other: the searches first, then the baseline; a list for each budget."""
    budgets = run.summary.get("budgets")
    if not isinstance(budgets, list):
        return [found] if (found := _arms(run.summary, "", "")) else []
    arms = []
    for each in budgets:
        bound = each.get("max_weights") if isinstance(each, dict) else None
        if isinstance(bound, int):
            arms.append(_arms(each, f" within {bound:,} weights", f"{bound}-"))
        elif isinstance(each, dict):
            arms.append(_arms(each, " without a bound", ""))
    return [each for each in arms if each]


def _arms(content: Mapping[str, Any], words: str, prefix: str) -> list[Arm]:
    found = []
    for name, fields in content.items():
        if isinstance(fields, dict):
            own = prefix if prefix or name == "search" or not words else "unbounded-"
            arm = Arm(f"{name}{words}", f"{own}{name}", fields, _genotype(fields.get("genotype")))
            found += [arm] if arm.accuracies else []
    return found


def result_html(run: RunData, runs: Sequence[RunData], table: str) -> str:
    """The result in words, and what to do next.

    Args:
      run: the pipeline.
      runs: its runs so far.
      table: the text of its table; empty until it has ended.
    """
    arms = _compared_arms(run)
    if arms:
        lines = [_arm_line(arm) for together in arms for arm in together]
        lines += [_compared(together[0], other) for together in arms for other in together[1:]]
        chosen = arms[-1][0]
        best = run.folder / "trainings" / f"{chosen.folders}-seed{run.settings.get('seed', 0)}"
        steps = [
            f"Classify pictures of your own: `jdarts predict {best} PICTURE …`",
            f"Describe the chosen cells: `jdarts describe {run.folder}`",
        ]
        if len(chosen.accuracies) < 2:
            steps.append("One full training says little: give more `--repeats`.")
    else:
        lines, steps = _unfinished(run, runs)
    texts = "".join(map(markup.paragraph, lines))
    follow = f"<div><h3>What to do next</h3>{markup.listed(steps)}</div>" if steps else ""
    folded = markup.folded("The table as text", markup.code(table, "table")) if table else ""
    return f'<div class="verdict">{texts}</div>{follow}{folded}'


def candidates_html(run: RunData, place: Path) -> str:
    """The table of all candidates, for a page in the folder `place`; empty until the pipeline has ended."""
    rows, links = [], []
    for arm in arms_of(run):
        for index, each in enumerate(arm.candidates):
            seed, weights = each.get("seed"), as_number(each.get("size", each.get("weights")))
            seconds = sum(as_number(each.get(name)) or 0.0 for name in ("search_seconds", "brief_seconds"))
            is_chosen = index == arm.fields.get("chosen")
            rows.append(
                [
                    Cell(arm.name),
                    Cell(str(seed), float(seed) if isinstance(seed, int) else None),
                    _share(each.get("supernet_accuracy")),
                    _share(each.get("valid_accuracy")),
                    Cell("" if weights is None else f"{weights:,.0f}", weights),
                    Cell(duration(seconds), seconds),
                    Cell(f"{100 * arm.mean:.2f} %" if is_chosen else "", arm.mean if is_chosen else None),
                ]
            )
            links.append(_page_of_candidate(run.folder, arm.folders, seed, place))
    if not rows:
        return ""
    header = ("cells from", "seed", "supernet", "selection", "weights", "time", "test of the chosen cells")
    note = "The candidate with the best accuracy of the selection, on held-out images, is trained in full and tested."
    return markup.paragraph(note, "note") + markup.sorted_table(header, rows, links=links)


def groups_of(runs: Sequence[RunData]) -> list[Group]:
    """The runs of a pipeline in groups: its searches, and the trainings of each arm."""
    found: dict[str, list[int]] = {}
    for index, run in enumerate(runs):
        part, name = run.folder.parent.name, run.folder.name
        bound, _, rest = name.partition("-") if re.match(r"(\d+|unbounded)-", name) else ("", "", name)
        arm = re.sub(r"-?(seed)?\d+$", "", rest)
        words = PARTS.get(part, part)
        within = f" within {int(bound):,} weights" if bound.isdecimal() else ""
        found.setdefault((f"{words} of {arm}" if arm else words) + within, []).append(index)
    return [Group(name, tuple(members)) for name, members in found.items()]


def _genotype(content: Any) -> AnyGenotype | None:
    try:
        return genotype_from_json(json.dumps(content))
    except (InputError, ValueError):
        return None


def _arm_line(arm: Arm) -> str:
    count = len(arm.accuracies)
    of = "one full training" if count == 1 else f"{count} full trainings"
    spread = "" if arm.spread is None else f" ± {100 * arm.spread:.2f}"
    return f"Cells from {arm.name}: test accuracy {100 * arm.mean:.2f}{spread} %, of {of}."


def _compared(search: Arm, other: Arm) -> str:
    """Whether the searched cells are better than those of a baseline."""
    difference, error = search.mean - other.mean, math.hypot(search.error, other.error)
    how = "better" if difference >= 0 else "worse"
    text = f"The cells from {search.name} are {100 * abs(difference):.2f} points {how} than those from {other.name}"
    if not error:
        return f"{text}; with a single training each, that may be chance."
    if abs(difference) <= _CLEAR * error:
        return f"{text}, which is within the spread: the search shows no clear difference from this baseline."
    return f"{text}, more than two standard errors ({100 * error:.2f} points each)."


def _unfinished(run: RunData, runs: Sequence[RunData]) -> tuple[list[str], list[str]]:
    """What has ended of a pipeline that is running or was interrupted."""
    done = [
        f"{sum(each.state == 'finished' for each in own)} {words}"
        for part, words in PARTS.items()
        if (own := [each for each in runs if each.folder.parent.name == part])
    ]
    is_running = run.state == "running"
    state = "is running" if is_running else "was interrupted"
    lines = [f"The pipeline {state}; finished so far: {', '.join(done) or 'nothing'}."]
    mend = "Start the same command again: finished runs are not repeated, and the others resume."
    return lines, [f"Write this page again: `jdarts report {run.folder}`" if is_running else mend]


def _share(value: Any) -> Cell:
    number = as_number(value)
    return Cell("") if number is None else Cell(f"{100 * number:.2f} %", number)


def _page_of_candidate(folder: Path, folders: str, seed: Any, place: Path) -> str | None:
    """The page of the search that found a candidate, or of its brief training."""
    prefix = folders.removesuffix("search") if folders.endswith("search") else f"{folders}-"
    names = [f"searches/{prefix}seed{seed}", f"selection/{folders}{seed}"]
    return next(filter(None, (markup.page_link(folder / name, place) for name in names)), None)
