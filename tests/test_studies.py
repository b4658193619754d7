"""The frame of the studies: rows that survive a kill, results that draw their tables alone, the command, the statistics."""

import dataclasses
import json

import command_line
import numpy as np
import pytest
import run_studies
import scipy.stats
from small_runs import user_settings  # noqa: F401
from study import images, statistics
from study.results import Results
from study.rows import Table
from study.study import Study

from jdarts.data import Augmentation, ImageDataset, ImageSplit
from jdarts.errors import InputError
from jdarts.runs.settings import Settings, as_json

command = command_line.fixture(run_studies.main, "run_studies")
pytestmark = pytest.mark.usefixtures("user_settings")


@dataclasses.dataclass(frozen=True)
class ToyConfig(Settings):
    """Numbers of cells."""

    numbers: tuple[int, ...] = (1, 2, 3)


def dataset(side=8, count=6):
    draw = np.random.default_rng(0)
    pixels = draw.integers(256, size=(count, side, side, 3)).astype(np.uint8)
    split = ImageSplit(pixels, np.arange(count, dtype=np.int32) % 2)
    return ImageDataset("toy", split, split, ("a", "b"), (0.5,) * 3, (0.2,) * 3, Augmentation(padding=4, flip=True))


@pytest.fixture
def toy(monkeypatch):
    """A study of squares that counts its measurements, in the place of all others."""
    measured, prepared = [], []

    def prepare(config, images):
        prepared.append(images.name)

        def measure(cell, folder):
            assert folder.is_dir()
            if cell["number"] < 0:
                raise KeyboardInterrupt
            measured.append(cell["number"])
            return [{"square": cell["number"] ** 2.0, "third": 1 / 3}]

        return measure

    study = Study(
        "toy",
        "Squares",
        ToyConfig(),
        ToyConfig((1, 2)),
        lambda config: [{"number": number} for number in config.numbers],
        prepare,
        lambda results: {"squares": " ".join(f"{row['number']}:{row['square']:g}" for row in results.rows)},
        lambda results: {},
    )
    monkeypatch.setattr(run_studies, "STUDIES", ("toy",))
    monkeypatch.setattr(run_studies, "study_of", lambda name: study)
    monkeypatch.setattr(run_studies.images, "load", lambda name, data_dir: dataset())
    return study, measured, prepared


def test_a_killed_table_continues_with_the_cells_that_are_left(toy, monkeypatch, command, tmp_path):
    study, measured, prepared = toy
    words = ["--out", tmp_path, "--dataset", "toy", "--full"]
    broken = study._replace(cells=lambda config: [{"number": 1}, {"number": -1}, {"number": 3}])
    monkeypatch.setattr(run_studies, "study_of", lambda name: broken)
    assert command(*words)[0] == 130
    assert measured == [1] and len(prepared) == 1
    # What is there is in the results, with the names of the cells that are not.
    partial = Results.read(tmp_path / "full" / "results" / "toy.json")
    assert [row["square"] for row in partial.rows] == [1.0]
    assert list(partial.missing) == [{"number": -1}, {"number": 3}]
    assert "Not measured: number -1; number 3." in partial.words()
    monkeypatch.setattr(run_studies, "study_of", lambda name: study)
    code, shown, _ = command(*words)
    assert code == 0 and measured == [1, 2, 3]
    assert "toy 3 of 3: number 3" in shown and "1:1 2:4 3:9" in shown
    command(*words)
    assert measured == [1, 2, 3] and len(prepared) == 2


def test_the_quick_version_has_its_own_cells(toy, command, tmp_path):
    _, measured, _ = toy
    assert command("--out", tmp_path, "--dataset", "toy")[0] == 0
    assert measured == [1, 2]
    assert (tmp_path / "quick" / "results" / "toy-squares.md").read_text().startswith("1:1 2:4\n\nThe quick version of")


def test_results_are_published_and_drawn_again_from_their_file_alone(toy, monkeypatch, command, tmp_path):
    monkeypatch.setattr(run_studies, "PUBLISHED", tmp_path / "docs")
    assert command("--out", tmp_path, "--dataset", "toy", "--publish")[0] == 0
    content = json.loads((tmp_path / "docs" / "toy.json").read_text())
    assert set(content) == {field.name for field in dataclasses.fields(Results)}
    assert content["rows"][1] == {"number": 2, "square": 4.0, "third": 0.333333}
    assert content["command"] == "make study ARGS='--only toy'"
    assert content["images"]["name"] == "toy" and {"processor", "jax", "python"} <= set(content["machine"])
    table = tmp_path / "docs" / "toy-squares.md"
    before = table.read_text()
    table.unlink()
    content["rows"][0]["square"] = 5.0
    (tmp_path / "docs" / "toy.json").write_text(json.dumps(content))
    assert command("--draw")[0] == 0
    assert table.read_text() == before.replace("1:1", "1:5")


def test_wrong_input_is_explained(toy, command, tmp_path):
    assert command("--only", "toys") == (2, "", "error: --only is toys; give toy\n")
    code, _, error = command("--out", tmp_path, "--dataset", "toy", "--collect")
    assert (code, error) == (2, "error: no cell of toy has been measured; leave --collect out\n")


