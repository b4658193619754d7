"""Searches without gradients: the numbers of the authors' code, and what each must do on small spaces."""

import json
import pickle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fixtures_folder import fixture_files
from one_supernet import answered

from jdarts.baselines import BASELINES, evolution, random_search, reinforce
from jdarts.baselines.architectures import (
    UNUSED,
    choice_architectures,
    darts_architectures,
    genotype_of,
    mutated_input,
    mutated_operation,
    nas_bench_201_architectures,
    one_hot_mixture,
    random_architecture,
    with_operation,
)
from jdarts.baselines.evolution import mutated, parent_among
from jdarts.baselines.reinforce import log_probability, sampled
from jdarts.baselines.weight_sharing import rounds_for, select_cells
from jdarts.errors import InputError
from jdarts.methods.questions import Score
from jdarts.space import CELL_KINDS, ChoiceSpace, SearchSpace, darts_space, uniform_space

pytestmark = pytest.mark.usefixtures("standard_promotion")

NB201 = nas_bench_201_architectures()
DARTS = darts_architectures(darts_space())
RAGGED = SearchSpace(
    normal=(
        ("none", "skip_connect", "noise"),
        ("noise",),
        ("skip_connect", "none"),
        ("dil_conv_3x3", "noise"),
        ("noise",),
    ),
    reduce=(("noise", "skip_connect"),) * 5,
)
#: A choice of three, one of two, and one with a row for each of two layers.
CHOICES = ChoiceSpace(
    (("block", (("conv", "skip", "none"),)), ("norm", (("layer", "none"),)), ("scanned", (("a", "b"), ("a", "b"))))
)
SPACES = {
    "darts": DARTS,
    "nb201": NB201,
    "ragged": darts_architectures(RAGGED, none=True),
    "choices": choice_architectures(CHOICES),
}
each_space = pytest.mark.parametrize("architectures", SPACES.values(), ids=SPACES)
each_file = pytest.mark.parametrize("path", fixture_files("baselines*.npz"))


def check(architectures, architecture):
    assert architecture.shape == (len(architectures.operations), len(architectures.targets))
    for cell, row in enumerate(architecture):
        for node in architectures.nodes:
            assert sum(row[edge] != UNUSED for edge in node) == architectures.used(node)
            assert all(row[edge] in [UNUSED, *architectures.columns(cell, edge)] for edge in node)


@each_file
def test_evolution_is_that_of_the_authors(path):
    numbers = {name.partition("/")[2]: array for name, array in np.load(path).items() if name.startswith("evolution/")}
    archs, scores, count = numbers["archs"], numbers["scores"], int(numbers["population"])
    baseline = evolution(count, int(numbers["sample"]))
    state = baseline.init(jax.random.key(0), NB201)
    for step, (arch, score) in enumerate(zip(archs, scores, strict=True)):
        cycle = step - count
        if cycle >= 0:
            place = parent_among(state, numbers["draws"][cycle])
            assert cycle + place == numbers["parents"][cycle]
            parent = state.architectures[place]
            np.testing.assert_array_equal(parent[0], archs[numbers["parents"][cycle]])
            edge, column = int(numbers["mutated_edge"][cycle]), int(numbers["new_op"][cycle])
            assert parent[0, edge] != column
            np.testing.assert_array_equal(with_operation(parent, 0, edge, column)[0], arch)
        state = baseline.update(NB201, state, np.asarray(arch, np.int32)[None], float(score))
        assert np.sum(baseline.best(state).architecture[0] * 5 ** np.arange(6)) == numbers["best_so_far"][step]
    assert int(state.best.count) == len(archs)
    np.testing.assert_array_equal(state.rewards, scores[-count:])


