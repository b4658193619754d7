"""Derivation: by hand, against a plain second implementation, and what must not change it."""

import itertools
import math

import jax.numpy as jnp
import numpy as np
import pytest

from jdarts.derivation import derive_genotype as derive
from jdarts.errors import InputError
from jdarts.genotype import nodes_of
from jdarts.space import CELL_KINDS, SearchSpace, darts_space, uniform_space

#: Of S1's kind: no two neighbouring edges have the same candidates, and the lists differ in length.
RAGGED_EDGES = (
    ("none", "skip_connect", "sep_conv_3x3"),
    ("max_pool_3x3",),
    ("skip_connect", "none"),
    ("dil_conv_3x3", "dil_conv_5x5", "none", "noise"),
    ("avg_pool_3x3", "sep_conv_5x5"),
)
RAGGED = SearchSpace(normal=RAGGED_EDGES, reduce=tuple(edge[::-1] for edge in RAGGED_EDGES))
SPACES = {"darts": darts_space(), "ragged": RAGGED, "deep": uniform_space(["skip_connect", "none"], nodes=6)}
each_space = pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)


def random_alphas(space, seed, scale=1.0):
    draw = np.random.default_rng(seed)
    shape = {kind: (space.num_edges, space.width(kind)) for kind in CELL_KINDS}
    return {kind: scale * draw.normal(size=shape[kind]) for kind in shape}


def by_enumeration(alphas, space, kind, edges_per_node):
    """Of all ways to choose edges and operations for a node, the strongest: no sorting, no argmax, no shared code."""
    cell = []
    for target in range(2, 2 + space.nodes):
        candidates = []
        for edge, (source, end) in enumerate(space.edges):
            if end == target:
                names = space.operations(kind)[edge]
                total = math.fsum(math.exp(value) for value in alphas[kind][edge][: len(names)])
                candidates += [
                    (math.exp(alphas[kind][edge][index]) / total, name, source)
                    for index, name in enumerate(names)
                    if name != "none"
                ]
        best = max(
            (
                choice
                for choice in itertools.permutations(candidates, min(edges_per_node, target))
                if len({source for _, _, source in choice}) == len(choice)
            ),
            key=lambda choice: [strength for strength, _, _ in choice],
        )
        cell += [(name, source) for _, name, source in best]
    return tuple(cell)


@each_space
@pytest.mark.parametrize("edges_per_node", [1, 2])
def test_equals_the_strongest_of_all_choices(space, edges_per_node):
    for seed in range(3):
        alphas = random_alphas(space, seed)
        genotype = derive(alphas, space, edges_per_node=edges_per_node)
        assert genotype.normal == by_enumeration(alphas, space, "normal", edges_per_node)
        assert genotype.reduce == by_enumeration(alphas, space, "reduce", edges_per_node)
        assert genotype.normal_concat == genotype.reduce_concat == space.concat


ONE_NODE = uniform_space(["none", "skip_connect", "sep_conv_3x3"], nodes=1)
TWO_NODES = uniform_space(["none", "skip_connect", "sep_conv_3x3"], nodes=2)


def normal_cell(rows, space, edges_per_node=2):
    values = np.array(rows, np.float64)
    return derive({"normal": values, "reduce": np.zeros_like(values)}, space, edges_per_node=edges_per_node).normal


