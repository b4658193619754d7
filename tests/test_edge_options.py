"""Options of mixed edges: the stacked supernet against the one that is written edge by edge, in float64."""

import contextlib
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import plain_supernet
import pytest
from own_programs import own_programs
from torch_layout import stacked_params, stacked_statistics

import jdarts
from jdarts.errors import InputError
from jdarts.nets import mixed_stage
from jdarts.nets.counts import network_sizes, total
from jdarts.nets.initial import from_one_draw
from jdarts.nets.supernet import Supernet
from jdarts.ops.dropout import dropout
from jdarts.relaxation import GIVEN, Mixture, MixtureWeights, init_alphas, softmax_strengths, softmax_weights
from jdarts.space import CELL_KINDS

SEPARABLE, DILATED, SKIP, MAX, AVG = "sep_conv_3x3", "dil_conv_5x5", "skip_connect", "max_pool_3x3", "avg_pool_3x3"

#: Every edge has a skip connection, in another column than its neighbours; lists have several lengths.
SPACE = jdarts.SearchSpace(
    normal=((SKIP, DILATED), ("none", SEPARABLE, SKIP), (MAX, SKIP), (SKIP,), (AVG, SKIP, MAX)),
    reduce=((SKIP, MAX), (DILATED, SKIP), (SKIP, SEPARABLE), ("none", AVG, SKIP), (SKIP,)),
)
#: With convolutions in the normal cell alone, for options that do not change how these are computed. No state has two pools of a
#: kind, whose statistics its edges share.
LIGHT = jdarts.SearchSpace(
    normal=((SKIP, DILATED), ("none", SEPARABLE, SKIP), (SKIP,), (SKIP,), (AVG, SKIP)),
    reduce=((SKIP, MAX), (AVG, SKIP), (SKIP,), ("none", MAX, SKIP), (SKIP, AVG)),
)
CELLS, IMAGES = 3, 3


def _alphas_with_edges(key, space, dtype):
    edges = {kind: jnp.ones(space.num_edges, dtype) for kind in CELL_KINDS}
    return {"operations": init_alphas(key, space, dtype), "edges": edges}


#: A mixture whose alphas also have factors of whole edges.
WITH_EDGES = Mixture(
    _alphas_with_edges,
    lambda alphas, space, key, controls: MixtureWeights(softmax_weights(alphas["operations"], space), alphas["edges"]),
    softmax_strengths,
)


def factors(number, shape):
    """Numbers that stand for those of a random mask, another set for every place."""
    return jnp.asarray(np.random.default_rng(number).choice([0.0, 1.0, 2.5], size=shape))


def options_of(name):
    """Attributes of the supernet, controls, and options of the plain network."""
    plain = functools.partial(plain_supernet.Options, skip_factors=factors, path_factors=factors)
    off: Any = {"skip_factors": None, "path_factors": None}
    match name:
        case "partial_channels":
            return {"partial_channels": 4}, {}, plain(partial_channels=4, **off)
        case "auxiliary_skip":
            kinds: Any = {"auxiliary_skip": "skip", "auxiliary_weight": 0.7}
            return {"auxiliary_skip": "skip"}, {"auxiliary_weight": 0.7}, plain(**kinds, **off)
        case "auxiliary_convolution":
            kinds = {"auxiliary_skip": "conv", "auxiliary_weight": 0.7}
            return {"auxiliary_skip": "conv"}, {"auxiliary_weight": 0.7}, plain(**kinds, **off)
        case "skip_dropout":
            return {"skip_dropout": True}, {"skip_dropout": 0.5}, plain(path_factors=None)
        case "drop_path":
            return {"drop_path": True}, {"drop_path": 0.5}, plain(skip_factors=None)
        case "unused":
            given: Any = {"skips_unused": True, "given_shares": True}
            return {"skips_unused": True, "mixture": GIVEN}, {}, plain(**given, **off)
    settings = {"partial_channels": 4, "auxiliary_skip": "conv", "skip_dropout": True, "drop_path": True}
    controls = {"auxiliary_weight": 0.7, "skip_dropout": 0.5, "drop_path": 0.5}
    return settings, controls, plain(partial_channels=4, auxiliary_skip="conv", auxiliary_weight=0.7)


NAMES = ("partial_channels", "auxiliary_skip", "auxiliary_convolution", "skip_dropout", "drop_path", "all_at_once")


