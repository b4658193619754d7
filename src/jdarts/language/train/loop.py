"""The training of a recurrent cell's language model, as a run of epochs."""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, TextIO

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.data.text import TextCorpus, load_text, segment_lengths
from jdarts.data.text.streams import sizes
from jdarts.language.reading import steps_per_pass, stream_of
from jdarts.language.run import LanguageRun, count_weights
from jdarts.language.settings import check_can_be_evaluated, check_holds_segment, table_rows, used_text
from jdarts.language.train import summary
from jdarts.language.train.config import LanguageTrainConfig
from jdarts.language.train.step import AVERAGED, TrainState, evaluated_weights, train_program
from jdarts.language.train.summary import LanguageTrainResult, Summary
from jdarts.report import draw_cells, draw_curves, read_metrics
from jdarts.runs import CompiledPrograms, Interruption, RunFolder, run
from jdarts.runs.devices import Devices
from jdarts.runs.settings import named_after


def train_language(
    config: LanguageTrainConfig,
    *,
    corpus: TextCorpus | None = None,
    stream: TextIO | None = None,
    programs: CompiledPrograms | None = None,
) -> LanguageTrainResult:
    """Trains a language model of a recurrent cell, or goes on with a training that was interrupted.

    The weights with the lowest validation loss are the result. The run's folder decides: a new one starts a run, one with
    checkpoints goes on after the newest whole one and ends with the same bits as an undisturbed run on the same kind of
    device, a finished one is only reported. The test text is read once, at the end, and chooses nothing.

    Args:
      config: the settings.
      corpus: the text, where it is not one that `jdarts.data.load_text` finds by name; its own name then stands in place
        of `config.dataset`.
      stream: where progress is shown; standard output by default.
      programs: compiled functions to share with other trainings of this process.

    Returns:
      The result.

    Raises:
      InputError: settings, text or folder do not fit, the disk is full, or losses are not finite again and again.
      Interrupted: SIGINT or SIGTERM came; the state was saved first.
    """
    config.check()
    config = named_after(config, corpus, TextCorpus)
    # The genotype itself in place of where it is found, which may change while the run goes on.
    config = dataclasses.replace(config, genotype=str(config.cell), run_dir=config.folder)

    text = functools.cache(lambda: used_text(config, corpus or load_text(config.dataset, config.data_dir)))

    def begin(folder: RunFolder, interruption: Interruption) -> _LanguageTraining:
        # Devices that are not there are refused before the text is read.
        devices = Devices(config.devices, config.parallel)
        return _LanguageTraining(config, text(), devices, folder, interruption, stream, programs)

    return run(
        config,
        begin,
        fingerprint=lambda: text().fingerprint,
        finished=summary.read,
        noun=_LanguageTraining.noun,
        stream=stream,
    )


