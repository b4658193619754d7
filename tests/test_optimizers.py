"""One contract for every optimiser of optax, as the weights' optimiser of every estimator and as the alphas'."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jdarts
from jdarts.bilevel import check_slopes
from jdarts.bilevel.updates import reads_value
from jdarts.errors import InputError

pytestmark = pytest.mark.usefixtures("standard_promotion")
ESTIMATORS = {
    "first_order": jdarts.first_order(),
    "finite_difference": jdarts.finite_difference(),
    "exact": jdarts.exact(),
    "unrolled": jdarts.unrolled(),
    "unrolled_2": jdarts.unrolled(steps=2),
}
#: It warns; `optimistic_adam_v2` takes its place.
DEPRECATED = ("optimistic_adam",)


def constructors():
    """Functions of optax that make an optimiser from a learning rate alone."""
    for module in (optax, optax.contrib):
        for name, function in vars(module).items():
            if not inspect.isfunction(function):
                continue
            needed = [p.name for p in inspect.signature(function).parameters.values() if p.default is p.empty]
            learns = "learning_rate" in inspect.signature(function).parameters
            if (
                learns
                and needed in ([], ["learning_rate"])
                and not name.startswith("scale_by")
                and name not in DEPRECATED
            ):
                yield name, functools.partial(function, 0.1)


OPTIMIZERS = dict(constructors()) | {
    "polyak_sgd": optax.polyak_sgd,
    "noisy_sgd": lambda: optax.noisy_sgd(0.1, key=jax.random.key(0)),
    "radam with nesterov": lambda: optax.radam(0.1, nesterov=True),
    "centred rmsprop": lambda: optax.rmsprop(0.1, centered=True, momentum=0.9),
    "lbfgs without line search": lambda: optax.lbfgs(0.1, linesearch=None),
    "reduce_on_plateau": lambda: optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()),
    "multi steps": lambda: optax.MultiSteps(optax.adam(0.1), 2).gradient_transformation(),
    "clip": lambda: optax.chain(optax.clip_by_global_norm(0.1), optax.adam(0.1)),
    "normalised": lambda: optax.chain(optax.normalize_by_update_norm(), optax.sgd(0.1)),
    "injected": lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
    "sam": lambda: optax.contrib.sam(optax.sgd(0.1), optax.sgd(0.1)),
}
#: Those that are tested with all estimators; the others are with the exact one.
WITH_ALL_ESTIMATORS = ("radam", "adam", "polyak_sgd", "momo", "clip", "sam")
#: What asks for more than the loss and its gradient, and the estimators that it serves.
ASKING = {"lbfgs": ["first_order"], "sophia": []}


@jax.jit
def loss_fn(weights, alphas, model_state, batch, key):
    """Of a weight without any gradient, too; every optimiser's steps share its derivatives."""
    del key
    hidden = batch @ weights["matrix"]
    mixed = alphas[0] * hidden * hidden + alphas[1] * hidden
    return jnp.mean((mixed - 1) ** 2) + 0 * jnp.sum(weights["unused"]), (model_state, {})


def problem():
    draw = np.random.default_rng(0)
    weights = {"matrix": jnp.asarray(draw.normal(size=(2, 2))), "unused": jnp.asarray(draw.normal(size=2))}
    batches = (jnp.asarray(draw.normal(size=(3, 2))) for _ in range(2))
    return weights, jnp.asarray([0.3, 0.4]), *batches


def state_of(weight_optimizer, alpha_optimizer):
    weights, alphas, train, valid = problem()
    optimizers = {"weight_optimizer": weight_optimizer, "alpha_optimizer": alpha_optimizer}
    state = jdarts.init_state(jax.random.key(0), weights, alphas, **optimizers)
    return state, functools.partial(
        jdarts.bilevel_step, train_batch=train, valid_batch=valid, loss_fn=loss_fn, **optimizers
    )


def assert_finite(state, metrics):
    for leaf in jax.tree.leaves((state.weights, state.alphas, metrics)):
        assert np.isfinite(leaf).all()


