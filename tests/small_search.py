"""The smallest search that has every part, its states compared bit by bit, and the processes that run it.

As a program it is `python -m jdarts.search` with the quick network.
"""

import contextlib
import io
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts import checkpoint
from jdarts.report import read_metrics
from jdarts.search import SearchConfig, search
from jdarts.space import CELL_KINDS

SETTINGS = {
    "dataset": "digits",
    "channels": 2,
    "cells": 1,
    "nodes": 1,
    "operations": ("none", "skip_connect", "max_pool_3x3", "dil_conv_3x3"),
    "epochs": 2,
    "batch_size": 128,
    "log_every": 2,
}
STEPS_PER_EPOCH = 5
STEPS = 10
TESTS = Path(__file__).parent


class QuickNetwork(nn.Module):
    """Stands in for the supernet: weights, alphas and running statistics in one layer, compiled in no time."""

    space: Any
    channels: int
    cells: int
    classes: int

    @nn.compact
    def __call__(self, images, alphas, *, train):
        mixed = sum(jax.nn.softmax(alphas[kind]) @ jnp.arange(4, dtype=images.dtype) for kind in CELL_KINDS)
        flat = nn.BatchNorm(use_running_average=not train, momentum=0.9)(images.reshape(len(images), -1))
        return nn.Dense(self.classes)(jnp.tanh(flat * jnp.sum(mixed)))


def quicken(replace=setattr):
    """Puts the quick network into the search, and leaves its curves undrawn."""
    import jdarts.search.loop
    import jdarts.search.step

    replace(jdarts.search.step, "Supernet", QuickNetwork)
    replace(jdarts.search.loop, "draw_curves", lambda records, path: path.write_text("curves"))


class Died(BaseException):
    """Ends a process's work where it stands: no handler of errors sees it, like a SIGKILL."""


@contextlib.contextmanager
def as_users_have_it():
    """JAX's own settings instead of the tests' strict ones; programs are kept however short their compilation was."""
    changed = {
        "jax_enable_x64": False,
        "jax_numpy_dtype_promotion": "standard",
        "jax_numpy_rank_promotion": "allow",
        "jax_persistent_cache_min_compile_time_secs": 0,
    }
    before = {name: getattr(jax.config, name) for name in changed}
    for name, value in changed.items():
        jax.config.update(name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


def config(folder, **changes):
    return SearchConfig(run_dir=folder, **{**SETTINGS, **changes})


def run(folder, *, dataset=None, **changes):
    """Searches in this process; returns the result and what was shown."""
    stream = io.StringIO()
    result = search(config(folder, **changes), dataset=dataset, stream=stream)
    return result, stream.getvalue()


def arguments(folder, **changes):
    words = []
    for name, value in {**SETTINGS, "run_dir": folder, **changes}.items():
        words += [f"--{name.replace('_', '-')}", *(value if isinstance(value, tuple) else (str(value),))]
    return words


def environment():
    paths = os.pathsep.join(filter(None, (str(TESTS), os.environ.get("PYTHONPATH"))))
    shared = {"JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "PYTHONUNBUFFERED": "1", "PYTHONPATH": paths}
    return {**os.environ, **shared}


def start(folder, *, program=(__file__,), **changes) -> Any:
    """Starts the search in a process of its own: the quick one, or another program with the same options."""
    return subprocess.Popen(
        [sys.executable, *program, *arguments(folder, **changes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )


def read_until(process: Any, text):
    """The line of a process's output that holds a text; those before it are dropped."""
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"{text!r} was not shown; errors: {process.stderr.read()}")


def finish(process, seconds=180):
    """Exit code, standard output, standard error."""
    try:
        out, err = process.communicate(timeout=seconds)
    finally:
        process.kill()
    return process.returncode, out, err


def newest(folder):
    """The newest checkpoint of a run."""
    found = checkpoint.newest(folder / checkpoint.FOLDER, [])
    assert found is not None
    return found


def leaves(folder):
    """Every array of the newest checkpoint as bytes, by its place in the state."""
    found = newest(folder)
    from orbax.checkpoint import v1 as ocp

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sharding info not provided")
        tree = ocp.load(str(found.path / checkpoint.ARRAYS))
    return {
        jax.tree_util.keystr(place): np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf).tobytes()
        for place, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def records(folder):
    """The records of metrics.jsonl without their time."""
    return [{key: value for key, value in record.items() if key != "time"} for record in read_metrics(folder)]


def assert_same_bits(folder, reference):
    """The run in a folder has found the same, by the same way, as an undisturbed one."""
    found, expected = leaves(folder), leaves(reference)
    assert found.keys() == expected.keys()
    assert [place for place in expected if found[place] != expected[place]] == []
    assert records(folder) == records(reference)
    names = ["genotype.json", "genotype.txt", "normal.svg", "reduce.svg", "curves.png"]
    names += [f"genotypes/{path.name}" for path in (reference / "genotypes").iterdir()]
    for name in names:
        assert (folder / name).read_bytes() == (reference / name).read_bytes(), name
    assert not list((folder / checkpoint.FOLDER).glob(".incomplete-*"))


def _is_key(leaf):
    return isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@pytest.fixture(scope="module")
def user_settings():
    with as_users_have_it():
        yield


@pytest.fixture(scope="module")
def quick(user_settings):
    with pytest.MonkeyPatch.context() as patch:
        quicken(patch.setattr)
        yield


@pytest.fixture(scope="module")
def undisturbed(quick, tmp_path_factory):
    """The folder of a run from its start to its end."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    run(folder)
    return folder


if __name__ == "__main__":
    from jdarts.command import run_command
    from jdarts.search.command import main

    quicken()
    run_command(main)
