"""Operations whose training and validation gradients disagree stop learning (OLES; Jiang et al. 2023)."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp

from jdarts.bilevel import PyTree, WeightChange, WeightGradients
from jdarts.operations import OPERATIONS
from jdarts.xla.trees import global_norm

#: A norm is not taken as less.
_SMALLEST = 1e-8

#: What the kept training gradient is compared with: the validation gradient as in the paper, or the sum of both as in the
#: authors' code, which does not clear the first before it computes the second.
Compared = Literal["validation", "sum"]

#: Where the weights of an operation are, `cell/stage/operation`.
Place = str


class FreezingState(NamedTuple):
    """What the rule keeps between steps.

    Attributes:
      kept: the training gradient of the last step, clipped, of the operations' weights by place.
      totals: sums of scores, `[edges]` for each place.
      frozen: bool `[edges]` for each place.
      counts: int32 `[]`, scores in the sums, less one.
      steps: int32 `[]`, steps taken.
    """

    kept: dict[Place, PyTree]
    totals: dict[Place, jax.Array]
    frozen: dict[Place, jax.Array]
    counts: jax.Array
    steps: jax.Array


@dataclasses.dataclass(frozen=True)
class Freezing:
    """The rule: an operation stops for ever when the mean of its scores is too low.

    A score is the cosine of two gradients of the operation's weights along the axis of output channels, averaged over the other
    axes and then over the weights. Skip connections and batch norms have none.

    Attributes:
      below: the mean below which an operation stops.
      every: one less than the number of scores that are added up; the sum is divided by it, as in the authors' code.
      clip: largest norm of all weights' training gradients.
      compared: with what the kept training gradient is compared.
    """

    below: float = 0.4
    every: int = 20
    clip: float = 5.0
    compared: Compared = "validation"

    def init(self, weights: PyTree) -> FreezingState:
        """The state before the first step.

        Args:
          weights: those of a `Supernet`.
        """
        zeros = jax.tree.map(jnp.zeros_like, dict(operation_weights(weights)))
        edges = {place: jax.tree.leaves(tree)[0] for place, tree in zeros.items()}
        return FreezingState(
            kept=zeros,
            totals={place: jnp.zeros(leaf.shape[0], leaf.dtype) for place, leaf in edges.items()},
            frozen={place: jnp.zeros(leaf.shape[0], bool) for place, leaf in edges.items()},
            counts=jnp.zeros((), jnp.int32),
            steps=jnp.zeros((), jnp.int32),
        )

    def __call__(self, gradients: WeightGradients, state: FreezingState) -> WeightChange:
        """Freezes operations, and leaves their gradient and their update out (`jdarts.bilevel.WeightRule`)."""
        norm = global_norm(gradients.train)
        scale = jnp.minimum(1, self.clip / (norm + 1e-6))
        valid = dict(operation_weights(gradients.valid()))
        if self.compared == "sum":
            valid = jax.tree.map(jnp.add, valid, state.kept)
        scores = {place: operation_scores(valid[place], state.kept[place]) for place in valid}
        state = self.judged(state, scores)
        kept = {
            place: jax.tree.map(lambda leaf: scale * leaf, tree) for place, tree in operation_weights(gradients.train)
        }
        factors = _factors(gradients.train, state.frozen)
        gradient = jax.tree.map(jnp.multiply, gradients.train, factors)
        return WeightChange(gradient, factors, state._replace(kept=kept))

    def judged(self, state: FreezingState, scores: Mapping[Place, jax.Array]) -> FreezingState:
        """The state after one step's scores, `[edges]` for each place; the first step has none."""
        scored = state.steps > 0
        full = scored & (state.counts == self.every)
        totals = {place: total + jnp.where(scored, scores[place], 0) for place, total in state.totals.items()}
        frozen = {
            place: state.frozen[place] | (full & (total / self.every < self.below)) for place, total in totals.items()
        }
        return state._replace(
            totals={place: jnp.where(full, 0, total) for place, total in totals.items()},
            frozen=frozen,
            counts=jnp.where(full, 0, state.counts + scored.astype(jnp.int32)),
            steps=state.steps + 1,
        )


def operation_weights(weights: PyTree) -> Iterator[tuple[Place, PyTree]]:
    """The weights of the operations that can be frozen, each leaf with a leading axis of edges."""
    for cell, stages in weights.items():
        for stage, groups in stages.items() if cell.startswith("cell") else ():
            for name, tree in groups.items() if stage.startswith("stage") else ():
                if name in OPERATIONS and OPERATIONS[name].family != "skip":
                    yield f"{cell}/{stage}/{name}", tree


def operation_scores(first: PyTree, second: PyTree) -> jax.Array:
    """The cosines of two gradients along output channels, averaged over the rest: `[edges]`.

    An operation of the user's may have a weight that is one number: it is the only channel.
    """

    def cosine(a: jax.Array, b: jax.Array) -> jax.Array:
        a, b = (each[:, None] if each.ndim == 1 else each for each in (a, b))
        products = jnp.sum(a * b, axis=-1)
        norms = [jnp.maximum(jnp.linalg.norm(each, axis=-1), _SMALLEST) for each in (a, b)]
        return jnp.mean((products / (norms[0] * norms[1])).reshape(a.shape[0], -1), axis=-1)

    scores = jax.tree.leaves(jax.tree.map(cosine, first, second))
    return jnp.mean(jnp.stack(scores), axis=0)


def _factors(weights: PyTree, frozen: Mapping[Place, jax.Array]) -> Any:
    """0 for the weights of frozen operations, 1 for all others, a pytree like the weights that broadcasts to them."""

    def factor(path: Any, leaf: jax.Array) -> jax.Array:
        place = "/".join(str(key.key) for key in path[:3])
        if place not in frozen:
            return jnp.ones((), leaf.dtype)
        edges = 1 - frozen[place].astype(leaf.dtype)
        return edges.reshape(-1, *(1,) * (leaf.ndim - 1))

    return jax.tree.map_with_path(factor, weights)
