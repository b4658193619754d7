"""Genotypes: what is written reads back, and what is wrong is named, never evaluated."""

import dataclasses
import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jdarts.errors import InputError
from jdarts.genotype import Genotype, genotype_from_json, nodes_of, num_states, parse_genotype
from jdarts.operations import OPERATIONS
from jdarts.zoo import CELLS

#: As quark0/darts prints it: the repr of its namedtuple.
DARTS_TEXT = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)
CELL = [("sep_conv_3x3", 0), ("skip_connect", 1)]
LONGEST_MESSAGE = 220


@st.composite
def genotypes(draw):
    nodes, edges_per_node = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    operation = st.sampled_from(tuple(OPERATIONS))
    cell = st.tuples(
        *(
            st.tuples(operation, st.integers(0, node + 1))
            for node in range(nodes)
            for _ in range(min(edges_per_node, node + 2))
        )
    )
    concat = st.lists(st.integers(0, nodes + 1), min_size=1, unique=True)
    return Genotype(draw(cell), tuple(draw(concat)), draw(cell), tuple(draw(concat)), edges_per_node)


def small(**changes):
    """The fields of a genotype of one node, some of them changed."""
    return {"normal": CELL, "normal_concat": [2], "reduce": CELL, "reduce_concat": [2]} | changes


def as_text(**changes):
    """The text of a small genotype; changed fields are given as they are to be written."""
    fields = {name: repr(value) for name, value in small().items()} | changes
    return f"Genotype({', '.join(f'{name}={value}' for name, value in fields.items())})"


def as_json(**changes):
    fields = {name: json.dumps(value) for name, value in small().items()} | changes
    return "{" + ", ".join(f'"{name}": {value}' for name, value in fields.items()) + "}"


def check_round_trips(genotype):
    for read in (
        parse_genotype(str(genotype)),
        parse_genotype(f"\n  {genotype}\n"),
        parse_genotype(genotype.to_json()),
        genotype_from_json(genotype.to_json()),
        pickle.loads(pickle.dumps(genotype)),
    ):
        assert read == genotype
        assert hash(read) == hash(genotype)
        assert str(read) == str(genotype)


@pytest.mark.parametrize("name", CELLS)
def test_published_cells_read_back(name):
    check_round_trips(CELLS[name])


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(genotypes())
def test_any_genotype_reads_back(genotype):
    check_round_trips(genotype)
    entry = json.loads(genotype.to_json())
    assert list(entry)[:4] == ["normal", "normal_concat", "reduce", "reduce_concat"]
    assert entry.get("edges_per_node", 2) == genotype.edges_per_node
    assert ("edges_per_node" in entry) == (genotype.edges_per_node != 2) == ("edges_per_node" in str(genotype))


@st.composite
def unequal_genotypes(draw):
    """Cells of nodes with 0 to 4 edges; no node is read that has none."""
    cells, counts = {}, []
    for kind in ("normal", "reduce"):
        sizes = draw(st.lists(st.integers(0, 4), min_size=1, max_size=5).filter(any))
        states = [0, 1, *(2 + node for node, size in enumerate(sizes) if size)]
        cells[kind] = tuple(
            (draw(st.sampled_from(tuple(OPERATIONS))), draw(st.sampled_from([s for s in states if s < node + 2])))
            for node, size in enumerate(sizes)
            for _ in range(size)
        )
        cells[f"{kind}_concat"] = tuple(draw(st.lists(st.sampled_from(states), min_size=1, unique=True)))
        counts.append(tuple(sizes))
    return Genotype(**cells, edges_per_node=tuple(counts)), counts


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(unequal_genotypes())
def test_nodes_may_have_any_number_of_edges(drawn):
    genotype, counts = drawn
    check_round_trips(genotype)
    for kind, numbers in zip(("normal", "reduce"), counts):
        assert [len(node) for node in genotype.nodes(kind)] == list(numbers)
        assert sum(genotype.nodes(kind), ()) == getattr(genotype, kind)
    assert dataclasses.replace(genotype, edges_per_node=tuple(counts)) == genotype
    in_nodes = {kind: genotype.nodes(kind) for kind in ("normal", "reduce") if all(map(len, genotype.nodes(kind)))}
    assert dataclasses.replace(genotype, **in_nodes) == genotype


