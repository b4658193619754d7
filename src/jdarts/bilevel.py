"""The bilevel step of DARTS, for any loss, any pytrees and any optax optimisers (paper section 2.3).

Alphas minimise the validation loss of weights that minimise the training loss. One step replaces the inner minimum by
one step of the weight optimiser. With Δ(g) the update that this optimiser makes from a gradient g,

    w′ = w + Δ(∇w L_train(w, α)),   v = ∂L_val(w′, α)/∂w′,   u = (∂Δ/∂g)ᵀ v,
    d/dα L_val(w′(α), α) = ∂L_val(w′, α)/∂α + ∇²αw L_train(w, α) · u.

`u` is one `jax.vjp` through `optimizer.update`, so momentum, weight decay, clipping and schedules are all differentiated as
they are; for plain SGD it is −ξv and the formula is the paper's equation 7. The estimators differ in the last product. Of an
optimiser that reads the value of the loss too, with s the derivative of its update by that value, they add s · ∂αL_train(w, α).
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.core import Tracer

from jdarts.calls import apart
from jdarts.errors import InputError
from jdarts.parallel import mean_over, own_key
from jdarts.traced import has_forward_mode
from jdarts.trees import all_finite, apply_updates, global_norm
from jdarts.updates import Signal, make_update, no_cotangents, pulled_back, reads_value, stays_finite

PyTree = Any
Metrics = Mapping[str, Any]


class LossFn(Protocol):
    """A loss of weights and alphas on one batch.

    Takes weights, alphas, model state (batch statistics and the like), a batch and a key; returns the scalar loss and a
    pair of the new model state and a dict of metrics. Training and validation losses are the same function on different
    batches.
    """

    def __call__(
        self, weights: PyTree, alphas: PyTree, model_state: PyTree, batch: PyTree, key: jax.Array, /
    ) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
        """Evaluates the loss."""
        ...


class BilevelState(flax.struct.PyTreeNode):
    """Everything that a search carries from step to step, as one pytree.

    Attributes:
      step: int32 `[]`, steps taken.
      weights: pytree of network weights `w`.
      alphas: pytree of architecture parameters `α`.
      model_state: pytree that the loss carries along without a gradient (running statistics); `()` if there is none.
      weight_opt_state: state of the weight optimiser.
      alpha_opt_state: state of the alpha optimiser.
      key: the run's PRNG key; step `i` draws from `fold_in(key, i)`, so nothing depends on how often a process started.
    """

    step: jax.Array
    weights: PyTree
    alphas: PyTree
    model_state: PyTree
    weight_opt_state: optax.OptState
    alpha_opt_state: optax.OptState
    key: jax.Array


class Problem(NamedTuple):
    """One step's problem, as an estimator sees it: batches, keys and model state are bound already.

    Attributes:
      weights: `w`.
      alphas: `α`.
      train_loss: `L_train(w, α)`, a scalar. Every call sees the same batch, key and model state.
      valid_loss: `L_val(w, α)` and its metrics.
      weight_optimizer: the optimiser that makes the next weight step.
      weight_opt_state: its state before that step.
      average: the mean over devices of a pytree; the identity on one device.
    """

    weights: PyTree
    alphas: PyTree
    train_loss: Callable[[PyTree, PyTree], jax.Array]
    valid_loss: Callable[[PyTree, PyTree], tuple[jax.Array, Metrics]]
    weight_optimizer: optax.GradientTransformation
    weight_opt_state: optax.OptState
    average: Callable[[PyTree], PyTree]


class Estimate(NamedTuple):
    """What an estimator returns.

    Attributes:
      gradient: estimate of `d/dα L_val(w′(α), α)`, a pytree like the alphas, the mean over devices.
      valid_loss: `L_val(w′, α)`, a scalar of this device.
      metrics: metrics of the loss on the validation batch.
      diagnostics: further scalars of the estimator, by name.
    """

    gradient: PyTree
    valid_loss: jax.Array
    metrics: Metrics
    diagnostics: Metrics


HypergradientFn = Callable[[Problem], Estimate]


def first_order() -> HypergradientFn:
    """The hypergradient with ξ = 0: `∂L_val(w, α)/∂α` at the present weights (paper section 2.3)."""

    def estimate(problem: Problem) -> Estimate:
        validation = apart(jax.value_and_grad(problem.valid_loss, argnums=1, has_aux=True), problem)
        (loss, metrics), direct = validation(problem.weights, problem.alphas)
        return Estimate(problem.average(direct), loss, metrics, {})

    return estimate


def exact(*, virtual_optimizer: optax.GradientTransformation | None = None) -> HypergradientFn:
    """The exact hypergradient of one unrolled step, to rounding (paper equation 6, no finite difference).

    The product ∇²αw L_train(w, α)·u pushes `u` forward through the training gradient as a function of w. That gradient is
    computed once: it serves the virtual step too. Where the loss holds a `jax.custom_vjp`, which has no forward mode, the
    product pulls `u` back through the gradient as a function of α instead: the same, slower.

    Args:
      virtual_optimizer: makes the virtual step instead of the weight optimiser. It is given the weight optimiser's state, so
        the two must have the same state structure: put `optax.identity()` in place of a stage that is to be left out.
    """

    def estimate(problem: Problem) -> Estimate:
        optimizer = _virtual_optimizer(problem, virtual_optimizer)
        training, product = _signal_and_product(problem, _reads_value(problem, optimizer))
        look = _look_ahead(problem, training, optimizer)
        return look.estimate(problem, product(look.direction))

    return estimate


def finite_difference(
    epsilon: float = 0.01, *, virtual_optimizer: optax.GradientTransformation | None = None
) -> HypergradientFn:
    """The paper's estimate: the product by a central difference of two gradients (equation 8).

    `(∇α L_train(w + εu, α) − ∇α L_train(w − εu, α)) / 2ε` with `ε = epsilon / ‖u‖₂`, one norm over all weights. On networks with
    ReLUs or max pools the α-gradient jumps where an activation crosses its kink, so this is not close to `exact()` there.
    Where `‖u‖₂ = 0` the product is 0.

    Args:
      epsilon: length of the perturbation of the weights, above 0; the paper's value is 0.01.
      virtual_optimizer: as in `exact`.

    Raises:
      InputError: epsilon is not above 0, or, in a step, weights or alphas of fewer than 32 bits, in which the difference of
        two gradients is noise.
    """
    if not epsilon > 0:
        raise InputError(f"finite_difference: epsilon is {epsilon}; give a number above 0 (the paper's is 0.01)")

    def estimate(problem: Problem) -> Estimate:
        for leaf in jax.tree.leaves((problem.weights, problem.alphas)):
            if leaf.dtype.itemsize < 4:
                raise InputError(
                    f"finite_difference: weights or alphas are {leaf.dtype}, which has too few digits for the difference of two "
                    "gradients over 2ε; use float32, or exact()"
                )
        optimizer = _virtual_optimizer(problem, virtual_optimizer)
        training = apart(partial(_signal, problem.train_loss, _reads_value(problem, optimizer)), problem)
        look = _look_ahead(problem, training(problem.weights, problem.alphas), optimizer)
        direction = look.direction.gradient
        norm = global_norm(direction)
        vanishes = norm == 0
        scale = epsilon / jnp.where(vanishes, jnp.ones_like(norm), norm)

        by_alphas = apart(jax.grad(problem.train_loss, argnums=1), problem)

        def alpha_gradient(step: jax.Array) -> PyTree:
            return by_alphas(apply_updates(problem.weights, direction, step), problem.alphas)

        # Twice, not in a loop: XLA's convolutions are naive inside loops on CPUs. One after the other, by adding 0: they would
        # not share their memory otherwise.
        plus = alpha_gradient(scale)
        nothing = sum((0 * jnp.sum(leaf).astype(scale.dtype) for leaf in jax.tree.leaves(plus)), jnp.zeros_like(scale))
        implicit = jax.tree.map(
            lambda plus, minus: jnp.where(
                vanishes, jnp.zeros_like(plus), ((plus - minus) / (2 * scale)).astype(plus.dtype)
            ),
            plus,
            alpha_gradient(nothing - scale),
        )
        if look.direction.value is not None:
            implicit = _added(implicit, look.direction.value, by_alphas(problem.weights, problem.alphas))
        return look.estimate(problem, implicit, {"difference_step": scale})

    return estimate


def unrolled(steps: int = 1, *, virtual_optimizer: optax.GradientTransformation | None = None) -> HypergradientFn:
    """`jax.grad` through real steps of the weight optimiser: the ground truth for tests and small problems.

    With one step it equals `exact()`. Memory and compile time grow with the number of steps; all of them see the same
    training batch.

    Args:
      steps: number of optimiser steps to differentiate through, 1 or more.
      virtual_optimizer: as in `exact`.

    Raises:
      InputError: fewer than one step.
    """
    if steps < 1:
        raise InputError(f"unrolled: {steps} steps; give 1 or more, or use first_order()")

    def estimate(problem: Problem) -> Estimate:
        optimizer = _virtual_optimizer(problem, virtual_optimizer)
        reads = _reads_value(problem, optimizer)

        def training(weights: PyTree, alphas: PyTree) -> Signal:
            return problem.average(_signal(problem.train_loss, reads, weights, alphas))

        def step(signal: Signal, opt_state: optax.OptState, weights: PyTree) -> tuple[PyTree, optax.OptState]:
            updates, opt_state = make_update(optimizer, signal, opt_state, weights, whose="weight")
            return apply_updates(weights, updates), opt_state

        weights, opt_state, pulls = problem.weights, problem.weight_opt_state, []
        for _ in range(steps):
            signal, pull_signal = jax.vjp(training, weights, problem.alphas)
            (weights, opt_state), pull_step = jax.vjp(step, signal, opt_state, weights)
            pulls.append((pull_signal, pull_step))
        validation = jax.value_and_grad(problem.valid_loss, argnums=(0, 1), has_aux=True)
        (loss, metrics), (of_weights, gradient) = validation(weights, problem.alphas)
        of_state, finite = no_cotangents(opt_state), jnp.array(True)
        for place, (pull_signal, pull_step) in reversed(list(enumerate(pulls))):
            given = (of_weights, of_state)
            of_signal, of_state, around = pulled_back(pull_step, given)
            # What leads back to before the first step has no use.
            finite &= stays_finite(given, (of_signal, of_state, around) if place else of_signal)
            through, of_alphas = pull_signal(of_signal)
            of_weights = jax.tree.map(jnp.add, around, through)
            gradient = jax.tree.map(jnp.add, gradient, of_alphas)
        return Estimate(problem.average(gradient), loss, metrics, {"optimizer_slope_finite": finite})

    return estimate


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
      model_state: pytree that the loss carries along without a gradient.
      weight_optimizer: minimises the training loss.
      alpha_optimizer: minimises the validation loss.

    Raises:
      InputError: weights or alphas hold something that no gradient can move.
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
        weight_opt_state=weight_optimizer.init(weights),
        alpha_opt_state=alpha_optimizer.init(alphas),
        key=key,
    )
    return _separate(state)


def _separate(tree: PyTree) -> PyTree:
    """The same arrays, none of them twice: a step that is given the state to keep (`donate_argnums`) writes over each once."""
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
    """Where the numbers of an array are; of one that is traced or spread over devices, which object it is."""
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
    key, so noise in the loss is the same in all of them; on several devices each has noise of its own. The model state that is
    kept is that of the weight step; what the other passes make of it is dropped.

    Args:
      state: the state; not changed.
      train_batch: pytree given to `loss_fn` for the training loss.
      valid_batch: pytree given to `loss_fn` for the validation loss.
      loss_fn: `(weights, alphas, model_state, batch, key) -> (loss, (model_state, metrics))`.
      weight_optimizer: the optimiser that `init_state` was given.
      alpha_optimizer: the optimiser that `init_state` was given.
      hypergradient: `first_order()`, `finite_difference()`, `exact()` (the default) or `unrolled()`, or your own function
        from a `Problem` to an `Estimate`.
      axis_name: the mapped axis under `pmap` or `shard_map(..., check_vma=False)`: losses, gradients, products, metrics and
        model state are then averaged over it.

    Returns:
      The new state, and metrics: `train/loss` (at the new α, before the weight step), `valid/loss` (at w′),
      `weights/gradient_norm`, `hypergradient/norm`, `hypergradient/finite` (False where an entry of the hypergradient is NaN or
      infinite), the estimator's own under `hypergradient/…`, and those of `loss_fn` under `train/…` and `valid/…`. Estimators
      that look ahead give `hypergradient/optimizer_slope_finite`, which is False where it is the derivative of the weight
      optimiser's update that is not finite.

    Raises:
      InputError: `loss_fn` does not return what it must, a virtual optimiser's state does not fit, or an optimiser asks for
        what is not there. The optimisers are given value and gradient of their loss, the weights' one in its own step the loss
        as a function of the weights too (`value_fn`).
    """
    # Noise in the loss, such as dropout, is each device's own.
    step_key = own_key(jax.random.fold_in(state.key, state.step), axis_name)
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
    of_alphas = Signal(estimate.gradient, average(estimate.valid_loss))
    updates, alpha_opt_state = make_update(
        alpha_optimizer, of_alphas, state.alpha_opt_state, state.alphas, whose="alpha"
    )
    alphas = apply_updates(state.alphas, updates)

    training = apart(jax.value_and_grad(train_loss, has_aux=True), state)
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


