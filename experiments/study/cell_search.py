"""Searches in NAS-Bench-201's space through `jdarts.Choice`: from settings and a seed to the state after every epoch."""

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from nasbench201 import OPERATIONS, SearchNetwork

from jdarts.choice.deciding import decide
from jdarts.choice.tables import with_tables
from jdarts.data import ImageDataset
from jdarts.methods.method import Method
from jdarts.methods.presets import preset
from jdarts.methods.questions import Asking, R, Score, answered_together
from jdarts.relaxation import alphas_on_host, host_weights
from jdarts.runs.guards import CURVATURE
from jdarts.search import SearchConfig
from jdarts.search.building import program_from_config, search_images
from jdarts.search.images import SearchImages
from jdarts.search.own_network import OwnNetwork
from jdarts.search.own_task import network_on
from jdarts.search.program import SearchState
from jdarts.search.step import SearchProgram

from .cell_guards import EpochRecord
from .method_searches import short_search_config

#: The preset whose weights random cells train, one for each batch; a baseline proposes cells afterwards.
RANDOM_CELLS = "random_sharing"

#: What presets change in the cells of the supernet, which this network does not have.
_OF_CELLS: Mapping[str, Any] = {"partial_channels": 1, "search_drop_path": 0.0}

#: Options of XLA for a program that runs once for each search, so that its compilation is what it costs.
_RUNS_ONCE: dict[str, Any] = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

#: `{edge: [1, 5]}`, the weights of the operations.
Tables = Mapping[str, Any]


def search_settings(method: str, hypergradient: str, **others: Any) -> SearchConfig:
    """The settings of a search: those of the method's preset, on a budget that all methods share.

    Args:
      method: a preset that needs no cells, or `RANDOM_CELLS`.
      hypergradient: the estimator.
      **others: further arguments of `short_search_config`.

    Raises:
      InputError: there is no such method or estimator.
    """
    usual = preset(method)
    changes: dict[str, Any] = {name: value for name, value in _OF_CELLS.items() if name in usual}
    if method == RANDOM_CELLS:
        changes["decision_statistics"] = "batch"
    return short_search_config(f"{method}:{hypergradient}", **others, **changes)


class AfterEpoch(NamedTuple):
    """A search at the end of an epoch.

    Attributes:
      number: of the epoch, from 1.
      state: weights, alphas and all else.
      eigenvalue: the largest of the validation loss by the alphas; None where it is not measured.
      processor_seconds: of the steps of the epoch, on all cores.
    """

    number: int
    state: SearchState
    eigenvalue: float | None
    processor_seconds: float


