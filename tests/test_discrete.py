import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import plain_network
import pytest

from jdarts import zoo
from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.nets import discrete
from jdarts.nets.auxiliary import windows
from jdarts.nets.discrete import DiscreteNetwork, cifar_network, imagenet_network, init_shapes
from jdarts.nets.drop_path import drop_path_factors
from jdarts.nets.reference_names import discrete_entries
from jdarts.trained.imported import import_weights

SKIP, MAX, AVG, SEPARABLE, DILATED = "skip_connect", "max_pool_3x3", "avg_pool_3x3", "sep_conv_3x3", "dil_conv_3x3"

MNIST: Any = "mnist"

#: All kinds of operations and strides; a node that nothing reads; an input that is concatenated; nodes out of order.
ODD = Genotype(
    normal=((SKIP, 0), ("conv_3x1_1x3", 1), (SEPARABLE, 1), (SEPARABLE, 0), (SEPARABLE, 0), (SEPARABLE, 3), (MAX, 3),
            ("sep_conv_7x7", 2), ("dil_conv_5x5", 2), (AVG, 0), (SKIP, 4)),
    normal_concat=(4, 0, 2),
    reduce=(("conv_7x1_1x7", 0), (SKIP, 1)),
    reduce_concat=(2,),
    edges_per_node=3,
)  # fmt: skip

#: Nodes of 3, 0, 1 and 4 edges, and two operations on one edge.
UNEQUAL = Genotype(
    normal=(
        (SKIP, 0),
        (SEPARABLE, 0),
        (AVG, 1),
        ("dil_conv_5x5", 2),
        (MAX, 0),
        (SKIP, 2),
        (SEPARABLE, 4),
        (SEPARABLE, 4),
    ),
    normal_concat=(2, 4, 5),
    reduce=((SEPARABLE, 1), (MAX, 0), (SKIP, 3)),
    reduce_concat=(3, 4),
    edges_per_node=((3, 0, 1, 4), (0, 1, 2)),
)


def random_arrays(network, seed=0):
    """Random weights and statistics of a network by PyTorch name."""
    draw = np.random.default_rng(seed)
    shapes = init_shapes(network)
    flat = {}
    for entry in discrete_entries(network):
        leaf: Any = functools.reduce(lambda tree, name: tree[name], entry.path, shapes)
        for name in entry.names:
            flat[name] = draw.normal(size=entry.layout.shape(leaf.shape[1:] if entry.stacked else leaf.shape)) * 0.4
            if name.endswith("running_var"):
                flat[name] = 0.5 + np.abs(flat[name])
    return {name: jnp.asarray(array) for name, array in flat.items()}


def close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9), found, expected)


CASES = {
    "odd": (ODD, "cifar", 4, 3, 8, True),
    "amoebanet": (zoo.AmoebaNet, "cifar", 2, 3, 8, False),
    "imagenet": (ODD, "imagenet", 2, 1, 32, False),
    "unequal nodes": (UNEQUAL, "cifar", 4, 3, 8, True),
}