@each_file
def test_reinforce_is_that_of_the_authors(path):
    numbers = {name.partition("/")[2]: array for name, array in np.load(path).items() if name.startswith("reinforce/")}
    momentum = float(numbers["momentum"])
    baseline = reinforce(float(numbers["lr"]), momentum)
    state = baseline.init(jax.random.key(0), NB201)
    logits = {"operations": jnp.asarray(numbers["start"])[None]}
    state = state._replace(logits=logits, average=jnp.float64(0), loss=jnp.float64(0))
    state = state._replace(optimizer=jax.tree.map(lambda a: a.astype(jnp.float64) if a.ndim else a, state.optimizer))
    for step, (action, reward) in enumerate(zip(numbers["actions"], numbers["rewards"], strict=True)):
        state = baseline.update(NB201, state, np.asarray(action, np.int32)[None], float(reward))
        corrected = state.average / (1 - momentum ** float(state.best.count))
        np.testing.assert_allclose(corrected, numbers["baselines"][step], rtol=1e-12)
        np.testing.assert_allclose(state.loss, numbers["losses"][step], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(state.logits["operations"][0], numbers["logits"][step], rtol=1e-12, atol=1e-13)


@each_file
def test_the_cells_of_nas_bench_201(path):
    numbers = np.load(path)
    assert json.loads(str(numbers["ops"])) == list(NB201.operations[0][0])
    edges = [tuple(map(int, edge.split("<-"))) for edge in json.loads(str(numbers["edges"]))]
    assert [target - 1 for target, _ in edges] == list(NB201.targets)


@each_space
def test_random_architectures_are_valid_and_uniform(architectures):
    drawn = np.stack([random_architecture(architectures, key) for key in jax.random.split(jax.random.key(0), 2000)])
    for architecture in drawn[:100]:
        check(architectures, architecture)
    for cell in range(drawn.shape[1]):
        for node in architectures.nodes:
            for edge in node:
                share = architectures.used(node) / len(node)
                columns = architectures.columns(cell, edge)
                for column in columns:
                    expected = share / len(columns)
                    found = np.mean(drawn[:, cell, edge] == column)
                    assert abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / 2000) + 1e-9


def test_mutations_of_nas_bench_201_choose_a_node_first():
    start = np.zeros((1, 6), np.int32)
    children = [mutated_operation(NB201, start, key) for key in jax.random.split(jax.random.key(1), 3000)]
    changed = np.array([np.flatnonzero(child[0] != start[0]) for child in children])
    assert changed.shape == (3000, 1)
    shares = np.bincount(changed[:, 0], minlength=6) / 3000
    np.testing.assert_allclose(shares, [1 / 3, 1 / 6, 1 / 6, 1 / 9, 1 / 9, 1 / 9], atol=0.035)
    new = np.array([child[0][edge] for child, edge in zip(children, changed[:, 0])])
    np.testing.assert_allclose(np.bincount(new, minlength=5) / 3000, [0, 0.25, 0.25, 0.25, 0.25], atol=0.035)


@each_space
def test_mutations_change_one_thing(architectures):
    for key in jax.random.split(jax.random.key(2), 60):
        parent = random_architecture(architectures, key)
        child = mutated_operation(architectures, parent, jax.random.fold_in(key, 1))
        check(architectures, child)
        assert np.sum(child != parent) <= 1 and np.array_equal(child == UNUSED, parent == UNUSED)
        child = mutated_input(architectures, parent, jax.random.fold_in(key, 1))
        check(architectures, child)
        changed = np.argwhere(child != parent)
        if architectures.inputs is None:
            assert not len(changed)
            continue
        (cell, old), (_, new) = sorted(changed.tolist(), key=lambda at: parent[tuple(at)] == UNUSED)
        assert architectures.targets[old] == architectures.targets[new]
        names = [architectures.operations[cell][edge] for edge in (old, new)]
        name = names[0][parent[cell, old]]
        assert names[1][child[cell, new]] == name or name not in names[1]


def test_one_child_in_twenty_is_a_copy():
    parent = random_architecture(DARTS, jax.random.key(0))
    children = [mutated(DARTS, parent, key) for key in jax.random.split(jax.random.key(3), 1000)]
    copies = np.mean([np.array_equal(child, parent) for child in children])
    inputs = np.mean([not np.array_equal(child == UNUSED, parent == UNUSED) for child in children])
    assert abs(copies - 0.05) < 0.02 and abs(inputs - 0.475) < 0.05


