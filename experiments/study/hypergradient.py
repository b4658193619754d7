"""Study 1: how well each estimator of the hypergradient foretells the change of the validation loss.

At moments of real searches, each estimator predicts how the validation loss changes with steps of the alphas, of the length that
Adam takes there: along the estimators' own steps and along random directions. The changes themselves are measured: after one
virtual step of the weights on the batches that the estimators saw, on other batches, and after the next real steps of the
weights. The same is done in a network whose loss is smooth.

Command:  make study ARGS="--only hypergradient"          (make study-full for the sizes of CONFIG)
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.data import ImageDataset
from jdarts.errors import InputError
from jdarts.nets.counts import count_weights
from jdarts.runs.bounds import CHANNELS, POSITIVE, SEED, Bounds, option
from jdarts.runs.settings import Settings

from . import images
from .hypergradient_figures import figures, tables
from .real_changes import Changes, Estimators, Moment, Trained, own_steps, random_directions
from .short_search import Network, SearchSize, ShortSearch, network_and_loss
from .study import Cell, Measure, Row, Study

#: Validation batches that neither an estimator nor the search sees at the moment, counted from here.
_LATER = 1_000_000


@dataclasses.dataclass(frozen=True)
class HypergradientConfig(Settings):
    """The settings of the study.

    Attributes:
      networks: networks that are searched; the first is the one that the main tables are about.
      seeds: searches of each network.
      moments: when a search is looked at: parts of its steps.
      images: training images, half for the weights and half for the alphas.
      image_size: height and width to which the images are averaged.
      channels: of the first cells.
      cells: of DARTS's network.
      nodes: of its cells.
      steps: of each search.
      batch_size: images of a batch.
      learning_rate: of the weights.
      alpha_learning_rate: of the alphas.
      directions: random directions at each moment.
      epsilons: of the finite difference; the paper's is 0.01.
      unrolls: numbers of steps of the unrolled estimator.
      terms: of the Neumann series.
      other_batches: pairs of other batches.
      next_steps: numbers of real weight steps.
      next_directions: random directions with which they are made.
      valid_batches: validation batches after them.
      later: estimators whose own steps are made with other batches and with the next weight steps.
      repeats: of each estimator for its time.
      length_moments: moments at which steps of several lengths are compared, in every network.
      lengths: their lengths, in those that Adam takes.
      length_directions: random directions of each length.
    """

    networks: tuple[Network, ...] = ("darts", "choice", "choice_smooth")
    seeds: tuple[Annotated[int, SEED], ...] = (0, 1, 2)
    moments: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0)
    images: Annotated[int, Bounds(4, 1_000_000)] = 4096
    image_size: Annotated[int, Bounds(4, 1024)] = 8
    channels: Annotated[int, CHANNELS] = 8
    cells: Annotated[int, Bounds(3, 100)] = 4
    nodes: Annotated[int, Bounds(1, 32)] = 2
    steps: Annotated[int, Bounds(1, 1_000_000)] = 300
    batch_size: Annotated[int, Bounds(2, 100_000)] = 32
    learning_rate: Annotated[float, POSITIVE] = 0.1
    alpha_learning_rate: Annotated[float, POSITIVE] = 6e-3
    directions: Annotated[int, Bounds(2, 10_000)] = 20
    epsilons: tuple[float, ...] = (0.001, 0.01, 0.03, 0.1, 0.3, 1.0)
    unrolls: tuple[int, ...] = (2, 5)
    terms: tuple[int, ...] = (2,)
    other_batches: Annotated[int, Bounds(1, 1000)] = 3
    next_steps: tuple[int, ...] = (1, 5, 20)
    next_directions: Annotated[int, Bounds(2, 10_000)] = 8
    valid_batches: Annotated[int, Bounds(1, 1000)] = 3
    later: tuple[str, ...] = ("first order", "exact", "difference, ε = 0.01", "unrolled 5")
    repeats: Annotated[int, Bounds(1, 1000)] = 1
    length_moments: tuple[float, ...] = (0.0, 0.5)
    lengths: tuple[float, ...] = (1e-6, 1e-4, 0.01, 0.1, 1.0, 3.0)
    length_directions: Annotated[int, Bounds(2, 10_000)] = 6

    def check(self) -> None:
        """Checks the parts that fit together.

        Raises:
          InputError: no seed, a moment outside the search, or no step of the length of Adam's.
        """
        super().check()
        if not self.seeds or not self.networks:
            raise InputError(f"--seeds is {self.seeds} and --networks {self.networks}; give one or more of each")
        for name in ("moments", "length_moments"):
            if not all(0 <= each <= 1 for each in getattr(self, name)):
                raise InputError(f"{option(name)} is {getattr(self, name)}; give parts of the search, from 0 to 1")
        for name in ("next_directions", "length_directions"):
            if getattr(self, name) > self.directions:
                raise InputError(f"{option(name)} is {getattr(self, name)}; give {self.directions} or less")

    def size(self, network: Network) -> SearchSize:
        """The size of the search of a network."""
        return SearchSize(
            network,
            channels=self.channels,
            cells=self.cells if network == "darts" else 1,
            nodes=self.nodes,
            steps=self.steps,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            alpha_learning_rate=self.alpha_learning_rate,
        )


CONFIG = HypergradientConfig()

#: The share of `make study`.
QUICK = HypergradientConfig(
    networks=("darts", "choice_smooth"),
    moments=(0.0, 0.5),
    images=1024,
    channels=4,
    cells=3,
    steps=100,
    directions=10,
    epsilons=(0.01, 0.1, 1.0),
    unrolls=(5,),
    other_batches=2,
    next_steps=(1, 5),
    next_directions=6,
    valid_batches=2,
    later=("first order", "exact", "difference, ε = 0.1"),
    lengths=(1e-6, 1e-2, 1.0),
    length_directions=6,
)


def cells(config: HypergradientConfig) -> list[Cell]:
    """A cell for each moment of each search, all seeds of a moment before the next, so that a part of the table has spreads."""
    first, *others = config.networks
    places = [(first, moment) for moment in sorted({*config.moments, *config.length_moments})]
    places += [(network, moment) for moment in sorted(config.length_moments) for network in others]
    return [{"network": network, "seed": seed, "moment": moment} for network, moment in places for seed in config.seeds]


class Programs(NamedTuple):
    """What the searches of one network share.

    Attributes:
      estimators: in float32, as a search has them.
      real: trains by real steps.
      wide: trains by virtual steps, in float64.
      step: of the search.
    """

    estimators: Estimators
    real: Trained
    wide: Trained
    step: Any


def prepare(config: HypergradientConfig, dataset: ImageDataset) -> Measure:
    """The function that measures a cell. It keeps the searches, which continue from one moment to the next."""
    small = images.smaller(dataset, images=config.images, size=config.image_size)
    programs: dict[Network, Programs] = {}
    searches: dict[tuple[Network, int], ShortSearch] = {}

    def measure(cell: Cell, folder: Path) -> list[Row]:
        del folder
        network, seed = cell["network"], cell["seed"]
        if (network, seed) not in searches:
            known = programs.get(network)
            searches[network, seed] = ShortSearch(config.size(network), small, seed, known and known.step)
        search = searches[network, seed]
        if network not in programs:
            programs[network] = _programs(config, search, len(small.class_names))
        is_first = network == config.networks[0]
        return [_measured(config, search, programs[network], cell["moment"], seed, is_first=is_first)]

    return measure


def _programs(config: HypergradientConfig, search: ShortSearch, classes: int) -> Programs:
    def loss_in(dtype: Any) -> Any:
        _, loss_fn = network_and_loss(search.size, classes, dtype)
        # Statistics of the batch normalise; the running ones have no effect.
        unused = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), search.state_after(0).model_state)
        return lambda weights, alphas, batch: loss_fn(weights, alphas, unused, batch, jax.random.key(0))[0]

    loss, optimizers = loss_in(np.float32), search.optimizers
    kinds = {"epsilons": config.epsilons, "unrolls": config.unrolls, "terms": config.terms}
    return Programs(
        Estimators(loss, optimizers.virtual, **kinds),
        Trained(loss, optimizers.weights),
        Trained(loss_in(np.float64), optimizers.virtual),
        search.step,
    )


def _measured(
    config: HypergradientConfig, search: ShortSearch, programs: Programs, part: float, seed: int, *, is_first: bool
) -> Row:
    """The row of a moment: of the first network all, of the others what is compared at several lengths."""
    step = round(part * config.steps)
    state = search.state_after(step)
    count = max(*config.next_steps, *config.unrolls, 1)
    moment = Moment(
        state.weights,
        state.alphas,
        state.weight_opt_state,
        [search.train_batch(step + number) for number in range(count)],
        search.valid_batch(step),
    )
    gradients = programs.estimators.gradients(moment, () if is_first else ("first order", "exact"))
    steps = own_steps(search.optimizers.alphas, state.alpha_opt_state, state.alphas, gradients)
    random = random_directions((seed, step), config.directions, steps["exact"])
    row = {
        "weights": count_weights(state.weights),
        "alphas": int(steps["exact"].size),
        "length": float(np.linalg.norm(steps["exact"])),
        "norms": {name: float(np.linalg.norm(each)) for name, each in gradients.items()},
        "cosines": {name: _cosine(each, gradients["exact"]) for name, each in gradients.items()},
        "predicted": {name: (random @ each).tolist() for name, each in gradients.items()},
        "predicted_of_own": {name: float(gradients[name] @ steps[name]) for name in gradients},
    }
    if is_first:
        row["seconds"] = programs.estimators.seconds(moment, config.repeats)
        row["changes"] = dict(_changes(config, search, programs, moment, steps, random))
    if part in config.length_moments:
        directions = random[: config.length_directions]
        with jax.enable_x64(True):
            row["lengths"] = list(_lengths(config, programs.wide, moment.astype(jnp.float64), directions))
    return row


def _changes(
    config: HypergradientConfig,
    search: ShortSearch,
    programs: Programs,
    moment: Moment,
    steps: Mapping[str, np.ndarray],
    random: np.ndarray,
) -> Iterator[tuple[str, Any]]:
    """The changes by steps as long as Adam's, by the name of what is measured; own steps first, then random directions."""
    virtual, names = programs.estimators.virtual, list(steps)
    found = virtual.changes(moment, np.concatenate([list(steps.values()), random]), [moment.valid], [1])
    yield "same", _numbers(found[1], names)
    chosen = [name for name in config.later if name in steps]
    fewer = np.concatenate([[steps[name] for name in chosen], random[: config.next_directions]])
    valid = [search.valid_batch(_LATER + number) for number in range(max(config.valid_batches, config.other_batches))]
    others = [
        virtual.changes(moment._replace(train=[search.train_batch(_LATER + number)]), fewer, [valid[number]], [1])[1]
        for number in range(config.other_batches)
    ]
    mean = Changes(
        float(np.mean([each.before for each in others])),
        np.mean([each.plus for each in others], axis=0),
        np.mean([each.minus for each in others], axis=0),
    )
    yield "other", _numbers(mean, chosen)
    by_steps = programs.real.changes(moment, fewer, valid[: config.valid_batches], config.next_steps)
    for number, found in by_steps.items():
        yield f"next, {number}", _numbers(found, chosen)