@pytest.mark.parametrize(("genotype", "stem", "channels", "cells", "size", "drops"), CASES.values(), ids=list(CASES))
def test_a_network_is_the_plain_one(monkeypatch, genotype, stem, channels, cells, size, drops):
    network = DiscreteNetwork(genotype, stem, channels, cells, classes=3, auxiliary=False, dtype=jnp.float64)
    flat = random_arrays(network)
    draw = np.random.default_rng(1)
    images, cotangent = jnp.asarray(draw.normal(size=(4, size, size, 3))), jnp.asarray(draw.normal(size=(4, 3)))
    edges = sum(len(getattr(genotype, kind)) for kind in discrete.cell_kinds(cells))
    factors = jnp.asarray(draw.choice([0.0, 2.0], size=(edges, 4))) if drops else None
    monkeypatch.setattr(discrete, "drop_path_factors", lambda *_, **__: factors)

    variables = import_weights(network, flat)

    def ours(params):
        (logits, _), changed = network.apply(
            variables | {"params": params},
            images,
            train=True,
            drop_path=0.5 if drops else 0.0,
            rngs={"drop_path": jax.random.key(0)} if drops else {},
            mutable=["batch_stats"],
        )
        return jnp.sum(jnp.sin(logits) * cotangent), (logits, changed["batch_stats"])

    def plain(flat):
        logits, statistics = plain_network.forward(
            flat, images, genotype=genotype, stem=stem, cells=cells, factors=factors, train=True
        )
        return jnp.sum(jnp.sin(logits) * cotangent), (logits, statistics)

    def evaluation(variables):
        return network.apply(variables, images, train=False, drop_path=0.5)

    def plain_evaluation(flat):
        return plain_network.forward(flat, images, genotype=genotype, stem=stem, cells=cells, train=False)[0]

    @jax.jit
    def both_modes(variables):
        return jax.grad(ours, has_aux=True)(variables["params"]), evaluation(variables)

    (gradient, (logits, changed)), (evaluated, auxiliary) = both_modes(variables)
    plain_both = jax.jit(lambda flat: (jax.grad(plain, has_aux=True)(flat), plain_evaluation(flat)))
    (expected, (plain_logits, statistics)), plain_evaluated = plain_both(flat)
    close(logits, plain_logits)
    close(changed, import_weights(network, flat | statistics)["batch_stats"])
    close(gradient, import_weights(network, expected)["params"])
    close(evaluated, plain_evaluated)
    assert auxiliary is None


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    factors = drop_path_factors(jax.random.key(0), 0.2, (100, 200), jnp.float64)
    assert set(np.unique(factors)) == {0.0, 1 / 0.8}
    np.testing.assert_allclose(jnp.mean(factors), 1.0, atol=0.02)
    np.testing.assert_allclose(jnp.std(jnp.mean(factors, axis=0)), np.sqrt(0.2 / 0.8 / 100), rtol=0.3)
    traced = jax.jit(lambda p: drop_path_factors(jax.random.key(0), p, (100, 200), jnp.float32))
    np.testing.assert_allclose(traced(jnp.float64(0.2)) == 0, traced(0.2) == 0)
    assert jnp.all(traced(0.0) == 1)
    with pytest.raises(InputError, match=r"probability 1\.0; give a number from 0 to below 1"):
        drop_path_factors(jax.random.key(0), 1.0, (1,))


def small(**changes):
    settings = {"channels": 2, "cells": 1, "classes": 3, "auxiliary": False, "dtype": jnp.float64}
    return cifar_network(zoo.DARTS_V2, **(settings | changes))


def test_randomness_is_used_where_paths_are_dropped_and_nowhere_else():
    network = small()
    images = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, 8, 3)))
    variables = import_weights(network, random_arrays(network))

    def trained(**settings):
        return network.apply(variables, images, train=True, mutable=["batch_stats"], **settings)[0][0]

    @jax.jit
    def dropped(probability, key):
        return trained(drop_path=probability, rngs={"drop_path": key})

    whole = jax.jit(trained)()
    close(dropped(0.0, jax.random.key(0)), whole)
    one, other = (dropped(0.3, jax.random.key(seed)) for seed in (0, 1))
    assert jnp.all(jnp.any(one != other, axis=1))
    close(dropped(0.3, jax.random.key(0)), one)


def test_batch_statistics_over_devices_are_those_of_the_whole_batch():
    network, parallel = small(), small(axis_name="devices")
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 8, 8, 3)))
    variables = import_weights(network, random_arrays(network))

    def apply(network, images):
        return network.apply(variables, images, train=True, mutable=["batch_stats"])

    (whole, _), changed = jax.jit(functools.partial(apply, network))(images)
    halves = jax.vmap(functools.partial(apply, parallel), axis_name="devices")
    (logits, _), statistics = jax.jit(halves)(images.reshape(2, 2, *images.shape[1:]))
    close(logits.reshape(whole.shape), whole)
    close(jax.tree.map(lambda leaf: leaf[1], statistics), changed)


def test_small_grey_images():
    network = cifar_network(zoo.DARTS_V2, channels=4, cells=3, classes=10, auxiliary=False)
    images = jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)
    (logits, auxiliary), variables = jax.eval_shape(
        lambda key, x: network.init_with_output(key, x, train=True), jax.random.key(0), images
    )
    assert (logits.shape, auxiliary) == ((2, 10), None)
    assert "auxiliary" not in variables["params"]
    assert variables["params"]["stem"]["kernel"].shape == (3, 3, 1, 12)


