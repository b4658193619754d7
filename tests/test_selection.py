"""Rules that choose discrete cells: the authors' own results, and what each rule must do on small tables."""

import dataclasses
import json

import command_line
import numpy as np
import pytest
from fixtures_folder import fixture_files
from small_runs import undisturbed_run, user_settings
from small_search import PLAIN, SETTINGS, quick, searches

from jdarts import checkpoint
from jdarts.derivation import derive_genotype, derive_or_argmax, genotype_of, genotype_with_remark
from jdarts.derive import main
from jdarts.errors import InputError
from jdarts.genotype import Genotype, parse_genotype
from jdarts.methods import pruning, selection
from jdarts.methods.mixtures import mixture_by_name
from jdarts.operations import OPERATIONS
from jdarts.relaxation import GIVEN, SOFTMAX, alphas_to_json, softmax_strengths, softmax_weights
from jdarts.space import CELL_KINDS, DARTS_PRIMITIVES, SearchSpace, darts_space, uniform_space

__all__ = ["quick", "user_settings"]

_, run = searches({**SETTINGS, **PLAIN})
undisturbed = undisturbed_run(run)

derive = command_line.fixture(main, "derive")


def tables_of(numbers, name):
    return {kind: numbers[f"{name}/{kind}"] for kind in CELL_KINDS}


def genotype_in(numbers, name):
    return parse_genotype(str(numbers[name]), Genotype)


def spaces(on, primitives):
    """The space of the operations that are on, `{kind: bool [E, O]}`."""
    edges = {
        kind: tuple(tuple(n for n, is_on in zip(primitives, row) if is_on) for row in on[kind]) for kind in CELL_KINDS
    }
    return SearchSpace(edges["normal"], edges["reduce"])


