"""Discrete networks against the reference implementation's own numbers."""

import dataclasses
import functools
import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures_folder import fixture_files

from jdarts.genotype import Genotype, parse_genotype
from jdarts.nets.discrete import DiscreteNetwork
from jdarts.trained.imported import import_weights

#: Largest difference allowed, as a share of the array's largest value.
TOLERANCE = {"float64": 1e-9, "float32": 1e-4}

each_file = pytest.mark.parametrize("path", fixture_files("eval_*.npz"))
each_dtype = pytest.mark.parametrize("dtype", TOLERANCE)


class Case(NamedTuple):
    """One fixture file, its network, and what the network makes of it."""

    file: Any
    dtype: str
    network: DiscreteNetwork
    variables: Any
    evaluated: Any
    trained: Any
    changed: Any

    def check(self, found, expected):
        assert np.shape(found) == expected.shape
        assert np.abs(np.asarray(found) - expected).max() <= TOLERANCE[self.dtype] * np.abs(expected).max()


@functools.cache
def load(path, dtype):
    file = dict(np.load(path))
    flat = arrays(file, "weights/")
    network = DiscreteNetwork(
        genotype=genotype_of(str(file["genotype"])),
        stem="imagenet" if "stem0.0.weight" in flat else "cifar",
        channels=int(file["channels"]),
        cells=int(file["layers"]),
        classes=int(file["classes"]),
        auxiliary=any(name.startswith("auxiliary_head.") for name in flat),
        dtype=jnp.dtype(dtype),
    )
    variables = import_weights(network, flat)
    images = file["x"].transpose(0, 2, 3, 1).astype(dtype)

    def everything(variables):
        evaluated = network.apply(variables, images, train=False)
        return evaluated, *network.apply(variables, images, train=True, mutable=["batch_stats"])

    return Case(file, dtype, network, *jax.device_get((variables, *jax.jit(everything)(variables))))


def genotype_of(text):
    """The genotype of a fixture, which may say more than the cells, such as their name."""
    if not text.lstrip().startswith("{"):
        return parse_genotype(text, Genotype)
    names = [field.name for field in dataclasses.fields(Genotype)]
    return Genotype(**{name: value for name, value in json.loads(text).items() if name in names})


def arrays(file, prefix):
    return {name.removeprefix(prefix): array for name, array in file.items() if name.startswith(prefix)}


@each_file
@each_dtype
def test_fixture_logits_in_evaluation_mode(path, dtype):
    case = load(path, dtype)
    logits, auxiliary = case.evaluated
    case.check(logits, case.file["eval/logits"])
    assert auxiliary is None


@each_file
@each_dtype
def test_fixture_logits_in_training_mode(path, dtype):
    case = load(path, dtype)
    logits, auxiliary = case.trained
    case.check(logits, case.file["train/logits"])
    if "train/logits_aux" in case.file:
        case.check(auxiliary, case.file["train/logits_aux"])
    else:
        assert not case.network.auxiliary


@each_file
@each_dtype
def test_fixture_running_statistics_after_a_training_pass(path, dtype):
    case = load(path, dtype)
    after = arrays(case.file, "weights/") | arrays(case.file, "after_train_forward/")
    expected = jax.device_get(import_weights(case.network, after)["batch_stats"])
    assert jax.tree.structure(expected) == jax.tree.structure(case.changed["batch_stats"])
    jax.tree.map(case.check, case.changed["batch_stats"], expected)
    assert any(
        np.any(a != b) for a, b in zip(jax.tree.leaves(expected), jax.tree.leaves(case.variables["batch_stats"]))
    )


@each_file
def test_fixture_number_of_weights(path):
    case = load(path, "float64")
    params = dict(case.variables["params"])
    head = sum(leaf.size for leaf in jax.tree.leaves(params.pop("auxiliary", {})))
    body = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert body == case.file["num_params_no_aux"]
    assert body + head == case.file["num_params"]
