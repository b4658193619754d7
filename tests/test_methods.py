"""The plug-in points of a search: mixtures, penalties, schedules, orders of the steps, by the name of a method."""

import dataclasses
import functools
import json
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jdarts
from jdarts.bilevel import Estimate, WeightChange
from jdarts.derivation import derive_genotype, genotype_of
from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.language.search import LanguageSearchConfig
from jdarts.methods import mixtures, schedules
from jdarts.methods.correlation import correlation_direction, mean_correlation, mean_sign_correlation
from jdarts.methods.estimators import clipped, standing, without_hypergradient
from jdarts.methods.freezing import Freezing, operation_scores
from jdarts.methods.method import Method, method_fields
from jdarts.methods.mixtures import MIXTURES, TEMPERATURE, edge_weights, mixture_by_name, with_edge_weights
from jdarts.methods.penalties import PENALTIES, divergence, divergences, penalised, zero_one
from jdarts.methods.perturbations import STEPS, adversarial, projected
from jdarts.methods.presets import PRESETS, TEXT_PRESETS
from jdarts.methods.stopping import RULES
from jdarts.relaxation import (
    GIVEN,
    NO_CONTROLS,
    MixtureWeights,
    alphas_from_json,
    alphas_to_json,
    mean_entropy,
    mixture_entropies,
    operations_of,
)
from jdarts.search import SearchConfig
from jdarts.space import RecurrentSpace, SearchSpace, uniform_space

SPACES = [
    SearchSpace(
        normal=(("skip_connect", "max_pool_3x3", "none"), ("sep_conv_3x3", "noise")),
        reduce=(("avg_pool_3x3",), ("none", "skip_connect")),
    ),
    RecurrentSpace(recurrent=(("tanh", "none", "relu"), ("identity",), ("sigmoid", "none"))),
]
WITH_EDGES = {f"{name}+edges": with_edge_weights(mixture) for name, mixture in MIXTURES.items()}
ALL_MIXTURES = {**MIXTURES, **WITH_EDGES}
each_mixture = pytest.mark.parametrize("mixture", ALL_MIXTURES.values(), ids=list(ALL_MIXTURES))
each_space = pytest.mark.parametrize("space", SPACES, ids=["convolutional", "recurrent"])


@functools.cache
def alphas_of_all(space, scale=1e3):
    """Alphas of every mixture by its name; most are drawn alike, by operations that are compiled once."""
    drawn = {name: mixture.init(jax.random.key(0), space, jnp.float64) for name, mixture in ALL_MIXTURES.items()}
    return jax.tree.map(lambda leaf: jnp.asarray(scale * np.asarray(leaf)), drawn)


def name_of(mixture):
    return next(name for name, each in ALL_MIXTURES.items() if each is mixture)


def alphas_in(space, mixture):
    return alphas_of_all(space)[name_of(mixture)]


def operation_weights(mixture, alphas, space):
    return mixture.weights(alphas, space, None, NO_CONTROLS).operations


@functools.cache
def weights_and_gradients(space):
    """The weights of every mixture by its name, and the gradient of the sum of their squares."""

    def of_one(mixture, alphas):
        def squares(alphas):
            weights = mixture.weights(alphas, space, None, NO_CONTROLS)
            return _squares(weights), weights

        gradient, weights = jax.grad(squares, has_aux=True)(alphas)
        return weights, gradient

    return jax.jit(lambda alphas: {name: of_one(each, alphas[name]) for name, each in ALL_MIXTURES.items()})(
        alphas_of_all(space)
    )


@each_space
@each_mixture
def test_contract_of_every_mixture(mixture, space):
    alphas = alphas_in(space, mixture)
    weights, gradient = weights_and_gradients(space)[name_of(mixture)]
    strengths = mixture.strengths(jax.tree.map(np.asarray, alphas), space)
    assert list(weights.operations) == list(strengths) == list(operations_of(space))
    for kind, operations in operations_of(space).items():
        shape = len(operations), max(map(len, operations))
        assert weights.operations[kind].shape == strengths[kind].shape == shape
        assert strengths[kind].dtype == np.float64
        factors = np.asarray(weights.operations[kind])
        assert_rows_sum_to_one(mixture, factors)
        if weights.edges is not None:
            assert weights.edges[kind].shape == shape[:1]
            factors = factors * np.asarray(weights.edges[kind])[:, None]
        candidates = np.arange(shape[1]) < np.array([len(names) for names in operations])[:, None]
        assert np.all(factors[candidates] > 0)
        assert np.all(factors[~candidates] == 0)
        for row, strong, names in zip(factors, strengths[kind], operations):
            # Derivation ranks an edge's operations as the network weighs them.
            assert list(np.argsort(row[: len(names)])) == list(np.argsort(strong[: len(names)]))
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


def _squares(weights):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(weights))