@pytest.mark.parametrize("path", fixture_files("fairdarts*.npz"))
def test_fair_darts_reads_cells_off_as_its_authors_do(path):
    numbers = np.load(path)
    sigmoids = numbers["parse/sigmoids"]
    nodes = next(n for n in range(1, 20) if n * (n + 3) // 2 == len(sigmoids))
    space = uniform_space(json.loads(str(numbers["primitives"])), nodes=nodes)
    weights = {kind: sigmoids for kind in CELL_KINDS}
    for name in [name for name in numbers if name.startswith("parse/") and name.count("/") == 2]:
        _, method, least = name.split("/")
        entries = [tuple(entry) for entry in json.loads(str(numbers[name]))]
        select = {
            "darts": selection.argmax,
            "threshold_sparse": selection.threshold(float(least)),
            "threshold_edge": selection.threshold_edge(float(least)),
        }[method]
        if method == "darts":
            assert select(weights, space, 2).normal == tuple(entries)
            continue
        reached = {0, 1} | {target for _, target, _ in entries}
        expected = [
            [(op, s) for op, target, s in entries if target == node and s in reached] for node in range(2, 2 + nodes)
        ]
        if not entries:
            with pytest.raises(InputError, match="no weight reaches"):
                select(weights, space, 2)
            continue
        found = select(weights, space, 2)
        assert [list(node) for node in found.nodes("normal")] == expected
        assert found.normal == found.reduce
        assert found.normal_concat == tuple(2 + node for node, edges in enumerate(expected) if edges)


@pytest.mark.parametrize("path", fixture_files("pdarts*.npz"))
def test_p_darts_drops_operations_and_limits_skips_as_its_authors_do(path):
    numbers = np.load(path)
    primitives = json.loads(str(numbers["primitives"]))
    *drop, _ = numbers["hyper/drop"].tolist()
    for stage, count in enumerate(drop):
        space = spaces(tables_of(numbers, f"stage{stage}/on_before"), primitives)
        alphas, after = (tables_of(numbers, f"stage{stage}/{name}") for name in ("alphas", "on_after"))
        for tables in (softmax_strengths(alphas, space), softmax_weights(alphas, space)):
            tables = {kind: np.asarray(table) for kind, table in tables.items()}
            assert pruning.without_weakest(tables, space, count) == spaces(after, primitives)
    space = spaces(tables_of(numbers, f"stage{len(drop)}/on_before"), primitives)
    strengths = softmax_strengths(tables_of(numbers, f"stage{len(drop)}/alphas"), space)
    final = selection.skip_limited(1000)(strengths, space, 2)
    assert final == genotype_in(numbers, "final/genotype")
    for kind in CELL_KINDS:
        on = [(primitives[column], space.edges[edge][0]) for edge, column in np.argwhere(numbers[f"final/on/{kind}"])]
        assert on == list(getattr(final, kind))
    versions = list(selection.skip_limited_versions(strengths, space))
    limits = [name for name in numbers if name.startswith("final/limited/")]
    assert limits
    for name in limits:
        limit = int(name.rpartition("/")[2])
        found, expected = selection.skip_limited(limit)(strengths, space, 2), genotype_in(numbers, name)
        assert found == expected and found in versions
        assert selection.skip_connections(found.normal) == limit


@pytest.mark.parametrize("path", fixture_files("pcdarts*.npz"))
def test_pc_darts_ranks_operations_times_edges(path):
    numbers = np.load(path)
    space = uniform_space(json.loads(str(numbers["primitives"])), nodes=int(numbers["hyper/nodes"]))
    mixture, edges = tables_of(numbers, "mixture"), tables_of(numbers, "edge_weights")
    for combine in (np.multiply, lambda p, q: np.log(p) + np.log(q)):
        tables = {kind: combine(mixture[kind], edges[kind][:, None]) for kind in CELL_KINDS}
        assert selection.argmax(tables, space, 2) == genotype_in(numbers, "genotype")


@pytest.mark.parametrize("path", fixture_files("drnas*.npz"))
def test_drnas_prunes_and_reads_cells_off_as_its_authors_do(path):
    numbers = np.load(path)
    space = uniform_space(json.loads(str(numbers["primitives"])), nodes=int(numbers["hyper/nodes"]))
    alphas, keep = tables_of(numbers, "alphas"), int(numbers["hyper/keep"])
    unmasked = pruning.masked_strengths(alphas, space, None)
    assert selection.argmax(unmasked, space, 2) == genotype_in(numbers, "genotype")
    pruned, masks = pruning.prune_alphas(alphas, None, keep)
    again = pruning.prune_alphas(tables_of(numbers, "pruned_again/before"), masks, keep - 2)
    for name, (found, on) in {"pruned": (pruned, masks), "pruned_again": again}.items():
        for kind in CELL_KINDS:
            np.testing.assert_array_equal(found[kind], numbers[f"{name}/alphas/{kind}"])
            np.testing.assert_array_equal(on[kind], numbers[f"{name}/mask/{kind}"])
    strengths = pruning.masked_strengths(pruned, space, masks)
    for kind in CELL_KINDS:
        np.testing.assert_allclose(np.exp(strengths[kind]), numbers[f"pruned/mixture_softmax/{kind}"], rtol=1e-12)
    assert selection.argmax(strengths, space, 2) == genotype_in(numbers, "pruned/genotype")


def random_tables(space, seed=0):
    draw = np.random.default_rng(seed)
    return {kind: draw.normal(size=(space.num_edges, space.width(kind))) for kind in CELL_KINDS}


def test_the_default_rule_is_that_of_darts():
    space = darts_space()
    alphas = random_tables(space)
    assert derive_genotype(alphas, space, select="argmax") == derive_genotype(alphas, space)
    assert selection.argmax(softmax_strengths(alphas, space), space, 2) == derive_genotype(alphas, space)


def test_nodes_without_inputs_are_left_out_and_so_are_edges_from_them():
    space = uniform_space(["skip_connect", "sep_conv_3x3"], nodes=3)
    rows = (
        (0.1, 0.2),
        (0.3, 0.1),
        (0.9, 0.1),
        (0.1, 0.1),
        (0.9, 0.95),
        (0.2, 0.2),
        (0.1, 0.1),
        (0.99, 0.2),
        (0.1, 0.96),
    )
    table = np.array(rows)
    found = selection.threshold(0.85)({kind: table for kind in CELL_KINDS}, space, 2)
    # The edge from state 2 to node 1 is above the threshold, but no edge of node 0 is.
    assert found.nodes("normal") == ((), (("skip_connect", 0),), (("sep_conv_3x3", 3),))
    assert found.normal_concat == found.reduce_concat == (3, 4)
    with pytest.raises(InputError, match=r"normal cell has no edge to its output: no weight reaches 0\.999"):
        selection.threshold(0.999)({kind: table for kind in CELL_KINDS}, space, 2)


def test_thresholds_read_weights_and_not_strengths():
    space = uniform_space(["skip_connect", "sep_conv_3x3"], nodes=1)
    weights = {kind: np.array([[0.9, 0.1], [0.3, 0.7]]) for kind in CELL_KINDS}
    alphas = {kind: np.log(table) for kind, table in weights.items()}
    for found in (
        derive_genotype(alphas, space, select="threshold"),
        derive_genotype(weights, space, select="threshold", mixture=GIVEN),
        derive_genotype(
            {kind: np.stack([table, table]) for kind, table in weights.items()},
            space,
            select="threshold",
            mixture=GIVEN,
        ),
    ):
        assert found.nodes("normal") == ((("skip_connect", 0),),)
    assert len(derive_genotype(alphas, space, select="threshold:0.6").normal) == 2


def test_rules_take_alphas_of_whole_numbers():
    space = uniform_space(["skip_connect", "sep_conv_3x3"], nodes=1)
    whole = {kind: np.array([[3, -2], [-3, 1]]) for kind in CELL_KINDS}
    for mixture in (SOFTMAX, mixture_by_name("sigmoid")):
        for rule in ("argmax", "threshold:0.7"):
            found = derive_genotype(whole, space, select=rule, mixture=mixture)
            assert found.normal == (("skip_connect", 0), ("sep_conv_3x3", 1))


def test_gdas_takes_the_strongest_pairs_even_of_one_edge():
    space = darts_space()
    tables = random_tables(space, 3)
    found = selection.pairs(tables, space, 2)
    assert found.edges_per_node == 2
    shared = 0
    for node, chosen in enumerate(found.nodes("normal"), 2):
        candidates = [
            (tables["normal"][edge][column], (name, source))
            for edge, (source, target) in enumerate(space.edges)
            for column, name in enumerate(space.normal[edge])
            if target == node and name != "none"
        ]
        assert list(chosen) == [pair for _, pair in sorted(candidates, reverse=True)[:2]]
        shared += chosen[0][1] == chosen[1][1]
    assert shared


def test_snas_keeps_every_edge_whose_strongest_operation_is_not_none():
    space = darts_space()
    tables = random_tables(space, 1)
    tables["normal"][:2, 0] = tables["normal"][6, 0] = 9.0
    found = selection.all_edges(tables, space, 2)
    strongest = [space.normal[edge][int(np.argmax(row))] for edge, row in enumerate(tables["normal"])]
    expected = [(name, source) for name, (source, _) in zip(strongest, space.edges) if name != "none" and source != 2]
    assert list(found.normal) == expected and found.normal_concat == (3, 4, 5)
    with pytest.raises(InputError, match="none is the strongest operation of every edge"):
        selection.all_edges({kind: -np.arange(112.0).reshape(14, 8) for kind in CELL_KINDS}, space, 2)


def test_p_darts_takes_the_later_one_among_equals_and_orders_by_source():
    space = uniform_space(["skip_connect", "sep_conv_3x3", "sep_conv_5x5"], nodes=2)
    table = np.zeros((5, 3))
    table[4] = 1.0
    found = selection.skip_limited(2)({kind: table for kind in CELL_KINDS}, space, 2)
    assert found.normal == (("sep_conv_5x5", 0), ("sep_conv_5x5", 1), ("sep_conv_5x5", 1), ("sep_conv_5x5", 2))


def test_a_limit_that_the_space_does_not_allow_is_refused():
    space = uniform_space(["none", "skip_connect"], nodes=2)
    tables = random_tables(space)
    with pytest.raises(InputError, match=r"skip_limit:2 is not possible: 4 skip connections stay in the normal cell"):
        selection.skip_limited(2)(tables, space, 2)


@pytest.mark.parametrize("name", selection.SELECTIONS)
def test_permuted_operations_give_the_same_cells(name):
    space = darts_space()
    tables = {kind: table + 3.0 for kind, table in random_tables(space, 5).items()}
    order = np.random.default_rng(0).permutation(8)
    permuted = uniform_space([space.normal[0][place] for place in order])
    rule, _ = selection.selection_by_name(name)
    found = rule({kind: table[:, order] for kind, table in tables.items()}, permuted, 2)
    assert found == rule(tables, space, 2)
    assert all(operation in OPERATIONS for operation, _ in found.normal)


@pytest.mark.parametrize("name", selection.SELECTIONS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_strengths_that_are_not_finite_are_refused(name, value):
    tables = random_tables(darts_space())
    tables["reduce"][3, 2] = value
    with pytest.raises(InputError, match="not all finite"):
        selection.selection_by_name(name)[0](
            {"normal": abs(tables["normal"]) + 1, "reduce": tables["reduce"]}, darts_space(), 2
        )


def test_wrong_names_and_values_are_explained():
    for text, message in {
        "best": "the selection is 'best'; give argmax or skip_limit",
        "argmax:2": "argmax has no value; give argmax",
        "skip_limit:two": "give a whole number from 0 to 1000 after the colon, as in skip_limit:2",
        "skip_limit:-1": "give a whole number",
        "threshold:1.5": "give a number from 0 to 1 after the colon, as in threshold:0.85",
        "threshold:nan": "give a number from 0 to 1",
    }.items():
        with pytest.raises(InputError) as error:
            derive_genotype(random_tables(darts_space()), darts_space(), select=text)
        assert message in str(error.value)


def test_a_record_names_its_rule():
    space = darts_space()
    alphas = random_tables(space, 2)
    record = {"space": dataclasses.asdict(space), "alphas": alphas_to_json(alphas), "edges_per_node": 2}
    every = derive_genotype(alphas, space, select="all_edges")
    assert genotype_of(record) == derive_genotype(alphas, space) != every
    assert genotype_of(record | {"select": "all_edges"}) == genotype_of(record, select="all_edges") == every
    assert genotype_of(record | {"select": "all_edges"}, select="argmax") == genotype_of(record)
    with pytest.raises(InputError, match="the selection is 7"):
        genotype_of(record | {"select": 7})


def test_the_command_takes_a_rule(undisturbed, derive):
    code, out, err = derive(undisturbed, "--select", "all_edges")
    assert (code, err) == (0, "")
    assert parse_genotype(out) == genotype_of(checkpoint.find(undisturbed, []).record, select="all_edges")
    code, out, err = derive(undisturbed, "--select", "all")
    assert (code, out) == (2, "") and err.startswith("error: the selection is 'all'; give argmax")
    code, out, err = derive("DARTS_V2", "--select", "argmax")
    assert (code, out) == (2, "") and err.startswith("error: --select is for checkpoints of searches")


def test_where_a_rule_leaves_no_cells_a_search_has_those_of_argmax():
    """Weights of 1/7 in a space of 7 operations; one edge of each cell passes later."""
    space = uniform_space(DARTS_PRIMITIVES[1:], nodes=2)
    alphas = {kind: 1e-3 * np.random.default_rng(0).normal(size=(5, 7)) for kind in CELL_KINDS}
    found, remark = derive_or_argmax(alphas, space, select="threshold:0.5")
    assert found == derive_genotype(alphas, space)
    assert remark.startswith(
        "the cells are those of --select argmax; by --select threshold:0.5 the normal cell has no edge"
    )
    record = {"space": dataclasses.asdict(space), "alphas": alphas_to_json(alphas), "edges_per_node": 2}
    record["select"] = "threshold:0.5"
    assert genotype_of(record) == found
    assert genotype_with_remark(record) == (found, remark)
    with pytest.raises(InputError, match="no weight reaches"):
        genotype_of(record, select="threshold:0.5")
    for table in alphas.values():
        table[0, 3] = 9.0
    found, remark = derive_or_argmax(alphas, space, select="threshold:0.5")
    assert found == derive_genotype(alphas, space, select="threshold:0.5") != derive_genotype(alphas, space)
    assert remark == ""
