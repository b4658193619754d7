"""One bilevel step as a pure function, and its state."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jdarts.bilevel.estimators import exact
from jdarts.bilevel.problem import HypergradientFn, LossFn, Metrics, Problem, PyTree
from jdarts.bilevel.updates import Signal, make_update
from jdarts.errors import InputError
from jdarts.parallel import device_key, mean_over
from jdarts.xla.jax_compat import Tracer
from jdarts.xla.outlined import outlined
from jdarts.xla.trees import all_finite, apply_updates, global_norm


class BilevelState(flax.struct.PyTreeNode):
    """Everything that a search passes from step to step, as one pytree.

    Attributes:
      step: int32 `[]`, steps taken.
      weights: pytree of network weights `w`.
      alphas: pytree of architecture parameters `α`.
      model_state: pytree that the loss updates without a gradient (running statistics); `()` if there is none.
      weight_opt_state: state of the weight optimiser.
      alpha_opt_state: state of the alpha optimiser.
      key: the run's PRNG key; step `i` draws from `fold_in(key, i)`, so interrupting and resuming the run changes nothing.
    """

    step: jax.Array
    weights: PyTree
    alphas: PyTree
    model_state: PyTree
    weight_opt_state: optax.OptState
    alpha_opt_state: optax.OptState
    key: jax.Array


def init_state(
    key: jax.Array,
    weights: PyTree,
    alphas: PyTree,
    model_state: PyTree = (),
    *,
    weight_optimizer: optax.GradientTransformation,
    alpha_optimizer: optax.GradientTransformation,
) -> BilevelState:
    """The state before the first step.

    Args:
      key: the run's PRNG key, typed (`jax.random.key`) or raw.
      weights: pytree of floating-point arrays.
      alphas: pytree of floating-point arrays, none of them among the weights.
      model_state: pytree that the loss updates without a gradient.
      weight_optimizer: minimises the training loss.
      alpha_optimizer: minimises the validation loss.

    Raises:
      InputError: weights or alphas hold something that has no gradient, or an optimiser does not fit them.
    """
    for name, tree in (("weights", weights), ("alphas", alphas)):
        for path, leaf in jax.tree.leaves_with_path(tree):
            if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
                raise InputError(
                    f"{name}{jax.tree_util.keystr(path)} is {jnp.result_type(leaf)}; {name} must be floating-point "
                    "arrays (put other arrays into model_state)"
                )
    weights, alphas, model_state = jax.tree.map(jnp.asarray, (weights, alphas, model_state))
    state = BilevelState(
        step=jnp.zeros((), jnp.int32),
        weights=weights,
        alphas=alphas,
        model_state=model_state,
        weight_opt_state=_opt_state(weight_optimizer, weights, "weights"),
        alpha_opt_state=_opt_state(alpha_optimizer, alphas, "alphas"),
        key=key,
    )
    return _separate(state)


def _opt_state(optimizer: optax.GradientTransformation, params: PyTree, whose: str) -> optax.OptState:
    try:
        return optimizer.init(params)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(
            f"the optimiser of the {whose} cannot begin with them ({type(error).__name__}: {str(error)[:160]}); give one whose "
            "masks and labels fit their structure"
        ) from error


def _separate(tree: PyTree) -> PyTree:
    """The same arrays, none of them twice: a step to which the state is donated (`donate_argnums`) overwrites each once."""
    seen: set[int] = set()

    def own(leaf: Any) -> Any:
        if not isinstance(leaf, jax.Array):
            return leaf
        place = _place(leaf)
        if place in seen:
            return jnp.copy(leaf)
        seen.add(place)
        return leaf

    return jax.tree.map(own, tree)


def _place(array: jax.Array) -> int:
    """The address of an array's numbers; for an array that is traced or spread over devices, that of the object."""
    if isinstance(array, Tracer) or len(array.devices()) > 1 or jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        return id(array)
    return array.unsafe_buffer_pointer()