def assert_rows_sum_to_one(mixture, rows):
    """All rows but those of sigmoids, each of which is a weight by itself."""
    if not name_of(mixture).startswith("sigmoid"):
        np.testing.assert_allclose(rows.sum(axis=-1), 1, rtol=1e-12)


@functools.cache
def draws(space):
    """Draws of every mixture by its name from several keys: together and alone, with gradients of the sum of their squares."""

    def draw(name, alphas, key):
        return ALL_MIXTURES[name].weights(alphas, space, key, {TEMPERATURE: 2.0})

    def squares(alphas, name, key):
        weights = draw(name, alphas, key)
        return _squares(weights), weights

    alphas, keys = alphas_of_all(space), jax.random.split(jax.random.key(1), 3)
    together = jax.jit(
        lambda keys: {name: jax.vmap(functools.partial(draw, name, each))(keys) for name, each in alphas.items()}
    )(keys)
    alone = jax.jit(
        lambda key: {name: jax.grad(squares, has_aux=True)(each, name, key) for name, each in alphas.items()}
    )
    return together, [alone(key) for key in keys]


@each_space
@each_mixture
def test_draws_of_every_mixture(mixture, space):
    name = name_of(mixture)
    together, alone = draws(space)[0][name], [each[name] for each in draws(space)[1]]
    for number, (gradient, weights) in enumerate(alone):
        jax.tree.map(
            lambda ours, alone, number=number: np.testing.assert_allclose(ours[number], alone, rtol=1e-12),
            together,
            weights,
        )
        assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    moved = jax.tree.map(lambda leaf: np.any(np.asarray(leaf)[0] != np.asarray(leaf)[1]), together.operations)
    assert any(jax.tree.leaves(moved)) == mixture.random
    for kind, operations in operations_of(space).items():
        rows = np.asarray(together.operations[kind])
        for edge, names in enumerate(operations):
            assert np.all(rows[:, edge, len(names) :] == 0)
        assert_rows_sum_to_one(mixture, rows)
        assert np.all((rows >= 0) & (rows <= 1 + 1e-12))


ONE_EDGE = SearchSpace(normal=(("skip_connect", "noise", "none"),) * 2, reduce=(("skip_connect", "noise", "none"),) * 2)


