"""Guards of searches on text: the eigenvalue, foresight, rules that read them, and the cell on the supernet's weights."""

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small_runs
from small_language import SEARCH_STEPS, corpus, quick, run_search, search_config
from small_runs import assert_same_bits, newest, user_settings

from jdarts.bilevel.curvature import ROBUST_DARTS_DECAY
from jdarts.errors import InputError
from jdarts.genotype import RecurrentGenotype
from jdarts.language.search.step import search_program
from jdarts.language.search.task import one_hot_table
from jdarts.language.token_streams import token_stream
from jdarts.methods import stopping
from jdarts.methods.stopping import WEIGHT_DECAY, Epoch, RollBack, Stop, StoppingRule
from jdarts.nets.language import mean_loss, token_losses
from jdarts.runs.guards import CURVATURE, FORESIGHT
from jdarts.space import recurrent_space

__all__ = ["quick", "user_settings"]

MEASURED = {"eigenvalue_every": 1, "foresight_every": 2, "evaluate_cells": True}
#: Guards read a loss, whatever its cell.
ONE_NODE = {"nodes": 1}
#: A measurement that took a key of a step would change one mask as well as four.
ONE_MASK = dict.fromkeys(("dropouth", "dropoutx", "dropouti"), 0.0)
FIRST_ORDER = {"hypergradient": "first_order", "epochs": 3, **ONE_NODE, **ONE_MASK}
WITHOUT_DROPOUT = dict.fromkeys(("dropout", "dropouth", "dropoutx", "dropouti"), 0.0)


def made(**changes):
    """A search in float64: its program, the state after a step, and the inputs of a step."""
    config = search_config(None, **{**WITHOUT_DROPOUT, **ONE_NODE, "learning_rate": 0.5, **changes})
    texts = corpus().train, corpus().valid
    streams = [token_stream(words, config.batches.batch_size, size=config.batches.bptt) for words in texts]
    rows = streams[0].rows, streams[1].rows
    program = search_program(config, vocabulary=12, rows=rows, steps_per_epoch=3, dtype=jnp.float64)
    inputs = *(stream.words for stream in streams), np.int32(config.batches.bptt)
    state, _ = jax.jit(program.step)(jax.jit(program.init)(np.uint32(3)), *inputs)
    return program, state, inputs


@pytest.fixture(scope="module")
def exact():
    with jax.numpy_dtype_promotion("standard"):
        yield made(hypergradient="exact", alpha_learning_rate=1e-4)


def test_the_eigenvalue_is_that_of_the_hessian_of_the_next_validation_segment(exact):
    program, state, inputs = exact
    found = jax.jit(program.measures[CURVATURE])(state, *inputs)
    variables = {"params": state.bilevel.weights, "batch_stats": state.bilevel.model_state}
    # One segment has been read.
    assert state.valid.row == 6 and np.any(state.valid.hidden)
    words: Any = np.asarray(inputs[1])[6:13]

    def loss(alphas):
        prediction, _ = program.model.apply(
            variables, words[:-1], state.valid.hidden, alphas, train=True, mutable=["batch_stats"]
        )
        return mean_loss(token_losses(prediction.logits, words[1:]))

    hessian = jax.jit(jax.hessian(loss))(state.bilevel.alphas)
    (alphas,) = jax.tree.leaves(state.bilevel.alphas)
    matrix = np.asarray(jax.tree.leaves(hessian)[0]).reshape(alphas.size, alphas.size)
    expected = np.linalg.eigvalsh(matrix)[-1]
    np.testing.assert_allclose(found["guards/eigenvalue"] - ROBUST_DARTS_DECAY, expected, rtol=1e-6)
    assert found["guards/eigenvalue_residual"] < 1e-6 * expected


def test_the_exact_hypergradient_foretells_the_change_of_the_next_step(exact):
    program, state, inputs = exact
    found = jax.jit(program.measures[FORESIGHT])(state, *inputs)
    np.testing.assert_allclose(found["guards/hypergradient_slope"], 1, atol=1e-2)
    np.testing.assert_allclose(found["guards/hypergradient_correlation"], 1, atol=1e-3)


def epochs(folder):
    return [each for each in small_runs.records(folder) if "epoch/number" in each]


