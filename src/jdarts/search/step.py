"""One step of a search on images as one program: augmentation, the bilevel step, metrics. Also the programs around it."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jdarts import bilevel
from jdarts.data import Augmentation, augment, normalise
from jdarts.methods.perturbation_selection import without_empty_edges
from jdarts.microbatches import in_microbatches
from jdarts.nets.initial import from_one_draw
from jdarts.nets.narrow_weights import narrowed_together
from jdarts.nets.supernet import Supernet
from jdarts.network_tasks.calling import drawn
from jdarts.ops.depthwise.joined_kernels import reordered_together
from jdarts.parallel import device_key, share_offset, sum_over
from jdarts.relaxation import GIVEN, NO_CONTROLS, Controls
from jdarts.runs.images import shuffled_rows
from jdarts.runs.step_metrics import right_answers, scores
from jdarts.search.own_network import OwnNetwork
from jdarts.search.program import Part, Searched, SearchState, Steps, core_program

AVERAGED = ("train/loss", "train/accuracy", "valid/loss", "valid/accuracy")


class Images(NamedTuple):
    """Images of both halves as a step reads them: the whole halves on the device, or the rows of one step.

    Attributes:
      train: uint8 `[N, H, W, C]` of the weights' half.
      train_labels: int32 `[N]`.
      valid: uint8 `[M, H, W, C]` of the alphas' half.
      valid_labels: int32 `[M]`.
    """

    train: Any
    train_labels: Any
    valid: Any
    valid_labels: Any


class Rows(NamedTuple):
    """Rows of the images of batches, int32 `[…, B]` each."""

    train: Any
    valid: Any


class SearchProgram(NamedTuple):
    """The pure functions of one search.

    Attributes:
      init: `seed, uint32 [] -> SearchState`.
      rows: `(data_key, epoch) -> Rows` of all steps of an epoch, `[steps, B]`.
      step: `(state, images, rows of one step, axis_name) -> (state, metrics)`; see `jdarts.parallel`.
      weights_step: the same for a step that leaves the alphas as they are.
      evaluate: `(state, images, labels, mask, axis_name) -> (sum of losses, number of right answers)` with running
        statistics.
      score: `(state, tables of operations, images, labels, mask, axis_name)` to the same, at other weights of the operations,
        with the statistics that the selection wants.
      restart: `(state, axis_name) -> state`, with the weights' optimiser as new. Its schedule continues.
      measures: `(state, images, rows, axis_name) -> numbers by name`, those of `jdarts.runs.guards`, on the batches of the
        last step.
    """

    init: Callable[[jax.Array], SearchState]
    rows: Callable[[jax.Array, jax.Array], Rows]
    step: Callable[..., tuple[SearchState, dict[str, jax.Array]]]
    weights_step: Callable[..., tuple[SearchState, dict[str, jax.Array]]]
    evaluate: Callable[..., tuple[jax.Array, jax.Array]]
    score: Callable[..., tuple[jax.Array, jax.Array]]
    restart: Callable[..., SearchState]
    measures: Mapping[str, Callable[..., dict[str, jax.Array]]]


def supernet_loss(
    model: Supernet | OwnNetwork, *, train: bool = True, controls: Controls = NO_CONTROLS
) -> bilevel.LossFn:
    """The loss of a supernet for `bilevel_step`: mean cross entropy, with the accuracy as its metric.

    Batches are `(images [B, H, W, C], labels [B])`; the model state is the network's `batch_stats`.

    Args:
      model: the network.
      train: whether it is in training mode.
      controls: numbers of the epoch, for network and mixture.
    """

    # Other networks than the supernet need not take them.
    numbers: Any = {"controls": controls} if controls else {}
    dtype = model.dtype if isinstance(model, Supernet) else jnp.float32

    def loss_fn(weights: Any, alphas: Any, model_state: Any, batch: Any, key: jax.Array) -> Any:
        images, labels = batch
        params = reordered_together(narrowed_together(weights, dtype))
        variables = {"params": params, "batch_stats": model_state}
        logits, changed = model.apply(
            variables, images, alphas, train=train, mutable=["batch_stats"], rngs={"noise": key}, **numbers
        )
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        accuracy = jnp.mean(right_answers(logits, labels).astype(logits.dtype))
        return jnp.mean(losses), (changed["batch_stats"], {"accuracy": accuracy})

    # Under jit all passes of a step share one trace.
    return jax.jit(loss_fn)


def search_program(
    model: Supernet | OwnNetwork,
    steps: Steps,
    *,
    image_shape: tuple[int, int, int],
    counts: tuple[int, int],
    batch_size: int,
    augmentation: Augmentation,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    synchronised: bool = True,
    microbatches: int = 1,
    scores_by_batch: bool = True,
    **rest: Any,
) -> SearchProgram:
    """Builds the functions of a search on images.

    Args:
      model: the supernet, or the user's own network. The method's mixture replaces its mixture.
      steps: how the search steps.
      image_shape: `(H, W, C)`.
      counts: images of the weights' half and of the alphas' half.
      batch_size: images of a batch.
      augmentation: augmentation of the training images.
      mean: per channel, on the scale 0..1.
      std: per channel, on the scale 0..1.
      synchronised: whether several devices use the batch statistics of the whole batch.
      microbatches: number of parts of a batch, which a step computes one after the other.
      scores_by_batch: whether a selection scores supernets with the statistics of the batch instead of the running ones.
      **rest: as for `jdarts.search.program.core_program`.
    """
    method, steps_per_epoch = steps.method, steps.epoch_steps.last_length
    network, mixture = model.clone(mixture=GIVEN), method.mixture

    def training_network(axis_name: str | None) -> Supernet | OwnNetwork:
        return network.clone(axis_name=axis_name if synchronised else None)

    def variables_of(key: jax.Array) -> Any:
        images = jnp.zeros((1, *image_shape), jnp.float32)
        weights, controls = GIVEN.init(key, model.space, jnp.float32), method.controls(0, steps.epochs)
        return network.init({"params": key, "noise": key}, images, weights, train=True, controls=controls)

    is_own = isinstance(model, OwnNetwork)
    drawn_variables = drawn(model.network, variables_of) if is_own else from_one_draw(variables_of)

    def new_variables(key: jax.Array) -> tuple[Any, Any]:
        variables = drawn_variables(key)
        return variables["params"], variables["batch_stats"]

    rows = _rows_of_epochs(counts, steps_per_epoch, batch_size)

    def batch(part: Part, key: jax.Array, inputs: tuple[Any, ...], axis_name: str | None) -> Any:
        images, rows = inputs
        of_part = {
            "train": (images.train, images.train_labels, rows.train),
            "valid": (images.valid, images.valid_labels, rows.valid),
        }
        pixels, labels, chosen = of_part[part]
        first = share_offset(chosen.shape[0], axis_name)
        return augment(key, pixels[chosen], augmentation, mean=mean, std=std, first=first), labels[chosen]

    def loss(axis_name: str | None, *, train: bool, controls: Controls) -> bilevel.LossFn:
        return in_microbatches(supernet_loss(training_network(axis_name), train=train, controls=controls), microbatches)

    searched = Searched(
        model.space,
        model.kinds,
        new_variables,
        batch,
        loss,
        AVERAGED,
        synchronised,
    )
    core = core_program(searched, steps, **rest)

    def evaluate(
        state: SearchState, images: jax.Array, labels: jax.Array, mask: jax.Array, *, axis_name: str | None = None
    ) -> tuple[jax.Array, jax.Array]:
        # After an epoch the controls are still its own.
        logits: Any = network.apply(
            variables_of_state(state),
            normalise(images, mean=mean, std=std),
            core.weights_now(state),
            train=False,
            controls=steps.controls(state.bilevel.step - 1),
            rngs={"noise": state.data_key},
        )
        return sum_over(scores(logits, labels, mask), axis_name)

    def score(
        state: SearchState,
        tables: Mapping[str, jax.Array],
        images: jax.Array,
        labels: jax.Array,
        mask: jax.Array,
        *,
        axis_name: str | None = None,
    ) -> tuple[jax.Array, jax.Array]:
        controls = steps.controls(state.bilevel.step - 1)
        given = mixture.weights(state.bilevel.alphas, model.space, None, controls)._replace(operations=tables)
        logits: Any = training_network(axis_name).apply(
            variables_of_state(state),
            normalise(images, mean=mean, std=std),
            without_empty_edges(given),
            train=scores_by_batch,
            controls=controls,
            mutable=["batch_stats"] if scores_by_batch else False,
            rngs={"noise": device_key(state.data_key, axis_name)},
        )
        return sum_over(scores(logits[0] if scores_by_batch else logits, labels, mask), axis_name)

    return SearchProgram(core.init, rows, core.step, core.weights_step, evaluate, score, core.restart, core.measures)


@functools.cache
def _rows_of_epochs(counts: tuple[int, int], steps: int, batch_size: int) -> Callable[[jax.Array, jax.Array], Rows]:
    """One function for all searches of these sizes, which JAX therefore compiles once."""

    def rows(data_key: jax.Array, epoch: jax.Array) -> Rows:
        keys = jax.random.split(jax.random.fold_in(data_key, epoch))
        return Rows(
            *(shuffled_rows(key, count, steps=steps, batch_size=batch_size) for key, count in zip(keys, counts))
        )

    return rows


def variables_of_state(state: SearchState) -> dict[str, Any]:
    """The variables of the supernet."""
    return {"params": state.bilevel.weights, "batch_stats": state.bilevel.model_state}
