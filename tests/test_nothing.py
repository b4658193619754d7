"""No lanes of a vmap, no channels, no width: empty results where they make sense, one clear sentence elsewhere."""

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from jdarts import zoo
from jdarts.errors import InputError
from jdarts.nets.discrete import cifar_network
from jdarts.nets.layers import checked_images
from jdarts.nets.supernet import Supernet
from jdarts.ops.depthwise import depthwise_conv
from jdarts.ops.dropped import dropped_product
from jdarts.ops.highway import mixed_highway
from jdarts.ops.mixing import combine, moments, products
from jdarts.ops.mixing_tangents import mixing_tangents
from jdarts.ops.pointwise import pointwise
from jdarts.ops.pool import avg_pool_3x3, max_pool_3x3
from jdarts.ops.search_cell import search_cell
from jdarts.ops.separable import separable_conv
from jdarts.ops.word_losses import word_losses
from jdarts.relaxation import init_alphas
from jdarts.space import darts_space
from jdarts.xla.leaves import join_leaves, split_leaves

MAPS, ROUTES = (1, 2, 3, 3, 2), ((0, 0, 0, 0),)


def cell(mixture, recurrent, matrices, projected, hidden):
    return search_cell(mixture, recurrent, matrices, projected, hidden, jnp.ones((2, 2)), jnp.int32(2), (1,))


#: Functions and the shapes of what they are given.
FUNCTIONS = {
    "pointwise": (lambda x, w: pointwise([x], [w]), MAPS, (1, 2, 4)),
    "depthwise_conv": (depthwise_conv, MAPS, (1, 1, 3, 3, 2)),
    "separable_conv": (separable_conv, MAPS, (1, 1, 3, 3, 2), (1, 2, 4)),
    "max_pool": (max_pool_3x3, MAPS),
    "avg_pool": (avg_pool_3x3, MAPS),
    "combine": (lambda w, x: combine(w, [x], routes=ROUTES, sizes=(1,)), (1, 2), MAPS),
    "products": (lambda x, y: products([x], [y], routes=ROUTES), MAPS, MAPS),
    "moments": (lambda x: moments((x,)), MAPS),
    "mixing_tangents": (lambda w, x, dx: mixing_tangents(w, [x], [dx], routes=ROUTES, sizes=(1,)), (1, 2), MAPS, MAPS),
    "joined": (lambda x, y: join_leaves([x, y]), (2,), (3, 2)),
    "parted": (lambda x: split_leaves(x, [(2,), (2,)]), (4,)),
    "mixed_highway": (mixed_highway, (1, 4), *[(1, 2, 3)] * 3),
    "dropped_product": (lambda x, m: dropped_product(x, m, jnp.ones((2, 2))), (3, 2, 2), (5, 2)),
    "word_losses": (lambda x, b: word_losses(x, b, jnp.zeros((3, 2), jnp.int32)), (3, 2, 2), (2,)),
    "search_cell": (cell, (1, 4), (2, 4), (1, 2, 4), (3, 2, 4), (2, 2)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_vmap_over_nothing_is_empty(name):
    """Results and derivatives have the shapes of one lane, behind an axis of length 0."""
    function, *shapes = FUNCTIONS[name]

    def both(*arrays):
        results, pull = jax.vjp(function, *arrays)
        return results, pull(results)

    lane = jax.eval_shape(both, *(jnp.zeros(shape) for shape in shapes))
    found = jax.vmap(both)(*(jnp.zeros((0, *shape)) for shape in shapes))
    assert jax.tree.map(jnp.shape, found) == jax.tree.map(lambda one: (0, *one.shape), lane)
    shared = jax.eval_shape(
        jax.vmap(both, (0, *[None] * (len(shapes) - 1))), jnp.zeros((0, *shapes[0])), *map(jnp.zeros, shapes[1:])
    )
    assert jax.tree.map(jnp.shape, shared) == jax.tree.map(jnp.shape, found)
    spread = jax.grad(lambda first, *others: sum(map(jnp.sum, jax.tree.leaves(jax.vmap(function)(first, *others)))))
    assert spread(*(jnp.zeros((0, *shape)) for shape in shapes)).shape == (0, *shapes[0])


def test_arrays_without_channels_are_refused():
    for function in (max_pool_3x3, avg_pool_3x3):
        for shape in ((1, 2, 3, 3, 0), (0, 2, 3, 3, 1), (1, 2, 0, 3, 1)):
            with pytest.raises(InputError, match="at least one source, pixel and channel"):
                function(jnp.zeros(shape))
    for x, kernels in (
        ((1, 2, 3, 3, 0), (1, 1, 3, 3, 0)),
        ((0, 2, 3, 3, 1), (0, 1, 3, 3, 1)),
        ((1, 2, 3, 3, 1), (1, 0, 3, 3, 1)),
    ):
        with pytest.raises(InputError, match="at least one source S, target T and channel C"):
            depthwise_conv(jnp.zeros(x), jnp.zeros(kernels))
    with pytest.raises(InputError, match="at least one source S, target T and channel C"):
        separable_conv(jnp.zeros((1, 2, 3, 3, 0)), jnp.zeros((1, 1, 3, 3, 0)), jnp.zeros((1, 0, 2)))
    assert dropped_product(jnp.zeros((3, 2, 0)), jnp.zeros((5, 0)), jnp.zeros((2, 0))).shape == (3, 2, 5)


@pytest.mark.parametrize("name", ["channels", "cells", "classes", "stem_multiplier"])
def test_a_supernet_of_nothing_is_refused(name):
    space = darts_space()
    settings: dict[str, Any] = {"channels": 2, "cells": 3, "classes": 2} | {name: 0}
    with pytest.raises(InputError, match=f"{name} is 0; give 1 or more"):
        Supernet(space, **settings).init(
            jax.random.key(0), jnp.zeros((1, 8, 8, 3)), init_alphas(jax.random.key(0), space), train=True
        )


def test_images_without_pixels_or_channels_are_refused():
    for shape in ((1, 8, 8, 0), (1, 0, 8, 3)):
        with pytest.raises(InputError, match="at least one pixel and channel"):
            checked_images(jnp.zeros(shape), jnp.float64)
    with pytest.raises(InputError, match="channels is 0; give 1 or more"):
        cifar_network(zoo.DARTS_V2, channels=0)
