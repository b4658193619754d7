"""Searches without gradients, on the spaces and search networks of the others: one row for each."""

from collections.abc import Callable, Mapping

from jdarts.baselines.architectures import (
    Architecture,
    Architectures,
    choice_architectures,
    darts_architectures,
    genotype_of,
    nas_bench_201_architectures,
    one_hot_mixture,
    random_architecture,
)
from jdarts.baselines.baseline import Baseline, Best
from jdarts.baselines.evolution import evolution
from jdarts.baselines.random_search import random_search
from jdarts.baselines.reinforce import reinforce

BASELINES: Mapping[str, Callable[[], Baseline]] = {
    "random": random_search,
    "evolution": evolution,
    "reinforce": reinforce,
}

__all__ = [
    "BASELINES",
    "Architecture",
    "Architectures",
    "Baseline",
    "Best",
    "choice_architectures",
    "darts_architectures",
    "evolution",
    "genotype_of",
    "nas_bench_201_architectures",
    "one_hot_mixture",
    "random_architecture",
    "random_search",
    "reinforce",
]