def test_permuted_operations_have_permuted_weights():
    order = np.array([2, 0, 1])
    names = tuple(ONE_EDGE.normal[0][column] for column in order)
    other = SearchSpace(normal=(names,) * 2, reduce=(names,) * 2)
    alphas = alphas_of_all(ONE_EDGE)

    @jax.jit
    def both(alphas):
        permuted = jax.tree.map(lambda table: table[:, order], {name: alphas[name] for name in MIXTURES})
        return {
            name: (operation_weights(each, alphas[name], ONE_EDGE), operation_weights(each, permuted[name], other))
            for name, each in MIXTURES.items()
        }

    for name, (before, after) in both(alphas).items():
        for kind in before:
            np.testing.assert_allclose(after[kind], np.asarray(before[kind])[:, order], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("name", ["gumbel_hard", "gumbel_chosen", "reinmax"])
@pytest.mark.parametrize("temperature", [0.3, 5.0])
def test_hard_draws_are_one_hot_and_as_frequent_as_the_softmax(name, temperature):
    mixture = MIXTURES[name]
    alphas = {kind: jnp.array([[0.5, -0.3, 1.0], [0.0, 0.0, 0.0]]) for kind in ("normal", "reduce")}
    keys = jax.random.split(jax.random.key(0), 4000)
    draw = jax.jit(jax.vmap(lambda key: mixture.weights(alphas, ONE_EDGE, key, {TEMPERATURE: temperature}).operations))
    table = np.asarray(draw(keys)["normal"])
    np.testing.assert_allclose(np.max(table, axis=-1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.sum(np.abs(table), axis=-1), 1, rtol=1e-12)
    np.testing.assert_allclose(np.mean(table, axis=0), jax.nn.softmax(alphas["normal"]), atol=0.03)


def test_reinmax_is_exact_on_average_for_a_quadratic_function():
    alphas = jnp.array([[0.5, -0.3, 1.0]])
    mask, matrix = np.ones((1, 3), bool), jnp.array([[1.0, 0.3, -2.0], [0.3, 0.5, 0.7], [-2.0, 0.7, 3.0]])
    slope = jnp.array([0.2, -1.0, 0.4])

    def value(row):
        return row @ matrix @ row / 2 + slope @ row

    def expected(alphas):
        return jnp.sum(jax.nn.softmax(alphas[0]) * jax.vmap(value)(jnp.eye(3)))

    @jax.jit
    def both(alphas):
        def surrogate(corner):
            return jax.grad(lambda alphas: value(mixtures.reinmax(alphas, mask, corner[None], 1.0)[0]))(alphas)

        weights = jax.nn.softmax(alphas[0])
        return jnp.einsum("c,cij->ij", weights, jax.vmap(surrogate)(jnp.eye(3))), jax.grad(expected)(alphas)

    found, exact = both(alphas)
    np.testing.assert_allclose(found, exact, rtol=1e-10)


def test_dirichlet_draws_have_the_mean_that_evaluation_and_entropy_see():
    mixture = MIXTURES["dirichlet"]
    alphas = {kind: jnp.array([[0.5, -0.3, 1.0], [0.0, 2.0, -1.0]]) for kind in ("normal", "reduce")}
    keys = jax.random.split(jax.random.key(0), 4000)

    @jax.jit
    def found(keys):
        drawn = jax.vmap(lambda key: mixture.weights(alphas, ONE_EDGE, key, NO_CONTROLS).operations)(keys)
        zeros = jax.tree.map(jnp.zeros_like, alphas)
        divergences = [divergence(each, {}, ONE_EDGE) for each in (zeros, alphas)]
        return jax.tree.map(lambda table: jnp.mean(table, axis=0), drawn), divergences

    means, (of_zeros, of_alphas) = found(keys)
    for kind, mean in operation_weights(mixture, alphas, ONE_EDGE).items():
        np.testing.assert_allclose(means[kind], mean, atol=0.02)
    assert of_zeros == pytest.approx(0, abs=1e-12)
    assert of_alphas > 0


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_operations_that_a_dirichlet_distribution_hardly_draws_have_finite_derivatives(dtype):
    """In float32 `elu(α) + 1` is 0 from α = −17.4 on."""
    alphas = {kind: jnp.array([[0.5, -25.0, 0.0], [-25.0, -200.0, -40.0]], dtype) for kind in ("normal", "reduce")}
    mixture = MIXTURES["dirichlet"]

    @jax.jit
    def found(alphas):
        def loss(alphas):
            weights = mixture.weights(alphas, ONE_EDGE, jax.random.key(0), NO_CONTROLS).operations
            return jnp.sum(weights["normal"][:, 1]) + jnp.sum(divergences(alphas, ONE_EDGE)["normal"]), weights

        means = mixture.weights(alphas, ONE_EDGE, None, NO_CONTROLS).operations
        return jax.grad(loss, has_aux=True)(alphas), means, jax.jacobian(mixtures.concentrations)(alphas, ONE_EDGE)

    (gradients, drawn), means, slopes = found(alphas)
    for tree in (gradients, drawn, means):
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(tree))
    for weights in (drawn, means):
        np.testing.assert_allclose(weights["normal"].sum(axis=-1), 1, rtol=1e-6)
    diagonal = np.einsum("eoeo->eo", np.asarray(slopes["normal"]["normal"]))
    np.testing.assert_allclose(diagonal, [[1, np.exp(-25), 1], [np.exp(-25), 0, diagonal[1, 2]]], rtol=1e-5)


def test_edge_weights_are_a_softmax_over_the_edges_into_a_node():
    names = ("skip_connect", "noise")
    space = SearchSpace(normal=(names,) * 5, reduce=(names,) * 5)
    betas = jnp.array([0.5, -1.0, 2.0, 0.0, 1.0])
    mixture = with_edge_weights(MIXTURES["softmax"])

    @jax.jit
    def computed(betas):
        alphas = mixture.init(jax.random.key(0), space, jnp.float64)
        alphas["edges"]["normal"] = betas
        of_nodes = jax.nn.softmax(betas[:2]), jax.nn.softmax(betas[2:])
        return edge_weights(betas, space), of_nodes, alphas, mixture.weights(alphas, space, None, NO_CONTROLS)

    found, (first, second), alphas, weights = computed(betas)
    np.testing.assert_allclose(np.asarray(found)[:2], first, rtol=1e-12)
    np.testing.assert_allclose(np.asarray(found)[2:], second, rtol=1e-12)
    strengths = mixture.strengths(alphas, space)
    assert weights.edges is not None
    product = np.asarray(weights.operations["normal"]) * np.asarray(weights.edges["normal"])[:, None]
    np.testing.assert_allclose(np.exp(strengths["normal"]), product, rtol=1e-10)
    # The third edge is the strongest of the second node because of its factor alone.
    assert derive_genotype(alphas, space, edges_per_node=1, mixture=mixture).normal[1][1] == 0


def test_given_weights_are_the_alphas():
    tables = {kind: jnp.ones((2, 3)) for kind in ("normal", "reduce")}
    assert GIVEN.weights(tables, ONE_EDGE, None, NO_CONTROLS) == MixtureWeights(tables)
    each_cell = MixtureWeights({"normal": jnp.arange(12.0).reshape(2, 2, 3)}, {"normal": jnp.arange(4.0).reshape(2, 2)})
    operations, edges = each_cell.of_cell("normal", 1)
    np.testing.assert_array_equal(operations, each_cell.operations["normal"][1])
    np.testing.assert_array_equal(edges, [2.0, 3.0])


@each_space
def test_the_paper_mixture_sums_to_one_and_its_strengths_are_logarithms(space):
    mixture = MIXTURES["softmax"]
    alphas = alphas_in(space, mixture)
    weights, strengths = weights_and_gradients(space)["softmax"][0].operations, mixture.strengths(alphas, space)
    for kind in weights:
        np.testing.assert_allclose(np.sum(weights[kind], axis=-1), 1, rtol=1e-12)
        np.testing.assert_allclose(np.exp(strengths[kind]), weights[kind], rtol=1e-12)


def test_entropies_are_means_over_edges():
    weights = {"normal": jnp.asarray([[0.5, 0.5], [1.0, 0.0]]), "reduce": jnp.asarray([[0.25] * 4])}
    found = mixture_entropies(weights)
    np.testing.assert_allclose(found["normal"], np.log(2) / 2, rtol=1e-12)
    np.testing.assert_allclose(found["reduce"], np.log(4), rtol=1e-12)
    np.testing.assert_allclose(mean_entropy(found), (np.log(2) / 2 + np.log(4)) / 2, rtol=1e-12)


def test_alphas_of_any_tree_come_back_from_json():
    alphas = {
        "normal": {"operations": np.arange(6.0).reshape(2, 3), "edges": np.array([0.5, 1.5])},
        "reduce": np.eye(2),
    }
    found = alphas_from_json(json.loads(json.dumps(alphas_to_json(alphas))))
    assert jax.tree.structure(found) == jax.tree.structure(alphas)
    jax.tree.map(np.testing.assert_array_equal, found, alphas)
    one = np.eye(3, dtype=np.float32)
    np.testing.assert_array_equal(alphas_from_json(alphas_to_json(one)), one)


@pytest.mark.parametrize("content", [None, {}, "x", 3.0, [["a"]], [[1.0], [1.0, 2.0]], {"normal": None}, [[True]]])
def test_alphas_that_are_no_numbers_are_refused(content):
    with pytest.raises(InputError, match="cell are not a table of numbers"):
        alphas_from_json(content)


# Rows that are not DARTS's.


def tilted_strengths(alphas, space):
    return {kind: -table for kind, table in MIXTURES["softmax"].strengths(alphas, space).items()}


def test_a_record_is_derived_by_the_mixture_of_its_method(monkeypatch):
    tilted = dataclasses.replace(MIXTURES["softmax"], strengths=tilted_strengths)
    monkeypatch.setattr(mixtures, "MIXTURES", {**mixtures.MIXTURES, "tilted": tilted})
    space = SearchSpace(normal=(("skip_connect", "noise"),) * 2, reduce=(("skip_connect", "noise"),) * 2)
    alphas = {kind: np.array([[3.0, 1.0], [1.0, 2.0]]) for kind in ("normal", "reduce")}
    record = {"space": dataclasses.asdict(space), "alphas": alphas_to_json(alphas), "edges_per_node": 1}
    own = genotype_of(record | method_fields(Method(mixture_name="tilted")))
    assert isinstance(own, Genotype)
    assert own.normal == (("noise", 0),)
    assert method_fields(Method()) == {}
    found = derive_genotype(alphas, space, edges_per_node=1)
    assert found == genotype_of(record)
    assert found.normal == (("skip_connect", 0),)


def test_a_record_of_edge_weights_is_derived_with_them():
    names = ("skip_connect", "noise")
    space = SearchSpace(normal=(names,) * 2, reduce=(names,) * 2)
    tables = {kind: np.array([[3.0, 1.0], [1.0, 2.0]]) for kind in ("normal", "reduce")}
    edges = {kind: np.array([-5.0, 5.0]) for kind in tables}
    record = {"space": dataclasses.asdict(space), "edges_per_node": 1} | method_fields(Method(edge_weights=True))
    found = genotype_of(record | {"alphas": alphas_to_json({"operations": tables, "edges": edges})})
    assert isinstance(found, Genotype)
    assert found.normal == (("noise", 1),)


@pytest.mark.parametrize("name", MIXTURES)
def test_edges_whose_weight_rounds_to_0_are_ranked_too(name):
    space = uniform_space(("skip_connect", "noise"), nodes=2)
    alphas = alphas_in(space, WITH_EDGES[f"{name}+edges"])
    betas = {kind: np.array([-900.0, 900.0, -3.0, -9000.0, -900.0]) for kind in space.kinds}
    strengths = WITH_EDGES[f"{name}+edges"].strengths({**alphas, "edges": betas}, space)
    alone = MIXTURES[name].strengths(alphas["operations"], space)
    logarithms = np.array([-1800.0, 0.0, 0.0, -8997.0, -897.0])[:, None]
    for kind in space.kinds:
        np.testing.assert_allclose(strengths[kind] - alone[kind], np.tile(logarithms, 2), atol=1e-9)


@pytest.mark.parametrize("name", ["", "softmaxx", None, 3])
def test_mixtures_that_are_not_there_are_refused(name):
    with pytest.raises(InputError, match="give softmax or sigmoid"):
        mixture_by_name(name)


@pytest.mark.parametrize("edges", [False, True])
@pytest.mark.parametrize("name", PENALTIES)
def test_a_penalty_is_part_of_the_loss_of_the_alphas(name, edges):
    row = PENALTIES[name]
    inner_name, space = row.mixture or "softmax", SPACES[0]
    inner, mixture = MIXTURES[inner_name], ALL_MIXTURES[f"{inner_name}+edges" if edges else inner_name]
    alphas = alphas_in(space, mixture)
    zeros = jax.tree.map(jnp.zeros_like, alphas)

    def hypergradient(problem):
        return Estimate(zeros, jnp.zeros(()), {}, {"kept": 1.0})

    estimator = penalised(hypergradient, {name: (row.function, 3.0)}, mixture, space)

    def expected(alphas):
        tables = alphas["operations"] if edges else alphas
        return 3 * row.function(tables, operation_weights(inner, tables, space), space)

    @jax.jit
    def both(alphas):
        found = estimator(type("Problem", (), {"alphas": alphas}))  # pyright: ignore[reportArgumentType]
        return (found.gradient, found.diagnostics), jax.value_and_grad(expected)(alphas)

    (found, diagnostics), (value, gradient) = both(alphas)
    jax.tree.map(np.testing.assert_allclose, found, gradient)
    np.testing.assert_allclose(diagnostics[f"penalty_{name}"], value)
    assert diagnostics["kept"] == 1.0
    assert penalised(hypergradient, {}, mixture, space) is hypergradient


def test_the_zero_one_penalty_counts_candidates_alone():
    space = SPACES[0]
    weights = {"normal": jnp.array([[0.5, 0.5, 0.5], [0.0, 1.0, 9.0]]), "reduce": jnp.full((2, 2), 0.5)}
    # Of eight candidates two are 0.5 away from 0.5.
    np.testing.assert_allclose(zero_one({}, weights, space), -2 * 0.25 / 8)


# The weights' step.


def test_projected_rows_are_weights():
    rows = jnp.array([[0.2, 0.3, 0.5], [-0.1, -0.3, -0.2], [1.4, 0.2, -1.0], [0.5, 0.5, 7.0]])
    mask = np.array([[1, 1, 1]] * 3 + [[1, 1, 0]], bool)
    found = np.asarray(jax.jit(lambda rows: projected(rows, mask))(rows))
    np.testing.assert_allclose(found[0], rows[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], [1, 0, 0])
    np.testing.assert_allclose(found[2], [1 / 1.2, 0.2 / 1.2, 0], rtol=1e-12)
    np.testing.assert_allclose(found[3], [0.5, 0.5, 0])


def test_an_attack_raises_the_loss_or_is_dropped():
    tables = {kind: jnp.array([[0.3, 0.3, 0.4], [0.1, 0.8, 0.1]]) for kind in ("normal", "reduce")}
    noise = jax.tree.map(jnp.zeros_like, tables)
    slope = jnp.array([[1.0, -1.0, 0.0]])

    def rising(tables):
        return jnp.sum(jnp.stack([table * slope for table in tables.values()]))

    attack = jax.jit(lambda: adversarial(rising, tables, noise, jnp.asarray(0.1), ONE_EDGE))()
    assert not attack.reverted
    assert attack.losses.shape == (STEPS + 2,)
    assert attack.losses[-1] > attack.losses[0]
    np.testing.assert_allclose(attack.tables["normal"][0], np.array([0.4, 0.2, 0.4]), rtol=1e-12)

    def peak(tables):
        return -jnp.sum(jnp.stack([jnp.abs(tables[kind] - before[kind]) for kind in tables]))

    before = tables
    begun = jax.tree.map(lambda leaf: leaf + 0.05 * slope, noise)
    dropped = jax.jit(lambda: adversarial(peak, tables, begun, jnp.asarray(0.1), ONE_EDGE))()
    assert dropped.reverted
    jax.tree.map(np.testing.assert_array_equal, dropped.tables, tables)


def test_devices_attack_with_the_gradient_of_the_whole_batch():
    """Their own gradients have other signs."""
    tables, space = {"normal": jnp.full((2, 3), 1 / 3), "reduce": jnp.full((2, 3), 1 / 3)}, ONE_EDGE
    noise = {kind: jnp.zeros_like(table) for kind, table in tables.items()}
    slopes = jnp.array([[1.0, -3.0, 0.5], [-2.0, 1.0, 1.0]])

    def attack(slope, average=lambda tree: tree):
        def loss(mixture):
            return jnp.sum(jnp.stack([table @ slope for table in mixture.values()]))

        return adversarial(loss, tables, noise, jnp.asarray(0.1), space, average=average).tables

    def device(slope):
        return attack(slope, lambda tree: jax.lax.pmean(tree, "devices"))

    @jax.jit
    def whole_and_vmapped(slopes):
        return attack(jnp.mean(slopes, axis=0)), jax.vmap(device, axis_name="devices")(slopes)

    expected, vmapped = whole_and_vmapped(slopes)
    for found in (vmapped, jax.pmap(device, axis_name="devices")(slopes)):
        for kind, table in expected.items():
            np.testing.assert_allclose(found[kind], np.stack([table, table]), rtol=1e-12)


def test_correlation_is_the_mean_cosine_of_pairs():
    gradients = np.random.default_rng(0).normal(size=(4, 2, 3))
    flat = gradients.reshape(4, -1)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    cosines = [flat[i] @ flat[j] / np.linalg.norm(flat[i]) / np.linalg.norm(flat[j]) for i, j in pairs]
    signs = [flat[i] @ flat[j] / (np.abs(flat[i]) @ np.abs(flat[j])) for i, j in pairs]

    @jax.jit
    def found(gradients):
        of_zeros = correlation_direction(gradients.at[1].set(0))
        return mean_correlation(gradients), mean_sign_correlation(gradients), of_zeros

    cosine, sign, (direction, value) = found(jnp.asarray(gradients))
    np.testing.assert_allclose(cosine, np.mean(cosines), rtol=1e-12)
    np.testing.assert_allclose(sign, np.mean(signs), rtol=1e-12)
    assert np.all(np.isfinite(direction))
    assert np.isfinite(value)


def test_frozen_operations_stand_still_and_others_do_not_notice():
    weights = {
        "stem": {"kernel": jnp.ones(3)},
        "cell0": {
            "preprocess": {"pointwise0": jnp.ones((1, 2, 2))},
            "stage0": {
                "sep_conv_3x3": {"depthwise1": jnp.ones((2, 3, 3, 2))},
                "skip_connect": {"even": jnp.ones((2, 2, 2))},
            },
        },
    }
    random = np.random.default_rng(0)
    gradient = jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape)), weights)
    opposite = jax.tree.map(lambda leaf: jnp.asarray(-np.asarray(leaf)), gradient)
    place = "cell0/stage0/sep_conv_3x3"
    cases: list[Any] = [("validation", 0.4, True), ("validation", -3.0, False), ("sum", 0.4, True)]
    for compared, threshold, expected in cases:
        rule = Freezing(threshold, every=1, compared=compared)
        state = rule.init(weights)
        assert list(state.totals) == [place]

        @jax.jit
        def changed(state, rule=rule):
            change = rule(jdarts.bilevel.WeightGradients(gradient, lambda: opposite), state)
            return change, jax.tree.map(jnp.multiply, gradient, change.scale)

        change = scaled = None
        for _ in range(3):
            change, scaled = changed(state)
            state = change.state
        assert isinstance(change, WeightChange) and scaled is not None
        np.testing.assert_array_equal(state.frozen[place], [expected] * 2)
        np.testing.assert_array_equal(scaled["stem"]["kernel"], gradient["stem"]["kernel"])
        skip = gradient["cell0"]["stage0"]["skip_connect"]["even"]
        np.testing.assert_array_equal(scaled["cell0"]["stage0"]["skip_connect"]["even"], skip)
        assert np.all(np.asarray(scaled["cell0"]["stage0"]["sep_conv_3x3"]["depthwise1"]) == 0) == expected
        jax.tree.map(np.testing.assert_array_equal, change.gradient, scaled)