class _LanguageTraining(LanguageRun[TrainState, LanguageTrainConfig]):
    """One process's share of a training."""

    noun = "training"
    shown = (*AVERAGED, "learning_rate", "averaged_steps")

    def __init__(
        self,
        config: LanguageTrainConfig,
        corpus: TextCorpus,
        devices: Devices,
        folder: RunFolder,
        interruption: Interruption,
        stream: TextIO | None,
        programs: CompiledPrograms | None,
    ) -> None:
        self.vocabulary = table_rows(config, corpus)
        self._returns_shown = 0
        self.sizes = sizes(bptt=config.bptt, varied=True)
        check_holds_segment(corpus, "train", batch_size=config.batch_size, bptt=config.bptt)
        self.words = stream_of(corpus.train, config.batch_size, size=self.sizes[-1], devices=devices)
        check_can_be_evaluated(config, corpus, "valid", "evaluation_batch_size")
        if config.test:
            for split in ("valid", "test"):
                check_can_be_evaluated(config, corpus, split, "test_batch_size")
        self.program = train_program(config, vocabulary=self.vocabulary, rows=self.words.rows)
        steps = steps_per_pass(self.words.rows, bptt=config.bptt)
        super().__init__(
            config,
            corpus,
            self.program.init,
            devices,
            folder,
            interruption,
            steps_per_epoch=steps,
            stream=stream,
            programs=programs,
        )

    def opening(self, template: TrainState) -> str:
        return (
            f"training on {self.corpus.name}: {len(self.corpus.train):,} words, {len(self.corpus.vocabulary):,} different "
            f"ones; {count_weights(template.weights):,} weights, {self.config.genotype}; a unigram model has a validation "
            f"perplexity of {self.unigram('valid'):.1f}"
        )

    def program_key(self) -> Hashable:
        settings = self.config.to_json()
        for name in ("seed", "epochs"):
            del settings[name]
        return self.noun, json.dumps(settings, sort_keys=True), self.vocabulary, self.words.rows, self.devices.key

    def lowered(self, template: TrainState) -> dict[str, jax.stages.Lowered]:
        number, flag = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.bool)
        end_epoch = self.devices.everywhere(self.program.end_epoch, donate=True)
        ended = template, jax.ShapeDtypeStruct((), jnp.float32)
        lowered = {
            "init": self.lowered_init(),
            "end_epoch": end_epoch.lower(*self.devices.shapes(ended, split=False)),
        }
        inputs = template, self.words.shape(), number, flag
        for size in self.sizes:
            step = self.devices.step(
                functools.partial(self.program.step, size=size), split=(False, False, False), donate=True
            )
            lowered[f"step {size}"] = step.lower(*self.devices.shapes(inputs, split=False))
        for batch in self._evaluation_batches():
            variables = {"params": template.weights}
            lowered[f"evaluate {batch}"] = self.lowered_evaluation(self.program.model, variables, None, batch)
        return lowered

    def _evaluation_batches(self) -> set[int]:
        every = {self.config.evaluation_batch_size}
        return every | {self.config.test_batch_size} if self.config.test else every

    def inputs(self, state: TrainState, epoch: int, first: int) -> Iterator[tuple[Any, ...]]:
        lengths = segment_lengths(self.config.seed, epoch, self.steps_per_epoch, bptt=self.config.bptt, varied=True)
        for place, length in enumerate(lengths[first:], first):
            yield self.words.words, length, np.bool(place == 0)

    def take_step(self, state: TrainState, inputs: tuple[Any, ...]) -> tuple[TrainState, Mapping[str, Any]]:
        """The step of the smallest compiled shape into which the segment fits."""
        size = next(size for size in self.sizes if inputs[1] <= size)
        return self.functions[f"step {size}"](state, *inputs)

    def largest_step(self) -> Callable[..., Any]:
        return self.functions[f"step {max(self.sizes)}"]

    def evaluate(self, state: TrainState, epochs_ended: int) -> dict[str, float]:
        """Loss and perplexity of the whole validation text, of the averaged weights where there are any."""
        weights = evaluated_weights(state)
        batch = self.config.evaluation_batch_size
        loss = self._loss(weights, self.corpus.valid, batch, state, epochs_ended, "evaluating")
        return {"valid/loss": loss, "valid/perplexity": _perplexity(loss)}

    def _loss(
        self, weights: Any, words: np.ndarray, batch: int, state: TrainState, epochs_ended: int, doing: str
    ) -> float:
        function = functools.partial(self.functions[f"evaluate {batch}"], {"params": weights}, None)
        return self.text_loss(function, words, batch, state, epochs_ended, doing)

    def end_epoch(self, state: TrainState, evaluation: Mapping[str, float]) -> TrainState:
        averaged, returns = bool(state.averaging), int(state.returns)
        state = self.functions["end_epoch"](state, np.float32(evaluation["valid/loss"]))
        if bool(state.averaging) and not averaged:
            self.display.message("the validation loss has stopped falling: weights are averaged from here on")
        if returns > self._returns_shown:
            self._returns_shown = returns
            self.display.message(f"something was not finite: back to the best weights, {returns} times so far")
        return state

    def record(self, state: TrainState) -> dict[str, Any]:
        return {
            "genotype": json.loads(self.config.cell.to_json()),
            "network": {"width": self.config.width, "vocabulary": self.vocabulary},
            "words": self.corpus.vocabulary,
        }

    def epoch_files(self, state: TrainState, epoch: int, evaluation: Mapping[str, float]) -> None:
        pass

    def close(self, state: TrainState, evaluation: Mapping[str, float]) -> Summary:
        batch, epochs = self.config.test_batch_size, self.config.epochs
        tested: dict[str, float | None] = {"valid": None, "test": None}
        if self.config.test:
            for split in tested:
                words = getattr(self.corpus, split)
                tested[split] = _perplexity(self._loss(state.best, words, batch, state, epochs, "testing"))
        with self.display.pause("drawing"):
            self.folder.write_genotype(self.config.cell)
            draw_cells(self.config.cell, self.folder.path)
            draw_curves(read_metrics(self.folder.path), self.folder.path / "curves.png")
        result = LanguageTrainResult(
            genotype=self.config.cell,
            weights=count_weights(state.weights),
            averaged=bool(state.averaging),
            returns=int(state.returns),
            best_perplexity=_perplexity(float(state.best_loss)),
            valid_perplexity=tested["valid"],
            test_perplexity=tested["test"],
            valid_unigram_perplexity=self.unigram("valid"),
            test_unigram_perplexity=self.unigram("test"),
            seconds=self.seconds(),
            folder=self.folder.path,
        )
        found = Summary(result, epochs, int(state.step))
        summary.write(found, self.folder)
        return found


def _perplexity(loss: float) -> float:
    return math.exp(min(loss, 700.0))