class Pair:
    """The stacked network and the plain one with the same options and random weights."""

    def __init__(self, name, space=SPACE, cells=1, channels=8):
        draw = np.random.default_rng(0)
        self.space, self.cells = space, cells
        settings, self.controls, self.options = options_of(name)
        sizes = {"channels": channels, "layers": cells, "classes": 3, "image_channels": 1}
        shape = {"space": self.space, "options": self.options, **sizes}
        self.flat = plain_supernet.init_weights(draw, dtype=np.float64, **shape)
        settings = {"mixture": WITH_EDGES, **settings}
        self.model = Supernet(self.space, channels=channels, cells=cells, classes=3, dtype=jnp.float64, **settings)
        self.alphas: Any = {
            "operations": {kind: jnp.asarray(draw.normal(size=(5, self.space.width(kind)))) for kind in CELL_KINDS},
            "edges": {kind: jnp.asarray(draw.uniform(0.3, 1, size=5)) for kind in CELL_KINDS},
        }
        self.images = jnp.asarray(draw.normal(size=(IMAGES, 8, 8, 1)))
        self.cotangent = jnp.asarray(draw.normal(size=(IMAGES, 3)))
        self.params = jax.tree.map(jnp.asarray, stacked_params(self.flat, self.space, cells))
        by_edge = self.options.skips_unused
        self.statistics = jax.tree.map(jnp.asarray, stacked_statistics(self.flat, self.space, cells, by_edge=by_edge))

    def stacked(self, params, alphas, *, train, **settings):
        variables = {"params": params, "batch_stats": self.statistics}
        return self.model.clone(**settings).apply(
            variables,
            self.images,
            alphas,
            train=train,
            controls=self.controls,
            mutable=["batch_stats"],
            rngs={"noise": jax.random.key(1)} if train else {},
        )

    def plain(self, flat, alphas, *, train):
        return plain_supernet.forward(
            flat,
            alphas["operations"],
            self.images,
            space=self.space,
            train=train,
            edge_shares=alphas["edges"],
            options=self.options,
        )

    def value(self, params, alphas, **settings):
        logits, changed = self.stacked(params, alphas, train=True, **settings)
        return jnp.sum(jnp.sin(logits) * self.cotangent), (logits, changed["batch_stats"])


@contextlib.contextmanager
def known_masks():
    """Masks that the plain network knows: another one for every place of a stage."""

    def dropout(key, x, probability, **_):
        return x * jnp.stack([factors(place, x.shape[1:]) for place in range(x.shape[0])])

    def drop_path_factors(key, probability, shape, dtype, **_):
        return jnp.stack([factors(place, shape[1:]) for place in range(shape[0])])

    with own_programs(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(mixed_stage, "dropout", dropout)
        patch.setattr(mixed_stage, "drop_path_factors", drop_path_factors)
        yield


def close(found, expected):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10), found, expected)


#: Other networks than one reduction cell, which has edges of both strides, with operations on two channels: these are compiled
#: once. A part of the channels is two too; all options at once are those of cells of both kinds.
NETWORKS: dict[str, Any] = {"partial_channels": {}, "all_at_once": {"space": LIGHT, "cells": CELLS}}


def trained_and_evaluated(name):
    """The pair of an option; what the stacked network computes in training and in evaluation; the same of the plain one."""
    pair = Pair(name, **NETWORKS.get(name, {"space": LIGHT, "channels": 2}))
    frozen = {n: value for n, value in pair.flat.items() if plain_supernet.is_running_statistic(n)}
    moving = {n: jnp.asarray(value) for n, value in pair.flat.items() if n not in frozen}

    def plain(flat, alphas):
        logits, statistics = pair.plain(flat | frozen, alphas, train=True)
        return jnp.sum(jnp.sin(logits) * pair.cotangent), (logits, statistics)

    @jax.jit
    def stacked(params, alphas):
        evaluated, unchanged = pair.stacked(params, alphas, train=False)
        return jax.grad(pair.value, argnums=(0, 1), has_aux=True)(params, alphas), evaluated, unchanged["batch_stats"]

    expected = jax.grad(plain, argnums=(0, 1), has_aux=True)(moving, pair.alphas)
    return pair, stacked(pair.params, pair.alphas), expected, pair.plain(pair.flat, pair.alphas, train=False)[0]


