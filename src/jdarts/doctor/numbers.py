"""Numbers that this device computes, against those of the CPU beside it or of JAX's own operations."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.doctor.findings import Finding
from jdarts.nets.language import LanguageModel
from jdarts.nets.language_loss import Segment, language_loss
from jdarts.nets.supernet import Supernet
from jdarts.relaxation import init_alphas
from jdarts.search.step import supernet_loss
from jdarts.space import recurrent_space, uniform_space
from jdarts.xla.plain import in_operations_of_jax
from jdarts.xla.platform import compiling_for

#: A function of weights, alphas and further arrays, by name of what it gives; and its arguments.
Search = tuple[Callable[..., dict[str, Any]], tuple[Any, ...]]


class Network(NamedTuple):
    """A search network for images and its batch. Of three cells two reduce; a single one reduces."""

    channels: int
    nodes: int
    image_size: int
    batch: int
    dtype: str = "float32"
    cells: int = 3

    @property
    def name(self) -> str:
        """As `C=8, nodes=2, 16×16, float32`."""
        return f"C={self.channels}, nodes={self.nodes}, {self.image_size}×{self.image_size}, {self.dtype}"

    def search(self) -> Search:
        """Loss, running statistics, gradients and a product of second derivatives, with random arguments."""
        space, random, key = uniform_space(nodes=self.nodes), np.random.default_rng(0), jax.random.key(0)
        model = Supernet(space, self.channels, self.cells, 10, dtype=jnp.dtype(self.dtype))
        loss_fn = supernet_loss(model)
        images = jnp.asarray(random.standard_normal((self.batch, self.image_size, self.image_size, 3)), jnp.float32)
        labels = jnp.asarray(random.integers(10, size=self.batch), jnp.int32)
        alphas = _normal(random, init_alphas(key, space))
        init = jax.jit(lambda key: model.init({"params": key, "noise": key}, images, alphas, train=True))
        variables = init(key)

        def everything(weights: Any, alphas: Any, statistics: Any, batch: Any, direction: Any) -> dict[str, Any]:
            def loss(weights: Any, alphas: Any) -> Any:
                return loss_fn(weights, alphas, statistics, batch, key)

            def alpha_gradient(weights: Any) -> Any:
                return jax.grad(lambda alphas: loss(weights, alphas)[0])(alphas)

            return _results(loss, weights, alphas) | {
                "product of second derivatives": jax.jvp(alpha_gradient, (weights,), (direction,))[1]
            }

        weights = variables["params"]
        return everything, (weights, alphas, variables["batch_stats"], (images, labels), _normal(random, weights))


class RecurrentNetwork(NamedTuple):
    """A search network for text and its segment of words."""

    width: int = 12
    nodes: int = 3
    batch: int = 4
    words: int = 5
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """As `recurrent, width=12, nodes=3, float32`."""
        return f"recurrent, width={self.width}, nodes={self.nodes}, {self.dtype}"

    def search(self) -> Search:
        """Loss, gradients and a product of second derivatives, with random arguments."""
        space, random, key = recurrent_space(nodes=self.nodes), np.random.default_rng(0), jax.random.key(0)
        model = LanguageModel(space, 20, self.width)
        loss_fn = language_loss(model)
        words = jnp.asarray(random.integers(20, size=(self.words + 1, self.batch)), jnp.int32)
        hidden = jnp.asarray(random.standard_normal((self.batch, self.width)), jnp.float32)
        alphas = _normal(random, init_alphas(key, space))
        variables = jax.jit(lambda key: model.init(key, words[:1], hidden, alphas, train=True))(key)

        def everything(weights: Any, alphas: Any, statistics: Any, segment: Any, direction: Any) -> dict[str, Any]:
            def loss(weights: Any, alphas: Any) -> Any:
                value, (moved, _) = loss_fn(weights, alphas, statistics, Segment(*segment), key)
                return value, (moved, {})

            def along(alphas: Any) -> Any:
                gradient = jax.grad(lambda weights: loss(weights, alphas)[0])(weights)
                return sum(map(jnp.vdot, jax.tree.leaves(gradient), jax.tree.leaves(direction)))

            return _results(loss, weights, alphas) | {"product of second derivatives": jax.grad(along)(alphas)}

        weights, segment = variables["params"], (words[:-1], words[1:], hidden)
        return everything, (weights, alphas, variables["batch_stats"], segment, _normal(random, weights))


def _normal(random: np.random.Generator, like: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.asarray(random.standard_normal(leaf.shape), leaf.dtype), like)


def _results(loss: Callable[..., Any], weights: Any, alphas: Any) -> dict[str, Any]:
    both = jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)
    (value, (moved, _)), (of_weights, of_alphas) = both(weights, alphas)
    return {
        "loss": value,
        "running statistics": moved,
        "gradient of the weights": of_weights,
        "gradient of the alphas": of_alphas,
    }


_FOURS = Network(channels=8, nodes=1, image_size=16, batch=6)
_OTHERS = Network(channels=6, nodes=1, image_size=12, batch=3)
#: Functions for channels in fours; tiles of large images; functions for other numbers of channels; bfloat16; recurrent cells.
NETWORKS = (
    _FOURS,
    Network(channels=16, nodes=1, image_size=32, batch=5),
    _OTHERS,
    Network(channels=8, nodes=1, image_size=8, batch=4, dtype="bfloat16"),
    RecurrentNetwork(),
)
#: A CPU has the same native functions for all sizes of images, and none for bfloat16.
NETWORKS_OF_CPUS = (_FOURS, _OTHERS, RecurrentNetwork())
QUICK_NETWORKS = (Network(channels=4, nodes=1, image_size=8, batch=2, cells=1), RecurrentNetwork(width=4, nodes=2))
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


def prepare_distances(network: Network | RecurrentNetwork) -> Callable[[], dict[str, float]]:
    """Compiles loss, running statistics, gradients and a product of second derivatives for this device and for comparison.

    Products are of full precision.

    Args:
      network: the network, with random weights, alphas and data.

    Returns:
      A function that gives, for each of them, the largest `distance` of an array.
    """
    cpu, device = jax.local_devices(backend="cpu")[0], jax.local_devices()[0]
    with jax.default_matmul_precision("highest"):
        with jax.default_device(cpu), compiling_for("cpu"):
            function, inputs = network.search()
            other = function if device.platform != "cpu" else in_operations_of_jax(function, platform="cpu")
            theirs = jax.jit(other).lower(*inputs).compile()
        ours = jax.jit(function).lower(*jax.device_put(inputs, device)).compile()

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