def shapes_of(network, images, **settings):
    images = jax.ShapeDtypeStruct(images, network.dtype)
    return jax.eval_shape(lambda x: network.init(jax.random.key(0), x, **settings), images)


@pytest.mark.parametrize("size", [16, 28, 48, 64, 96, (28, 64)])
def test_the_auxiliary_head_fits_images_of_any_size(size):
    height, width = size if isinstance(size, tuple) else (size, size)
    network = cifar_network(zoo.DARTS_V2, channels=4, cells=3)
    images = jax.ShapeDtypeStruct((2, height, width, 3), jnp.float32)
    (logits, auxiliary), variables = jax.eval_shape(
        lambda x: network.init_with_output(jax.random.key(0), x, train=True), images
    )
    assert (logits.shape, auxiliary.shape) == ((2, 10), (2, 10))
    # Its weights are those of 32×32 images.
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, init_shapes(network))


@pytest.mark.parametrize("stride", [2, 3])
def test_two_windows_of_the_auxiliary_head_take_all_of_an_image(stride):
    paper = {3: range(8, 11), 2: range(7, 9)}[stride]
    for size in range(4, 300):
        window, step = windows(size, stride)
        assert (size - window) // step == 1 and 1 <= step < window
        if size in paper:
            assert (window, step) == (5, stride)
        else:
            assert window + step == size


def test_the_auxiliary_head_names_images_that_do_not_fit():
    network = cifar_network(zoo.DARTS_V2, channels=4, cells=20)
    expected = "needs states of 4×4 or more, and images of 8×8 at cell 13 of 20 are 2×2 there; .*--no-auxiliary"
    with pytest.raises(InputError, match=expected):
        shapes_of(network, (1, 8, 8, 3), train=True)


def test_in_evaluation_the_auxiliary_head_asks_for_nothing():
    network = small(auxiliary=True)
    with_head = init_shapes(network)
    assert "auxiliary" in with_head["params"]
    images = jax.ShapeDtypeStruct((1, 40, 40, 3), jnp.float64)
    logits, auxiliary = jax.eval_shape(lambda v, x: network.apply(v, x, train=False), with_head, images)
    assert (logits.shape, auxiliary) == ((1, 3), None)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small(channels=0), "channels is 0; give 1 or more"),
        (lambda: small(cells=0), "cells is 0"),
        (lambda: imagenet_network(zoo.DARTS_V2, channels=5), "channels is 5; .*even number"),
        (lambda: DiscreteNetwork(zoo.DARTS_V2, MNIST, 2, 1, 3, False).init(jax.random.key(0), jnp.zeros(1), train=False),
         "stem is 'mnist'; known are cifar, imagenet"),
        (lambda: cifar_network(Genotype(ODD.normal, (2,), ((SKIP, 0), (SKIP, 1)), (1, 2), edges_per_node=3)),
         r"reduce_concat is \[1, 2\]; .*give only nodes"),
        (lambda: shapes_of(small(cells=3), (1, 10, 10, 3), train=True), "10×10 are 5×5 at the reduction in cell 2 of 3"),
        (lambda: shapes_of(imagenet_network(zoo.DARTS_V2, channels=4, auxiliary=False), (1, 100, 100, 3), train=True),
         "100×100 are 25×25 at the last halving of the stem"),
        (lambda: small().init(jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.float32), train=True), "float32"),
    ],
)  # fmt: skip
def test_settings_that_make_no_network_are_explained(make, message):
    with pytest.raises(InputError, match=message):
        make()


def test_noise_takes_the_place_of_an_output():
    genotype = Genotype((("noise", 0), (SKIP, 1)), (2,), (("noise", 0), ("noise", 1)), (2,))
    network = cifar_network(genotype, channels=2, cells=1, classes=2, auxiliary=False)
    images = jnp.ones((2, 4, 4, 3), jnp.float32)
    variables = jax.jit(lambda key: network.init(key, images, train=False))(jax.random.key(0))
    logits = jax.jit(lambda key: network.apply(variables, images, train=False, rngs={"noise": key})[0])
    one, again, other = (np.asarray(logits(jax.random.key(seed))) for seed in (0, 0, 1))
    assert np.all(one == again)
    assert np.any(one != other)
