"""Budgets: costs of operations against `describe`, the best cells within bounds against all cells, expected costs."""

import itertools
import math
import random
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts.budget import Limit, amount, bounded_cells, keeps, largest_cost, least_cost
from jdarts.budget.cost import places
from jdarts.budget.counting import counted_costs, target
from jdarts.budget.expected import expected_cost
from jdarts.budget.sampling import sample_of_size
from jdarts.derivation import derive_genotype, sample_genotype
from jdarts.describe import describe
from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.methods.mixtures import mixture_by_name
from jdarts.operations import NONE
from jdarts.relaxation import SOFTMAX, MixtureWeights
from jdarts.space import CELL_KINDS, SearchSpace, uniform_space

SMALL = uniform_space((NONE, "skip_connect", "max_pool_3x3", "sep_conv_3x3", "dil_conv_5x5"), nodes=2)


def alphas_of(space, seed, scale=1.0):
    random_numbers = np.random.RandomState(seed)
    return {kind: scale * random_numbers.randn(space.num_edges, space.width(kind)) for kind in CELL_KINDS}


@pytest.fixture(scope="module")
def small():
    network = target(SMALL, channels=4, cells=5, classes=3, image_size=16)
    return network, counted_costs(SMALL, network)


@pytest.mark.parametrize(("network", "seed"), [("cifar", 0), ("imagenet", 1)])
def test_the_sum_over_operations_is_the_count_of_the_network(network, seed):
    draw = random.Random(seed)
    space = uniform_space((NONE, *draw.sample(sorted(ALL), 6)), nodes=draw.choice((1, 3, 4)), concat=(2,))
    settings: dict = {
        "channels": draw.choice((4, 6)),
        "cells": draw.choice((1, 3, 5)),
        "classes": 7,
        "image_channels": 1,
    }
    settings["image_size"] = 64
    costs = counted_costs(space, target(space, network, **settings))
    for cells in (sample_genotype(space, seed, edges_per_node=1), sample_genotype(space, seed + 10)):
        found = describe(cells, network, **settings).to_json()
        assert costs["weights"].of(cells, space) == found["params"]
        assert costs["multiply_adds"].of(cells, space) == found["multiply_adds"]


ALL = {
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "sep_conv_7x7", "dil_conv_3x3",
    "dil_conv_5x5", "noise",
}  # fmt: skip


def test_the_network_is_the_papers_unless_said_otherwise():
    assert str(target(SMALL)) == "cifar network: 36 channels, 20 cells, 10 classes, images 32×32×3"
    assert (
        str(target(SMALL, "imagenet", channels=8))
        == "imagenet network: 8 channels, 14 cells, 1000 classes, images 224×224×3"
    )
    with pytest.raises(InputError, match="--cells is 0; give 1 or more"):
        target(SMALL, cells=0)


def test_cells_of_another_space(small):
    _, costs = small
    with pytest.raises(
        InputError, match="normal cell has sep_conv_5x5 from state 0 to node 0, which its space does not have"
    ):
        costs["weights"].of(sample_genotype(uniform_space(("sep_conv_5x5", NONE), nodes=2), 0), SMALL)


def all_cells(space, kind):
    """Every cell of a kind, with two edges for each node."""
    nodes = []
    for target_state in range(2, 2 + space.nodes):
        edges = [
            [(name, source) for name in names if name != NONE]
            for (source, end), names in zip(space.edges, space.operations(kind))
            if end == target_state
        ]
        nodes.append([pair for two in itertools.combinations(edges, 2) for pair in itertools.product(*two)])
    return [tuple(itertools.chain(*each)) for each in itertools.product(*nodes)]


TINY = SearchSpace(
    normal=(("skip_connect", "sep_conv_3x3"), (NONE, "max_pool_3x3", "dil_conv_3x3"), ("sep_conv_3x3",), ("skip_connect", NONE),
            ("sep_conv_5x5", "avg_pool_3x3")),
    reduce=(("skip_connect", "max_pool_3x3"), ("sep_conv_3x3", NONE), ("dil_conv_3x3", "skip_connect"), ("max_pool_3x3",),
            ("skip_connect", "sep_conv_3x3")),
)  # fmt: skip


@pytest.fixture(scope="module")
def tiny():
    """A tiny space, its costs, and the costs and the places of all of its cells."""
    costs = counted_costs(TINY, target(TINY, channels=4, cells=3, classes=3, image_size=8))
    cells = [
        Genotype(normal, TINY.concat, reduce, TINY.concat)
        for normal, reduce in itertools.product(all_cells(TINY, "normal"), all_cells(TINY, "reduce"))
    ]
    return costs, cells, {name: np.array([cost.of(each, TINY) for each in cells]) for name, cost in costs.items()}


