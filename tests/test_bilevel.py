import functools
import gc

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from search_fixtures import problem_on
from state_leaves import stacked

import jdarts
from jdarts.bilevel.problem import LossFn
from jdarts.errors import InputError

ESTIMATORS = {
    "first_order": jdarts.first_order(),
    "finite_difference": jdarts.finite_difference(),
    "exact": jdarts.exact(),
    "unrolled": jdarts.unrolled(),
    "unrolled_3": jdarts.unrolled(steps=3),
    "neumann": jdarts.neumann(),
}
OPTIMIZERS = {
    "sgd": lambda: optax.sgd(0.3),
    "momentum_and_decay": lambda: optax.chain(optax.add_decayed_weights(0.1), optax.sgd(0.3, momentum=0.9)),
    "clipped": lambda: optax.chain(optax.clip_by_global_norm(0.05), optax.sgd(0.3)),
    "adam": lambda: optax.adam(0.1, eps_root=1e-8),
    "scheduled": lambda: optax.sgd(optax.cosine_decay_schedule(0.3, 10), momentum=0.5),
}
pytestmark = pytest.mark.usefixtures("standard_promotion")
each_estimator = pytest.mark.parametrize("hypergradient", ESTIMATORS.values(), ids=ESTIMATORS)
each_optimizer = pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)


@jax.jit
def smooth_loss(weights, alphas, model_state, batch, key):
    """A small smooth network whose layers are mixed by the alphas; its state counts batches.

    It is compiled so that all steps share the traces of its derivatives.
    """
    del key
    x, y = batch
    mixture = jax.nn.softmax(alphas["mix"])
    hidden = jnp.tanh(x @ weights["in"])
    hidden = mixture[0] * jnp.sin(hidden) + mixture[1] * hidden + mixture[2] * jnp.square(hidden)
    error = hidden @ weights["out"] * alphas["gain"] - y
    return jnp.mean(jnp.square(error)), (model_state + 1, {"error": jnp.mean(jnp.abs(error))})


def problem(seed=0, rows=8):
    draw = np.random.default_rng(seed)
    weights = {"in": draw.normal(size=(3, 5)), "out": draw.normal(size=(5, 2))}
    alphas = {"mix": draw.normal(size=3), "gain": np.asarray(draw.normal())}

    def batch():
        return draw.normal(size=(rows, 3)), draw.normal(size=(rows, 2))

    return weights, alphas, batch(), batch()


@jax.jit
def slopes(weights, alphas, batch):
    return jax.grad(lambda w, a: smooth_loss(w, a, 0, batch, None)[0], argnums=(0, 1))(weights, alphas)


def warm_state(optimizer, alpha_optimizer, seed=0):
    """A state whose optimiser has taken steps, so that momenta and schedules are not at their start."""
    weights, alphas, train, valid = problem(seed)
    state = jdarts.init_state(
        jax.random.key(seed),
        weights,
        alphas,
        jnp.zeros((), jnp.int32),
        weight_optimizer=optimizer,
        alpha_optimizer=alpha_optimizer,
    )
    for _ in range(3):
        of_weights, of_alphas = slopes(state.weights, state.alphas, train)
        updates, weight_opt_state = optimizer.update(of_weights, state.weight_opt_state, state.weights)
        moves, alpha_opt_state = alpha_optimizer.update(of_alphas, state.alpha_opt_state, state.alphas)
        state = state.replace(
            weights=optax.apply_updates(state.weights, updates),
            alphas=optax.apply_updates(state.alphas, moves),
            weight_opt_state=weight_opt_state,
            alpha_opt_state=alpha_opt_state,
        )
    return state, train, valid


def stepper(optimizer, alpha_optimizer, hypergradient, loss_fn: LossFn = smooth_loss, **options):
    return functools.partial(
        jdarts.bilevel_step,
        loss_fn=loss_fn,
        weight_optimizer=optimizer,
        alpha_optimizer=alpha_optimizer,
        hypergradient=hypergradient,
        **options,
    )


def hypergradient_of(state, train, valid, optimizer, estimator):
    """The estimate itself, read off as the step of plain gradient descent on the alphas."""
    sgd = optax.sgd(1.0)
    state = state.replace(alpha_opt_state=sgd.init(state.alphas))
    new, _ = stepper(optimizer, sgd, estimator)(state, train, valid)
    return jax.tree.map(jnp.subtract, state.alphas, new.alphas)