@pytest.fixture(scope="module")
def both_networks():
    """What both networks compute with every option; the plain one's operations are compiled once for all."""
    with known_masks():
        return {name: trained_and_evaluated(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_training_and_evaluation_are_those_of_the_plain_network(name, both_networks):
    pair, found, expected, plain_evaluated = both_networks[name]
    (grads, (logits, statistics)), evaluated, unchanged = found
    by_plain, (plain_logits, plain_statistics) = expected
    close(logits, plain_logits)
    changed = {n: np.asarray(value) for n, value in plain_statistics.items()}
    close(statistics, stacked_statistics(pair.flat | changed, pair.space, pair.cells))
    of_weights = {n: np.asarray(value) for n, value in by_plain[0].items()}
    close(grads[0], stacked_params(of_weights, pair.space, pair.cells))
    close(grads[1], by_plain[1])
    close(evaluated, plain_evaluated)
    close(unchanged, pair.statistics)


def test_operations_of_factor_0_keep_their_statistics():
    pair = Pair("unused")
    # On every edge of the reduction cell one operation alone, another one each time; on the last edge none.
    pair.alphas = {kind: np.zeros((5, SPACE.width(kind))) for kind in CELL_KINDS}
    for edge, column in enumerate((1, 0, 0, 1)):
        pair.alphas["reduce"][edge, column] = 1
    logits, changed = jax.jit(functools.partial(pair.stacked, train=True))(pair.params, pair.alphas)
    expected, statistics = pair.plain(pair.flat, {"operations": pair.alphas, "edges": None}, train=True)
    close(logits, expected)
    flat = {n: np.asarray(value) for n, value in statistics.items()}
    close(changed["batch_stats"], stacked_statistics(flat, SPACE, pair.cells, by_edge=True))
    evaluated, _ = jax.jit(functools.partial(pair.stacked, train=False))(pair.params, pair.alphas)
    close(evaluated, pair.plain(pair.flat, {"operations": pair.alphas, "edges": None}, train=False)[0])


def test_options_that_change_nothing_are_darts():
    """Bit for bit: one part of the channels, no weight of the auxiliary skip connection, probabilities of 0."""
    pair, with_auxiliary = Pair("skip_dropout", LIGHT), Pair("auxiliary_skip", LIGHT)
    plain = pair.model.clone(skip_dropout=False)

    def logits(model, pair=pair, **controls):
        def apply(params, statistics):
            rngs = {"noise": jax.random.key(2)}
            variables = {"params": params, "batch_stats": statistics}
            return model.apply(
                variables, pair.images, pair.alphas, train=True, controls=controls, mutable=["batch_stats"], rngs=rngs
            )

        return jax.jit(apply)(pair.params, pair.statistics)

    expected = logits(plain)
    faded, _ = logits(with_auxiliary.model, with_auxiliary, auxiliary_weight=0.0)
    without = with_auxiliary.model.clone(auxiliary_skip="none")
    # Training reads no running statistics, and those of the auxiliary skip connections have no place here.
    shapes = jax.eval_shape(
        lambda: without.init(jax.random.key(0), with_auxiliary.images, with_auxiliary.alphas, train=False)
    )
    with_auxiliary.statistics = jax.tree.map(lambda leaf: jnp.ones(leaf.shape, leaf.dtype), shapes["batch_stats"])
    np.testing.assert_array_equal(faded, logits(without, with_auxiliary)[0])
    off = {"skip_dropout": True, "auxiliary_skip": "none"}
    found = logits(plain.clone(partial_channels=1, **off), skip_dropout=0.0)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    close(logits(plain.clone(drop_path=True), drop_path=0.0), expected)


def test_derivatives_of_both_modes_to_second_order_natively_and_in_operations_of_xla(monkeypatch):
    # A reduction cell has edges of both strides.
    pair = Pair("all_at_once")
    inputs = jax.tree.map(np.asarray, (pair.params, pair.alphas))
    direction = jax.tree.map(np.cos, inputs)

    def gradient(params, alphas):
        return jax.grad(lambda *inputs: pair.value(*inputs)[0], argnums=(0, 1))(params, alphas)

    def products(params, alphas):
        found, forward = jax.jvp(gradient, (params, alphas), direction)
        slope = jax.grad(lambda *inputs: _inner(gradient(*inputs), direction), argnums=(0, 1))
        return forward, slope(params, alphas), found

    step = 1e-6
    moved = [jax.tree.map(lambda a, d, s=sign: a + s * step * d, inputs, direction) for sign in (1, -1)]
    found = []
    for switch in ("1", "0"):
        monkeypatch.setenv("JDARTS_NATIVE", switch)
        with own_programs():
            compiled = jax.jit(products).lower(*inputs).compile()
        found.append(compiled(*inputs))
    plus, minus = (compiled(*each)[2] for each in moved)
    close(found[1], found[0])
    forward, backward, _ = found[0]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-8, atol=1e-9), forward, backward)
    slopes = jax.tree.map(lambda a, b: (a - b) / (2 * step), plus[1], minus[1])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), slopes, forward[1])


