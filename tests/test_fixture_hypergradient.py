"""Hypergradients of a small search network against iDARTS's own numbers.

A part of them is in the repository; the file outside has the terms of the series one by one. A product along a direction of
iDARTS's is that of our estimators where the validation loss is linear: `<direction, w>`, and the real one's slope by the alphas.
"""

import functools
import itertools

import jax
import numpy as np
import optax
import pytest
from fixtures_folder import REFERENCE_NUMBERS, fixture_files
from search_fixtures import problem_on, read_case
from torch_layout import stacked_statistics

import jdarts
from jdarts.bilevel.updates import Signal
from jdarts.search.step import supernet_loss

pytestmark = pytest.mark.usefixtures("standard_promotion")
HYPERGRADIENT = REFERENCE_NUMBERS / "hypergradient_c4_l3.npz"

each_file = pytest.mark.parametrize("path", fixture_files("idarts*.npz"))


def norm(tree):
    return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree))))


def added(tree, other):
    return jax.tree.map(np.add, tree, other)


@functools.cache
def case():
    """The repository's file, and everything that our functions make of it."""
    read = read_case(HYPERGRADIENT, "float64")
    ours = read.ours
    weights, alphas, direction = ours(read.params("weights/")), ours(read.alphas("alphas")), ours(read.params("sum/"))
    statistics = ours(stacked_statistics(read.arrays("weights/"), read.space, read.cells))
    loss_fn = supernet_loss(read.network())
    train, valid = read.batch("train"), read.batch("valid")
    sgd = optax.sgd(float(read.file["hyper/eta"]))

    def loss(batch, weights, alphas):
        return loss_fn(weights, alphas, statistics, batch, jax.random.key(0))[0]

    def problem_of(weights):
        return problem_on(train, valid, loss, weights, alphas, sgd, sgd.init(weights))

    def along(weights, direction, direct):
        def linear(weights, alphas):
            return optax.tree.vdot(direction, weights) + optax.tree.vdot(direct, alphas), {}

        return problem_of(weights)._replace(valid_loss=linear)

    @jax.jit
    def series(weights):
        averaged = []
        given = problem_of(weights)._replace(average=lambda tree: averaged.append(tree) or tree)
        estimate = jdarts.neumann(int(read.file["hyper/terms"]) - 1, at="present")(given)
        return {
            # In the order in which their means over devices are taken.
            "parts": [tree for tree in averaged if not isinstance(tree, Signal)],
            "series": estimate.gradient,
            "growth": estimate.diagnostics["series_growth"],
        }

    @jax.jit
    def estimates(weights):
        direct = jdarts.first_order()(problem_of(weights)).gradient
        problem = along(weights, direction, direct)
        return {
            "direct": direct,
            "exact": jdarts.exact()(problem).gradient,
            "unrolled": jdarts.unrolled()(problem).gradient,
        }

    @jax.jit
    def difference(weights, direction, direct):
        # They take 0.01 / |v| steps along the direction, finite_difference() 0.01 / |direction|.
        epsilon = 0.01 * optax.tree.norm(direction) / norm(read.params("v/"))
        return jdarts.finite_difference(epsilon)(along(weights, direction, direct)).gradient

    found = jax.device_get(series(weights) | estimates(weights))
    # The first term, what each later one adds to the one before, and the two parts of the hypergradient.
    *products, (found["direct of the series"], _) = found.pop("parts")
    found["terms"] = list(itertools.accumulate(products, added))
    directions = {"finite": direction, "finite without later terms": ours(read.params("v/"))}
    for name, each in directions.items():
        found[name] = jax.device_get(difference(weights, each, found["direct"]))
    return read._replace(found=found)


def test_the_gradient_of_the_validation_loss():
    case().check(case().found["terms"][0], case().params("v/"), tolerance=1e-9)


@pytest.mark.parametrize("estimator", ["direct", "direct of the series"])
def test_the_first_order_hypergradient(estimator):
    case().check(case().found[estimator], case().alphas("direct"), tolerance=1e-9)


@pytest.mark.parametrize("estimator", ["exact", "unrolled", "series"])
def test_the_exact_hypergradient(estimator):
    expected, found = case().alphas("hypergradient_exact"), case().found[estimator]
    case().check(found, expected, tolerance=1e-9)
    # The second-order term must show: without it the gradient would be another.
    term = jax.tree.map(np.subtract, expected, case().alphas("direct"))
    assert norm(term) > 1e-3 * norm(expected)
    eta = float(case().file["hyper/eta"])
    implicit = jax.tree.map(lambda direct, both: (direct - both) / eta, case().found["direct"], found)
    case().check(implicit, case().alphas("implicit_exact"))


def test_the_hypergradient_by_a_finite_difference():
    found = case().found["finite"]
    case().check(found, case().alphas("hypergradient_fd"))
    # The later terms must show.
    difference = norm(jax.tree.map(np.subtract, case().found["finite without later terms"], found))
    assert difference > 1e-4 * norm(found)


def test_the_sum_of_the_series():
    case().check(functools.reduce(added, case().found["terms"]), case().params("sum/"), tolerance=1e-9)


@each_file
def test_the_terms_of_the_series(path):
    file = np.load(path)
    for name in case().file.files:
        np.testing.assert_array_equal(case().file[name], file[name], err_msg=f"{name} of another case")
    terms = case()._replace(file=file)
    names = ["v", *(f"term{k}" for k in range(1, int(file["hyper/terms"])))]
    for name, found in zip(names, case().found["terms"], strict=True):
        terms.check(found, terms.params(f"{name}/"), tolerance=1e-9)
    last, first = (norm(terms.params(f"{name}/")) for name in (names[-1], "v"))
    terms.check(case().found["growth"], np.asarray(last / first), tolerance=1e-9)
