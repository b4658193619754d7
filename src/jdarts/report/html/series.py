"""The curves of a run's page: which numbers belong together, over the epochs."""

import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from jdarts.report.html.run_data import RunData
from jdarts.space import CELL_NAMES

#: A curve of single steps has at most so many points; each is then a mean over some steps.
MAX_POINTS = 300

Points = Sequence[tuple[float, float]]


class Series(NamedTuple):
    """One curve.

    Attributes:
      name: in the legend.
      points: epoch and number, in order; an epoch may be a fraction.
      pale: the numbers of single steps behind it.
    """

    name: str
    points: Points
    pale: Points = ()


class Panel(NamedTuple):
    """Curves in one picture.

    Attributes:
      title: what is shown.
      note: how to read it, a sentence; may be empty.
      series: the curves.
      scale: of the y axis.
    """

    title: str
    note: str
    series: tuple[Series, ...]
    scale: Literal["linear", "log", "percent", "from zero", "count"] = "linear"


_PARTS = {"train": "training", "valid": "validation step", "evaluation": "evaluation"}
_TRAINING_PARTS = {"train": "training", "valid": "held out"}


def panels(run: RunData) -> list[Panel]:
    """The panels of a run, without those that have no numbers: losses and accuracies first."""
    found = _Numbers(run)
    parts = _PARTS if run.kind == "search" else _TRAINING_PARTS
    listed = [
        Panel("Loss", "", found.of_parts("loss", parts)),
        Panel("Accuracy", "", found.of_parts("accuracy", parts), "percent"),
        Panel("Perplexity", "", found.of_parts("perplexity", parts)),
        *(Panel(name.replace("_", " "), "", found.of_parts(name, parts)) for name in _own_metrics(run)),
        *(_search_panels(found, own=run.has_own_network) if run.kind == "search" else ()),
        Panel("Norm of the weights' gradient", "Before clipping.", found.steps("weights/gradient_norm", "gradient")),
        Panel("Learning rate", "", found.steps("learning_rate", "weights"), "from zero"),
        Panel("Drop path", "", found.steps("drop_path", "probability"), "percent"),
        Panel(
            "Seconds of an epoch",
            "With evaluation and, after a new start, the time between.",
            _seconds(run),
            "from zero",
        ),
    ]
    return [
        panel._replace(series=tuple(each for each in panel.series if each.points))
        for panel in listed
        if any(each.points for each in panel.series)
    ]


#: Quantities with a panel in every run.
_COMMON = ("loss", "accuracy", "perplexity")


def _own_metrics(run: RunData) -> list[str]:
    """The names of the metrics of a task of the user's own."""
    if not run.has_own_network:
        return []
    named = [
        match for each in run.steps for key in each if (match := re.fullmatch(r"(?:train|valid)/([A-Za-z]\w*)", key))
    ]
    return [name for name in dict.fromkeys(match[1] for match in named) if name not in _COMMON]


def _search_panels(found: "_Numbers", *, own: bool) -> list[Panel]:
    kinds = CELL_NAMES.items()
    norms = {"norm": "whole", "direct_norm": "direct", "implicit_norm": "implicit"}
    of_hypergradient = [found.steps(f"hypergradient/{name}", text) for name, text in norms.items()]
    return [
        Panel(
            "Entropy of the mixture",
            "Mean over the edges, in nats. It falls as the search decides.",
            tuple(each for kind, name in kinds for each in found.steps(f"alphas/entropy_{kind}", name))
            if not own
            else found.steps("alphas/entropy", "mean of the choices"),
            "from zero",
        ),
        Panel(
            "Lead of the chosen operation",
            "Median over the edges, as a share of the next operation's weight; an edge with 10 % or more counts as decided.",
            found.of_kinds("guards_lead"),
            "percent",
        ),
        Panel(
            "Margin of the chosen operation",
            "Median weight minus that of the next.",
            (*found.of_kinds("guards_margin"), *found.epochs("guards_margin", "choices")),
            "from zero",
        ),
        Panel("Decided edges", "", found.of_kinds("guards_decided"), "percent"),
        Panel("Decided choices", "", found.epochs("guards_decided", "choices"), "percent"),
        Panel(
            "Skip connections in the derived cell",
            "When most operations become skip connections, the search has collapsed.",
            found.of_kinds("guards_skips"),
            "count",
        ),
        Panel(
            "Changes of the genotype",
            "Operations that the epoch before did not have.",
            found.of_kinds("guards_changed"),
            "count",
        ),
        Panel(
            "Norm of the hypergradient",
            "Its direct and its implicit term, which goes through the weights' step.",
            tuple(each for listed in of_hypergradient for each in listed),
            "log",
        ),
        Panel("Cosine of the two terms", "Of the direct and the implicit term, from their norms.", found.cosine()),
        Panel(
            "Largest eigenvalue",
            "Of the validation loss by the alphas; cells tend to collapse when it grows.",
            found.epochs("guards_eigenvalue", "eigenvalue"),
        ),
        Panel(
            "Hypergradient against reality",
            "1 means that it foretells the change of the validation loss exactly.",
            (
                *found.epochs("guards_hypergradient_correlation", "correlation"),
                *found.epochs("guards_hypergradient_slope", "slope"),
            ),
        ),
    ]


