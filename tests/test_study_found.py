"""Study 4: the chain of its runs, random cells of a found cell's size, and what its tables say."""

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.stats
from study import found, found_tables
from study.results import Results
from study.statistics import Interval, unpaired_interval

from jdarts.describe import describe
from jdarts.errors import InputError
from jdarts.genotype import parse_genotype
from jdarts.zoo import DARTS_V2

CONFIG = dataclasses.replace(found.CONFIG, random=4, repeats=2)


@pytest.fixture
def chain(monkeypatch, tmp_path):
    """The function that measures, and the runs that it asks for; every search finds DARTS_V2."""
    seen = []

    def search(config, *, dataset, stream):
        seen.append(("search", config.run.seed, config.folder.name))
        return SimpleNamespace(genotype=DARTS_V2, valid_accuracy=0.5)

    def train(config, *, dataset, stream, programs):
        brief = config.validation_fraction > 0
        seen.append(("brief" if brief else "full", config.run.seed, config.folder.parent.name))
        size = describe(config.cell, channels=config.size.channels, cells=config.size.cells, image_size=8)
        return SimpleNamespace(
            valid_accuracy=0.3 if brief else None,
            test_accuracy=None if brief else 0.4,
            train_accuracy=0.6,
            weights=sum(part.weights for part in size.parts.values()),
        )

    monkeypatch.setattr(found, "search", search)
    monkeypatch.setattr(found, "train", train)
    images = SimpleNamespace(fingerprint="f", num_classes=10, image_shape=(8, 8, 3))
    monkeypatch.setattr(found.images, "smaller", lambda dataset, **_: images)
    measure = found.prepare(CONFIG, None)  # pyright: ignore[reportArgumentType]

    def row(kind, number):
        folder = tmp_path / f"{kind}{number}"
        folder.mkdir(exist_ok=True)
        (only,) = measure({"cell": kind, "number": number}, folder)
        return only

    return row, seen


def test_the_order_lets_a_part_of_the_table_be_compared():
    CONFIG.check()
    found.QUICK.check()
    kinds = [(cell["cell"], cell["number"]) for cell in found.cells(CONFIG)]
    assert kinds[:3] == [("found", 0), ("found", 1), ("found", 2)]
    assert kinds[3:7] == [("DARTS_V2", 0), ("random", 0), ("DARTS_V2", 1), ("random", 1)]
    assert sorted(kinds[7:]) == [("random", 2), ("random", 3)]


def test_found_cells_are_searched_selected_and_trained(chain):
    row, seen = chain
    found_row = row("found", 1)
    assert (found_row["supernet"], found_row["brief"], found_row["test"]) == (0.5, 0.3, 0.4)
    assert [(what, seed) for what, seed, _ in seen] == [("search", 1), ("brief", 1), ("full", 1)]


def test_random_cells_have_the_size_of_a_found_one(chain):
    row, seen = chain
    size = row("found", 1)["weights"]
    searched = seen[0]
    random = [row("random", 1), row("random", 4)]
    # Both read the search of seed 1, which lies beside the rows.
    assert [each for each in seen if each[0] == "search"] == [searched] * 3
    assert all(abs(each["weights"] - size) <= size // 50 for each in random)
    assert len({each["genotype"] for each in random} | {str(DARTS_V2)}) == 3
    assert all(parse_genotype(each["genotype"]) for each in random)


def test_the_published_cells_need_no_search(chain):
    row, seen = chain
    assert row("DARTS_V2", 0)["genotype"] == str(DARTS_V2)
    assert [what for what, *_ in seen] == ["full"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": (0,)}, "give two or more"),
        ({"held_out": 0.0}, "--held-out is 0.0"),
        ({"method": "x"}, "--method is 'x'"),
    ],
)
def test_wrong_settings_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(CONFIG, **changes).check()


def test_the_difference_of_independent_rows_has_welchs_interval():
    draw = np.random.default_rng(0)
    one, two = draw.normal(1, 1, size=5).tolist(), draw.normal(0, 3, size=9).tolist()
    variances = [np.var(each, ddof=1) / len(each) for each in (one, two)]
    degrees = sum(variances) ** 2 / sum(v**2 / (len(each) - 1) for v, each in zip(variances, (one, two), strict=True))
    half = scipy.stats.t.ppf(0.975, degrees) * np.sqrt(sum(variances))
    mean = np.mean(one) - np.mean(two)
    np.testing.assert_allclose(unpaired_interval(one, two), (mean, mean - half, mean + half))
    assert np.isnan(unpaired_interval([1.0], two).low)


def made_results(shift):
    rows = [{"cell": "found", "number": n, "brief": 0.1 * (n == 1), "test": 0.5 + 0.01 * n + shift} for n in range(3)]
    rows += [{"cell": "random", "number": n, "test": 0.5 + 0.01 * (n % 3)} for n in range(9)]
    rows = [{"weights": 100 + row["number"], **row} for row in rows]
    about = {"processor": "P", "cores": 2, "devices": "1 CPU"}
    return Results("found", "full", "c", {}, {"name": "i"}, about, 1.0, 1.0, json.loads(json.dumps(rows)))


def test_what_is_within_the_spread_is_said_to_be():
    same, better, worse = (found_tables.tables(made_results(shift)) for shift in (0.0, 0.2, -0.2))
    assert "| not shown to be better or worse |" in same["comparison"]
    assert "| better |" in better["comparison"] and "| worse |" in worse["comparison"]
    assert "better than 3 of 9" in same["comparison"]
    assert "select (search 1) | 1 | 101 | 51.0 |" in same["cells"]
    assert found_tables.comparison(Interval(1.0, np.nan, np.nan)) == "not compared"
    (axes,) = found_tables.figures(made_results(0.0))["accuracies"]().axes
    assert len(axes.get_lines()) == 5
