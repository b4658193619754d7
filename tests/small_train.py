"""The smallest training that has every part, on a quick network; as a program, `python -m jdarts.train` with it."""

import io
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import small_runs

from jdarts.nets.drop_path import drop_path_factors
from jdarts.train import TrainConfig, train

SETTINGS = {
    "dataset": "digits",
    "channels": 2,
    "cells": 1,
    "epochs": 3,
    "batch_size": 256,
    "cutout": 2,
    "learning_rate": 0.1,
    "validation_fraction": 0.25,
    "ema_decay": 0.9,
    "log_every": 2,
}
#: For what does not depend on augmentation: a step that compiles sooner.
PLAIN: dict[str, Any] = {"padding": 0, "cutout": 0}
STEPS_PER_EPOCH = 4
STEPS = 12


class QuickNetwork(nn.Module):
    """Stands in for the network of cells: an auxiliary head, drop path and running statistics, compiled in no time."""

    genotype: Any
    channels: int
    cells: int
    classes: int
    auxiliary: bool
    axis_name: str | None = None
    dtype: Any = jnp.float32
    batch_axis: str | None = None

    @nn.compact
    def __call__(self, images, *, train, drop_path=0.0):
        kernel = nn.initializers.uniform(0.1)
        flat = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=self.axis_name)(
            images.reshape(len(images), -1)
        )
        if train:
            key, shape = self.make_rng("drop_path"), (len(images),)
            flat *= drop_path_factors(key, drop_path, shape, axis_name=self.batch_axis)[:, None] * (1 - drop_path)
        logits = nn.Dense(self.classes, kernel_init=kernel)(jnp.tanh(flat))
        if self.auxiliary and (train or self.is_initializing()):
            auxiliary = nn.Dense(self.classes, name="auxiliary", kernel_init=kernel)(flat)
            return logits, auxiliary if train else None
        return logits, None


def quicken(replace=setattr):
    """Puts the quick network into the training, and lines of text in place of its pictures."""
    import jdarts.train.config

    replace(jdarts.train.config, "cifar_network", QuickNetwork)
    small_runs.leave_undrawn(replace)


def config(folder, **changes):
    return TrainConfig(run_dir=folder, **{**SETTINGS, **changes})


def start(folder, *, program=(__file__,), **changes):
    """Starts the training in a process of its own: the quick one, or another program with the same options."""
    return small_runs.start(program, {**SETTINGS, "run_dir": folder, **changes})


def assert_same_bits(folder, reference):
    """The training in a folder has come to the same, by the same way, as an undisturbed one."""
    small_runs.assert_same_bits(
        folder, reference, ["genotype.json", "genotype.txt", "normal.svg", "curves.png", "mistakes.json"]
    )
    (kept,) = (folder / "best").glob("step_*")
    (expected,) = (reference / "best").glob("step_*")
    assert kept.name == expected.name


def run(folder, *, dataset=None, programs=None, **changes):
    """Trains in this process; returns the result and what was shown."""
    stream = io.StringIO()
    programs = programs or small_runs.shared_programs
    result = train(config(folder, **changes), dataset=dataset, programs=programs, stream=stream)
    return result, stream.getvalue()


quick = small_runs.with_stand_ins(quicken, small_runs.programs_of_quick_networks)
undisturbed = small_runs.undisturbed_run(run)


if __name__ == "__main__":
    from jdarts.command import run_command
    from jdarts.train.command import main

    quicken()
    run_command(main)
