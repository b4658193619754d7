"""What mixed edges do beside the weighted sum of their operations, and the factors of one cell's edges."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp

from jdarts.errors import InputError, shown
from jdarts.relaxation import Controls

AuxiliarySkip = Literal["none", "skip", "conv"]


@dataclasses.dataclass(frozen=True)
class EdgeOptions:
    """Options of mixed edges; the defaults are DARTS.

    Attributes:
      partial_channels: `k`: operations see the first `C/k` channels, the others bypass them (PC-DARTS).
      auxiliary_skip: an additional skip connection on every edge (DARTS-).
      skip_dropout: whether skip connections of stride 1 drop single numbers in training (P-DARTS).
      drop_path: whether whole edges are dropped for single images in training (RobustDARTS, SNAS).
      skips_unused: whether an operation of factor 0 keeps its running statistics; each edge then has those of its pools.
    """

    partial_channels: int = 1
    auxiliary_skip: AuxiliarySkip = "none"
    skip_dropout: bool = False
    drop_path: bool = False
    skips_unused: bool = False

    @property
    def reads_edges(self) -> bool:
        """Whether factors of whole edges act on more than the operations."""
        return self.partial_channels > 1 or self.auxiliary_skip != "none"

    def check(self, channels: int) -> None:
        """Checks the options against the channels of the first cells.

        Raises:
          InputError: an option out of its range, or channels that do not divide.
        """
        k = self.partial_channels
        if k < 1:
            raise InputError(f"partial_channels is {k}; give 1 or more")
        if channels % k:
            more = -(-channels // k) * k
            fewer = f"{more - k} or {more}" if more > k else str(more)
            # Reduction cells have twice the channels, so their parts are even, as the factorised reduction needs.
            raise InputError(
                f"{channels} channels do not divide by partial_channels {k}; give {fewer} channels, or partial_channels "
                f"among {', '.join(str(n) for n in range(1, channels + 1) if channels % n == 0)}"
            )
        if self.auxiliary_skip not in get_args(AuxiliarySkip):
            raise InputError(
                f"auxiliary_skip is {shown(self.auxiliary_skip)}; give one of {', '.join(get_args(AuxiliarySkip))}"
            )

    def numbers(self, controls: Controls, dtype: Any, *, train: bool, initialising: bool) -> Mapping[str, jax.Array]:
        """The controls that the options read, as fields of `EdgeFactors`.

        Args:
          controls: numbers of the epoch by name.
          dtype: type of the results.
          train: whether the network trains; evaluation needs no rates of dropout.
          initialising: whether the network draws its weights, which needs no controls.

        Raises:
          InputError: a control is missing.
        """
        names = {
            "auxiliary_weight": self.auxiliary_skip != "none",
            "skip_dropout": self.skip_dropout and train,
            "drop_path": self.drop_path and train,
        }
        numbers = {}
        for name, is_read in names.items():
            if is_read and name not in controls and not initialising:
                raise InputError(f"the controls lack {name!r}, which the network reads; give a number")
            if is_read:
                numbers[name] = jnp.asarray(controls.get(name, 0), dtype)
        return numbers


#: The edges of DARTS.
PLAIN_EDGES = EdgeOptions()


class EdgeFactors(NamedTuple):
    """Numbers that multiply parts of one cell's edges.

    Attributes:
      operations: `[E, O]`, of the operations; the factors of whole edges are in them.
      edges: `[E]`, of the rest of the edges; None for 1.
      auxiliary_weight: `[]`, of auxiliary skip connections.
      skip_dropout: `[]`, probability that a skip connection drops a number, below 1.
      drop_path: `[]`, probability that an edge is dropped for an image, below 1.
    """

    operations: jax.Array
    edges: jax.Array | None = None
    auxiliary_weight: jax.Array | None = None
    skip_dropout: jax.Array | None = None
    drop_path: jax.Array | None = None