class _Numbers:
    """The numbers of a run as curves over epochs."""

    def __init__(self, run: RunData) -> None:
        self._run = run
        ends = [(each.step, each.number) for each in run.epochs if each.number > 0]
        self._per_epoch = (
            ends[0][0] / ends[0][1] if ends else float(max((each["step"] for each in run.steps), default=1))
        )
        # The steps and numbers of the ends of epochs of several lengths, and where one more like the last would end.
        self._ends: tuple[Sequence[float], Sequence[float]] | None = None
        if any(step != number * self._per_epoch for step, number in ends):
            before = [(0, 0), *ends]
            length = (before[-1][0] - before[-2][0]) / max(1, before[-1][1] - before[-2][1])
            steps, numbers = zip(*before, (before[-1][0] + length, before[-1][1] + 1))
            self._ends = steps, numbers

    def epochs(self, key: str, name: str) -> tuple[Series, ...]:
        """One number of every epoch."""
        return (Series(name, _finite((each.number, each.numbers.get(key)) for each in self._run.epochs)),)

    def steps(self, key: str, name: str) -> tuple[Series, ...]:
        """One number of the recorded steps."""
        return (Series(name, self._of_steps(key)),)

    def of_parts(self, quantity: str, parts: Mapping[str, str]) -> tuple[Series, ...]:
        """One quantity of the data's parts: means of epochs, single steps behind them."""
        found = []
        for part, name in parts.items():
            (means,) = self.epochs(f"{part}_{quantity}", name)
            single = self._of_steps(f"{part}/{quantity}")
            found.append(Series(name, means.points, single) if means.points else Series(name, single))
        return tuple(found)

    def of_kinds(self, prefix: str) -> tuple[Series, ...]:
        """One number of every kind of cell."""
        return tuple(each for kind, name in CELL_NAMES.items() for each in self.epochs(f"{prefix}_{kind}", name))

    def cosine(self) -> tuple[Series, ...]:
        """The cosine of the two terms of the hypergradient, where the smaller one is not lost in rounding."""
        found = []
        for each in self._run.steps:
            norms = [each.get(f"hypergradient/{name}norm", math.nan) for name in ("", "direct_", "implicit_")]
            whole, direct, implicit = norms
            if not 1e-3 * direct < implicit < 1e3 * direct:
                continue
            cosine = (whole**2 - direct**2 - implicit**2) / (2 * direct * implicit)
            found.append((self._place(each), min(1.0, max(-1.0, cosine))))
        return (Series("cosine", thinned(found)),)

    def _of_steps(self, key: str) -> Points:
        return thinned(_finite((self._place(each), each.get(key)) for each in self._run.steps))

    def _place(self, record: Mapping[str, float]) -> float:
        """The place of a step's record on the axis of the epochs."""
        if self._ends is None:
            return record["step"] / self._per_epoch
        return float(np.interp(record["step"], *self._ends))


def thinned(points: Points) -> Points:
    """At most `MAX_POINTS` points: means over equally many neighbours."""
    size = math.ceil(len(points) / MAX_POINTS)
    if size <= 1:
        return points
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [tuple(math.fsum(each[axis] for each in group) / len(group) for axis in (0, 1)) for group in groups]  # pyright: ignore[reportReturnType]


def _finite(pairs: Iterable[tuple[float, Any]]) -> Points:
    return [(x, float(y)) for x, y in pairs if isinstance(y, int | float) and math.isfinite(y) and math.isfinite(x)]


def _seconds(run: RunData) -> tuple[Series, ...]:
    """The time from the end of one epoch to that of the next."""
    ends = [
        (0, run.steps[0].get("time", math.nan) if run.steps else math.nan),
        *((each.number, each.time) for each in run.epochs),
    ]
    return (
        Series("seconds", _finite((now, after - before) for (_, before), (now, after) in itertools.pairwise(ends))),
    )
