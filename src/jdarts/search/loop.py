"""The search loop: from a configuration to a genotype, with everything that a run leaves behind."""

import dataclasses
import importlib.metadata
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TextIO

import jax
import jax.numpy as jnp
import numpy as np

from jdarts import checkpoint, data
from jdarts.derivation import derive_genotype
from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.report import MetricsLog, Progress, draw_cells, draw_curves, read_metrics
from jdarts.search import summary
from jdarts.search.config import SearchConfig
from jdarts.search.images import SearchImages
from jdarts.search.interruption import Interruption
from jdarts.search.run_folder import RunFolder
from jdarts.search.step import AVERAGED, Rows, SearchProgram, SearchState, search_program
from jdarts.search.summary import SearchResult, Summary
from jdarts.space import CELL_KINDS

#: What the live display shows of a step's metrics.
_SHOWN = (*AVERAGED, "learning_rate", "alphas/entropy")
_PACKAGES = ("jdarts", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def search(
    config: SearchConfig, *, dataset: data.ImageDataset | None = None, stream: TextIO | None = None
) -> SearchResult:
    """Searches for a pair of cells, or goes on with a search that was interrupted.

    The run's folder decides: a new one starts a run, one with checkpoints goes on after the newest whole one and ends
    with the same bits as an undisturbed run on the same kind of device, a finished one is only reported.

    Args:
      config: the settings.
      dataset: the images, where they are not one of `jdarts.data.NAMES`.
      stream: where progress is shown; standard output by default.

    Returns:
      The result.

    Raises:
      InputError: settings, data or folder do not fit, the disk is full, or a loss is not finite.
      Interrupted: SIGINT or SIGTERM came; the state was saved first.
    """
    config.check()
    settings = config.to_json()
    folder = RunFolder(config.folder)
    folder.check(settings)
    if folder.summary.exists():
        finished = summary.read(folder)
        for line in (
            f"{folder.path} has finished; another --run-dir or --seed starts another search",
            *finished.lines(),
        ):
            print(line, file=stream)
        return finished.result
    with Interruption() as interruption:
        with interruption.stoppable():
            dataset = dataset or data.load(config.dataset, config.data_dir)
            images = SearchImages(config, dataset)
        with folder.taken(settings):
            return _Run(config, dataset, images, folder, interruption, stream).go()


class _Functions(NamedTuple):
    """Compiled functions, as `SearchProgram` describes them."""

    init: Callable[[], SearchState]
    rows: Callable[..., Rows]
    step: Callable[..., tuple[SearchState, dict[str, jax.Array]]]
    evaluate: Callable[..., tuple[jax.Array, jax.Array]]


class _Run:
    """One process's share of a run."""

    def __init__(
        self,
        config: SearchConfig,
        dataset: data.ImageDataset,
        images: SearchImages,
        folder: RunFolder,
        interruption: Interruption,
        stream: TextIO | None,
    ) -> None:
        self.config = config
        self.images = images
        self.folder = folder
        self.interruption = interruption
        self.steps_per_epoch = images.steps_per_epoch
        self.program: SearchProgram = search_program(
            config,
            image_shape=dataset.image_shape,
            classes=dataset.num_classes,
            counts=(len(images.train), len(images.valid)),
            augmentation=_augmentation(config, dataset.augmentation),
            mean=dataset.mean,
            std=dataset.std,
        )
        self.skipped: list[str] = []
        self.latest = checkpoint.newest(folder.checkpoints, self.skipped)
        self.started = self.last_save = time.monotonic()
        self.display = Progress(
            epochs=config.epochs,
            steps_per_epoch=self.steps_per_epoch,
            batch_size=config.batch_size,
            first_step=self.latest.step if self.latest else 0,
            stream=stream,
        )

    def go(self) -> SearchResult:
        with self.display, MetricsLog(self.folder.path, after_step=self.latest.step if self.latest else 0) as log:
            for text in self.skipped:
                self.display.message(f"skipped: {text}")
            checkpoint.remove_half_written(self.folder.checkpoints)
            template = jax.eval_shape(lambda: self.program.init(self.config.seed))
            self.display.message(self._opening(template))
            functions = self._compiled(template)
            state = checkpoint.load(self.latest, template) if self.latest else functions.init()
            loss, accuracy = math.nan, math.nan
            ended = self.latest.record["epochs_ended"] if self.latest else 0
            for epoch in range(ended, self.config.epochs):
                state = self._steps(state, epoch, functions, log)
                loss, accuracy = self._evaluation(state, epoch, functions)
                self._end_epoch(state, epoch, loss, accuracy, log)
            if ended == self.config.epochs:
                loss, accuracy = self._evaluation(state, ended, functions)
            with self.display.pause("drawing"):
                found = self._close(state, accuracy)
            for line in found.lines():
                self.display.message(line)
            return found.result

    def _opening(self, template: SearchState) -> str:
        path = self.folder.path
        if self.latest:
            return f"going on with {path} after step {self.latest.step:,}"
        weights = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(template.bilevel.weights))
        again = "no whole checkpoint is left, so the run starts from the beginning: " if self.skipped else ""
        cells = f"{self.config.cells} cell{'s' if self.config.cells > 1 else ''}"
        return (
            f"{again}searching on {self.config.dataset}: {len(self.images.train):,} images for the weights, "
            f"{len(self.images.valid):,} for the alphas; {cells}, {weights:,} weights, hypergradient "
            f"{self.config.hypergradient}; run folder {path}"
        )

    def _compiled(self, template: SearchState) -> _Functions:
        with self.display.waiting("compiling the step"):
            with self.interruption.stoppable():
                lowered = (
                    jax.jit(self.program.init, static_argnums=0).lower(self.config.seed),
                    jax.jit(self.program.rows).lower(template.data_key, jax.ShapeDtypeStruct((), jnp.int32)),
                    jax.jit(self.program.step, donate_argnums=0).lower(template, *self.images.step_shapes()),
                    jax.jit(self.program.evaluate).lower(template, *self.images.evaluation_shapes()),
                )
            return _Functions(*self.interruption.wait_for(lambda: [each.compile() for each in lowered]))

    def _steps(self, state: SearchState, epoch: int, functions: _Functions, log: MetricsLog) -> SearchState:
        """The steps of an epoch that are still to be done."""
        rows = functions.rows(state.data_key, np.int32(epoch))
        if not self.images.on_device:
            rows = jax.device_get(rows)
        end = (epoch + 1) * self.steps_per_epoch
        for number in range(int(state.bilevel.step), end):
            place = number % self.steps_per_epoch
            state, metrics = functions.step(state, *self.images.step_inputs(rows, place))
            done = number + 1
            values = None
            if done % self.config.log_every == 0 or place == 0 or done == end:
                values = {name: float(value) for name, value in jax.device_get(metrics).items()}
                self._check_finite(state)
                log.write(done, values)
            self.display.step(done, None if values is None else {name: values[name] for name in _SHOWN})
            self._stop_if_asked(state, epoch)
            # The end of the epoch saves by itself.
            if done < end and time.monotonic() - self.last_save >= 60 * self.config.checkpoint_minutes:
                with self.display.pause("saving"):
                    self._save(state, epoch)
        return state

    def _evaluation(self, state: SearchState, epoch: int, functions: _Functions) -> tuple[float, float]:
        """Loss and accuracy on the alphas' half with running statistics, without augmentation."""
        self._check_finite(state)
        loss, right = 0.0, 0.0
        with self.display.pause("evaluating"):
            for batch in self.images.evaluation_batches():
                losses, hits = jax.device_get(functions.evaluate(state, *batch))
                loss, right = loss + float(losses), right + float(hits)
                self._stop_if_asked(state, epoch)
        return loss / len(self.images.valid), right / len(self.images.valid)

    def _end_epoch(self, state: SearchState, epoch: int, loss: float, accuracy: float, log: MetricsLog) -> None:
        sums = jax.device_get(state.sums)
        means = {name: float(sums[name]) / self.steps_per_epoch for name in AVERAGED}
        record = {f"epoch/{name.replace('/', '_')}": value for name, value in means.items()}
        record |= {"epoch/number": epoch + 1, "epoch/evaluation_loss": loss, "epoch/evaluation_accuracy": accuracy}
        # A process that ended between this record and the checkpoint below has left the record behind.
        if not any(earlier.get("epoch/number") == epoch + 1 for earlier in read_metrics(self.folder.path)):
            log.write((epoch + 1) * self.steps_per_epoch, record)
        self.folder.write_genotype(self._genotype(state), epoch + 1)
        with self.display.pause("saving"):
            path = self._save(state, epoch + 1)
        self.display.epoch_end(epoch + 1, {**means, "evaluation/loss": loss, "evaluation/accuracy": accuracy})
        self._stop_if_asked(state, epoch + 1, saved=path)

    def _stop_if_asked(self, state: SearchState, epochs_ended: int, saved: Path | None = None) -> None:
        """Saves, says so and raises `Interrupted` if a signal has come."""
        if self.interruption.signal is not None:
            path = saved or self._save(state, epochs_ended)
            self.display.message(f"saved {path}; the same command goes on from there")
            self.interruption.check()

    def _save(self, state: SearchState, epochs_ended: int) -> Path:
        self._check_finite(state)
        record = {
            "format": 1,
            "epochs_ended": epochs_ended,
            "seconds": self._seconds(),
            "config": self.config.to_json(),
            "space": dataclasses.asdict(self.config.space),
            "alphas": {kind: alphas.tolist() for kind, alphas in _alphas(state).items()},
            "edges_per_node": self.config.edges_per_node,
            "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        }
        step = int(state.bilevel.step)
        path = checkpoint.save(self.folder.checkpoints, step, state, record, keep=self.config.keep_checkpoints)
        self.last_save = time.monotonic()
        return path

    def _seconds(self) -> float:
        """Time that the run has taken, the shares of earlier processes included."""
        earlier = self.latest.record["seconds"] if self.latest else 0.0
        return earlier + time.monotonic() - self.started

    def _check_finite(self, state: SearchState) -> None:
        step = int(state.not_finite_at)
        if step > 0:
            kept = checkpoint.newest(self.folder.checkpoints, [])
            last = f"the last good checkpoint is {kept.path}" if kept else "there is no checkpoint yet"
            raise InputError(
                f"a loss, a gradient or a weight was not finite at step {step} (epoch "
                f"{(step - 1) // self.steps_per_epoch + 1}); the search has stopped, {last}. Start another --run-dir "
                "with a lower --learning-rate or --clip"
            )

    def _genotype(self, state: SearchState) -> Genotype:
        return derive_genotype(_alphas(state), self.config.space, edges_per_node=self.config.edges_per_node)

    def _close(self, state: SearchState, accuracy: float) -> Summary:
        genotype = self._genotype(state)
        self.folder.write_genotype(genotype)
        draw_cells(genotype, self.folder.path, title=f"{self.config.dataset}, seed {self.config.seed}")
        draw_curves(read_metrics(self.folder.path), self.folder.path / "curves.png")
        result = SearchResult(genotype, _alphas(state), accuracy, self.folder.path)
        found = Summary(result, self.config.epochs, int(state.bilevel.step), self._seconds())
        summary.write(found, self.folder)
        return found


def _alphas(state: SearchState) -> dict[str, np.ndarray]:
    return {kind: np.asarray(state.bilevel.alphas[kind]) for kind in CELL_KINDS}


def _augmentation(config: SearchConfig, default: data.Augmentation) -> data.Augmentation:
    return data.Augmentation(
        padding=default.padding if config.padding is None else config.padding,
        flip=default.flip if config.flip is None else config.flip,
        cutout=config.cutout,
    )