def test_the_oldest_leaves_even_if_it_is_the_best_and_the_best_ever_is_returned():
    baseline = evolution(3, 2)
    state = baseline.init(jax.random.key(0), NB201)
    members = [np.full((1, 6), column, np.int32) for column in (0, 1, 2, 3)]
    for member, reward in zip(members, (9.0, 1.0, 2.0, 3.0)):
        state = baseline.update(NB201, state, member, reward)
    np.testing.assert_array_equal(state.architectures, members[1:])
    np.testing.assert_array_equal(baseline.best(state).architecture, members[0])
    assert baseline.best(state).reward == 9.0
    assert parent_among(state, np.array([1, 0, 2])) == 2
    assert parent_among(state._replace(rewards=np.ones(3)), np.array([1, 0, 2])) == 1


def reward_of(architecture):
    return float(np.sum(architecture == 3))


@pytest.mark.parametrize("architectures", [NB201, darts_architectures(uniform_space(nodes=2))], ids=["nb201", "darts"])
@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_finds_what_is_rewarded_and_resumes_from_its_state(name, architectures):
    baseline = {"random": random_search, "evolution": lambda: evolution(10, 3), "reinforce": lambda: reinforce(0.1)}[
        name
    ]()
    state, states = baseline.init(jax.random.key(0), architectures), []
    for step in range(60):
        states.append(pickle.dumps(state))
        architecture, state = baseline.propose(architectures, state, jax.random.fold_in(jax.random.key(1), step))
        check(architectures, architecture)
        state = baseline.update(architectures, state, architecture, reward_of(architecture))
    best = baseline.best(state)
    assert best.count == 60 and best.reward == reward_of(best.architecture)
    assert best.reward >= (3 if name == "random" else 4)
    resumed = pickle.loads(states[57])
    assert jax.tree.map(np.shape, resumed) == jax.tree.map(np.shape, state)
    for step in range(57, 60):
        architecture, resumed = baseline.propose(architectures, resumed, jax.random.fold_in(jax.random.key(1), step))
        resumed = baseline.update(architectures, resumed, architecture, reward_of(architecture))
    jax.tree.map(np.testing.assert_array_equal, resumed, state)


def test_the_probabilities_of_reinforce_sum_to_one_and_are_those_of_its_samples():
    space = SearchSpace((("skip_connect", "noise"), ("noise",), ("noise",), ("noise",), ("noise",)), (("noise",),) * 5)
    architectures = darts_architectures(space)
    state = reinforce().init(jax.random.key(0), architectures)
    draw = np.random.default_rng(0)
    logits = {name: jnp.asarray(draw.normal(size=array.shape)) for name, array in state.logits.items()}
    keys = jax.random.split(jax.random.key(1), 3000)
    counts: dict = {}
    for key in keys:
        architecture = sampled(architectures, logits, key)
        counts.setdefault(architecture.tobytes(), [architecture, 0])[1] += 1
    assert len(counts) == 2 * 3 * 3
    expected = {name: float(jnp.exp(log_probability(architectures, logits, a))) for name, (a, _) in counts.items()}
    np.testing.assert_allclose(sum(expected.values()), 1, rtol=1e-12)
    for name, (_, count) in counts.items():
        assert abs(count / 3000 - expected[name]) < 5 * np.sqrt(expected[name] / 3000)