def _inner(tree, other):
    return sum(jnp.vdot(a, b) for a, b in zip(jax.tree.leaves(tree), jax.tree.leaves(other)))


def test_vmap_and_cells_that_are_computed_again_give_the_same_numbers():
    pair = Pair("all_at_once")

    def gradient(scale, *, remat=False):
        scaled = jax.tree.map(lambda leaf: scale * leaf, pair.alphas)
        return jax.grad(lambda alphas: pair.value(pair.params, alphas, remat=remat)[0])(scaled)

    expected = jax.jit(gradient)(1.5)
    together = jax.jit(jax.vmap(gradient))(jnp.asarray([1.0, 1.5]))
    close(jax.tree.map(lambda leaf: leaf[1], together), expected)
    close(jax.jit(functools.partial(gradient, remat=True))(1.5), expected)


def test_devices_that_share_a_batch_find_its_numbers():
    """With statistics of the whole batch, for options without random numbers."""
    pair = Pair("partial_channels")
    settings = {"partial_channels": 2, "auxiliary_skip": "conv", "skips_unused": True}
    model = pair.model.clone(axis_name="devices", **settings)
    images = pair.images[:2]
    alone = model.clone(axis_name=None)
    shapes = jax.eval_shape(lambda: alone.init(jax.random.key(0), images, pair.alphas, train=True))
    draw = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: draw.uniform(0.5, 1, leaf.shape).astype(leaf.dtype), shapes)

    def logits(model, images):
        controls = {"auxiliary_weight": 0.5}
        return model.apply(variables, images, pair.alphas, train=True, controls=controls, mutable=["batch_stats"])

    expected, statistics = jax.jit(lambda: logits(alone, images))()
    shared, of_devices = jax.pmap(lambda part: logits(model, part), axis_name="devices")(images[:, None])
    close(shared[:, 0], expected)
    close(jax.tree.map(lambda leaf: leaf[0], of_devices), statistics)


def test_narrow_feature_maps():
    pair = Pair("all_at_once")
    narrow, params, alphas, images = (
        jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), tree)
        for tree in (pair.statistics, pair.params, pair.alphas, pair.images)
    )
    pair.statistics, pair.images = narrow, images
    wide, found = (
        jax.jit(functools.partial(pair.stacked, train=True, dtype=dtype))(params, alphas)
        for dtype in (jnp.float32, jnp.bfloat16)
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(found)} == {jnp.dtype(jnp.float32)}
    logits, wide_logits = np.asarray(found[0]), np.asarray(wide[0])
    assert np.max(np.abs(logits - wide_logits)) < 0.1 * np.max(np.abs(wide_logits))


def test_networks_start_with_identities_and_without_controls():
    model = Supernet(SPACE, 8, CELLS, 3, auxiliary_skip="conv", skip_dropout=True, drop_path=True)
    alphas = init_alphas(jax.random.key(0), SPACE)
    images = jnp.zeros((1, 8, 8, 1), jnp.float32)
    key = jax.random.key(0)
    drawn = jax.jit(from_one_draw(lambda key: model.init({"params": key, "noise": key}, images, alphas, train=True)))(
        key
    )
    params = drawn["params"]
    for path, edges, channels in (("cell0/stage0", 4, 8), ("cell0/stage1", 1, 8), ("cell1/stage1", 1, 16)):
        cell, stage = path.split("/")
        matrices = params[cell][stage]["auxiliary_skip"]["pointwise"]
        np.testing.assert_array_equal(matrices, np.broadcast_to(np.eye(channels), (edges, channels, channels)))
    assert params["cell1"]["stage0"]["auxiliary_skip"].keys() == {"even", "odd"}
    controls = {"auxiliary_weight": 1.0}
    with pytest.raises(InputError, match="the controls lack 'skip_dropout', which the network reads; give a number"):
        jax.eval_shape(
            lambda v: model.apply(v, images, alphas, train=True, controls=controls, rngs={"noise": key}), drawn
        )
    jax.eval_shape(lambda v: model.apply(v, images, alphas, train=False, controls=controls), drawn)


WRONG = {
    "channels that do not divide": (
        6,
        {"partial_channels": 4},
        "6 channels do not divide by partial_channels 4; give 4 or 8 channels, or partial_channels among 1, 2, 3, 6",
    ),
    "too few channels": (2, {"partial_channels": 4}, "give 4 channels, or partial_channels among 1, 2"),
    "no part": (8, {"partial_channels": 0}, "partial_channels is 0; give 1 or more"),
    "another kind": (8, {"auxiliary_skip": "pool"}, "auxiliary_skip is 'pool'; give one of none, skip, conv"),
}