def total_strength(genotype, tables, space):
    """The sum of the strengths of the cells' operations."""
    return math.fsum(tables[kind][place] for kind in CELL_KINDS for place in places(genotype, space, kind))


@pytest.mark.parametrize("seed", range(6))
def test_no_cells_within_the_bounds_are_better(seed, tiny):
    costs, cells, sizes = tiny
    tables = SOFTMAX.strengths(alphas_of(TINY, seed), TINY)
    strengths = np.array([total_strength(each, tables, TINY) for each in cells])
    draw = random.Random(seed)
    some = draw.randrange(len(cells))
    limits = [Limit(cost, int(sizes[name][some])) for name, cost in costs.items()][: 1 + seed % 2]
    allowed = np.all([sizes[limit.cost.measure] <= limit.most for limit in limits], axis=0)
    found = bounded_cells(tables, TINY, 2, limits)
    assert keeps(found, TINY, limits)
    assert total_strength(found, tables, TINY) == strengths[allowed].max()


def test_operations_that_are_off_are_not_kept_within_bounds(small):
    """As in the second stage of DrNAS: the strongest operation of each edge and the smallest one are on."""
    _, costs = small
    masks = {kind: [[False, True, False, True, False]] * SMALL.num_edges for kind in CELL_KINDS}
    alphas = alphas_of(SMALL, 3)
    for table in alphas.values():
        table[:, 3] += 9
    most = (costs["weights"].of(derive_genotype(alphas, SMALL), SMALL) + least_cost(costs["weights"], SMALL, 2)) // 2
    found = derive_genotype(
        alphas, SMALL, mixture=mixture_by_name("softmax", masks=masks), limits=[Limit(costs["weights"], most)]
    )
    without = alphas | {kind: np.where(masks[kind], table, -99.0) for kind, table in alphas.items()}
    assert found == derive_genotype(without, SMALL, limits=[Limit(costs["weights"], most)])
    assert {name for name, _ in found.normal + found.reduce} == {"skip_connect", "sep_conv_3x3"}


def test_a_bound_is_kept_to_the_unit(tiny):
    costs, _, sizes = tiny
    tables = {
        kind: np.log(table + 1.0) for kind, table in costs["weights"].tables.items()
    }  # The largest is the strongest.
    for most in np.unique(sizes["weights"])[::5]:
        assert costs["weights"].of(bounded_cells(tables, TINY, 2, [Limit(costs["weights"], int(most))]), TINY) <= most
        below = bounded_cells(tables, TINY, 2, [Limit(costs["weights"], int(most) + 1)])
        assert costs["weights"].of(below, TINY) <= most


@pytest.mark.parametrize("seed", range(4))
def test_a_loose_bound_leaves_the_derivation_as_it_is(seed, small, monkeypatch):
    _, costs = small
    alphas = alphas_of(SMALL, seed, 1e-3)
    tables = SOFTMAX.strengths(alphas, SMALL)
    free = derive_genotype(alphas, SMALL)
    loose = [Limit(cost, largest_cost(cost, SMALL, 2)) for cost in costs.values()]
    assert bounded_cells(tables, SMALL, 2, loose) == free
    # The program finds them alone too: they are the best of those that are no larger.
    edges = (("sep_conv_3x3", 0), ("sep_conv_3x3", 1)) * 2
    monkeypatch.setattr("jdarts.budget.bounded.argmax", lambda *_: Genotype(edges, SMALL.concat, edges, SMALL.concat))
    assert bounded_cells(tables, SMALL, 2, [Limit(cost, cost.of(free, SMALL)) for cost in costs.values()]) == free


def test_a_bound_below_the_smallest_network_names_it(small, tiny):
    _, costs = small
    least = least_cost(costs["weights"], SMALL, 2)
    tables = SOFTMAX.strengths(alphas_of(SMALL, 0), SMALL)
    found = bounded_cells(tables, SMALL, 2, [Limit(costs["weights"], least)])
    assert costs["weights"].of(found, SMALL) == least
    with pytest.raises(
        InputError, match=f"the smallest network of such cells has {least:,} weights; give that or more"
    ):
        bounded_cells(tables, SMALL, 2, [Limit(costs["weights"], least - 1)])
    tiny_costs, _, sizes = tiny
    assert least_cost(tiny_costs["weights"], TINY, 2) == sizes["weights"].min()
    assert largest_cost(tiny_costs["multiply_adds"], TINY, 2) == sizes["multiply_adds"].max()


