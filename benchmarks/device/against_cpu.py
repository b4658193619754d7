"""The device's numbers against those of the CPU beside it, for small networks whose sizes take different functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.nets.supernet import Supernet
from jdarts.relaxation import init_alphas
from jdarts.search.step import supernet_loss
from jdarts.space import uniform_space


class Network(NamedTuple):
    """A search network of three cells, two of which reduce, and its batch."""

    channels: int
    nodes: int
    image_size: int
    batch: int
    dtype: str

    @property
    def name(self) -> str:
        """As `C=8, nodes=2, 16×16, float32`."""
        return f"C={self.channels}, nodes={self.nodes}, {self.image_size}×{self.image_size}, {self.dtype}"


#: Functions for channels in fours; tiles of large images; functions for other numbers of channels; bfloat16.
NETWORKS = (
    Network(channels=8, nodes=2, image_size=16, batch=6, dtype="float32"),
    Network(channels=16, nodes=1, image_size=32, batch=5, dtype="float32"),
    Network(channels=6, nodes=1, image_size=12, batch=3, dtype="float32"),
    Network(channels=8, nodes=1, image_size=8, batch=4, dtype="bfloat16"),
)
QUICK_NETWORKS = (Network(channels=4, nodes=1, image_size=8, batch=2, dtype="float32"),)


def prepare_comparison(*, quick: bool) -> Callable[[], dict[str, Any]]:
    """Compiles loss, batch statistics, gradients and a product of second derivatives for the device and for the CPU.

    Args:
      quick: one tiny network alone.

    Returns:
      A function that gives, for each network, the largest distance ‖device − CPU‖ / ‖CPU‖ of an array of each of them.
    """
    pairs = [(network, *_compiled(network)) for network in (QUICK_NETWORKS if quick else NETWORKS)]

    def measure() -> dict[str, Any]:
        return {"distances": {network.name: _distances(*programs, inputs) for network, programs, inputs in pairs}}

    return measure


def _compiled(network: Network) -> tuple[tuple[Any, Any], tuple[Any, ...]]:
    """The programs for the device and the CPU, and their inputs on the CPU."""
    cpu = jax.local_devices(backend="cpu")[0]
    space = uniform_space(nodes=network.nodes)
    model = Supernet(space, network.channels, 3, 10, dtype=jnp.dtype(network.dtype))
    loss_fn, random = supernet_loss(model), np.random.default_rng(0)
    key = jax.random.key(0)

    def normal(like: Any) -> Any:
        return jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape), leaf.dtype), like)

    with jax.default_device(cpu):
        shape = (network.batch, network.image_size, network.image_size, 3)
        images = jnp.asarray(random.standard_normal(shape), jnp.float32)
        labels = jnp.asarray(random.integers(10, size=network.batch), jnp.int32)
        alphas = normal(init_alphas(key, space))
        init = jax.jit(lambda key: model.init({"params": key, "noise": key}, images, alphas, train=True))
        variables = init(key)
        weights, statistics = variables["params"], variables["batch_stats"]
        inputs = weights, alphas, statistics, (images, labels), normal(weights)

    def everything(weights: Any, alphas: Any, statistics: Any, batch: Any, tangent: Any) -> dict[str, Any]:
        def loss(weights: Any, alphas: Any) -> Any:
            return loss_fn(weights, alphas, statistics, batch, key)

        def alpha_gradient(weights: Any) -> Any:
            return jax.grad(lambda alphas: loss(weights, alphas)[0])(alphas)

        both = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
        (value, (moved, _)), (of_weights, of_alphas) = both(weights, alphas)
        return {
            "loss": value,
            "running statistics": moved,
            "gradient of the weights": of_weights,
            "gradient of the alphas": of_alphas,
            "product of second derivatives": jax.jvp(alpha_gradient, (weights,), (tangent,))[1],
        }

    programs = [
        jax.jit(everything).lower(*jax.device_put(inputs, device)).compile() for device in (jax.local_devices()[0], cpu)
    ]
    return (programs[0], programs[1]), inputs


def _distances(on_device: Any, on_cpu: Any, inputs: Any) -> dict[str, float]:
    """The largest distance of an array, for each result."""
    found = jax.device_get(on_device(*jax.device_put(inputs, jax.local_devices()[0])))
    expected = jax.device_get(on_cpu(*inputs))
    return {name: distance(found[name], value) for name, value in expected.items()}


def distance(found: Any, expected: Any) -> float:
    """The largest ‖found − expected‖ / ‖expected‖ of any array of a tree; of tiny ones, beside the tree's longest array."""
    pairs = [
        (np.asarray(ours, np.float64), np.asarray(theirs, np.float64))
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    ]
    floor = 1e-6 * max(float(np.linalg.norm(theirs)) for _, theirs in pairs)
    return max(
        float(np.linalg.norm(ours - theirs)) / max(float(np.linalg.norm(theirs)), floor) for ours, theirs in pairs
    )
