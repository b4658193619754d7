"""Regularised (aging) evolution (Real et al. 2019): the oldest architecture leaves the population, whatever it is worth."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np

from jdarts.baselines.architectures import (
    Architecture,
    Architectures,
    draws,
    mutated_input,
    mutated_operation,
    random_architecture,
)
from jdarts.baselines.baseline import Baseline, Best, nothing_yet
from jdarts.errors import InputError

#: Share of the children that are copies of their parents.
_IDENTITY = 0.05

Mutate = Callable[[Architectures, Architecture, jax.Array], Architecture]


class Population(NamedTuple):
    """The state of an evolution.

    Attributes:
      architectures: int32 `[P, cells, E]`, the oldest first; rows that are not filled yet are last.
      rewards: float64 `[P]`.
      best: the best architecture of all, also of those that have left.
    """

    architectures: np.ndarray
    rewards: np.ndarray
    best: Best

    @property
    def size(self) -> int:
        """Number of architectures in the population."""
        return min(int(self.best.count), len(self.rewards))


def evolution(population: int = 100, sample: int = 25, *, mutate: Mutate | None = None) -> Baseline:
    """The baseline.

    The first proposals are random. Each later one is a child of the best of a sample of the population; the oldest leaves.

    Args:
      population: its size `P`; 100 in the paper, 10 in NAS-Bench-201's comparison.
      sample: how many are drawn for a child, with replacement; 25 in the paper, 3 in that comparison.
      mutate: `(architectures, architecture, key) -> architecture`; by default the paper's, `mutated`.

    Raises:
      InputError: a number below 1.
    """
    for name, number in (("population", population), ("sample", sample)):
        if number < 1:
            raise InputError(f"the {name} of the evolution is {number}; give 1 or more")
    mutation = mutated if mutate is None else mutate

    def init(key: jax.Array, architectures: Architectures) -> Population:
        del key
        best = nothing_yet(architectures)
        return Population(np.stack([best.architecture] * population), np.full(population, -np.inf), best)

    def propose(architectures: Architectures, state: Population, key: jax.Array) -> tuple[Architecture, Population]:
        if state.size < population:
            return random_architecture(architectures, key), state
        sampling, mutating = jax.random.split(key)
        drawn = draws(sampling).randint(population, size=sample)
        return mutation(architectures, state.architectures[parent_among(state, drawn)], mutating), state

    return Baseline(init, propose, _update, lambda state: state.best)


def parent_among(state: Population, drawn: np.ndarray) -> int:
    """The position of the parent: the best of the drawn positions, the first one among equals."""
    return int(drawn[np.argmax(state.rewards[drawn])])


def mutated(architectures: Architectures, architecture: Architecture, key: jax.Array) -> Architecture:
    """The paper's mutation: a copy, rarely; else another operation or another input, on one of the cells."""
    choosing, mutating = jax.random.split(key)
    choice = draws(choosing).random_sample()
    if choice < _IDENTITY:
        return architecture
    has_inputs = any(architectures.used(node) < len(node) for node in architectures.nodes)
    mutation = mutated_input if has_inputs and choice < (1 + _IDENTITY) / 2 else mutated_operation
    return mutation(architectures, architecture, mutating)


def _update(architectures: Architectures, state: Population, architecture: Architecture, reward: float) -> Population:
    del architectures
    members, rewards = state.architectures.copy(), state.rewards.copy()
    if state.size == len(rewards):
        members, rewards = np.roll(members, -1, axis=0), np.roll(rewards, -1)
    place = min(state.size, len(rewards) - 1)
    members[place], rewards[place] = architecture, reward
    return Population(members, rewards, state.best.updated(architecture, reward))
