"""Genotypes of NNI, NASLib, GDAS and NAS-Bench-201, as those programs write them."""

import json

import pytest

from jdarts import zoo
from jdarts.errors import InputError
from jdarts.genotype import Genotype
from jdarts.resolve import find_genotype

DARTS = zoo.DARTS_V2
KINDS = ("normal", "reduce")
NUMBERS = [
    "max_pool_3x3", "avg_pool_3x3", "skip_connect", "sep_conv_3x3", "sep_conv_5x5", "dil_conv_3x3", "dil_conv_5x5",
]  # fmt: skip
NNI_NAMES = {
    "sep_conv_3x3": "sepconv3x3",
    "skip_connect": "skipconnect",
    "max_pool_3x3": "maxpool",
    "dil_conv_3x3": "dilconv3x3",
}
EDGES = [(kind, state, node) for kind in KINDS for state, node in enumerate(DARTS.nodes(kind), 2)]


def of_nni_hub(wrap=lambda source: source):
    """NNI 2.9 and later."""
    fields = {}
    for kind, state, node in EDGES:
        for place, (name, source) in enumerate(node):
            fields |= {f"{kind}/op_{state}_{place}": name, f"{kind}/input_{state}_{place}": wrap(source)}
    return fields


def of_nni_mutables(named=True):
    """NNI's example of DARTS: an entry for every edge, and those that a node uses."""
    fields = {}
    for kind, state, node in EDGES:
        used = dict((source, name) for name, source in node)
        for source in range(state):
            name = used.get(source)
            fields[f"{kind}_n{state}_p{source}"] = (
                [] if name is None else NNI_NAMES[name] if named else NUMBERS.index(name)
            )
        chosen = sorted(used)
        fields[f"{kind}_n{state}_switch"] = [f"{kind}_n{state}_p{n}" for n in chosen] if named else chosen
    return fields


def by_source(genotype):
    return [[sorted(node, key=lambda edge: edge[1]) for node in genotype.nodes(kind)] for kind in KINDS]


def test_files_of_nni_in_json_and_as_python_prints_them(tmp_path):
    assert find_genotype(json.dumps(of_nni_hub())) == DARTS
    assert find_genotype(repr(of_nni_hub(lambda source: [source]))) == DARTS
    path = tmp_path / "arch.json"
    for named in (True, False):
        path.write_text(json.dumps(of_nni_mutables(named), indent=1))
        assert by_source(find_genotype(str(path))) == by_source(DARTS)


def test_nodes_of_nni_without_an_operation_are_left_out():
    fields = of_nni_hub() | {"normal/op_5_0": "none", "normal/op_5_1": "none"}
    found = find_genotype(json.dumps(fields))
    assert [len(node) for node in found.nodes("normal")] == [2, 2, 2, 0]


def test_tuples_of_naslib():
    pairs = tuple(tuple((source, NUMBERS.index(name)) for name, source in getattr(DARTS, kind)) for kind in KINDS)
    assert find_genotype(str(pairs)) == DARTS
    assert find_genotype(json.dumps(pairs)) == DARTS


def test_tuples_of_older_naslib_have_numbers_from_1():
    pairs = tuple(tuple((source, 1 + NUMBERS.index(name)) for name, source in getattr(DARTS, kind)) for kind in KINDS)
    assert find_genotype(f"older: {pairs}") == find_genotype(f"older:{json.dumps(pairs)}") == DARTS
    # Only these have the number 7.
    last = "(((0, 7), (1, 1)), ((0, 3), (1, 4)))"
    cells = ((("dil_conv_5x5", 0), ("max_pool_3x3", 1)), (("skip_connect", 0), ("sep_conv_3x3", 1)))
    assert find_genotype(last) == find_genotype(f"older: {last}") == Genotype(cells[0], (2,), cells[1], (2,))


def of_nasbench301(start="NetworkSelectorDatasetInfo:darts:"):
    """A configuration: the edges of a node follow those of the nodes before."""
    fields = {"OptimizerSelector:optimizer": "sgd"}
    for kind, state, node in EDGES:
        first = sum(range(2, state))
        fields |= {f"{start}edge_{kind}_{first + source}": name for name, source in node}
        if state > 2:
            fields[f"{start}inputs_node_{kind}_{state}"] = "_".join(
                str(source) for source in sorted(s for _, s in node)
            )
    return fields


