"""What the measured numbers of a search mean: the curvature, and how well the hypergradient foretells the loss."""

import itertools
import statistics
from typing import NamedTuple

from jdarts.methods.stopping import local_averages
from jdarts.report.html.run_data import RunData, finite_number

#: A growth that RobustDARTS takes for a warning.
GROWTH = 1.3
#: From this correlation on a hypergradient foretells the loss well, and below the other one hardly.
_WELL, _HARDLY = 0.9, 0.5
#: A slope farther from 1 than this factor is worth a word.
_FACTOR = 2.0
#: A larger gap between the accuracies of steps and of the evaluation comes from statistics that have not settled.
_UNSETTLED = 0.3
#: A smaller share of the direct term changes little.
_SMALL = 0.05


class Words(NamedTuple):
    """What numbers mean.

    Attributes:
      lines: sentences for the verdict.
      next: what to do next.
    """

    lines: tuple[str, ...] = ()
    next: tuple[str, ...] = ()


def guard_words(run: RunData) -> Words:
    """What the measurements of a search say; nothing for what it has not measured."""
    found = (_of_statistics(run), _of_eigenvalue(run), _of_foresight(run), _of_terms(run))
    lines, steps = (tuple(itertools.chain.from_iterable(each)) for each in zip(*found))
    return Words(lines, steps)


def _of_statistics(run: RunData) -> Words:
    """Whether the running statistics of an evaluation have settled: else it is far below the same images in steps."""
    numbers = run.epochs[-1].numbers if run.epochs else {}
    in_steps, evaluated = (finite_number(numbers, name) for name in ("valid_accuracy", "evaluation_accuracy"))
    if in_steps is None or evaluated is None or in_steps - evaluated <= _UNSETTLED:
        return Words()
    line = (
        f"In its steps the supernet is right on {100 * in_steps:.0f} % of the alphas' images, and on {100 * evaluated:.0f} % in "
        f"the evaluation, which uses running statistics: after {run.epochs[-1].step:,} steps these have not settled."
    )
    return Words((line,), ("Give more steps, with a smaller `--batch-size` or more `--epochs`.",))


def _of_eigenvalue(run: RunData) -> Words:
    """Whether the largest eigenvalue has grown."""
    measured = _of_epochs(run, "guards_eigenvalue")
    if len(measured) < 2:
        return Words()
    # Averages as the rule `eigenvalue` takes them, where there are enough measurements.
    values = averages if len(averages := local_averages(measured)) > 1 else measured
    lowest, last = min(values), values[-1]
    if lowest <= 0:
        return Words(("The largest eigenvalue of the validation loss by the alphas was not above 0 at times.",))
    if last <= GROWTH * lowest:
        line = (
            f"The largest eigenvalue of the validation loss by the alphas has not grown (it ends at {last:.3g}): no sign of a "
            "coming collapse, though no proof of health either."
        )
        return Words((line,))
    line = (
        f"The largest eigenvalue of the validation loss by the alphas has grown {last / lowest:.1f} times, from {lowest:.3g} to "
        f"{last:.3g}: the found minimum is sharp, and cells from sharp minima tend to be worse than their supernet says."
    )
    step = (
        "Keep the cell from before the rise: search again with `--stop eigenvalue`, or flatten the minimum with `--method "
        "sdarts_rs`."
    )
    return Words((line,), (step,))


def _of_foresight(run: RunData) -> Words:
    """Whether the hypergradient foretells the change of the validation loss."""
    correlations, slopes = (_of_epochs(run, f"guards_hypergradient_{name}") for name in ("correlation", "slope"))
    if not correlations or not slopes:
        return Words()
    correlation, slope = statistics.fmean(correlations), statistics.fmean(slopes)
    numbers = f"correlation {correlation:.2f}, slope {slope:.2f}, means of {len(correlations)} measurements"
    other = "exact" if run.settings.get("hypergradient") != "exact" else "neumann"
    if correlation < _HARDLY:
        line = f"The hypergradient hardly foretells how the validation loss changes ({numbers})."
        step = (
            f"Give the alphas shorter steps with a smaller `--alpha-learning-rate`, or try `--hypergradient {other}`."
        )
        return Words((line,), (step,))
    how = "well" if correlation >= _WELL else "roughly"
    line = f"The hypergradient foretells {how} how the validation loss changes ({numbers})."
    if slope > _FACTOR or slope < 1 / _FACTOR:
        size = "larger" if slope > 1 else "smaller"
        return Words((f"{line} The real changes are {size} than it says.",))
    return Words((line,))


def _of_terms(run: RunData) -> Words:
    """How much the implicit term adds to the direct one, in the last quarter of the records."""
    pairs = [
        (direct, implicit)
        for each in run.steps[-max(len(run.steps) // 4, 1) :]
        if (direct := finite_number(each, "hypergradient/direct_norm"))
        and (implicit := finite_number(each, "hypergradient/implicit_norm"))
    ]
    if not pairs:
        return Words()
    share = statistics.median(implicit / direct for direct, implicit in pairs)
    line = f"At the end the implicit term of the hypergradient has {100 * share:.3g} % of the direct term's norm"
    if share < _SMALL:
        return Words((f"{line}: the first-order hypergradient would take nearly the same steps in less time.",))
    return Words((f"{line}.",))


def _of_epochs(run: RunData, name: str) -> list[float]:
    return [value for each in run.epochs if (value := finite_number(each.numbers, name)) is not None]
