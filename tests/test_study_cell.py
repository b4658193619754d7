"""Study 2: the table of accuracies, ranks, guards, baselines and tables, and a whole measurement with a tiny network."""

import dataclasses
import functools
import hashlib
import itertools
import pickle
import random
import sys
import types
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from nasbench201 import EDGES, OPERATIONS, edge_name
from study import cell, cell_search, cell_table, cell_tables
from study.cell_guards import EpochRecord, guards
from study.cell_ranking import Ranking, drawn_cells, key_of
from study.cell_table import find_table, read_table
from study.results import Results

import jdarts
from jdarts import data
from jdarts.data import ImageDataset
from jdarts.errors import InputError
from jdarts.search.own_task import check_own

NAMES = [edge_name(*edge) for edge in EDGES]
#: The table's own order of edges and operations, written out.
TABLE_EDGES = ("edge01", "edge02", "edge03", "edge12", "edge13", "edge23")
TABLE_OPERATIONS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")


def accuracy_of(key):
    """Of a made-up table: its convolutions and, less, its place in the order of all cells."""
    return float(10 + 10 * (np.array(key) == 2).sum() + np.dot(key, 5.0 ** -np.arange(1, 7)))


@pytest.fixture(scope="module")
def table_module():
    """The classes of the package, which the reader must not need."""
    module = types.ModuleType("analognasbench.data")
    for name in ("Architecture", "DriftMeasurement"):
        setattr(module, name, type(name, (), {"__module__": "analognasbench.data"}))
    return module


@pytest.fixture
def written(table_module, tmp_path, monkeypatch):
    """Writes a table of accuracies as the package does."""

    def write(accuracies):
        for name, module in (
            ("analognasbench", types.ModuleType("analognasbench")),
            ("analognasbench.data", table_module),
        ):
            monkeypatch.setitem(sys.modules, name, module)
        cells = {}
        for key, accuracy in accuracies.items():
            cells[key] = record = table_module.Architecture()
            drift = table_module.DriftMeasurement()
            drift.value, drift.uncertainty = 10.0, 0.0
            record.architecture, record.baseline_accuracy, record.analog_drift_60 = key, accuracy, drift
        path = tmp_path / "data.anb"
        path.write_bytes(pickle.dumps(cells))
        for name in ("analognasbench", "analognasbench.data"):
            monkeypatch.delitem(sys.modules, name)
        return path

    return write


@pytest.fixture(scope="module")
def accuracies():
    found = np.empty((5,) * 6)
    for key in itertools.product(range(5), repeat=6):
        found[key] = accuracy_of(key)
    return found


@pytest.fixture(scope="module")
def ranking(accuracies):
    return Ranking(accuracies)


def test_the_table_is_read_without_its_package(written, accuracies):
    path = written({key: accuracy_of(key) for key in itertools.product(range(5), repeat=6)})
    np.testing.assert_array_equal(read_table(path, None), accuracies)
    np.testing.assert_array_equal(read_table(path, hashlib.sha256(path.read_bytes()).hexdigest()), accuracies)
    with pytest.raises(
        InputError, match=r"has the checksum .*…, and that of analog-nasbench==0\.1\.3 is 85f3435b877a…"
    ):
        read_table(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"is damaged .*install it again: pip install --force-reinstall"):
        read_table(path, None)


class Call:
    def __reduce__(self):
        return print, ("called",)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({(0,) * 6: Call()}, r"is damaged \(it names builtins.print, which is not read\)"),
        ([1, 2], "it is no table of cells"),
        ({(0, 0): 90.0}, r"\(0, 0\) is no cell"),
        ({(0,) * 6: 90.0}, r"the accuracy of \(0, 0, 0, 0, 0, 0\) is None"),
    ],
)
def test_other_pickles_are_refused_and_call_nothing(value, message, tmp_path, capsys):
    path = tmp_path / "data.anb"
    path.write_bytes(pickle.dumps(value))
    with pytest.raises(InputError, match=message):
        read_table(path, None)
    assert capsys.readouterr().out == ""


def test_a_table_without_every_cell_is_refused(written, tmp_path):
    with pytest.raises(InputError, match="15,624 of 15,625 cells are missing"):
        read_table(written({(0,) * 6: 90.0}), None)
    with pytest.raises(InputError, match=r"the accuracy of .* is 101"):
        read_table(written({(0,) * 6: 101.0}), None)
    with pytest.raises(InputError, match=r"cannot read .*: No such file"):
        read_table(tmp_path / "none", None)


