"""DARTS-PT's selection: its authors' decisions from their scores, and what the plan and the decisions must be."""

import dataclasses
import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fixtures_folder import fixture_files
from one_supernet import answered
from torch_layout import stacked_params, stacked_statistics

from jdarts.derivation import derive_genotype
from jdarts.errors import InputError
from jdarts.genotype import Genotype, parse_genotype
from jdarts.methods import perturbation_selection as selection
from jdarts.methods.perturbation_selection import Decisions
from jdarts.methods.questions import Question, Score, answered_together
from jdarts.methods.selection import PERTURBATION
from jdarts.nets.supernet import Supernet
from jdarts.relaxation import GIVEN, NO_CONTROLS, SOFTMAX, MixtureWeights, softmax_weights
from jdarts.space import CELL_KINDS, SearchSpace, darts_space, uniform_space

pytestmark = pytest.mark.usefixtures("standard_promotion")

SPACE = uniform_space(["skip_connect", "sep_conv_3x3", "max_pool_3x3"], nodes=3)

each_file = pytest.mark.parametrize("path", fixture_files("dartspt*.npz"))


class Recorded:
    """Gives stored scores in order, and keeps the mixtures that were asked for."""

    def __init__(self, rows):
        self.rows, self.mixtures = list(rows), []

    def __call__(self, question):
        self.mixtures.append(question.mixture)
        return Score(*self.rows[len(self.mixtures) - 1])


def read(path):
    numbers = np.load(path)
    edges = {
        kind: tuple(map(tuple, json.loads(str(numbers["primitives"]))[f"primitives_{name}"]))
        for kind, name in zip(CELL_KINDS, ("normal", "reduct"))
    }
    space = SearchSpace(edges["normal"], edges["reduce"])
    alphas = {kind: numbers[f"alphas/{kind}"] for kind in CELL_KINDS}
    return numbers, space, {kind: np.asarray(table) for kind, table in softmax_weights(alphas, space).items()}


def all_decided(numbers):
    """The decisions by loss on all operations, from the scores at the undecided start."""
    chosen = {kind: tuple(numbers[f"operations/{kind}/chosen_by_loss"].tolist()) for kind in CELL_KINDS}
    return Decisions(chosen, {kind: () for kind in CELL_KINDS})


def cells_of(decisions, space):
    """The cells of decisions on all operations."""
    alphas = {kind: np.zeros((space.num_edges, space.width(kind))) for kind in CELL_KINDS}
    return derive_genotype(alphas, space, select=PERTURBATION, decisions=decisions)


@each_file
@pytest.mark.parametrize("criterion", ["loss", "accuracy"])
def test_an_edge_keeps_the_operation_whose_removal_hurts_most(path, criterion):
    numbers, space, weights = read(path)
    for kind in CELL_KINDS:
        expected = numbers[f"operations/{kind}/chosen_by_{'loss' if criterion == 'loss' else 'acc'}"]
        for edge, scores in enumerate(numbers[f"operations/{kind}/accuracy_loss"]):
            evaluate = Recorded(scores)
            start = selection.undecided(space)
            found = answered(selection.decide_operation(start, kind, edge, space, weights, criterion), evaluate)
            assert found.operations[kind][edge] == expected[edge]
            assert sum(column >= 0 for k in CELL_KINDS for column in found.operations[k]) == 1
            assert len(evaluate.mixtures) == len(scores)
            for removed, mixture in enumerate(evaluate.mixtures):
                for k in CELL_KINDS:
                    changed = np.argwhere(mixture[k] != weights[k]).tolist()
                    assert changed == ([[edge, removed]] if k == kind else [])
                assert mixture[kind][edge, removed] == 0


@each_file
def test_decided_edges_stay_at_their_operation(path):
    numbers, space, weights = read(path)
    decisions = selection.undecided(space)
    for kind in CELL_KINDS:
        for edge in numbers["after_two/decided_edges"].tolist():
            evaluate = Recorded(numbers[f"operations/{kind}/accuracy_loss"][edge])
            decisions = answered(selection.decide_operation(decisions, kind, edge, space, weights, "loss"), evaluate)
    mixture = selection.mixture_of_decisions(weights, decisions)
    for kind in CELL_KINDS:
        np.testing.assert_allclose(mixture[kind], numbers[f"after_two/mixture/{kind}"], rtol=1e-12)
    evaluate, edge = Recorded(numbers["after_two/accuracy_loss"]), int(numbers["after_two/edge"])
    found = answered(selection.decide_operation(decisions, "reduce", edge, space, weights, "loss"), evaluate)
    assert found.operations["reduce"][edge] == numbers["after_two/chosen_by_loss"]
    np.testing.assert_array_equal(evaluate.mixtures[0]["normal"], mixture["normal"])