@pytest.fixture(scope="module")
def measured(quick, tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured") / "run"
    return folder, *run_search(folder, **FIRST_ORDER, **MEASURED)


def test_numbers_of_the_epochs_and_of_the_summary(measured):
    folder, result, shown = measured
    for record in epochs(folder):
        assert np.isfinite(record["epoch/guards_eigenvalue"]) and record["epoch/guards_eigenvalue_residual"] < 1e-3
    assert ["epoch/guards_hypergradient_slope" in record for record in epochs(folder)] == [True, False, True]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["cells_perplexity"] == result.cells_perplexity > 1
    assert f"with the operations of its cell alone: validation perplexity {result.cells_perplexity:.1f}" in shown
    again, _ = run_search(folder, **FIRST_ORDER, **MEASURED)
    assert again.cells_perplexity == result.cells_perplexity


def test_measuring_changes_no_bit_and_survives_a_death(measured, tmp_path, monkeypatch):
    folder, *_ = measured
    plain, _ = run_search(tmp_path / "plain", **FIRST_ORDER)
    assert plain.cells_perplexity is None
    assert small_runs.leaves(tmp_path / "plain") == small_runs.leaves(folder)
    small_runs.die_at(monkeypatch, small_runs.checkpoint, "save", 2)
    with pytest.raises(small_runs.Died):
        run_search(tmp_path / "dead", **FIRST_ORDER, **MEASURED)
    monkeypatch.undo()
    run_search(tmp_path / "dead", **FIRST_ORDER, **MEASURED)
    without_time = [[{**each, "time": 0} for each in epochs(path)] for path in (tmp_path / "dead", folder)]
    assert without_time[0] == without_time[1]


def test_the_cell_alone_is_the_supernet_with_one_operation_on_the_kept_edges():
    space = recurrent_space(("none", "tanh", "relu"), nodes=2)
    table = one_hot_table(RecurrentGenotype((("relu", 0), ("tanh", 1)), (1, 2)), space)
    np.testing.assert_array_equal(table, [[0, 0, 1], [0, 0, 0], [0, 1, 0]])


def test_a_rule_reads_the_eigenvalue_and_gives_the_cell_of_an_earlier_epoch(measured, tmp_path):
    folder = tmp_path / "run"
    result, shown = run_search(folder, **FIRST_ORDER | {"epochs": 9, "stop": "eigenvalue:every=1,ratio=1e-9,first=0"})
    assert "stopped early: the largest eigenvalue of the alphas' Hessian has grown" in shown
    history = newest(folder).record["history"]
    assert [each["numbers"]["guards/eigenvalue"] > 0 for each in history] == [True] * len(history)
    epoch = json.loads((folder / "summary.json").read_text())["stopped"]["epoch"]
    assert epoch == len(history) - 6
    assert json.loads(result.genotype.to_json()) == history[epoch - 1]["facts"]["genotype"]


def once(history):
    """After the second epoch back to the first with a thousand times the weight decay."""
    decay = history[-1].numbers[WEIGHT_DECAY]
    return RollBack("a test", 1, {WEIGHT_DECAY: 1000 * decay}) if len(history) == 2 and decay < 1e-4 else None


def test_a_search_starts_again_with_more_decay_and_a_death_changes_nothing(measured, tmp_path, monkeypatch):
    rule = StoppingRule(once, reach=2, changes=(WEIGHT_DECAY,))
    monkeypatch.setattr(stopping, "RULES", {**stopping.RULES, "once": lambda: rule})
    settings = {**FIRST_ORDER, "stop": "once"}
    _, shown = run_search(tmp_path / "whole", **settings)
    assert "the search starts again from epoch 1 with weight_decay 0.0005: a test" in shown
    decays = [each["epoch/controls_weight_decay"] for each in epochs(tmp_path / "whole")]
    np.testing.assert_allclose(decays, [5e-7, 5e-4, 5e-4], rtol=1e-6)
    # The first epoch is that of a search without the rule, and the next is not.
    ours, plain = (
        [each["epoch/train_loss"] for each in epochs(folder)] for folder in (tmp_path / "whole", measured[0])
    )
    assert ours[0] == plain[0]
    assert ours[1] != plain[1]
    with monkeypatch.context() as dying:
        small_runs.die_at(dying, small_runs.checkpoint, "save", 3)
        with pytest.raises(small_runs.Died):
            run_search(tmp_path / "dead", **settings)
    run_search(tmp_path / "dead", **settings)
    assert_same_bits(tmp_path / "dead", tmp_path / "whole", ["genotype.json"])
    assert newest(tmp_path / "dead").step == SEARCH_STEPS // 2 * 3


def test_identities_end_a_search():
    rule = stopping.skip_connections(2, kind="recurrent")
    cells = [["identity", 0], ["tanh", 1], ["identity", 1]]
    history = [Epoch(1, {}, {"genotype": {"recurrent": cells[:2]}}), Epoch(2, {}, {"genotype": {"recurrent": cells}})]
    assert rule.decide(history[:1]) is None
    assert rule.decide(history) == Stop("the recurrent cell has 2 nodes with identity, and 2 end the search", 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"stop": "skip_connections"},
            "reads the 'normal' cell, and this search has recurrent cells; give skip_connections:kind=recurrent",
        ),
        ({"stop": "collapse"}, "--stop is 'collapse'; give adaptive_decay or eigenvalue"),
        ({"eigenvalue_every": -1}, "--eigenvalue-every is -1; give 0 or more"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        search_config(None, **settings).check()