def test_a_package_that_is_missing_is_explained(monkeypatch, tmp_path):
    monkeypatch.setattr(cell_table.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install --no-deps analog-nasbench==0\.1\.3"):
        find_table()
    spec = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(cell_table.importlib.util, "find_spec", lambda name: spec)
    with pytest.raises(InputError, match=r"data.anb is missing; install it again"):
        find_table()
    (tmp_path / "data.anb").touch()
    assert find_table() == tmp_path / "data.anb"


def test_cells_have_the_keys_of_the_table():
    drawn = random.Random(0)
    for _ in range(20):
        choices = {name: drawn.choice(OPERATIONS) for name in NAMES}
        assert [TABLE_OPERATIONS[place] for place in key_of(choices)] == [choices[name] for name in TABLE_EDGES]


def test_ranks_and_regrets(ranking, accuracies):
    flat = sorted(accuracies.ravel(), reverse=True)
    for choices in drawn_cells(30, 1):
        accuracy = accuracies[key_of(choices)]
        assert ranking.rank(choices) == 1 + sum(each > accuracy for each in flat)
        assert ranking.regret(choices) == pytest.approx(flat[0] - accuracy)
    assert ranking.mean == pytest.approx(np.mean(flat))


def test_the_alphas_score_a_cell_by_the_sum_over_its_edges(ranking, accuracies):
    draw = np.random.default_rng(0)
    strengths = {name: draw.normal(size=(1, 5)) for name in NAMES}
    scores, expected = [], []
    for cell_ in itertools.product(OPERATIONS, repeat=6):
        choices = dict(zip(NAMES, cell_))
        scores.append(sum(strengths[name][0, OPERATIONS.index(choice)] for name, choice in choices.items()))
        expected.append(accuracies[key_of(choices)])
    tau, _ = scipy.stats.kendalltau(scores, expected)
    assert ranking.tau_of_alphas(strengths) == pytest.approx(tau, abs=1e-12)
    sample = drawn_cells(40, 2)
    best = [float(accuracies[key_of(choices)]) for choices in sample]
    assert ranking.tau_of_scores(sample, best) == pytest.approx(1)
    assert ranking.tau_of_scores(sample, [-each for each in best]) == pytest.approx(-1)


def test_drawn_cells_are_different_and_the_same_for_a_seed():
    cells = drawn_cells(500, 7)
    assert len({tuple(each[name] for name in NAMES) for each in cells}) == 500
    assert cells[:100] == drawn_cells(100, 7) and cells != drawn_cells(500, 8)
    assert {each for one in cells for each in one.values()} == set(OPERATIONS)


def record(skips=0, lead=0.5, convolutions=(0.3, 0.2), eigenvalue=None):
    """An epoch whose cell has so many skip connections; every edge leads by so much, as a share of the next."""
    choices = {name: "skip_connect" if place < skips else "nor_conv_3x3" for place, name in enumerate(NAMES)}
    row = np.array([0.0, 0.1 * (1 + lead), 0.0, 0.0, 0.1])
    row[[OPERATIONS.index("nor_conv_1x1"), OPERATIONS.index("nor_conv_3x3")]] = np.array(convolutions) / 10
    return EpochRecord(choices, dict.fromkeys(NAMES, row), OPERATIONS, eigenvalue)


def test_what_a_guard_reads_of_an_epoch():
    found = record(skips=2, lead=0.5)
    assert (found.skips, found.decided) == (2, 1.0)
    assert found.margin == pytest.approx(0.05)
    np.testing.assert_allclose(found.leads(), 0.5)
    assert record(lead=0.05).decided == 0.0


@pytest.mark.parametrize(
    ("name", "history", "expected"),
    [
        ("skips", [record(skips=count) for count in (0, 1, 2, 3)], 2),
        ("skips", [record(skips=count) for count in (3, 0, 0, 0)], 1),
        ("skips", [record(skips=1)] * 4, None),
        ("decided", [record(lead=lead) for lead in (0.02, 0.2, 0.02, 0.2)], 2),
        ("decided", [record(lead=0.02)] * 4, None),
        ("stable ranking", [record(convolutions=each) for each in ((1, 2), (2, 1), (2, 1), (2, 1), (2, 1))], 4),
        ("stable ranking", [record(convolutions=each) for each in ((1, 2), (2, 1)) * 4], None),
    ],
)
def test_where_guards_stop(name, history, expected):
    assert guards(10, eigenvalues=False)[name](history) == expected


def test_the_eigenvalue_stops_a_search_before_it_grew():
    values = [1.0] * 7 + [3.0] * 8
    history = [record(eigenvalue=value) for value in values]
    found = guards(len(values), eigenvalues=True)["eigenvalue"](history)
    assert found is not None and values[found - 1] == 1.0
    assert guards(15, eigenvalues=True)["eigenvalue"]([record(eigenvalue=1.0)] * 15) is None
    assert "eigenvalue" not in guards(15, eigenvalues=False)


def test_the_searches_of_both_versions_are_allowed():
    for config in (cell.CONFIG, cell.QUICK):
        config.check()
        assert config.seeds >= 4
        for each in config.searches:
            method, hypergradient = each.split(":")
            if method != cell_search.RANDOM_CELLS:
                check_own(config.settings(method, hypergradient))
    with pytest.raises(InputError, match="--searches names darts; give METHOD:HYPERGRADIENT, such as darts:exact"):
        dataclasses.replace(cell.QUICK, searches=("darts",)).check()
    with pytest.raises(InputError, match="--hypergradient is 'best'; give exact"):
        dataclasses.replace(cell.QUICK, searches=("darts:best",)).check()
    for name in ("random_sharing:first_order", "gdas:exact"):
        with pytest.raises(
            InputError, match=f"--eigenvalues names {name}; give searches by alphas that --searches names"
        ):
            dataclasses.replace(cell.QUICK, eigenvalues=(name,)).check()


class TinyNetwork(nn.Module):
    """Has the choices of the large one, on numbers instead of images."""

    channels: int
    cells: int
    classes: int

    @nn.compact
    def __call__(self, images, train):
        # Uniform weights come from the run's one draw.
        dense = functools.partial(nn.Dense, kernel_init=nn.initializers.lecun_uniform())
        x = dense(self.channels)(images.reshape(len(images), -1))
        for name in NAMES:
            functions = (None, lambda x: x, dense(self.channels), jnp.tanh, jnp.abs)
            x = x + jdarts.Choice(dict(zip(OPERATIONS, functions)), shared=name, name=name)(x)
        return dense(self.classes)(x)


CONFIG = cell.CellConfig(
    searches=("darts:first_order", "random_sharing:first_order"),
    eigenvalues=("darts:first_order",),
    seeds=2,
    images=512,
    epochs=2,
    sample=6,
    score_images=64,
    finalists=2,
    image_size=8,
)


@pytest.fixture(scope="module")
def rows(ranking, accuracies):
    """The rows of both searches of seed 0, and a second measurement of the first."""
    with pytest.MonkeyPatch.context() as patch, jax.numpy_dtype_promotion("standard"):
        patch.setattr(cell_search, "SearchNetwork", TinyNetwork)
        patch.setattr(cell, "find_table", lambda: None)
        patch.setattr(cell, "read_table", lambda path: accuracies)
        digits: ImageDataset = data.load("digits")
        measure = cell.prepare(CONFIG, digits)
        first, second = (each for each in cell.cells(CONFIG) if each["seed"] == 0)
        # One after the other, they share programs.
        found, again = measure(first, Path()), measure(first, Path())
        return found, measure(second, Path()), again


def test_a_search_is_measured_after_every_epoch(rows, ranking):
    ((row,), _, (again,)) = rows
    assert all(len(row[name]) == 2 for name in ("ranks", "regrets", "taus", "skips", "margins", "decided"))
    assert -1 <= row["tau_one_hot"] <= 1 and set(row["stops"]) == {"skips", "stable ranking", "decided", "eigenvalue"}
    assert all(value > 0 for value in row["eigenvalues"])
    assert row["without_none"]["regret"] >= 0 and row["of_random"]["regret"] == pytest.approx(
        ranking.best - ranking.mean
    )
    assert row["processor_seconds_per_step"] > 0
    assert row["accuracies"] == "analog-nasbench==0.1.3, not the official NAS-Bench-201"
    timeless = [{**each, "processor_seconds_per_step": 0} for each in (row, again)]
    assert timeless[0] == timeless[1]


def test_each_baseline_chooses_a_cell_by_weights_that_random_cells_trained(rows):
    _, proposed, _ = rows
    assert [row["method"] for row in proposed] == ["random", "evolution", "reinforce"]
    # 2 epochs of 4 steps of 64 images, three passes each, of which the finalists take 2 × 4 batches.
    assert {row["candidates"] for row in proposed} == {3 * 2 * 4 - 2 * 4}
    assert all(1 <= row["ranks"][0] <= 15_625 for row in proposed)


def results(rows):
    return Results("cell", "quick", "make study", {}, {"name": "digits"}, {}, 1.0, 1.0, rows)


def made_up(method, hypergradient, seed, regret, **others):
    return {
        "method": method,
        "hypergradient": hypergradient,
        "seed": seed,
        "ranks": [500, 100 + seed],
        "regrets": [5.0, regret],
        "taus": [0.1, 0.2],
        "tau_one_hot": 0.3,
        "without_none": {"rank": 3, "regret": 1.0},
        "stops": {"skips": 1, "decided": None},
        "processor_seconds_per_step": {"first_order": 1.0}.get(hypergradient, 3.0),
        "of_random": {"regret": 7.3},
        **others,
    }


def test_the_tables_say_whose_numbers_they_are_and_what_lies_within_the_spread():
    plain = [made_up("darts", "first_order", seed, 2.0 + 0.1 * seed) for seed in range(4)]
    worse = [made_up("darts", "exact", seed, 3.0 + 0.1 * seed) for seed in range(4)]
    mixed = [made_up("gdas", name, seed, 2 + seed % 2) for seed in range(4) for name in ("first_order",)]
    mixed += [made_up("gdas", "exact", seed, 2 + (seed + 1) % 2) for seed in range(4)]
    random_ = [made_up("random", "none", seed, 4.0) for seed in range(4)]
    found = cell_tables.tables(results([*random_, *plain, *worse, *mixed]))
    assert all("analog-nasbench 0.1.3, not the official NAS-Bench-201" in table for table in found.values())
    ranks = found["ranks"].splitlines()
    assert ranks[2].startswith("| darts | first order | 4 | 102 (100 to 103) | 1.9e-08 | 2.15 ± 0.13 |") and ranks[
        2
    ].endswith(" 1.0 |")
    assert ranks[3].endswith(" 3.0 |")
    assert ranks[6].startswith("| random search |  | 4 |") and ranks[8].startswith("| a cell at random |")
    assert ranks[7].startswith("| all by alphas |  | 16 | 102 (100 to 103) |")
    darts, gdas = found["estimators"].splitlines()[2:4]
    assert darts.split(" | ")[4] == "**1.0 [1.0, 1.0]**" and not gdas.split(" | ")[4].startswith("**")
    guard = found["guards"].splitlines()
    assert guard[2].startswith("| skips | 16 of 16 | 5.00 [5.00, 5.00] |") and guard[2].endswith("| 0 of 16 |")
    assert guard[3].startswith("| decided | 0 of 16 |")
    assert guard[4].startswith("| always the first epoch |  | 5.00 [5.00, 5.00] |")
    best = found["best"].splitlines()
    assert best[2] == "| darts | first order | 2, 2, 2, 2 | 1, 1, 1, 1 | –, –, –, – |"


def test_a_guard_is_judged_by_the_searches_that_measure_what_it_reads():
    seen = {"stops": {"skips": None, "eigenvalue": 2}, "eigenvalues": [0.1, 0.3]}
    measured = [made_up("darts", "exact", seed, 2.0, **seen) for seed in range(2)]
    others = [made_up("gdas", "exact", seed, 4.0) for seed in range(2)]
    found = cell_tables.tables(results([*measured, *others]))
    guard = found["guards"].splitlines()
    rows = {
        line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in guard[2:] if line.startswith("|")
    }
    assert rows["eigenvalue"][:2] == ["2 of 2", "2.00 [2.00, 2.00]"] and rows["eigenvalue"][-1].startswith("2 of 2")
    assert rows["skips"][0] == "2 of 4"
    assert rows["always the first epoch"][2] == "3.00 [3.00, 3.00]"
    assert rows["always the first epoch, where the eigenvalue is measured"][2] == "2.00 [2.00, 2.00]"
    assert "| gdas | exact | 2, 2 | 1, 1 | not measured | –, – |" in found["best"]
    figure = cell_tables.figures(results([*measured, *others]))["eigenvalues"]()
    assert [panel.get_title() for panel in figure.axes] == ["darts, exact"]


def test_figures_are_drawn_from_the_rows_alone():
    rows = [made_up("darts", name, seed, 2.0) for seed in range(2) for name in ("first_order", "exact")]
    for draw in cell_tables.figures(results(rows)).values():
        figure = draw()
        assert len(figure.axes) == 2 and figure.axes[0].get_xlabel() == "epoch"
