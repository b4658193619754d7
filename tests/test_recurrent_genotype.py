"""Recurrent genotypes, their space, derivation and drawings."""

import dataclasses
import json
import math
import pickle
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from fixtures_folder import REFERENCE_NUMBERS, fixture_files
from hypothesis import given, settings
from hypothesis import strategies as st

from jdarts import checkpoint, zoo
from jdarts.command import run_command
from jdarts.derivation import derive_recurrent_genotype as derive
from jdarts.derive import genotype_of, main
from jdarts.errors import InputError
from jdarts.genotype import Genotype, RecurrentGenotype, genotype_from_json, parse_genotype
from jdarts.operations import ACTIVATIONS
from jdarts.report import draw_cells, draw_genotype
from jdarts.report.cell_figure import cells_figure, drawn_nodes
from jdarts.space import RECURRENT_PRIMITIVES, RecurrentSpace, recurrent_space

#: As quark0/darts prints it: the repr of its namedtuple.
DARTS_TEXT = (
    "Genotype(recurrent=[('sigmoid', 0), ('relu', 1), ('relu', 1), ('identity', 1), ('tanh', 2), ('sigmoid', 5), "
    "('tanh', 3), ('relu', 5)], concat=range(1, 9))"
)
GENOTYPES_FILE = REFERENCE_NUMBERS / "genotypes.json"
NAMES = ("ENAS", "DARTS_V1", "DARTS_V2")
RAGGED = RecurrentSpace(
    recurrent=(("relu", "none"), ("tanh", "none"), ("none", "identity", "sigmoid"), *[RECURRENT_PRIMITIVES] * 3),
    concat=(1, 3),
)


@st.composite
def genotypes(draw):
    nodes = draw(st.integers(1, 12))
    cell = st.tuples(*(st.tuples(st.sampled_from(tuple(ACTIVATIONS)), st.integers(0, node)) for node in range(nodes)))
    return RecurrentGenotype(draw(cell), tuple(draw(st.lists(st.integers(0, nodes), min_size=1, unique=True))))


def check_round_trips(genotype):
    for read in (
        parse_genotype(str(genotype)),
        parse_genotype(f"Recurrent{genotype}"),
        parse_genotype(f"\n {genotype.to_json()}\n", RecurrentGenotype),
        genotype_from_json(genotype.to_json()),
        pickle.loads(pickle.dumps(genotype)),
    ):
        assert read == genotype
        assert hash(read) == hash(genotype)
        assert str(read) == str(genotype)


@settings(derandomize=True, database=None, deadline=None, max_examples=40)
@given(genotypes())
def test_any_genotype_reads_back(genotype):
    check_round_trips(genotype)


def test_the_text_is_that_of_the_reference_implementation():
    assert str(zoo.DARTS_V2_RECURRENT) == DARTS_TEXT
    assert parse_genotype(DARTS_TEXT) == zoo.DARTS_V2_RECURRENT
    by_position = DARTS_TEXT.replace("recurrent=", "").replace("concat=", "")
    assert parse_genotype(by_position) == zoo.DARTS_V2_RECURRENT
    assert str(zoo.ENAS).endswith("concat=[2, 5, 6, 9, 10, 11])")


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_the_published_ones(name):
    check_round_trips(zoo.RECURRENT_CELLS[name])
    entry = json.loads(GENOTYPES_FILE.read_text())["rnn"][name]
    fields = {field: entry[field] for field in ("recurrent", "concat")}
    assert RecurrentGenotype(**fields) == zoo.RECURRENT_CELLS[name]
    assert json.loads(zoo.RECURRENT_CELLS[name].to_json()) == fields


def test_names_and_aliases():
    assert set(zoo.RECURRENT_CELLS) == {*NAMES, "DARTS"}
    assert zoo.RECURRENT_CELLS["DARTS"] is zoo.DARTS_V2_RECURRENT
    assert zoo.RECURRENT_CELLS["DARTS_V1"] is zoo.DARTS_V1_RECURRENT
    assert zoo.RECURRENT_CELLS["ENAS"] is zoo.ENAS