def _signal(loss: Callable[[PyTree, PyTree], jax.Array], with_value: bool, weights: PyTree, alphas: PyTree) -> Signal:
    value, gradient = jax.value_and_grad(loss)(weights, alphas)
    return Signal(gradient, value if with_value else None)


def _signal_and_product(problem: Problem, with_value: bool) -> tuple[Signal, Callable[[Signal], PyTree]]:
    """The training gradient ∇w, and `u ↦ ∇²αw L_train · u`, which goes on from the gradient's passes."""
    if not has_forward_mode(problem.train_loss, problem.weights, problem.alphas):
        signal, pull = jax.vjp(partial(_signal, problem.train_loss, with_value, problem.weights), problem.alphas)
        return signal, lambda direction: pull(direction)[0]

    def passes(weights: PyTree) -> tuple[Signal, PyTree]:
        value, gradients = jax.value_and_grad(problem.train_loss, argnums=(0, 1))(weights, problem.alphas)
        return Signal(gradients[0], value if with_value else None), gradients[1]

    (signal, by_alphas), push = jax.linearize(passes, problem.weights)

    def product(direction: Signal) -> PyTree:
        mixed = push(direction.gradient)[1]
        return mixed if direction.value is None else _added(mixed, direction.value, by_alphas)

    return signal, product


