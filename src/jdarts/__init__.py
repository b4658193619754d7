"""Differentiable architecture search (DARTS) in JAX and Flax.

Liu, Simonyan and Yang, DARTS: Differentiable Architecture Search, ICLR 2019.
"""

import importlib
from typing import TYPE_CHECKING, Any

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
    neumann,
    unrolled,
)
from jdarts.derivation import derive_genotype, derive_recurrent_genotype, sample_genotype
from jdarts.errors import InputError
from jdarts.genotype import Genotype, RecurrentGenotype, genotype_from_json, parse_genotype
from jdarts.operations import register_activation, register_operation
from jdarts.parallel import device_mesh, jit_step, pmap_step, shard_step, vmap_step
from jdarts.relaxation import init_alphas
from jdarts.space import RecurrentSpace, SearchSpace, darts_space, recurrent_space, uniform_space
from jdarts.xla.allocator import keep_freed_memory

if TYPE_CHECKING:
    from jdarts.choice.counting import choice_costs
    from jdarts.choice.decided import decided
    from jdarts.choice.deciding import decide
    from jdarts.choice.description import describe_choices
    from jdarts.choice.latency import choice_latency
    from jdarts.choice.linen import Choice, InputChoice, WidthChoice
    from jdarts.choice.losses import network_loss
    from jdarts.choice.variables import join_variables, split_variables
    from jdarts.network_tasks.arrays import ArrayBatches
    from jdarts.network_tasks.loading import load_model, load_search, load_variables, predictor
    from jdarts.network_tasks.task import NetworkTask
    from jdarts.plugins import load_plugin
    from jdarts.report.notebook import show
    from jdarts.trained import load

__version__ = "0.1.0"

__all__ = [
    "ArrayBatches",
    "BilevelState",
    "Choice",
    "Estimate",
    "Genotype",
    "HypergradientFn",
    "InputChoice",
    "InputError",
    "LossFn",
    "NetworkTask",
    "Problem",
    "RecurrentGenotype",
    "RecurrentSpace",
    "SearchSpace",
    "WidthChoice",
    "bilevel_step",
    "choice_costs",
    "choice_latency",
    "darts_space",
    "decide",
    "decided",
    "derive_genotype",
    "derive_recurrent_genotype",
    "describe_choices",
    "device_mesh",
    "exact",
    "finite_difference",
    "first_order",
    "genotype_from_json",
    "init_alphas",
    "init_state",
    "jit_step",
    "join_variables",
    "keep_freed_memory",
    "load",
    "load_model",
    "load_plugin",
    "load_search",
    "load_variables",
    "network_loss",
    "neumann",
    "parse_genotype",
    "pmap_step",
    "predictor",
    "recurrent_space",
    "register_activation",
    "register_operation",
    "sample_genotype",
    "shard_step",
    "show",
    "split_variables",
    "uniform_space",
    "unrolled",
    "vmap_step",
    "zoo",
]

#: Packages that the core does not need, imported at their first use.
_ROOMS = ("checkpoint", "choice", "data", "nets", "testing", "trained")

#: Names of modules that the core does not need.
_LATER = {
    "ArrayBatches": "network_tasks.arrays",
    "Choice": "choice.linen",
    "InputChoice": "choice.linen",
    "NetworkTask": "network_tasks.task",
    "WidthChoice": "choice.linen",
    "choice_costs": "choice.counting",
    "choice_latency": "choice.latency",
    "decide": "choice.deciding",
    "decided": "choice.decided",
    "describe_choices": "choice.description",
    "join_variables": "choice.variables",
    "load": "trained",
    "load_model": "network_tasks.loading",
    "load_plugin": "plugins",
    "load_search": "network_tasks.loading",
    "load_variables": "network_tasks.loading",
    "network_loss": "choice.losses",
    "predictor": "network_tasks.loading",
    "show": "report.notebook",
    "split_variables": "choice.variables",
}


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(importlib.import_module(f"jdarts.{_LATER[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"jdarts.{name}")
    raise AttributeError(f"module 'jdarts' has no attribute {name!r}")
