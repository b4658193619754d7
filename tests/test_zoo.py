"""The published cells, letter by letter."""

import json

import pytest
from fixtures_folder import REFERENCE_NUMBERS

from jdarts import zoo
from jdarts.genotype import Genotype, parse_genotype

GENOTYPES_FILE = REFERENCE_NUMBERS / "genotypes.json"
ALIASES = {"DARTS": "DARTS_V2", "PCDARTS": "PC_DARTS_cifar"}
NAMES = ("NASNet", "AmoebaNet", "DARTS_V1", "DARTS_V2", "PDARTS", "PC_DARTS_cifar", "PC_DARTS_image", "GDAS_V1")

DARTS_V2 = (
    "Genotype(normal=[('sep_conv_3x3', 0), ('sep_conv_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_3x3', 1), "
    "('sep_conv_3x3', 1), ('skip_connect', 0), ('skip_connect', 0), ('dil_conv_3x3', 2)], normal_concat=range(2, 6), "
    "reduce=[('max_pool_3x3', 0), ('max_pool_3x3', 1), ('skip_connect', 2), ('max_pool_3x3', 1), ('max_pool_3x3', 0), "
    "('skip_connect', 2), ('skip_connect', 2), ('max_pool_3x3', 1)], reduce_concat=range(2, 6))"
)
AMOEBANET = (
    "Genotype(normal=[('avg_pool_3x3', 0), ('max_pool_3x3', 1), ('sep_conv_3x3', 0), ('sep_conv_5x5', 2), "
    "('sep_conv_3x3', 0), ('avg_pool_3x3', 3), ('sep_conv_3x3', 1), ('skip_connect', 1), ('skip_connect', 0), "
    "('avg_pool_3x3', 1)], normal_concat=range(4, 7), "
    "reduce=[('avg_pool_3x3', 0), ('sep_conv_3x3', 1), ('max_pool_3x3', 0), ('sep_conv_7x7', 2), ('sep_conv_7x7', 0), "
    "('avg_pool_3x3', 1), ('max_pool_3x3', 0), ('max_pool_3x3', 1), ('conv_7x1_1x7', 0), ('sep_conv_3x3', 5)], "
    "reduce_concat=[3, 4, 6])"
)


def test_names_and_aliases():
    assert set(zoo.CELLS) == {*NAMES, *ALIASES}
    for name in NAMES:
        assert zoo.CELLS[name] is getattr(zoo, name)
    for alias, name in ALIASES.items():
        assert zoo.CELLS[alias] is zoo.CELLS[name]
    assert len({zoo.CELLS[name] for name in NAMES}) == len(NAMES)


@pytest.mark.parametrize(("name", "text"), [("DARTS_V2", DARTS_V2), ("AmoebaNet", AMOEBANET)])
def test_cells_written_out(name, text):
    assert str(zoo.CELLS[name]) == text
    assert parse_genotype(text) == zoo.CELLS[name]


@pytest.mark.parametrize("name", NAMES)
def test_cells_are_the_published_ones(name):
    entries = {entry["name"]: entry for entry in json.loads(GENOTYPES_FILE.read_text())["cnn"]}
    assert set(entries) == set(NAMES)
    entry = entries[name]
    assert entry["aliases"] == [alias for alias, target in ALIASES.items() if target == name]
    fields = {field: entry[field] for field in ("normal", "normal_concat", "reduce", "reduce_concat")}
    assert Genotype(**fields) == zoo.CELLS[name]
    assert json.loads(zoo.CELLS[name].to_json()) == fields
