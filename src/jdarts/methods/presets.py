"""Search methods by name: settings of a search at the values of their authors.

A value is that of the authors' code for CIFAR-10 where there is any. So most searches are first order, which
`--hypergradient exact` changes.
"""

from collections.abc import Mapping
from typing import Any

from jdarts.errors import InputError, shown
from jdarts.methods.selection import SHARING
from jdarts.operations import NONE
from jdarts.space import DARTS_PRIMITIVES

DARTS = "darts"

_WITHOUT_NONE = tuple(name for name in DARTS_PRIMITIVES if name != NONE)
_FIRST_ORDER = {"hypergradient": "first_order"}

#: Settings by their names in `jdarts.search.SearchConfig`. A new method is a row here.
PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Liu, Simonyan and Yang 2019: the defaults.
    DARTS: {},
    # Xu et al. 2020.
    "pc_darts": {
        **_FIRST_ORDER,
        "partial_channels": 4,
        "edge_weights": True,
        "alphas_from": 15,
        "batch_size": 256,
        "learning_rate": 0.1,
        "learning_rate_min": 0.0,
        "alpha_learning_rate": 6e-4,
    },
    # Chen et al. 2019; the dropout of skip connections is that of the command in the authors' README.
    "p_darts": {
        **_FIRST_ORDER,
        "select": "skip_limit:2",
        "stages": "p_darts",
        "dropped_operations": (3, 2),
        "earlier_cells": (5, 11),
        "cells": 17,
        "earlier_skip_dropout": (0.1, 0.4),
        "skip_dropout": 0.7,
        "epochs": 75,
        "alphas_from": 10,
        "alpha_clip": 5.0,
        "alpha_learning_rate": 6e-4,
        "batch_size": 96,
        "learning_rate_min": 0.0,
    },
    # Chen and Hsieh 2020.
    "sdarts_rs": {**_FIRST_ORDER, "operations": _WITHOUT_NONE, "perturbation": "random"},
    "sdarts_adv": {**_FIRST_ORDER, "operations": _WITHOUT_NONE, "perturbation": "adversarial"},
    # Chu et al. 2021.
    "darts_minus": {**_FIRST_ORDER, "auxiliary_skip": "skip", "auxiliary_decay": "linear"},
    # Chu et al. 2020. In early epochs no weight reaches the threshold; their cells are those of `argmax`.
    "fair_darts": {
        **_FIRST_ORDER,
        "operations": _WITHOUT_NONE,
        "mixture": "sigmoid",
        "penalty": "zero_one",
        "select": "threshold",
        "alpha_learning_rate": 3e-3,
        "alpha_b1": 0.9,
        "batch_size": 128,
        "learning_rate": 0.005,
    },
    # Chen et al. 2021. `--stages none` is one stage, in which alphas and weights train for all epochs.
    "drnas": {
        **_FIRST_ORDER,
        "operations": _WITHOUT_NONE,
        "mixture": "dirichlet",
        "penalty": "divergence",
        "alpha_weight_decay": 0.0,
        "alphas_from": 10,
        "alpha_learning_rate": 6e-4,
        "learning_rate": 0.1,
        "learning_rate_min": 0.0,
        "channels": 36,
        "cells": 20,
        "partial_channels": 4,
        "stages": "drnas",
        "kept_operations": (4,),
        "earlier_partial_channels": (6,),
    },
    # Dong and Yang 2019.
    "gdas": {
        **_FIRST_ORDER,
        "mixture": "gumbel_chosen",
        "temperature": 10.0,
        "temperature_end": 0.1,
        "step_order": "weights_first",
        "epochs": 250,
        "weight_decay": 5e-4,
        "nesterov": True,
        "select": "pairs",
    },
    # Xie et al. 2019; the alphas' optimiser is that of the code on one GPU.
    "snas": {
        **_FIRST_ORDER,
        "mixture": "gumbel",
        "temperature": 1.0,
        "temperature_end": 0.03,
        "temperature_epochs": 150,
        "step_order": "together",
        "alphas_on": "train",
        "alpha_clip": 10.0,
        "alpha_optimizer": "sgd",
        "alpha_weight_decay": 0.0,
        "epochs": 150,
        "search_drop_path": 0.3,
        "select": "all_edges",
    },
    # Jiang et al. 2023.
    "oles": {**_FIRST_ORDER, "freeze_below": 0.4},
    # Movahedi et al. 2023.
    "lambda_darts": {**_FIRST_ORDER, "operations": _WITHOUT_NONE, "correlation": 0.125},
    # Liang et al. 2019.
    "darts_plus": {**_FIRST_ORDER, "stop": "skip_connections"},
    # Zela et al. 2020.
    "darts_es": {"hypergradient": "finite_difference", "stop": "eigenvalue"},
    "darts_ada": {"hypergradient": "finite_difference", "stop": "adaptive_decay"},
    # Zhang et al. 2021.
    "idarts": {"hypergradient": "neumann", "neumann_at": "present", "weight_steps": 4},
    # Wang et al. 2021; 5 epochs between two rounds, a tenth of the learning rate. Fixed alphas: --alphas-from 50.
    "darts_pt": {**_FIRST_ORDER, "operations": _WITHOUT_NONE, "select": "perturbation"},
    # Li and Talwalkar 2019: no method of gradients, but cells that a baseline proposes on shared weights.
    **{name: {**_FIRST_ORDER, "select": name} for name in SHARING},
}


#: The same for searches on text, `jdarts.language.search.LanguageSearchConfig`. The methods' authors have no values for text:
#: the paper's stay wherever the method does not need another.
TEXT_PRESETS: Mapping[str, Mapping[str, Any]] = {
    DARTS: {},
    "sdarts_rs": {"perturbation": "random"},
    "sdarts_adv": {"perturbation": "adversarial"},
    "fair_darts": {"mixture": "sigmoid", "penalty": "zero_one"},
    "drnas": {"mixture": "dirichlet", "penalty": "divergence", "alpha_weight_decay": 0.0},
    "gdas": {"mixture": "gumbel_chosen", "temperature": 10.0, "temperature_end": 0.1, "step_order": "weights_first"},
    "snas": {
        "mixture": "gumbel",
        "temperature": 1.0,
        "temperature_end": 0.03,
        "step_order": "together",
        "alphas_on": "train",
    },
    "darts_plus": {"stop": "skip_connections:kind=recurrent"},
    "darts_es": {"stop": "eigenvalue"},
    "darts_ada": {"stop": "adaptive_decay"},
    "idarts": {"hypergradient": "neumann", "neumann_at": "present", "weight_steps": 4},
}


def preset(name: object, table: Mapping[str, Mapping[str, Any]] = PRESETS) -> Mapping[str, Any]:
    """The settings of a method.

    Args:
      name: of the method.
      table: the methods of the kind of search.

    Raises:
      InputError: there is no such method.
    """
    if not isinstance(name, str) or name not in table:
        raise InputError(f"--method is {shown(name)}; give {' or '.join(table)}")
    return table[name]
