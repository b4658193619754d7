"""A short search whose state can be looked at after any of its steps: the networks, optimisers and batches of study 1."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from nasbench201 import SearchNetwork

import jdarts
from jdarts import optimizers
from jdarts.bilevel import BilevelState, HypergradientFn, LossFn, bilevel_step, exact, init_state
from jdarts.data import ImageDataset, ImageSplit, augment
from jdarts.nets.initial import from_one_draw
from jdarts.nets.supernet import Supernet
from jdarts.relaxation import init_alphas
from jdarts.search.step import supernet_loss
from jdarts.space import uniform_space

#: darts: the cells of DARTS. choice: the network of NAS-Bench-201 with ReLUs; choice_smooth: the same with SiLU in their place,
#: so that its loss is a smooth function.
Network = Literal["darts", "choice", "choice_smooth"]


@dataclasses.dataclass(frozen=True)
class SearchSize:
    """Sizes and rates of a search.

    Attributes:
      network: which network.
      channels: of the first cells.
      cells: number of cells; for the other networks, of each of the three stages.
      nodes: of a cell of DARTS.
      steps: of the search.
      batch_size: images of a batch.
      learning_rate: of the weights at the start; it falls along a cosine.
      alpha_learning_rate: of the alphas' Adam.
    """

    network: Network
    channels: int
    cells: int
    nodes: int
    steps: int
    batch_size: int
    learning_rate: float
    alpha_learning_rate: float


class Optimizers(NamedTuple):
    """The optimisers of a search.

    Attributes:
      weights: makes the steps of the weights.
      virtual: makes the virtual steps of estimators: the same without clipping, as in `jdarts search`.
      alphas: makes the steps of the alphas.
    """

    weights: optax.GradientTransformation
    virtual: optax.GradientTransformation
    alphas: optax.GradientTransformation


def search_optimizers(size: SearchSize) -> Optimizers:
    """The optimisers of the paper, at the rates of a search."""
    rate = optax.cosine_decay_schedule(size.learning_rate, size.steps, alpha=0.001 / size.learning_rate)
    return Optimizers(
        optimizers.weight_optimizer(rate),
        optimizers.weight_optimizer(rate, clip=None),
        optimizers.alpha_optimizer(size.alpha_learning_rate),
    )


def network_and_loss(size: SearchSize, classes: int, dtype: Any) -> tuple[nn.Module, LossFn]:
    """The network, and its loss for `bilevel_step`, in a floating-point type."""
    if size.network == "darts":
        supernet = Supernet(uniform_space(nodes=size.nodes), size.channels, size.cells, classes, dtype=dtype)
        return supernet, supernet_loss(supernet)
    activation = nn.silu if size.network == "choice_smooth" else nn.relu
    network = SearchNetwork(size.channels, size.cells, classes, activation)
    return network, jdarts.network_loss(network, train=True)


class ShortSearch:
    """A search with one seed.

    Args:
      size: its size.
      dataset: the images.
      seed: of weights and batches.
      step: the compiled step of an earlier search of the same size, to be used again.
    """

    def __init__(
        self, size: SearchSize, dataset: ImageDataset, seed: int, step: Callable[..., Any] | None = None
    ) -> None:
        self.size, self.optimizers = size, search_optimizers(size)
        self._dataset = dataset
        self._halves = dataset.halves(fraction=0.5)
        self._key = jax.random.key(seed)
        classes = len(dataset.class_names)
        network, self.loss_fn = network_and_loss(size, classes, jnp.float32)
        self.step = step or jax.jit(
            functools.partial(_step, loss_fn=self.loss_fn, optimizers=self.optimizers, estimator=exact)
        )
        self._state = self._initial(network)

    def state_after(self, step: int) -> BilevelState:
        """The state after a number of steps; a number below that of the last call is refused."""
        assert self._state.step <= step, "searches do not go back"
        while (number := int(self._state.step)) < step:
            self._state = self.step(self._state, self.train_batch(number), self.valid_batch(number))
        return self._state

    def train_batch(self, number: int) -> tuple[jax.Array, jax.Array]:
        """The training batch of a step, augmented: images `[B, H, W, C]` and labels `[B]`."""
        return self._batch(self._halves[0], 2 * number)

    def valid_batch(self, number: int) -> tuple[jax.Array, jax.Array]:
        """The validation batch of a step."""
        return self._batch(self._halves[1], 2 * number + 1)

    def _batch(self, half: ImageSplit, number: int) -> tuple[jax.Array, jax.Array]:
        rows_key, key = jax.random.split(jax.random.fold_in(self._key, number))
        rows = np.asarray(jax.random.choice(rows_key, len(half), (self.size.batch_size,), replace=False))
        images, labels = half[rows]
        of_set = {"mean": self._dataset.mean, "std": self._dataset.std}
        return _augmented(key, images, augmentation=self._dataset.augmentation, **of_set), jnp.asarray(labels)

    def _initial(self, network: Any) -> BilevelState:
        key = jax.random.fold_in(self._key, 2**31)
        images = jnp.zeros((1, *self._dataset.image_shape), jnp.float32)
        made = {"weight_optimizer": self.optimizers.weights, "alpha_optimizer": self.optimizers.alphas}
        if isinstance(network, Supernet):
            alphas = init_alphas(key, network.space)
            draw = from_one_draw(lambda key: network.init({"params": key, "noise": key}, images, alphas, train=True))
            variables = jax.jit(draw)(key)
            return init_state(key, variables["params"], alphas, variables["batch_stats"], **made)
        variables = jax.jit(network.init)(key, images)
        return init_state(key, *jdarts.split_variables(variables, key=key), **made)


@functools.partial(jax.jit, static_argnames=("augmentation", "mean", "std"))
def _augmented(key: jax.Array, images: Any, **settings: Any) -> jax.Array:
    return augment(key, images, **settings)


def _step(
    state: BilevelState,
    train: Any,
    valid: Any,
    *,
    loss_fn: LossFn,
    optimizers: Optimizers,
    estimator: Callable[..., HypergradientFn],
) -> BilevelState:
    return bilevel_step(
        state,
        train,
        valid,
        loss_fn=loss_fn,
        weight_optimizer=optimizers.weights,
        alpha_optimizer=optimizers.alphas,
        hypergradient=estimator(virtual_optimizer=optimizers.virtual),
    )[0]
