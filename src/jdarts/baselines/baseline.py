"""What a search without gradients is: it proposes architectures, and learns what each is worth."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from jdarts.baselines.architectures import UNUSED, Architecture, Architectures


class Best(NamedTuple):
    """The best architecture so far.

    Attributes:
      architecture: as `Architecture`; all edges unused before the first reward.
      reward: its reward, float64 `[]`.
      count: number of rewards so far, int64 `[]`.
    """

    architecture: Architecture
    reward: np.ndarray
    count: np.ndarray

    def updated(self, architecture: Architecture, reward: float) -> "Best":
        """With one more reward; the earlier one stays among equals."""
        better = reward > self.reward
        return Best(
            architecture if better else self.architecture,
            np.asarray(reward if better else self.reward, np.float64),
            np.asarray(self.count + 1),
        )


class Baseline(NamedTuple):
    """A search without gradients: pure functions of a state, a pytree of arrays whose shapes never change.

    Attributes:
      init: `(key, architectures) -> state`.
      propose: `(architectures, state, key) -> (architecture, state)`.
      update: `(architectures, state, architecture, reward) -> state`. The larger the reward, the better.
      best: `state -> Best`.
    """

    init: Callable[[jax.Array, Architectures], Any]
    propose: Callable[[Architectures, Any, jax.Array], tuple[Architecture, Any]]
    update: Callable[[Architectures, Any, Architecture, float], Any]
    best: Callable[[Any], Best]


def nothing_yet(architectures: Architectures) -> Best:
    """Before the first reward."""
    shape = (len(architectures.operations), len(architectures.targets))
    return Best(np.full(shape, UNUSED, np.int32), np.asarray(-np.inf), np.asarray(0, np.int64))