def test_a_weight_of_an_operation_that_is_one_number_has_a_cosine_too():
    random = np.random.default_rng(0)
    first, second = ({"scale": random.normal(size=3), "bias": random.normal(size=(3, 4))} for _ in range(2))
    expected = [
        np.mean(
            [
                np.sign(first["scale"][edge] * second["scale"][edge]),
                np.vdot(first["bias"][edge], second["bias"][edge])
                / np.linalg.norm(first["bias"][edge])
                / np.linalg.norm(second["bias"][edge]),
            ]
        )
        for edge in range(3)
    ]
    scores = jax.jit(operation_scores)(*(jax.tree.map(jnp.asarray, each) for each in (first, second)))
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


# Orders of the steps, on a problem without a network.


def _loss(weights, alphas, state, batch, key):
    loss = 0.5 * jnp.sum((weights - alphas - batch) ** 2) + 0.1 * jnp.sum(alphas**2)
    return loss, (state, {})


def _step(order: Any = "alphas_first", **settings):
    optimizers = {"weight_optimizer": optax.sgd(0.1, momentum=0.9), "alpha_optimizer": optax.sgd(0.2)}
    state = jdarts.init_state(jax.random.key(0), jnp.array([1.0, 2.0]), jnp.array([0.5, -0.5]), **optimizers)
    settings = {"loss_fn": _loss, "hypergradient": jdarts.first_order(), **optimizers, **settings}
    return state, jax.jit(lambda state: jdarts.bilevel_step(state, 0.1, 0.7, order=order, **settings))(state)


