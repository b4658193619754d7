"""The part of a search's configuration that bounds the network of the derived cells."""

import dataclasses
from typing import Annotated, Any

import tyro

from jdarts.budget.amounts import LARGEST
from jdarts.budget.cost import Measure
from jdarts.budget.counting import Target, target
from jdarts.budget.flags import BOUND_OPTIONS, checked_bound
from jdarts.errors import InputError
from jdarts.nets.stem import Stem
from jdarts.runs.bounds import CELLS, CHANNELS, NOT_NEGATIVE, POSITIVE, Bounds, option
from jdarts.runs.settings import Settings, Whole, flat
from jdarts.space import SearchSpace

_Off = tyro.conf.arg(metavar="AMOUNT", help_behavior_hint="(default: off)")


@dataclasses.dataclass(frozen=True)
class BudgetOptions(Settings):
    """Bounds on the network that is trained after the search. Cells are derived within them, and a penalty on the expected cost
    of the mixture grows until the alphas themselves keep them.

    Attributes:
      max_weights: the largest number of weights of that network, such as 400k or 0.4M.
      max_multiply_adds: the largest number of its multiply-adds for one image, such as 80M.
      max_latency_ms: the most milliseconds for one image on this device, as its measured operations predict them.
      budget_rate: how fast the penalty grows: in an epoch by this times the share by which the network without bounds would
        exceed them. 0: no penalty, the bounds hold in derivation alone.
      budget_network: the network for which the bounds hold; its images are those of the search, for imagenet those of ImageNet.
      budget_channels: channels of its first cells (default: 36 for cifar, 48 for imagenet).
      budget_cells: its number of cells (default: 20 for cifar, 14 for imagenet).
    """

    max_weights: Annotated[int | str | None, Bounds(1, LARGEST), _Off] = None
    max_multiply_adds: Annotated[int | str | None, Bounds(1, LARGEST), _Off] = None
    max_latency_ms: Annotated[float | None, POSITIVE, _Off] = None
    budget_rate: Annotated[float, NOT_NEGATIVE] = 1.0
    budget_network: Stem = "cifar"
    budget_channels: Annotated[int | None, CHANNELS, Whole] = None
    budget_cells: Annotated[int | None, CELLS, Whole] = None

    def __post_init__(self) -> None:
        """Writes amounts as numbers, so that 0.4M and 400k are the same setting; `check` refuses what is none."""
        for name in ("max_weights", "max_multiply_adds"):
            value = getattr(self, name)
            if isinstance(value, str):
                try:
                    object.__setattr__(self, name, checked_bound(_MEASURES[name], value))
                except InputError:
                    continue

    def check(self) -> None:
        """As the base class; also refuses what is no amount, and settings that nothing reads."""
        for name, measure in _MEASURES.items():
            if isinstance(value := getattr(self, name), str):
                checked_bound(measure, value)
        super().check()
        if self.bounds:
            return
        for name, usual in flat(BudgetOptions()).items():
            value = getattr(self, name)
            if value != usual:
                raise InputError(
                    f"{option(name)} is {value} without a bound that would read it; give --max-weights, such as 0.4M"
                )

    @property
    def bounds(self) -> dict[Measure, int]:
        """The bounds that are given, in whole numbers.

        Raises:
          InputError: one is no amount.
        """
        given: dict[Measure, Any] = {measure: getattr(self, name) for measure, name in BOUND_OPTIONS.items()}
        return {measure: checked_bound(measure, value) for measure, value in given.items() if value is not None}

    def target(self, space: SearchSpace, image_shape: tuple[int, int, int], classes: int) -> Target:
        """The network for which the bounds hold.

        Args:
          space: of its cells.
          image_shape: `(H, W, C)` of the search's images.
          classes: of the search.

        Raises:
          InputError: the images are not square.
        """
        sizes: Any = {"channels": self.budget_channels, "cells": self.budget_cells}
        if self.budget_network == "imagenet":
            return target(space, "imagenet", **sizes)
        height, width, depth = image_shape
        if height != width:
            raise InputError(
                f"bounds are for networks of square images, and these are {height}×{width}; give --image-size"
            )
        return target(space, **sizes, classes=classes, image_size=height, image_channels=depth)


_MEASURES: dict[str, Measure] = {name: measure for measure, name in BOUND_OPTIONS.items()}
