"""Networks and searches of cells of one kind: no cell is a reduction cell, or all are."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_search import SETTINGS, searches

import jdarts
from jdarts.baselines.architectures import darts_architectures, genotype_of, one_hot_mixture, random_architecture
from jdarts.budget.bounded import least_cost
from jdarts.budget.cost import Limit
from jdarts.budget.counting import counted_costs, target
from jdarts.budget.sampling import sample_of_size
from jdarts.derivation import derive_genotype, sample_genotype
from jdarts.describe import describe
from jdarts.errors import InputError
from jdarts.genotype import Genotype, genotype_from_json, parse_genotype
from jdarts.methods.selection import SELECTIONS
from jdarts.methods.verdict import verdict_of_alphas
from jdarts.nets.discrete import cifar_network, init_shapes
from jdarts.nets.supernet import Supernet
from jdarts.relaxation import SOFTMAX, init_alphas
from jdarts.report.cell_figure import cell_kinds_of
from jdarts.report.cell_text import cells_text
from jdarts.report.drawing import draw_cells
from jdarts.space import cell_kinds, uniform_space

CELL = (("sep_conv_3x3", 0), ("skip_connect", 1), ("max_pool_3x3", 0), ("sep_conv_3x3", 2))
config, _ = searches(SETTINGS)
OPERATIONS = ("none", "skip_connect", "sep_conv_3x3", "max_pool_3x3")
KINDS = ("normal", "reduce")


def one_kind(kind, cell=CELL):
    of_kind = {each: (cell, (2, 3)) if each == kind else ((), ()) for each in KINDS}
    return Genotype(*of_kind["normal"], *of_kind["reduce"])


def space_of(kind, **settings):
    return uniform_space(OPERATIONS, nodes=2, kinds=(kind,), **settings)


def test_kinds_of_the_cells_of_a_network():
    assert cell_kinds(4, ("normal",)) == ("normal",) * 4
    assert cell_kinds(1, ("reduce",)) == ("reduce",) and cell_kinds(2, ("reduce",)) == ("reduce",) * 2
    assert cell_kinds(8) == cell_kinds(8, KINDS)
    with pytest.raises(InputError, match="3 cells, and there is no normal cell for the network; give 1 or 2 cells"):
        cell_kinds(3, ("reduce",))
    with pytest.raises(InputError, match="0 cells"):
        cell_kinds(0, ("normal",))


@pytest.mark.parametrize("kind", KINDS)
def test_a_genotype_of_one_cell_survives_text_json_and_drawing(kind, tmp_path):
    genotype = one_kind(kind)
    assert genotype.kinds == (kind,) == cell_kinds_of(genotype)
    assert parse_genotype(str(genotype)) == genotype
    assert genotype_from_json(genotype.to_json()) == genotype
    assert parse_genotype(f"x\nFOUND = {genotype}\ny", name="FOUND") == genotype
    text = cells_text(genotype)
    assert ("Normal cell" in text) == (kind == "normal") and ("Reduction cell" in text) == (kind == "reduce")
    assert {path.name for path in draw_cells(genotype, tmp_path)} == {f"{kind}.svg", f"{kind}.png"}


def test_a_genotype_has_a_cell():
    with pytest.raises(InputError, match="neither normal nor reduce has an edge"):
        Genotype((), (), (), ())
    with pytest.raises(InputError, match="reduce has 0 edges"):
        Genotype(CELL, (2, 3), (), (2, 3))
    with pytest.raises(InputError, match=r"reduce_concat is \(\)"):
        Genotype(CELL, (2, 3), CELL, ())


def test_without_reductions_the_size_of_the_maps_and_the_channels_stay():
    genotype = one_kind("normal")
    network = cifar_network(genotype, channels=4, cells=3, auxiliary=False)
    assert network.kinds == ("normal",) * 3
    kernel = init_shapes(network)["params"]["classifier"]["kernel"]
    assert kernel.shape == (2 * 4, 10)
    images = jax.ShapeDtypeStruct((1, 5, 7, 3), jnp.float32)  # Odd sizes, which a reduction refuses.
    shapes = jax.eval_shape(lambda key, x: network.init(key, x, train=False), jax.random.key(0), images)
    assert shapes["params"]["classifier"]["kernel"].shape == (8, 10)
    described = describe(genotype, channels=4, cells=3)
    assert [line.split()[2] for line in described.to_text().splitlines() if line.startswith("cell ")] == ["normal"] * 3
    with pytest.raises(InputError, match="3 cells, and there is no normal cell"):
        cifar_network(one_kind("reduce"), channels=4, cells=3, auxiliary=False)


@pytest.mark.parametrize(("kind", "cells", "channels"), [("normal", 2, 4), ("reduce", 1, 8)])
def test_a_search_network_of_one_kind_needs_its_alphas_alone(kind, cells, channels):
    space = space_of(kind, concat=(3,))
    alphas = init_alphas(jax.random.key(0), space)
    assert {name: table.shape for name, table in alphas.items()} == {kind: (5, 4)}
    network = Supernet(space, channels=4, cells=cells)
    assert network.kinds == (kind,) * cells
    shapes = jax.eval_shape(
        lambda key, x: network.init(key, x, alphas, train=True), jax.random.key(0), jnp.zeros((1, 8, 8, 3), jnp.float32)
    )
    assert shapes["params"]["classifier"]["kernel"].shape == (channels, 10)


@pytest.mark.parametrize("kind", KINDS)
def test_every_rule_derives_cells_of_the_kind_that_the_space_has(kind):
    space = space_of(kind)
    alphas = {kind: np.random.RandomState(0).normal(size=(5, 4))}
    for name, rule in SELECTIONS.items():
        if not rule.decided:
            select = {"threshold": "threshold:0.1", "threshold_edge": "threshold_edge:0.1"}.get(name, name)
            assert derive_genotype(alphas, space, select=select).kinds == (kind,), name
    found = derive_genotype(alphas, space)
    assert set(verdict_of_alphas(alphas, found, space, SOFTMAX).cells) == {kind}
    # A space of both kinds has the same cell at the same alphas.
    both = derive_genotype({each: alphas[kind] for each in KINDS}, uniform_space(OPERATIONS, nodes=2))
    assert getattr(both, kind) == getattr(found, kind)


@pytest.mark.parametrize("kind", KINDS)
def test_random_cells_baselines_and_costs_know_one_kind(kind):
    space = space_of(kind)
    assert sample_genotype(space, 3).kinds == (kind,)
    architectures = darts_architectures(space)
    drawn = random_architecture(architectures, jax.random.key(1))
    assert set(one_hot_mixture(architectures, drawn)) == {kind}
    assert genotype_of(architectures, drawn, space).kinds == (kind,)
    network = target(space, channels=4, cells=1, image_size=8)
    cost = counted_costs(space, network)["weights"]
    of_size = sample_of_size(cost, space, 0, least=0, most=10**9)
    assert of_size.kinds == (kind,)
    counted = describe(of_size, channels=4, cells=1, image_size=8).to_json()["params"]
    assert cost.of(of_size, space) == counted
    limit = Limit(cost, least_cost(cost, space, 2))
    assert Limit.from_json(json.loads(json.dumps(limit.to_json())), space).most == limit.most
    bounded = derive_genotype({kind: np.zeros((5, 4))}, space, limits=(limit,))
    assert cost.of(bounded, space) == limit.most


def test_a_search_finds_the_kind_that_its_settings_name(tmp_path):
    normal = config(tmp_path, cells=1, cell_kinds="normal", nodes=4, output_nodes=2)
    normal.check()
    assert normal.kinds == ("normal",) and normal.search_space.kinds == ("normal",)
    assert normal.search_space.concat == (4, 5)
    reduce = config(tmp_path, cells=2, cell_kinds="reduce")
    reduce.check()
    assert reduce.kinds == ("reduce",) * 2 and reduce.search_space.kinds == ("reduce",)
    assert config(tmp_path).search_space == jdarts.uniform_space(
        config(tmp_path).operations, nodes=config(tmp_path).nodes
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"cells": 2}, "give 3 or more, or --cell-kinds reduce to search the reduction cell alone"),
        ({"cells": 3, "cell_kinds": "reduce"}, "--cell-kinds is reduce, and networks of 3 cells have normal cells"),
        ({"nodes": 2, "output_nodes": 3}, "--output-nodes is 3, and --nodes 2; give 2 or less"),
        ({"space": "s2", "nodes": 4, "output_nodes": 3}, "--output-nodes is 3, and --space s2 has its own"),
        ({"cell_kinds": "normal", "stop": "skip_connections:kind=reduce"}, "this search has normal cells"),
        ({"cells": 1, "cell_kinds": "normal", "correlation": 0.1}, "has one; give 2 or more"),
    ],
)
def test_settings_that_do_not_fit_one_kind_are_explained(settings, message, tmp_path):
    usual = {} if "space" not in settings else {"operations": jdarts.space.DARTS_PRIMITIVES}
    with pytest.raises(InputError, match=message):
        config(tmp_path, **usual, **settings).check()


def test_a_space_of_a_file_may_have_one_kind(tmp_path):
    edges = [["skip_connect", "sep_conv_3x3"]] * 5
    path = tmp_path / "space.json"
    path.write_text(json.dumps({"normal": edges, "reduce": [], "concat": [3]}), encoding="utf-8")
    settings = {"operations": jdarts.space.DARTS_PRIMITIVES, "nodes": 4, "space": str(path)}
    found = config(tmp_path, **settings, cells=1, cell_kinds="normal")
    found.check()
    assert found.search_space.kinds == ("normal",) and found.search_space.concat == (3,)
    with pytest.raises(
        InputError, match="has no reduction cell, and the network has such cells; give --cell-kinds normal"
    ):
        config(tmp_path, **settings).check()