def test_sequences_of_any_kind_are_stored_as_tuples():
    genotype = RecurrentGenotype([[np.str_("tanh"), np.int64(0)]], np.array([1]))  # pyright: ignore[reportArgumentType]
    assert genotype == RecurrentGenotype((("tanh", 0),), (1,))
    check_round_trips(genotype)


@pytest.mark.parametrize(
    ("recurrent", "concat", "words"),
    [
        ([("none", 0)], [1], "unknown operation 'none' in recurrent; known are tanh, relu"),
        ([("skip_connect", 0)], [1], "unknown operation 'skip_connect' in recurrent"),
        ([("tanh", 1)], [1], r"\('tanh', 1\) in recurrent leads to state 1; its source must be a state from 0 to 0"),
        ([("tanh", 0), ("relu", -1)], [1], "leads to state 2"),
        ([("tanh", True)], [1], "must be a whole number"),
        ([("tanh",)], [1], "not a pair"),
        ([], [0], "no node; give one or more"),
        ("tanh", [1], "expected a list"),
        ([("tanh", 0)], [2], r"concat is \[2\]; give states from 0 to 1"),
        ([("tanh", 0)], [], "give states from 0 to 1"),
        ([("tanh", 0)], [1, 1], "give each state once"),
    ],
)
def test_what_is_wrong_is_named(recurrent, concat, words):
    with pytest.raises(InputError, match=words):
        RecurrentGenotype(recurrent, concat)


def test_the_wrong_kind_and_missing_fields_are_named():
    with pytest.raises(InputError, match="a recurrent cell is given; a convolutional cell is needed"):
        parse_genotype(DARTS_TEXT, Genotype)
    with pytest.raises(InputError, match="a convolutional cell is given; a recurrent cell is needed"):
        parse_genotype(zoo.DARTS_V2.to_json(), RecurrentGenotype)
    with pytest.raises(InputError, match="concat missing"):
        parse_genotype("Genotype(recurrent=[('tanh', 0)])")
    with pytest.raises(InputError, match="unknown field 'nodes'; known are recurrent, concat"):
        parse_genotype('{"recurrent": [["tanh", 0]], "concat": [1], "nodes": 1}')
    with pytest.raises(InputError, match="expected a plain list"):
        parse_genotype("Genotype(recurrent=open('/etc/passwd'), concat=[1])")


def test_the_papers_space():
    space = recurrent_space()
    assert (space.nodes, space.num_edges, space.width) == (8, 36, 5)
    assert space.edges[:4] == ((0, 1), (0, 2), (1, 2), (0, 3))
    assert space.concat == tuple(range(1, 9))
    assert space.discrete_cells == 2_642_411_520 == math.factorial(8) * 4**8
    assert RecurrentSpace(**json.loads(json.dumps(dataclasses.asdict(space)))) == space


def test_cells_of_a_small_space_are_counted():
    draw = np.random.default_rng(0)
    found = {derive(draw.normal(scale=3, size=(RAGGED.num_edges, RAGGED.width)), RAGGED) for _ in range(1000)}
    assert len(found) == RAGGED.discrete_cells == 1 * (1 + 2) * (4 + 4 + 4)


def test_what_is_no_space():
    for arguments, words in (
        ((("tanh",),) * 2, "2 edges do not fill nodes of 1, 2, 3"),
        ((("none",),), "edge 0 of the recurrent cell has no operation"),
        ((("tanh", "tanh"),), "twice"),
        ((("sep_conv_3x3",),), "known are none, tanh, relu, sigmoid, identity"),
    ):
        with pytest.raises(InputError, match=words):
            RecurrentSpace(arguments)
    with pytest.raises(InputError, match=r"concat is \(0,\); give each of the node states 1 to 8"):
        recurrent_space(concat=[0])
    with pytest.raises(InputError, match="0 nodes"):
        recurrent_space(nodes=0)


@pytest.mark.parametrize("space", [recurrent_space(), RAGGED], ids=["darts", "ragged"])
def test_each_node_keeps_its_strongest_edge(space):
    for seed in range(5):
        alphas = np.random.default_rng(seed).normal(size=(space.num_edges, space.width))
        genotype = derive(alphas, space)
        assert genotype.concat == space.concat
        for node, chosen in enumerate(genotype.recurrent, 1):
            strengths = {}
            for edge, (source, target) in enumerate(space.edges):
                names = space.recurrent[edge]
                total = sum(math.exp(value) for value in alphas[edge][: len(names)])
                for name, value in zip(names, alphas[edge]):
                    if target == node and name != "none":
                        strengths[name, source] = math.exp(value) / total
            assert chosen == max(strengths, key=lambda key: strengths[key])