def test_orders_of_the_two_steps():
    state, _ = _step()
    w, a = state.weights, state.alphas

    def alphas_moved(w, a):
        return a - 0.2 * (-(w - a - 0.7) + 0.2 * a)

    def weights_moved(w, a):
        return w - 0.1 * (w - a - 0.1)

    expected = {
        "alphas_first": (weights_moved(w, alphas_moved(w, a)), alphas_moved(w, a)),
        "weights_first": (weights_moved(w, a), alphas_moved(weights_moved(w, a), a)),
        "together": (weights_moved(w, a), alphas_moved(w, a)),
    }
    for order, (weights, alphas) in expected.items():
        _, (new, metrics) = _step(order)
        np.testing.assert_allclose(new.weights, weights, rtol=1e-12)
        np.testing.assert_allclose(new.alphas, alphas, rtol=1e-12)
        assert int(new.step) == 1
        assert {"train/loss", "valid/loss", "hypergradient/norm", "weights/gradient_norm"} <= set(metrics)


def test_a_step_without_alphas_leaves_them_and_their_optimiser():
    adam = optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.1))
    weights = optax.sgd(0.1)
    state = jdarts.init_state(
        jax.random.key(0), jnp.ones(2), jnp.ones(2), weight_optimizer=weights, alpha_optimizer=adam
    )
    new, metrics = jax.jit(
        lambda state: jdarts.bilevel_step(
            state,
            0.1,
            0.7,
            loss_fn=_loss,
            weight_optimizer=weights,
            alpha_optimizer=standing(adam),
            hypergradient=without_hypergradient,
        )
    )(state)
    jax.tree.map(
        np.testing.assert_array_equal, (new.alphas, new.alpha_opt_state), (state.alphas, state.alpha_opt_state)
    )
    np.testing.assert_allclose(metrics["valid/loss"], _loss(state.weights, state.alphas, (), 0.7, None)[0])
    assert jnp.all(new.weights != state.weights)


