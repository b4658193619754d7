"""Searches in stages: what a stage leaves to the next one, and that they end with the same bits after any interruption."""

import dataclasses
import io
import json
import shutil
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_runs
from centred import Centred
from fixtures_folder import fixture_files
from small_runs import Died, die_at, leaves, records, user_settings, with_stand_ins
from small_search import SupernetAttributes

import jdarts.search.building
import jdarts.search.stages
import jdarts.search.task
from jdarts.bilevel import init_state
from jdarts.derivation import derive_genotype, genotype_of
from jdarts.derive import main as derive
from jdarts.errors import InputError
from jdarts.genotype import Genotype, parse_genotype
from jdarts.methods.method import method_fields
from jdarts.methods.mixtures import MIXTURES, mixture_by_name
from jdarts.methods.pruning import masked_mixture
from jdarts.methods.widening import channel_map, widened
from jdarts.nets.supernet import Supernet
from jdarts.optimizers import cosine
from jdarts.relaxation import NO_CONTROLS
from jdarts.report import MetricsLog
from jdarts.runs.folder import RunFolder
from jdarts.search import SearchConfig, search
from jdarts.search.program import SearchState
from jdarts.search.stages import continued, next_stage, operations_after, stage_seed
from jdarts.space import CELL_KINDS, uniform_space

__all__ = ["user_settings"]

OPERATIONS = ("none", "skip_connect", "max_pool_3x3", "dil_conv_3x3", "sep_conv_3x3")
COMMON = {
    "dataset": "digits",
    "cells": 3,
    "nodes": 1,
    "channels": 12,
    "epochs": 4,
    "batch_size": 256,
    "hypergradient": "first_order",
    "padding": 0,
    "operations": OPERATIONS,
    "log_every": 1,
}
#: The parts of the two methods, each at its smallest.
STAGES = {
    "p_darts": {
        "stages": "p_darts",
        "dropped_operations": (2,),
        "earlier_cells": (4,),
        "earlier_skip_dropout": (0.1,),
        "skip_dropout": 0.4,
        "alphas_from": 1,
        "alpha_clip": 5.0,
        "select": "skip_limit:0",
    },
    "drnas": {
        "stages": "drnas",
        "mixture": "dirichlet",
        "penalty": "divergence",
        "kept_operations": (3,),
        "partial_channels": 2,
        "earlier_partial_channels": (6,),
    },
}
STEPS_PER_EPOCH = 2


class Stage(nn.Module):
    """Operations on a part of the channels, in the names and axes of the supernet's."""

    channels: int
    classes: int

    @nn.compact
    def __call__(self, features):
        uniform = nn.initializers.lecun_uniform()
        first = self.param("pointwise1", uniform, (1, features.shape[-1], self.channels))
        second = self.param("pointwise2", uniform, (1, self.channels, self.classes))
        return jnp.tanh(features @ first[0]) @ second[0]


class Cell(nn.Module):
    channels: int
    classes: int

    @nn.compact
    def __call__(self, features):
        return Stage(self.channels, self.classes, name="stage0")(features)


