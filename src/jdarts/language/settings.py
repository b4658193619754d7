"""The settings that searches and trainings on text share, and checks of a text."""

import abc
import dataclasses
from pathlib import Path
from typing import Annotated, Any

from jdarts.data.text import TextCorpus
from jdarts.errors import InputError
from jdarts.language.options import Dropout, OutputPenalties, TextBatches, TextData
from jdarts.runs.bounds import POSITIVE, WIDTH, option
from jdarts.runs.devices import check_share
from jdarts.runs.options import Loop, Parallelism, Run, WeightOptimizer
from jdarts.runs.settings import Configuration, as_json, flat


@dataclasses.dataclass(frozen=True, init=False)
class LanguageConfig(Configuration, abc.ABC):
    """Settings of every run on text.

    Attributes:
      width: size of the embedding, of the hidden state and of the cell's output.
      learning_rate: learning rate of the weights for a segment of full length; it is scaled by the length of each segment.
      text: the text.
      run: folder and seed.
      loop: epochs, logs and checkpoints.
      batches: columns and segments of the text.
      weights: the weights' optimiser.
      dropped: dropout in training.
      penalties: penalties on the outputs.
      parallelism: the devices.
    """

    width: Annotated[int, WIDTH] = 300
    learning_rate: Annotated[float, POSITIVE] = 20.0
    text: TextData = TextData()
    run: Run = Run()
    loop: Loop = Loop()
    batches: TextBatches = TextBatches()
    weights: WeightOptimizer = WeightOptimizer(momentum=0.0, weight_decay=5e-7, clip=0.25)
    dropped: Dropout = Dropout()
    penalties: OutputPenalties = OutputPenalties()
    parallelism: Parallelism = Parallelism()

    def check(self) -> None:
        """Checks every value that can be checked without the text.

        Raises:
          InputError: a value out of its range.
        """
        super().check()
        self.weights.check_use(WeightOptimizer(momentum=0.0), self.learning_rate)
        check_share(self.batches.batch_size, self.parallelism.devices, "--batch-size")

    @property
    @abc.abstractmethod
    def folder(self) -> Path:
        """The run's folder."""

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data."""
        return as_json(self)


def used_text(config: LanguageConfig, corpus: TextCorpus) -> TextCorpus:
    """The text with its training part shortened to `train_words`; the vocabulary stays."""
    return dataclasses.replace(corpus, train=corpus.train[: config.text.train_words])


def table_rows(config: LanguageConfig, corpus: TextCorpus) -> int:
    """Rows of the embedding table.

    Raises:
      InputError: the text has more different words than the table has rows.
    """
    words = len(corpus.vocabulary)
    if config.text.vocabulary is not None and words > config.text.vocabulary:
        raise InputError(
            f"--vocabulary is {config.text.vocabulary:,}, but {corpus.name} has {words:,} different words; give {words} or "
            "more, or leave it out, or put <unk> in place of rare words in the files"
        )
    return config.text.vocabulary or words


def check_holds_segment(corpus: TextCorpus, split: str, *, batch_size: int, bptt: int) -> None:
    """Checks that each column of a text is long enough for a segment and the word after it.

    Raises:
      InputError: the text is too short.
    """
    words = len(getattr(corpus, split))
    if words // batch_size > bptt:
        return
    fitting = words // (bptt + 1)
    mend = f"give --batch-size {fitting} or less, or" if fitting else "give"
    raise InputError(
        f"the {split} text of {corpus.name} has {words:,} words, {words // batch_size:,} in each of {batch_size} columns "
        f"(--batch-size); a segment and the word after it need {bptt + 1}: {mend} a smaller --bptt or more text"
    )


def check_can_be_evaluated(config: LanguageConfig, corpus: TextCorpus, split: str, columns_option: str) -> None:
    """Checks that a text fills two rows of the columns of an evaluation.

    Raises:
      InputError: the text is too short.
    """
    words, batch_size = len(getattr(corpus, split)), flat(config)[columns_option]
    if words // batch_size < 2:
        raise InputError(
            f"the {split} text of {corpus.name} has {words:,} words, too few for {option(columns_option)} {batch_size}; "
            f"give {max(1, words // 2)} or less, or more text"
        )
