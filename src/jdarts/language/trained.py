"""Loads the language model of a finished or running training."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from jdarts import checkpoint
from jdarts.derivation import check_registered
from jdarts.errors import InputError
from jdarts.files.json_data import Fields
from jdarts.genotype import RecurrentGenotype
from jdarts.language.train.config import LanguageTrainConfig
from jdarts.language.train.step import train_program
from jdarts.nets.initial import shapes_of
from jdarts.nets.language import LanguageModel


class TrainedLanguageModel(NamedTuple):
    """A language model with its best weights.

    Attributes:
      model: the network; `model.apply({"params": weights}, tokens [T, B], hidden [B, H], train=False)` predicts.
      weights: the weights with the lowest validation loss.
      words: the vocabulary; a word's number is its index.
      valid_loss: their validation loss; infinite before the end of the first epoch.
    """

    model: LanguageModel
    weights: Any
    words: tuple[str, ...]
    valid_loss: float


def load_language_model(path: str | Path) -> TrainedLanguageModel:
    """Loads the best weights of a training.

    Args:
      path: a training's run folder, or one of its checkpoints.

    Raises:
      InputError: there is no complete checkpoint, or it is not that of a training on text.
    """
    saved = checkpoint.find(Path(path), [])
    try:
        record = Fields(saved.record)
        network = Fields(record.get("network"))
        vocabulary, width = network.count("vocabulary"), network.count("width")
        words = record.texts("words")
        check_registered(saved.record)
        # The cell's operations are registered already.
        config = LanguageTrainConfig(**{**record.get("config"), "plugin": ()})
        config.check()
    except (ValueError, TypeError) as error:
        raise InputError(
            f"{saved.path} is not of a training on text; give a folder of jdarts.language.train ({error})"
        ) from None
    program = train_program(config, vocabulary=vocabulary, rows=2)
    template = shapes_of(program.init, jax.ShapeDtypeStruct((), np.uint32))
    state = checkpoint.load(saved, template)
    cell: RecurrentGenotype = config.cell
    model = LanguageModel(cell, vocabulary, width)
    return TrainedLanguageModel(model, state.best, words, float(state.best_loss))
