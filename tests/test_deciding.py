"""Searches that decide on the supernet after their epochs (DARTS-PT), and end with the same bits after any interruption."""

import io
import json
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_runs
from small_runs import leaves, records, user_settings, with_stand_ins
from small_search import SupernetAttributes, searches
from test_search_devices import assert_close

import jdarts.search.building
from jdarts import InputError
from jdarts.checkpoint import newest
from jdarts.derivation import derive_genotype
from jdarts.derive import main as derive
from jdarts.genotype import Genotype, parse_genotype
from jdarts.methods.perturbation_selection import Decisions
from jdarts.optimizers import constant_after, epoch_cosine, restarted, weight_optimizer
from jdarts.report import MetricsLog
from jdarts.runs.task import Evaluation
from jdarts.search import SearchConfig, search_seeds
from jdarts.space import CELL_KINDS

__all__ = ["user_settings"]

SETTINGS = {
    "dataset": "digits",
    "channels": 2,
    "cells": 3,
    "nodes": 2,
    "operations": ("skip_connect", "max_pool_3x3", "dil_conv_3x3"),
    "epochs": 2,
    "batch_size": 256,
    "log_every": 1,
    "hypergradient": "first_order",
    "padding": 0,
    "select": "perturbation",
    "decision_epochs": 1,
}
#: Edges to decide, then one node with three inputs.
ROUNDS, STEPS_PER_EPOCH = 6, 2
EPOCHS = SETTINGS["epochs"] + ROUNDS - 1


class QuickNetwork(SupernetAttributes):
    """Stands in for the supernet: every operation of every edge is a direction in the features."""

    @nn.compact
    def __call__(self, images, weights, *, train, controls=None):
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, axis_name=self.axis_name)
        flat = norm(images.reshape(len(images), -1))
        mixed = flat
        for kind in CELL_KINDS:
            factors = weights.factors(kind)
            angles = jnp.arange(factors.size * flat.shape[-1], dtype=flat.dtype).reshape(*factors.shape, -1)
            mixed = jnp.tanh(mixed * jnp.einsum("eo,eof->f", factors, jnp.sin(angles)))
        # Uniform weights come from the run's one draw; others have a program of their own.
        return nn.Dense(self.classes, kernel_init=nn.initializers.lecun_uniform())(mixed)


def quicken(replace):
    replace(jdarts.search.building, "Supernet", QuickNetwork)
    small_runs.leave_undrawn(replace)


quick = with_stand_ins(quicken)


config, run = searches(SETTINGS)
undisturbed = small_runs.undisturbed_run(run)


def test_every_edge_is_decided_and_each_node_keeps_two_inputs(undisturbed, monkeypatch, capsys):
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["epochs"] == EPOCHS
    assert "has decided on 10 of 10 edges" in summary["verdict"]["text"][0]
    found = newest(undisturbed / "checkpoints", [])
    assert found is not None
    space = config(None).search_space
    decisions = Decisions.from_json(found.record["decisions"], space)
    assert decisions.undecided == 0 and [len(decisions.deleted[kind]) for kind in CELL_KINDS] == [1, 1]
    cells = parse_genotype((undisturbed / "genotype.json").read_text(), Genotype)
    for kind in CELL_KINDS:
        left = [edge for edge in range(5) if edge not in decisions.deleted[kind]]
        expected = {
            (space.edges[edge][1], space.operations(kind)[edge][decisions.operations[kind][edge]], space.edges[edge][0])
            for edge in left
        }
        nodes = cells.nodes(kind)
        assert {(node + 2, *edge) for node in range(2) for edge in nodes[node]} == expected
    monkeypatch.setattr("sys.argv", ["derive", str(undisturbed)])
    derive()
    assert capsys.readouterr().out.strip() == str(cells)
    # The rule of another search reads the alphas, which have not decided.
    monkeypatch.setattr("sys.argv", ["derive", str(undisturbed), "--select", "argmax"])
    derive()
    assert capsys.readouterr().out.strip() != str(cells)


def test_one_decision_for_each_kind_of_cell_after_each_epoch(undisturbed, quick, tmp_path):
    genotypes = sorted((undisturbed / "genotypes").iterdir())
    assert len({path.read_bytes() for path in genotypes[-ROUNDS:]}) > 1
    _, shown = run(tmp_path / "run")
    lines = [line for line in shown.split("\n") if line.startswith("decided in the")]
    assert len(lines) == 2 * ROUNDS
    assert ["on edge" in line for line in lines] == [True] * 10 + [False] * 2
    assert all("deleted" in line for line in lines[10:])
    small_runs.assert_same_bits(tmp_path / "run", undisturbed, ["genotype.json", "genotype.txt"])


def test_weights_train_at_a_tenth_of_the_rate_between_the_decisions(undisturbed):
    rates = [record["learning_rate"] for record in records(undisturbed) if "learning_rate" in record]
    assert len(rates) == STEPS_PER_EPOCH * EPOCHS
    np.testing.assert_allclose(rates[:4], [0.025, 0.025, 0.013, 0.013], rtol=1e-6)
    np.testing.assert_allclose(rates[4:], 0.0025, rtol=1e-6)