class QuickNetwork(SupernetAttributes):
    """Stands in for the supernet: weights whose shapes depend on the partial channels, alphas and running statistics."""

    @nn.compact
    def __call__(self, images, alphas, *, train, controls=NO_CONTROLS):
        tables = self.mixture.weights(alphas, self.space, None, controls).operations
        mixed = sum(
            jnp.sum(tables[kind] @ jnp.arange(tables[kind].shape[-1], dtype=images.dtype)) for kind in CELL_KINDS
        )
        return Cell(self.channels // self.partial_channels, self.classes, name="cell0")(Centred(train)(images) * mixed)


def quicken(replace):
    replace(jdarts.search.building, "Supernet", QuickNetwork)
    small_runs.leave_undrawn(replace)


quick = with_stand_ins(quicken)


def config(kind, folder=None, **changes):
    return SearchConfig(run_dir=folder, **{**COMMON, **STAGES[kind], **changes})


def run(kind, folder, **changes):
    stream = io.StringIO()
    result = search(config(kind, folder, **changes), stream=stream, programs=small_runs.shared_programs)
    return result, stream.getvalue()


@pytest.fixture(scope="module")
def straight(quick, tmp_path_factory):
    """A search of each kind that nothing has interrupted."""
    folder = tmp_path_factory.mktemp("straight")
    for kind in STAGES:
        run(kind, folder / kind)
    return folder


def tables(rows, edges=2):
    return {kind: np.tile(np.array(rows, np.float32), (edges, 1)) for kind in CELL_KINDS}


def test_p_darts_drops_the_weakest_operations_of_every_edge():
    several: Any = {"dropped_operations": (2, 1), "earlier_cells": (4, 5), "earlier_skip_dropout": (0.1, 0.2)}
    whole = config("p_darts", **several, epochs=6)
    first = next_stage(whole, None, None)
    assert (first.size.cells, first.loop.epochs, first.folder.name) == (4, 2, "stage1")
    assert first.search_space == whole.search_space
    alphas = tables([0.5, 0.1, 0.4, 0.3, 0.2])
    alphas["reduce"][1] = [0.1, 0.1, 0.1, 0.2, 0.2]
    second = next_stage(whole, first, alphas)
    assert (second.size.cells, second.folder.name) == (5, "stage2")
    assert second.search_space.normal == (("none", "max_pool_3x3", "dil_conv_3x3"),) * 2
    assert second.search_space.reduce == (
        second.search_space.normal[0],
        ("max_pool_3x3", "dil_conv_3x3", "sep_conv_3x3"),
    )
    last = next_stage(whole, second, tables([0.1, 0.3, 0.2]))
    assert (last.size.cells, last.folder) == (3, whole.folder)
    assert last.search_space.reduce == (("max_pool_3x3", "dil_conv_3x3"), ("dil_conv_3x3", "sep_conv_3x3"))
    # The space is in config.json, and comes back from it.
    again = SearchConfig(**json.loads(json.dumps(last.to_json())))
    assert again.search_space == last.search_space
    assert again.to_json() == last.to_json()
    assert last.to_json() != next_stage(whole, second, tables([0.3, 0.1, 0.2])).to_json()


def test_drnas_masks_all_but_the_strongest_operations():
    whole = config("drnas", kept_operations=(3, 2), earlier_partial_channels=(6, 4), epochs=6)
    first = next_stage(whole, None, None)
    alphas = tables([0.5, 0.1, 0.4, -0.3, 0.2])
    second = next_stage(whole, first, alphas)
    assert second.search_space == first.search_space == whole.search_space
    assert [each.supernet.partial_channels for each in (first, second, whole)] == [6, 4, 2]
    masks = second.staging.masks(second.search_space)
    assert masks is not None
    np.testing.assert_array_equal(masks["normal"], [[True, False, True, False, True]] * 2)
    # An operation that is off stays off, however large its alpha is.
    third = operations_after(second, tables([0.1, 9.0, 0.2, 9.0, 0.3]))
    assert third == [[["max_pool_3x3", "sep_conv_3x3"]] * 2] * 2


@pytest.mark.parametrize("path", fixture_files("drnas*.npz"))
def test_the_masked_mixture_is_that_of_the_authors(path):
    numbers = np.load(path)
    space = uniform_space(json.loads(str(numbers["primitives"])), nodes=int(numbers["hyper/nodes"]))
    masks = {kind: numbers[f"pruned/mask/{kind}"] for kind in CELL_KINDS}
    alphas = {kind: jnp.asarray(numbers[f"pruned/alphas/{kind}"]) for kind in CELL_KINDS}
    mixture = masked_mixture(MIXTURES["softmax"], masks)
    found = mixture.weights(alphas, space, None, NO_CONTROLS).operations
    for kind in CELL_KINDS:
        np.testing.assert_allclose(found[kind], numbers[f"pruned/mixture_softmax/{kind}"], rtol=1e-9, atol=0)
    cells = derive_genotype(alphas, space, mixture=mixture_by_name("dirichlet", masks=masks))
    assert cells == derive_genotype(alphas, space, mixture=mixture)
    # A checkpoint's record holds the masks, and so does a search that is derived from it.
    record = {
        "space": dataclasses.asdict(space),
        "alphas": {kind: table.tolist() for kind, table in alphas.items()},
        "edges_per_node": 2,
        "mixture": "dirichlet",
        "masks": {kind: mask.tolist() for kind, mask in masks.items()},
    }
    assert genotype_of(json.loads(json.dumps(record))) == cells
    for wrong in (
        {"normal": masks["normal"].tolist()},
        {kind: [[False] * 7] * len(masks[kind]) for kind in CELL_KINDS},
    ):
        with pytest.raises(InputError, match="masks of the"):
            genotype_of({**record, "masks": wrong})


def test_masked_draws_are_those_of_the_operations_that_are_left():
    space = uniform_space(OPERATIONS, nodes=1)
    on = [True, False, True, True, False]
    masked = mixture_by_name("dirichlet", masks={kind: [on, on] for kind in CELL_KINDS})
    alphas = jax.tree.map(jnp.asarray, tables([0.5, 3.0, 0.1, -0.4, 2.0]))

    def drawn(alphas, key):
        return masked.weights(alphas, space, key, NO_CONTROLS).operations["normal"]

    @jax.jit
    def drawn_and_pulled(alphas):
        draws = jax.vmap(lambda key: drawn(alphas, key))(jax.random.split(jax.random.key(0), 20_000))
        pulled = jax.grad(lambda alphas: jnp.sum(drawn(alphas, jax.random.key(1))[:, 0]))(alphas)
        return draws, pulled["normal"]

    draws, pulled = map(np.asarray, drawn_and_pulled(alphas))
    np.testing.assert_allclose(draws.sum(axis=-1), 1, rtol=1e-5)
    assert (draws[..., ~np.array(on)] == 0).all()
    c = np.asarray(jax.nn.elu(alphas["normal"]) + 1) * on
    np.testing.assert_allclose(draws.mean(axis=0), c / c.sum(axis=-1, keepdims=True), atol=0.01)
    assert (pulled[:, ~np.array(on)] == 0).all()
    assert (pulled[:, on] != 0).all()


def test_new_channels_copy_old_ones():
    chosen = channel_map(np.random.RandomState(0), 6, 9)
    np.testing.assert_array_equal(chosen[:6], range(6))
    assert set(chosen[6:]) <= set(range(6))
    draw = np.random.default_rng(0)
    shapes = {"pointwise1": (2, 6, 6), "depthwise1": (2, 3, 3, 6), "even": (2, 6, 3), "mean": (4, 6)}
    larger = {"pointwise1": (2, 9, 9), "depthwise1": (2, 3, 3, 9), "even": (2, 9, 5), "mean": (4, 9)}
    old: Any = {"cell0": {"stage0": {name: draw.normal(size=shape) for name, shape in shapes.items()}}}
    old["cell0"]["preprocess"] = {"pointwise0": draw.normal(size=(1, 6, 6))}
    like: Any = {"cell0": {"stage0": {name: np.empty(shape) for name, shape in larger.items()}}}
    like["cell0"]["preprocess"] = {"pointwise0": np.empty((1, 6, 6))}
    new = widened(old, like, seed=3)
    assert jax.tree.map(np.shape, new) == jax.tree.map(np.shape, like)
    np.testing.assert_array_equal(new["cell0"]["preprocess"]["pointwise0"], old["cell0"]["preprocess"]["pointwise0"])
    found, before = new["cell0"]["stage0"], old["cell0"]["stage0"]
    # One map for all axes of the stage: inputs, outputs and statistics of a channel stay together.
    chosen = [int(np.flatnonzero((before["mean"] == column[:, None]).all(axis=0))[0]) for column in found["mean"].T]
    assert chosen[:6] == list(range(6))
    np.testing.assert_array_equal(found["pointwise1"], before["pointwise1"][:, chosen][:, :, chosen])
    np.testing.assert_array_equal(found["depthwise1"], before["depthwise1"][..., chosen])
    np.testing.assert_array_equal(found["even"][:, :, :3], before["even"][:, chosen])
    again, other = (widened(old, like, seed=seed) for seed in (3, 4))
    assert jax.tree.all(jax.tree.map(np.array_equal, new, again))
    assert not jax.tree.all(jax.tree.map(np.array_equal, new, other))


def test_partial_channels_change_the_widths_of_operations_alone():
    def shapes(k):
        model = Supernet(uniform_space(OPERATIONS, nodes=1), channels=12, cells=3, classes=10, partial_channels=k)
        images, key = jnp.zeros((1, 8, 8, 3), jnp.float32), jax.random.key(0)
        alphas = jax.tree.map(lambda table: jnp.asarray(table, jnp.float32), tables([0.0] * 5))
        return jax.eval_shape(lambda: model.init(key, images, alphas, train=True))

    old, like = shapes(6), shapes(2)
    new = widened(jax.tree.map(lambda leaf: np.ones(leaf.shape, np.float32), old), like, seed=0)
    assert jax.tree.map(np.shape, new) == jax.tree.map(np.shape, like)
    differ = [
        path for (path, leaf), other in zip(jax.tree.leaves_with_path(old), jax.tree.leaves(like)) if leaf != other
    ]
    assert differ
    assert all(path[2].key.startswith("stage") for path in differ)


def state_of(width, stem, draw):
    """A state of a search with weights of a width, and random numbers in all of its parts."""
    weights = {"cell0": {"stage0": {"a": draw.normal(size=(2, width))}}, "stem": {"k": {"b": np.full(3, stem)}}}
    statistics = {"cell0": {"stage0": {"mean": draw.normal(size=(2, width))}}}
    keys = [jax.random.key(int(draw.integers(100))) for _ in range(2)]
    bilevel = init_state(
        keys[0],
        jax.tree.map(jnp.float32, weights),
        tables(draw.normal(size=5)),
        statistics,
        weight_optimizer=optax.sgd(0.1, momentum=0.9),
        alpha_optimizer=optax.adam(0.1),
    )
    return SearchState(bilevel, keys[1], {}, jnp.zeros((), jnp.int32))


def test_drnas_continues_with_wider_weights_and_momentum_and_pruned_alphas(standard_promotion):
    draw = np.random.default_rng(0)
    whole = config("drnas")
    stage = next_stage(whole, whole.of_stage(1), tables([0.5, 0.1, 0.4, -0.3, 0.2]))
    old, fresh = state_of(2, 1.0, draw), state_of(6, 0.0, draw)
    # The optimiser has its state as one vector; on TPUs, leaf by leaf.
    momentum = draw.normal(size=7).astype(np.float32)
    as_tree = {"cell0": {"stage0": {"a": momentum[:4].reshape(2, 2)}}, "stem": {"k": {"b": momentum[4:]}}}
    opt_state = (momentum, np.int32(11), as_tree)
    old = dataclasses.replace(old, bilevel=old.bilevel.replace(weight_opt_state=opt_state, step=11))
    new: Any = continued(old, fresh, stage)
    seed = int(stage_seed(stage))
    for found, before in ((new.bilevel.weights, old.bilevel.weights), (None, as_tree)):
        wider = widened(before, fresh.bilevel.weights, seed=seed)
        if found is None:
            expected = np.concatenate([leaf.reshape(-1) for leaf in jax.tree.leaves(wider)])
            np.testing.assert_array_equal(new.bilevel.weight_opt_state[0], expected)
            assert jax.tree.all(jax.tree.map(np.array_equal, new.bilevel.weight_opt_state[2], wider))
        else:
            assert jax.tree.all(jax.tree.map(np.array_equal, found, wider))
    assert new.bilevel.weight_opt_state[1] == 11
    assert new.bilevel.step == 0
    assert new.bilevel.model_state["cell0"]["stage0"]["mean"].shape == (2, 6)
    np.testing.assert_array_equal(
        new.bilevel.alphas["normal"], np.where([[True, False, True, False, True]], old.bilevel.alphas["normal"], 0)
    )
    assert new.bilevel.alpha_opt_state == old.bilevel.alpha_opt_state
    assert new.data_key == fresh.data_key


def test_the_rate_falls_once_over_the_stages_of_drnas_and_in_each_of_p_darts(straight):
    def rates(folder):
        return [record["learning_rate"] for record in records(folder) if "learning_rate" in record]

    whole = np.repeat(cosine(0.025, 0.001, epochs=4)[:4], STEPS_PER_EPOCH)
    of_stages = [*rates(straight / "drnas/stage1"), *rates(straight / "drnas")]
    np.testing.assert_allclose(of_stages, whole, rtol=1e-6)
    one = np.repeat(cosine(0.025, 0.001, epochs=2)[:2], STEPS_PER_EPOCH)
    np.testing.assert_allclose(rates(straight / "p_darts/stage1"), one, rtol=1e-6)
    np.testing.assert_allclose(rates(straight / "p_darts"), one, rtol=1e-6)


@pytest.mark.parametrize("kind", STAGES)
def test_the_optimisers_of_drnas_continue_and_those_of_p_darts_start_again(kind, straight):
    counts = {
        int(np.frombuffer(leaf, np.int32)[0]) for name, leaf in leaves(straight / kind).items() if "count" in name
    }
    assert counts == ({4 * STEPS_PER_EPOCH} if kind == "drnas" else {2 * STEPS_PER_EPOCH, STEPS_PER_EPOCH})


def assert_same(folder, reference):
    for name in (".", "stage1"):
        found, expected = leaves(folder / name), leaves(reference / name)
        assert found == expected
        assert records(folder / name) == records(reference / name)
        for file in ("genotype.json", "config.json"):
            assert (folder / name / file).read_bytes() == (reference / name / file).read_bytes()


@pytest.mark.parametrize("kind", STAGES)
@pytest.mark.parametrize(("owner", "name", "call"), [(MetricsLog, "write", 4), (MetricsLog, "write", 9)])
def test_a_search_that_dies_within_a_stage_ends_with_the_same_bits(
    kind, owner, name, call, straight, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch, pytest.raises(Died):
        die_at(patch, owner, name, call)
        run(kind, tmp_path / "run", checkpoint_minutes=1e-9)
    _, shown = run(kind, tmp_path / "run")
    assert "resuming" in shown
    assert_same(tmp_path / "run", straight / kind)


@pytest.mark.parametrize("kind", STAGES)
def test_a_search_that_dies_between_stages_ends_with_the_same_bits(kind, straight, tmp_path, monkeypatch):
    """It dies when the last stage takes its folder: before and after its configuration is there."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(Died):
        die_at(patch, jdarts.search.stages, "next_stage", 2)
        run(kind, folder)
    assert not (folder / "config.json").exists()
    with monkeypatch.context() as patch, pytest.raises(Died):
        die_at(patch, jdarts.search.task.SearchTask, "initial", 1)
        run(kind, folder)
    assert (folder / "config.json").exists()
    result, shown = run(kind, folder)
    assert f"{folder / 'stage1'} has finished" in shown
    assert_same(folder, straight / kind)
    again, shown = run(kind, folder)
    assert f"{folder} has finished" in shown
    assert again.genotype == result.genotype


def normal_cell(folder):
    cells = parse_genotype((folder / "genotype.txt").read_text())
    assert isinstance(cells, Genotype)
    return cells.normal


@pytest.mark.parametrize("kind", STAGES)
def test_the_last_stage_is_the_run(kind, straight, monkeypatch, capsys):
    folder = straight / kind
    stage = SearchConfig(**{name: value for name, value in RunFolder(folder).settings().items() if name != "data"})
    assert stage.staging.stage == 2
    assert stage.staging.edge_operations is not None
    monkeypatch.setattr("sys.argv", ["derive", str(folder)])
    derive()
    assert (folder / "genotype.txt").read_text().strip() in capsys.readouterr().out
    if kind == "p_darts":
        assert "skip_connect" not in [name for name, _ in normal_cell(folder)]
        assert {len(names) for names in stage.search_space.normal} == {3}
        assert json.loads((folder / "summary.json").read_text())["alphas"].keys() == {"normal", "reduce"}
    else:
        masks = method_fields(stage.search_method())["masks"]
        assert {kind: np.sum(masks[kind], axis=-1).tolist() for kind in CELL_KINDS} == {
            kind: [3, 3] for kind in CELL_KINDS
        }


@pytest.mark.parametrize("kind", STAGES)
def test_its_page_shows_every_stage_and_repeats_the_whole_search(kind, straight):
    page, whole = (straight / kind / "report.html").read_text(), config(kind, straight / kind)
    count = whole.staging.count
    assert '<section id="stages">' in page and f"stage {count} of {count}" in page
    assert all(f'href="stage{number}/report.html"' in page for number in range(1, count))
    assert f"--epochs {whole.loop.epochs} " in page
    left = RunFolder(straight / kind).settings()["edge_operations"]
    kept = sum(len(edge) for edge in left[0])
    assert f"{kept} of {sum(map(len, whole.search_space.normal))} operations are left in the last stage" in page


def test_folders_that_do_not_fit_are_refused_before_the_first_stage(straight, tmp_path):
    with pytest.raises(InputError, match="begun with other settings: --seed 0"):
        run("p_darts", straight / "p_darts", seed=1)
    folder = tmp_path / "run"
    shutil.copytree(straight / "drnas", folder)
    shutil.rmtree(folder / "stage1")
    with pytest.raises(InputError, match="stage1 is missing, on which it depends"):
        run("drnas", folder)
    assert not (folder / "stage1").exists()
    shutil.rmtree(folder)
    shutil.copytree(straight / "drnas/stage1", folder / "stage1")
    shutil.rmtree(folder / "stage1/checkpoints")
    with pytest.raises(InputError, match="the next one starts with its last checkpoint"):
        run("drnas", folder)
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files and no run"):
        run("p_darts", plain)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("p_darts", {"seeds": "0-1"}, "start one search for each --seed"),
        ("drnas", {"stop": "skip_connections"}, "may end a stage early"),
        ("p_darts", {"epochs": 5}, "give a multiple of 2"),
        ("p_darts", {"alphas_from": 2}, "no alphas move"),
        ("p_darts", {"dropped_operations": ()}, "needs --dropped-operations"),
        ("p_darts", {"dropped_operations": (4,)}, "that leave 2 or more"),
        ("p_darts", {"dropped_operations": (0,)}, "numbers from 1"),
        ("p_darts", {"earlier_cells": (3, 4)}, "give 1"),
        ("p_darts", {"earlier_cells": (2,)}, "only reduction cells"),
        ("p_darts", {"earlier_cells": (0,)}, "--earlier-cells is 0"),
        ("p_darts", {"earlier_skip_dropout": (1.0,)}, "--earlier-skip-dropout is 1.0"),
        ("p_darts", {"kept_operations": (2,)}, "which --stages p_darts does not read"),
        ("drnas", {"earlier_cells": (4,)}, "which --stages drnas does not read"),
        ("drnas", {"kept_operations": (5,)}, "falling numbers below that"),
        ("drnas", {"kept_operations": (1,)}, "2 or more"),
        ("drnas", {"earlier_partial_channels": (1,)}, "numbers that do not grow"),
        ("drnas", {"earlier_partial_channels": (5,)}, "5"),
        ("drnas", {"mixture": "sigmoid", "penalty": "none"}, "not of sigmoid"),
        ("drnas", {"edge_weights": True}, "with --edge-weights"),
        ("drnas", {"freeze_below": 0.4}, "leave one of the two out"),
        ("drnas", {"stages": "none"}, "which --stages none does not read"),
    ],
)
def test_stages_that_make_no_sense_are_refused(kind, changes, message):
    with pytest.raises(InputError, match=message):
        config(kind, **changes).check()


def test_the_method_alone_without_its_stages_is_one_search():
    plain = SearchConfig(method="drnas", stages="none")
    plain.check()
    assert (plain.loop.epochs, plain.rate_epochs, plain.staging.is_whole) == (50, (0, 50), False)
