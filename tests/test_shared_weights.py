"""Weights that random cells train, and the cells that they choose (random search with weight sharing)."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
from one_supernet import answered
from small_runs import Died, die_at, user_settings
from small_search import searches
from test_deciding import Changes, quick

from jdarts import InputError
from jdarts.checkpoint import newest
from jdarts.derivation import genotype_of as genotype_of_record
from jdarts.genotype import Genotype, parse_genotype
from jdarts.methods.mixtures import mixture_by_name, mixture_of
from jdarts.methods.perturbation_selection import columns_of, undecided
from jdarts.methods.questions import Score
from jdarts.methods.random_cells import random_cells
from jdarts.methods.selection import SHARING
from jdarts.relaxation import NO_CONTROLS
from jdarts.runs.task import Evaluation
from jdarts.search.task import one_hot
from jdarts.space import CELL_KINDS, ChoiceSpace, SearchSpace, recurrent_space, uniform_space

__all__ = ["quick", "user_settings"]

SETTINGS = {
    "method": "random_sharing",
    "dataset": "digits",
    "channels": 2,
    "cells": 3,
    "nodes": 2,
    "operations": ("none", "skip_connect", "max_pool_3x3", "dil_conv_3x3"),
    "epochs": 2,
    "batch_size": 256,
    "log_every": 1,
    "decision_candidates": 12,
    "decision_finalists": 3,
}
CANDIDATES, FINALISTS = SETTINGS["decision_candidates"], SETTINGS["decision_finalists"]


config, run = searches(SETTINGS)
undisturbed = small_runs.undisturbed_run(run)

RAGGED = SearchSpace(
    normal=(("none", "skip_connect", "noise"), ("noise",), ("skip_connect", "none"), ("none", "noise"), ("noise",)),
    reduce=(("noise", "skip_connect"),) * 5,
)


@pytest.mark.parametrize("space", [uniform_space(nodes=3), RAGGED], ids=["darts", "ragged"])
@pytest.mark.parametrize("inputs", [1, 2])
def test_a_random_cell_has_two_inputs_of_each_node_and_an_operation_of_each_input(space, inputs):
    mixture = random_cells(inputs)
    alphas = mixture.init(jax.random.key(0), space, jnp.float64)
    draw = jax.jit(jax.vmap(lambda key: mixture.weights(alphas, space, key, NO_CONTROLS)))
    found = draw(jax.random.split(jax.random.key(1), 3000))
    mean = mixture.weights(alphas, space, None, NO_CONTROLS)
    targets = np.array([target for _, target in space.edges])
    for kind in CELL_KINDS:
        tables = np.asarray(found.operations[kind])
        assert set(np.unique(tables)) == {0.0, 1.0}
        used = tables.sum(axis=-1)
        assert used.max() == 1
        # Nothing passes through an edge that is not drawn.
        assert found.edges is not None
        np.testing.assert_array_equal(found.edges[kind], used)
        share = np.zeros(tables.shape[1:])
        for edge, names in enumerate(space.operations(kind)):
            incoming = int(np.sum(targets == targets[edge]))
            share[edge, : len(names)] = min(inputs / incoming, 1) / len(names)
        for target in set(targets):
            assert set(used[:, targets == target].sum(axis=-1)) == {min(inputs, int(np.sum(targets == target)))}
        np.testing.assert_allclose(tables.mean(axis=0), share, atol=0.04)
        np.testing.assert_allclose(np.asarray(mean.operations[kind]), share, rtol=1e-12)
    assert not np.array_equal(found.operations["normal"], found.operations["reduce"])


def test_every_row_of_every_choice_draws_one_candidate():
    space = ChoiceSpace((("block", (("conv", "skip", "none"),)), ("scanned", (("a", "b"),) * 3)))
    mixture = random_cells()
    alphas = mixture.init(jax.random.key(0), space, jnp.float64)
    found = jax.jit(jax.vmap(lambda key: mixture.weights(alphas, space, key, NO_CONTROLS)))(
        jax.random.split(jax.random.key(1), 2000)
    )
    mean = mixture.weights(alphas, space, None, NO_CONTROLS)
    for name, rows in space.tables:
        tables = np.asarray(found.operations[name])
        assert set(np.unique(tables)) == {0.0, 1.0} and np.all(tables.sum(axis=-1) == 1)
        np.testing.assert_allclose(tables.mean(axis=0), 1 / len(rows[0]), atol=0.05)
        np.testing.assert_allclose(mean.operations[name], 1 / len(rows[0]), rtol=1e-12)


def test_random_cells_have_no_alphas_to_move():
    found = config(None)
    found.check()
    method = found.search_method()
    assert not method.mixture.has_alphas
    assert {method.program(step, epoch) for step in range(3) for epoch in range(3)} == {"step"}
    assert mixture_of({"mixture": "random_cells"}).random == mixture_by_name("random_cells").random is True
    recurrent = recurrent_space(nodes=3)
    table = random_cells(1).weights(jnp.zeros((6, 5)), recurrent, jax.random.key(0), NO_CONTROLS).operations
    assert jnp.sum(table["recurrent"]) == 3


def test_shared_weights_choose_the_cells(undisturbed):
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert "random cells have trained have chosen these cells" in summary["verdict"]["text"][0]
    assert 0 < summary["cells_accuracy"] <= 1
    cells = parse_genotype((undisturbed / "genotype.txt").read_text(), Genotype)
    assert all(len(cells.nodes(kind)[node]) == 2 for kind in CELL_KINDS for node in range(2))
    # Before the last epoch's end there are no cells.
    assert len(list((undisturbed / "genotypes").iterdir())) == 1
    found = newest(undisturbed / "checkpoints", [])
    assert found is not None
    assert genotype_of_record(found.record) == cells
    early = {**found.record, "decisions": undecided(config(None).search_space).to_json()}
    with pytest.raises(InputError, match="has not chosen its cells yet"):
        genotype_of_record(early)


@pytest.mark.parametrize("call", [3, 8, 2 + CANDIDATES + 1])
def test_a_death_amid_the_proposals_changes_nothing(call, undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Died):
        die_at(patch, Evaluation, "means", call)
        run(tmp_path / "run")
    run(tmp_path / "run")
    small_runs.assert_same_bits(tmp_path / "run", undisturbed, ["genotype.json"])


def scores_of(space):
    """The score of a mixture, and what was asked."""
    asked = []

    def evaluate(question):
        asked.append(question)
        table = np.concatenate([question.mixture[kind].ravel() for kind in CELL_KINDS])
        return Score(float(np.mean(np.sin(np.arange(table.size)) * table)), 0.0)

    return evaluate, asked


@pytest.mark.parametrize("name", SHARING)
def test_every_baseline_proposes_the_cells_that_it_ends_with(name):
    deciding = config(None, method=name, decision_candidates=40).deciding()
    assert deciding is not None
    space = config(None).search_space
    evaluate, asked = scores_of(space)
    start = undecided(space)
    found = answered(deciding.asking(0, 5, start, {}, 10), evaluate)
    assert len(asked) == 40 + FINALISTS
    finalists = [question for question in asked if question.whole]
    best = max(finalists, key=lambda question: evaluate(question).accuracy)
    columns = columns_of(found)
    for kind in CELL_KINDS:
        used = best.mixture[kind].any(axis=-1)
        np.testing.assert_array_equal(columns[kind] >= 0, used)
        np.testing.assert_array_equal(columns[kind][used], best.mixture[kind].argmax(axis=-1)[used])
        assert not best.mixture[kind][:, 0].any()
    # It is decided once.
    again = answered(deciding.asking(0, 5, found, {}, 10), evaluate)
    assert again == found
    assert answered(deciding.asking(0, 6, start, {}, 10), evaluate) != found


def test_one_hot_weights_of_a_genotype():
    space = uniform_space(["none", "skip_connect", "max_pool_3x3"], nodes=2)
    cell = (("max_pool_3x3", 0), ("skip_connect", 1), ("skip_connect", 2), ("max_pool_3x3", 0))
    tables = one_hot(Genotype(cell, (2, 3), cell[::-1][2:] + cell[2:], (2, 3)), space)
    np.testing.assert_array_equal(tables["normal"], [[0, 0, 1], [0, 1, 0], [0, 0, 1], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(tables["reduce"].sum(axis=1), [1, 1, 1, 0, 1])


def test_a_search_says_how_its_cells_alone_do(quick, tmp_path):
    changes: Changes = {"method": "darts", "hypergradient": "first_order", "epochs": 1}
    usual = {"decision_candidates": 1000, "decision_finalists": 10}
    result, shown = run(tmp_path / "run", evaluate_cells=True, **changes, **usual)
    assert result.cells_accuracy is not None
    assert f"with the operations of its cells alone: {100 * result.cells_accuracy:.2f} %" in shown
    again, _ = run(tmp_path / "run", **changes, **usual)
    assert again.cells_accuracy == result.cells_accuracy


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"mixture": "sigmoid"},
            "--mixture is sigmoid, and --select random_sharing trains the weights by random cells",
        ),
        ({"alphas_from": 1}, "--alphas-from is 1, and --select random_sharing trains the weights by random cells"),
        ({"eigenvalue_every": 1}, "--eigenvalue-every is 1, and --select random_sharing"),
        ({"hypergradient": "exact"}, "--hypergradient is exact, and --select random_sharing moves no alphas"),
        ({"edges_per_node": 1}, "--edges-per-node is 1, and the random cells of --select random_sharing have 2"),
        ({"stop": "skip_connections"}, "--stop skip_connections ends a search"),
        (
            {"decision_epochs": 3},
            "--decision-epochs is 3, which --select random_sharing does not read; leave it out, or give",
        ),
        ({"decision_candidates": 0}, "--decision-candidates is 0; give 1 or more"),
        ({"select": "argmax"}, "--decision-candidates is 12, which --select argmax does not read"),
    ],
    ids=str,
)
def test_what_does_not_combine_is_refused_with_the_reason(changes: Changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()
