"""What must be true of the variants of DARTS whatever their authors' numbers are: one test for each such fact.

Some of these facts are tested where their plug-in point is: options of edges that change nothing (`test_edge_options`), rows that
sum to 1 and the mean of Dirichlet draws (`test_methods`), constant and growing eigenvalues (`test_stopping_rules`), and aging
evolution (`test_baselines`).
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jdarts
from jdarts.methods import perturbation_selection as selection
from jdarts.methods.freezing import Freezing
from jdarts.methods.losses import method_losses
from jdarts.methods.method import DARTS
from jdarts.methods.mixtures import MIXTURES, TEMPERATURE
from jdarts.methods.penalties import divergence, divergences
from jdarts.methods.questions import Score, answered_together
from jdarts.methods.weight_losses import WEIGHT_LOSSES
from jdarts.parallel import mean_over
from jdarts.search import SearchConfig
from jdarts.space import CELL_KINDS, uniform_space

SPACE = uniform_space(("skip_connect", "max_pool_3x3", "sep_conv_3x3"), nodes=2)
#: The kinds of the cells of the network below.
CELLS = ("normal", "reduce", "normal")


def network(weights, mixture, state, batch, key, *, train, order=(0, 1, 2), axis_name=None):
    """The loss of a network whose cells mix three functions on five edges; in training it counts its passes and keeps a mean.

    `order` says which function is in each column of the mixture.
    """
    del key
    x, seen = batch, {kind: 0 for kind in CELL_KINDS}
    for number, kind in enumerate(CELLS):
        table, _ = mixture.of_cell(kind, seen[kind])
        seen[kind] += 1
        kernel = weights[f"cell{number}"]["stage0"]["sep_conv_3x3"]["pointwise1"]
        values = (
            jnp.broadcast_to(x, (5, *x.shape)),
            jnp.broadcast_to(jnp.sin(2 * x), (5, *x.shape)),
            jnp.tanh(x @ kernel),
        )
        x = jnp.einsum("eo,oebc->bc", table, jnp.stack([values[each] for each in order]))
        mean = mean_over(jnp.mean(x, axis=0), axis_name)
        x = (x - (mean if train else state["mean"])[None]) / 2
    new = {"passes": state["passes"] + 1, "mean": 0.9 * state["mean"] + 0.1 * mean} if train else state
    return jnp.mean(jnp.square(x - 0.3)), (new, {})


def begun(method=DARTS, order=(0, 1, 2)):
    """A state, and the step with a method: a function of a state, the batches of both losses and numbers of the epoch."""
    draw = np.random.default_rng(0)
    weights = {
        f"cell{number}": {"stage0": {"sep_conv_3x3": {"pointwise1": jnp.asarray(draw.normal(size=(5, 4, 4)))}}}
        for number in range(len(CELLS))
    }
    alphas = {kind: jnp.asarray(draw.normal(size=(5, 3)))[:, jnp.asarray(order)] for kind in CELL_KINDS}
    optimizers: Any = {"weight_optimizer": optax.sgd(0.05, momentum=0.9), "alpha_optimizer": optax.sgd(0.2)}
    state = jdarts.init_state(
        jax.random.key(0),
        weights,
        alphas,
        {"passes": jnp.zeros((), jnp.int32), "mean": jnp.zeros(4)},
        method_state=() if method.freezing is None else method.freezing.init(weights),
        **optimizers,
    )

    def step(state, train, valid, controls, axis_name=None):
        losses = method_losses(
            method,
            functools.partial(network, train=True, order=order, axis_name=axis_name),
            functools.partial(network, train=False, order=order, axis_name=axis_name),
            space=SPACE,
            kinds=CELLS,
            controls=controls,
            axis_name=axis_name,
        )
        return jdarts.bilevel_step(
            state,
            (train, jax.random.key(1)),
            (valid, jax.random.key(2)),
            loss_fn=losses.loss_fn,
            weight_loss_fn=losses.weight_loss_fn,
            weight_rule=method.freezing,
            hypergradient=jdarts.first_order(),
            axis_name=axis_name,
            **optimizers,
        )[0]

    return state, step


#: The batches of the two losses.
TRAIN, VALID = (jnp.asarray(np.random.default_rng(1).normal(size=(2, 6, 4)))[part] for part in range(2))


def stepped(method=DARTS, controls=None, steps=2, order=(0, 1, 2)):
    """The state before and after some steps with a method, one operation after the other: compilers round as they like."""
    state, step = begun(method, order)
    found = state
    with jax.disable_jit():
        for _ in range(steps):
            found = step(found, TRAIN, VALID, controls or {})
    return state, found


@pytest.fixture(scope="module")
def plain():
    with jax.numpy_dtype_promotion("standard"):
        return stepped()


@pytest.fixture(scope="module")
def one_step():
    with jax.numpy_dtype_promotion("standard"):
        return stepped(steps=1)[1]


def arrays(state):
    return state.weights, state.alphas, state.model_state


pytestmark = pytest.mark.usefixtures("standard_promotion")


def test_a_search_with_every_switch_off_is_by_darts():
    """Then its steps are the same program."""
    off: dict[str, Any] = {
        **{"partial_channels": 1, "auxiliary_skip": "none", "correlation": 0.0, "freeze_below": None},
        **{
            "perturbation": "none",
            "penalty": "none",
            "edge_weights": False,
            "skip_dropout": 0.0,
            "search_drop_path": 0.0,
        },
        **{"stages": "none", "alphas_from": 0, "weight_steps": 1, "alpha_clip": None, "mixture": "softmax"},
    }
    assert SearchConfig(**off).search_method() == DARTS


def test_no_correlation_term_is_darts_bit_for_bit(plain):
    method = dataclasses.replace(DARTS, weight_loss=WEIGHT_LOSSES["correlation"])
    _, found = stepped(method, {"correlation": jnp.zeros(())})
    weights, alphas, _ = arrays(found)
    jax.tree.map(np.testing.assert_array_equal, (weights, alphas), (plain[1].weights, plain[1].alphas))


def test_a_threshold_that_no_cosine_falls_below_is_darts_bit_for_bit(plain):
    _, found = stepped(dataclasses.replace(DARTS, freezing=Freezing(-3.0, every=1)))
    jax.tree.map(np.testing.assert_array_equal, arrays(found), arrays(plain[1]))
    _, frozen = stepped(dataclasses.replace(DARTS, freezing=Freezing(3.0, every=1)), steps=3)
    assert any(np.any(leaf) for leaf in jax.tree.leaves(frozen.method_state.frozen))


@pytest.mark.parametrize("name", ["random", "adversarial"])
def test_a_perturbation_of_radius_0_is_darts_to_rounding(name, one_step):
    """The projection divides by a sum that is 1 but for rounding."""
    method = dataclasses.replace(DARTS, weight_loss=WEIGHT_LOSSES[name])
    _, found = stepped(method, {"radius": jnp.zeros(())}, steps=1)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13), arrays(found), arrays(one_step))


@pytest.fixture(scope="module", params=["random", "adversarial"])
def perturbed(request):
    with jax.numpy_dtype_promotion("standard"):
        method = dataclasses.replace(DARTS, weight_loss=WEIGHT_LOSSES[request.param])
        return stepped(method, {"radius": jnp.asarray(0.3)}, steps=1)


def test_a_perturbed_step_of_the_weights_leaves_the_alphas_as_darts_does(perturbed, one_step):
    """The perturbed mixture is that of one pass; the alphas are what their own step has made of them."""
    _, found = perturbed
    jax.tree.map(np.testing.assert_array_equal, found.alphas, one_step.alphas)
    moved = [np.any(a != b) for a, b in zip(jax.tree.leaves(found.weights), jax.tree.leaves(one_step.weights))]
    assert all(moved)


def test_an_attack_leaves_the_running_statistics_to_the_step_after_it(perturbed):
    """One pass in training mode, however many the attack has made."""
    before, found = perturbed
    assert found.model_state["passes"] == before.model_state["passes"] + 1


def test_the_divergence_is_0_at_the_prior_alone():
    at = jax.jit(lambda alphas: (divergences(alphas, SPACE), jax.value_and_grad(divergence)(alphas, {}, SPACE)))
    zeros = {kind: np.zeros((5, 3)) for kind in CELL_KINDS}
    tables, (_, slopes) = at(zeros)
    # And has its least value there.
    for table in (*tables.values(), *slopes.values()):
        np.testing.assert_allclose(table, 0, atol=1e-12)
    for step in (-0.1, 0.1):
        moved = np.zeros((5, 3))
        moved[1, 2] = step
        assert at({**zeros, "normal": moved})[1][0] > 1e-5


@pytest.mark.parametrize("temperature", [0.1, 1.0, 10.0])
def test_gdas_chooses_as_often_as_the_softmax_says_at_any_temperature(temperature):
    alphas = {kind: jnp.asarray(np.random.default_rng(3).normal(size=(5, 3))) for kind in CELL_KINDS}
    mixture, keys = MIXTURES["gumbel_chosen"], jax.random.split(jax.random.key(0), 8000)
    draw = jax.jit(jax.vmap(lambda key: mixture.weights(alphas, SPACE, key, {TEMPERATURE: temperature}).operations))
    for kind, draws in draw(keys).items():
        share = np.mean(np.asarray(draws) > 0.5, axis=0)
        expected = np.asarray(jax.nn.softmax(alphas[kind]))
        error = np.sqrt(expected * (1 - expected) / len(keys))
        assert np.all(np.abs(share - expected) < 4.5 * error)


def test_an_operation_without_effect_has_the_score_of_the_whole_supernet_and_is_not_kept():
    """DARTS-PT: the network ignores the middle operation of every edge."""
    draw = np.random.default_rng(0)
    values = {kind: draw.uniform(1, 2, size=(5, 3)) * [1, 0, 1] for kind in CELL_KINDS}
    weights = {kind: np.full((5, 3), 1 / 3) for kind in CELL_KINDS}

    def score(mixture):
        total = sum(float(np.sum(values[kind] * mixture[kind])) for kind in CELL_KINDS)
        return Score(accuracy=1 - 1 / (1 + total), loss=1 / (1 + total))

    asked: list[Any] = []

    def evaluate(questions):
        asked.extend(question.mixture for question in questions)
        return [score(question.mixture) for question in questions]

    for kind in CELL_KINDS:
        for edge in range(5):
            asked.clear()
            start = selection.undecided(SPACE)
            (found,) = answered_together(
                [selection.decide_operation(start, kind, edge, SPACE, weights, "loss")], evaluate
            )
            scores = [score(mixture) for mixture in asked]
            assert scores[1] == score(weights)
            assert found.operations[kind][edge] == np.argmax(values[kind][edge])


def test_permuted_operations_have_permuted_alphas_and_the_same_weights(plain):
    _, expected = plain
    order = np.array([2, 0, 1])
    _, found = stepped(order=order)
    for kind in CELL_KINDS:
        np.testing.assert_allclose(found.alphas[kind], expected.alphas[kind][:, order], rtol=1e-10)
    ours, theirs = ((state.weights, state.model_state) for state in (found, expected))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-10, atol=1e-13), ours, theirs)


DEVICES = {
    **{name: dataclasses.replace(DARTS, weight_loss=WEIGHT_LOSSES[name]) for name in WEIGHT_LOSSES},
    "gumbel_chosen": dataclasses.replace(DARTS, mixture_name="gumbel_chosen"),
}


@pytest.mark.parametrize("name", DEVICES)
def test_devices_that_share_the_batches_take_the_step_of_one(name):
    """Compiled and mapped; they draw one mixture and one perturbation, and find the term of the whole batch."""
    controls = {"radius": 0.3, "correlation": 0.5, TEMPERATURE: 1.0}
    state, step = begun(DEVICES[name])
    with jax.disable_jit():
        expected = step(state, TRAIN, VALID, controls)
    halves = [jnp.stack(jnp.split(batch, 2)) for batch in (TRAIN, VALID)]
    both = jax.jit(
        jax.vmap(lambda train, valid: step(state, train, valid, controls, axis_name="devices"), axis_name="devices")
    )(*halves)
    for device in range(2):
        found = jax.tree.map(lambda leaf, device=device: leaf[device], arrays(both))
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12), found, arrays(expected))