def test_the_text_of_unequal_nodes():
    genotype = Genotype(**small(normal=[*CELL, ("noise", 0)], normal_concat=[2, 4], edges_per_node=((2, 0, 1), (1, 1))))
    assert str(genotype) == (
        "Genotype(normal=[('sep_conv_3x3', 0), ('skip_connect', 1), ('noise', 0)], normal_concat=[2, 4], "
        "reduce=[('sep_conv_3x3', 0), ('skip_connect', 1)], reduce_concat=range(2, 3), edges_per_node=((2, 0, 1), (1, 1)))"
    )
    assert json.loads(genotype.to_json())["edges_per_node"] == [[2, 0, 1], [1, 1]]


def test_numbers_that_one_number_stands_for_are_that_number():
    expected = Genotype(**small(normal=CELL * 2))
    assert Genotype(**small(normal=CELL * 2, edges_per_node=[[2, 2], [2]])) == expected
    three = small(normal=[*CELL, *CELL, ("noise", 2)], edges_per_node=((2, 3), (2,)))
    assert Genotype(**three).edges_per_node == 3
    assert Genotype(**small(edges_per_node=((1, 1), (2,)))).edges_per_node == ((1, 1), (2,))


#: Changed fields of a genotype with unequal nodes, and words of the message.
WRONG_COUNTS = {
    "too few edges": ({"edges_per_node": ((2, 1), (2,))}, "normal has 2 edges", "nodes of (2, 1) edges"),
    "too many edges": ({"edges_per_node": ((2,), (1,))}, "reduce has 2 edges", "nodes of (1,) edges"),
    "no edge at all": ({"normal": [], "edges_per_node": ((0, 0), (2,))}, "normal has 0 edges", "add or remove"),
    "one cell": ({"edges_per_node": ((2,),)}, "edges_per_node is ((2,),)", "first of the normal cell"),
    "a negative number": ({"edges_per_node": ((3, -1), (2,))}, "((3, -1), (2,))", "number of edges of each node"),
    "a number for a cell": ({"edges_per_node": (2, 2)}, "edges_per_node is 2", "expected a list"),
    "other lists": (
        {"normal": [CELL, CELL[:1]], "edges_per_node": ((1, 2), (2,))},
        "nodes of 2, 1 edges",
        "same numbers",
    ),
    "an edge from a node without edges": (
        {"normal": [CELL[0], ("noise", 2)], "edges_per_node": ((0, 1, 1), (2,)), "normal_concat": [3]},
        "('noise', 2) in normal reads state 2",
        "leave it out",
    ),
    "a node without edges joins the output": (
        {"edges_per_node": ((2, 0), (2,)), "normal_concat": [2, 3]},
        "normal_concat in normal reads state 3",
        "leave it out",
    ),
}


@pytest.mark.parametrize(("changes", "value", "mend"), WRONG_COUNTS.values(), ids=list(WRONG_COUNTS))
def test_wrong_numbers_of_edges_are_named(changes, value, mend):
    with pytest.raises(InputError) as error:
        Genotype(**small(**changes))
    assert value in str(error.value) and mend in str(error.value)


@settings(derandomize=True, database=None, deadline=None, max_examples=60)
@given(genotypes())
def test_nodes_hold_all_edges_in_order(genotype):
    for cell in (genotype.normal, genotype.reduce):
        nodes = nodes_of(cell, genotype.edges_per_node)
        assert sum(nodes, ()) == cell
        assert [len(node) for node in nodes] == [min(genotype.edges_per_node, i + 2) for i in range(len(nodes))]
        assert num_states(cell, genotype.edges_per_node) == 2 + len(nodes)


def test_the_text_is_that_of_the_reference_implementation():
    assert str(CELLS["DARTS_V2"]) == DARTS_TEXT
    assert parse_genotype(DARTS_TEXT) == CELLS["DARTS_V2"]
    assert str(CELLS["AmoebaNet"]).endswith("reduce_concat=[3, 4, 6])")
    assert parse_genotype(DARTS_TEXT.replace("range(2, 6)", "[2, 3, 4, 5]")) == CELLS["DARTS_V2"]
    by_position = DARTS_TEXT
    for name in ("normal_concat=", "normal=", "reduce_concat=", "reduce="):
        by_position = by_position.replace(name, "")
    assert parse_genotype(by_position) == CELLS["DARTS_V2"]
    assert parse_genotype(DARTS_TEXT.replace("), (", "),\n    (")) == CELLS["DARTS_V2"]


def test_the_json_is_that_of_the_published_lists():
    assert json.loads(Genotype(**small()).to_json()) == {
        "normal": [["sep_conv_3x3", 0], ["skip_connect", 1]],
        "normal_concat": [2],
        "reduce": [["sep_conv_3x3", 0], ["skip_connect", 1]],
        "reduce_concat": [2],
    }