def _lengths(
    config: HypergradientConfig, trained: Trained, moment: Moment, directions: np.ndarray
) -> Iterator[dict[str, Any]]:
    """The changes along random directions by steps of several lengths, on the batches of the estimators.

    `fixed` has the weights as they are, `trained` those after a virtual step.
    """
    for length in config.lengths:
        found = trained.changes(moment, length * directions, [moment.valid], [0, 1])
        yield {"length": length, "fixed": _numbers(found[0], ()), "trained": _numbers(found[1], ())}


def _numbers(changes: Changes, names: Sequence[str]) -> dict[str, Any]:
    """Changes as JSON data: odd and even parts along the named own steps, and along the random directions after them."""
    own = len(names)
    return {
        "before": changes.before,
        "own": {name: [float(changes.odd[place]), float(changes.even[place])] for place, name in enumerate(names)},
        "odd": changes.odd[own:].tolist(),
        "even": changes.even[own:].tolist(),
    }


def _cosine(vector: np.ndarray, other: np.ndarray) -> float:
    return float(vector @ other / (np.linalg.norm(vector) * np.linalg.norm(other)))


STUDY = Study(
    "hypergradient",
    "Which estimator of the hypergradient foretells the change of the validation loss?",
    CONFIG,
    QUICK,
    cells,
    prepare,
    tables,
    figures,
)
