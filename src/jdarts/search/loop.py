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
from jdarts.nets.supernet import supernet_compiler_options
from jdarts.report import draw_cells, draw_curves, read_metrics
from jdarts.runs import CompiledPrograms, EpochRun, Interruption, RunFolder, processes, run
from jdarts.runs.devices import Devices, check_share
from jdarts.runs.images import check_augmentation
from jdarts.runs.memory import Saving, saved_by_estimator, saved_by_sharing, start_lines
from jdarts.runs.settings import named_after
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
      dataset: the images, where they are not one of `jdarts.data.NAMES`; its name then stands in place of
        `config.dataset`.
      stream: where progress is shown; standard output by default.
      programs: compiled functions to share with other searches of this process.

    Returns:
      The result.

    Raises:
      InputError: settings, data or folder do not fit, the disk is full, or a loss is not finite.
      Interrupted: SIGINT or SIGTERM came; the state was saved first.
    """

    config = named_after(config, dataset, data.ImageDataset)
    images = functools.cache(lambda: dataset or data.load(config.dataset, config.data_dir))

    def begin(folder: RunFolder, interruption: Interruption) -> SearchRun:
        # Devices that are not there are refused before the data are read.
        devices = Devices(config.devices, config.parallel)
        check_share(config.batch_size, devices.count, "--batch-size")
        return SearchRun(config, images(), devices, folder, interruption, stream, programs)

    return run(
        config,
        begin,
        fingerprint=lambda: images().fingerprint,
        finished=summary.read,
        noun=SearchRun.noun,
        stream=stream,
    )


class SearchRun(EpochRun[SearchState]):
    """One process's share of a search; several of them may share their images."""

    noun = "search"
    shown = (*AVERAGED, "learning_rate", "alphas/entropy")

    def __init__(
        self,
        config: SearchConfig,
        dataset: data.ImageDataset,
        devices: Devices,
        folder: RunFolder,
        interruption: Interruption,
        stream: TextIO | None,
        programs: CompiledPrograms | None,
        images: SearchImages | None = None,
    ) -> None:
        self.config = config
        self.dataset = dataset
        self.devices = devices
        self.images = images or SearchImages(config, dataset, devices)
        self.augmentation = dataset.augmentation.changed(padding=config.padding, flip=config.flip, cutout=config.cutout)
        check_augmentation(self.augmentation, dataset.image_shape)
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
        super().__init__(
            config,
            folder,
            interruption,
            fingerprint=self.images.fingerprint,
            steps_per_epoch=steps,
            stream=stream,
            programs=programs,
        )

    def shapes(self) -> SearchState:
        """Shapes and types of the state."""
        return jax.eval_shape(self.program.init, _SEED)

    def start(self) -> SearchState:
        """The state of the seed."""
        return self.functions["init"](np.uint32(self.config.seed))

    def load(self, template: SearchState) -> SearchState:
        """The state of `latest`, whole on every device."""
        assert self.latest is not None
        return self.devices.load(self.latest, template)

    def opening(self, template: SearchState) -> str:
        """What a new search says at its start."""
        weights = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(template.bilevel.weights))
        cells = f"{self.config.cells} cell{'s' if self.config.cells > 1 else ''}"
        return (
            f"searching on {self.config.dataset}: {len(self.images.train):,} images for the weights, "
            f"{len(self.images.valid):,} for the alphas; {cells}, {weights:,} weights, hypergradient "
            f"{self.config.hypergradient}"
        )

    def program_key(self) -> Hashable:
        """Everything but the seed."""
        settings = json.dumps({**self.config.to_json(), "seed": None, "remat": self.config.remat}, sort_keys=True)
        dataset = (self.dataset.mean, self.dataset.std, self.dataset.num_classes, self.augmentation)
        images = str(self.images.step_shapes()), len(self.images.train), len(self.images.valid)
        return self.noun, settings, dataset, images, self.devices.key

    def lowered(self, template: SearchState) -> dict[str, jax.stages.Lowered]:
        """The functions of the program."""
        split = not self.images.on_device
        state = self.devices.shapes(template, split=False)
        images, rows = self.images.step_shapes()
        images, rows = self.devices.shapes(images, split=split), self.devices.shapes(rows, split=True)
        scored = self.devices.shapes(self.images.evaluation_shapes(), split=True)
        step = self.devices.step(self.program.step, split=(split, True), donate=True)
        evaluate = self.devices.step(self.program.evaluate, split=(True, True, True))
        return {
            "init": self.devices.everywhere(self.program.init).lower(_SEED),
            "rows": self.devices.everywhere(self.program.rows).lower(
                state.data_key, jax.ShapeDtypeStruct((), jnp.int32)
            ),
            "step": step.lower(state, images, rows),
            "evaluate": evaluate.lower(state, *scored),
        }

    def compiler_options(self) -> dict[str, str | bool]:
        """Those of the network."""
        return supernet_compiler_options(remat=self.config.remat)

    def memory(self) -> list[str]:
        """The step's memory, and what would save some where it does not fit."""
        savings = memory_savings(self.config, self.devices.count)
        return start_lines(self.functions["step"], savings, devices=self.devices.own)

    def inputs(self, state: SearchState, epoch: int, first: int) -> Iterator[tuple[Images, Rows]]:
        """Images and rows of each step."""
        rows = self.functions["rows"](state.data_key, np.int32(epoch))
        if not self.images.on_device or not processes.alone():
            rows = jax.device_get(rows)
        for place in range(first, self.steps_per_epoch):
            yield self.images.step_inputs(rows, place)

    def evaluate(self, state: SearchState, epochs_ended: int) -> dict[str, float]:
        """Loss and accuracy on the alphas' half with running statistics, without augmentation."""

        def function(*batch: Any) -> Any:
            return self.functions["evaluate"](state, *self.devices.split([self.devices.share(each) for each in batch]))

        with self.display.pause("evaluating"):
            batches = self.images.evaluation_batches()
            loss, accuracy = self.means(function, batches, state=state, epochs_ended=epochs_ended)
        return {"evaluation/loss": float(loss), "evaluation/accuracy": float(accuracy)}

    def record(self, state: SearchState) -> dict[str, Any]:
        """What deriving a genotype needs."""
        return {
            "space": dataclasses.asdict(self.config.space),
            "alphas": {kind: alphas.tolist() for kind, alphas in _alphas(state).items()},
            "edges_per_node": self.config.edges_per_node,
        }

    def epoch_files(self, state: SearchState, epoch: int, evaluation: Mapping[str, float]) -> None:
        """Writes the genotype of the epoch."""
        self.folder.write_genotype(self._genotype(state), epoch)

    def close(self, state: SearchState, evaluation: Mapping[str, float]) -> Summary:
        """Writes genotype, drawings and summary."""
        genotype = self._genotype(state)
        if processes.leads():
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


