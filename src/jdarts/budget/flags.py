"""Options of commands that name a network and bounds on it."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import tyro

from jdarts.budget.amounts import LARGEST, amount
from jdarts.budget.budget import Budget, budget
from jdarts.budget.cost import MILLISECOND, Measure, limits_of
from jdarts.budget.counting import Target, target
from jdarts.errors import InputError, shown
from jdarts.nets.stem import Stem
from jdarts.runs.bounds import option
from jdarts.space import SearchSpace

#: The option of each measure, and the amount that removes a bound.
BOUND_OPTIONS: dict[Measure, str] = {
    "weights": "max_weights",
    "multiply_adds": "max_multiply_adds",
    "latency": "max_latency_ms",
}
NO_BOUND = "none"

_Int = tyro.conf.arg(metavar="INT", help_behavior_hint="")
_Amount = tyro.conf.arg(metavar="AMOUNT", help_behavior_hint="")


@dataclasses.dataclass(frozen=True)
class NetworkFlags:
    """The network to be trained.

    Attributes:
      network: its kind, cifar or imagenet (default: that of the bounds of the search, else cifar).
      channels: channels of its first cells (default: as for --network, else 36 for cifar, 48 for imagenet).
      cells: its number of cells (default: as for --network, else 20 or 14).
      classes: its number of classes (default: as for --network, else 10 or 1000).
      image_size: height and width of its images (default: as for --network, else 32 or 224).
      image_channels: channels of its images (default: as for --network, else 3).
    """

    network: Annotated[Stem | None, tyro.conf.arg(metavar="{cifar,imagenet}", help_behavior_hint="")] = None
    channels: Annotated[int | None, _Int] = None
    cells: Annotated[int | None, _Int] = None
    classes: Annotated[int | None, _Int] = None
    image_size: Annotated[int | None, _Int] = None
    image_channels: Annotated[int | None, _Int] = None

    def given(self) -> dict[str, Any]:
        """The options that are given, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}

    def target(self, space: SearchSpace, usual: Target | None = None) -> Target:
        """The network.

        Args:
          space: of its cells.
          usual: the network whose sizes hold where none are given, unless another kind is given.

        Raises:
          InputError: a size out of its bounds.
        """
        given = self.given()
        if usual is not None and given.get("network", usual.network) == usual.network:
            given = dataclasses.asdict(usual) | given
        return target(space, **given)


@dataclasses.dataclass(frozen=True)
class BoundFlags:
    """Bounds on the network to be trained: the best cells that keep them are derived, those with the largest sum of strengths.

    Attributes:
      max_weights: the largest number of weights, such as 400k or 0.4M; none for no bound (default: the bound of the search).
      max_multiply_adds: the largest number of multiply-adds for one image, such as 80M; none for no bound (default: the bound of
        the search).
      max_latency_ms: the most milliseconds for one image on this device, as its measured operations predict them; none for no
        bound (default: the bound of the search).
    """

    max_weights: Annotated[str | None, _Amount] = None
    max_multiply_adds: Annotated[str | None, _Amount] = None
    max_latency_ms: Annotated[str | None, _Amount] = None

    def given(self) -> dict[Measure, int | None]:
        """The bounds that are given, None for those that are taken away.

        Raises:
          InputError: one is no amount.
        """
        given: dict[Measure, str | None] = {measure: getattr(self, name) for measure, name in BOUND_OPTIONS.items()}
        return {
            measure: None if text.strip() == NO_BOUND else checked_bound(measure, text)
            for measure, text in given.items()
            if text is not None
        }


def checked_bound(measure: Measure, given: str | float) -> int:
    """A bound as a whole number: a count, or nanoseconds of milliseconds.

    Raises:
      InputError: it is no amount; the message names the option.
    """
    name = option(BOUND_OPTIONS[measure])
    if measure != "latency":
        try:
            return amount(given if isinstance(given, str) else int(given))
        except InputError as error:
            raise InputError(f"{name}: {error}") from None
    try:
        milliseconds = float(given)
    except ValueError:
        milliseconds = -1.0
    if not 0 < milliseconds * MILLISECOND <= LARGEST:
        raise InputError(f"{name} is {shown(given, 30)}; give milliseconds above 0, such as 2.5")
    return round(milliseconds * MILLISECOND)


def budget_of(
    bounds: BoundFlags, network: NetworkFlags, record: Mapping[str, Any], space: SearchSpace
) -> Budget | None:
    """The budget under which cells of a search are derived; None for none.

    Args:
      bounds: what is given.
      network: what is given.
      record: of the search's checkpoint, whose budget holds where nothing is given.
      space: of the search.

    Raises:
      InputError: a wrong amount, or a network without bounds.
    """
    earlier = limits_of(record, space)
    usual = _target_of(record) if earlier else None
    given = bounds.given()
    wanted: dict[Measure, int | None] = {limit.cost.measure: limit.most for limit in earlier}
    wanted |= given
    limits: dict[Measure, int] = {measure: most for measure, most in wanted.items() if most is not None}
    if not limits:
        if (named := network.given()) and not given:
            name, value = next(iter(named.items()))
            raise InputError(
                f"{option(name)} is {value} without a bound that would read it; give --max-weights, such as 0.4M"
            )
        return None
    aim = network.target(space, usual)
    if aim == usual and not given:
        return Budget(aim, earlier)
    return budget(space, aim, limits)


def _target_of(record: Mapping[str, Any]) -> Target:
    try:
        return Target(**record["budget"]["network"])
    except (TypeError, KeyError):
        raise InputError(
            "the budget of the search is damaged: its network is missing; use another checkpoint"
        ) from None