def test_a_clipped_hypergradient_has_the_largest_norm():
    gradient = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    problem: Any = type("Problem", (), {"alphas": gradient})
    found = clipped(lambda problem: Estimate(gradient, jnp.zeros(()), {}, {}), 1.0)(problem).gradient
    np.testing.assert_allclose([found["a"][0], found["b"][0]], [0.6, 0.8], rtol=1e-6)


def test_another_loss_and_a_rule_act_in_the_weights_step_alone():
    def doubled(weights, alphas, state, batch, key):
        loss, aux = _loss(weights, alphas, state, batch, key)
        return 2 * loss, aux

    state, (new, metrics) = _step(weight_loss_fn=doubled)
    _, (plain, of_plain) = _step()
    np.testing.assert_allclose(new.weights - state.weights, 2 * (plain.weights - state.weights), rtol=1e-12)
    np.testing.assert_array_equal(new.alphas, plain.alphas)
    np.testing.assert_allclose(metrics["train/loss"], 2 * of_plain["train/loss"], rtol=1e-12)

    def rule(gradients, counted):
        return WeightChange(gradients.valid(), jnp.array([1.0, 0.0]), counted)

    _, (ruled, _) = _step(weight_rule=rule)
    gradient = state.weights - state.alphas - 0.7
    np.testing.assert_allclose(ruled.weights, state.weights - 0.1 * gradient * jnp.array([1.0, 0.0]), rtol=1e-12)


