"""Selection by shared weights (Li and Talwalkar 2019): the weights that random cells have trained judge cells.

In training each batch has its own random cell, the mixture `jdarts.methods.random_cells`; only weights are trained.
"""

import jax

from jdarts.baselines import BASELINES
from jdarts.baselines.architectures import Architecture, Architectures, one_hot_mixture
from jdarts.baselines.baseline import Baseline, Best, nothing_yet
from jdarts.baselines.evolution import evolution
from jdarts.errors import InputError
from jdarts.methods.questions import Asking, Question

#: Steps of training for which the authors add a round of selection.
STEPS_PER_ROUND = 10_000

#: In a round of the authors' selection: random cells, batches that score one, and those that all images score.
CANDIDATES, BATCHES, FINALISTS = 1000, 10, 10


def rounds_for(steps: int) -> int:
    """How many rounds of selection follow a training of so many steps."""
    return max(1, steps // STEPS_PER_ROUND)


def baseline_for(name: str, candidates: int) -> Baseline:
    """The baseline of a row of `BASELINES`; that of evolution has the paper's population and sample for 1,000 candidates.

    Args:
      name: of the row.
      candidates: proposals of each round.
    """
    if name != "evolution":
        return BASELINES[name]()
    population = min(100, max(1, candidates // 10))
    return evolution(population, max(1, population // 4))


def select_cells(
    baseline: Baseline,
    architectures: Architectures,
    key: jax.Array,
    rounds: int = 1,
    *,
    candidates: int = CANDIDATES,
    finalists: int = FINALISTS,
) -> Asking[Best]:
    """Selects a cell by the shared weights: candidates on a few batches, then the best of them on the whole half.

    Args:
      baseline: proposes candidates, and learns the accuracy of each in percent; it continues from round to round.
      architectures: the space.
      key: of the proposals.
      rounds: how many rounds there are.
      candidates: proposals of each round.
      finalists: how many different ones are scored on the whole half.

    Returns:
      The best finalist; its `count` is the number of finalists that were scored.

    Raises:
      InputError: a number below 1, or more finalists than candidates.
    """
    for name, number in (("candidates", candidates), ("finalists", finalists)):
        if number < 1:
            raise InputError(f"the selection by shared weights has {number} {name}; give 1 or more")
    if finalists > candidates:
        raise InputError(f"{finalists} finalists of {candidates} candidates; give {candidates} or fewer")
    best = nothing_yet(architectures)
    start_key, draw_key = jax.random.split(key)
    state = baseline.init(start_key, architectures)
    for number in range(rounds):
        accuracies: dict[bytes, float] = {}
        drawn: dict[bytes, Architecture] = {}
        for draw in jax.random.split(jax.random.fold_in(draw_key, number), candidates):
            proposed, state = baseline.propose(architectures, state, draw)
            score = yield Question(one_hot_mixture(architectures, proposed))
            state = baseline.update(architectures, state, proposed, 100 * score.accuracy)
            drawn[proposed.tobytes()], accuracies[proposed.tobytes()] = proposed, score.accuracy
        # The sort is stable.
        for name in sorted(drawn, key=lambda name: -accuracies[name])[:finalists]:
            score = yield Question(one_hot_mixture(architectures, drawn[name]), whole=True)
            best = best.updated(drawn[name], score.accuracy)
    return best
