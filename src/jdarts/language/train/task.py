"""The task of a training on text, and the one place that builds it from a configuration."""

import dataclasses
import functools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.data.text import TextCorpus, segment_lengths
from jdarts.data.text.streams import compiled_sizes
from jdarts.genotype import RecurrentGenotype
from jdarts.language.settings import check_can_be_evaluated, check_holds_segment, table_rows
from jdarts.language.shared import (
    evaluation_program,
    perplexity,
    text_evaluation,
    text_memory_options,
    unigram,
)
from jdarts.language.token_streams import TokenStream, steps_per_pass, token_stream
from jdarts.language.train.config import LanguageTrainConfig
from jdarts.language.train.step import AVERAGED, TrainProgram, TrainState, evaluated_weights, train_program
from jdarts.language.train.summary import LanguageTrainResult
from jdarts.language.train.surprises import SurpriseCounter
from jdarts.nets.counts import count_weights
from jdarts.nets.initial import shapes_of
from jdarts.runs.calls import Call
from jdarts.runs.devices import Devices
from jdarts.runs.epoch_steps import EpochSteps
from jdarts.runs.folder import SURPRISES
from jdarts.runs.task import SEED, End, Evaluation, Functions, Input, Program, Task


@dataclasses.dataclass(frozen=True, kw_only=True)
class LanguageTrainTask(Task[TrainState]):
    """A training on text.

    Attributes:
      corpus: the text.
      words: the training text on the devices.
      genotype: the cell.
      network: settings of the network besides the cell, for the record of a checkpoint.
      sizes: rows of the compiled segments, in ascending order.
      bptt: rows of a segment of usual length.
      columns: number of parallel columns in evaluations, after an epoch and at the end.
      evaluated: builds the evaluation of a text: `(doing, name, function, words, columns=…) -> Evaluation`.
      test: whether the network is tested at the end.
    """

    noun = "training"
    unit: str = "words"
    shown: tuple[str, ...] = (*AVERAGED, "learning_rate", "averaged_steps")

    corpus: TextCorpus
    words: TokenStream
    genotype: RecurrentGenotype
    network: Mapping[str, Any]
    sizes: tuple[int, ...]
    bptt: int
    columns: tuple[int, int]
    evaluated: Callable[..., Evaluation]
    test: bool

    def calls(self, functions: Functions, state: TrainState, epoch: int, first: int) -> Iterator[Call]:
        """The text, the length of each step's segment, and whether it is the first one of the epoch.

        The program of a step is that of the smallest compiled shape into which the segment fits.
        """
        lengths = segment_lengths(int(self.seed), epoch, self.steps_per_epoch, bptt=self.bptt, varied=True)
        for place, length in enumerate(lengths[first:], first):
            size = next(size for size in self.sizes if length <= size)
            yield Call(_step_name(size), (self.words.words, length, np.bool(place == 0)))

    def evaluations(self, functions: Functions, state: TrainState) -> Sequence[Evaluation]:
        """Loss and perplexity of the whole validation text, of the averaged weights where there are any."""
        weights, columns, words = evaluated_weights(state), self.columns[0], self.corpus.valid
        evaluation = self._evaluation(
            "evaluating", "valid/loss", functions, weights, words, program=_EVALUATE, columns=columns
        )

        def numbers(mean: np.ndarray) -> Mapping[str, float]:
            return {"valid/loss": float(mean), "valid/perplexity": perplexity(float(mean))}

        return (evaluation._replace(numbers=numbers),)

    def tests(self, functions: Functions, state: TrainState) -> Sequence[Evaluation]:
        """Losses of the best weights on the validation text and on the test text."""
        if not self.test:
            return ()
        texts = {split: getattr(self.corpus, split) for split in ("valid", "test")}
        surprises = SurpriseCounter("test text", self.corpus.vocabulary)
        evaluation = functools.partial(self._evaluation, "testing", program=_TEST, columns=self.columns[1])
        valid = evaluation("valid at the end", functions, state.best, texts["valid"])
        test = evaluation("test at the end", functions, state.best, texts["test"], answered=surprises.add)
        return valid, test._replace(files=lambda: {SURPRISES: surprises.record().to_json() + "\n"})

    def _evaluation(
        self,
        doing: str,
        name: str,
        functions: Functions,
        weights: Any,
        words: np.ndarray,
        *,
        program: str,
        columns: int,
        answered: Callable[..., None] | None = None,
    ) -> Evaluation:
        """The evaluation of a text; `answered` gets words, targets, mask and answers of each piece."""
        compiled = functools.partial(functions[program], {"params": weights}, None)

        def function(hidden: Any, *piece: np.ndarray) -> tuple[Any, Any]:
            total, hidden, *answers = compiled(hidden, *piece)
            if answered is not None:
                answered(*piece, *answers)
            return total, hidden

        return self.evaluated(doing, name, function, words, columns=columns)

    def after_epoch(self, functions: Functions, state: TrainState, numbers: Mapping[str, float]) -> TrainState:
        """Records the validation loss: updates the best weights, and may begin averaging."""
        return functions["end_epoch"](state, np.float32(numbers["valid/loss"]))

    def notes(self, state: TrainState) -> Mapping[str, Any]:
        """Whether weights are averaged, and how often they have returned to the best ones."""
        return {"averaging": bool(state.averaging), "returns": int(state.returns)}

    def messages(self, before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[str]:
        """Messages on the start of averaging and on returns to the best weights."""
        messages = []
        if after["averaging"] and not before["averaging"]:
            messages.append("the validation loss has stopped falling: averaging of the weights starts")
        if after["returns"] > before["returns"]:
            messages.append(f"a value was not finite: back to the best weights, {after['returns']} times so far")
        return messages

    def record(self, state: TrainState) -> dict[str, Any]:
        """Cell, network and words."""
        return {
            "genotype": json.loads(self.genotype.to_json()),
            "network": dict(self.network),
            "words": self.corpus.vocabulary,
        }

    def result(self, state: TrainState, numbers: Mapping[str, Any], end: End) -> LanguageTrainResult:
        """Perplexities of the best weights."""
        tested = {
            split: perplexity(numbers[f"{split} at the end"]) if self.test else None for split in ("valid", "test")
        }
        return LanguageTrainResult(
            genotype=self.genotype,
            weights=count_weights(state.weights),
            averaged=bool(state.averaging),
            returns=int(state.returns),
            best_perplexity=perplexity(float(state.best_loss)),
            valid_perplexity=tested["valid"],
            test_perplexity=tested["test"],
            valid_unigram_perplexity=unigram(self.corpus, "valid"),
            test_unigram_perplexity=unigram(self.corpus, "test"),
            seconds=end.seconds,
            folder=end.folder,
        )


def language_train_task(config: LanguageTrainConfig, corpus: TextCorpus, devices: Devices) -> LanguageTrainTask:
    """Builds the task of a training on text.

    Args:
      config: the settings.
      corpus: the text.
      devices: those that share the columns of a batch.

    Raises:
      InputError: a text that does not fit the settings.
    """
    vocabulary = table_rows(config, corpus)
    segment_rows = compiled_sizes(bptt=config.batches.bptt, varied=True)
    check_holds_segment(corpus, "train", batch_size=config.batches.batch_size, bptt=config.batches.bptt)
    words = token_stream(corpus.train, config.batches.batch_size, size=segment_rows[-1], devices=devices)
    check_can_be_evaluated(config, corpus, "valid", "evaluation_batch_size")
    if config.test:
        for split in ("valid", "test"):
            check_can_be_evaluated(config, corpus, split, "test_batch_size")
    program = train_program(config, vocabulary=vocabulary, rows=words.rows)
    template = shapes_of(program.init, SEED)
    settings = config.to_json()
    for name in ("seed", "epochs"):
        del settings[name]
    columns = (config.batches.evaluation_batch_size, config.test_batch_size)
    size: Any = {"bptt": config.batches.bptt, "width": config.width}
    evaluate = functools.partial(
        evaluation_program, program.model, {"params": template.weights}, None, devices=devices, **size
    )
    return LanguageTrainTask(
        corpus=corpus,
        words=words,
        genotype=config.cell,
        network={"width": config.width, "vocabulary": vocabulary},
        sizes=tuple(segment_rows),
        bptt=config.batches.bptt,
        columns=columns,
        evaluated=functools.partial(text_evaluation, **size),
        test=config.test,
        largest=_step_name(max(segment_rows)),
        options=config.loop,
        seed=np.uint32(config.run.seed),
        fingerprint=corpus.fingerprint,
        epoch_steps=EpochSteps.of_one_length(steps_per_pass(words.rows, bptt=config.batches.bptt)),
        units_per_step=config.batches.batch_size * config.batches.bptt,
        template=template,
        description=(
            f"training on {corpus.name}: {len(corpus.train):,} words, {len(corpus.vocabulary):,} different ones; "
            f"{count_weights(template.weights):,} weights, {config.genotype}; a unigram model has a validation perplexity of "
            f"{unigram(corpus, 'valid'):.1f}"
        ),
        key=(LanguageTrainTask.noun, json.dumps(settings, sort_keys=True), vocabulary, words.rows, devices.key),
        programs={
            **_programs(program, template, words, segment_rows),
            _EVALUATE: evaluate(columns=columns[0]),
            **({_TEST: evaluate(columns=columns[1], answers=True)} if config.test else {}),
        },
        memory_options=text_memory_options(
            (), batch_size=config.batches.batch_size, bptt=config.batches.bptt, devices=devices
        ),
        devices=devices,
    )


def _programs(
    program: TrainProgram, template: TrainState, words: TokenStream, segment_rows: Sequence[int]
) -> dict[str, Program]:
    number, flag = jax.ShapeDtypeStruct((), jnp.int32), jax.ShapeDtypeStruct((), jnp.bool)
    inputs = tuple(map(Input, (template, words.shape(), number, flag)))
    loss = Input(jax.ShapeDtypeStruct((), jnp.float32))
    steps = {
        _step_name(size): Program(functools.partial(program.step, size=size), inputs, "batch", donate=True)
        for size in segment_rows
    }
    end_epoch = Program(program.end_epoch, (Input(template), loss), donate=True, needed_for_first_step=False)
    return {"init": Program(program.init, (Input(SEED, split=None),)), **steps, "end_epoch": end_epoch}


def _step_name(size: int) -> str:
    return f"step {size}"


#: The programs that evaluate a text after an epoch and at the end, where its answers are looked at.
_EVALUATE, _TEST = "evaluate", "test"
