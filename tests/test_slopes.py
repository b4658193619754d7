"""Derivatives of weight steps at gradients of exactly 0, where slopes inside of an optimiser are infinite."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jdarts
from jdarts.optimizers import weight_optimizer

pytestmark = pytest.mark.usefixtures("standard_promotion")
RATE = 0.1
START = jnp.asarray([0.3, 0.5, 0.7, 0.9])
WEIGHTS = jnp.asarray([0.5, -0.7, 0.2, 1.5])
#: Batches of the training and of the validation loss.
TRAIN, VALID = (jnp.asarray([1.0, 2.0, -1.0, 0.5]), jnp.zeros(4)), (jnp.zeros(4), jnp.asarray([1.0, 2.0, -1.0, 0.5]))
#: Which entries of the training gradient are 0, in turn.
ZERO = {"some": jnp.asarray([True, False, True, False]), "all": jnp.ones(4, bool)}


def loss(zero, weights, alphas, model_state, batch, key):
    """Linear in the weights, with a gradient of 0 where `zero` is true; its derivative by the alphas is not 0."""
    del key
    linear, square = batch
    moved = alphas - START + jnp.where(zero, 0.0, 0.2)
    return jnp.sum(linear * weights * jnp.sin(moved)) + jnp.sum(square * (weights - 1) ** 2) / 2, (model_state, {})


@jax.custom_vjp
def backwards_alone(x):
    return x


backwards_alone.defvjp(lambda x: (x, None), lambda _, cotangent: (cotangent,))


def reverse_loss(zero, weights, *others):
    """The same without a forward mode."""
    return loss(zero, backwards_alone(weights), *others)


def adam_slope(gradient, eps=1e-8):
    """Of Adam's first step, −rate · g / (|g| + ε)."""
    return -RATE * eps / (np.abs(gradient) + eps) ** 2


#: Optimisers by the slope of their first step in the gradient of one weight, where the other weights do not matter.
SLOPES = {
    "adam": (lambda: optax.adam(RATE), adam_slope),
    "adamw": (lambda: optax.adamw(RATE, weight_decay=0.0), adam_slope),
    "adam after clipping": (lambda: optax.chain(optax.clip_by_global_norm(9.0), optax.adam(RATE)), adam_slope),
    "jdarts adamw": (lambda: weight_optimizer(RATE, optimizer="adamw", weight_decay=0.0), adam_slope),
    "clipping": (lambda: optax.chain(optax.clip_by_global_norm(9.0), optax.sgd(RATE)), lambda g: -RATE + 0 * g),
    "adagrad": (
        lambda: optax.adagrad(RATE),
        lambda g: -RATE * (0.1 + 1e-7) / (0.1 + g**2 + 1e-7) ** 1.5,
    ),
    "rmsprop": (lambda: optax.rmsprop(RATE), lambda g: -RATE * 1e-8 / (0.1 * g**2 + 1e-8) ** 1.5),
    "lion": (lambda: optax.lion(RATE, weight_decay=0.0), lambda g: 0 * g),
}
#: Those whose slopes come from elsewhere: that they are finite and that all estimators agree is what must be true.
OTHERS = {
    "adabelief": lambda: optax.adabelief(RATE),
    "lars": lambda: optax.lars(RATE),
    "lamb": lambda: optax.lamb(RATE),
    "normalised": lambda: optax.chain(optax.adam(RATE), optax.normalize_by_update_norm()),
}


#: Estimators of one step, and of more.
ONE = {"exact": jdarts.exact(), "unrolled": jdarts.unrolled()}
MORE = {"exact": jdarts.exact(), "unrolled_2": jdarts.unrolled(2), "neumann": jdarts.neumann(terms=1)}


def steps(optimizer, loss_fn=loss, estimators=ONE):
    """One program: the hypergradient of each estimator, whether all slopes are finite, the gradient and the moved weights."""
    optimizers = {"weight_optimizer": optimizer, "alpha_optimizer": optax.sgd(1.0)}

    @jax.jit
    def run(zero):
        found, finite = {}, []
        state = jdarts.init_state(jax.random.key(0), WEIGHTS, START, **optimizers)
        for name, hypergradient in estimators.items():
            new, metrics = jdarts.bilevel_step(
                state,
                TRAIN,
                VALID,
                loss_fn=functools.partial(loss_fn, zero),
                hypergradient=hypergradient,
                **optimizers,
            )
            found[name] = state.alphas - new.alphas
            finite.append(metrics["hypergradient/optimizer_slope_finite"])
        gradient = jax.grad(functools.partial(loss_fn, zero), has_aux=True)(WEIGHTS, START, (), TRAIN, None)[0]
        updates, _ = optimizer.update(gradient, state.weight_opt_state, WEIGHTS)
        return found, jnp.all(jnp.stack(finite)), gradient, WEIGHTS + updates

    return run


@pytest.mark.parametrize("name", SLOPES)
def test_the_slope_of_a_step_at_a_gradient_of_zero(name):
    make, slope = SLOPES[name]
    run = steps(make())
    for zero in ZERO.values():
        found, finite, gradient, moved = jax.device_get(run(zero))
        assert finite
        np.testing.assert_array_equal(gradient[np.asarray(zero)], 0.0)
        by_alphas = np.asarray(TRAIN[0] * jnp.cos(jnp.where(zero, 0.0, 0.2)))
        expected = np.asarray(VALID[1]) * (moved - 1) * slope(gradient) * by_alphas
        for each in found.values():
            np.testing.assert_allclose(each, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", OTHERS)
def test_other_steps_at_a_gradient_of_zero(name):
    run = steps(OTHERS[name]())
    for zero in ZERO.values():
        found, finite, *_ = jax.device_get(run(zero))
        assert finite
        assert np.isfinite(found["exact"]).all()
        np.testing.assert_allclose(found["exact"], found["unrolled"], rtol=1e-9, atol=1e-12)


def test_a_loss_without_forward_mode_and_two_steps():
    """Against Adam's second step, whose slope in both gradients is known: both are 0."""
    found, finite, *_ = jax.device_get(steps(optax.adam(RATE), reverse_loss, MORE)(ZERO["all"]))
    forwards, *_ = jax.device_get(steps(optax.adam(RATE), loss, MORE)(ZERO["all"]))
    assert finite
    for name, each in found.items():
        np.testing.assert_allclose(each, forwards[name], rtol=1e-9)
    # The training loss is linear: a second term of the series is the first one.
    np.testing.assert_allclose(found["neumann"], 2 * found["exact"], rtol=1e-9)
    # m̂ of the second step is (0.09·g₁ + 0.1·g₂) / 0.19, and √v̂ has slope 0 by symmetry; the weights have not moved.
    by_alphas = np.asarray(VALID[1] * (WEIGHTS - 1) * TRAIN[0])
    np.testing.assert_allclose(found["unrolled_2"], -2 * RATE / 1e-8 * by_alphas, rtol=1e-9)
