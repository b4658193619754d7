"""Weights in the type of narrower feature maps."""

import contextlib
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.tree_util import tree_leaves_with_path
from own_programs import own_programs

from jdarts.data import Augmentation
from jdarts.native import gpu
from jdarts.nets.discrete import cifar_network, imagenet_network
from jdarts.nets.narrow_weights import narrowed_together
from jdarts.nets.supernet import Supernet
from jdarts.relaxation import init_alphas
from jdarts.runs.images import Batch
from jdarts.search.step import supernet_loss
from jdarts.space import uniform_space
from jdarts.train.step import Conditions, train_program
from jdarts.xla.jaxprs import equations
from jdarts.xla.platform import compiling_for
from jdarts.zoo import DARTS_V2


@pytest.fixture
def for_gpus():
    """Programs for GPUs, whose functions a CPU runs."""
    with own_programs(), compiling_for("gpu"), gpu.emulated():
        yield


WEIGHTS = {
    "cell0": {"sep": {"depthwise1": jnp.linspace(-2.0, 3.0, 36, dtype=jnp.float32).reshape(1, 3, 3, 4)}},
    "classifier": {"kernel": jnp.full((4, 2), 0.3, jnp.float32)},
    "stem": {
        "kernel": jnp.linspace(0.1, 0.2, 12, dtype=jnp.float32).reshape(1, 1, 3, 4),
        "norm": {"scale": jnp.full((1, 4), 0.7, jnp.float32)},
    },
}


def one_by_one(weights):
    def cast(path, leaf):
        wide = any(key.key in ("scale", "bias", "classifier") for key in path)
        return leaf if wide else leaf.astype(jnp.bfloat16)

    return jax.tree_util.tree_map_with_path(cast, weights)


def test_the_numbers_are_those_of_each_cast(for_gpus):
    found = jax.jit(lambda weights: narrowed_together(weights, jnp.bfloat16))(WEIGHTS)
    assert str(jax.make_jaxpr(lambda weights: narrowed_together(weights, jnp.bfloat16))(WEIGHTS)).count("convert") == 1
    expected = one_by_one(WEIGHTS)
    assert jax.tree.map(lambda a: (a.shape, a.dtype), found) == jax.tree.map(lambda a: (a.shape, a.dtype), expected)
    assert all(map(jnp.array_equal, jax.tree.leaves(found), jax.tree.leaves(expected)))


def test_so_are_gradients_tangents_and_several_searches(for_gpus):
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, -leaf, leaf * leaf]), WEIGHTS)

    def derivatives(cast):
        def loss(weights):
            return sum(jnp.sum(jnp.sin(leaf.astype(jnp.float32))) for leaf in jax.tree.leaves(cast(weights)))

        def all_of_them(weights):
            return jax.grad(loss)(weights), jax.jvp(jax.grad(loss), (weights,), (weights,))[1]

        return jax.jit(jax.vmap(all_of_them))(several)

    found = derivatives(lambda weights: narrowed_together(weights, jnp.bfloat16))
    expected = derivatives(one_by_one)
    assert all(map(jnp.array_equal, jax.tree.leaves(found), jax.tree.leaves(expected)))


@pytest.mark.parametrize(("dtype", "platform"), [("float32", "gpu"), ("bfloat16", "cpu")])
def test_otherwise_weights_stay_as_they_are(dtype, platform):
    emulated = gpu.emulated() if platform == "gpu" else contextlib.nullcontext()
    with compiling_for(platform), emulated:
        assert narrowed_together(WEIGHTS, dtype) is WEIGHTS


NETWORKS = {
    "supernet": (lambda: Supernet(uniform_space(nodes=2), 4, 3, 10, dtype=jnp.bfloat16), 8),
    "cifar": (lambda: cifar_network(DARTS_V2, channels=4, cells=3, auxiliary=False, dtype=jnp.bfloat16), 8),
    "auxiliary": (lambda: cifar_network(DARTS_V2, channels=4, cells=3, auxiliary=True, dtype=jnp.bfloat16), 32),
    "imagenet": (lambda: imagenet_network(DARTS_V2, channels=4, cells=3, auxiliary=False, dtype=jnp.bfloat16), 64),
}


class Shapes(NamedTuple):
    """A network for GPUs, with the shapes of its images and alphas, its variables and its narrowed weights."""

    network: Any
    inputs: tuple[Any, ...]
    variables: Any
    narrowed: Any