# Schedules, presets and the settings behind them.


def test_schedules():
    assert schedules.table(schedules.ramp(0.5), 3).tolist() == [0.0, 0.25, 0.5]
    assert schedules.table(schedules.ramp(0.5), 1).tolist() == [0.0]
    assert schedules.table(schedules.temperature(10, 1, span=2), 4).tolist() == [10.0, 5.5, 1.0, 1.0]
    linear = schedules.table(schedules.auxiliary_weight("linear"), 50)
    np.testing.assert_allclose(linear, 1 - np.arange(50) / 50, rtol=1e-12)
    rates = schedules.table(schedules.skip_dropout(0.4, frozen=10), 25)
    np.testing.assert_allclose(rates[[0, 9, 10]], [0.384, 0.24, 0.4], rtol=1e-12)
    values = schedules.table(schedules.radius(0.3), 50)
    assert values[0] == 0.03
    assert values[-1] < 0.3
    np.testing.assert_allclose(jax.jit(lambda epoch: schedules.in_epoch(values, epoch))(7), values[7], rtol=1e-6)


def test_controls_of_a_method_and_the_programs_of_its_steps():
    plain = SearchConfig().search_method()
    assert plain == Method()
    assert plain.controls(jnp.int32(3), 50) == {}
    assert plain.always_moves_alphas
    late = SearchConfig(alphas_from=2, weight_steps=3).search_method()
    assert [late.program(step, 2) for step in range(4)] == ["weights_step", "weights_step", "step", "weights_step"]
    assert {late.program(step, 1) for step in range(4)} == {"weights_step"}
    tempered = SearchConfig(method="gdas", epochs=3).search_method()
    found = [float(tempered.controls(jnp.int32(epoch), 3)[TEMPERATURE]) for epoch in range(3)]
    np.testing.assert_allclose(found, [10, 5.05, 0.1], rtol=1e-6)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_search(name):
    config = SearchConfig(method=name)
    config.check()
    flat = config.to_json()
    for setting, value in PRESETS[name].items():
        assert flat[setting] == (list(value) if isinstance(value, tuple) else value)
    # A setting that is given stays, alone or in its part, and so does all that is replaced.
    assert SearchConfig(method=name, channels=4, epochs=7).loop.epochs == 7
    other = dataclasses.replace(config, seed=3)
    assert dataclasses.replace(other, seed=0) == config
    assert SearchConfig(**flat).to_json() == flat


