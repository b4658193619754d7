"""A search method as a value: what it puts into the plug-in points of a search."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Literal

from jdarts.bilevel import Order
from jdarts.methods.freezing import Freezing
from jdarts.methods.mixtures import PAPER, mixture_by_name
from jdarts.methods.penalties import PenaltyFn
from jdarts.methods.pruning import Masks
from jdarts.methods.schedules import Schedule, in_epoch, table
from jdarts.methods.weight_losses import WeightLoss
from jdarts.nets.edge_options import PLAIN_EDGES, EdgeOptions
from jdarts.relaxation import Controls, Mixture


@dataclasses.dataclass(frozen=True)
class Method:
    """A search method. The defaults are DARTS's.

    Attributes:
      mixture_name: a row of `jdarts.methods.mixtures.MIXTURES`.
      edge_weights: whether the mixture has factors of edges.
      masks: the operations that the mixture has left, `{kind: [E, O]}`; None for all.
      penalties: terms of the alphas' loss and their factors, by name.
      weight_loss: the loss of the weight step; None for the training loss.
      freezing: rule by which operations stop learning; None for never.
      schedules: numbers that change with the epoch, by the names that mixture, network and losses read.
      order: which of the two steps comes first.
      alphas_on: the half of the images that moves the alphas.
      alphas_from: first epoch, counted from 0, in which the alphas move.
      weight_steps: steps of the weights for each step of the alphas.
      alpha_clip: largest norm of the hypergradient; None for no limit.
      edges: what the mixed edges of the supernet do beside the weighted sum of their operations.
    """

    mixture_name: str = PAPER
    edge_weights: bool = False
    masks: Masks | None = dataclasses.field(default=None, hash=False)
    penalties: Mapping[str, tuple[PenaltyFn, float]] = dataclasses.field(default_factory=dict, hash=False)
    weight_loss: WeightLoss | None = None
    freezing: Freezing | None = None
    schedules: Mapping[str, Schedule] = dataclasses.field(default_factory=dict, hash=False)
    order: Order = "alphas_first"
    alphas_on: Literal["valid", "train"] = "valid"
    alphas_from: int = 0
    weight_steps: int = 1
    alpha_clip: float | None = None
    edges: EdgeOptions = PLAIN_EDGES

    @functools.cached_property
    def mixture(self) -> Mixture:
        """How alphas become weights of the operations, and how operations rank when cells are derived."""
        return mixture_by_name(self.mixture_name, edge_weights=self.edge_weights, masks=self.masks)

    def controls(self, epoch: Any, epochs: int) -> Controls:
        """The numbers of an epoch.

        Args:
          epoch: int32 `[]`, counted from 0; a program may compute it.
          epochs: epochs of the whole search.
        """
        return {name: in_epoch(table(schedule, epochs), epoch) for name, schedule in self.schedules.items()}

    def program(self, step: int, epoch: int) -> Literal["step", "weights_step"]:
        """The program of a step: whether it moves the alphas. Without alphas all steps have one program.

        Args:
          step: number of the step in its epoch, from 0.
          epoch: number of the epoch, from 0.
        """
        if not self.mixture.has_alphas:
            return "step"
        moves = epoch >= self.alphas_from and step % self.weight_steps == self.weight_steps - 1
        return "step" if moves else "weights_step"

    @property
    def always_moves_alphas(self) -> bool:
        """Whether every step moves the alphas."""
        return self.alphas_from == 0 and self.weight_steps == 1


DARTS = Method()


def method_fields(method: Method) -> dict[str, Any]:
    """The fields of a checkpoint's record from which `mixture_of` finds the mixture; none for that of DARTS."""
    fields: dict[str, Any] = {}
    if method.mixture_name != DARTS.mixture_name:
        fields["mixture"] = method.mixture_name
    if method.edge_weights:
        fields["edge_weights"] = True
    if method.masks is not None:
        fields["masks"] = method.masks
    return fields