def _added(tree: PyTree, factor: jax.Array, other: PyTree) -> PyTree:
    return jax.tree.map(lambda a, b: a + factor.astype(b.dtype) * b, tree, other)


class _LookAhead(NamedTuple):
    """The validation loss at the virtual weights, and its gradients."""

    valid_loss: jax.Array
    metrics: Metrics
    direct: PyTree
    direction: Signal
    slope_finite: jax.Array

    def estimate(
        self, problem: Problem, implicit: PyTree, diagnostics: Mapping[str, jax.Array] | None = None
    ) -> Estimate:
        direct, implicit = problem.average((self.direct, implicit))
        found = {
            "direct_norm": global_norm(direct),
            "implicit_norm": global_norm(implicit),
            "optimizer_slope_finite": self.slope_finite,
        }
        gradient = jax.tree.map(jnp.add, direct, implicit)
        return Estimate(gradient, self.valid_loss, self.metrics, {**found, **(diagnostics or {})})


def _look_ahead(problem: Problem, training: Signal, optimizer: optax.GradientTransformation) -> _LookAhead:
    """Takes the virtual step w′ = w + Δ(g) and pulls the validation gradient at w′ back to `u`."""

    def step(signal: Signal) -> PyTree:
        updates, _ = make_update(optimizer, signal, problem.weight_opt_state, problem.weights, whose="weight")
        return apply_updates(problem.weights, updates)

    virtual_weights, pull_back = jax.vjp(step, problem.average(training))
    validation = apart(jax.value_and_grad(problem.valid_loss, argnums=(0, 1), has_aux=True), problem)
    (loss, metrics), (at_weights, direct) = validation(virtual_weights, problem.alphas)
    given = problem.average(at_weights)
    (direction,) = pulled_back(pull_back, given)
    return _LookAhead(loss, metrics, direct, direction, stays_finite(given, direction))


def _reads_value(problem: Problem, optimizer: optax.GradientTransformation) -> bool:
    return reads_value(optimizer, problem.weight_opt_state, problem.weights)


def _virtual_optimizer(
    problem: Problem, virtual_optimizer: optax.GradientTransformation | None
) -> optax.GradientTransformation:
    if virtual_optimizer is None:
        return problem.weight_optimizer
    own = jax.tree.structure(jax.eval_shape(virtual_optimizer.init, problem.weights))
    given = jax.tree.structure(problem.weight_opt_state)
    if own != given:
        raise InputError(
            f"the virtual optimiser has the state {own}, the weight optimiser {given}; build both from the same stages "
            "and put optax.identity() in place of those that the virtual step leaves out"
        )
    return virtual_optimizer


def _checked_loss(result: Any) -> tuple[jax.Array, tuple[PyTree, Metrics]]:
    try:
        loss, (model_state, metrics) = result
    except (TypeError, ValueError):
        raise InputError(
            f"loss_fn returned {type(result).__name__}; it must return (loss, (model_state, metrics)), with () and {{}} "
            "where there are none"
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
