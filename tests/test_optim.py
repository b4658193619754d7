"""Optimisers and schedule against the same rules written by hand."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jdarts
from jdarts import optim, optimizers
from jdarts.errors import InputError
from jdarts.language.search import LanguageSearchConfig
from jdarts.language.train import LanguageTrainConfig
from jdarts.optimizers import OPTIMIZERS, alpha_optimizer, epoch_cosine, recurrent_weight_optimizer, weight_optimizer
from jdarts.search import SearchConfig
from jdarts.train import TrainConfig

pytestmark = pytest.mark.usefixtures("standard_promotion")
STEPS = 6


def gradients(step):
    """Two leaves whose common norm is above the clip of 5 in every other step."""
    generator = np.random.default_rng(step)
    scale = 4.0 if step % 2 else 0.5
    return {"a": scale * generator.standard_normal((3, 4)), "b": scale * generator.standard_normal(5)}


def followed(optimizer, start):
    state, values = optimizer.init(start), [start]
    update = jax.jit(optimizer.update)
    for step in range(STEPS):
        updates, state = update(jax.tree.map(jnp.asarray, gradients(step)), state, values[-1])
        values.append(optax.apply_updates(values[-1], updates))
    return values[1:]


def start():
    return {"a": jnp.linspace(-1.0, 1.0, 12).reshape(3, 4), "b": jnp.linspace(0.5, 2.0, 5)}


def test_the_cosine_has_the_reference_values():
    schedule = epoch_cosine(0.025, 0.001, epochs=50, steps_per_epoch=390)
    for epoch, expected in [(0, 0.025), (25, 0.013), (49, 1.023679e-3)]:
        for step in (390 * epoch, 390 * epoch + 389):
            assert np.asarray(schedule(step)) == pytest.approx(expected, rel=5e-7)
    assert np.asarray(schedule(50 * 390)) == pytest.approx(0.001, rel=1e-7)


def test_the_cosine_changes_once_an_epoch_and_keeps_its_digits_in_float32():
    with jax.enable_x64(False):
        schedule = epoch_cosine(0.025, 0.001, epochs=5, steps_per_epoch=3)
        values = np.asarray(jax.vmap(schedule)(jnp.arange(15)))
        assert values.dtype == np.float32
        exact = [0.001 + 0.024 * (1 + math.cos(math.pi * epoch / 5)) / 2 for epoch in range(5)]
        np.testing.assert_array_equal(values, np.repeat(np.asarray(exact, np.float32), 3))


@pytest.mark.parametrize("clip", [5.0, None])
def test_sgd_clips_then_decays_then_gathers_momentum(clip):
    schedule = epoch_cosine(0.025, 0.001, epochs=3, steps_per_epoch=2)
    found = followed(weight_optimizer(schedule, momentum=0.9, weight_decay=3e-4, clip=clip), start())
    weights = {name: np.asarray(leaf) for name, leaf in start().items()}
    buffers = {name: np.zeros_like(leaf) for name, leaf in weights.items()}
    clipped = 0
    for step in range(STEPS):
        gradient = gradients(step)
        norm = math.sqrt(sum(np.sum(leaf**2) for leaf in gradient.values()))
        factor = 1.0 if clip is None else min(1.0, clip / norm)
        clipped += factor < 1
        rate = 0.001 + 0.024 * (1 + math.cos(math.pi * (step // 2) / 3)) / 2
        for name in weights:
            buffers[name] = 0.9 * buffers[name] + factor * gradient[name] + 3e-4 * weights[name]
            weights[name] = weights[name] - rate * buffers[name]
            np.testing.assert_allclose(found[step][name], weights[name], rtol=1e-12, atol=0)
    assert clipped == (3 if clip else 0)


def test_nesterovs_step_is_the_gradient_and_the_decayed_buffer_that_holds_it():
    for make in (weight_optimizer, recurrent_weight_optimizer):
        found = followed(make(0.1, momentum=0.9, nesterov=True, weight_decay=5e-4, clip=1e6), start())
        weights = {name: np.asarray(leaf) for name, leaf in start().items()}
        buffers = {name: np.zeros_like(leaf) for name, leaf in weights.items()}
        for step in range(STEPS):
            for name in weights:
                gradient = gradients(step)[name] + 5e-4 * weights[name]
                buffers[name] = 0.9 * buffers[name] + gradient
                weights[name] = weights[name] - 0.1 * (gradient + 0.9 * buffers[name])
                np.testing.assert_allclose(found[step][name], weights[name], rtol=1e-10, atol=0)


def test_both_sgds_share_one_state():
    clipped, free = weight_optimizer(0.1, clip=5.0), weight_optimizer(0.1, clip=None)
    assert jax.tree.structure(clipped.init(start())) == jax.tree.structure(free.init(start()))


@pytest.mark.parametrize("size", [0.0, 0.1, 10.0])
def test_derivatives_through_the_clip_are_those_of_the_clip(size):
    optimizer = weight_optimizer(0.5, momentum=0.0, weight_decay=0.0, clip=2.0)
    gradient = jnp.full(3, size)

    def update(gradient):
        return optimizer.update(gradient, optimizer.init(gradient), gradient)[0]

    norm = math.sqrt(3) * size
    along = np.eye(3) if norm <= 2 else 2 / norm * (np.eye(3) - np.ones((3, 3)) / 3)
    np.testing.assert_allclose(jax.jacfwd(update)(gradient), -0.5 * along, rtol=0, atol=1e-15)
    np.testing.assert_allclose(jax.jacrev(update)(gradient), -0.5 * along, rtol=0, atol=1e-15)


def test_adam_has_its_decay_inside():
    found = followed(alpha_optimizer(3e-4, b1=0.5, b2=0.999, weight_decay=1e-3), start())
    alphas = {name: np.asarray(leaf) for name, leaf in start().items()}
    first = {name: np.zeros_like(leaf) for name, leaf in alphas.items()}
    second = {name: np.zeros_like(leaf) for name, leaf in alphas.items()}
    for step in range(STEPS):
        for name in alphas:
            gradient = gradients(step)[name] + 1e-3 * alphas[name]
            first[name] = 0.5 * first[name] + 0.5 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            unbiased = first[name] / (1 - 0.5 ** (step + 1)), second[name] / (1 - 0.999 ** (step + 1))
            alphas[name] = alphas[name] - 3e-4 * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
            np.testing.assert_allclose(found[step][name], alphas[name], rtol=1e-12, atol=0)


def test_sgd_of_the_alphas_has_no_momentum_and_no_state():
    optimizer = alpha_optimizer(0.1, optimizer="sgd", weight_decay=1e-3)
    assert not jax.tree.leaves(optimizer.init(start()))
    alphas = {name: np.asarray(leaf) for name, leaf in start().items()}
    for step, found in enumerate(followed(optimizer, start())):
        for name in alphas:
            alphas[name] = alphas[name] - 0.1 * (gradients(step)[name] + 1e-3 * alphas[name])
            np.testing.assert_allclose(found[name], alphas[name], rtol=1e-12, atol=0)


@pytest.mark.parametrize("make", [weight_optimizer, recurrent_weight_optimizer])
def test_adamw_adds_its_decay_to_the_step(make):
    found = followed(make(1e-3, optimizer="adamw", b1=0.8, b2=0.99, weight_decay=0.1, clip=1e6), start())
    weights = {name: np.asarray(leaf) for name, leaf in start().items()}
    first, second = ({name: np.zeros_like(leaf) for name, leaf in weights.items()} for _ in range(2))
    for step in range(STEPS):
        for name in weights:
            gradient = gradients(step)[name]
            first[name] = 0.8 * first[name] + 0.2 * gradient
            second[name] = 0.99 * second[name] + 0.01 * gradient**2
            unbiased = first[name] / (1 - 0.8 ** (step + 1)), second[name] / (1 - 0.99 ** (step + 1))
            weights[name] = weights[name] - 1e-3 * (unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8) + 0.1 * weights[name])
            np.testing.assert_allclose(found[step][name], weights[name], rtol=1e-10, atol=0)


def test_text_has_sgd_with_momentum_and_without():
    momentum = followed(recurrent_weight_optimizer(0.1, momentum=0.9, weight_decay=0.0, clip=1e6), start())
    expected = followed(optax.sgd(0.1, momentum=0.9), start())
    for a, b in zip(jax.tree.leaves(momentum), jax.tree.leaves(expected)):
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert not jax.tree.leaves(recurrent_weight_optimizer(0.1).init(start()))
    assert len(jax.tree.leaves(recurrent_weight_optimizer(0.1, momentum=0.5).init(start()))) == 2


@pytest.mark.parametrize(
    "settings", [*({"optimizer": name} for name in OPTIMIZERS), {"momentum": 0.9, "nesterov": True}], ids=str
)
@pytest.mark.parametrize("make", [weight_optimizer, recurrent_weight_optimizer])
def test_the_exact_hypergradient_goes_through_every_optimizer(settings, make):
    def loss_fn(weights, alphas, model_state, batch, key):
        del key
        return jnp.sum(jnp.sin(weights * batch + jnp.sum(jnp.sin(alphas)) * weights)), (model_state, {})

    chosen = {"weight_optimizer": make(0.01, **settings), "alpha_optimizer": optax.sgd(1.0)}
    state = jdarts.init_state(jax.random.key(0), jnp.linspace(0.3, 1.0, 4), jnp.array([0.2, 0.5]), **chosen)
    batches = jnp.linspace(0.1, 0.9, 4), jnp.linspace(1.2, 0.4, 4)

    def step(state, hypergradient):
        return jdarts.bilevel_step(state, *batches, loss_fn=loss_fn, hypergradient=hypergradient, **chosen)[0]

    def through_the_step(state, alphas):
        """The validation loss after the step of the weights."""
        gradient = jax.grad(lambda weights: loss_fn(weights, alphas, (), batches[0], None)[0])(state.weights)
        updates, _ = chosen["weight_optimizer"].update(gradient, state.weight_opt_state, state.weights)
        return loss_fn(optax.apply_updates(state.weights, updates), alphas, (), batches[1], None)[0]

    @jax.jit
    def all_steps(state):
        estimators = {"exact": jdarts.exact(), "truth": jdarts.unrolled(1), "first": jdarts.first_order()}
        found = {name: step(state, each).alphas for name, each in estimators.items()}
        return found | {"slope": jax.grad(functools.partial(through_the_step, state))(state.alphas)}

    # The first step fills the optimiser's buffers.
    state = jax.jit(functools.partial(step, hypergradient=jdarts.first_order()))(state)
    found = jax.device_get(all_steps(state))
    exact = found["exact"]
    np.testing.assert_allclose(exact, found["truth"], rtol=1e-9)
    np.testing.assert_allclose(exact, state.alphas - found["slope"], rtol=1e-10)
    assert np.max(np.abs(exact - found["first"])) > 1e-6


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            SearchConfig(optimizer="adamw", momentum=0.5),
            "--momentum is 0.5, a setting of sgd; leave it out",
        ),
        (SearchConfig(optimizer="adamw", nesterov=True), "--nesterov is True, a setting of sgd; leave it out"),
        (LanguageTrainConfig(nesterov=True), "--nesterov is a form of momentum, and --momentum is 0; give"),
        (SearchConfig(alpha_optimizer="sgd", alpha_b1=0.9), "--alpha-b1 is 0.9, a setting of adam; leave it out"),
        (LanguageSearchConfig(alpha_optimizer="sgd", alpha_b2=0.9), "--alpha-b2 is 0.9, a setting of adam; leave it"),
        (SearchConfig(alpha_optimizer="momentum"), "--alpha-optimizer is 'momentum'; give adam or sgd"),
        (TrainConfig(b1=0.5), "--b1 is 0.5, a setting of adamw; leave it out with --optimizer sgd"),
        (LanguageTrainConfig(optimizer="adamw"), "--learning-rate is 20.0; give adamw 1 or less, such as 0.001"),
        (SearchConfig(optimizer="adam"), "--optimizer is 'adam'; give sgd or adamw"),
    ],
)
def test_settings_of_another_optimizer_are_refused(config, message):
    with pytest.raises(InputError, match=f"^{message}"):
        config.check()


def test_each_optimizer_can_be_chosen():
    for name in OPTIMIZERS:
        for config in (SearchConfig(optimizer=name), TrainConfig(optimizer=name)):
            config.check()
        LanguageTrainConfig(optimizer=name, learning_rate=0.001).check()


@pytest.mark.parametrize(
    ("method", "changes"), [("gdas", {"optimizer": "adamw"}), ("fair_darts", {"alpha_optimizer": "sgd"})]
)
def test_the_optimizer_of_a_method_may_be_another(method, changes):
    """What its settings say for its own optimiser is in nobody's way."""
    SearchConfig(method=method, **changes).check()


def test_the_module_has_two_names():
    assert all(getattr(optim, name) is getattr(optimizers, name) for name in optim.__all__)


def test_the_state_of_the_weights_optimizer_is_one_vector():
    """Checkpoints hold it in this form, however many weights there are."""
    weights = {"a": jnp.ones(3), "b": jnp.ones((2, 2))}
    momenta = [leaf.shape for leaf in jax.tree.leaves(weight_optimizer(0.1).init(weights)) if leaf.ndim]
    assert momenta == [(7,)]
