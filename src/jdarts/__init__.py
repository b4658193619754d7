"""Differentiable architecture search (DARTS) in JAX and Flax.

Liu, Simonyan and Yang, DARTS: Differentiable Architecture Search, ICLR 2019.
"""

from jdarts import zoo
from jdarts.bilevel import (
    BilevelState,
    Estimate,
    HypergradientFn,
    LossFn,
    Problem,
    bilevel_step,
    exact,
    finite_difference,
    first_order,
    init_state,
    unrolled,
)
from jdarts.derivation import derive_genotype, derive_recurrent_genotype
from jdarts.errors import InputError
from jdarts.genotype import Genotype, RecurrentGenotype, genotype_from_json, parse_genotype
from jdarts.space import RecurrentSpace, SearchSpace, darts_space, recurrent_space, uniform_space
from jdarts.trained import load

__version__ = "0.1.0"

__all__ = [
    "BilevelState",
    "Estimate",
    "Genotype",
    "HypergradientFn",
    "InputError",
    "LossFn",
    "Problem",
    "RecurrentGenotype",
    "RecurrentSpace",
    "SearchSpace",
    "bilevel_step",
    "darts_space",
    "derive_genotype",
    "derive_recurrent_genotype",
    "exact",
    "finite_difference",
    "first_order",
    "genotype_from_json",
    "init_state",
    "load",
    "parse_genotype",
    "recurrent_space",
    "uniform_space",
    "unrolled",
    "zoo",
]