def estimate_of(state, train, valid, optimizer, estimator):
    """The estimate that an estimator gives for the problem of a step, without the step."""

    def loss(batch, weights, alphas):
        return smooth_loss(weights, alphas, 0, batch, None)[0]

    problem = problem_on(train, valid, loss, state.weights, state.alphas, optimizer, state.weight_opt_state)
    return estimator(problem).gradient


def by_definition(state, train, valid, optimizer):
    """`jax.grad` of the validation loss at the weights after one step, written out."""

    def validation(alphas):
        gradient = jax.grad(lambda w: smooth_loss(w, alphas, 0, train, None)[0])(state.weights)
        updates, _ = optimizer.update(gradient, state.weight_opt_state, state.weights)
        return smooth_loss(optax.apply_updates(state.weights, updates), alphas, 0, valid, None)[0]

    return jax.grad(validation)(state.alphas)


@functools.cache
def estimates(make):
    """A function of the length of a finite difference to all estimates of one step, as one program."""
    optimizer = make()
    state, train, valid = warm_state(optimizer, optax.sgd(0.1))

    def all_of(state, epsilon):
        others = {
            "first_order": jdarts.first_order(),
            "unrolled": jdarts.unrolled(steps=1),
            "finite_difference": jdarts.finite_difference(epsilon),
        }
        given = state, train, valid, optimizer
        found = {name: estimate_of(*given, each) for name, each in others.items()}
        return {"definition": by_definition(*given), "exact": hypergradient_of(*given, jdarts.exact()), **found}

    return functools.partial(jax.jit(all_of), state)


@each_optimizer
def test_exact_is_the_gradient_through_the_virtual_step(make):
    found = estimates(make)(0.1)
    for name in ("exact", "unrolled"):
        chex.assert_trees_all_close(found[name], found["definition"], rtol=1e-9, atol=1e-12)


@jax.custom_vjp
def tanh_of_reverse_mode(x):
    return jnp.tanh(x)


tanh_of_reverse_mode.defvjp(lambda x: (jnp.tanh(x), jnp.tanh(x)), lambda y, ct: (ct * (1 - y * y),))


def test_exact_serves_losses_without_a_forward_mode():
    """A hand-written reverse rule, inside a loop, gives the step that JAX's own derivative gives."""
    optimizer, alpha_optimizer = OPTIMIZERS["momentum_and_decay"](), optax.adam(0.1)
    state, train, valid = warm_state(optimizer, alpha_optimizer)

    def looped(tanh):
        def loss(weights, alphas, model_state, batch, key):
            def layer(hidden, _):
                return tanh(hidden @ weights["in"] @ weights["out"] @ jnp.ones((2, 3))) * alphas["mix"][None], None

            hidden, _ = jax.lax.scan(layer, batch[0], length=2)
            return jnp.mean(jnp.square(hidden)), (model_state, {})

        return jax.jit(stepper(optimizer, alpha_optimizer, jdarts.exact(), loss))

    got, expected = (looped(tanh)(state, train, valid) for tanh in (tanh_of_reverse_mode, jnp.tanh))
    assert expected[1]["hypergradient/implicit_norm"] > 0
    chex.assert_trees_all_close(_numbers(got), _numbers(expected), rtol=1e-10, atol=1e-12)


@each_optimizer
def test_finite_difference_tends_to_exact(make):
    found = [estimates(make)(epsilon) for epsilon in (0.1, 0.01, 0.001)]
    expected = found[0]["definition"]

    def distance(estimate):
        return float(optax.tree.norm(jax.tree.map(jnp.subtract, estimate, expected)))

    errors = [distance(each["finite_difference"]) for each in found]
    assert errors[0] < 0.1 * distance(found[0]["first_order"])
    # A central difference: the error falls with the square of epsilon.
    assert errors[1] == pytest.approx(errors[0] / 100, rel=0.1)
    assert errors[2] == pytest.approx(errors[1] / 100, rel=0.1)


