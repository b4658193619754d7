"""One step of the whole supernet on two devices, in a file without the stand-ins of quick searches."""

import dataclasses
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from state_leaves import is_key

from jdarts import parallel
from jdarts.data import Augmentation
from jdarts.nets import supernet
from jdarts.search import SearchConfig
from jdarts.search.building import program_from_config
from jdarts.search.step import Images, Rows

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
    space = {"channels": 4, "cells": 1, "nodes": 1, "operations": ("skip_connect", "dil_conv_3x3")}
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
