"""`--devices` and `--parallel` of every command but the image search, which has tests of its own."""

import numpy as np
import pytest
import small_language
import small_pipeline
import small_runs
import small_train
from small_runs import newest, records, user_settings

from jdarts import InputError

__all__ = ["quick", "user_settings"]


def quicken(replace):
    small_pipeline.quicken(replace)
    small_language.leave_undrawn(replace)


quick = small_runs.with_stand_ins(quicken)
pytestmark = pytest.mark.usefixtures("quick")

#: Runs whose evaluation batches two devices share, and one that they do not: 3 columns of the texts.
RUN = {
    "train": small_train.run,
    "language search": small_language.run_search,
    "language train": small_language.run_train,
}
BRIEF = {"epochs": 2}


def numbers(folder):
    """Arrays of the newest checkpoint, by their place in the state."""
    return {
        place: np.frombuffer(leaf, np.float32)
        for place, leaf in small_runs.leaves(folder).items()
        if "key" not in place
    }


def assert_close(folder, reference):
    """A run has come to the same as another one, up to float32's rounding."""
    found, expected = numbers(folder), numbers(reference)
    assert found.keys() == expected.keys()
    for place, values in expected.items():
        np.testing.assert_allclose(found[place], values, rtol=2e-3, atol=2e-5, err_msg=place)
    found, expected = records(folder), records(reference)
    assert len(found) == len(expected)
    for one, other in zip(found, expected):
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert one[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name


@pytest.fixture(scope="module")
def alone(quick, tmp_path_factory):
    """The folders of runs on one device, by command."""
    folders = {kind: tmp_path_factory.mktemp("alone") / "run" for kind in RUN}
    for kind, folder in folders.items():
        RUN[kind](folder, **BRIEF)
    return folders


@pytest.mark.parametrize(
    "kind, changes",
    [
        ("train", {"images_on": "device"}),
        ("train", {"images_on": "host", "parallel": "pmap"}),
        ("language search", {"parallel": "pmap"}),
        ("language train", {}),
    ],
)
def test_two_devices_find_what_one_finds(alone, kind, changes, tmp_path):
    RUN[kind](tmp_path / "run", devices=2, **BRIEF, **changes)
    assert_close(tmp_path / "run", alone[kind])


@pytest.mark.parametrize("kind", RUN)
def test_a_run_goes_on_with_another_number_of_devices(alone, kind, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        small_runs.die_at(patch, small_runs.checkpoint, "save", 2)
        with pytest.raises(small_runs.Died):
            RUN[kind](tmp_path / "run", devices=2, **BRIEF)
    assert newest(tmp_path / "run").step > 0
    _, shown = RUN[kind](tmp_path / "run", **BRIEF)
    assert "going on with" in shown
    assert_close(tmp_path / "run", alone[kind])


def test_statistics_of_each_device_are_another_run(alone, tmp_path):
    for kind in ("train", "language search"):
        folder = tmp_path / kind
        RUN[kind](folder, devices=2, batch_statistics="per_device", epochs=1)
        found, expected = (records(each)[0]["train/loss"] for each in (folder, alone[kind]))
        assert abs(found - expected) > 1e-4


@pytest.mark.parametrize("run", [*RUN.values(), small_pipeline.run])
@pytest.mark.parametrize(
    "changes, message",
    [
        ({"devices": 3}, r"batch-size of \d+ does not divide .* 3 devices; give "),
        (
            {"devices": 2, "parallel": "jit"},
            "^--parallel jit is for one device, and --devices is 2; give pmap or shard",
        ),
        ({"devices": 0}, "^--devices is 0; give 1 or more"),
        ({"devices": 4}, "^4 devices were asked for, and 2 CPU present"),
    ],
)
def test_devices_that_do_not_fit_are_refused(run, changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run(tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_a_pipeline_gives_its_devices_to_its_runs(tmp_path, monkeypatch):
    made = small_pipeline.config(tmp_path, devices=2, parallel="pmap")
    parts = [made.search_config(0), made.brief_config("DARTS_V2", tmp_path), made.full_config("DARTS_V2", 0, tmp_path)]
    assert {(each.devices, each.parallel) for each in parts} == {(2, "pmap")}
    options = small_pipeline.options(tmp_path / "run", devices=2, **{"search.devices": 4})
    code, _, errors = small_runs.finish(small_runs.start((small_pipeline.__file__,), options))
    assert (code, errors) == (2, "error: --search.devices has no effect within a pipeline; give --devices\n")


def test_a_pipeline_on_two_devices(tmp_path):
    result, _ = small_pipeline.run(tmp_path / "run", devices=2, searches=1, repeats=1)
    assert len(result.arms[0].trainings) == 1
