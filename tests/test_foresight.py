"""The change of the validation loss that a hypergradient predicts, against the real one."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_bilevel import OPTIMIZERS, each_optimizer, smooth_loss, stacked, warm_state
from test_neumann import smooth_problem

import jdarts
from jdarts.bilevel.foresight import foresight
from jdarts.errors import InputError

pytestmark = pytest.mark.usefixtures("standard_promotion")
KEY = jax.random.key(3)


def measured_at(estimator, steps, *, make=OPTIMIZERS["momentum_and_decay"], **options):
    """The foresight of an estimator for steps of plain gradient descent of some length and key, and its hypergradient."""
    optimizer = make()
    state, train, valid = warm_state(optimizer, optax.sgd(0.1))
    given = smooth_problem(optimizer, state, train, valid)

    @jax.jit
    def of_step(weights, length, key):
        now = given._replace(weights=weights)
        gradient = estimator(now).gradient
        norm = optax.tree.norm(gradient)
        update = jax.tree.map(lambda leaf: -length / norm * leaf, gradient)
        return foresight(now, gradient, update, key, **options), gradient

    return [jax.device_get(of_step(given.weights, *step)) for step in steps]


def measured(estimator, *, length=1e-3, **options):
    """The foresight alone, of one step."""
    ((found, _),) = measured_at(estimator, [(length, KEY)], **options)
    return found


@each_optimizer
def test_the_exact_hypergradient_predicts_short_steps(make):
    errors, lengths = [], (1e-1, 1e-2, 1e-3, 1e-4)
    for length, (found, _) in zip(
        lengths, measured_at(jdarts.exact(), [(length, KEY) for length in lengths], make=make)
    ):
        errors.append(abs(float(found.slope) - 1))
        assert abs(float(found.correlation) - 1) < 100 * length
    assert errors[-1] < 1e-3
    # The error falls with the length of the step.
    assert errors[3] < 0.2 * errors[2] < 0.04 * errors[1] + 1e-9


def test_the_first_order_hypergradient_predicts_another_change():
    exact = measured(jdarts.exact(), length=1e-4)
    first = measured(jdarts.first_order(), length=1e-4)
    assert abs(float(exact.slope) - 1) < 1e-3
    assert abs(float(first.slope) - 1) > 0.02
    assert float(first.correlation) < float(exact.correlation)


def test_slope_and_correlation_are_those_of_a_line_through_the_origin():
    found = measured(jdarts.first_order(), length=0.3, directions=6)
    predicted, real = np.asarray(found.predicted), np.asarray(found.real)
    slope = np.linalg.lstsq(predicted[:, None], real)[0][0]
    np.testing.assert_allclose(found.slope, slope, rtol=1e-9)
    cosine = predicted @ real / np.linalg.norm(predicted) / np.linalg.norm(real)
    np.testing.assert_allclose(found.correlation, cosine, rtol=1e-9)
    assert abs(cosine) < 0.999


def test_the_changes_are_those_of_the_definition():
    optimizer = OPTIMIZERS["momentum_and_decay"]()
    state, train, valid = warm_state(optimizer, optax.sgd(0.1))
    given = smooth_problem(optimizer, state, train, valid)
    update = {"mix": jnp.array([0.1, -0.2, 0.3]), "gain": jnp.array(0.2)}

    def loss(alphas):
        slope = jax.grad(lambda w: smooth_loss(w, alphas, 0, train, None)[0])(given.weights)
        updates, _ = optimizer.update(slope, given.weight_opt_state, given.weights)
        return smooth_loss(optax.apply_updates(given.weights, updates), alphas, 0, valid, None)[0]

    @jax.jit
    def everything(alphas):
        gradient = jdarts.exact()(given).gradient
        found = foresight(given, gradient, update, KEY, directions=0)
        expected = loss(optax.apply_updates(alphas, update)) - loss(alphas)
        return found, expected, jnp.asarray(optax.tree.vdot(gradient, update))

    found, expected, predicted = jax.device_get(everything(given.alphas))
    np.testing.assert_allclose(found.real, [expected], rtol=1e-9)
    np.testing.assert_allclose(found.predicted[0], predicted, rtol=1e-9)
    np.testing.assert_allclose(found.slope, expected / found.predicted[0], rtol=1e-9)
    np.testing.assert_allclose(found.correlation, np.sign(found.slope), rtol=1e-9)


def test_random_directions_are_as_long_as_the_step_and_depend_on_the_key():
    length = 1e-3
    steps = [(length, KEY), (length, jax.random.key(4)), (length, KEY)]
    (found, gradient), (other, _), (again, _) = measured_at(jdarts.exact(), steps, directions=16)
    assert found.predicted.shape == found.real.shape == (17,)
    norm = np.sqrt(sum(np.sum(leaf**2) for leaf in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(found.predicted[0], -length * norm, rtol=1e-9)
    assert np.all(np.abs(found.predicted[1:]) < length * norm)
    assert 0.2 * length * norm < np.std(found.predicted[1:]) < 0.9 * length * norm
    assert len(np.unique(found.predicted)) == 17
    assert other.predicted[0] == again.predicted[0]
    assert np.all(other.predicted[1:] != again.predicted[1:])


def test_a_step_of_length_zero_gives_no_nan():
    state, train, valid = warm_state(optax.sgd(0.1), optax.sgd(0.1))
    given = smooth_problem(optax.sgd(0.1), state, train, valid)
    nothing = jax.tree.map(jnp.zeros_like, given.alphas)
    found = jax.jit(lambda: foresight(given, nothing, nothing, KEY))()
    np.testing.assert_array_equal(found.real, np.zeros(5))
    assert found.slope == found.correlation == 0
    assert list(found.numbers()) == ["guards/hypergradient_slope", "guards/hypergradient_correlation"]


def test_the_virtual_optimizer_makes_the_virtual_step():
    stages = optax.add_decayed_weights(0.1), optax.sgd(0.3, momentum=0.9)
    clipped = lambda: optax.chain(optax.clip_by_global_norm(0.01), *stages)  # noqa: E731
    unclipped = optax.chain(optax.identity(), *stages)
    estimator = jdarts.exact(virtual_optimizer=unclipped)
    found = measured(estimator, make=clipped, length=1e-4, virtual_optimizer=unclipped)
    assert abs(float(found.slope) - 1) < 1e-3
    other = measured(estimator, make=clipped, length=1e-4)
    assert abs(float(other.slope) - 1) > 0.01


def test_several_at_once_and_on_several_devices():
    optimizer = optax.sgd(0.3, momentum=0.5)
    runs = [warm_state(optimizer, optax.sgd(0.1), seed) for seed in range(2)]

    def changes(run, average=lambda tree: tree):
        state, train, valid = run
        given = smooth_problem(optimizer, state, train, valid)._replace(average=average)
        gradient = jdarts.exact()(given).gradient
        return foresight(given, gradient, gradient, KEY)._asdict()

    alone = jax.jit(changes)
    expected = [alone(run) for run in runs]
    together = jax.jit(jax.vmap(changes))(stacked(runs))
    for index, one in enumerate(expected):
        jax.tree.map(
            lambda found, value, index=index: np.testing.assert_allclose(found[index], value, rtol=1e-8), together, one
        )
    if jax.device_count() < 2:
        pytest.skip("needs two devices; jax was started with one")
    state, train, valid = runs[0]
    halves = jax.tree.map(lambda leaf: leaf.reshape(2, -1, *leaf.shape[1:]), (train, valid))
    mean = functools.partial(jax.lax.pmean, axis_name="devices")
    both = jax.pmap(
        lambda state, train, valid: changes((state, train, valid), mean), axis_name="devices", in_axes=(None, 0, 0)
    )(state, *halves)
    for name, value in expected[0].items():
        np.testing.assert_allclose(both[name][1], value, rtol=1e-8)


def test_wrong_settings_are_explained():
    with pytest.raises(InputError, match="-1 random directions; give 0 or more"):
        measured(jdarts.exact(), directions=-1)
