"""Searches whose batches several devices share."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
from many_devices import is_key
from small_runs import newest, read_metrics, user_settings
from small_search import quick, run, start, undisturbed

from jdarts import parallel
from jdarts.data import Augmentation
from jdarts.nets import supernet
from jdarts.search import SearchConfig
from jdarts.search.building import program_from_config
from jdarts.search.step import Images, Rows

__all__ = ["quick", "undisturbed", "user_settings"]


def assert_close(folder, reference):
    """Alphas, metrics and genotypes of a search are those of another, up to float32's rounding."""
    found, expected = newest(folder).record["alphas"], newest(reference).record["alphas"]
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    np.testing.assert_allclose(jax.tree.leaves(found), jax.tree.leaves(expected), rtol=1e-4, atol=1e-6)
    found, expected = small_runs.records(folder), small_runs.records(reference)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert one[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    assert (folder / "genotype.json").read_bytes() == (reference / "genotype.json").read_bytes()


@pytest.mark.parametrize("parallel, images_on", [("shard", "device"), ("shard", "host"), ("pmap", "device")])
def test_two_devices_find_what_one_finds(undisturbed, tmp_path, parallel, images_on):
    run(tmp_path / "run", devices=2, parallel=parallel, images_on=images_on)
    assert_close(tmp_path / "run", undisturbed)


def test_per_device_statistics_are_another_search(undisturbed, tmp_path):
    run(tmp_path / "run", devices=2, batch_statistics="per_device")
    found, expected = (read_metrics(folder)[0]["train/loss"] for folder in (tmp_path / "run", undisturbed))
    assert abs(found - expected) > 1e-4


def test_a_search_resumes_with_another_number_of_devices(undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        small_runs.die_at(patch, small_runs.checkpoint, "save", 2)
        with pytest.raises(small_runs.Died):
            run(tmp_path / "run", devices=2)
    assert newest(tmp_path / "run").step == 5
    _, shown = run(tmp_path / "run", devices=1)
    assert "resuming" in shown
    assert_close(tmp_path / "run", undisturbed)


def test_the_command_says_so_and_makes_cpu_devices(tmp_path, monkeypatch):
    process = start(tmp_path / "run", devices=64)
    code, _, errors = small_runs.finish(process)
    assert (code, errors.count("\n")) == (2, 1)
    assert "error: 64 devices were asked for, and 2 CPU present; ask for fewer" in errors
    assert not (tmp_path / "run").exists()
    monkeypatch.delenv("JAX_NUM_CPU_DEVICES")
    code, out, errors = small_runs.finish(start(tmp_path / "run", devices=4, epochs=1))
    assert code == 0, errors
    assert "genotype:" in out


#: What the supernet does beside the weighted sums, and what acts on its weights.
SWITCHES: Any = {
    "partial_channels": 2,
    "auxiliary_skip": "skip",
    "skip_dropout": 0.3,
    "search_drop_path": 0.3,
    "edge_weights": True,
    "perturbation": "adversarial",
    "freeze_below": 0.4,
}


def test_two_devices_step_as_one_with_every_switch_of_the_supernet(monkeypatch):
    """In float64: the attack takes signs, which rounding may turn. In float32 the alphas move by up to 2e-3 in two epochs."""
    monkeypatch.setattr(supernet, "checked_images", lambda images, dtype: images.astype(dtype))
    space = {"channels": 4, "cells": 1, "nodes": 2, "operations": ("skip_connect", "dil_conv_3x3")}
    size = {"image_shape": (8, 8, 1), "classes": 3, "counts": (48, 48), "mean": (0.4,), "std": (0.3,)}
    with jax.enable_x64(True), jax.numpy_dtype_promotion("standard"):
        config = SearchConfig(
            hypergradient="first_order", epochs=2, batch_size=16, precision=cast(Any, "float64"), **space, **SWITCHES
        )
        program = program_from_config(config, augmentation=Augmentation(), **size)
        begun = jax.tree.map(in_float64, jax.jit(program.init)(jnp.uint32(0)))
        # In the second epoch the attack has a radius, and the second step has the last of the scores.
        method_state = begun.bilevel.method_state._replace(counts=jnp.int32(19), steps=jnp.int32(20))
        bilevel = dataclasses.replace(begun.bilevel, step=jnp.int32(3), method_state=method_state)
        begun = dataclasses.replace(begun, bilevel=bilevel)
        draw = np.random.default_rng(0)
        pixels = (jnp.asarray(draw.integers(256, size=(48, 8, 8, 1)), jnp.uint8) for _ in range(2))
        labels = (jnp.asarray(draw.integers(3, size=48), jnp.int32) for _ in range(2))
        (train, valid), (train_labels, valid_labels) = pixels, labels
        images = Images(train, train_labels, valid, valid_labels)
        rows = [Rows(*(jnp.asarray(draw.permutation(48)[:16], jnp.int32) for _ in range(2))) for _ in range(2)]
        one = taken(parallel.jit_step(program.step), begun, images, rows)
        two = taken(parallel.shard_step(program.step, 2, split=(False, True)), begun, images, rows)
    assert any(np.any(frozen) for frozen in jax.tree.leaves(one.method_state.frozen))
    for name in ("weights", "alphas", "model_state", "method_state"):
        found, expected = (jax.tree.leaves(getattr(each, name)) for each in (two, one))
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-12, err_msg=name)


def in_float64(leaf):
    return leaf.astype(jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf


def taken(step, begun, images, rows):
    """The bilevel state after steps, on the host."""
    state = begun
    for each in rows:
        state, _ = step(state, images, each)
        # Off the devices and back: a state that lies where the last step left it would be another program.
        state = jax.tree.map(lambda old, new: old if is_key(old) else jnp.asarray(np.asarray(new)), begun, state)
    return state.bilevel