def test_one_program_serves_several_epsilons():
    optimizer = OPTIMIZERS["sgd"]()
    state, train, valid = warm_state(optimizer, optax.sgd(0.1))

    def difference(epsilon):
        return estimate_of(state, train, valid, optimizer, jdarts.finite_difference(epsilon))

    epsilons = (0.1, 0.01)
    constants = jax.jit(lambda: [difference(epsilon) for epsilon in epsilons])()
    one_program = jax.jit(difference)
    for found, expected in zip(map(one_program, epsilons), constants, strict=True):
        chex.assert_trees_all_close(found, expected, rtol=1e-9, atol=1e-12)


def test_first_order_is_a_virtual_step_of_length_zero():
    optimizer = optax.sgd(0.0)
    state, train, valid = warm_state(optimizer, optax.sgd(0.1))
    estimators = (jdarts.exact(), jdarts.finite_difference(), jdarts.unrolled(), jdarts.neumann())

    @jax.jit
    def estimates_of(state):
        return [estimate_of(state, train, valid, optimizer, each) for each in (jdarts.first_order(), *estimators)]

    expected, *found = estimates_of(state)
    for each in found:
        chex.assert_trees_all_close(each, expected, rtol=1e-12)


def test_unrolled_differentiates_all_its_steps():
    optimizer = optax.sgd(0.2, momentum=0.9)
    state, train, valid = warm_state(optimizer, optax.sgd(0.1))

    @jax.jit
    def validation(gain):
        alphas = {**state.alphas, "gain": gain}
        weights, opt_state = state.weights, state.weight_opt_state
        for _ in range(3):
            gradient = jax.grad(lambda w: smooth_loss(w, alphas, 0, train, None)[0])(weights)
            updates, opt_state = optimizer.update(gradient, opt_state, weights)
            weights = optax.apply_updates(weights, updates)
        return smooth_loss(weights, alphas, 0, valid, None)[0]

    gain, width = state.alphas["gain"], 1e-5
    slope = (validation(gain + width) - validation(gain - width)) / (2 * width)
    unrolled = jax.jit(lambda state: estimate_of(state, train, valid, optimizer, jdarts.unrolled(steps=3)))
    found = unrolled(state)
    assert float(found["gain"]) == pytest.approx(float(slope), rel=1e-7)


def test_virtual_optimizer_replaces_the_virtual_step_only():
    stages = optax.add_decayed_weights(0.1), optax.sgd(0.3, momentum=0.9)
    clipped = optax.chain(optax.clip_by_global_norm(0.01), *stages)
    unclipped = optax.chain(optax.identity(), *stages)
    state, train, valid = warm_state(clipped, optax.sgd(0.1))
    makes = (jdarts.exact, jdarts.unrolled)

    @jax.jit
    def all_of(state):
        found = [estimate_of(state, train, valid, clipped, make(virtual_optimizer=unclipped)) for make in makes]
        steps = (
            stepper(clipped, optax.sgd(0.1), jdarts.exact()),
            stepper(clipped, optax.sgd(0.0), jdarts.exact(virtual_optimizer=unclipped)),
        )
        return by_definition(state, train, valid, unclipped), found, [step(state, train, valid)[0] for step in steps]

    expected, found, (with_own, with_other) = all_of(state)
    for each in found:
        chex.assert_trees_all_close(each, expected, rtol=1e-9)
    assert optax.tree.norm(optax.tree.sub(with_own.alphas, with_other.alphas)) > 0
    gradient, _ = slopes(state.weights, with_other.alphas, train)
    updates, _ = clipped.update(gradient, state.weight_opt_state, state.weights)
    chex.assert_trees_all_close(with_other.weights, optax.apply_updates(state.weights, updates), rtol=1e-12)


def both_optimizers():
    """Of the weights, and of the alphas."""
    return optax.chain(optax.clip_by_global_norm(0.5), optax.sgd(0.1, momentum=0.9)), optax.adam(0.01)


@functools.cache
def runs():
    """State and batches of two runs."""
    return [warm_state(*both_optimizers(), seed) for seed in range(2)]


@functools.cache
def plain_step(hypergradient):
    """The step of the first run, one operation after the other."""
    return stepper(*both_optimizers(), hypergradient)(*runs()[0])