def numerical(state, optimizer):
    """Central differences of the validation loss after the optimiser's step."""
    _, _, train, valid = problem()

    def validation(alphas):
        value, gradient = jax.value_and_grad(lambda w: loss_fn(w, alphas, (), train, None)[0])(state.weights)
        signature = inspect.signature(optimizer.update).parameters.values()
        extras = {"value": value, "grad": gradient} if any(p.kind is p.VAR_KEYWORD for p in signature) else {}
        updates, _ = optimizer.update(gradient, state.weight_opt_state, state.weights, **extras)
        return loss_fn(optax.apply_updates(state.weights, updates), alphas, (), valid, None)[0]

    moved = [state.alphas.at[place].add(change) for place in (0, 1) for change in (1e-6, -1e-6)]
    values = jax.vmap(validation)(jnp.stack(moved))
    return (values[::2] - values[1::2]) / 2e-6


@functools.cache
def three_steps(name):
    """The states before three exact steps, the steps of each estimator from there, and the slopes of the validation losses."""
    optimizer = OPTIMIZERS[name]()
    state, step = state_of(optimizer, optax.sgd(0.1))
    estimators = ESTIMATORS if name in WITH_ALL_ESTIMATORS else ["exact"]

    @jax.jit
    def steps_and_slope(state):
        return {each: step(state, hypergradient=ESTIMATORS[each]) for each in estimators}, numerical(state, optimizer)

    found = []
    for _ in range(3):
        found.append((state, *steps_and_slope(state)))
        state, _ = found[-1][1]["exact"]
    return found


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ASKING])
def test_the_step_of_every_optimiser_is_differentiated(name):
    """Against differences of the loss, from the first step on: RAdam's slope is not finite in its third."""
    for number, (state, stepped, slope) in enumerate(three_steps(name)):
        new, metrics = stepped["exact"]
        assert_finite(new, metrics)
        assert metrics["hypergradient/optimizer_slope_finite"]
        if name != "galore" or number:  # which decomposes its first gradient as a constant
            found = (state.alphas - new.alphas) / 0.1
            np.testing.assert_allclose(found, slope, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", WITH_ALL_ESTIMATORS)
def test_every_estimator_serves_it(name):
    for _, stepped, _ in three_steps(name):
        assert stepped.keys() == ESTIMATORS.keys()
        for new, metrics in stepped.values():
            assert_finite(new, metrics)
        found = {name: each.alphas for name, (each, _) in stepped.items()}
        np.testing.assert_allclose(found["exact"], found["unrolled"], rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(found["exact"], found["finite_difference"], rtol=1e-3)


@pytest.mark.parametrize("name", ASKING)
def test_optimisers_that_ask_for_more_are_refused_in_one_sentence(name):
    state, step = state_of(OPTIMIZERS[name](), optax.sgd(0.1))
    for estimator in set(ESTIMATORS) - set(ASKING[name]):
        with pytest.raises(InputError, match="the weight optimiser cannot make an update here") as refusal:
            jax.eval_shape(functools.partial(step, hypergradient=ESTIMATORS[estimator]), state)
        assert "\n" not in str(refusal.value)
    for estimator in ASKING[name]:
        assert_finite(*jax.jit(functools.partial(step, hypergradient=ESTIMATORS[estimator]))(state))


def test_the_optimiser_of_the_alphas_may_read_their_loss():
    for name in ("polyak_sgd", "reduce_on_plateau", "radam"):
        state, step = state_of(optax.sgd(0.1), OPTIMIZERS[name]())
        compiled = jax.jit(step)
        for _ in range(3):
            state, metrics = compiled(state)
            assert_finite(state, metrics)
    state, step = state_of(optax.sgd(0.1), OPTIMIZERS["lbfgs"]())
    with pytest.raises(InputError, match=r"the alpha optimiser cannot make an update here .*value_fn"):
        jax.eval_shape(step, state)


def root(updates):
    return jax.tree.map(lambda leaf: -0.1 * jnp.cbrt(leaf), updates)


@pytest.mark.parametrize("estimator", ["exact", "unrolled", "finite_difference"])
def test_a_slope_that_is_infinite_is_named(estimator):
    """A step like the cube root of the gradient, at a gradient of 0, for a weight that the validation loss needs."""

    def loss(weights, alphas, model_state, batch, key):
        del key
        return jnp.sum(batch * weights["a"] ** 2 * alphas) + jnp.sum(weights["b"] ** 2), (model_state, {})

    optimizers = {"weight_optimizer": optax.stateless(lambda u, _: root(u)), "alpha_optimizer": optax.sgd(0.1)}
    weights = {"a": jnp.asarray([0.5, 0.7]), "b": jnp.asarray(0.3)}
    state = jdarts.init_state(jax.random.key(0), weights, jnp.asarray([1.0, 1.0]), **optimizers)
    step = jax.jit(
        functools.partial(
            jdarts.bilevel_step,
            valid_batch=jnp.ones(2),
            loss_fn=loss,
            hypergradient=ESTIMATORS[estimator],
            **optimizers,
        )
    )
    assert step(state, jnp.asarray([1.0, 1.0]))[1]["hypergradient/optimizer_slope_finite"]
    _, metrics = step(state, jnp.asarray([1.0, 0.0]))
    assert not metrics["hypergradient/optimizer_slope_finite"]
    assert not metrics["hypergradient/finite"]
    check = functools.partial(check_slopes, loss_fn=loss, weight_optimizer=optimizers["weight_optimizer"])
    check(state, jnp.asarray([1.0, 1.0]))
    message = r"infinite for weights\['a'\] \(1 of 2 entries, 1 with a gradient of 0\); give .* eps_root=1e-8"
    with pytest.raises(InputError, match=message):
        check(state, jnp.asarray([1.0, 0.0]))
    # Where nothing of the loss goes through that weight, its slope counts for nothing.
    moved = state.replace(weights=weights | {"a": jnp.asarray([0.5, 0.0])})
    new, metrics = step(moved, jnp.asarray([1.0, 1.0]))
    assert metrics["hypergradient/optimizer_slope_finite"]
    assert_finite(new, metrics)


def test_slopes_by_the_state_before_the_first_step_do_not_count():
    """The state before a step is no function of the alphas: its slope, here infinite, reaches nothing."""

    def update(updates, state, params=None):
        del params
        return jax.tree.map(lambda g, s: -0.1 * (g + jnp.sqrt(s)), updates, state), state

    optimizer = optax.GradientTransformation(lambda params: jax.tree.map(jnp.zeros_like, params), update)

    def loss(weights, alphas, model_state, batch, key):
        del key
        return jnp.sum(batch * (weights - alphas) ** 2), (model_state, {})

    optimizers = {"weight_optimizer": optimizer, "alpha_optimizer": optax.sgd(0.1)}
    state = jdarts.init_state(jax.random.key(0), jnp.asarray([0.5, 0.7]), jnp.asarray([1.0, 2.0]), **optimizers)
    step = functools.partial(jdarts.bilevel_step, loss_fn=loss, **optimizers)

    @jax.jit
    def slopes_finite(state, batch):
        """With one step, exactly, and with two steps."""
        estimators = (jdarts.unrolled(1), jdarts.exact(), jdarts.unrolled(2))
        metrics = [step(state, batch, batch, hypergradient=each)[1] for each in estimators]
        return [each["hypergradient/optimizer_slope_finite"] for each in metrics]

    assert list(map(bool, slopes_finite(state, np.ones(2)))) == [True, True, False]


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: optax.sgd(0.1), False),
        (lambda: optax.with_extra_args_support(optax.sgd(0.1)), False),
        (lambda: optax.polyak_sgd(), True),
        (lambda: optax.chain(optax.clip(1.0), optax.polyak_sgd()), True),
    ],
)
def test_optimisers_that_read_the_value_are_told_from_others(make, expected):
    weights = jnp.asarray([0.5, 0.7])
    assert reads_value(make(), make().init(weights), weights) is expected