def test_what_is_not_installed_is_named_before_anything_is_measured(toy, monkeypatch, command, tmp_path):
    study, measured, _ = toy

    def missing():
        raise InputError("install it")

    other = study._replace(check=missing)
    monkeypatch.setattr(run_studies, "STUDIES", ("toy", "other"))
    monkeypatch.setattr(run_studies, "study_of", lambda name: study if name == "toy" else other)
    assert command("--out", tmp_path, "--dataset", "toy") == (2, "", "error: install it\n")
    assert measured == []


def test_rows_depend_on_cell_and_settings(tmp_path):
    table, other = Table(tmp_path, {"size": 1}), Table(tmp_path, {"size": 2})
    table.measure({"seed": 0}, lambda cell, folder: [{"value": 1}])
    found = table.finished({"seed": 0})
    assert found is not None and found.rows == [{"seed": 0, "value": 1}]
    assert table.finished({"seed": 1}) is None
    assert other.finished({"seed": 0}) is None
    (path,) = tmp_path.glob("*.json")
    path.write_text(path.read_text()[:-20])
    with pytest.raises(InputError, match=r"is damaged .*; remove it, and the cell is measured again"):
        table.finished({"seed": 0})


def test_images_are_fewer_and_averaged_over_squares():
    whole = dataset(side=32)
    small = images.smaller(whole, images=4, size=16)
    assert small.train.images.shape == (4, 16, 16, 3) and small.augmentation.padding == 2
    of_square = whole.train.images[3, 4:6, 6:8].astype(float).mean(axis=(0, 1))
    np.testing.assert_array_equal(small.train.images[3, 2, 3], np.round(of_square))
    kept = images.smaller(dataset(side=8), size=16)
    assert kept.image_shape == (8, 8, 3) and kept.name == "toy" and kept.augmentation.padding == 4


def test_digits_stand_in_for_cifar10_and_say_so(tmp_path):
    name, remark = images.choose(None, tmp_path)
    assert name == "digits" and str(tmp_path) in remark and "jdarts data prepare cifar10" in remark
    assert images.choose("cifar10", tmp_path) == ("cifar10", "")


def test_intervals_are_those_of_student():
    values = [0.3, 0.5, 0.4, 0.9]
    found = statistics.mean_interval(values)
    expected = scipy.stats.ttest_1samp(values, 0).confidence_interval(0.95)
    np.testing.assert_allclose((found.low, found.high), tuple(expected))
    assert (found.mean == pytest.approx(0.525) and found.text().startswith("0.53 [")) or found.text().startswith(
        "0.52 ["
    )
    assert statistics.mean_interval([2.0]).text(1) == "2.0"
    paired = statistics.difference_interval([1.0, 2.0, 3.1], [0.9, 1.9, 3.0])
    assert paired.mean == pytest.approx(0.1) and paired.low > 0.09
    assert found.overlaps(statistics.Interval(1, 0.9, 1.1))
    assert not statistics.Interval(0, -1, 1).overlaps(statistics.Interval(3, 2, 4))


def test_bootstrap_intervals_hold_the_statistic():
    groups = [np.array([0.0, 1.0]), np.array([2.0]), np.array([3.0, 4.0, 5.0])]
    found = statistics.bootstrap_interval(groups, lambda each: float(np.mean(np.concatenate(each))), draws=200)
    assert found.mean == pytest.approx(2.5) and 0.5 <= found.low < 2.5 < found.high <= 4.0


def test_the_chance_of_a_mean_is_that_of_uniform_numbers():
    assert statistics.chance_of_mean([0.3]) == pytest.approx(0.3)
    assert statistics.chance_of_mean([1.0, 1.0, 1.0]) == 1.0
    drawn = np.random.RandomState(0).uniform(size=(200_000, 4)).mean(axis=1)
    found = statistics.chance_of_mean([0.1, 0.5, 0.2, 0.6])
    assert found == pytest.approx(np.mean(drawn <= 0.35), abs=0.004)


def test_slope_correlation_and_error():
    predicted, real = np.array([1.0, 2.0, -1.0]), np.array([2.0, 4.0, -2.0])
    assert statistics.slope(predicted, real) == pytest.approx(2)
    assert statistics.correlation(predicted, real) == pytest.approx(1)
    assert statistics.relative_error(predicted, real) == pytest.approx(0.5)
    assert np.isnan(statistics.slope(0 * real, real)) and np.isnan(statistics.correlation(0 * real, real))
    assert statistics.kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    assert statistics.mean_and_spread([1.0, 3.0], 1) == "2.0 ± 1.4" and statistics.mean_and_spread([1.0], 2) == "1.00"


@pytest.mark.parametrize("name", run_studies.STUDIES)
def test_rows_depend_on_every_setting_of_a_study(name):
    def names(settings):
        for field in dataclasses.fields(settings):
            value = getattr(settings, field.name)
            yield from names(value) if isinstance(value, Settings) else [field.name]

    study = run_studies.study_of(name)
    for settings in (study.config, study.quick):
        # No two of them have one name, of which the files would have one value.
        assert sorted(names(settings)) == sorted(as_json(settings))


@pytest.mark.parametrize("path", sorted(run_studies.PUBLISHED.glob("*.json")), ids=lambda path: path.stem)
def test_published_tables_are_those_of_the_published_results(path):
    results, study = Results.read(path), run_studies.study_of(path.stem)
    for name, table in study.tables(results).items():
        assert (path.parent / f"{path.stem}-{name}.md").read_text() == f"{table}\n\n{results.words()}\n"
    for name in study.figures(results):
        assert (path.parent / f"{path.stem}-{name}.svg").exists()