def test_sequences_of_any_kind_are_stored_as_tuples():
    expected = Genotype(tuple(CELL), (2,), tuple(CELL), (2,))
    for given_ in (
        small(normal=[list(edge) for edge in CELL], normal_concat=range(2, 3)),
        small(reduce=tuple(CELL), reduce_concat=np.array([2]), edges_per_node=np.int64(2)),
        small(normal=[(np.str_(name), np.int32(source)) for name, source in CELL]),
    ):
        genotype = Genotype(**given_)
        assert genotype == expected and hash(genotype) == hash(expected)
        check_round_trips(genotype)
        assert all(type(name) is str and type(source) is int for name, source in genotype.normal)


def test_what_differs_is_not_equal():
    first = Genotype(**small())
    for changes in (
        {"normal": CELL[::-1]},
        {"reduce": [("sep_conv_3x3", 0), ("skip_connect", 0)]},
        {"normal_concat": [1, 2]},
        {"edges_per_node": 3},
    ):
        assert Genotype(**small(**changes)) != first
    assert Genotype(**small(normal_concat=[1, 2])) != Genotype(**small(normal_concat=[2, 1]))
    with pytest.raises(AttributeError):
        first.normal = ()  # pyright: ignore[reportAttributeAccessIssue]


#: A changed field, and words of the message: what was given, and the mend.
WRONG = {
    "unknown operation": ({"normal": [("sep_conv_9x9", 0), CELL[1]]}, "'sep_conv_9x9' in normal", "sep_conv_7x7"),
    "none": ({"reduce": [("none", 0), CELL[1]]}, "'none' in reduce", "known are"),
    "operation is a number": ({"normal": [(3, 0), CELL[1]]}, "operation 3 in normal", "known are"),
    "operation is a list": ({"normal": [([], 0), CELL[1]]}, "operation [] in normal", "known are"),
    "own node": ({"normal": [("noise", 2), CELL[1]]}, "('noise', 2) in normal", "from 0 to 1"),
    "later node": ({"normal": [*CELL, *CELL[:1], ("noise", 4)]}, "('noise', 4) in normal", "from 0 to 2"),
    "negative source": ({"normal": [("noise", -1), CELL[1]]}, "('noise', -1) in normal", "from 0 to 1"),
    "source is a bool": ({"normal": [("noise", True), CELL[1]]}, "('noise', True) in normal", "whole number"),
    "source is a float": ({"normal": [("noise", 1.0), CELL[1]]}, "('noise', 1.0) in normal", "whole number"),
    "source is NaN": ({"normal": [("noise", float("nan")), CELL[1]]}, "('noise', nan)", "whole number"),
    "source is a text": ({"normal": [("noise", "1"), CELL[1]]}, "('noise', '1') in normal", "whole number"),
    "odd number of edges": ({"normal": [*CELL, CELL[0]]}, "normal has 3 edges", "add or remove"),
    "no edges": ({"reduce": []}, "reduce has 0 edges", "add or remove"),
    "nodes of three edges": ({"normal": CELL * 2, "edges_per_node": 3}, "4 edges", "nodes of 3 edges"),
    "three values to an edge": ({"normal": [("noise", 0, 1), CELL[1]]}, "('noise', 0, 1) in normal", "pair"),
    "an edge is a number": ({"normal": [3, CELL[1]]}, "edge of normal is 3", "list"),
    "a text for a cell": ({"normal": "skip_connect"}, "normal is 'skip_connect'", "list"),
    "no cell": ({"normal": None}, "normal is None", "list"),
    "a dict for a cell": ({"normal": {}}, "normal is {}", "list"),
    "concat beyond": ({"normal_concat": [3]}, "normal_concat is [3]", "from 0 to 2"),
    "concat negative": ({"reduce_concat": [-1]}, "reduce_concat is [-1]", "from 0 to 2"),
    "concat empty": ({"normal_concat": []}, "normal_concat is []", "from 0 to 2"),
    "concat twice": ({"normal_concat": [2, 2]}, "normal_concat is [2, 2]", "once"),
    "concat of a float": ({"normal_concat": [2.0]}, "normal_concat is [2.0]", "from 0 to 2"),
    "concat of a bool": ({"normal_concat": [True]}, "normal_concat is [True]", "from 0 to 2"),
    "concat of NaN": ({"normal_concat": [float("nan")]}, "normal_concat is [nan]", "from 0 to 2"),
    "concat is a number": ({"normal_concat": 2}, "normal_concat is 2", "list"),
    "no edge per node": ({"edges_per_node": 0}, "edges_per_node is 0", "1 or more"),
    "edges_per_node is a bool": ({"edges_per_node": True}, "edges_per_node is True", "1 or more"),
    "edges_per_node is a float": ({"edges_per_node": 2.0}, "edges_per_node is 2.0", "1 or more"),
    "a very long name": ({"normal": [("x" * 10**6, 0), CELL[1]]}, "'xxxx", "known are"),
    "a very large source": ({"normal": [("noise", 10**4000), CELL[1]]}, "('noise', 1000", "from 0 to 1"),
}


