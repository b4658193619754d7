"""The parts of a search's configuration that make its method: one setting for each plug-in point."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import tyro

from jdarts.bilevel import Order
from jdarts.errors import InputError
from jdarts.methods import schedules
from jdarts.methods.freezing import Compared, Freezing
from jdarts.methods.method import Method
from jdarts.methods.mixtures import MIXTURES, TEMPERATURE, mixture_of_alphas
from jdarts.methods.penalties import PENALTIES
from jdarts.methods.perturbations import RADIUS
from jdarts.methods.presets import DARTS, preset
from jdarts.methods.schedules import Decay
from jdarts.methods.weight_losses import CORRELATION, WEIGHT_LOSSES
from jdarts.nets.edge_options import AuxiliarySkip, EdgeOptions
from jdarts.runs.bounds import BELOW_ONE, EPOCHS, NOT_NEGATIVE, POSITIVE, Bounds, option
from jdarts.runs.settings import Configuration, Settings, Whole, entries

#: The settings of mixtures that have a temperature, as they are where none is given.
_TEMPERATURES = {"temperature": 1.0, "temperature_end": None, "temperature_epochs": None}

#: SDARTS's, where a perturbation is given.
PERTURBATION_RADIUS = 0.3

_Perturbation = Literal["none", "random", "adversarial"]
_Off = tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: off)")
_Temperature = tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: as in the first)")
_None = tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: that of the penalty)")
_Mixture = tyro.conf.arg(metavar="{" + ",".join(MIXTURES) + "}")
_Penalty = tyro.conf.arg(metavar="{none," + ",".join(PENALTIES) + "}")


@dataclasses.dataclass(frozen=True)
class MethodOptions(Settings):
    """How alphas act and move, in searches of all kinds.

    Attributes:
      mixture: how alphas become weights of the operations. softmax: DARTS; sigmoid: FairDARTS; dirichlet: DrNAS; gumbel: SNAS;
        gumbel_chosen: GDAS, one operation for each edge; gumbel_hard: the same with the derivative of all (straight-through);
        reinmax: one operation, with a derivative of second order.
      temperature: of the Gumbel mixtures and of reinmax in the first epoch.
      temperature_end: the same in the last epoch.
      temperature_epochs: epochs after which the temperature has reached its end (default: in the last epoch).
      edge_weights: also learn a factor of each edge, a softmax over the edges into a node (PC-DARTS).
      penalty: term of the alphas' loss. zero_one: draws weights away from 0.5 (FairDARTS), zero_one_absolute: the same with
        absolute values; divergence: of the Dirichlet distributions from the uniform one (DrNAS).
      penalty_weight: factor of the penalty.
      perturbation: the mixture in the weights' step (SDARTS). random: uniform noise; adversarial: 7 steps that raise the loss.
      perturbation_radius: how far a weight of the mixture moves in the last epochs.
      alphas_from: first epoch, counted from 0, in which the alphas move; before it the weights train alone.
      weight_steps: steps of the weights for each step of the alphas.
      step_order: which step comes first. together: both at the state before the step.
      alphas_on: the images that move the alphas. train: the batch of the weights' step (single-level).
      alpha_clip: largest norm of the hypergradient.
    """

    mixture: Annotated[str, _Mixture] = "softmax"
    temperature: Annotated[float, POSITIVE] = 1.0
    temperature_end: Annotated[float | None, POSITIVE, _Temperature] = None
    temperature_epochs: Annotated[int | None, Bounds(1, EPOCHS.maximum), Whole] = None
    edge_weights: bool = False
    penalty: Annotated[str, _Penalty] = "none"
    penalty_weight: Annotated[float | None, NOT_NEGATIVE, _None] = None
    perturbation: _Perturbation = "none"
    perturbation_radius: Annotated[float, POSITIVE] = PERTURBATION_RADIUS
    alphas_from: Annotated[int, Bounds(0, EPOCHS.maximum)] = 0
    weight_steps: Annotated[int, Bounds(1, 1_000_000)] = 1
    step_order: Order = "alphas_first"
    alphas_on: Literal["valid", "train"] = "valid"
    alpha_clip: Annotated[float | None, POSITIVE, _Off] = None

    def check(self) -> None:
        """As the base class; also refuses unknown names and settings without use."""
        super().check()
        mixture = mixture_of_alphas(self.mixture)
        if self.penalty != "none" and self.penalty not in PENALTIES:
            raise InputError(f"--penalty is {self.penalty!r}; give none or {' or '.join(PENALTIES)}")
        wanted = PENALTIES[self.penalty].mixture if self.penalty != "none" else None
        if wanted is not None and wanted != self.mixture:
            raise InputError(
                f"--penalty {self.penalty} is for --mixture {wanted}; with {self.mixture} give another penalty, or --penalty none"
            )
        if self.penalty == "none" and self.penalty_weight is not None:
            raise InputError(
                f"--penalty-weight is {self.penalty_weight} without a --penalty; give one of {', '.join(PENALTIES)}"
            )
        if self.temperature_end is not None and self.temperature_end > self.temperature:
            raise InputError(
                f"--temperature-end is {self.temperature_end}, above --temperature {self.temperature}; give that or less"
            )
        given = [name for name, usual in _TEMPERATURES.items() if getattr(self, name) != usual]
        if given and not mixture.has_temperature:
            raise InputError(
                f"{option(given[0])} is {getattr(self, given[0])}, and --mixture {self.mixture} has no temperature; leave it "
                "out, or give another --mixture, or another --method if that sets it"
            )
        if self.perturbation == "none" and self.perturbation_radius != PERTURBATION_RADIUS:
            raise InputError(
                f"--perturbation-radius is {self.perturbation_radius} without a --perturbation; give --perturbation random or "
                "adversarial, or leave it out"
            )
        if self.perturbation != "none" and mixture.random:
            raise InputError(
                f"--perturbation {self.perturbation} moves the weights of a mixture, and those of --mixture {self.mixture} are "
                "drawn; give softmax or sigmoid"
            )
        if self.perturbation != "none" and not mixture.sums_to_one:
            raise InputError(
                f"--perturbation {self.perturbation} projects weights to a sum of 1, which those of --mixture {self.mixture} do "
                "not have; give softmax"
            )

    def check_epochs(self, epochs: int) -> None:
        """Checks that the alphas move in one of the epochs, since the cells are derived from them.

        Raises:
          InputError: they begin to move after the last one.
        """
        if self.alphas_from >= epochs:
            raise InputError(
                f"--alphas-from is {self.alphas_from}, and with --epochs {epochs} the last epoch is {epochs - 1}, so that no "
                "alphas move; give a smaller number, or more --epochs"
            )

    def method(self) -> Method:
        """The method."""
        penalties = {}
        if self.penalty != "none":
            row = PENALTIES[self.penalty]
            penalties[self.penalty] = row.function, row.weight if self.penalty_weight is None else self.penalty_weight
        found: dict[str, schedules.Schedule] = {}
        if MIXTURES[self.mixture].has_temperature:
            end = self.temperature if self.temperature_end is None else self.temperature_end
            found[TEMPERATURE] = schedules.temperature(self.temperature, end, span=self.temperature_epochs)
        if self.perturbation != "none":
            found[RADIUS] = schedules.radius(self.perturbation_radius)
        return Method(
            mixture_name=self.mixture,
            edge_weights=self.edge_weights,
            penalties=penalties,
            weight_loss=None if self.perturbation == "none" else WEIGHT_LOSSES[self.perturbation],
            schedules=found,
            order=self.step_order,
            alphas_on=self.alphas_on,
            alphas_from=self.alphas_from,
            weight_steps=self.weight_steps,
            alpha_clip=self.alpha_clip,
        )


#: Settings of the estimator `neumann`.
SERIES_TERMS = Bounds(0, 1000)
SeriesAt = Literal["virtual", "present"]
_SERIES = {"neumann_terms": 2, "neumann_at": "virtual"}


def check_series(hypergradient: str, **settings: int | str) -> None:
    """Checks that the settings of a series are not given to another estimator.

    Args:
      hypergradient: the estimator.
      **settings: `neumann_terms` and `neumann_at`.

    Raises:
      InputError: one is given, and the estimator has no series.
    """
    for name, value in settings.items():
        if value != _SERIES[name] and hypergradient != "neumann":
            raise InputError(
                f"{option(name)} is {value}, and --hypergradient {hypergradient} has no series; give --hypergradient neumann"
            )


class MethodConfiguration(Configuration):
    """A configuration whose setting `method` names settings that other settings overrule.

    Attributes:
      method: a row of `PRESETS`.
    """

    PRESETS: ClassVar[Mapping[str, Mapping[str, Any]]]

    method: str

    def __init__(self, **given: Any) -> None:
        """Builds the configuration.

        Args:
          **given: settings and parts by name, as for every configuration. `method` changes the defaults of the settings that
            are not given, alone or in their part.

        Raises:
          InputError: there is no such setting, or no such method.
        """
        known = entries(type(self))
        usual = preset(given.get("method", DARTS), self.PRESETS)
        super().__init__(**{**{name: value for name, value in usual.items() if known[name].part not in given}, **given})

    def with_method(self, name: str) -> Self:
        """These settings with those of a method in their place.

        Raises:
          InputError: there is no such method.
        """
        return dataclasses.replace(self, method=name, **preset(name, self.PRESETS))  # pyright: ignore[reportArgumentType]

    def check(self) -> None:
        """As the base class; also refuses an unknown method."""
        super().check()
        preset(self.method, self.PRESETS)

    @property
    def method_words(self) -> tuple[str, ...]:
        """The words for the method in the name of a run's folder; none for DARTS."""
        return () if self.method == DARTS else (self.method,)