@each_estimator
def test_a_step_moves_alphas_then_weights_at_the_new_alphas(hypergradient):
    optimizer, _ = both_optimizers()
    state, train, _ = runs()[0]
    new, metrics = plain_step(hypergradient)
    assert int(new.step) == int(state.step) + 1
    assert int(new.model_state) == int(state.model_state) + 1
    for before, after in zip(jax.tree.leaves(state.alphas), jax.tree.leaves(new.alphas)):
        assert jnp.all(before != after)
    gradient, _ = slopes(state.weights, new.alphas, train)
    updates, _ = optimizer.update(gradient, state.weight_opt_state, state.weights)
    chex.assert_trees_all_close(new.weights, optax.apply_updates(state.weights, updates), rtol=1e-12)
    assert metrics["train/loss"] == smooth_loss(state.weights, new.alphas, 0, train, None)[0]
    assert bool(metrics["hypergradient/finite"])
    assert {"train/error", "valid/error", "valid/loss", "hypergradient/norm", "weights/gradient_norm"} <= set(metrics)


@pytest.fixture(scope="module")
def two_steps_of_both_runs():
    """Two steps of both runs, mapped and in a loop, by estimator, as one program."""

    @jax.jit
    def two_steps(runs):
        states, train, valid = runs

        def by(hypergradient):
            def both_runs(states, _):
                results = jax.vmap(stepper(*both_optimizers(), hypergradient))(states, train, valid)
                return results[0], _numbers(results)

            return jax.lax.scan(both_runs, states, length=2)[1]

        return [by(hypergradient) for hypergradient in ESTIMATORS.values()]

    with jax.numpy_dtype_promotion("standard"):
        return dict(zip(ESTIMATORS.values(), jax.device_get(two_steps(stacked(runs())))))


@each_estimator
def test_pure_under_jit_vmap_and_scan(hypergradient, two_steps_of_both_runs):
    step = stepper(*both_optimizers(), hypergradient)
    first, second = runs()
    plain = [plain_step(hypergradient), step(*second)]
    later = step(plain[0][0], *first[1:])
    found = two_steps_of_both_runs[hypergradient]
    for lane, place, expected in ((0, 0, plain[0]), (1, 0, plain[1]), (0, 1, later)):
        result = jax.tree.map(lambda leaf, lane=lane, place=place: leaf[place, lane], found)
        chex.assert_trees_all_close(result, _numbers(expected), rtol=1e-9, atol=1e-12)


@pytest.fixture(scope="module")
def on_two_devices():
    """The steps of the first run on two devices, by estimator, as one program."""
    if jax.device_count() < 2:
        pytest.skip("needs two devices; jax was started with one")

    def steps(state, train, valid):
        return [
            stepper(*both_optimizers(), hypergradient, axis_name="devices")(state, train, valid)
            for hypergradient in ESTIMATORS.values()
        ]

    state, *batches = runs()[0]
    halves = jax.tree.map(lambda leaf: leaf.reshape(2, -1, *leaf.shape[1:]), batches)
    with jax.numpy_dtype_promotion("standard"):
        mapped = jax.pmap(steps, axis_name="devices", in_axes=(None, 0, 0), out_axes=None)
        return dict(zip(ESTIMATORS.values(), mapped(state, *halves)))


@each_estimator
def test_two_devices_take_the_step_of_one_with_the_whole_batch(hypergradient, on_two_devices):
    found, expected = on_two_devices[hypergradient], plain_step(hypergradient)
    chex.assert_trees_all_close(_numbers(found), _numbers(expected), rtol=1e-9, atol=1e-12)


@each_estimator
@pytest.mark.parametrize("value", [jnp.nan, jnp.inf])
def test_a_hypergradient_that_is_not_finite_is_reported(hypergradient, value):
    optimizer, alpha_optimizer = optax.sgd(0.1), optax.sgd(0.1)
    state, train, (x, y) = warm_state(optimizer, alpha_optimizer)
    y[0, 0] = value
    _, metrics = stepper(optimizer, alpha_optimizer, hypergradient)(state, train, (x, y))
    assert not bool(metrics["hypergradient/finite"])
    assert not bool(jnp.isfinite(metrics["hypergradient/norm"]))


def flat_loss(weights, alphas, model_state, batch, key):
    """A validation loss that does not depend on the weights, so that v and u are zero."""
    del model_state, key
    return jnp.sum(jnp.square(alphas)) + batch * jnp.sum(weights * alphas), ((), {})