def test_wrong_alphas_are_refused():
    with pytest.raises(InputError, match=r"recurrent cell have shape \(36, 4\); this space needs \(36, 5\)"):
        derive(np.zeros((36, 4)), recurrent_space())
    with pytest.raises(InputError, match="not all finite"):
        derive(np.full((36, 5), np.nan), recurrent_space())


@pytest.mark.parametrize("path", fixture_files("rnn_search*.npz"))
def test_derives_what_the_reference_derives(path):
    with np.load(path) as stored:
        alphas, ops, sources = stored["alphas"], stored["genotype/op"], stored["genotype/pred"]
    space = recurrent_space(nodes=len(ops))
    expected = tuple((RECURRENT_PRIMITIVES[op], int(source)) for op, source in zip(ops, sources))
    assert derive(alphas, space).recurrent == expected


def test_records_of_recurrent_searches():
    space = recurrent_space()
    alphas = np.random.default_rng(0).normal(size=(36, 5))
    record = json.loads(json.dumps({"space": dataclasses.asdict(space), "alphas": alphas.tolist()}))
    assert genotype_of(record) == genotype_of(record, edges_per_node=1) == derive(alphas, space)
    with pytest.raises(InputError, match="2 edges per node; nodes of a recurrent cell have 1"):
        genotype_of(record, edges_per_node=2)


def test_the_command_prints_and_draws(monkeypatch, capsys, tmp_path):
    space = recurrent_space()
    alphas = np.random.default_rng(0).normal(size=(36, 5))
    record = {"space": dataclasses.asdict(space), "alphas": alphas.tolist()}
    monkeypatch.setattr(checkpoint, "find", lambda path, skipped: SimpleNamespace(record=record, step=7))
    for arguments in ([], ["--json"]):
        monkeypatch.setattr(sys, "argv", ["derive", str(tmp_path), "--draw", str(tmp_path / "cell.svg"), *arguments])
        with pytest.raises(SystemExit) as ended:
            run_command(main)
        assert ended.value.code == 0
        assert parse_genotype(capsys.readouterr().out) == derive(alphas, space)
    assert (tmp_path / "cell.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.parametrize("name", NAMES)
def test_drawings_show_every_edge(name, tmp_path):
    genotype = zoo.RECURRENT_CELLS[name]
    figure = cells_figure(genotype, ("recurrent",), "a cell")
    parts: dict[str, Any] = {str(artist.get_gid()): artist for artist in figure.findobj() if artist.get_gid()}
    written = {gid: artist.get_text() for gid, artist in parts.items() if gid.endswith("-text")}
    nodes = len(genotype.recurrent)
    # Edges 0 and 1 lead from the input and the last hidden state to state 0 and carry no operation.
    assert {f"recurrent-edge-{i}" for i in range(nodes + 2)} < set(parts)
    labels = {f"recurrent-label-{i + 2}-text": op for i, (op, _) in enumerate(genotype.recurrent)}
    assert {gid: text for gid, text in written.items() if "label" in gid} == labels
    states = ["$x_t$", "$h_{t{-}1}$", *map(str, range(nodes + 1))]
    assert [written[f"recurrent-state-{i}-text"] for i in range(nodes + 3)] == states
    assert written["recurrent-output-text"] == "$h_t$"
    drawn, concat = drawn_nodes(genotype, "recurrent")
    assert [node[0] for node in drawn[1:]] == [(op, source + 2) for op, source in genotype.recurrent]
    assert concat == tuple(state + 2 for state in genotype.concat)

    draw_genotype(genotype, tmp_path / "cell.png")
    paths = draw_cells(genotype, tmp_path)
    assert [path.name for path in paths] == ["recurrent.svg", "recurrent.png"]
    first = paths[0].read_bytes()
    draw_cells(genotype, tmp_path)
    assert paths[0].read_bytes() == first
