"""One bilevel step as a pure function, and its state."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from jdarts.bilevel.estimators import exact
from jdarts.bilevel.passes import TrainingPass, mean_of_steps, training_passes
from jdarts.bilevel.problem import HypergradientFn, LossFn, Metrics, Problem, PyTree
from jdarts.bilevel.updates import Signal, make_update
from jdarts.errors import InputError
from jdarts.parallel import device_key, mean_over
from jdarts.xla.convolutions import with_canonical_convolutions
from jdarts.xla.jax_compat import Tracer
from jdarts.xla.outlined import outlined
from jdarts.xla.tracing import with_stack_space, without_garbage_collection
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
      method_state: pytree that a `WeightRule` keeps; `()` if there is none.
    """

    step: jax.Array
    weights: PyTree
    alphas: PyTree
    model_state: PyTree
    weight_opt_state: optax.OptState
    alpha_opt_state: optax.OptState
    key: jax.Array
    method_state: PyTree = ()


class WeightGradients(NamedTuple):
    """Gradients in the weights, as a `WeightRule` sees them; means over the devices.

    Attributes:
      train: gradient of the training loss of the weight step.
      valid: computes the gradient of the validation loss at the weights and alphas before the bilevel step.
    """

    train: PyTree
    valid: Callable[[], PyTree]


class WeightChange(NamedTuple):
    """The result of a `WeightRule`.

    Attributes:
      gradient: what the weight optimiser gets.
      scale: factors of the optimiser's update, a pytree like the weights; None for 1.
      state: the rule's state for the next step.
    """

    gradient: PyTree
    scale: PyTree | None
    state: PyTree


#: Changes the weights' gradient before the optimiser: `(gradients, the rule's state) -> WeightChange`.
WeightRule = Callable[[WeightGradients, PyTree], WeightChange]

#: Which of the two steps comes first; `together` takes both at the state before the step.
Order = Literal["alphas_first", "weights_first", "together"]