def test_sizes_of_networks_with_options():
    """Counted in the network's program: the plain network's weights, of a quarter of the channels."""
    plain = plain_supernet.Options(partial_channels=4, auxiliary_skip="conv")
    sizes: dict[str, Any] = {"channels": 8, "layers": CELLS, "classes": 3, "image_channels": 1}
    flat = plain_supernet.init_weights(np.random.default_rng(0), dtype=np.float64, space=SPACE, options=plain, **sizes)
    model = Supernet(SPACE, 8, CELLS, 3, partial_channels=4, auxiliary_skip="conv")
    alphas = {kind: jax.ShapeDtypeStruct((5, SPACE.width(kind)), jnp.float32) for kind in CELL_KINDS}
    found = network_sizes(model, (8, 8, 1), alphas, controls={"auxiliary_weight": 1.0})
    assert total(found).weights == plain_supernet.num_weights(flat)
    whole = total(network_sizes(Supernet(SPACE, 8, CELLS, 3), (8, 8, 1), alphas))
    assert total(found).multiply_adds < whole.multiply_adds


@pytest.mark.parametrize("channels, settings, message", WRONG.values(), ids=list(WRONG))
def test_wrong_options_are_refused(channels, settings, message):
    model = Supernet(SPACE, channels, CELLS, 3, **settings)
    alphas = init_alphas(jax.random.key(0), SPACE)
    with pytest.raises(InputError, match=message):
        jax.eval_shape(lambda: model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1), jnp.float32), alphas, train=True))


def test_dropout_drops_single_numbers_and_keeps_the_mean():
    x = jnp.ones((4, 10, 32, 32, 8), jnp.float32)
    drop = jax.jit(dropout)
    y = np.asarray(drop(jax.random.key(0), x, 0.3))
    assert set(np.unique(y)) == {0, np.float32(1) / np.float32(0.7)}
    kept = (y > 0).astype(float)
    error = 4 * np.sqrt(0.3 * 0.7 / y.size)
    assert abs(kept.mean() - 0.7) < error
    # Neighbours along every axis, and the same places under another key, are independent.
    other = np.asarray(drop(jax.random.key(1), x, 0.3)) > 0
    pairs = [np.moveaxis(kept, axis, 0) for axis in range(kept.ndim)]
    for one, two in [(pair[:-1], pair[1:]) for pair in pairs] + [(kept, other)]:
        correlation = np.corrcoef(np.ravel(one), np.ravel(two))[0, 1]
        assert abs(correlation) < 4 / np.sqrt(one.size)
    # So are the bits of a number's place.
    flat = kept.reshape(-1)
    for bit in range(18):
        ones = flat[(np.arange(flat.size) >> bit) % 2 == 1].mean()
        assert abs(ones - 0.7) < 2 * error
    np.testing.assert_array_equal(drop(jax.random.key(0), x, 0.0), x)


def test_what_is_dropped_of_an_image_does_not_depend_on_the_number_of_devices():
    key, x = jax.random.key(3), np.ones((3, 4, 2, 2, 5))

    def dropped(part, axis_name=None):
        return dropout(key, part, 0.3, axis=1, axis_name=axis_name)

    parts = np.stack(np.split(x, 2, axis=1))
    shared = jax.jit(jax.vmap(functools.partial(dropped, axis_name="devices"), axis_name="devices"))(parts)
    np.testing.assert_array_equal(np.concatenate(list(shared), axis=1), jax.jit(dropped)(x))


def test_dropped_skips_and_edges_differ_between_edges_images_and_keys(monkeypatch):
    """Training draws from its key; evaluation draws nothing."""
    pair = Pair("all_at_once")

    def trained(seed, images=pair.images):
        variables = {"params": pair.params, "batch_stats": pair.statistics}
        rngs = {"noise": jax.random.key(seed)}
        return pair.model.apply(
            variables, images, pair.alphas, train=True, controls=pair.controls, mutable=["batch_stats"], rngs=rngs
        )[0]

    compiled = jax.jit(trained)
    np.testing.assert_array_equal(compiled(0), compiled(0))
    assert np.all(np.any(np.asarray(compiled(0)) != np.asarray(compiled(2)), axis=1))
    seen = []
    monkeypatch.setattr(
        mixed_stage, "drop_path_factors", lambda *inputs, **_: seen.append(inputs) or jnp.ones(inputs[2])
    )
    with own_programs():
        jax.eval_shape(trained, 0)
    assert {shape for _, _, shape, _ in seen} == {(4, IMAGES), (1, IMAGES)}
