"""The plug-in points of a search: mixtures and penalties, by the name of a method."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts.bilevel import Estimate
from jdarts.derivation import derive_genotype, genotype_of
from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.methods import method, mixtures, penalties
from jdarts.methods.method import method_by_name, method_fields
from jdarts.methods.mixtures import MIXTURES
from jdarts.methods.penalties import penalised
from jdarts.relaxation import (
    NO_CONTROLS,
    alphas_from_json,
    alphas_to_json,
    mean_entropy,
    mixture_entropies,
    operations_of,
)
from jdarts.space import RecurrentSpace, SearchSpace

SPACES = [
    SearchSpace(
        normal=(("skip_connect", "max_pool_3x3", "none"), ("sep_conv_3x3", "noise")),
        reduce=(("avg_pool_3x3",), ("none", "skip_connect")),
    ),
    RecurrentSpace(recurrent=(("tanh", "none", "relu"), ("identity",), ("sigmoid", "none"))),
]
each_mixture = pytest.mark.parametrize("mixture", MIXTURES.values(), ids=list(MIXTURES))
each_space = pytest.mark.parametrize("space", SPACES, ids=["convolutional", "recurrent"])


def alphas_in(space, mixture, scale=1e3):
    return jax.tree.map(lambda leaf: scale * leaf, mixture.init(jax.random.key(0), space, jnp.float64))


def operation_weights(mixture, alphas, space):
    return mixture.weights(alphas, space, None, NO_CONTROLS).operations


@each_space
@each_mixture
def test_contract_of_every_mixture(mixture, space):
    alphas = alphas_in(space, mixture)
    weights = jax.jit(lambda alphas: operation_weights(mixture, alphas, space))(alphas)
    strengths = mixture.strengths(jax.tree.map(np.asarray, alphas), space)
    assert list(weights) == list(strengths) == list(operations_of(space))
    for kind, operations in operations_of(space).items():
        shape = len(operations), max(map(len, operations))
        assert weights[kind].shape == strengths[kind].shape == shape
        assert strengths[kind].dtype == np.float64
        for row, strong, names in zip(np.asarray(weights[kind]), strengths[kind], operations):
            assert np.all(row[: len(names)] > 0)
            assert np.all(row[len(names) :] == 0)
            # Derivation ranks an edge's operations as the network weighs them.
            assert list(np.argsort(row[: len(names)])) == list(np.argsort(strong[: len(names)]))
    gradient = jax.grad(lambda alphas: sum(jnp.sum(w**2) for w in operation_weights(mixture, alphas, space).values()))(
        alphas
    )
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))


@each_space
def test_the_paper_mixture_sums_to_one_and_its_strengths_are_logarithms(space):
    mixture = MIXTURES["darts"]
    alphas = alphas_in(space, mixture)
    weights, strengths = operation_weights(mixture, alphas, space), mixture.strengths(alphas, space)
    for kind in weights:
        np.testing.assert_allclose(jnp.sum(weights[kind], axis=-1), 1, rtol=1e-12)
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
    return {kind: -table for kind, table in MIXTURES["darts"].strengths(alphas, space).items()}


@pytest.fixture
def own_method(monkeypatch):
    """A mixture that ranks the other way round, and a penalty on the squares of the weights."""
    tilted = dataclasses.replace(MIXTURES["darts"], strengths=tilted_strengths)
    squares = lambda alphas, weights, space: sum(jnp.sum(w**2) for w in weights.values())  # noqa: E731
    monkeypatch.setattr(method, "MIXTURES", {**mixtures.MIXTURES, "tilted": tilted})
    monkeypatch.setattr(method, "PENALTIES", {**penalties.PENALTIES, "squares": squares})
    return method_by_name("tilted+squares")


def test_a_record_is_derived_by_the_mixture_of_its_method(own_method):
    space = SearchSpace(normal=(("skip_connect", "noise"),) * 2, reduce=(("skip_connect", "noise"),) * 2)
    alphas = {kind: np.array([[3.0, 1.0], [1.0, 2.0]]) for kind in ("normal", "reduce")}
    record = {"space": dataclasses.asdict(space), "alphas": alphas_to_json(alphas), "edges_per_node": 1}
    own = genotype_of(record | method_fields(own_method))
    assert isinstance(own, Genotype)
    assert own.normal == (("noise", 0),)
    assert method_fields(method_by_name("darts")) == {}
    found = derive_genotype(alphas, space, edges_per_node=1)
    assert found == genotype_of(record)
    assert found.normal == (("skip_connect", 0),)


def test_a_penalty_is_part_of_the_loss_of_the_alphas(own_method):
    space = SPACES[0]
    alphas = alphas_in(space, own_method.mixture)
    zeros = jax.tree.map(jnp.zeros_like, alphas)

    def hypergradient(problem):
        return Estimate(zeros, jnp.zeros(()), {}, {"kept": 1.0})

    estimator = penalised(hypergradient, own_method.penalties, own_method.mixture, space)
    found = estimator(type("Problem", (), {"alphas": alphas}))  # pyright: ignore[reportArgumentType]

    def expected(alphas):
        return sum(jnp.sum(w**2) for w in operation_weights(own_method.mixture, alphas, space).values())

    jax.tree.map(np.testing.assert_allclose, found.gradient, jax.grad(expected)(alphas))
    np.testing.assert_allclose(found.diagnostics["penalty_squares"], expected(alphas))
    assert found.diagnostics["kept"] == 1.0
    assert penalised(hypergradient, {}, own_method.mixture, space) is hypergradient


@pytest.mark.parametrize(
    "name", ["", "drats", "darts+", "darts+nothing", "+squares", "tilted+squares+squares", None, 3]
)
def test_methods_that_are_not_there_are_refused(own_method, name):
    with pytest.raises(InputError, match="give darts or tilted, and squares after a"):
        method_by_name(name)