@each_file
def test_a_node_keeps_the_inputs_whose_removal_hurts_most(path):
    numbers, space, weights = read(path)
    decisions = all_decided(numbers)
    for kind in CELL_KINDS:
        for node in range(1, space.nodes):
            scores = numbers[f"edges/{kind}/node{node}/accuracy_loss"]
            evaluate = Recorded(scores[: node + 2])
            before = selection.mixture_of_decisions(weights, decisions)
            decisions = answered(selection.decide_inputs(decisions, kind, node, space, weights, "loss"), evaluate)
            edges = [edge for edge, (_, target) in enumerate(space.edges) if target == node + 2]
            kept = [edge for edge in edges if edge not in decisions.deleted[kind]]
            assert kept == sorted(numbers[f"edges/{kind}/node{node}/kept"].tolist())
            assert len(evaluate.mixtures) == len(edges)
            for edge, mixture in zip(edges, evaluate.mixtures):
                assert not mixture[kind][edge].any()
                rest = np.delete(np.arange(len(space.edges)), edge)
                np.testing.assert_array_equal(mixture[kind][rest], before[kind][rest])
    assert cells_of(decisions, space) == parse_genotype(str(numbers["genotype"]), Genotype)


@functools.cache
def supernet_of(path):
    """The supernet of a file: `decisions -> loss and gradient on batch 0`, and its scores of mixtures on all batches."""
    numbers, space, _ = read(path)
    flat = {name.removeprefix("weights/"): array for name, array in numbers.items() if name.startswith("weights/")}
    layers = int(numbers["hyper/layers"])
    settings: Any = {"channels": int(numbers["hyper/channels"]), "cells": layers, "dtype": jnp.float64}
    settings["classes"] = int(numbers["hyper/classes"])
    params, statistics = stacked_params(flat, space, layers), stacked_statistics(flat, space, layers)
    batches = [
        (numbers[f"valid/{i}/x"].transpose(0, 2, 3, 1), numbers[f"valid/{i}/y"].astype(np.int32))
        for i in range(int(numbers["hyper/batches"]))
    ]

    model = Supernet(space, mixture=GIVEN, **settings)

    # Under jit all passes share one trace.
    @jax.jit
    def losses(mixture, batch):
        variables = {"params": params, "batch_stats": statistics}
        logits, _ = model.apply(variables, batch[0], mixture, train=True, mutable=["batch_stats"])
        each = optax.softmax_cross_entropy_with_integer_labels(logits, batch[1])
        return each, jnp.argmax(logits, axis=-1) == batch[1]

    @jax.jit
    def scores(tables):
        """Of many mixtures, one after the other."""

        def score(table):
            mixture = selection.without_empty_edges(MixtureWeights(table))
            each, right = (jnp.concatenate(part) for part in zip(*(losses(mixture, batch) for batch in batches)))
            return 100 * jnp.mean(right.astype(jnp.float64)), jnp.mean(each)

        return jnp.stack(jax.lax.map(score, tables), axis=-1)

    @jax.jit
    def gradient(alphas, columns):
        def loss(alphas):
            mixture = SOFTMAX.weights(alphas, space, None, NO_CONTROLS)
            return jnp.mean(losses(selection.with_decisions(mixture, columns), batches[0])[0])

        return jax.value_and_grad(loss)(alphas)

    return scores, gradient


def stacked(mixtures):
    return {kind: np.stack([mixture[kind] for mixture in mixtures]) for kind in CELL_KINDS}


def close(found, expected):
    np.testing.assert_allclose(found[..., 1], expected[..., 1], rtol=1e-9)
    np.testing.assert_allclose(found[..., 0], expected[..., 0], rtol=1e-5)


@each_file
def test_the_supernet_has_the_authors_scores(path):
    numbers, space, weights = read(path)
    scores, _ = supernet_of(path)
    asked, expected = [weights], [numbers["whole/accuracy_loss"]]

    def ask(rows, decide, *arguments):
        evaluate = Recorded(rows)
        found = answered(decide(*arguments, space, weights, "loss"), evaluate)
        asked.extend(evaluate.mixtures)
        expected.extend(rows)
        return found

    start = selection.undecided(space)
    for kind in CELL_KINDS:
        for edge in (0, 5, len(space.edges) - 1):
            ask(numbers[f"operations/{kind}/accuracy_loss"][edge], selection.decide_operation, start, kind, edge)
    decisions = all_decided(numbers)
    for kind in CELL_KINDS:
        # The file judges all nodes of a cell before it deletes an edge.
        deleted: tuple[int, ...] = ()
        for node in range(1, space.nodes):
            rows = numbers[f"edges/{kind}/node{node}/accuracy_loss"][: node + 2]
            found = ask(rows, selection.decide_inputs, decisions, kind, node)
            deleted += found.deleted[kind]
        decisions = dataclasses.replace(decisions, deleted={**decisions.deleted, kind: deleted})
    close(scores(stacked(asked)), np.stack(expected))