def test_bounds_that_hold_only_apart(small):
    _, costs = small
    opposed = {kind: costs["weights"].tables[kind].max() - costs["weights"].tables[kind] for kind in CELL_KINDS}
    other = type(costs["weights"])("multiply_adds", 0, opposed)
    limits = [Limit(each, least_cost(each, SMALL, 2)) for each in (costs["weights"], other)]
    with pytest.raises(InputError, match=r"no cells keep .* weights and .* multiply-adds together"):
        bounded_cells(SOFTMAX.strengths(alphas_of(SMALL, 0), SMALL), SMALL, 2, limits)


def test_random_cells_of_a_size_are_all_equally_likely(tiny):
    costs, cells, sizes = tiny
    least, most = np.quantile(sizes["weights"], (0.4, 0.402)).astype(int)
    there = {each for each, size in zip(cells, sizes["weights"]) if least <= size <= most}
    assert 5 < len(there) < 60
    seeds = range(40 * len(there))
    drawn = Counter(sample_of_size(costs["weights"], TINY, seed, least=least, most=most) for seed in seeds)
    counts = [drawn[Genotype(each.normal, TINY.concat, each.reduce, TINY.concat)] for each in there]
    assert sum(counts) == 40 * len(there)
    # The statistic of the chi-squared test, up to four standard deviations above its mean.
    assert np.sum(np.square(np.array(counts) - 40)) / 40 < len(there) + 4 * math.sqrt(2 * len(there))


def test_a_random_cell_of_one_edge_per_node_has_the_size_or_none_is_possible(tiny):
    cost = tiny[0]["weights"]
    least = least_cost(cost, TINY, 1)
    found = sample_of_size(cost, TINY, 0, least=least, most=least, edges_per_node=1)
    assert cost.of(found, TINY) == least and found.edges_per_node == 1
    with pytest.raises(InputError, match="no cells of the space cost between 0 and 1; give a wider range"):
        sample_of_size(cost, TINY, 0, least=0, most=1)


def test_the_expected_cost_is_the_mean_over_drawn_cells(tiny):
    costs, cells, sizes = tiny
    even = {
        kind: jnp.array([[1 / len(set(names) - {NONE}) if k < len(names) and names[k] != NONE else 0.0 for k in range(width)]
                         for names in TINY.operations(kind)])
        for kind in CELL_KINDS for width in (TINY.width(kind),)
    }  # fmt: skip
    # Each pair of edges of the second node is as frequent as the others, each operation of an edge too.
    counts = [[sum(n != NONE for n in names) for names in TINY.operations(kind)] for kind in CELL_KINDS]
    rows = {ends: edge for edge, ends in enumerate(TINY.edges)}
    odds = []
    for each in cells:
        kept = [(k, rows[source, state]) for k, kind in enumerate(CELL_KINDS)
                for state, node in enumerate(each.nodes(kind), 2) for _, source in node]  # fmt: skip
        odds.append(np.prod([1 / counts[k][edge] for k, edge in kept]) / 9)
    assert np.sum(odds) == pytest.approx(1)
    for name, cost in costs.items():
        found = expected_cost(cost, MixtureWeights(even), TINY)
        assert float(found) == pytest.approx(float(np.dot(odds, sizes[name])), rel=1e-6)
    shares = {kind: jnp.array([0.5, 0.5, 1 / 3, 1 / 3, 1 / 3]) for kind in CELL_KINDS}
    by_factor = expected_cost(costs["weights"], MixtureWeights(even, shares), TINY)
    assert float(by_factor) == pytest.approx(float(expected_cost(costs["weights"], MixtureWeights(even), TINY)))


def test_the_expected_cost_has_a_gradient_in_the_alphas(small):
    _, costs = small
    alphas = jax.tree.map(jnp.asarray, alphas_of(SMALL, 1))

    def expected(alphas):
        return expected_cost(costs["weights"], SOFTMAX.weights(alphas, SMALL, None, {}), SMALL) / 1e4

    gradient = jax.grad(expected)(alphas)
    step = jax.tree.map(lambda value, slope: value - 0.01 * slope, alphas, gradient)
    slope = sum(float(jnp.sum(jnp.square(each))) for each in gradient.values())
    assert float(expected(alphas) - expected(step)) == pytest.approx(0.01 * slope, rel=0.05)


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.4M", 400_000), ("400k", 400_000), ("400K", 400_000), ("80m", 80_000_000), ("4e5", 400_000), ("1.5G", 1_500_000_000),
     ("400,000", 400_000), ("1", 1), (7, 7), (" 2 k ", 2000)],
)  # fmt: skip
def test_amounts(text, value):
    assert amount(text) == value


@pytest.mark.parametrize(
    "text", ["", "M", "0", "-4k", "0.4", "nan", "inf", "4x", "1e99", "1e999999999", "0.0001k", "4kk"]
)
def test_what_is_no_amount(text):
    with pytest.raises(InputError, match=r"is no amount; give a whole number such as 400000, 400k, 0.4M or 1\.5G"):
        amount(text)