def explained(read, *words):
    with pytest.raises(InputError) as caught:
        read()
    message = str(caught.value)
    assert message.startswith("genotype: ")
    assert len(message) <= LONGEST_MESSAGE
    for word in words:
        assert word in message
    message.encode()


@pytest.mark.parametrize(("changes", "found", "mend"), WRONG.values(), ids=WRONG)
def test_wrong_fields_are_explained(changes, found, mend):
    explained(lambda: Genotype(**small(**changes)), found, mend)
    if "nan" not in found:
        explained(lambda: parse_genotype(as_text(**{name: repr(value) for name, value in changes.items()})), mend)
    explained(lambda: genotype_from_json(as_json(**{name: json.dumps(value) for name, value in changes.items()})), mend)


def test_sets_have_no_order_and_are_refused():
    explained(lambda: Genotype(**small(normal_concat={2})), "normal_concat is {2}", "list")
    explained(lambda: Genotype(**small(normal=set(CELL))), "normal is {", "list")


def test_numbers_too_long_to_print_are_explained():
    explained(lambda: Genotype(**small(normal=[("noise", 10**5000), CELL[1]])), "from 0 to 1")
    explained(lambda: parse_genotype(as_text(normal=f"[('noise', 0x{'f' * 6000}), ('noise', 1)]")), "from 0 to 1")


#: Texts of which nothing may be evaluated, and words of the message.
FOREIGN = {
    "import": ("__import__('os').system('true')", "__import__"),
    "attribute of a module": ("jdarts.Genotype()", "expected Genotype("),
    "another call": (as_text(normal_concat="sorted(range(2, 6))"), "normal_concat is 'sorted(range(2, 6))'"),
    "a name": (as_text(normal_concat="os.path"), "normal_concat is 'os.path'"),
    "arithmetic": (as_text(normal_concat="[10**10**10]"), "normal_concat is '[10**10**10]'"),
    "repetition": (as_text(normal=f"{CELL}*2"), "normal is "),
    "an f-string": (as_text(normal_concat="f'{1}'"), "normal_concat is "),
    "a lambda": (as_text(normal_concat="lambda: 2"), "normal_concat is 'lambda: 2'"),
    "an assignment": (as_text(normal_concat="(a := [2])"), "normal_concat is "),
    "a comprehension": (as_text(normal_concat="[i for i in (2,)]"), "normal_concat is "),
    "a set of lists": (as_text(normal_concat="{[]}"), "normal_concat is "),
    "a huge range": (as_text(normal_concat="range(2, 999999999999)"), "normal_concat is 'range(2, 999999999999)'"),
    "a huge negative range": (as_text(normal_concat="range(-999999999999, 2)"), "normal_concat is "),
    "range of a product": (as_text(normal_concat="range(2, 10**12)"), "normal_concat is "),
    "range without bounds": (as_text(normal_concat="range()"), "normal_concat is 'range()'"),
    "range of four": (as_text(normal_concat="range(1, 2, 3, 4)"), "normal_concat is "),
    "range of steps of 0": (as_text(normal_concat="range(2, 6, 0)"), "normal_concat is "),
    "range with keywords": (as_text(normal_concat="range(2, stop=6)"), "normal_concat is "),
    "range of unpacked bounds": (as_text(normal_concat="range(*[2, 6])"), "normal_concat is "),
    "an empty range": (as_text(normal_concat="range(6, 2)"), "normal_concat is ()"),
    "unpacked values": (f"Genotype(*[{CELL}])", "normal is "),
    "unpacked fields": (f"Genotype(**{small()})", "unknown field '**'; known are"),
    "brackets in brackets": (as_text(normal_concat="[" * 10**5 + "]" * 10**5), "cannot read"),
    "some brackets in brackets": (as_text(normal_concat="[" * 150 + "]" * 150), "normal_concat is [[["),
    "open parentheses": ("(" * 10**5, "cannot read"),
    "many attributes": (as_text(normal_concat="a" + ".b" * 900), "normal_concat is "),
    "many signs": (as_text(normal_concat="-" * 10**5 + "1"), "cannot read"),
    "many terms": (as_text(normal_concat="1" + "+1" * 900), "normal_concat is "),
    "a huge text": ("x" * 10**6, "cannot read 'xxx"),
    "a huge cell": (as_text(normal=f"'{'x' * 10**6}'"), "normal is 'xxx"),
    "a huge number": (as_text(normal_concat=f"[{'9' * 5000}]"), "cannot read"),
    "many fields": (as_text(**{f"field_{i}": "1" for i in range(2000)}), "unknown field 'field_0'"),
    "a NUL": ("Genotype(\0)", "cannot read"),
    "half a surrogate pair": ("\ud800", r"cannot read '\ud800'"),
    "nothing": ("", "cannot read ''"),
    "two statements": ("Genotype(); Genotype()", "cannot read"),
    "no field": ("Genotype()", "normal, normal_concat, reduce, reduce_concat missing"),
    "a field that is missing": (f"Genotype(normal={CELL}, reduce={CELL}, reduce_concat=[2])", "normal_concat missing"),
    "a field that is unknown": (as_text(recurrent="[]"), "unknown field 'recurrent'; known are normal"),
    "a field given twice": (as_text()[:-1] + ", reduce=[])", "'reduce' appears twice"),
    "a field by place and by name": ("Genotype([], normal=[])", "'normal' appears twice"),
    "too many values": ("Genotype(1, 2, 3, 4, 5, 6)", "6 values; give normal, normal_concat"),
    "a JSON list": ("[1, 2]", "or a JSON object"),
}


