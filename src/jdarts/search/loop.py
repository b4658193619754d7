"""The search loop: from a configuration to a genotype, with everything that a run leaves behind."""

import dataclasses
import importlib.metadata
import json
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import jax
import jax.numpy as jnp
import numpy as np

from jdarts import checkpoint, data
from jdarts.derivation import derive_genotype
from jdarts.errors import InputError
from jdarts.genotype import Genotype, parse_genotype
from jdarts.nets.supernet import check_image_size
from jdarts.report import MetricsLog, Progress, draw_cells, draw_curves, duration, read_metrics
from jdarts.search import run_folder
from jdarts.search.config import SearchConfig
from jdarts.search.interruption import Interruption
from jdarts.search.run_folder import RunFolder
from jdarts.search.step import AVERAGED, Images, Rows, SearchProgram, SearchState, search_program
from jdarts.space import CELL_KINDS

_PACKAGES = ("jdarts", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


class SearchResult(NamedTuple):
    """What a search has found.

    Attributes:
      genotype: the discrete cells.
      alphas: architecture parameters at the end, `{'normal': [E, O], 'reduce': [E, O]}`.
      valid_accuracy: of the supernet on the alphas' half without augmentation, with running statistics, 0 to 1.
      folder: the run's folder.
    """

    genotype: Genotype
    alphas: Mapping[str, np.ndarray]
    valid_accuracy: float
    folder: Path


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
    with Interruption() as interruption, run_folder.opened(config.folder, config.to_json()) as folder:
        if folder.summary.exists():
            return _finished(folder, stream)
        dataset = dataset or data.load(config.dataset, config.data_dir)
        run = _Run(config, dataset, folder, interruption)
        return run.go(stream)


class _Run:
    """One process's share of a run."""

    def __init__(
        self, config: SearchConfig, dataset: data.ImageDataset, folder: RunFolder, interruption: Interruption
    ) -> None:
        self.config = config
        self.folder = folder
        self.interruption = interruption
        self.train, self.valid = data.halves(dataset.train, fraction=config.train_fraction)
        _check_fits(config, dataset, self.train, self.valid)
        self.steps_per_epoch = len(self.train) // config.batch_size
        self.program: SearchProgram = search_program(
            config,
            image_shape=dataset.image_shape,
            classes=dataset.num_classes,
            counts=(len(self.train), len(self.valid)),
            augmentation=_augmentation(config, dataset.augmentation),
            mean=dataset.mean,
            std=dataset.std,
        )
        self.on_device = _images_fit(config, self.train, self.valid)
        whole = Images(self.train.images, self.train.labels, self.valid.images, self.valid.labels)
        self.images = jax.device_put(whole) if self.on_device else whole
        self.last_save = time.monotonic()

    def go(self, stream: TextIO | None) -> SearchResult:
        skipped: list[str] = []
        latest = checkpoint.newest(self.folder.checkpoints, skipped)
        state = self._compiled_state(latest)
        first_step = int(state.bilevel.step)
        display = Progress(
            epochs=self.config.epochs,
            steps_per_epoch=self.steps_per_epoch,
            batch_size=self.config.batch_size,
            first_step=first_step,
            stream=stream,
        )
        with display, MetricsLog(self.folder.path, after_step=first_step) as log:
            for message in skipped:
                display.message(f"skipped: {message}")
            checkpoint.remove_half_written(self.folder.checkpoints)
            display.message(self._opening(state, latest))
            return self._epochs(state, display, log)

    def _compiled_state(self, latest: checkpoint.Checkpoint | None) -> SearchState:
        """The state to go on from: a checkpoint's, or a new one."""
        init = jax.jit(self.program.init, static_argnums=0)
        if latest is None:
            return self.interruption.wait_for(lambda: jax.block_until_ready(init(self.config.seed)))
        return checkpoint.load(latest, jax.eval_shape(lambda: init(self.config.seed)))

    def _opening(self, state: SearchState, latest: checkpoint.Checkpoint | None) -> str:
        if latest is not None:
            return f"going on with {self.folder.path} after step {latest.step}"
        weights = sum(leaf.size for leaf in jax.tree.leaves(state.bilevel.weights))
        return (
            f"searching on {self.config.dataset}: {len(self.train):,} images for the weights, {len(self.valid):,} for the "
            f"alphas; {self.config.cells} cells, {weights:,} weights, hypergradient {self.config.hypergradient}; "
            f"run folder {self.folder.path}"
        )

    def _epochs(self, state: SearchState, display: Progress, log: MetricsLog) -> SearchResult:
        step, evaluate = self._compile(state, display)
        first = int(state.bilevel.step)
        accuracy = 0.0
        for epoch in range(first // self.steps_per_epoch, self.config.epochs):
            started = max(first, epoch * self.steps_per_epoch)
            state = self._one_epoch(state, epoch, started, step, display, log)
            with display.pause("evaluating"):
                accuracy = self._end_of_epoch(state, epoch, evaluate, display, log)
        if first >= self.config.epochs * self.steps_per_epoch:
            accuracy = self._evaluate(state, evaluate)[1]
        with display.pause("drawing"):
            return self._close(state, accuracy, display)

    def _compile(self, state: SearchState, display: Progress) -> tuple[Callable[..., Any], Callable[..., Any]]:
        batch = self.config.batch_size
        index = jax.ShapeDtypeStruct((batch,), jnp.int32)
        images = jax.eval_shape(lambda: self.images) if self.on_device else _batch_of(self.images, batch)
        pixels = jax.ShapeDtypeStruct((batch, *self.valid.images.shape[1:]), jnp.uint8)
        flags = jax.ShapeDtypeStruct((batch,), jnp.bool)
        step = jax.jit(self.program.step, donate_argnums=0)
        evaluate = jax.jit(self.program.evaluate)
        with display.waiting("compiling the step"):
            return self.interruption.wait_for(
                lambda: (
                    step.lower(state, images, Rows(index, index)).compile(),
                    evaluate.lower(state, pixels, index, flags).compile(),
                )
            )

    def _one_epoch(
        self,
        state: SearchState,
        epoch: int,
        started: int,
        step: Callable[..., Any],
        display: Progress,
        log: MetricsLog,
    ) -> SearchState:
        rows = jax.jit(self.program.rows)(state.data_key, jnp.int32(epoch))
        if not self.on_device:
            rows = jax.device_get(rows)
        for number in range(started, (epoch + 1) * self.steps_per_epoch):
            place = number % self.steps_per_epoch
            chosen = Rows(rows.train[place], rows.valid[place])
            state, metrics = step(state, *self._step_inputs(chosen))
            done = number + 1
            values = None
            if done % self.config.log_every == 0 or number == started or place == self.steps_per_epoch - 1:
                values = {name: float(value) for name, value in jax.device_get(metrics).items()}
                self._check_finite(state)
                log.write(done, values)
            display.step(done, values)
            self._save_when_due(state, epoch, display)
        return state

    def _step_inputs(self, chosen: Rows) -> tuple[Images, Rows]:
        if self.on_device:
            return self.images, chosen
        batch = self.config.batch_size
        arange = jnp.arange(batch, dtype=jnp.int32)
        train, valid = self.train[np.asarray(chosen.train)], self.valid[np.asarray(chosen.valid)]
        return jax.device_put(Images(*train, *valid)), Rows(arange, arange)

    def _save_when_due(self, state: SearchState, epoch: int, display: Progress) -> None:
        interrupted = self.interruption.signal is not None
        due = time.monotonic() - self.last_save >= 60 * self.config.checkpoint_minutes
        if not (interrupted or due):
            return
        with display.pause("saving"):
            path = self._save(state, epoch)
        if interrupted:
            display.message(f"saved {path}; the same command goes on from there")
            self.interruption.check()

    def _save(self, state: SearchState, epoch: int) -> Path:
        self._check_finite(state)
        step = int(state.bilevel.step)
        alphas = jax.device_get(state.bilevel.alphas)
        record = {
            "format": 1,
            "epoch": epoch,
            "config": self.config.to_json(),
            "space": dataclasses.asdict(self.config.space),
            "alphas": {kind: alphas[kind].tolist() for kind in CELL_KINDS},
            "edges_per_node": self.config.edges_per_node,
            "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        }
        path = checkpoint.save(self.folder.checkpoints, step, state, record, keep=self.config.keep_checkpoints)
        self.last_save = time.monotonic()
        return path

    def _check_finite(self, state: SearchState) -> None:
        step = int(state.not_finite_at)
        if step > 0:
            kept = checkpoint.newest(self.folder.checkpoints, [])
            last = f"the last good checkpoint is {kept.path}" if kept else "there is no checkpoint yet"
            raise InputError(
                f"the loss or a gradient was not finite at step {step} (epoch {(step - 1) // self.steps_per_epoch + 1}); "
                f"the search has stopped, {last}. Lower --learning-rate or --clip in a new --run-dir"
            )

    def _end_of_epoch(
        self, state: SearchState, epoch: int, evaluate: Callable[..., Any], display: Progress, log: MetricsLog
    ) -> float:
        self._check_finite(state)
        loss, accuracy = self._evaluate(state, evaluate)
        sums = jax.device_get(state.sums)
        means = {name: float(sums[name]) / self.steps_per_epoch for name in AVERAGED}
        done = (epoch + 1) * self.steps_per_epoch
        record = {f"epoch/{name.replace('/', '_')}": value for name, value in means.items()}
        record |= {"epoch/number": epoch + 1, "epoch/evaluation_loss": loss, "epoch/evaluation_accuracy": accuracy}
        log.write(done, record)
        self.folder.write_genotype(self._genotype(state), epoch + 1)
        self._save(state, epoch)
        display.epoch_end(epoch + 1, {**means, "evaluation/loss": loss, "evaluation/accuracy": accuracy})
        return accuracy

    def _evaluate(self, state: SearchState, evaluate: Callable[..., Any]) -> tuple[float, float]:
        """Loss and accuracy on the alphas' half with running statistics, without augmentation."""
        totals = [evaluate(state, *batch) for batch in _padded_batches(self.valid, self.config.batch_size)]
        loss, right = np.sum(jax.device_get(totals), axis=0)
        return float(loss) / len(self.valid), float(right) / len(self.valid)

    def _genotype(self, state: SearchState) -> Genotype:
        alphas = jax.device_get(state.bilevel.alphas)
        return derive_genotype(alphas, self.config.space, edges_per_node=self.config.edges_per_node)

    def _close(self, state: SearchState, accuracy: float, display: Progress) -> SearchResult:
        genotype = self._genotype(state)
        alphas = jax.device_get(state.bilevel.alphas)
        self.folder.write_genotype(genotype)
        draw_cells(genotype, self.folder.path, title=f"{self.config.dataset}, seed {self.config.seed}")
        records = read_metrics(self.folder.path)
        draw_curves(records, self.folder.path / "curves.png")
        summary = {
            "genotype": json.loads(genotype.to_json()),
            "valid_accuracy": accuracy,
            "steps": int(state.bilevel.step),
            "epochs": self.config.epochs,
            "seconds": records[-1]["time"] - records[0]["time"] if records else 0.0,
            "alphas": {kind: alphas[kind].tolist() for kind in CELL_KINDS},
        }
        self.folder.write(run_folder.SUMMARY, json.dumps(summary, indent=1) + "\n")
        for line in _summary_lines(summary, self.folder):
            display.message(line)
        return SearchResult(genotype, alphas, accuracy, self.folder.path)


def _finished(folder: RunFolder, stream: TextIO | None) -> SearchResult:
    try:
        summary = json.loads(folder.summary.read_text(encoding="utf-8"))
        genotype = parse_genotype(json.dumps(summary["genotype"]))
        alphas = {kind: np.asarray(summary["alphas"][kind]) for kind in CELL_KINDS}
        accuracy = float(summary["valid_accuracy"])
        lines = _summary_lines(summary, folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder.summary} cannot be read ({error}); remove it to end the run again") from None
    print(f"{folder.path} has finished; another --run-dir or --seed starts another search", file=stream)
    for line in lines:
        print(line, file=stream)
    return SearchResult(genotype, alphas, accuracy, folder.path)


def _summary_lines(summary: Mapping[str, Any], folder: RunFolder) -> list[str]:
    genotype = parse_genotype(json.dumps(summary["genotype"]))
    return [
        f"finished: {summary['epochs']} epochs, {summary['steps']:,} steps in {duration(summary['seconds'])}",
        f"validation accuracy of the supernet: {100 * summary['valid_accuracy']:.2f} %",
        f"genotype: {genotype}",
        f"drawings: {folder.path}/normal.svg, {folder.path}/reduce.svg (and .png); curves: {folder.path}/curves.png",
        f"derive again at any time: python -m jdarts.derive {folder.path}",
    ]


def _check_fits(
    config: SearchConfig, dataset: data.ImageDataset, train: data.ImageSplit, valid: data.ImageSplit
) -> None:
    for option, split in (("weights", train), ("alphas", valid)):
        if len(split) < config.batch_size:
            raise InputError(
                f"--batch-size is {config.batch_size}, but the half of {config.dataset} that trains the {option} has "
                f"{len(split)} images; give {len(split)} or less"
            )
    check_image_size(*dataset.image_shape[:2], config.cells)


def _augmentation(config: SearchConfig, default: data.Augmentation) -> data.Augmentation:
    return data.Augmentation(
        padding=default.padding if config.padding is None else config.padding,
        flip=default.flip if config.flip is None else config.flip,
        cutout=config.cutout,
    )


def _images_fit(config: SearchConfig, *splits: data.ImageSplit) -> bool:
    if config.images_on != "auto":
        return config.images_on == "device"
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit is None or 4 * sum(split.images.nbytes for split in splits) <= limit


def _batch_of(images: Images, batch: int) -> Images:
    """Shapes of the images of one step."""
    return Images(*(jax.ShapeDtypeStruct((batch, *array.shape[1:]), array.dtype) for array in images))


def _padded_batches(split: data.ImageSplit, batch: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of one size; the last is filled up with image 0, and a mask says which images count."""
    for start in range(0, len(split), batch):
        index = np.arange(start, start + batch)
        mask = index < len(split)
        yield *split[np.where(mask, index, 0)], mask