@functools.cache
def shapes_of(name):
    make, size = NETWORKS[name]
    network = make()
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)

    def init(images, *alphas):
        key = jax.random.key(0)
        variables = network.init({"params": key, "noise": key}, images, *alphas, train=True)
        return variables, narrowed_together(variables["params"], jnp.bfloat16)

    with jax.enable_x64(False):
        alphas = ()
        if name == "supernet":
            alphas = (jax.eval_shape(lambda: init_alphas(jax.random.key(0), network.space)),)
        return Shapes(network, (images, *alphas), *jax.eval_shape(init, images, *alphas))


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_cast_no_weights_afterwards(name, for_gpus):
    """Those that are narrow are not read as wider ones, and no wide one is cast. Strict promotion refuses to mix both."""
    network, given, variables, params = shapes_of(name)

    def apply(variables, images, *alphas):
        key = jax.random.key(0)
        rngs = {"noise": key, "drop_path": key}
        return network.apply(variables, images, *alphas, train=True, mutable=["batch_stats"], rngs=rngs)

    with jax.enable_x64(False), jax.disable_jit():
        jaxpr = jax.make_jaxpr(apply)({**variables, "params": params}, *given).jaxpr
    assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32", "bfloat16"}
    assert {leaf.dtype.name for leaf in jax.tree.leaves(variables["batch_stats"])} == {"float32"}
    inputs = set(jaxpr.invars[: len(jax.tree.leaves(variables))])
    casts = [equation for equation in jaxpr.eqns if equation.primitive.name == "convert_element_type"]
    assert casts
    assert not [equation for equation in casts if not inputs.isdisjoint(equation.invars)]


@pytest.mark.parametrize("name", NETWORKS)
def test_norms_and_classifier_keep_their_type(name, for_gpus):
    """Everywhere in a network: what a batch norm reads in float32 has digits that bfloat16 does not have."""
    _, _, variables, params = shapes_of(name)
    kept = {jax.tree_util.keystr(path) for path, leaf in tree_leaves_with_path(params) if leaf.dtype == jnp.float32}
    expected = {
        jax.tree_util.keystr(path)
        for path, leaf in tree_leaves_with_path(variables["params"])
        # Kernels and matrices have more than the two axes of a norm's rows of channels.
        if leaf.ndim < 3
    }
    assert kept == expected and any("classifier" in path for path in kept)
    assert name == "supernet" or any("last" in path for path in kept)


def calls_that_split(traced):
    """Numbers of arrays that are made of bfloat16 vectors."""
    return [
        len(equation.outvars)
        for equation in equations(traced)
        if equation.primitive.name == "part" and "bfloat16" in str(equation.invars[0].aval)
    ]


def test_a_search_casts_its_weights_together(for_gpus, standard_promotion):
    network, (images, alphas), variables, _ = shapes_of("supernet")
    with jax.enable_x64(False):
        batch, key = (images, jnp.zeros(2, jnp.int32)), jax.random.key(0)
        loss_fn = supernet_loss(network)
        traced = jax.make_jaxpr(loss_fn)(variables["params"], alphas, variables["batch_stats"], batch, key)
    # All but the classifier's two and the stem's scale and bias.
    assert calls_that_split(traced) == [len(jax.tree.leaves(variables["params"])) - 4]


def test_a_training_casts_its_weights_together(for_gpus, standard_promotion):
    network = cifar_network(DARTS_V2, channels=4, cells=3, auxiliary=False, dtype=jnp.bfloat16)
    with jax.enable_x64(False):
        program = train_program(
            network,
            image_shape=(8, 8, 3),
            augmentation=Augmentation(),
            mean=(0.5,) * 3,
            std=(0.2,) * 3,
            optimizer=optax.sgd,
            drops_paths=False,
            label_smoothing=0.0,
            auxiliary_weight=0.0,
            ema_decay=0.0,
        )
        state = jax.eval_shape(program.init, jnp.uint32(0))
        batch = Batch(jnp.zeros((2, 8, 8, 3), jnp.uint8), jnp.zeros(2, jnp.int32), jnp.arange(2, dtype=jnp.int32))
        conditions = Conditions(jnp.float32(0.1), jnp.float32(0), jnp.bool(True))
        traced = jax.make_jaxpr(program.step)(state, batch, conditions)
    (count,) = set(calls_that_split(traced))
    # Kernels and matrices have more than two axes.
    assert count == len([leaf for leaf in jax.tree.leaves(state.weights) if leaf.ndim > 2])
