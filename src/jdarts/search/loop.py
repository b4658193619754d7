"""A search from a configuration to a genotype, as a run of epochs."""

import dataclasses
import functools
import json
import math
from collections.abc import Hashable, Iterator, Mapping
from typing import Any, TextIO

import jax
import jax.numpy as jnp
import numpy as np

from jdarts import data
from jdarts.derivation import derive_genotype
from jdarts.genotype import Genotype
from jdarts.report import draw_cells, draw_curves, read_metrics
from jdarts.runs import CompiledPrograms, EpochRun, Interruption, RunFolder, run
from jdarts.search import summary
from jdarts.search.config import SearchConfig
from jdarts.search.images import SearchImages
from jdarts.search.step import AVERAGED, Images, Rows, SearchState, search_program
from jdarts.search.summary import SearchResult, Summary
from jdarts.space import CELL_KINDS


def search(
    config: SearchConfig,
    *,
    dataset: data.ImageDataset | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> SearchResult:
    """Searches for a pair of cells, or goes on with a search that was interrupted.

    The run's folder decides: a new one starts a run, one with checkpoints goes on after the newest whole one and ends
    with the same bits as an undisturbed run on the same kind of device, a finished one is only reported.

    Args:
      config: the settings.
      dataset: the images, where they are not one of `jdarts.data.NAMES`.
      stream: where progress is shown; standard output by default.
      programs: compiled functions to share with other searches of this process.

    Returns:
      The result.

    Raises:
      InputError: settings, data or folder do not fit, the disk is full, or a loss is not finite.
      Interrupted: SIGINT or SIGTERM came; the state was saved first.
    """

    def begin(folder: RunFolder, interruption: Interruption) -> _Search:
        images = dataset or data.load(config.dataset, config.data_dir)
        return _Search(config, images, folder, interruption, stream, programs)

    return run(config, begin, finished=summary.read, noun=_Search.noun, stream=stream)


class _Search(EpochRun[SearchState]):
    """One process's share of a search."""

    noun = "search"
    shown = (*AVERAGED, "learning_rate", "alphas/entropy")

    def __init__(
        self,
        config: SearchConfig,
        dataset: data.ImageDataset,
        folder: RunFolder,
        interruption: Interruption,
        stream: TextIO | None,
        programs: CompiledPrograms | None,
    ) -> None:
        self.config = config
        self.dataset = dataset
        self.images = SearchImages(config, dataset)
        self.augmentation = dataset.augmentation.changed(padding=config.padding, flip=config.flip, cutout=config.cutout)
        self.program = search_program(
            config,
            image_shape=dataset.image_shape,
            classes=dataset.num_classes,
            counts=(len(self.images.train), len(self.images.valid)),
            augmentation=self.augmentation,
            mean=dataset.mean,
            std=dataset.std,
        )
        steps = self.images.steps_per_epoch
        super().__init__(config, folder, interruption, steps_per_epoch=steps, stream=stream, programs=programs)

    def shapes(self) -> SearchState:
        return jax.eval_shape(self.program.init, _SEED)

    def start(self) -> SearchState:
        return self.functions["init"](np.uint32(self.config.seed))

    def opening(self, template: SearchState) -> str:
        weights = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(template.bilevel.weights))
        cells = f"{self.config.cells} cell{'s' if self.config.cells > 1 else ''}"
        return (
            f"searching on {self.config.dataset}: {len(self.images.train):,} images for the weights, "
            f"{len(self.images.valid):,} for the alphas; {cells}, {weights:,} weights, hypergradient "
            f"{self.config.hypergradient}"
        )

    def program_key(self) -> Hashable:
        settings = json.dumps({**self.config.to_json(), "seed": None}, sort_keys=True)
        dataset = (self.dataset.mean, self.dataset.std, self.dataset.num_classes, self.augmentation)
        return self.noun, settings, dataset, str(self.images.step_shapes()), len(self.images.valid)

    def lowered(self, template: SearchState) -> dict[str, jax.stages.Lowered]:
        return {
            "init": jax.jit(self.program.init).lower(_SEED),
            "rows": jax.jit(self.program.rows).lower(template.data_key, jax.ShapeDtypeStruct((), jnp.int32)),
            "step": jax.jit(self.program.step, donate_argnums=0).lower(template, *self.images.step_shapes()),
            "evaluate": jax.jit(self.program.evaluate).lower(template, *self.images.evaluation_shapes()),
        }

    def inputs(self, state: SearchState, epoch: int, first: int) -> Iterator[tuple[Images, Rows]]:
        rows = self.functions["rows"](state.data_key, np.int32(epoch))
        if not self.images.on_device:
            rows = jax.device_get(rows)
        for place in range(first, self.steps_per_epoch):
            yield self.images.step_inputs(rows, place)

    def evaluate(self, state: SearchState, epochs_ended: int) -> dict[str, float]:
        """Loss and accuracy on the alphas' half with running statistics, without augmentation."""
        function = functools.partial(self.functions["evaluate"], state)
        with self.display.pause("evaluating"):
            batches = self.images.evaluation_batches()
            loss, accuracy = self.means(function, batches, state=state, epochs_ended=epochs_ended)
        return {"evaluation/loss": float(loss), "evaluation/accuracy": float(accuracy)}

    def record(self, state: SearchState) -> dict[str, Any]:
        return {
            "space": dataclasses.asdict(self.config.space),
            "alphas": {kind: alphas.tolist() for kind, alphas in _alphas(state).items()},
            "edges_per_node": self.config.edges_per_node,
        }

    def epoch_files(self, state: SearchState, epoch: int, evaluation: Mapping[str, float]) -> None:
        self.folder.write_genotype(self._genotype(state), epoch)

    def close(self, state: SearchState, evaluation: Mapping[str, float]) -> Summary:
        genotype = self._genotype(state)
        with self.display.pause("drawing"):
            self.folder.write_genotype(genotype)
            draw_cells(genotype, self.folder.path, title=f"{self.config.dataset}, seed {self.config.seed}")
            draw_curves(read_metrics(self.folder.path), self.folder.path / "curves.png")
        result = SearchResult(genotype, _alphas(state), evaluation["evaluation/accuracy"], self.folder.path)
        found = Summary(result, self.config.epochs, int(state.step), self.seconds())
        summary.write(found, self.folder)
        return found

    def _genotype(self, state: SearchState) -> Genotype:
        return derive_genotype(_alphas(state), self.config.space, edges_per_node=self.config.edges_per_node)


_SEED = jax.ShapeDtypeStruct((), jnp.uint32)


def _alphas(state: SearchState) -> dict[str, np.ndarray]:
    return {kind: np.asarray(state.bilevel.alphas[kind]) for kind in CELL_KINDS}