@each_estimator
def test_a_direction_of_length_zero_gives_no_nan(hypergradient):
    optimizer = optax.sgd(0.1)
    state = jdarts.init_state(
        jax.random.key(0), jnp.ones(3), jnp.arange(3.0), weight_optimizer=optimizer, alpha_optimizer=optimizer
    )
    step = stepper(optimizer, optimizer, hypergradient, flat_loss)
    new, metrics = step(state, jnp.array(1.0), jnp.array(0.0))
    chex.assert_trees_all_close(state.alphas - new.alphas, 0.1 * 2 * state.alphas, rtol=1e-12)
    assert bool(metrics["hypergradient/finite"])


def noisy_loss(weights, alphas, model_state, batch, key):
    """A loss whose noise must be one and the same in all passes on the training batch."""
    noise = jax.random.bernoulli(key, 0.5, weights.shape).astype(weights.dtype)
    return jnp.sum(jnp.square(weights * noise * alphas - batch)), (model_state, {"noise": noise})


def test_training_passes_share_their_noise_and_steps_do_not():
    optimizer = optax.sgd(0.1)
    state = jdarts.init_state(
        jax.random.key(3), jnp.ones(16), jnp.ones(16), weight_optimizer=optimizer, alpha_optimizer=optimizer
    )
    batch = jnp.linspace(-1.0, 1.0, 16)
    results = [
        stepper(optimizer, optimizer, estimator, noisy_loss)(state, batch, batch)
        # The loss is quadratic in the weights: with equal noise in both its passes the difference is exact.
        for estimator in (jdarts.exact(), jdarts.finite_difference())
    ]
    chex.assert_trees_all_close(results[0][0].alphas, results[1][0].alphas, rtol=1e-9)
    new, metrics = results[0]
    _, later = stepper(optimizer, optimizer, jdarts.exact(), noisy_loss)(new, batch, batch)
    assert jnp.any(metrics["train/noise"] != metrics["valid/noise"])
    assert jnp.any(metrics["train/noise"] != later["train/noise"])
    again, _ = stepper(optimizer, optimizer, jdarts.exact(), noisy_loss)(state, batch, batch)
    chex.assert_trees_all_equal(again.alphas, new.alphas)


def test_no_garbage_is_looked_for_while_a_step_is_traced():
    """The search for cycles takes 40 % of the time that the paper's step takes to trace."""
    seen = []

    def loss(weights, alphas, model_state, batch, key):
        seen.append(gc.isenabled())
        return jnp.sum(jnp.square(weights * alphas - batch)), (model_state, {})

    optimizer = optax.sgd(0.1)
    state = jdarts.init_state(
        jax.random.key(0), jnp.ones(2), jnp.ones(2), weight_optimizer=optimizer, alpha_optimizer=optimizer
    )
    assert gc.isenabled()
    stepper(optimizer, optimizer, jdarts.exact(), loss)(state, jnp.ones(2), jnp.ones(2))
    assert seen and not any(seen)
    assert gc.isenabled()


def test_pytrees_of_any_shape_and_raw_keys():
    def loss(weights, alphas, model_state, batch, key):
        (a, (b,), empty), model_state = weights, (*model_state, "unused")[:1]
        assert empty == {} and key.shape == (2,)
        return jnp.sum(jnp.square(a * alphas[0] + b - batch)), (model_state, {})

    optimizer = optax.adam(0.1)
    state = jdarts.init_state(
        jax.random.PRNGKey(0),
        (jnp.ones(2), [jnp.zeros(2)], {}),
        [jnp.ones(2)],
        (jnp.zeros(1),),
        weight_optimizer=optimizer,
        alpha_optimizer=optimizer,
    )
    new, _ = jax.jit(stepper(optimizer, optimizer, jdarts.exact(), loss))(state, jnp.ones(2), 2 * jnp.ones(2))
    assert jax.tree.structure(new) == jax.tree.structure(state)