def test_a_case_by_hand():
    rows = [
        [0.0, 1.0, 0.0],  # 0 to node 2
        [0.0, 0.0, 2.0],  # 1 to node 2, stronger
        [0.0, 0.5, 0.0],  # 0 to node 3, weakest
        [0.0, 1.0, 0.0],  # 1 to node 3
        [0.0, 0.0, 3.0],  # 2 to node 3, strongest
    ]
    expected = (("sep_conv_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 2), ("skip_connect", 1))
    assert normal_cell(rows, TWO_NODES) == expected


def test_none_is_never_chosen_but_takes_its_share():
    # By raw alphas edge 0 leads, 2 > 1; beside its `none` its best weighs e²/(e⁵+e²+1) = 0.05 against 0.42.
    rows = [[5.0, 2.0, 0.0], [0.0, 0.0, 1.0]]
    without_none = [[-9.0, 2.0, 0.0], [-9.0, 0.0, 1.0]]
    assert normal_cell(rows, ONE_NODE) == (("sep_conv_3x3", 1), ("skip_connect", 0))
    assert normal_cell(without_none, ONE_NODE) == (("skip_connect", 0), ("sep_conv_3x3", 1))


def test_none_of_any_strength_hides_nothing():
    # The weights beside such a `none` all round to 0; their order does not.
    rows = [[2000.0, 1.0, 2.0], [2000.0, 4.0, 3.0]]
    assert normal_cell(rows, ONE_NODE) == (("skip_connect", 1), ("sep_conv_3x3", 0))


def test_the_earlier_of_equals_comes_first():
    zeros = np.zeros((5, 3))
    assert normal_cell(zeros, TWO_NODES) == (("skip_connect", 0), ("skip_connect", 1)) * 2
    tied = [[0.0, 1.0, 1.0], [0.0, 0.0, 2.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]
    expected = (("sep_conv_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1))
    assert normal_cell(tied, TWO_NODES) == expected


@pytest.mark.parametrize("edges_per_node", [1, 2, 3, 9])
def test_each_node_keeps_its_strongest_in_descending_order(edges_per_node):
    space = darts_space()
    alphas = random_alphas(space, seed=5)
    kept = derive(alphas, space, edges_per_node=edges_per_node)
    every = derive(alphas, space, edges_per_node=5)
    assert kept.edges_per_node == edges_per_node
    for kind in CELL_KINDS:
        nodes = nodes_of(getattr(kept, kind), edges_per_node)
        assert [len(node) for node in nodes] == [min(edges_per_node, sources) for sources in (2, 3, 4, 5)]
        for node, whole in zip(nodes, nodes_of(getattr(every, kind), 5)):
            assert node == whole[:edges_per_node]
            assert sorted(source for _, source in whole) == list(range(len(whole)))


@each_space
def test_a_constant_added_to_an_edge_changes_nothing(space):
    alphas = random_alphas(space, seed=1)
    shifts = np.random.default_rng(2).normal(scale=30.0, size=(space.num_edges, 1))
    shifted = {kind: values + shifts for kind, values in alphas.items()}
    assert derive(shifted, space) == derive(alphas, space)


@each_space
def test_cells_do_not_mix(space):
    first, second = random_alphas(space, seed=1), random_alphas(space, seed=2)
    mixed = derive({"normal": first["normal"], "reduce": second["reduce"]}, space)
    assert (mixed.normal, mixed.reduce) == (derive(first, space).normal, derive(second, space).reduce)


@pytest.mark.parametrize("filling", [100.0, -np.inf, np.nan])
def test_what_lies_beyond_a_short_list_has_no_meaning(filling):
    alphas = random_alphas(RAGGED, seed=3)
    padded = {kind: values.copy() for kind, values in alphas.items()}
    for kind in CELL_KINDS:
        for row, names in zip(padded[kind], RAGGED.operations(kind)):
            row[len(names) :] = filling
    assert derive(padded, RAGGED) == derive(alphas, RAGGED)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64, jnp.bfloat16])
def test_takes_alphas_of_jax(dtype):
    space = darts_space()
    alphas = {kind: jnp.asarray(values, dtype) for kind, values in random_alphas(space, seed=4).items()}
    as_numpy = {kind: np.asarray(values.astype(jnp.float64)) for kind, values in alphas.items()}
    assert derive(alphas, space) == derive(as_numpy, space)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_alphas_that_are_not_finite_are_refused(value):
    space = darts_space()
    alphas = random_alphas(space, seed=0)
    alphas["reduce"][3, 2] = value
    with pytest.raises(InputError, match=r"reduce cell are not all finite; use an earlier checkpoint"):
        derive(alphas, space)


def test_wrong_calls_are_explained():
    space = darts_space()
    alphas = random_alphas(space, seed=0)
    with pytest.raises(InputError, match=r"normal cell have shape \(14, 7\); this space needs \(14, 8\)"):
        derive(alphas | {"normal": alphas["normal"][:, :7]}, space)
    with pytest.raises(InputError, match=r"shape \(14, 8\); this space needs \(5, 4\)"):
        derive(alphas, RAGGED)
    for number in (0, -1):
        with pytest.raises(InputError, match=rf"^{number} edges per node; give 1 or more"):
            derive(alphas, space, edges_per_node=number)