@each_file
def test_decided_edges_have_no_gradient(path):
    numbers, _, _ = read(path)
    decided = numbers["after_two/decided_edges"].tolist()
    operations = {
        kind: tuple(int(numbers[f"operations/{kind}/chosen_by_loss"][e]) if e in decided else -1 for e in range(14))
        for kind in CELL_KINDS
    }
    decisions = Decisions(operations, {kind: () for kind in CELL_KINDS})
    alphas = {kind: numbers[f"alphas/{kind}"] for kind in CELL_KINDS}
    loss, found = supernet_of(path)[1](alphas, selection.columns_of(decisions))
    np.testing.assert_allclose(loss, numbers["after_two/loss"], rtol=1e-9)
    for kind in CELL_KINDS:
        expected = numbers[f"after_two/grad_alphas/{kind}"]
        np.testing.assert_allclose(found[kind], expected, rtol=1e-9, atol=1e-9 * np.abs(expected).max())
        assert not np.any(found[kind][np.array(decided)])


def test_the_mixture_of_training_is_that_of_the_decisions():
    draw = np.random.default_rng(0)
    alphas = {kind: draw.normal(size=(9, 3)) for kind in CELL_KINDS}
    decisions = Decisions(
        {"normal": (-1, 2, 0, -1, 1, -1, -1, -1, 0), "reduce": (1,) * 9},
        {"normal": (3, 4), "reduce": (8,)},
    )
    weights = {kind: np.asarray(table) for kind, table in softmax_weights(alphas, SPACE).items()}
    columns = selection.columns_of(decisions)
    free = SOFTMAX.weights(alphas, SPACE, None, NO_CONTROLS)
    for factors in (None, {kind: np.linspace(0.1, 0.9, 9) for kind in CELL_KINDS}):
        found = selection.with_decisions(free._replace(edges=factors), columns)
        each_cell = {kind: jnp.stack([table] * 2) for kind, table in free.operations.items()}
        by_cell = selection.with_decisions(free._replace(operations=each_cell, edges=factors), columns)
        assert found.edges is not None and by_cell.edges is not None
        for kind, table in selection.mixture_of_decisions(weights, decisions).items():
            np.testing.assert_allclose(found.operations[kind], table, rtol=1e-12)
            expected = np.ones(9) if factors is None else factors[kind].copy()
            # Nothing else passes through a deleted edge either.
            expected[list(decisions.deleted[kind])] = 0
            np.testing.assert_array_equal(found.edges[kind], expected)
            np.testing.assert_array_equal(by_cell.operations[kind][1], found.operations[kind])
            np.testing.assert_array_equal(by_cell.edges[kind][1], expected)
    assert selection.decisions_of(columns) == decisions


def test_ties_fall_to_the_first_operation_and_to_the_earlier_inputs():
    weights = {kind: np.full((9, 3), 1 / 3) for kind in CELL_KINDS}
    start = selection.undecided(SPACE)
    for criterion in ("accuracy", "loss"):
        found = answered(
            selection.decide_operation(start, "normal", 4, SPACE, weights, criterion), lambda question: Score(1, 1)
        )
        assert found.operations["normal"] == (-1, -1, -1, -1, 0, -1, -1, -1, -1)
        found = answered(
            selection.decide_inputs(start, "reduce", 2, SPACE, weights, criterion), lambda question: Score(1, 1)
        )
        assert found.deleted == {"normal": (), "reduce": (7, 8)}


def test_the_plan_decides_everything_once():
    rounds = selection.plan(darts_space_without_none(), jax.random.key(3))
    assert len(rounds) == 14 + 3
    assert all([step.kind for step in each] == ["normal", "reduce"] for each in rounds)
    assert [each[0].action for each in rounds] == ["operation"] * 14 + ["inputs"] * 3
    for kind in CELL_KINDS:
        steps = [step for each in rounds for step in each if step.kind == kind]
        edges = [step.place for step in steps if step.action == "operation"]
        nodes = [step.place for step in steps if step.action == "inputs"]
        assert sorted(edges) == list(range(14)) != edges and sorted(nodes) == [1, 2, 3]
    orders = {selection.plan(SPACE, jax.random.key(seed)) for seed in range(4)}
    assert len(orders) == 4 and selection.plan(SPACE, jax.random.key(0)) in orders
    one_input = selection.plan(SPACE, jax.random.key(0), inputs=1)
    assert sorted(each[0].place for each in one_input if each[0].action == "inputs") == [0, 1, 2]


def darts_space_without_none():
    return uniform_space(darts_space().normal[0][1:])


