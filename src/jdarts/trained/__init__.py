"""Trained networks: loading from a run, a PyTorch file, an array file or an exported program, and saving."""

from jdarts.trained.loading import load
from jdarts.trained.network import TrainedNetwork

__all__ = ["TrainedNetwork", "load"]