@pytest.mark.parametrize(("text", "words"), FOREIGN.values(), ids=FOREIGN)
def test_foreign_texts_are_refused_and_explained(text, words):
    explained(lambda: parse_genotype(text), words)


#: Texts that are not the JSON of a genotype, and words of the message.
FOREIGN_JSON = {
    "nothing": ("", "not valid JSON"),
    "cut off": (as_json()[:-20], "not valid JSON"),
    "something behind": (as_json() + " x", "not valid JSON"),
    "a list": (json.dumps(list(small().values())), "expected an object with normal"),
    "null": ("null", "found None"),
    "a number": ("NaN", "found nan"),
    "concat is NaN": (as_json(normal_concat="NaN"), "normal_concat is nan"),
    "concat is infinite": (as_json(normal_concat="[Infinity]"), "normal_concat is [inf]"),
    "no field": ("{}", "normal, normal_concat, reduce, reduce_concat missing"),
    "a field that is missing": ('{"normal": []}', "normal_concat, reduce, reduce_concat missing"),
    "a field that is unknown": (as_json(name='"DARTS"'), "unknown field 'name'; known are normal"),
    "a field given twice": (as_json()[:-1] + ', "reduce": []}', "'reduce' appears twice"),
    "many fields": (as_json(**{f"field_{i}": "1" for i in range(2000)}), "unknown field 'field_0'"),
    "a long field": (as_json(**{"x" * 10**5: "1"}), "unknown field 'xxx"),
    "brackets in brackets": (as_json(normal="[" * 10**5), "nested too deep"),
    "some brackets in brackets": (as_json(normal_concat="[" * 400 + "]" * 400), "normal_concat is [[["),
    "a huge number": (as_json(normal_concat=f"[{'9' * 5000}]"), "number too long"),
}


@pytest.mark.parametrize(("text", "words"), FOREIGN_JSON.values(), ids=FOREIGN_JSON)
def test_foreign_json_is_refused_and_explained(text, words):
    explained(lambda: genotype_from_json(text), words)


@settings(derandomize=True, database=None, deadline=None, max_examples=150)
@given(st.data())
def test_damaged_texts_are_read_or_refused_never_anything_else(data):
    text = data.draw(st.sampled_from([DARTS_TEXT, CELLS["AmoebaNet"].to_json()]))
    start = data.draw(st.integers(0, len(text)))
    stop = data.draw(st.integers(start, min(len(text), start + 8)))
    damaged = text[:start] + data.draw(st.text(alphabet="()[]{},:='\"0129-*. a\\\n", max_size=4)) + text[stop:]
    try:
        genotype = parse_genotype(damaged)
    except InputError as error:
        assert len(str(error)) <= LONGEST_MESSAGE
    else:
        check_round_trips(genotype)
