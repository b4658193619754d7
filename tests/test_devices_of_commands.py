"""`--devices` and `--parallel` of every command; test_search_devices.py says what an image search finds with them."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import small_language
import small_pipeline
import small_runs
import small_search
import small_train
from small_pipeline import quick
from small_runs import newest, records, user_settings

from jdarts import InputError
from jdarts.report.mistakes import read_mistakes

__all__ = ["quick", "user_settings"]


pytestmark = pytest.mark.usefixtures("quick")

RUN = {
    "train": small_train.run,
    "language search": small_language.run_search,
    "language train": small_language.run_train,
}
#: Devices share every kind of dropout, as `test_parallel` shows; that of the output is left here.
FEW_MASKS = dict.fromkeys(("dropouth", "dropoutx", "dropouti"), 0.0)
#: Two epochs each, of cells of one node; two devices share the texts' evaluation in 2 columns, and each reads all of that in 3.
BRIEF: dict[str, Any] = {
    "train": {"epochs": 2, "images_on": "device"},
    "language search": {"epochs": 2, "nodes": 1, "hypergradient": "first_order", "eigenvalue_every": 1, **FEW_MASKS},
    "language train": {
        "epochs": 2,
        "test_batch_size": 2,
        "dropoute": 0.0,
        **FEW_MASKS,
        "genotype": "Genotype(recurrent=[('tanh', 0)], concat=range(1, 2))",
    },
}


def numbers(folder):
    """Arrays of the newest checkpoint but for keys, by their place in the state."""
    found = small_runs.leaves(folder).items()
    return {place: np.frombuffer(leaf, np.uint8 if len(leaf) == 1 else np.float32) for place, leaf in found}


def assert_close(folder, reference):
    """A run has come to the same as another one, up to float32's rounding."""
    found, expected = numbers(folder), numbers(reference)
    assert found.keys() == expected.keys()
    for place, values in expected.items():
        np.testing.assert_allclose(found[place], values, rtol=2e-3, atol=2e-5, err_msg=place)
    small_runs.assert_records_close(folder, reference)


@pytest.fixture(scope="module")
def shown(quick, tmp_path_factory):
    """Folders of runs on one device, none of which finds its memory sufficient, and what they show, by command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jdarts.runs.memory.available_memory", lambda: 1)
        folders = {kind: tmp_path_factory.mktemp("alone") / "run" for kind in RUN}
        return {kind: (folder, RUN[kind](folder, **BRIEF[kind])[1]) for kind, folder in folders.items()}


@pytest.fixture(scope="module")
def alone(shown):
    """The folders of these runs, by command."""
    return {kind: folder for kind, (folder, _) in shown.items()}


@pytest.mark.parametrize(
    "kind, options",
    [
        ("train", ["--batch-size 128"]),
        ("language search", ["--batch-size 2", "--bptt 3"]),
        ("language train", ["--batch-size 2", "--bptt 3"]),
    ],
)
def test_each_command_says_what_would_save_memory(shown, kind, options):
    _, _, told = shown[kind][1].partition("warning: the step does not fit. These options would help, by estimate:")
    assert [line.split(":")[0].strip() for line in told.splitlines()[1:] if "saves about" in line] == options


@pytest.mark.parametrize("changes", [{}, {"images_on": "host", "parallel": "pmap"}], ids=["device", "host"])
def test_a_training_on_two_devices_finds_what_one_finds(alone, changes, tmp_path):
    small_train.run(tmp_path / "run", devices=2, **{**BRIEF["train"], **changes})
    assert_close(tmp_path / "run", alone["train"])
    found, expected = (
        read_mistakes((each / "mistakes.json").read_bytes()) for each in (tmp_path / "run", alone["train"])
    )
    assert found.totals == expected.totals and sum(found.rights) == pytest.approx(sum(expected.rights), abs=2)
    assert {each.place for each in found.worst} & {each.place for each in expected.worst}


@pytest.mark.parametrize(
    "kind, parallel", [("train", "shard"), ("language search", "pmap"), ("language train", "shard")]
)
def test_a_run_on_two_devices_resumes_with_one(alone, kind, parallel, tmp_path, monkeypatch):
    settings = BRIEF[kind]
    with monkeypatch.context() as patch:
        small_runs.die_at(patch, small_runs.checkpoint, "save", 3 if kind == "train" else 2)
        with pytest.raises(small_runs.Died):
            RUN[kind](tmp_path / "run", devices=2, parallel=parallel, **settings)
    assert 0 < newest(tmp_path / "run").step < newest(alone[kind]).step
    _, shown = RUN[kind](tmp_path / "run", **settings)
    assert "resuming" in shown
    assert_close(tmp_path / "run", alone[kind])


def test_statistics_of_each_device_are_another_training(alone, tmp_path):
    small_train.run(tmp_path / "run", devices=2, batch_statistics="per_device", epochs=1)
    found, expected = (records(folder)[0]["train/loss"] for folder in (tmp_path / "run", alone["train"]))
    assert abs(found - expected) > 1e-4


@pytest.mark.parametrize("run", [*RUN.values(), small_search.run, small_pipeline.run])
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
    assert {(each.parallelism.devices, each.parallelism.parallel) for each in parts} == {(2, "pmap")}
    options = small_pipeline.options(tmp_path / "run", devices=2, **{"search.devices": 4})
    code, _, errors = small_runs.finish(small_runs.start((small_pipeline.__file__,), options))
    assert (code, errors) == (2, "error: --search.devices has no effect within a pipeline; give --devices\n")
    for name, value in {"seeds": "0-3", "cluster": True, "coordinator": "host:1"}.items():
        part = dataclasses.replace(made.search, **{name: value})
        with pytest.raises(InputError, match=f"^--search.{name} has no effect within a pipeline; "):
            dataclasses.replace(made, search=part).check()


def test_a_pipeline_on_two_devices(tmp_path):
    result, _ = small_pipeline.run(tmp_path / "run", devices=2, searches=1, repeats=1)
    assert len(result.arms[0].trainings) == 1