#: Memory of the steps beside their state in GiB, by XLA's plan at the paper's size with batches of 64.
_OF_ESTIMATORS = {"exact": 12.2, "finite_difference": 5.1, "first_order": 4.5}


def memory_savings(config: SearchConfig, devices: int) -> list[Saving]:
    """Options that a search does not use yet, and that would save memory.

    Args:
      config: the settings.
      devices: how many share a batch.
    """
    savings: list[Saving] = []
    if not config.remat:
        # Kept are the outputs of all cells, and the maps inside of one at a time.
        savings.append(("--remat", min(1.0, 2 / config.cells)))
    share = config.batch_size // devices
    parts = next((n for n in range(2, share // 2 + 1) if share % (n * config.microbatches) == 0), None)
    if parts and share // (parts * config.microbatches) >= 2:
        savings.append((f"--microbatches {parts * config.microbatches}", 1 / parts))
    if config.precision == "float32" and config.hypergradient != "finite_difference":
        savings.append(("--precision bfloat16", 0.5))
    estimators = saved_by_estimator(config.hypergradient, _OF_ESTIMATORS)
    if config.precision == "bfloat16":
        estimators = [each for each in estimators if "finite_difference" not in each[0]]
    return [*savings, *estimators, *saved_by_sharing(config.batch_size, devices)]


_SEED = jax.ShapeDtypeStruct((), jnp.uint32)


def _alphas(state: SearchState) -> dict[str, np.ndarray]:
    return {kind: np.asarray(state.bilevel.alphas[kind]) for kind in CELL_KINDS}
