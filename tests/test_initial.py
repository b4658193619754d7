import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts import zoo
from jdarts.nets.discrete import cifar_network
from jdarts.nets.initial import from_one_draw, shapes_of
from jdarts.nets.language import LanguageModel
from jdarts.nets.supernet import Supernet
from jdarts.relaxation import init_alphas
from jdarts.space import recurrent_space, uniform_space

SPACE, RECURRENT = uniform_space(nodes=1), recurrent_space(nodes=2)


def of_a_discrete_network(key):
    network = cifar_network(zoo.DARTS_V1, channels=8, cells=1, auxiliary=False)
    return network.init(key, jnp.zeros((1, 4, 4, 3), jnp.float32), train=False)


def of_a_supernet(key):
    network = Supernet(SPACE, 4, 1, 10)
    images = jnp.zeros((1, 4, 4, 3), jnp.float32)
    return network.init({"params": key, "noise": key}, images, init_alphas(key, SPACE, jnp.float32), train=True)


def of_a_language_model(key):
    network = LanguageModel(RECURRENT, 50, 8, jnp.float32)
    hidden, words = jnp.zeros((2, 8), jnp.float32), jnp.zeros((1, 2), jnp.int32)
    return network.init(key, words, hidden, init_alphas(key, RECURRENT, jnp.float32), train=True)


NETWORKS = (of_a_discrete_network, of_a_supernet, of_a_language_model)


@pytest.mark.parametrize("init", NETWORKS)
def test_every_array_has_the_distribution_of_the_networks_own_initial_values(init):
    key = jax.random.key(0)
    ours, theirs = jax.device_get((jax.jit(from_one_draw(init))(key), jax.jit(init)(key)))
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    drawn = 0
    for (path, a), b in zip(jax.tree.leaves_with_path(ours), jax.tree.leaves(theirs)):
        where = jax.tree_util.keystr(path)
        assert (a.shape, a.dtype) == (b.shape, b.dtype), where
        if np.all(b == b.flat[0]):
            assert np.all(a == b), where
            continue
        drawn += 1
        # Both are uniform between the same bounds: their deciles agree within a few standard errors.
        low, high = np.min(b), np.max(b)
        assert np.min(a) > low - (high - low) / 2, where
        if b.size >= 100:
            tolerance = 6 * float(high - low) / b.size**0.5
            places = np.linspace(0, 1, 11)
            np.testing.assert_allclose(np.quantile(a, places), np.quantile(b, places), atol=tolerance, err_msg=where)
    assert drawn >= 3


@pytest.mark.parametrize("init", NETWORKS)
def test_no_number_is_drawn_twice_and_neighbours_are_independent(init):
    ours = jax.device_get(jax.jit(from_one_draw(init))(jax.random.key(0)))
    leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(ours) if np.unique(leaf).size > 1 and leaf.size > 20]
    standard = np.concatenate([(leaf - leaf.mean()) / leaf.std() for leaf in leaves])
    assert np.unique(np.concatenate(leaves)).size > 0.99 * standard.size
    for shift in (1, leaves[0].size):
        assert abs(np.corrcoef(standard[:-shift], standard[shift:])[0, 1]) < 5 / standard.size**0.5


def test_shapes_take_one_trace_and_no_compilation():
    traced = []

    @from_one_draw
    def draw(key):
        traced.append(key)
        return of_a_discrete_network(key)

    key = jax.random.key(0)
    shapes = shapes_of(draw, key)
    assert len(traced) == 1
    # What was evaluated for its shapes draws numbers afterwards.
    drawn = jax.device_get(jax.jit(draw)(key))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), drawn) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), shapes
    )
    assert np.unique(drawn["params"]["stem"]["kernel"]).size > 10


def test_the_key_decides_in_programs_of_any_kind():
    draw = from_one_draw(of_a_discrete_network)

    def kernel(variables):
        return variables["params"]["stem"]["kernel"]

    eager, compiled = kernel(draw(jax.random.key(1))), jax.jit(draw)(jax.random.key(1))
    np.testing.assert_allclose(eager, kernel(compiled), rtol=0, atol=1e-6)
    seeds = np.arange(3, dtype=np.uint32)
    of_seeds = kernel(jax.jit(lambda seeds: jax.lax.map(lambda seed: draw(jax.random.key(seed)), seeds))(seeds))
    np.testing.assert_allclose(of_seeds[1], eager, rtol=0, atol=1e-6)
    assert not np.any(of_seeds[0] == of_seeds[1])
    shapes = jax.eval_shape(from_one_draw(of_a_discrete_network), jax.random.key(0))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), shapes) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), compiled
    )


def test_bounds_follow_each_layers_own_inputs():
    def init(key):
        keys = jax.random.split(key, 3)
        return {
            "wide": jax.random.uniform(keys[0], (400, 30), jnp.float32, -0.05, 0.05),
            "narrow": jax.random.uniform(keys[1], (4, 3000), jnp.float32, -0.5, 0.5),
            "scale": jax.random.uniform(keys[2], (12000,), jnp.float32),
            "zero": jnp.zeros((3, 2), jnp.float32),
            "one": jnp.ones((), jnp.float32),
            "identities": jnp.broadcast_to(jnp.eye(3, dtype=jnp.float32), (4, 3, 3)),
        }

    found = jax.jit(from_one_draw(init))(jax.random.key(5))
    for name, low, high in (("wide", -0.05, 0.05), ("narrow", -0.5, 0.5), ("scale", 0.0, 1.0)):
        values, width = np.asarray(found[name]), high - low
        assert low <= values.min() < low + 0.002 * width, name
        assert high >= values.max() > high - 0.002 * width, name
        np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=0.02 * width)
        np.testing.assert_allclose(values.std(), width / 12**0.5, rtol=0.02)
    assert np.all(found["zero"] == 0)
    assert found["one"] == 1
    assert np.all(np.asarray(found["identities"]) == np.eye(3))
