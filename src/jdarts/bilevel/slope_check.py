"""Which weights have an infinite slope in the update of their optimiser."""

import jax
import jax.numpy as jnp
import optax

from jdarts.bilevel.passes import training_passes
from jdarts.bilevel.problem import LossFn, PyTree
from jdarts.bilevel.slopes import pulled_back
from jdarts.bilevel.step import BilevelState
from jdarts.bilevel.updates import make_update, reads_value
from jdarts.bilevel.virtual_step import signal_of
from jdarts.errors import InputError


def check_slopes(
    state: BilevelState, train_batch: PyTree, *, loss_fn: LossFn, weight_optimizer: optax.GradientTransformation
) -> None:
    """Checks that the weight optimiser's next update has a derivative, which exact hypergradients need.

    Call it, outside of `jax.jit`, with the state before a step whose metric `hypergradient/optimizer_slope_finite` is False.

    Args:
      state: the state.
      train_batch: of the (first) weight step.
      loss_fn: as for `bilevel_step`.
      weight_optimizer: as for `bilevel_step`.

    Raises:
      InputError: the derivative is infinite, with the names of the weights.
    """
    step_key = jax.random.split(jax.random.fold_in(state.key, state.step))[0]
    (given,) = training_passes(train_batch, step_key, 1)

    @jax.jit
    def slopes(state: BilevelState) -> tuple[PyTree, PyTree]:
        def loss(weights: PyTree, alphas: PyTree) -> jax.Array:
            return loss_fn(weights, alphas, state.model_state, *given)[0]

        with_value = reads_value(weight_optimizer, state.weight_opt_state, state.weights)
        signal = signal_of(loss, with_value, state.weights, state.alphas)
        _, pull = jax.vjp(
            lambda signal: make_update(weight_optimizer, signal, state.weight_opt_state, state.weights, whose="weight")[
                0
            ],
            signal,
        )
        (of_signal,) = pulled_back(pull, jax.tree.map(jnp.ones_like, state.weights))
        infinite = jax.tree.map(lambda slope: ~jnp.isfinite(slope), of_signal.gradient)
        counts = jax.tree.map(jnp.sum, infinite)
        still = jax.tree.map(lambda is_infinite, g: jnp.sum(is_infinite & (g == 0)), infinite, signal.gradient)
        return counts, still

    counts, still = jax.device_get(slopes(state))
    named = zip(jax.tree.leaves_with_path(counts), jax.tree.leaves(still), jax.tree.leaves(state.weights))
    found = [
        f"{jax.tree_util.keystr(path)} ({count} of {weights.size} entries, {zeros} with a gradient of 0)"
        for (path, count), zeros, weights in named
        if count
    ]
    if found:
        raise InputError(
            f"the slope of the weight optimiser's update is infinite for weights{', weights'.join(found)}; give the optimiser a "
            "small number inside of its root, such as optax.adam(..., eps_root=1e-8), or use first_order() or "
            "finite_difference() with a virtual_optimizer that has one"
        )
