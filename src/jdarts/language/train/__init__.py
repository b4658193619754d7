"""Training of a recurrent cell's language model; `python -m jdarts.language.train` is its command."""

from jdarts.language.train.config import LanguageTrainConfig
from jdarts.language.train.loop import train_language
from jdarts.language.train.summary import LanguageTrainResult
from jdarts.runs import Interrupted

__all__ = ["Interrupted", "LanguageTrainConfig", "LanguageTrainResult", "train_language"]