def test_alphas_alone_are_minimised_where_there_are_no_weights():
    def loss(weights, alphas, model_state, batch, key):
        del weights, batch, key
        return jnp.sum(alphas**2), (model_state, {})

    optimizer = optax.sgd(0.25)
    state = jdarts.init_state(
        jax.random.key(0), {}, jnp.arange(3.0), weight_optimizer=optimizer, alpha_optimizer=optimizer
    )

    @jax.jit
    def moved(state):
        estimators = [jdarts.exact(), jdarts.unrolled(2), jdarts.finite_difference(), jdarts.neumann(1)]
        return [stepper(optimizer, optimizer, each, loss)(state, None, None)[0].alphas for each in estimators]

    for alphas in moved(state):
        np.testing.assert_array_equal(alphas, jnp.arange(3.0) / 2)


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        (lambda loss: loss, "must return"),
        (lambda loss: (loss, ((), None)), "must be a dict"),
        (lambda loss: (loss[None], ((), {})), "scalar"),
    ],
)
def test_a_loss_of_another_form_is_explained(returned, says):
    optimizer = optax.sgd(0.1)
    state = jdarts.init_state(
        jax.random.key(0), jnp.ones(2), jnp.ones(2), weight_optimizer=optimizer, alpha_optimizer=optimizer
    )
    step = stepper(optimizer, optimizer, jdarts.exact(), lambda w, a, s, b, k: returned(jnp.sum(w * a)))
    with pytest.raises(InputError, match=says):
        step(state, 0.0, 0.0)


def test_wrong_settings_are_explained():
    with pytest.raises(InputError, match=r"epsilon is 0"):
        jdarts.finite_difference(0)
    with pytest.raises(InputError, match=r"0 steps"):
        jdarts.unrolled(0)
    optimizer = optax.sgd(0.1)
    with pytest.raises(InputError, match=r"weights\['counts'\] is int"):
        jdarts.init_state(
            jax.random.key(0),
            {"counts": jnp.arange(3)},
            jnp.ones(1),
            weight_optimizer=optimizer,
            alpha_optimizer=optimizer,
        )
    state = jdarts.init_state(
        jax.random.key(0), jnp.ones(2), jnp.ones(2), weight_optimizer=optimizer, alpha_optimizer=optimizer
    )
    other = jdarts.exact(virtual_optimizer=optax.sgd(0.1, momentum=0.9))
    with pytest.raises(InputError, match=r"optax\.identity"):
        stepper(optimizer, optimizer, other, flat_loss)(state, 0.0, 0.0)


def _numbers(tree):
    """The tree without its key, which cannot be compared by value."""
    state, metrics = tree
    return state.replace(key=()), metrics


#: Two of them begin with the weights as their state.
DONATED = {
    "sgd": optax.sgd(0.1, momentum=0.9),
    "ademamix": optax.contrib.ademamix(0.1),
    "schedule_free": optax.contrib.schedule_free_sgd(0.1),
}


@functools.cache
def compiled_steps(name):
    """An optimiser's step, and the same for states that are donated to it."""

    def loss(weights, alphas, model_state, batch, key):
        del key
        return jnp.sum((weights["a"] - alphas) ** 2) + jnp.sum(weights["b"] * batch), (model_state + 1, {})

    batch, optimizer = np.ones(2), DONATED[name]
    step = functools.partial(stepper(optimizer, optimizer, jdarts.exact(), loss), train_batch=batch, valid_batch=batch)
    return jax.jit(step), jax.jit(step, donate_argnums=0)


@pytest.mark.parametrize("make", [jnp.asarray, np.asarray], ids=["jax", "numpy"])
@pytest.mark.parametrize("name", DONATED)
def test_a_state_of_shared_arrays_may_be_donated(make, name):
    """Weights and alphas that are one array."""

    def new_state():
        one = make(np.asarray([1.0, 2.0]))
        return jdarts.init_state(
            jax.random.key(0),
            {"a": one, "b": one},
            one,
            jnp.zeros((), jnp.int32),
            weight_optimizer=DONATED[name],
            alpha_optimizer=DONATED[name],
        )

    kept, given = compiled_steps(name)
    expected, found = kept(kept(new_state())[0])[0], given(given(new_state())[0])[0]
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        if not jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(one, other)


def test_an_optimiser_that_does_not_fit_is_refused():
    masked = optax.masked(optax.adam(0.1), {"other": True})
    given = {"weight_optimizer": optax.sgd(0.1), "alpha_optimizer": masked}
    with pytest.raises(InputError, match="the optimiser of the alphas cannot begin with them"):
        jdarts.init_state(jax.random.key(0), jnp.zeros(2), {"x": jnp.zeros(2)}, **given)
