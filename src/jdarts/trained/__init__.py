"""Trained networks: loading from a run, a PyTorch file, an array file or an exported program, and saving."""

from jdarts.trained.loading import Classifier, load, load_network
from jdarts.trained.network import ImageFormat, TrainedNetwork

__all__ = ["Classifier", "ImageFormat", "TrainedNetwork", "load", "load_network"]
