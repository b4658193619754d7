"""Study 1 on problems whose answers are known: what is measured, what is predicted, and what the tables make of it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from study import hypergradient, hypergradient_figures, statistics
from study.real_changes import (
    Estimators,
    Moment,
    Trained,
    Unroll,
    own_steps,
    problem_of,
    random_directions,
    weight_step,
)
from study.results import Results
from study.short_search import SearchSize, ShortSearch
from test_bilevel import OPTIMIZERS, smooth_loss, warm_state

import jdarts
from jdarts.data import Augmentation, ImageDataset, ImageSplit
from jdarts.errors import InputError
from jdarts.optimizers import alpha_optimizer

pytestmark = pytest.mark.usefixtures("standard_promotion")
DIRECTIONS = 12


def quadratic_loss(weights, alphas, batch):
    """Quadratic in weights and alphas together, so that every weight step is linear in both."""
    residual = batch["a"] @ weights - batch["b"] @ alphas - batch["c"]
    return 0.5 * jnp.sum(residual**2)


def quadratic_moment(optimizer, steps=5):
    draw = np.random.default_rng(3)

    def batch():
        return {name: jnp.asarray(draw.normal(size=size)) / 3 for name, size in SIZES.items()}

    weights, alphas = jnp.asarray(draw.normal(size=4)), jnp.asarray(draw.normal(size=6))
    return Moment(weights, alphas, optimizer.init(weights), [batch() for _ in range(steps)], batch())


SIZES = {"a": (8, 4), "b": (8, 6), "c": (8,)}


@pytest.fixture(scope="module")
def quadratic():
    """Gradients, directions and changes of a quadratic problem."""
    with jax.numpy_dtype_promotion("standard"):
        optimizer = OPTIMIZERS["momentum_and_decay"]()
        moment = quadratic_moment(optimizer)
        kinds = {"epsilons": (0.01, 1.0), "unrolls": (1, 2, 5), "terms": (2,)}
        estimators = Estimators(quadratic_loss, optimizer, **kinds)
        gradients = estimators.gradients(moment)
        directions = random_directions((1,), DIRECTIONS, np.full(6, 0.3))
        changes = Trained(quadratic_loss, optimizer).changes(moment, directions, [moment.valid], [1, 2, 5])
        return gradients, directions, changes, estimators, moment


def scores(quadratic, name, steps):
    gradients, directions, changes, *_ = quadratic
    predicted, real = directions @ gradients[name], changes[steps].odd
    return [each(predicted, real) for each in (statistics.slope, statistics.correlation, statistics.relative_error)]


@pytest.mark.parametrize("name", ["exact", "unrolled 1", "difference, ε = 0.01", "difference, ε = 1"])
def test_exact_and_finite_difference_foretell_a_quadratic_problem_at_any_length(quadratic, name):
    np.testing.assert_allclose(scores(quadratic, name, 1), (1, 1, 0), atol=1e-8)


def test_first_order_does_not(quadratic):
    slope, correlation, error = scores(quadratic, "first order", 1)
    assert abs(slope - 1) > 0.02 and correlation < 0.999 and error > 0.05


def test_each_unroll_foretells_its_own_number_of_steps(quadratic):
    for steps in (2, 5):
        np.testing.assert_allclose(scores(quadratic, f"unrolled {steps}", steps), (1, 1, 0), atol=1e-8)
        assert scores(quadratic, "exact", steps)[2] > 0.05


def test_curvature_is_what_both_sides_share(quadratic):
    _, directions, changes, _, moment = quadratic
    optimizer = OPTIMIZERS["momentum_and_decay"]()

    def loss(alphas):
        weights, _ = weight_step(
            quadratic_loss, optimizer, moment.weights, moment.weight_opt_state, alphas, moment.train[0]
        )
        return quadratic_loss(weights, alphas, moment.valid)

    value, hessian = jax.jit(lambda alphas: (loss(alphas), jax.hessian(loss)(alphas)))(moment.alphas)
    expected = 0.5 * np.einsum("di,ij,dj->d", directions, hessian, directions)
    np.testing.assert_allclose(changes[1].even, expected, rtol=1e-8)
    np.testing.assert_allclose(changes[1].before, value, rtol=1e-12)


def test_every_estimator_has_a_time(quadratic):
    *_, estimators, moment = quadratic
    found = estimators.seconds(moment, repeats=1)
    assert list(found) == list(estimators.gradients(moment)) and min(found.values()) >= 0


@pytest.mark.parametrize("name", ["momentum_and_decay", "scheduled"])
def test_steps_one_after_the_other_give_the_unrolled_hypergradient(name):
    optimizer = OPTIMIZERS[name]()
    state, train, valid = warm_state(optimizer, optax.sgd(0.1))

    def loss(weights, alphas, batch):
        return smooth_loss(weights, alphas, 0, batch, None)[0]

    other = jax.tree.map(lambda leaf: leaf + 0.1, train)
    moment = Moment(state.weights, state.alphas, state.weight_opt_state, [train, other, train], valid)
    problem = problem_of(moment, loss, optimizer)
    problem = problem._replace(
        later_train_losses=tuple(functools.partial(lambda w, a, b: loss(w, a, b), b=each) for each in moment.train[1:])
    )
    expected = jax.jit(lambda: ravel_pytree(jdarts.unrolled(3)(problem).gradient)[0])()
    found = ravel_pytree(Unroll(loss, optimizer, Trained(loss, optimizer).step)(moment, 3))[0]
    np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-12)


def test_directions_are_as_long_as_the_step_and_differ():
    step = np.array([3.0, 0.0, 4.0])
    found = random_directions((1, 2), 50, step)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 5)
    assert np.all(np.abs(found.mean(axis=0)) < 1.5)
    assert not np.array_equal(found, random_directions((1, 3), 50, step))
    np.testing.assert_array_equal(found, random_directions((1, 2), 50, step))


def test_own_steps_are_those_of_adam():
    alphas = {"x": jnp.zeros((2, 3), jnp.float32)}
    optimizer = alpha_optimizer(0.02, weight_decay=0.0)
    gradient = np.array([1.0, -2.0, 3.0, -4.0, 5.0, -6.0])
    (found,) = own_steps(optimizer, optimizer.init(alphas), alphas, {"exact": gradient}).values()
    np.testing.assert_allclose(found, -0.02 * np.sign(gradient), rtol=1e-4)


def made_results():
    """Results in which `exact` foretells everything and `first order` half of it, with another error for each seed."""
    rows = []
    for seed in range(3):
        for moment in (0.0, 1.0):
            truth = np.random.default_rng(seed).normal(size=6)
            half = truth + np.roll(truth, 1 + seed)
            own = {each: [-1e-4, 2e-5] for each in NAMES}
            real = {"same": truth, "other": truth, "next, 5": 2 * truth}
            changes = {
                name: {"before": 1.0, "own": own, "odd": odd.tolist(), "even": [0.1] * 6} for name, odd in real.items()
            }
            at_length = {"odd": (0.1 * truth[:4]).tolist(), "even": [0.1] * 4}
            rows.append(
                {
                    "network": "darts",
                    "seed": seed,
                    "moment": moment,
                    "seconds": {"first order": 0.1, "exact": 0.25},
                    "predicted": {"first order": half.tolist(), "exact": truth.tolist()},
                    "changes": changes,
                    "lengths": [{"length": 0.1, "fixed": at_length, "trained": at_length}],
                }
            )
    machine = {"processor": "p", "cores": 2, "devices": "1 CPU", "jax": "1"}
    return Results("hypergradient", "quick", "make study", {}, {"name": "toy"}, machine, 1.0, 2.0, rows)


NAMES = ["first order", "exact"]


def test_tables_show_correlation_slope_error_and_cost():
    results = made_results()
    lines = hypergradient_figures.tables(results)["estimators"].splitlines()
    exact = next(line for line in lines if line.startswith("| exact"))
    assert exact == "| exact | 2.5 | 1.00 [1.00, 1.00] |  | 1.00 [1.00, 1.00] | 0.00 [0.00, 0.00] |"
    others = hypergradient_figures.tables(results)["others"].splitlines()
    assert others[0] == "| correlation | other batches | next 5 steps |"
    assert others[3] == "| exact | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] |"
    rows = hypergradient_figures.main_rows(results)
    first = hypergradient_figures.foresight(rows, "first order", "same", statistics.correlation)
    assert first.low < first.mean < first.high < 1
    assert hypergradient_figures.foresight(rows, "exact", "next, 5", statistics.slope).mean == pytest.approx(2)
    steps = hypergradient_figures.tables(results)["steps"].splitlines()[2]
    assert steps.startswith("| first order | -0.8 [-0.8, -0.8] |")
    # A tenth of the length is predicted as a tenth.
    lengths = hypergradient_figures.tables(results)["lengths"].splitlines()[2]
    assert lengths.startswith("| DARTS cells | 0.1 | 1.00 [1.00, 1.00] | 1.00 [1.00, 1.00] |")
    for figure in hypergradient_figures.figures(results).values():
        assert figure().axes


def test_wrong_settings_are_explained():
    for changes, words in (
        ({"seeds": ()}, "--seeds is"),
        ({"moments": (2.0,)}, "--moments is .*; give parts of the search, from 0 to 1"),
        ({"length_moments": (-1.0,)}, "--length-moments is"),
        ({"next_directions": 30}, "--next-directions is 30; give 20 or less"),
    ):
        with pytest.raises(InputError, match=words):
            dataclasses.replace(hypergradient.CONFIG, **changes).check()
    hypergradient.QUICK.check()


def test_other_networks_have_the_moments_of_the_lengths():
    config = dataclasses.replace(
        hypergradient.CONFIG, networks=("choice", "darts"), seeds=(4,), moments=(0.5, 0.0), length_moments=(1.0,)
    )
    assert [(cell["network"], cell["moment"]) for cell in hypergradient.cells(config)] == [
        ("choice", 0.0),
        ("choice", 0.5),
        ("choice", 1.0),
        ("darts", 1.0),
    ]


@pytest.mark.parametrize(("activation", "kinks"), [(jax.nn.relu, True), (jax.nn.silu, False)], ids=["relu", "silu"])
def test_kinks_break_the_prediction_between_the_shortest_steps_and_those_of_a_search(activation, kinks):
    draw = np.random.default_rng(0)

    def batch():
        return jnp.asarray(draw.normal(size=(64, 6))), jnp.asarray(draw.normal(size=64))

    def loss(weights, alphas, batch):
        inputs, targets = batch
        mixed = inputs @ (jax.nn.softmax(alphas)[:, None] * weights["in"])
        return jnp.mean((activation(mixed) @ weights["out"] - targets) ** 2)

    weights = {"in": jnp.asarray(draw.normal(size=(6, 40))), "out": jnp.asarray(draw.normal(size=40)) / 6}
    optimizer = optax.sgd(0.5)
    moment = Moment(weights, jnp.zeros(6), optimizer.init(weights), [batch()], batch())
    gradient = Estimators(loss, optimizer, epsilons=(), unrolls=(), terms=()).gradients(moment)["exact"]
    directions, trained, errors = random_directions((0,), 8, np.full(6, 0.1)), Trained(loss, optimizer), []
    for length in (1e-7, 0.1):
        steps = length * directions
        found = trained.changes(moment, steps, [moment.valid], [1])[1]
        errors.append(statistics.relative_error(steps @ gradient, found.odd))
    assert errors[0] < 1e-4
    assert errors[1] > 0.02 if kinks else errors[1] < 1e-3


def test_batches_of_a_search_depend_on_seed_step_and_half():
    draw = np.random.default_rng(0)
    pixels = np.arange(16, dtype=np.uint8).repeat(48).reshape(16, 4, 4, 3)
    split = ImageSplit(pixels, draw.integers(2, size=16).astype(np.int32))
    plain = Augmentation(padding=0, flip=False)
    dataset = ImageDataset("toy", split, split, ("a", "b"), (0.0,) * 3, (1.0,) * 3, plain, shuffled=True)
    size = SearchSize("choice", 1, 1, 1, steps=4, batch_size=4, learning_rate=0.1, alpha_learning_rate=0.01)
    search = ShortSearch(size, dataset, 0)

    def numbers(batch):
        return {round(float(image[0, 0, 0]) * 255) for image in batch[0]}

    assert all(numbers(search.train_batch(step)) <= set(range(8)) for step in range(4))
    assert all(numbers(search.valid_batch(step)) <= set(range(8, 16)) for step in range(4))
    np.testing.assert_array_equal(search.train_batch(2)[0], search.train_batch(2)[0])
    assert len({tuple(sorted(numbers(search.train_batch(step)))) for step in range(6)}) > 1
    assert int(search.state_after(0).step) == 0
    # The clipping is left out of the virtual step alone.

    @jax.jit
    def updates(weights, gradient):
        return [each.update(gradient, each.init(weights), weights)[0] for each in search.optimizers[:2]]

    made = updates(np.zeros(3), np.full(3, 100.0))
    np.testing.assert_allclose(np.linalg.norm(made[0]), 0.1 * 5, rtol=1e-6)
    np.testing.assert_allclose(made[1], np.full(3, -10.0), rtol=1e-6)
