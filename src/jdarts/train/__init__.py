"""Training of discrete networks on images; `python -m jdarts.train` is its command."""

from jdarts.runs import Interrupted
from jdarts.train.config import TrainConfig
from jdarts.train.loop import train
from jdarts.train.summary import TrainResult

__all__ = ["Interrupted", "TrainConfig", "TrainResult", "train"]
