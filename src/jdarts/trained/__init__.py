"""Trained networks: read from a run, from a file of PyTorch, from arrays or from an exported program, and written."""

from jdarts.trained.loading import load
from jdarts.trained.network import TrainedNetwork

__all__ = ["TrainedNetwork", "load"]
