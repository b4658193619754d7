import jax
import jax.numpy as jnp
import numpy as np

from jdarts import zoo
from jdarts.nets.discrete import cifar_network
from jdarts.nets.initial import initial_variables


def test_one_draw_has_the_distribution_of_the_networks_own_initial_values():
    network = cifar_network(zoo.DARTS_V1, channels=8, cells=1, auxiliary=False)
    images = jnp.zeros((1, 4, 4, 3), jnp.float32)

    def init(key):
        return network.init(key, images, train=False)

    ours, theirs = initial_variables(init, jax.random.key(0)), jax.jit(init)(jax.random.key(0))

    def alike(a, b):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        if b.size > 100:
            np.testing.assert_allclose([a.min(), a.max()], [b.min(), b.max()], rtol=0.1)
            np.testing.assert_allclose(a.std(), b.std(), rtol=0.15)
        if jnp.all(b == b.reshape(-1)[0]):
            assert jnp.all(a == b)

    jax.tree.map(alike, ours, theirs)
    other = initial_variables(init, jax.random.key(1))
    again = initial_variables(init, jax.random.key(0))
    kernel = ours["params"]["stem"]["kernel"]
    assert jnp.all(kernel == again["params"]["stem"]["kernel"])
    assert jnp.all(kernel != other["params"]["stem"]["kernel"])
    # No part of the random numbers is used twice.
    drawn = np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(ours["params"]["cell0"]) if jnp.any(leaf != 0)])
    assert np.unique(drawn).size == drawn.size
