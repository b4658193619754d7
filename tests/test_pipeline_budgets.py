"""Budgets of a pipeline: the bounds are kept by what is trained, random cells have the searched sizes, and all of it resumes."""

import dataclasses
import functools
import io
import json
import shutil

import pytest
import small_pipeline
from small_pipeline import config, options, quick
from small_runs import Died, arguments, die_at, user_settings

from jdarts import checkpoint
from jdarts.command import run_command
from jdarts.describe import describe
from jdarts.files.atomic import replace_text
from jdarts.pipeline import protocol
from jdarts.pipeline.command import main
from jdarts.pipeline.protocol import pipeline
from jdarts.report.html import budgets_section
from jdarts.runs.loop import Loop
from jdarts.train import TrainConfig

__all__ = ["quick", "user_settings"]
pytestmark = pytest.mark.usefixtures("quick")

#: A network of the space whose cells have 830 to 2,118 weights.
SIZES = {"cells": 3, "channels": 4}
LIMITS = {"budgets": ("900",), "random_cells": 3, "repeats": 2, "searches": 2}


def run(folder, **changes):
    train = TrainConfig(**{**small_pipeline.TRAIN, **SIZES})
    stream = io.StringIO()
    result = pipeline(dataclasses.replace(config(folder, **{**LIMITS, **changes}), train=train), stream=stream)
    return result, stream.getvalue()


def numbers_as_picture(results, path):
    """In place of a picture, which takes longer than several runs: the numbers that it shows."""
    replace_text(path, json.dumps(small_pipeline.timeless(results)))


def undrawn(patch):
    """Puts numbers in the place of the pictures of budgets."""
    patch.setattr(protocol, "draw_budgets", numbers_as_picture)
    patch.setattr(budgets_section, "budgets_svg", json.dumps)


@pytest.fixture(scope="module")
def alone(quick, tmp_path_factory):
    """The folder of a pipeline with one budget."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    with pytest.MonkeyPatch.context() as patch:
        undrawn(patch)
        run(folder)
    return folder


@pytest.fixture(scope="module")
def bounded(alone, tmp_path_factory):
    """The same with another one, added afterwards."""
    folder = tmp_path_factory.mktemp("bounded") / "run"
    shutil.copytree(alone, folder)
    result, shown = run(folder, budgets=("none", "0.9k"))
    return folder, result, shown


@functools.cache
def weights_of(genotype):
    network = describe(genotype, "cifar", channels=4, cells=3, classes=10, image_size=8, image_channels=1)
    return network.to_json()["params"]


def test_every_cell_keeps_its_bound_to_the_unit(bounded):
    _, result, _ = bounded
    assert [each.bound for each in result.budgets] == [900, None]
    for each in result.budgets:
        assert (len(each.search.candidates), len(each.random.candidates)) == (2, 3)
        for arm in each.arms:
            assert len(arm.trainings) == 2
            for candidate in arm.candidates:
                assert candidate.size == weights_of(candidate.genotype) <= (each.bound or 10**9)
    assert result.genotype == result.budgets[-1].search.genotype


def test_random_cells_have_the_sizes_of_searched_ones(bounded):
    for each in bounded[1].budgets:
        sizes = [candidate.size for candidate in each.search.candidates]
        for number, candidate in enumerate(each.random.candidates):
            assert candidate.size == pytest.approx(sizes[number % 2], rel=0.05)


def test_the_table_and_the_picture_say_it(bounded):
    folder, result, shown = bounded
    table = result.table()
    assert table in shown and table == (folder / "table.txt").read_text().rstrip("\n")
    lines = table.splitlines()
    assert [line.split()[:2] for line in lines[2:6]] == [
        [bound, name] for bound in ("900", "none") for name in ("search", "random")
    ]
    for line, arm in zip(lines[2:6], [arm for each in result.budgets for arm in each.arms]):
        assert (
            f"{arm.candidates[arm.chosen].size:,}" in line and f"{100 * arm.mean:.2f} ± {100 * arm.std:.2f} %" in line
        )
    assert (folder / "budgets.svg").read_text().lstrip().startswith("<?xml")
    assert (folder / "budgets.png").read_bytes().startswith(b"\x89PNG")
    page = (folder / "report.html").read_text()
    assert "Accuracy against size" in page and "random cells of the same sizes" in page
    assert ">test accuracy of the chosen cells, full trainings</text>" in page


def test_the_summary_has_the_numbers(bounded):
    folder, result, _ = bounded
    summary = json.loads((folder / "summary.json").read_text())["budgets"]
    assert [each["max_weights"] for each in summary] == [900, None]
    for each, found in zip(summary, result.budgets):
        assert each["search"]["mean"] == found.search.mean and each["random"]["std"] == found.random.std
        assert [one["size"] for one in each["random"]["candidates"]] == [one.size for one in found.random.candidates]


def test_budgets_are_added_to_a_finished_pipeline(bounded, alone, monkeypatch):
    _, result, shown = bounded
    assert "at most 900 weights" not in shown and "search 1 of 2, seed 3\n" in shown
    undrawn(monkeypatch)
    monkeypatch.setattr(Loop, "run", lambda *_: pytest.fail("a run was repeated"))
    before, _ = run(alone)
    assert before.budgets[0].to_json() == result.budgets[0].to_json()


def test_a_pipeline_that_dies_resumes_to_the_same_end(alone, tmp_path, monkeypatch):
    undrawn(monkeypatch)
    with monkeypatch.context() as patch:
        die_at(patch, checkpoint, "save", 20)
        with pytest.raises(Died):
            run(tmp_path / "run")
    run(tmp_path / "run")
    assert small_pipeline.numbers(tmp_path / "run") == small_pipeline.numbers(alone)
    for name in ("budgets.svg", "budgets.png", "genotype.txt"):
        assert (tmp_path / "run" / name).read_bytes() == (alone / name).read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"budgets": ("lots",)}, "--budgets: 'lots' is no amount; give a whole number such as 400000, 400k, 0.4M"),
        ({"budgets": ("1k", "1000")}, "--budgets is 1k 1000, with one bound twice; give each once"),
        ({"budgets": ("1k",), "baseline": "evolution"}, "--baseline evolution does not keep --budgets"),
        ({"budgets": ("1k",), "select_by": "supernet"}, "--select-by supernet has no supernet for the random cells"),
        ({"budgets": ("1k",), "search.max_weights": "2k"}, "--search.max-weights is 2000 beside --budgets"),
        ({"budgets": ("1k",), "search.select": "pairs"}, "--search.select pairs does not keep bounds on the network"),
        ({"budgets": ("100",)}, "the bound is 100 weights, and the smallest network of such cells has"),
    ],
)
def test_what_is_refused(changes, message, tmp_path, monkeypatch, capsys):
    given = {**options(tmp_path / "run"), **changes}
    monkeypatch.setattr("sys.argv", ["pipeline", *arguments(given)])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []
