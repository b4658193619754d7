"""Search spaces: the paper's numbers, ragged lists, and what is refused."""

import json
import math

import numpy as np
import pytest
from fixtures_folder import REFERENCE_NUMBERS

import jdarts
from jdarts.errors import InputError
from jdarts.space import DARTS_PRIMITIVES, SearchSpace, cell_kinds, darts_space, reduction_cells, uniform_space

SPACES_FILE = REFERENCE_NUMBERS / "spaces.json"
RAGGED = [["none", "skip_connect", "sep_conv_3x3"], ["max_pool_3x3"]]


def test_the_space_of_the_paper():
    space = darts_space()
    assert DARTS_PRIMITIVES == (
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    )
    assert (space.nodes, space.num_edges, space.concat) == (4, 14, (2, 3, 4, 5))
    assert space.edges == (
        *((0, 2), (1, 2)),
        *((0, 3), (1, 3), (2, 3)),
        *((0, 4), (1, 4), (2, 4), (3, 4)),
        *((0, 5), (1, 5), (2, 5), (3, 5), (4, 5)),
    )
    for kind in ("normal", "reduce"):
        assert space.operations(kind) == (DARTS_PRIMITIVES,) * 14
        assert space.width(kind) == 8
    assert space == jdarts.darts_space() == uniform_space() and hash(space) == hash(darts_space())


def test_the_paper_counts_its_discrete_cells():
    space = darts_space()
    choices = len(set(DARTS_PRIMITIVES) - {"none"})
    incoming = [sum(end == target for _, end in space.edges) for target in range(2, 2 + space.nodes)]
    assert math.prod(math.comb(edges, 2) * choices**2 for edges in incoming) == 1_037_664_180


@pytest.mark.parametrize("nodes", [1, 2, 3, 7])
def test_uniform_spaces(nodes):
    space = uniform_space(["none", "skip_connect"], nodes=nodes, concat=[2])
    assert (space.nodes, space.num_edges, space.concat) == (nodes, nodes * (nodes + 3) // 2, (2,))
    assert set(space.normal) == set(space.reduce) == {("none", "skip_connect")}
    assert len(space.edges) == space.num_edges
    assert all(0 <= source < target < 2 + nodes for source, target in space.edges)
    assert sorted(space.edges, key=lambda edge: edge[::-1]) == list(space.edges)


def test_lists_may_differ_in_length_and_are_stored_as_tuples():
    space = SearchSpace(normal=RAGGED, reduce=RAGGED[::-1], concat=np.array([2]))  # pyright: ignore[reportArgumentType]
    assert space.normal == (("none", "skip_connect", "sep_conv_3x3"), ("max_pool_3x3",))
    assert space.operations("reduce") == space.reduce == space.normal[::-1]
    assert space.width("normal") == space.width("reduce") == 3
    assert space == SearchSpace(space.normal, space.reduce, (2,)) and hash(space)
    assert type(space.concat[0]) is int
    narrow = SearchSpace(space.normal, (("noise",), ("skip_connect",)))
    assert (narrow.width("normal"), narrow.width("reduce")) == (3, 1)
    assert space != narrow


@pytest.mark.parametrize("name", ["S1", "S2", "S3", "S4"])
def test_published_smaller_spaces(name):
    lists = json.loads(SPACES_FILE.read_text())[name]
    space = SearchSpace(lists["normal"], lists["reduce"])
    assert (space.nodes, space.num_edges) == (4, 14)
    assert [list(edge) for edge in space.normal] == lists["normal"]
    assert [list(edge) for edge in space.reduce] == lists["reduce"]


#: A changed field of a space of one node, and words of the message.
WRONG = {
    "unknown operation": ({"normal": [["skip"], ["noise"]]}, "'skip' on edge 0 of the normal cell; known are none"),
    "operation of no search": (
        {"reduce": [["noise"], ["conv_7x1_1x7"]]},
        "'conv_7x1_1x7' on edge 1 of the reduce cell",
    ),
    "a number": ({"normal": [["noise"], [3]]}, "unknown operation 3 on edge 1 of the normal cell"),
    "an operation twice": ({"normal": [["noise", "noise"], ["noise"]]}, "edge 0 of the normal cell names an operation"),
    "only none": ({"reduce": [["noise"], ["none"]]}, "edge 1 of the reduce cell has no operation"),
    "an edge without operations": ({"normal": [[], ["noise"]]}, "edge 0 of the normal cell has no operation"),
    "cells that differ": ({"normal": RAGGED + RAGGED[:1] * 3}, "5 edges in the normal cell, 2 in the reduction cell"),
    "edges of no node": ({"normal": RAGGED * 2, "reduce": RAGGED * 2}, "4 edges do not fill nodes of 2, 3, 4"),
    "no edges": ({"normal": [], "reduce": []}, "0 edges do not fill nodes"),
    "concat of an input": ({"concat": [1, 2]}, r"(1, 2); give each of the node states 2 to 2"),
    "concat beyond": ({"concat": [3]}, r"(3,); give each of the node states 2 to 2"),
    "concat twice": ({"concat": [2, 2]}, r"(2, 2); give each of the node states 2 to 2 at most once"),
    "concat of a float": ({"concat": [2.0]}, r"(2.0,); give each of the node states"),
}


@pytest.mark.parametrize(("changes", "words"), WRONG.values(), ids=WRONG)
def test_wrong_spaces_are_explained(changes, words):
    with pytest.raises(InputError, match=r"^search space: ") as caught:
        SearchSpace(**({"normal": RAGGED, "reduce": RAGGED} | changes))
    assert words in str(caught.value)
    assert len(str(caught.value)) <= 220


def test_a_uniform_space_needs_a_node():
    with pytest.raises(InputError, match=r"0 nodes; give 1 or more"):
        uniform_space(nodes=0)


@pytest.mark.parametrize(
    ("cells", "reductions"),
    [(8, (2, 5)), (20, (6, 13)), (14, (4, 9)), (1, (0,)), (2, (0, 1)), (3, (1, 2)), (6, (2, 4))],
)
def test_reduction_cells_lie_at_a_third_and_two_thirds(cells, reductions):
    assert reduction_cells(cells) == reductions
    kinds = cell_kinds(cells)
    assert len(kinds) == cells
    assert tuple(index for index, kind in enumerate(kinds) if kind == "reduce") == reductions
    assert set(kinds) <= {"normal", "reduce"}


@pytest.mark.parametrize("cells", [0, -1])
def test_a_network_needs_a_cell(cells):
    for function in (reduction_cells, cell_kinds):
        with pytest.raises(InputError, match=rf"^{cells} cells"):
            function(cells)