def made_up_supernet(epoch=0, seed=0):
    """Weights that change with the epoch, and scores that depend on all of the mixture."""
    draw = np.random.default_rng(seed)
    importance = {kind: draw.normal(size=(9, 3)) for kind in CELL_KINDS}
    table = np.exp(np.sin(epoch + np.arange(27.0))).reshape(9, 3)
    weights = {kind: table / table.sum(1, keepdims=True) for kind in CELL_KINDS}

    def evaluate(question):
        value = sum(float(np.sum(np.tanh(question.mixture[k] * importance[k] + 0.1 * epoch))) for k in CELL_KINDS)
        return Score(value, -value)

    return weights, evaluate


def rounds_from(decisions, first, rounds, seed=0):
    """The decisions before each round, and after the last."""
    found = [decisions]
    for number in range(first, len(rounds)):
        weights, evaluate = made_up_supernet(number, seed)
        found.append(answered(selection.decide_round(found[-1], rounds[number], SPACE, weights), evaluate))
    return found


def test_a_selection_resumes_before_and_after_any_round():
    rounds = selection.plan(SPACE, jax.random.key(1))
    whole = rounds_from(selection.undecided(SPACE), 0, rounds)
    assert [each.undecided for each in whole] == [*range(18, 0, -2), 0, 0, 0]
    genotype = cells_of(whole[-1], SPACE)
    assert [len(node) for node in genotype.nodes("normal")] == [2, 2, 2]
    for number, decisions in enumerate(whole):
        read_back = Decisions.from_json(json.loads(json.dumps(decisions.to_json())), SPACE)
        assert read_back == decisions == selection.decisions_of(selection.columns_of(decisions))
        if number % 4 == 0:
            assert rounds_from(read_back, number, rounds)[-1] == whole[-1]
        if number:
            # A round that is done asks nothing.
            weights, _ = made_up_supernet()
            again = answered(selection.decide_round(decisions, rounds[number - 1], SPACE, weights), Recorded([]))
            assert again == decisions
            assert selection.described(decisions, whole[number - 1], SPACE) != []
    assert selection.described(whole[-1], whole[-1], SPACE) == []


def test_selections_of_several_supernets_ask_together():
    plans = [selection.plan(SPACE, jax.random.key(seed)) for seed in (0, 1, 3)]
    alone = [rounds_from(selection.undecided(SPACE), 0, rounds, seed) for seed, rounds in enumerate(plans)]
    # Nodes 1 and 2 have different numbers of inputs: some selections end before others.
    assert len({rounds[-1][0].place for rounds in plans}) == 2
    for number in range(len(plans[0])):
        supernets = [made_up_supernet(number, seed) for seed in range(3)]
        together = answered_together(
            [
                selection.decide_round(own[number], rounds[number], SPACE, weights)
                for own, rounds, (weights, _) in zip(alone, plans, supernets)
            ],
            lambda questions, supernets=supernets: [score(each) for (_, score), each in zip(supernets, questions)],
        )
        assert together == [own[number + 1] for own in alone]
    assert answered_together([asks_nothing(1), asks_nothing(2)], lambda questions: []) == [1, 2]


def asks_nothing(result):
    return result
    yield Question({})


def test_the_reduction_cell_sees_the_decision_on_the_normal_cell():
    steps = selection.plan(SPACE, jax.random.key(1))[0]
    weights, score = made_up_supernet()
    seen = []

    def evaluate(question):
        seen.append(question.mixture)
        return score(question)

    decisions = answered(selection.decide_round(selection.undecided(SPACE), steps, SPACE, weights), evaluate)
    expected = np.eye(3)[decisions.operations["normal"][steps[0].place]]
    for mixture in seen[3:]:
        np.testing.assert_array_equal(mixture["normal"][steps[0].place], expected)


def test_what_cannot_be_decided_is_refused():
    with pytest.raises(InputError, match="needs a space without none"):
        selection.check_space(darts_space())
    fields = selection.undecided(SPACE).to_json()
    for damaged in (
        None,
        {},
        {**fields, "deleted": {"normal": [99], "reduce": []}},
        {**fields, "operations": {"normal": [0] * 8, "reduce": [0] * 9}},
        {**fields, "operations": {"normal": [3] * 9, "reduce": [0] * 9}},
    ):
        with pytest.raises(InputError, match="decisions of the checkpoint are damaged"):
            Decisions.from_json(damaged, SPACE)


def test_an_edge_with_one_operation_needs_no_evaluation():
    space = uniform_space(["skip_connect"], nodes=1)
    weights = {kind: np.ones((2, 1)) for kind in CELL_KINDS}
    found = answered(selection.decide_operation(selection.undecided(space), "normal", 1, space, weights), Recorded([]))
    assert found.operations["normal"] == (-1, 0)
