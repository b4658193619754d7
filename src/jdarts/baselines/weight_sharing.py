"""Random search with weight sharing (Li and Talwalkar 2019): the weights that random cells have trained judge random cells.

In training each batch has its own cell from `random_architecture` over `darts_architectures(space, none=True)`, as the mixture
`one_hot_mixture`; only weights are trained.
"""

from collections.abc import Callable, Iterator

import jax

from jdarts.baselines.architectures import Architecture, Architectures, random_architecture
from jdarts.baselines.baseline import Best, nothing_yet
from jdarts.errors import InputError

#: Steps of training for which the authors add a round of selection.
STEPS_PER_ROUND = 10_000

#: `(architecture, batches) -> accuracy` by the shared weights, on so many batches of the validation half; None is all of it.
Evaluate = Callable[[Architecture, int | None], float]


def rounds_for(steps: int) -> int:
    """How many rounds of selection follow a training of so many steps."""
    return max(1, steps // STEPS_PER_ROUND)


def selection_rounds(
    architectures: Architectures,
    key: jax.Array,
    rounds: int,
    evaluate: Evaluate,
    *,
    start: Best | None = None,
    candidates: int = 1000,
    batches: int = 10,
    finalists: int = 10,
) -> Iterator[Best]:
    """Selects a cell by the shared weights: random candidates on a few batches, then the best of them on the whole half.

    Args:
      architectures: the space.
      key: of the candidates; a round draws the same ones whether the rounds before it were done now or earlier.
      rounds: how many rounds there are in all.
      evaluate: gives accuracies.
      start: the result of an earlier round, from which the selection resumes.
      candidates: random architectures of each round.
      batches: of the validation half, for each candidate.
      finalists: how many of them are evaluated on the whole half.

    Yields:
      After each round the best finalist so far; its `count` is the number of finalists that were evaluated.

    Raises:
      InputError: a number below 1, or more finalists than candidates.
    """
    for name, number in (("candidates", candidates), ("batches", batches), ("finalists", finalists)):
        if number < 1:
            raise InputError(f"the selection by shared weights has {number} {name}; give 1 or more")
    if finalists > candidates:
        raise InputError(f"{finalists} finalists of {candidates} candidates; give {candidates} or fewer")
    best = nothing_yet(architectures) if start is None else start
    for number in range(int(best.count) // finalists, rounds):
        keys = jax.random.split(jax.random.fold_in(key, number), candidates)
        drawn = [random_architecture(architectures, k) for k in keys]
        accuracies = [evaluate(architecture, batches) for architecture in drawn]
        # The sort is stable.
        order = sorted(range(candidates), key=lambda place: -accuracies[place])
        for place in order[:finalists]:
            best = best.updated(drawn[place], evaluate(drawn[place], None))
        yield best
