"""Numbers that change with the epoch: tables in double precision, from which a program reads the row of its epoch."""

import math
from collections.abc import Callable
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

#: `(epoch, epochs) -> value`.
Schedule = Callable[[int, int], float]


def radius(largest: float, *, smallest: float = 0.03) -> Schedule:
    """SDARTS's radius: from `smallest` towards `largest`, which no epoch reaches."""
    return lambda epoch, epochs: smallest + (largest - smallest) * epoch / epochs


def ramp(largest: float) -> Schedule:
    """From 0 in the first epoch to `largest` in the last (Λ-DARTS, drop path of R-DARTS)."""
    return lambda epoch, epochs: largest * epoch / max(epochs - 1, 1)


def temperature(start: float, end: float, *, span: int | None = None) -> Schedule:
    """A temperature that falls linearly, and not below `end`.

    Args:
      start: in the first epoch.
      end: in the last epoch, or `span` epochs after the first.
      span: by default all epochs but one, as in GDAS; SNAS's code has 150 whatever the number of epochs is.
    """

    def value(epoch: int, epochs: int) -> float:
        share = epoch / (span or max(epochs - 1, 1))
        return start + (end - start) * min(share, 1.0)

    return value


def skip_dropout(rate: float, *, frozen: int = 10) -> Schedule:
    """P-DARTS's rate of the dropout on skip connections: it falls while the alphas stand still, and again from `rate` afterwards.

    Args:
      rate: in the first epoch.
      frozen: number of epochs in which the alphas do not move.
    """

    def value(epoch: int, epochs: int) -> float:
        if epoch < frozen:
            return rate * (epochs - epoch - 1) / epochs
        return rate * math.exp(-0.2 * (epoch - frozen))

    return value


Decay = Literal["none", "linear", "cosine", "slow_cosine"]


def auxiliary_weight(
    decay: Decay, *, base: float = 1.0, span: int | None = None, start: int = 0, stop: int | None = None
) -> Schedule:
    """DARTS-'s factor of the auxiliary skip connections, as its authors' code has it (Chu et al. 2021).

    Args:
      decay: form of the decay.
      base: the factor in the first epoch.
      span: epochs after which the decay ends; by default all.
      start: first epoch of the decay; epochs are not counted from it, but it shortens the span.
      stop: epoch after which the factor keeps its last value; by default the end.
    """

    def value(epoch: int, epochs: int) -> float:
        whole, last = epochs if span is None else span, epochs if stop is None else stop
        if decay == "none" or epoch < start:
            return base
        epoch, length = min(epoch, last), whole - start
        if decay == "linear":
            return base * (whole - epoch) / length
        if decay == "cosine":
            return base * (1 + math.cos(math.pi * epoch / length)) / 2
        return base * math.cos(math.pi / 2 * epoch / length)

    return value


def table(schedule: Schedule, epochs: int) -> np.ndarray:
    """The values in all epochs, float64 `[epochs]`."""
    return np.array([schedule(epoch, epochs) for epoch in range(epochs)], np.float64)


def in_epoch(values: np.ndarray, epoch: Any) -> Any:
    """The value in an epoch that a program computes, a scalar of the usual type; the last one after the end."""
    return jnp.asarray(values, dtype=float)[jnp.minimum(epoch, len(values) - 1)]