def init_state(
    key: jax.Array,
    weights: PyTree,
    alphas: PyTree,
    model_state: PyTree = (),
    *,
    weight_optimizer: optax.GradientTransformation,
    alpha_optimizer: optax.GradientTransformation,
    method_state: PyTree = (),
) -> BilevelState:
    """The state before the first step.

    Args:
      key: the run's PRNG key, typed (`jax.random.key`) or raw.
      weights: pytree of floating-point arrays.
      alphas: pytree of floating-point arrays, none of them among the weights.
      model_state: pytree that the loss updates without a gradient.
      weight_optimizer: minimises the training loss.
      alpha_optimizer: minimises the validation loss.
      method_state: the first state of the `WeightRule`.

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
    weights, alphas, model_state, method_state = jax.tree.map(jnp.asarray, (weights, alphas, model_state, method_state))
    state = BilevelState(
        step=jnp.zeros((), jnp.int32),
        weights=weights,
        alphas=alphas,
        model_state=model_state,
        weight_opt_state=_opt_state(weight_optimizer, weights, "weights"),
        alpha_opt_state=_opt_state(alpha_optimizer, alphas, "alphas"),
        key=key,
        method_state=method_state,
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


@without_garbage_collection()
@with_stack_space
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
    weight_loss_fn: LossFn | None = None,
    weight_rule: WeightRule | None = None,
    order: Order = "alphas_first",
    weight_steps: int = 1,
) -> tuple[BilevelState, dict[str, Any]]:
    """One step of DARTS: α from the validation batch, then w from the training batch at the new α (paper algorithm 1).

    Pure: wrap it in `jax.jit`, `vmap`, `pmap`, `shard_map` or `scan` as you like. Every pass on the training batch uses one
    key, so noise in the loss is the same in all of them, and differs between devices. The new model state is that of the weight
    step; those of the other passes are dropped.

    Args:
      state: the state; not changed.
      train_batch: pytree given to `loss_fn` for the training loss; with more than one weight step a tuple of such batches, all
        of one shape, one for each weight step.
      valid_batch: pytree given to `loss_fn` for the validation loss.
      loss_fn: `(weights, alphas, model_state, batch, key) -> (loss, (model_state, metrics))`.
      weight_optimizer: as for `init_state`.
      alpha_optimizer: as for `init_state`.
      hypergradient: `first_order()`, `finite_difference()`, `exact()` (the default) or `unrolled()`, or your own function
        from a `Problem` to an `Estimate`.
      axis_name: the mapped axis under `pmap` or `shard_map(..., check_vma=False)`: losses, gradients, products, metrics and
        model state are then averaged over it.
      weight_loss_fn: the loss of the weight step, where it is not `loss_fn`: for example at perturbed alphas. The virtual step of
        an estimator keeps `loss_fn`.
      weight_rule: changes the weights' gradient and the optimiser's update in the weight step; its state is
        `state.method_state`.
      order: `alphas_first` as in the paper; `weights_first` estimates the hypergradient at the new weights; `together` takes
        both steps at the present weights and alphas.
      weight_steps: weight steps for one alpha step. They start where the last bilevel step left the weights and the optimiser's
        state; to restart the inner problem, replace `state.weights` between steps. `unrolled(steps=weight_steps)` differentiates
        through all of them, the other estimators through the first.

    Returns:
      The new state, and metrics: `train/loss` (at the new α, before the weight step), `valid/loss` (at w′),
      `weights/gradient_norm`, `hypergradient/norm`, `hypergradient/finite` (False where an entry of the hypergradient is NaN or
      infinite), the estimator's own under `hypergradient/…`, and those of `loss_fn` under `train/…` and `valid/…`. With several
      weight steps, those of the weight steps are means over them. Estimators that make a virtual step give
      `hypergradient/optimizer_slope_finite`: False if the derivative of the weight optimiser's update is not finite;
      `jdarts.bilevel.check_slopes` then names the weights. Where the update has a kink, its derivative is the mean of both sides;
      where it jumps, as that of `optax.lion` does at a gradient of 0, its derivative is 0.

    Raises:
      InputError: `loss_fn` returns something else, the batches do not fit the weight steps, a virtual optimiser's state does not
        fit, or an optimiser needs other arguments than there are: value and gradient of its loss, and for the weight optimiser in
        the weight step also the loss as a function of the weights (`value_fn`).
    """
    # Noise in the loss, such as dropout, differs between devices.
    step_key = device_key(jax.random.fold_in(state.key, state.step), axis_name)
    train_key, valid_key = jax.random.split(step_key)
    passes = training_passes(train_batch, train_key, weight_steps)

    def average(tree: PyTree) -> PyTree:
        return mean_over(tree, axis_name)

    def train_loss(given: TrainingPass, weights: PyTree, alphas: PyTree) -> jax.Array:
        return _checked_loss(loss_fn(weights, alphas, state.model_state, *given))[0]

    def valid_loss(weights: PyTree, alphas: PyTree) -> tuple[jax.Array, Metrics]:
        loss, (_, metrics) = _checked_loss(loss_fn(weights, alphas, state.model_state, valid_batch, valid_key))
        return loss, metrics

    def alpha_step(state: BilevelState) -> tuple[BilevelState, dict[str, Any]]:
        problem = Problem(
            weights=state.weights,
            alphas=state.alphas,
            train_loss=functools.partial(train_loss, passes[0]),
            valid_loss=valid_loss,
            weight_optimizer=weight_optimizer,
            weight_opt_state=state.weight_opt_state,
            average=average,
            later_train_losses=tuple(functools.partial(train_loss, each) for each in passes[1:]),
        )
        estimate = (exact() if hypergradient is None else hypergradient)(problem)
        signal = Signal(estimate.gradient, average(estimate.valid_loss))
        updates, opt_state = make_update(alpha_optimizer, signal, state.alpha_opt_state, state.alphas, whose="alpha")
        new = state.replace(alphas=apply_updates(state.alphas, updates), alpha_opt_state=opt_state)
        scalars = {f"valid/{name}": value for name, value in estimate.metrics.items()}
        metrics = _average_floats(scalars | {"valid/loss": estimate.valid_loss}, average)
        metrics |= {f"hypergradient/{name}": value for name, value in estimate.diagnostics.items()}
        metrics["hypergradient/norm"] = global_norm(estimate.gradient)
        metrics["hypergradient/finite"] = all_finite(estimate.gradient)
        return new, metrics

    def weight_step(state: BilevelState, given: TrainingPass) -> tuple[BilevelState, dict[str, Any]]:
        def weight_loss(weights: PyTree, alphas: PyTree) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
            return _checked_loss((weight_loss_fn or loss_fn)(weights, alphas, state.model_state, *given))

        training = outlined(jax.value_and_grad(weight_loss, has_aux=True), state)
        (loss, (model_state, scalars)), gradient = training(state.weights, state.alphas)
        gradient = average(gradient)
        of_valid = with_canonical_convolutions(jax.grad(valid_loss, has_aux=True))
        gradients = WeightGradients(gradient, lambda: average(of_valid(*before)[0]))
        change = WeightChange(gradient, None, state.method_state)
        if weight_rule is not None:
            change = weight_rule(gradients, state.method_state)

        def value(weights: PyTree) -> jax.Array:
            return average(weight_loss(weights, state.alphas)[0])

        signal = Signal(change.gradient, average(loss))
        updates, opt_state = make_update(
            weight_optimizer, signal, state.weight_opt_state, state.weights, whose="weight", value_fn=value
        )
        if change.scale is not None:
            updates = jax.tree.map(jnp.multiply, updates, change.scale)
        new = state.replace(
            weights=apply_updates(state.weights, updates),
            model_state=_average_floats(model_state, average),
            weight_opt_state=opt_state,
            method_state=change.state,
        )
        metrics = _average_floats(
            {f"train/{name}": value for name, value in scalars.items()} | {"train/loss": loss}, average
        )
        return new, metrics | {"weights/gradient_norm": global_norm(gradient)}

    def all_weight_steps(state: BilevelState) -> tuple[BilevelState, dict[str, Any]]:
        if weight_steps == 1:
            return weight_step(state, passes[0])
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *passes)
        state, metrics = jax.lax.scan(weight_step, state, stacked)
        return state, jax.tree.map(mean_of_steps, metrics)

    before = state.weights, state.alphas
    if order == "alphas_first":
        state, of_alphas = alpha_step(state)
        state, of_weights = all_weight_steps(state)
    elif order == "weights_first":
        state, of_weights = all_weight_steps(state)
        state, of_alphas = alpha_step(state)
    else:
        new, of_alphas = alpha_step(state)
        state, of_weights = all_weight_steps(state)
        state = state.replace(alphas=new.alphas, alpha_opt_state=new.alpha_opt_state)
    return state.replace(step=state.step + 1), of_weights | of_alphas


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
