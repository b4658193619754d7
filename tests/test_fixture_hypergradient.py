"""Hypergradients of a small search network against iDARTS's own numbers, which are part of the repository.

The file holds the product along a direction of iDARTS's. It is our estimators' direction where the validation loss is linear in
the weights: `<direction, w>` plus what the real validation loss says of the alphas.
"""

import functools

import jax
import numpy as np
import optax
import pytest
from fixtures_folder import REFERENCE_NUMBERS
from search_fixtures import problem_on, read_case
from torch_layout import stacked_statistics

import jdarts
from jdarts.search.step import supernet_loss

pytestmark = pytest.mark.usefixtures("standard_promotion")


def norm(tree):
    return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree))))


@functools.cache
def case():
    """The file, and everything that our functions make of it, as one program."""
    read = read_case(REFERENCE_NUMBERS / "hypergradient_c4_l3.npz", "float64")
    ours = read.ours
    weights, alphas, direction = ours(read.params("weights/")), ours(read.alphas("alphas")), ours(read.params("sum/"))
    statistics = ours(stacked_statistics(read.arrays("weights/"), read.space, read.cells))
    loss_fn = supernet_loss(read.network())
    train, valid = read.batch("train"), read.batch("valid")
    sgd = optax.sgd(float(read.file["hyper/eta"]))
    # They take 0.01 / |v| steps along the direction, we 0.01 / |direction|.
    epsilon = 0.01 * norm(read.params("sum/")) / norm(read.params("v/"))

    def everything(weights):
        def loss(batch, weights, alphas):
            return loss_fn(weights, alphas, statistics, batch, jax.random.key(0))[0]

        def linear(now, alphas):
            return optax.tree.vdot(direction, now) + loss(valid, weights, alphas), {}

        problem = problem_on(train, valid, loss, weights, alphas, sgd, sgd.init(weights))
        along = problem._replace(valid_loss=linear)
        return {
            "v": jax.grad(lambda weights: loss(valid, weights, alphas))(weights),
            "direct": jdarts.first_order()(problem).gradient,
            "hypergradient_exact": jdarts.exact()(along).gradient,
            "unrolled": jdarts.unrolled()(along).gradient,
            "hypergradient_fd": jdarts.finite_difference(epsilon)(along).gradient,
        }

    return read._replace(found=jax.device_get(jax.jit(everything)(weights)))


def test_the_gradient_of_the_validation_loss():
    case().check(case().found["v"], case().params("v/"))


def test_the_first_order_hypergradient():
    case().check(case().found["direct"], case().alphas("direct"))


@pytest.mark.parametrize("estimator", ["hypergradient_exact", "unrolled"])
def test_the_exact_hypergradient(estimator):
    expected = case().alphas("hypergradient_exact")
    case().check(case().found[estimator], expected)
    # The second-order term must show: without it the gradient would be another.
    term = jax.tree.map(np.subtract, expected, case().alphas("direct"))
    assert norm(term) > 1e-3 * norm(expected)


def test_the_hypergradient_by_a_finite_difference():
    case().check(case().found["hypergradient_fd"], case().alphas("hypergradient_fd"))