class CellSearch:
    """The compiled programs of searches that differ in their seeds alone.

    Args:
      config: the settings; their seed does not count.
      dataset: the images.
      channels: of the first stage of the network.
      cells: of each of its stages.
      eigenvalues: whether the largest eigenvalue is measured after every epoch.
      score_images: images of the alphas' half that score a cell.

    Attributes:
      method: the search method.
      own: the network.
      eigenvalues: whether the largest eigenvalue is measured after every epoch.
      epochs: of a search.
      steps_per_epoch: of its weights.

    Raises:
      InputError: images that do not fit the settings.
    """

    def __init__(
        self,
        config: SearchConfig,
        dataset: ImageDataset,
        *,
        channels: int,
        cells: int,
        eigenvalues: bool,
        score_images: int,
    ) -> None:
        images = search_images(config, dataset)
        assert isinstance(images, SearchImages)
        self._images = images
        self.method: Method = config.search_method()
        self.own: OwnNetwork = network_on(config, SearchNetwork(channels, cells, dataset.num_classes), dataset)
        self.epochs, self.steps_per_epoch = config.loop.epochs, images.steps_per_epoch
        self.eigenvalues = eigenvalues
        program: SearchProgram = program_from_config(
            config,
            image_shape=dataset.image_shape,
            classes=dataset.num_classes,
            counts=(len(images.train), len(images.valid)),
            own=self.own,
            augmentation=config.augmentation.of(dataset.augmentation),
            mean=dataset.mean,
            std=dataset.std,
        )
        self._init, self._rows = jax.jit(program.init, compiler_options=_RUNS_ONCE), jax.jit(program.rows)
        self._steps = {
            "step": jax.jit(program.step, donate_argnums=0),
            "weights_step": jax.jit(program.weights_step, donate_argnums=0),
        }
        self._curvature = jax.jit(program.measures[CURVATURE])
        self._score = jax.jit(program.score)
        valid = images.valid
        self._score_images = max(1, min(score_images, len(valid)))
        self._scored = [
            (jnp.asarray(valid.images[first:end]), jnp.asarray(valid.labels[first:end]), np.ones(end - first, bool))
            for first in range(0, len(valid) - self._score_images + 1, self._score_images)
            for end in (first + self._score_images,)
        ]

    @property
    def score_batches(self) -> int:
        """Batches that the whole of the alphas' half has, of as many images as score a cell."""
        return len(self._scored)

    @property
    def images_per_score(self) -> int:
        """Images that score a cell."""
        return self._score_images

    def run(self, seed: int) -> Iterator[AfterEpoch]:
        """A search: its state after every epoch. The state of an epoch is gone once the next one begins.

        Args:
          seed: of all randomness of the search.
        """
        state = self._init(np.uint32(seed))
        for epoch in range(self.epochs):
            start = time.process_time()
            rows = self._rows(state.data_key, np.int32(epoch))
            inputs: Any = None
            calls = (range(index, index + 1) for index in range(self.steps_per_epoch))
            for index, inputs in enumerate(self._images.epoch(lambda rows=rows: rows, epoch, calls)):
                state, _ = self._steps[self._program(index, epoch)](state, *inputs)
            jax.block_until_ready(state)
            seconds = time.process_time() - start
            yield AfterEpoch(epoch + 1, state, self._eigenvalue(state, inputs), seconds)

    def _program(self, index: int, epoch: int) -> str:
        """The program of a step: a search without alphas never moves any."""
        return self.method.program(index, epoch) if self.method.mixture.has_alphas else "weights_step"

    def _eigenvalue(self, state: SearchState, inputs: Any) -> float | None:
        return float(self._curvature(state, *inputs)["guards/eigenvalue"]) if self.eigenvalues else None

    def choices(self, state: SearchState, never: Collection[str] = ()) -> dict[str, Any]:
        """The operation of each edge that the alphas choose; arguments as for `jdarts.decide`."""
        alphas = with_tables(self.own.choices, alphas_on_host(state.bilevel.alphas))
        return decide(alphas, mixture=self.method.mixture, never=never)

    def strengths(self, state: SearchState) -> dict[str, np.ndarray]:
        """Logarithms of the weights of the operations, `{edge: [1, 5]}`."""
        return self.method.mixture.strengths(alphas_on_host(state.bilevel.alphas), self.own.space)

    def record(self, after: AfterEpoch) -> EpochRecord:
        """What the guards read of an epoch."""
        weights, _ = host_weights(self.method.mixture, after.state.bilevel.alphas, self.own.space)
        rows = {name: table[0] for name, table in weights.items()}
        return EpochRecord(self.choices(after.state), rows, OPERATIONS, after.eigenvalue)

    def score(self, state: SearchState, tables: Tables, *, whole: bool = False) -> Score:
        """What the network reaches at given weights of its operations, with the statistics of the batch.

        Args:
          state: its weights.
          tables: of the operations.
          whole: whether all images of the alphas' half count that make whole batches, and not those of the first batch alone.
        """
        losses, right = 0.0, 0.0
        batches = self._scored if whole else self._scored[:1]
        for images, labels, mask in batches:
            loss, count = self._score(state, tables, images, labels, mask)
            losses, right = losses + float(loss), right + float(count)
        total = len(batches) * self._score_images
        return Score(right / total, losses / total)

    def one_hot(self, choices: Mapping[str, str]) -> dict[str, np.ndarray]:
        """The weights of the operations of a cell: 1 for those that it has, 0 for all others."""
        return {
            name: np.eye(len(names), dtype=np.float32)[[names.index(choices[name])]]
            for name, (names,) in self.own.space.tables
        }

    def accuracies(self, state: SearchState, cells: Sequence[Mapping[str, str]]) -> list[float]:
        """The accuracy of the shared weights with the operations of each cell alone."""
        return [self.score(state, self.one_hot(cell)).accuracy for cell in cells]

    def answered(self, asking: Asking[R], state: SearchState) -> R:
        """The result of a selection whose questions the shared weights answer."""

        def answer(questions: Sequence[Any]) -> Sequence[Score]:
            return [self.score(state, question.mixture, whole=question.whole) for question in questions]

        return answered_together([asking], answer)[0]