@pytest.mark.parametrize("name", TEXT_PRESETS)
def test_every_preset_for_text_is_a_search(name):
    config = LanguageSearchConfig(method=name)
    config.check()
    assert LanguageSearchConfig(**config.to_json()).to_json() == config.to_json()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "dartz"}, "--method is 'dartz'; give darts or pc_darts"),
        ({"mixture": "hard"}, "the mixture is 'hard'; give softmax"),
        ({"mixture": "random_cells"}, "the mixture is 'random_cells'; give softmax"),
        ({"penalty": "l1"}, "--penalty is 'l1'; give none or zero_one"),
        ({"penalty": "divergence"}, "for --mixture dirichlet; with softmax give another"),
        ({"penalty_weight": 1.0}, "without a --penalty"),
        (
            {"temperature": 2.0},
            "--temperature is 2.0, and --mixture softmax has no temperature; leave it out, or give another",
        ),
        ({"temperature_epochs": 2}, "--temperature-epochs is 2, and --mixture softmax has no temperature"),
        (
            {"method": "snas", "mixture": "softmax"},
            "--temperature-end is 0.03, and --mixture softmax has no temperature",
        ),
        ({"perturbation_radius": 0.5}, "--perturbation-radius is 0.5 without a --perturbation"),
        (
            {"mixture": "gumbel", "temperature": 1.0, "temperature_end": 2.0},
            "above --temperature 1.0; give that or less",
        ),
        ({"mixture": "gumbel", "perturbation": "random"}, "are drawn; give softmax or sigmoid"),
        ({"mixture": "sigmoid", "perturbation": "adversarial"}, "a sum of 1"),
        ({"perturbation": "random", "correlation": 0.1}, "leave one out"),
        ({"correlation": 0.1, "cells": 3}, "and a network of --cells 3 has one; give 4 or more"),
        ({"auxiliary_decay": "linear"}, "without --auxiliary-skip"),
        ({"alphas_from": -1}, "--alphas-from is -1; give 0 or more"),
        (
            {"alphas_from": 50},
            "--alphas-from is 50, and with --epochs 50 the last epoch is 49, so that no alphas move; give a smaller number",
        ),
        ({"method": "pc_darts", "epochs": 15}, "--alphas-from is 15, and with --epochs 15 the last epoch is 14"),
        ({"weight_steps": 0}, "--weight-steps is 0; give 1 or more"),
        ({"freeze_below": 2.0}, "--freeze-below is 2"),
        ({"freeze_compared": "sum"}, "--freeze-compared is sum without --freeze-below"),
    ],
)
def test_settings_that_do_not_combine_are_refused(settings, message):
    with pytest.raises(InputError, match=re.escape(message)):
        SearchConfig(**settings).check()


@pytest.mark.parametrize("config", [SearchConfig, LanguageSearchConfig])
def test_the_help_names_every_stopping_rule(config):
    assert [name for name in RULES if name not in config.__doc__] == []


def test_alphas_of_text_move_and_those_of_decisions_on_the_supernet_need_not():
    with pytest.raises(InputError, match="--alphas-from is 2, and with --epochs 1 the last epoch is 0"):
        LanguageSearchConfig(epochs=1, alphas_from=2).check()
    SearchConfig(method="darts_pt", alphas_from=50, epochs=50).check()
