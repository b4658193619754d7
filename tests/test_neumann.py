"""The Neumann series of the hypergradient: its definition and its limits; iDARTS's own numbers are in another file."""

import functools
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from search_fixtures import problem_on
from test_bilevel import OPTIMIZERS, each_optimizer, hypergradient_of, problem, smooth_loss, stepper, warm_state

import jdarts
from jdarts.errors import InputError

pytestmark = pytest.mark.usefixtures("standard_promotion")


def smooth_problem(optimizer, state, train, valid):
    """The problem of a step, with losses that need no key."""

    def loss(batch, weights, alphas):
        return smooth_loss(weights, alphas, 0, batch, None)[0]

    return problem_on(train, valid, loss, state.weights, state.alphas, optimizer, state.weight_opt_state)


@each_optimizer
@pytest.mark.parametrize("compiled", [False, True])
def test_no_term_is_the_exact_hypergradient_bit_for_bit(make, compiled):
    optimizer, alpha_optimizer = make(), optax.adam(0.1)
    state, train, valid = warm_state(optimizer, alpha_optimizer)

    def both(*given):
        steps = [stepper(optimizer, alpha_optimizer, estimator) for estimator in (jdarts.neumann(0), jdarts.exact())]
        return [(new.replace(key=()), metrics) for new, metrics in (step(*given) for step in steps)]

    chex.assert_trees_all_equal(*(jax.jit(both) if compiled else both)(state, train, valid))


@jax.jit
def derivatives_of_losses(weights, alphas, train, valid):
    """Gradient and Hessian of the training loss and its gradient's Jacobian by the alphas; gradients of the validation loss."""
    flat, weights_of = ravel_pytree(weights)

    def loss(flat, alphas, batch):
        return smooth_loss(weights_of(flat), alphas, 0, batch, None)[0]

    by_weights = jax.grad(loss)
    curved, mixed = jax.jacobian(by_weights, (0, 1))(flat, alphas, train)
    return by_weights(flat, alphas, train), curved, mixed, jax.grad(loss, (0, 1))(flat, alphas, valid)


def by_matrices(given, optimizer, train, valid):
    """A function of the number of terms and the place to the series, from whole Jacobians of the optimiser's step."""
    flat, weights_of = ravel_pytree(given.weights)

    @jax.jit
    def jacobians(flat, gradient):
        """The step, and its Jacobians by the weights and by the gradient."""

        def step(flat, gradient):
            updates, _ = optimizer.update(weights_of(gradient), given.weight_opt_state, weights_of(flat))
            return flat + ravel_pytree(updates)[0]

        return step(flat, gradient), jax.jacobian(step, (0, 1))(flat, gradient)

    gradient, curved, mixed, at_present = derivatives_of_losses(given.weights, given.alphas, train, valid)
    after, (kept, by_gradient) = jax.device_get(jacobians(flat, gradient))
    *_, at_virtual = derivatives_of_losses(weights_of(after), given.alphas, train, valid)

    def series(terms, at):
        v, direct = jax.device_get(at_virtual if at == "virtual" else at_present)
        whole = kept + by_gradient @ curved
        total = sum(np.linalg.matrix_power(whole.T, k) @ v for k in range(terms + 1))
        return jax.tree.map(
            lambda part, jacobian: part + (by_gradient.T @ total) @ jacobian, direct, jax.device_get(mixed)
        )

    return series


#: Terms and place: the first for every optimiser, all for those below.
CASES: list[tuple[int, Any]] = [(3, "virtual"), (1, "virtual"), (3, "present")]
#: A linear step with a state, and one that is not linear.
WITH_ALL_CASES = ("momentum_and_decay", "adam")


@functools.cache
def series_and_matrices(name):
    """The estimates of an optimiser's cases, as one program, and the series of whole Jacobians."""
    optimizer = OPTIMIZERS[name]()
    state, train, valid = warm_state(optimizer, optax.sgd(0.1))
    given = smooth_problem(optimizer, state, train, valid)
    cases = CASES if name in WITH_ALL_CASES else CASES[:1]

    @jax.jit
    def estimates(weights):
        return [jdarts.neumann(terms, at=at)(given._replace(weights=weights)) for terms, at in cases]

    return dict(zip(cases, estimates(given.weights))), by_matrices(given, optimizer, train, valid)


@pytest.mark.parametrize(
    ("name", "terms", "at"),
    [
        *((name, *CASES[0]) for name in OPTIMIZERS),
        *((name, *case) for name in WITH_ALL_CASES for case in CASES[1:]),
    ],
)
def test_the_series_is_that_of_whole_jacobians(name, terms, at):
    estimates, series = series_and_matrices(name)
    found = estimates[terms, at]
    chex.assert_trees_all_close(found.gradient, series(terms, at), rtol=1e-9, atol=1e-12)
    assert set(found.diagnostics) > {"series_growth", "implicit_norm"}
    assert bool(found.diagnostics["optimizer_slope_finite"])


def quadratic(weights, alphas, model_state, batch, key):
    """Minimal at `A⁻¹ B α`, and of one Hessian everywhere."""
    del key
    matrix, mixed, linear = batch
    value = 0.5 * weights @ matrix @ weights - weights @ mixed @ alphas + linear @ weights
    return value, (model_state, {})