def test_architectures_as_mixtures_and_genotypes():
    space = darts_space()
    architectures = darts_architectures(space, none=True)
    architecture = random_architecture(architectures, jax.random.key(4))
    mixture = one_hot_mixture(architectures, architecture)
    assert {kind: table.shape for kind, table in mixture.items()} == {kind: (14, 8) for kind in CELL_KINDS}
    for kind, row in zip(CELL_KINDS, architecture):
        assert mixture[kind].sum() == 8
        for edge, column in enumerate(row):
            assert mixture[kind][edge].sum() == (column != UNUSED)
            assert column == UNUSED or mixture[kind][edge, column] == 1
    without_none = random_architecture(DARTS, jax.random.key(5))
    genotype = genotype_of(DARTS, without_none, space)
    assert genotype.edges_per_node == 2 and genotype.normal_concat == (2, 3, 4, 5)
    assert list(genotype.normal) == [
        (space.normal[edge][column], space.edges[edge][0]) for edge, column in enumerate(without_none[0]) if column >= 0
    ]
    architecture[0] = np.where(architecture[0] == UNUSED, UNUSED, 0)
    with pytest.raises(InputError, match="normal cell has no edge to its output: none is on all"):
        genotype_of(architectures, architecture, space)
    # Node 0 has no edge, so that an edge of node 1 that reads it is left out.
    architecture[0, 2:5] = (3, UNUSED, 5)
    found = genotype_of(architectures, architecture, space)
    assert found.nodes("normal") == ((), (("skip_connect", 0),), (), ()) and found.normal_concat == (3,)


def test_architectures_of_choices_as_mixtures():
    architectures = choice_architectures(CHOICES)
    mixture = one_hot_mixture(architectures, np.array([[2, 0, 1, 0]], np.int32))
    assert {name: table.tolist() for name, table in mixture.items()} == {
        "block": [[0, 0, 1]],
        "norm": [[1, 0]],
        "scanned": [[0, 1], [1, 0]],
    }


@pytest.mark.parametrize("name", BASELINES)
def test_the_selection_by_shared_weights(name):
    asked, given = [], []

    def evaluate(question):
        """A candidate seems better than it is if the first edge of the normal cell has the first operation."""
        table = np.concatenate([question.mixture[kind] for kind in CELL_KINDS])
        value = float(np.sum(np.sin(np.arange(table.size)) * table.ravel())) / 100
        asked.append(question.whole)
        given.append((table, value))
        return Score(value + (0 if question.whole else float(table[0, 0])), 0.0)

    baseline = evolution(5, 2) if name == "evolution" else BASELINES[name]()
    settings: Any = {"candidates": 20, "finalists": 4}
    best = answered(select_cells(baseline, DARTS, jax.random.key(0), 3, **settings), evaluate)
    assert asked == ([False] * 20 + [True] * 4) * 3
    assert int(best.count) == 12
    finalists = [value for (_, value), whole in zip(given, asked) if whole]
    assert float(best.reward) == max(finalists)
    table, _ = given[[place for place, whole in enumerate(asked) if whole][int(np.argmax(finalists))]]
    mixture = one_hot_mixture(DARTS, best.architecture)
    np.testing.assert_array_equal(np.concatenate([mixture[kind] for kind in CELL_KINDS]), table)
    # Within a round the finalists are the candidates with the best scores, each once.
    of_round = [value + float(table[0, 0]) for table, value in given[:20]]
    best_first = sorted({score: value for score, (_, value) in zip(of_round, given)}.items(), reverse=True)
    np.testing.assert_allclose([value for _, value in given[20:24]], [value for _, value in best_first[:4]], rtol=1e-6)
    assert [rounds_for(steps) for steps in (5, 10_000, 31_000)] == [1, 1, 3]


def test_wrong_numbers_are_explained():
    for numbers in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match="of the evolution is 0; give 1 or more"):
            evolution(*numbers)
    with pytest.raises(InputError, match="0 edges per node"):
        darts_architectures(darts_space(), edges_per_node=0)
    with pytest.raises(InputError, match="0 candidates; give 1 or more"):
        next(select_cells(random_search(), DARTS, jax.random.key(0), candidates=0))
    with pytest.raises(InputError, match="5 finalists of 4 candidates; give 4 or fewer"):
        next(select_cells(random_search(), DARTS, jax.random.key(0), candidates=4, finalists=5))