def bilevel_step(
    state: BilevelState,
    train_batch: PyTree,
    valid_batch: PyTree,
    *,
    loss_fn: LossFn,
    weight_optimizer: optax.GradientTransformation,
    alpha_optimizer: optax.GradientTransformation,
    hypergradient: HypergradientFn | None = None,
    axis_name: str | None = None,
) -> tuple[BilevelState, dict[str, Any]]:
    """One step of DARTS: α from the validation batch, then w from the training batch at the new α (paper algorithm 1).

    Pure: wrap it in `jax.jit`, `vmap`, `pmap`, `shard_map` or `scan` as you like. Every pass on the training batch uses one
    key, so noise in the loss is the same in all of them, and differs between devices. The new model state is that of the weight
    step; those of the other passes are dropped.

    Args:
      state: the state; not changed.
      train_batch: pytree given to `loss_fn` for the training loss.
      valid_batch: pytree given to `loss_fn` for the validation loss.
      loss_fn: `(weights, alphas, model_state, batch, key) -> (loss, (model_state, metrics))`.
      weight_optimizer: as for `init_state`.
      alpha_optimizer: as for `init_state`.
      hypergradient: `first_order()`, `finite_difference()`, `exact()` (the default) or `unrolled()`, or your own function
        from a `Problem` to an `Estimate`.
      axis_name: the mapped axis under `pmap` or `shard_map(..., check_vma=False)`: losses, gradients, products, metrics and
        model state are then averaged over it.

    Returns:
      The new state, and metrics: `train/loss` (at the new α, before the weight step), `valid/loss` (at w′),
      `weights/gradient_norm`, `hypergradient/norm`, `hypergradient/finite` (False where an entry of the hypergradient is NaN or
      infinite), the estimator's own under `hypergradient/…`, and those of `loss_fn` under `train/…` and `valid/…`. Estimators
      that make a virtual step give `hypergradient/optimizer_slope_finite`: False if the derivative of the weight optimiser's
      update is not finite.

    Raises:
      InputError: `loss_fn` returns something else, a virtual optimiser's state does not fit, or an optimiser needs other
        arguments than there are: value and gradient of its loss, and for the weight optimiser in the weight step also the loss as
        a function of the weights (`value_fn`).
    """
    # Noise in the loss, such as dropout, differs between devices.
    step_key = device_key(jax.random.fold_in(state.key, state.step), axis_name)
    train_key, valid_key = jax.random.split(step_key)

    def average(tree: PyTree) -> PyTree:
        return mean_over(tree, axis_name)

    def train_loss(weights: PyTree, alphas: PyTree) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        return _checked_loss(loss_fn(weights, alphas, state.model_state, train_batch, train_key))

    def valid_loss(weights: PyTree, alphas: PyTree) -> tuple[jax.Array, Metrics]:
        loss, (_, metrics) = _checked_loss(loss_fn(weights, alphas, state.model_state, valid_batch, valid_key))
        return loss, metrics

    problem = Problem(
        weights=state.weights,
        alphas=state.alphas,
        train_loss=lambda weights, alphas: train_loss(weights, alphas)[0],
        valid_loss=valid_loss,
        weight_optimizer=weight_optimizer,
        weight_opt_state=state.weight_opt_state,
        average=average,
    )
    estimate = (exact() if hypergradient is None else hypergradient)(problem)
    alpha_signal = Signal(estimate.gradient, average(estimate.valid_loss))
    updates, alpha_opt_state = make_update(
        alpha_optimizer, alpha_signal, state.alpha_opt_state, state.alphas, whose="alpha"
    )
    alphas = apply_updates(state.alphas, updates)

    training = outlined(jax.value_and_grad(train_loss, has_aux=True), state)
    (loss, (model_state, train_metrics)), gradient = training(state.weights, alphas)
    gradient = average(gradient)

    def value(weights: PyTree) -> jax.Array:
        return average(train_loss(weights, alphas)[0])

    updates, weight_opt_state = make_update(
        weight_optimizer,
        Signal(gradient, average(loss)),
        state.weight_opt_state,
        state.weights,
        whose="weight",
        value_fn=value,
    )

    new_state = BilevelState(
        step=state.step + 1,
        weights=apply_updates(state.weights, updates),
        alphas=alphas,
        model_state=_average_floats(model_state, average),
        weight_opt_state=weight_opt_state,
        alpha_opt_state=alpha_opt_state,
        key=state.key,
    )
    scalars = {f"train/{name}": value for name, value in train_metrics.items()}
    scalars |= {f"valid/{name}": value for name, value in estimate.metrics.items()}
    scalars |= {"train/loss": loss, "valid/loss": estimate.valid_loss}
    metrics = _average_floats(scalars, average)
    metrics |= {f"hypergradient/{name}": value for name, value in estimate.diagnostics.items()}
    metrics["hypergradient/norm"] = global_norm(estimate.gradient)
    metrics["hypergradient/finite"] = all_finite(estimate.gradient)
    metrics["weights/gradient_norm"] = global_norm(gradient)
    return new_state, metrics


def _checked_loss(result: Any) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
    try:
        loss, (model_state, metrics) = result
    except (TypeError, ValueError):
        raise InputError(
            f"loss_fn returned {type(result).__name__}; it must return (loss, (model_state, metrics)), with () and {{}} "
            "for none"
        ) from None
    if not isinstance(metrics, Mapping):
        raise InputError(f"loss_fn returned metrics of type {type(metrics).__name__}; they must be a dict")
    if jnp.shape(loss) != ():
        raise InputError(f"loss_fn returned a loss of shape {jnp.shape(loss)}; it must be a scalar (take the mean)")
    return loss, (model_state, metrics)


def _average_floats(tree: PyTree, average: Callable[[PyTree], PyTree]) -> PyTree:
    return jax.tree.map(
        lambda leaf: average(leaf) if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) else leaf, tree
    )
