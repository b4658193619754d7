"""The smallest search that has every part, its states compared bit by bit, and the processes that run it.

As a program it is `python -m jdarts.search` with the quick network.
"""

import io
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import small_runs

from jdarts.search import SearchConfig, search
from jdarts.space import CELL_KINDS, CellKind, cell_kinds

SETTINGS = {
    "dataset": "digits",
    "channels": 2,
    "cells": 3,
    "nodes": 1,
    "operations": ("none", "skip_connect", "max_pool_3x3", "dil_conv_3x3"),
    "epochs": 2,
    "batch_size": 128,
    "log_every": 2,
}
#: For what depends neither on the hypergradient nor on augmentation: a step that compiles in half the time.
PLAIN: dict[str, Any] = {"hypergradient": "first_order", "padding": 0}
STEPS_PER_EPOCH = 5
STEPS = 10


class SupernetAttributes(nn.Module):
    """The attributes that a search gives to its supernet, for networks that stand in for it."""

    space: Any
    channels: int
    cells: int
    classes: int
    axis_name: str | None = None
    dtype: Any = jnp.float32
    remat: bool = False
    mixture: Any = None
    partial_channels: int = 1
    auxiliary_skip: str = "none"
    skip_dropout: bool = False
    drop_path: bool = False
    skips_unused: bool = False

    @property
    def kinds(self) -> tuple[CellKind, ...]:
        """The kind of every cell."""
        return cell_kinds(self.cells)

    stem: str = "cifar"


def _mixed(table, dtype):
    return table @ jnp.arange(table.shape[-1], dtype=dtype)


class QuickNetwork(SupernetAttributes):
    """Stands in for the supernet: weights, alphas and running statistics in one layer, compiled in no time."""

    @nn.compact
    def __call__(self, images, weights, *, train, controls=None):
        mixed = sum(_mixed(weights.operations[kind], images.dtype) for kind in CELL_KINDS)
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=self.axis_name)
        flat = norm(images.reshape(len(images), -1))
        # Uniform weights come from the run's one draw; others have a program of their own.
        return nn.Dense(self.classes, kernel_init=nn.initializers.lecun_uniform())(jnp.tanh(flat * jnp.sum(mixed)))


def quicken(replace=setattr):
    """Puts the quick network into the search, and lines of text in place of its pictures."""
    import jdarts.search.building

    replace(jdarts.search.building, "Supernet", QuickNetwork)
    small_runs.leave_undrawn(replace)


def searches(settings):
    """The functions `config` and `run` of searches with these settings."""

    def config(folder, **changes):
        return SearchConfig(run_dir=folder, **{**settings, **changes})

    def run(folder, *, dataset=None, programs=None, **changes):
        """Searches in this process; returns the result and what was shown."""
        stream = io.StringIO()
        programs = programs or small_runs.shared_programs
        result = search(config(folder, **changes), dataset=dataset, programs=programs, stream=stream)
        return result, stream.getvalue()

    return config, run


def arguments(folder, **changes):
    """The command line's options of the search in a folder."""
    return small_runs.arguments({**SETTINGS, "run_dir": folder, **changes})


def start(folder, *, program=(__file__,), **changes):
    """Starts the search in a process of its own: the quick one, or another program with the same options."""
    return small_runs.start(program, {**SETTINGS, "run_dir": folder, **changes})


def assert_same_bits(folder, reference):
    """The search in a folder has found the same, by the same way, as an undisturbed one."""
    names = ["genotype.json", "genotype.txt", "normal.svg", "reduce.svg", "curves.png"]
    for kind in ("genotypes", "alphas"):
        names += [f"{kind}/{path.name}" for path in (reference / kind).iterdir()]
    small_runs.assert_same_bits(folder, reference, names)


config, run = searches(SETTINGS)
quick = small_runs.with_stand_ins(quicken, small_runs.programs_of_quick_networks)
undisturbed = small_runs.undisturbed_run(run)


if __name__ == "__main__":
    from jdarts.command import run_command
    from jdarts.search.command import main

    quicken()
    run_command(main)