def test_configurations_of_nas_bench_301(tmp_path):
    fields = of_nasbench301()
    results = tmp_path / "results_0.json"
    results.write_text(json.dumps({"budget": 97, "optimized_hyperparamater_config": fields}))
    unused = of_nasbench301("NetworkSelectorDatasetInfo_COLON_darts_COLON_") | {"edge_normal_4": None}
    for text in (
        json.dumps(fields),
        repr(unused),
        f"Configuration(values={{\n  {repr(fields)[1:-1]},\n}})",
        str(results),
    ):
        assert by_source(find_genotype(text)) == by_source(DARTS)


def test_weights_of_gdas_are_left_out():
    edges = "[('skip_connect', 0, 0.130), ('sep_conv_3x3', 1, 0.129)]"
    found = find_genotype(f"Genotype(normal={edges}, normal_concat=[2], reduce={edges}, reduce_concat=[2])")
    assert found.normal == (("skip_connect", 0), ("sep_conv_3x3", 1))


def test_a_cell_of_nas_bench_201_is_refused_with_the_nearest_one():
    text = "|nor_conv_3x3~0|+|none~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_1x1~1|none~2|"
    with pytest.raises(
        InputError, match=r"a cell of NAS-Bench-201, which reads one state.*; cells here read two"
    ) as caught:
        find_genotype(text)
    nearest = find_genotype(str(caught.value).partition(" are ")[2])
    cell = (("conv_3x3", 1), ("avg_pool_3x3", 2), ("skip_connect", 1), ("conv_1x1", 2))
    assert nearest == Genotype(cell, (4,), cell, (4,), ((1, 1, 2), (1, 1, 2)))
    with pytest.raises(InputError, match="no pair of them is near"):
        find_genotype("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")


def without(name):
    fields = of_nni_hub()
    del fields[name]
    return json.dumps(fields)


WRONG = {
    "an input": (without("normal/input_3_1"), "NNI's entry normal/input_3_1 is missing"),
    "a cell": (json.dumps({"normal/op_2_0": "noise", "normal/input_2_0": 0}), "NNI's nodes of reduce are []; give the whole"),
    "two inputs": (json.dumps(of_nni_hub(lambda n: [n, 0])), "input_2_0 is [0, 0]; it chooses one state"),
    "an unused one": (
        json.dumps(of_nni_mutables() | {"normal_n2_p0": []}),
        "NNI's entry normal_n2_p0 is [], and its node uses it; it must be one operation",
    ),
    "a switch": (json.dumps(of_nni_mutables() | {"normal_n2_switch": ["p0"]}), "NNI's switch chooses 'p0'"),
    "an operation": (json.dumps(of_nni_hub() | {"normal/op_2_0": "conv9"}), "unknown operation 'conv9' in normal"),
    "a number": ("(((0, 3), (1, 8)), ((0, 0), (1, 0)))", "there is no operation 8; the numbers are 0 to 6: max_pool_3x3"),
    "an older number": ("older: (((0, 3), (1, 8)), ((0, 1), (1, 1)))", "no operation 8; the numbers are 1 to 7: max_pool_3x3"),
    "two numberings": ("(((0, 3), (1, 7)), ((0, 0), (1, 0)))", "has the operation 0, which is none where numbers run from 1"),
    "none": ("older: (((0, 3), (1, 6)), ((0, 0), (1, 1)))", "an edge of a genotype has an operation: give numbers from 0 to 6"),
    "an edge": (
        json.dumps({k: v for k, v in of_nasbench301().items() if not k.endswith("edge_reduce_1")}),
        "has 1 of edge_reduce_0 to edge_reduce_1, the edges of node 2; each node has two: give the whole configuration",
    ),
    "inputs": (
        json.dumps(of_nasbench301() | {"NetworkSelectorDatasetInfo:darts:inputs_node_normal_3": "1_2"}),
        "inputs_node_normal_3 of NAS-Bench-301's configuration is '1_2', and its edges among edge_normal_2 to edge_normal_4 "
        "come from 0 and 1; make both the same",
    ),
    "its operation": (
        json.dumps(of_nasbench301() | {"NetworkSelectorDatasetInfo:darts:edge_normal_0": "conv9"}),
        "unknown operation 'conv9' in normal",
    ),
    "a triple": ("(((0, 3, 1), (1, 7)), ((0, 0), (1, 0)))", "is not a pair of cells as NASLib writes them"),
    "one cell": ("(((0, 3), (1, 4)),)", "is not a pair of cells as NASLib writes them"),
    "a later state": ("(((0, 3), (2, 4)), ((0, 0), (1, 0)))", "leads to state 2; its source must be a state from 0 to 1"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WRONG.values(), ids=list(WRONG))
def test_damaged_forms_are_explained(text, words):
    with pytest.raises(InputError) as caught:
        find_genotype(text)
    assert str(caught.value).startswith("genotype: ") and words in str(caught.value)