@dataclasses.dataclass(frozen=True)
class SupernetOptions(Settings):
    """What a method changes in the supernet and its weights.

    Attributes:
      partial_channels: the operations of an edge see one of so many equal parts of the channels, and the rest passes by
        (PC-DARTS); less memory and time.
      auxiliary_skip: a skip connection beside each edge, which derivation ignores (DARTS-). conv: a 1x1 convolution that starts
        as the identity.
      auxiliary_decay: how the factor of the auxiliary skip connections falls from 1 over the epochs.
      skip_dropout: dropout of the features of skip connections in the first epoch (P-DARTS); it falls over the epochs.
      search_drop_path: probability to drop an edge of the supernet in the last epoch, for each image; it grows from 0.
      correlation: factor of a term of the weights' loss that makes the normal cells agree on the mixture (Λ-DARTS); it grows
        from 0 over the epochs.
      freeze_below: the weights of an operation stop when the cosine between their training and validation gradients stays below
        this (OLES).
      freeze_compared: what the training gradient is compared with for that. sum: both gradients, as in OLES's code.
    """

    partial_channels: Annotated[int, Bounds(1, 1024)] = 1
    auxiliary_skip: AuxiliarySkip = "none"
    auxiliary_decay: Decay = "none"
    skip_dropout: Annotated[float, BELOW_ONE] = 0.0
    search_drop_path: Annotated[float, BELOW_ONE] = 0.0
    correlation: Annotated[float, NOT_NEGATIVE] = 0.0
    freeze_below: Annotated[float | None, Bounds(0.0, 1.0), _Off] = None
    freeze_compared: Compared = "validation"

    def check(self) -> None:
        """As the base class; also refuses settings without use."""
        super().check()
        if self.auxiliary_skip == "none" and self.auxiliary_decay != "none":
            raise InputError(
                f"--auxiliary-decay is {self.auxiliary_decay} without --auxiliary-skip; give --auxiliary-skip skip, or leave it "
                "out"
            )
        if self.freeze_below is None and self.freeze_compared != "validation":
            raise InputError(
                f"--freeze-compared is {self.freeze_compared} without --freeze-below; give --freeze-below 0.4, or leave it out"
            )

    def added_to(self, method: Method, *, channels: int, clip: float) -> Method:
        """The method with these options.

        Args:
          method: the rest of the method.
          channels: of the first cells.
          clip: largest norm of the weights' gradient.

        Raises:
          InputError: two options that change the loss of the weights' step, or channels that do not divide.
        """
        found = dict(method.schedules)
        if self.auxiliary_skip != "none":
            found[AUXILIARY_WEIGHT] = schedules.auxiliary_weight(self.auxiliary_decay)
        if self.skip_dropout:
            found[SKIP_DROPOUT] = schedules.skip_dropout(self.skip_dropout, frozen=method.alphas_from)
        if self.search_drop_path:
            found[DROP_PATH] = schedules.ramp(self.search_drop_path)
        changes: dict[str, Any] = {}
        if self.correlation:
            if method.weight_loss is not None:
                raise InputError(
                    f"--correlation {self.correlation} and --perturbation both change the loss of the weights' step; leave one "
                    "out"
                )
            found[CORRELATION] = schedules.ramp(self.correlation)
            changes["weight_loss"] = WEIGHT_LOSSES["correlation"]
        freezing = None
        if self.freeze_below is not None:
            freezing = Freezing(self.freeze_below, clip=clip, compared=self.freeze_compared)
        edges = EdgeOptions(
            partial_channels=self.partial_channels,
            auxiliary_skip=self.auxiliary_skip,
            skip_dropout=self.skip_dropout > 0,
            drop_path=self.search_drop_path > 0,
            skips_unused=method.mixture.skips_unused,
        )
        edges.check(channels)
        return dataclasses.replace(method, schedules=found, freezing=freezing, edges=edges, **changes)


#: Controls that the supernet reads.
AUXILIARY_WEIGHT, SKIP_DROPOUT, DROP_PATH = "auxiliary_weight", "skip_dropout", "drop_path"