def quadratic_case(optimizer):
    draw = np.random.default_rng(0)
    rotation = np.linalg.qr(draw.normal(size=(3, 3)))[0]
    matrix = rotation * [0.5, 1.0, 2.0] @ rotation.T
    mixed, linear = draw.normal(size=(3, 2)), draw.normal(size=3)
    train, valid = (matrix, mixed, np.zeros(3)), (np.zeros((3, 3)), np.zeros((3, 2)), linear)
    state = jdarts.init_state(
        jax.random.key(0), np.ones(3), np.ones(2), weight_optimizer=optimizer, alpha_optimizer=optax.sgd(1.0)
    )
    return state, train, valid


def quadratic_hypergradient(optimizer, estimator):
    """The estimate and the metrics of its step; one operation after the other, since a program of many terms is large."""
    state, train, valid = quadratic_case(optimizer)
    new, metrics = stepper(optimizer, optax.sgd(1.0), estimator, quadratic)(state, train, valid)
    return state.alphas - new.alphas, metrics


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_where_the_hessian_is_constant_terms_are_steps(decay):
    optimizer = optax.chain(optax.add_decayed_weights(decay), optax.sgd(0.3))
    for terms in (1, 4):
        found, _ = quadratic_hypergradient(optimizer, jdarts.neumann(terms))
        expected, _ = quadratic_hypergradient(optimizer, jdarts.unrolled(steps=terms + 1))
        chex.assert_trees_all_close(found, expected, rtol=1e-10)


@pytest.mark.parametrize("momentum", [None, 0.5])
def test_many_terms_give_the_gradient_of_the_inner_minimum(momentum):
    optimizer = optax.sgd(0.8, momentum=momentum)
    _, (matrix, mixed, _), (_, _, linear) = quadratic_case(optimizer)
    expected = linear @ np.linalg.solve(matrix, mixed)
    # Each term is at most 0.6 of the one before.
    found, _ = quadratic_hypergradient(optimizer, jdarts.neumann(50))
    chex.assert_trees_all_close(found, expected, rtol=1e-9)


def test_a_loss_without_a_forward_mode_gives_the_same_series():
    @jax.custom_vjp
    def square(x):
        return jnp.square(x)

    square.defvjp(lambda x: (jnp.square(x), x), lambda x, ct: (2 * x * ct,))
    optimizer = OPTIMIZERS["momentum_and_decay"]()
    weights, alphas, train, valid = problem()
    found = []
    for function in (square, jnp.square):

        def loss(weights, alphas, model_state, batch, key, function=function):
            x, y = batch
            hidden = function(jnp.tanh(x @ weights["in"])) * jax.nn.softmax(alphas["mix"])[0]
            return jnp.mean((hidden @ weights["out"] * alphas["gain"] - y) ** 2), (model_state, {})

        state = jdarts.init_state(
            jax.random.key(0), weights, alphas, weight_optimizer=optimizer, alpha_optimizer=optax.sgd(1.0)
        )
        step = jax.jit(stepper(optimizer, optax.sgd(1.0), jdarts.neumann(2), loss))
        found.append(step(state, train, valid)[0].alphas)
    chex.assert_trees_all_close(*found, rtol=1e-10)


def test_an_optimiser_that_reads_the_loss():
    """The Polyak step size: the products with the value's derivative are part of every term."""
    optimizer = optax.polyak_sgd(max_learning_rate=10.0)
    weights, alphas, train, valid = problem()
    state = jdarts.init_state(
        jax.random.key(0), weights, alphas, weight_optimizer=optimizer, alpha_optimizer=optax.sgd(1.0)
    )
    given = smooth_problem(optimizer, state, train, valid)
    flat, weights_of = ravel_pytree(given.weights)

    def step(flat, alphas):
        value, gradient = jax.value_and_grad(given.train_loss)(weights_of(flat), alphas)
        updates, _ = optimizer.update(gradient, given.weight_opt_state, weights_of(flat), value=value)
        return flat + ravel_pytree(updates)[0]

    @jax.jit
    def both(flat):
        jacobian = jax.jacobian(step)(flat, given.alphas)
        v = jax.grad(lambda flat: given.valid_loss(weights_of(flat), given.alphas)[0])(flat)
        total = v + jacobian.T @ v + jacobian.T @ jacobian.T @ v
        implicit = jax.vjp(lambda alphas: step(flat, alphas), given.alphas)[1](total)[0]
        direct = jax.grad(lambda alphas: given.valid_loss(weights_of(flat), alphas)[0])(given.alphas)
        here = given._replace(weights=weights_of(flat))
        return jdarts.neumann(2, at="present")(here).gradient, jax.tree.map(jnp.add, direct, implicit)

    found, expected = both(flat)
    chex.assert_trees_all_close(found, expected, rtol=1e-9, atol=1e-12)


def test_the_growth_of_the_series_is_reported():
    def growth(rate, terms):
        _, metrics = quadratic_hypergradient(optax.sgd(rate), jdarts.neumann(terms))
        return float(metrics["hypergradient/series_growth"])

    # Eigenvalues of the Hessian are 0.5 to 2.
    assert growth(0.5, 8) < growth(0.5, 4) < 1
    assert growth(3.0, 8) > growth(3.0, 4) > 1


def test_wrong_settings_are_explained():
    with pytest.raises(InputError, match="-1 terms; give 0 or more"):
        jdarts.neumann(-1)
    with pytest.raises(InputError, match="at is 'there'; give 'virtual' or 'present'"):
        jdarts.neumann(at="there")  # pyright: ignore[reportArgumentType]
    state, train, valid = warm_state(optax.sgd(0.1), optax.sgd(0.1))
    other = jdarts.neumann(virtual_optimizer=optax.sgd(0.1, momentum=0.9))
    with pytest.raises(InputError, match=r"optax\.identity"):
        hypergradient_of(state, train, valid, optax.sgd(0.1), other)
