"""Numbers that this device computes, against those of the CPU beside it or of JAX's own operations."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.doctor.findings import Finding
from jdarts.nets.supernet import Supernet
from jdarts.relaxation import init_alphas
from jdarts.search.step import supernet_loss
from jdarts.space import uniform_space
from jdarts.xla.plain import in_operations_of_jax


class Network(NamedTuple):
    """A search network and its batch. Of three cells two reduce; a single one reduces."""

    channels: int
    nodes: int
    image_size: int
    batch: int
    dtype: str
    cells: int = 3

    @property
    def name(self) -> str:
        """As `C=8, nodes=2, 16×16, float32`."""
        return f"C={self.channels}, nodes={self.nodes}, {self.image_size}×{self.image_size}, {self.dtype}"


_FOURS = Network(channels=8, nodes=1, image_size=16, batch=6, dtype="float32")
_OTHERS = Network(channels=6, nodes=1, image_size=12, batch=3, dtype="float32")
#: Functions for channels in fours; tiles of large images; functions for other numbers of channels; bfloat16.
NETWORKS = (
    _FOURS,
    Network(channels=16, nodes=1, image_size=32, batch=5, dtype="float32"),
    _OTHERS,
    Network(channels=8, nodes=1, image_size=8, batch=4, dtype="bfloat16"),
)
#: A CPU has the same native functions for all sizes of images, and none for bfloat16.
NETWORKS_OF_CPUS = (_FOURS, _OTHERS)
QUICK_NETWORKS = (Network(channels=4, nodes=1, image_size=8, batch=2, dtype="float32", cells=1),)
#: Distances up to which numbers are the same but for rounding, which many layers carry on: two ways to compute the network in
#: bfloat16 on one CPU are 0.2 to 0.4 apart in its gradients and second derivatives. What is wrong is 1 apart and more.
LIMITS: Mapping[str, float] = {"float32": 1e-3, "bfloat16": 0.6}


def numbers() -> list[Finding]:
    """Whether small search networks compute the same on this device as on the CPU, or on a CPU as by JAX's own operations."""
    found = []
    for network in NETWORKS if jax.default_backend() != "cpu" else NETWORKS_OF_CPUS:
        distances = prepare_distances(network)()
        what, largest = max(distances.items(), key=lambda item: np.nan_to_num(item[1], nan=np.inf))
        text = f"{what} at a distance of {largest:.1e}"
        if largest <= LIMITS[network.dtype]:
            found.append(Finding(network.name, f"as {_reference()}; at most, the {text}"))
        else:
            mend = "compute with JDARTS_NATIVE=0, without native functions, and report it"
            found.append(Finding(network.name, f"other than {_reference()}: the {text}", "wrong", mend))
    return found


def prepare_distances(network: Network) -> Callable[[], dict[str, float]]:
    """Compiles loss, running statistics, gradients and a product of second derivatives for this device and for comparison.

    Products are of full precision.

    Args:
      network: the network, with random weights, alphas and images.

    Returns:
      A function that gives, for each of them, the largest `distance` of an array.
    """
    cpu, device = jax.local_devices(backend="cpu")[0], jax.local_devices()[0]
    with jax.default_matmul_precision("highest"):
        function, inputs = _search(network, cpu)
        other = function if device.platform != "cpu" else in_operations_of_jax(function, platform="cpu")
        ours, theirs = (
            jax.jit(each).lower(*jax.device_put(inputs, place)).compile()
            for each, place in ((function, device), (other, cpu))
        )

    def measure() -> dict[str, float]:
        found = jax.device_get(ours(*jax.device_put(inputs, device)))
        expected = jax.device_get(theirs(*jax.device_put(inputs, cpu)))
        return {name: distance(found[name], value) for name, value in expected.items()}

    return measure


def distance(found: Any, expected: Any) -> float:
    """The largest ‖found − expected‖ / ‖expected‖ of any array of a tree; of tiny ones, beside the tree's longest array."""
    pairs = [
        (np.asarray(ours, np.float64), np.asarray(theirs, np.float64))
        for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    ]
    floor = 1e-6 * max(float(np.linalg.norm(theirs)) for _, theirs in pairs)
    shares = [
        float(np.linalg.norm(ours - theirs)) / max(float(np.linalg.norm(theirs)), floor) for ours, theirs in pairs
    ]
    # `max` would pass over a NaN.
    return float(np.max(shares))


def _reference() -> str:
    return "on the CPU" if jax.default_backend() != "cpu" else "by JAX's own operations"


def _search(network: Network, cpu: Any) -> tuple[Callable[..., dict[str, Any]], tuple[Any, ...]]:
    """A function of weights, alphas, statistics, batch and direction, and these on the CPU."""
    space = uniform_space(nodes=network.nodes)
    model = Supernet(space, network.channels, network.cells, 10, dtype=jnp.dtype(network.dtype))
    loss_fn, random, key = supernet_loss(model), np.random.default_rng(0), jax.random.key(0)

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

    def everything(weights: Any, alphas: Any, statistics: Any, batch: Any, direction: Any) -> dict[str, Any]:
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
            "product of second derivatives": jax.jvp(alpha_gradient, (weights,), (direction,))[1],
        }

    return everything, inputs