def test_the_optimiser_starts_again_and_its_schedule_continues():
    schedule = constant_after(epoch_cosine(0.1, 0.0, epochs=2, steps_per_epoch=3), 6, 0.01)
    for optimizer in ("sgd", "adamw"):
        chain = weight_optimizer(schedule, optimizer=optimizer)
        weights = {"a": jnp.ones(3), "b": jnp.ones(2)}
        state = chain.init(weights)
        for _ in range(6):
            _, state = chain.update(weights, state, weights)
        again = restarted(chain, state, weights)
        counts = [leaf for leaf in jax.tree.leaves(again) if leaf.ndim == 0]
        assert sorted(counts) == ([6] if optimizer == "sgd" else [0, 6])
        assert all(not np.any(leaf) for leaf in jax.tree.leaves(again) if leaf.ndim)
    update: Any = chain.update(weights, again, weights)[0]
    # Adam's first step is as long as the learning rate, and its decay is scaled by it.
    np.testing.assert_allclose(update["a"], -0.01 * (1 + 3e-4), rtol=1e-5)
    momentum: Any = optax.sgd(schedule).init(weights)
    assert isinstance(momentum[1], optax.ScaleByScheduleState)


def test_a_search_that_dies_anywhere_ends_with_the_same_bits(undisturbed, tmp_path):
    """In the search, between two rounds, in the midst of a round, in that of another: one search dies again and again."""
    every_step = {"checkpoint_minutes": 1e-9}
    deaths = [
        (MetricsLog, "write", 3, every_step, 1),
        (MetricsLog, "write", 8, every_step, 5),
        (Evaluation, "means", 12, every_step, 7),
        (Evaluation, "means", 25, every_step, 13),
    ]
    small_runs.die_in_turn(tmp_path / "run", run, deaths)
    _, shown = run(tmp_path / "run")
    assert "resuming" in shown
    small_runs.assert_same_bits(tmp_path / "run", undisturbed, ["genotype.json", "genotype.txt"])


def test_a_signal_amid_decisions_saves_what_was_before_them(undisturbed, tmp_path, monkeypatch):
    means, calls = Evaluation.means, []

    def interrupted(self, between):
        calls.append(1)
        if len(calls) == 10:
            small_runs.os.kill(small_runs.os.getpid(), 2)
        return means(self, between)

    with monkeypatch.context() as patch, pytest.raises(jdarts.runs.interruption.Interrupted):
        patch.setattr(Evaluation, "means", interrupted)
        run(tmp_path / "run")
    run(tmp_path / "run")
    assert leaves(tmp_path / "run") == leaves(undisturbed)


def test_each_seed_decides_what_it_decides_alone(undisturbed, tmp_path):
    run(tmp_path / "alone", seed=2)
    stream = io.StringIO()
    search_seeds(config(tmp_path / "seeds", seeds="0,2"), stream=stream)
    for seed, alone in ((0, undisturbed), (2, tmp_path / "alone")):
        assert_close(tmp_path / "seeds" / f"seed{seed}", alone)
        assert f"seed {seed}: decided in the normal cell" in stream.getvalue()


def test_devices_share_the_batches_that_score_supernets(undisturbed, quick, tmp_path):
    run(tmp_path / "run", devices=2)
    assert_close(tmp_path / "run", undisturbed)


def test_fixed_alphas_stay_where_they_started(quick, tmp_path):
    result, _ = run(tmp_path / "run", alphas_from=2, decision_batches=1, decision_criterion="loss")
    assert all(np.max(np.abs(table)) < 0.01 for table in result.alphas.values())


Changes = dict[str, Any]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"operations": ("none", "skip_connect", "max_pool_3x3")}, "needs a space without none; leave it out of"),
        ({"stop": "skip_connections"}, "--stop skip_connections ends a search at an epoch that nobody knows before"),
        ({"stages": "p_darts", "dropped_operations": (1,)}, "--stages p_darts leaves other operations to each stage"),
        ({"select": "argmax"}, "--decision-epochs is 1, which --select argmax does not read"),
        ({"decision_epochs": 0}, "--decision-epochs is 0; give 1 or more"),
        ({"decision_batches": 0}, "--decision-batches is 0; give 1 or more"),
        ({"decision_criterion": "error"}, "--decision-criterion is 'error'; give accuracy or loss"),
        ({"select": "perturbation:3"}, "the selection is 'perturbation:3', but perturbation has no value"),
    ],
    ids=str,
)
def test_what_does_not_combine_is_refused_with_the_reason(changes: Changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_the_preset_has_the_authors_values():
    found = SearchConfig(method="darts_pt")
    found.check()
    deciding = found.deciding()
    assert deciding is not None
    # 50 epochs, then 14 edges and 3 nodes with 5 epochs from one decision to the next.
    assert (deciding.search_epochs, deciding.epochs, deciding.learning_rate) == (50, 50 + 16 * 5, 0.0025)
    assert "none" not in found.operations and found.hypergradient == "first_order"
    SearchConfig(method="sdarts_rs", select="perturbation").check()


def test_another_search_has_no_decisions_to_derive_from():
    space = config(None).search_space
    alphas = {kind: np.zeros((5, 3)) for kind in CELL_KINDS}
    with pytest.raises(InputError, match="--select perturbation reads the decisions of a search that had this option"):
        derive_genotype(alphas, space, select="perturbation")
