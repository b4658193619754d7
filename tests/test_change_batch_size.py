"""Runs that resume with other batches, and which steps then make up their epochs."""

import dataclasses
import json
import shutil
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
import small_runs
import small_search
import small_train
from small_runs import Died, die_at, newest, records, user_settings
from small_search import quick, run
from small_train import quick as quick_train

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.methods.stopping import stopping_rule
from jdarts.report import MetricsLog
from jdarts.report.html.run_data import read_run
from jdarts.report.html.series import panels
from jdarts.runs import RunFolder
from jdarts.runs.changes import Change
from jdarts.runs.epoch_steps import EpochSteps, Span, epoch_steps
from jdarts.runs.resuming import resumable_step
from jdarts.search import SearchConfig
from jdarts.search.seeds import search_seeds
from jdarts.search.summary import read

__all__ = ["quick", "quick_train", "user_settings"]
pytestmark = pytest.mark.usefixtures("quick")
SETTINGS = {**small_search.PLAIN, "epochs": 3, "log_every": 1, "keep_checkpoints": 20}
CHANGE = {**SETTINGS, "batch_size": 64, "change_batch_size": True}
SAID = "batches of 64 images instead of 128 since step 5"
#: The smaller half of the digits has 718 images.
LENGTHS = 5, 11, 11


def die_after(monkeypatch, folder, saves, **changes):
    """A search that ends after some checkpoints: of its first epoch for one, or of each step with more settings."""
    die_at(monkeypatch, checkpoint, "save", saves + 1)
    with pytest.raises(Died):
        run(folder, **{**SETTINGS, **changes})
    monkeypatch.undo()
    return folder


@pytest.fixture(scope="module")
def begun(quick, tmp_path_factory):
    """The folder of a search that has ended its first epoch."""
    with pytest.MonkeyPatch.context() as patch:
        return die_after(patch, tmp_path_factory.mktemp("begun") / "run", 1)


@pytest.fixture(scope="module")
def changed(begun, tmp_path_factory):
    """The folder of that search with other batches from its second epoch on, and what its second command has shown."""
    folder = tmp_path_factory.mktemp("changed") / "run"
    shutil.copytree(begun, folder)
    _, shown = run(folder, **CHANGE)
    return folder, shown


def test_other_batches_begin_with_an_epoch_and_the_summary_says_so(changed, tmp_path):
    folder, shown = changed
    assert shown.count(SAID) == 2 and "finished: 3 epochs, 27 steps" in shown
    assert read(RunFolder(folder)).changes[0]._asdict() == {
        "setting": "batch_size",
        "before": 128,
        "now": 64,
        "step": 5,
    }
    assert json.loads((folder / "config.json").read_text())["batch_size"] == 64
    run(tmp_path / "whole", **SETTINGS)
    found, whole = records(folder), records(tmp_path / "whole")
    steps = [each for each in found if "train/loss" in each]
    assert [each["step"] for each in steps] == list(range(1, 28))
    # Schedules follow the epochs, whatever their length.
    rates = [each["learning_rate"] for each in whole if "learning_rate" in each][::5]
    np.testing.assert_array_equal(
        [each["learning_rate"] for each in steps], np.repeat(rates, LENGTHS).astype(np.float64)
    )
    ends = [each for each in found if "epoch/train_loss" in each]
    assert [each["step"] for each in ends] == [5, 16, 27]
    for each, losses in zip(ends, np.split([each["train/loss"] for each in steps], [5, 16])):
        assert each["epoch/train_loss"] == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_page_places_steps_by_their_epochs(changed):
    rates = next(panel for panel in panels(read_run(changed[0])) if panel.title == "Learning rate")
    places = [place for place, _ in rates.series[0].points]
    assert len(places) == 27
    np.testing.assert_allclose([places[number - 1] for number in (1, 5, 16, 27)], [0.2, 1, 2, 3])


@pytest.mark.parametrize(
    "owner, name, call",
    [
        (RunFolder, "write", 1),  # config.json has the old number
        (MetricsLog, "write", 2),  # within the new epoch
        (checkpoint, "save", 1),  # before its checkpoint
        (RunFolder, "write", 7),  # all but the new summary
    ],
)
def test_a_change_that_dies_resumes_with_the_bits_of_an_undisturbed_one(
    owner, name, call, changed, begun, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    shutil.copytree(begun, folder)
    die_at(monkeypatch, owner, name, call)
    with pytest.raises(Died):
        run(folder, **CHANGE)
    monkeypatch.undo()
    _, shown = run(folder, **CHANGE)
    assert SAID in shown
    small_search.assert_same_bits(folder, changed[0])


def test_a_search_within_an_epoch_goes_back_to_its_start(changed, tmp_path, monkeypatch):
    folder = die_after(monkeypatch, tmp_path / "run", 8, checkpoint_minutes=1e-9)
    assert newest(folder).step == 8
    # It dies before its first checkpoint: the older ones after step 5 are gone, so it resumes from there again.
    die_at(monkeypatch, MetricsLog, "write", 2)
    with pytest.raises(Died):
        run(folder, **CHANGE)
    monkeypatch.undo()
    assert newest(folder).step == 5
    _, shown = run(folder, **{**CHANGE, "change_batch_size": False})
    assert shown.count(SAID) == 2 and "after step 5" in shown
    small_search.assert_same_bits(folder, changed[0])


def test_batches_may_change_again_and_with_more_epochs(changed, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(changed[0], folder)
    _, shown = run(folder, **{**CHANGE, "batch_size": 256, "epochs": 4, "extend": True})
    assert SAID in shown and "batches of 256 images instead of 64 since step 27" in shown
    assert "extended from 3 to 4 epochs at step 27" in shown and "4 epochs, 29 steps" in shown
    rates = {each["step"]: each["learning_rate"] for each in records(folder) if "learning_rate" in each}
    assert rates[28] == rates[29] < rates[27]


def test_where_no_other_batches_are_possible_the_reason_is_said(changed, begun, tmp_path, monkeypatch):
    def refused(folder, message, **changes):
        before = newest(folder).step, (folder / "config.json").read_bytes()
        with pytest.raises(InputError, match=message):
            run(folder, **{**CHANGE, **changes})
        assert before == (newest(folder).step, (folder / "config.json").read_bytes())

    words = r"was begun with --batch-size 128 \(now 64\); add --change-batch-size to resume it with other batches, or"
    refused(begun, words, change_batch_size=False)
    refused(begun, r"other settings: --channels 2 \(now 3\)", channels=3)
    refused(begun, "--epochs 3 .now 4.; add --extend to give it more epochs, or", epochs=4)
    refused(changed[0], "has finished, and another --batch-size changes nothing; give --batch-size 64", batch_size=32)
    early = die_after(monkeypatch, tmp_path / "early", 2, checkpoint_minutes=1e-9)
    refused(early, "this search has not ended its first one with 128; give --batch-size 128")
    late = die_after(monkeypatch, tmp_path / "late", 8, checkpoint_minutes=1e-9, keep_checkpoints=2)
    refused(late, "begins with an epoch, and the checkpoint of its start is not there: .*End the epoch with the old")
    task: Any = SimpleNamespace(examples=None, noun="search")
    with pytest.raises(InputError, match="this search cannot change its batches of 128 on its way"):
        resumable_step(newest(begun), task, {"batch_size": 64})
    over = tmp_path / "over"
    shutil.copytree(changed[0], over)
    (over / "summary.json").unlink()
    refused(over, "all epochs of this search are over, with 64; give --batch-size 64, or more", batch_size=32)
    for given in ({"select": "perturbation"}, {"stages": "p_darts", "earlier_skip_dropout": (0.0, 0.0)}):
        with pytest.raises(InputError, match="--change-batch-size gives a search epochs of another length"):
            SearchConfig(change_batch_size=True, **given)._check_extend()


def test_a_search_that_may_roll_back_keeps_its_batches(begun):
    task: Any = SimpleNamespace(examples=718, noun="search", stopping=stopping_rule("adaptive_decay"))
    with pytest.raises(InputError, match="--stop may roll this search back to an epoch with batches of 128"):
        resumable_step(newest(begun), task, {"batch_size": 64})
    assert resumable_step(newest(begun), task, {"batch_size": 128}) == newest(begun).step


def test_searches_of_several_seeds_change_together(tmp_path, monkeypatch):
    config = small_search.config(tmp_path / "runs", seeds="0,1", **SETTINGS)
    die_at(monkeypatch, checkpoint, "save", 3)
    with pytest.raises(Died):
        small_runs.result_and_text(search_seeds, config)
    monkeypatch.undo()
    results, _ = small_runs.result_and_text(search_seeds, dataclasses.replace(config, **CHANGE))
    for result in results:
        summary = read(RunFolder(result.folder))
        assert (summary.steps, str(summary.changes[0])) == (27, SAID)


def test_a_training_changes_its_batches(quick_train, tmp_path, monkeypatch):
    folder, whole = tmp_path / "run", tmp_path / "whole"
    settings: dict[str, Any] = {**small_train.PLAIN, "log_every": 1}
    # The best epoch has a checkpoint of its own.
    die_at(monkeypatch, checkpoint, "save", 3)
    with pytest.raises(Died):
        small_train.run(folder, **settings)
    monkeypatch.undo()
    assert newest(folder).step == 4
    result, shown = small_train.run(folder, **settings, batch_size=128, change_batch_size=True)
    assert shown.count("batches of 128 images instead of 256 since step 4") == 2 and "3 epochs, 20 steps" in shown
    small_train.run(whole, **settings)
    found, expected = ([each for each in records(path) if "drop_path" in each] for path in (folder, whole))
    for name in ("learning_rate", "drop_path"):
        by_epoch = [each[name] for each in expected][::4]
        assert [each[name] for each in found] == np.repeat(by_epoch, (4, 8, 8)).tolist()
    last = [each["train/accuracy"] for each in found][-8:]
    assert result.train_accuracy == pytest.approx(np.mean(last), rel=1e-5)


def test_epochs_of_several_lengths_are_counted_in_steps():
    steps = epoch_steps(
        718, 256, [Change("batch_size", 128, 64, 10), Change("epochs", 3, 9, 12), Change("batch_size", 64, 256, 32)]
    )
    assert steps == EpochSteps((Span(0, 0, 5), Span(2, 10, 11), Span(4, 32, 2)))
    lengths = [5, 5, 11, 11, 2, 2, 2]
    assert [steps.length(epoch) for epoch in range(7)] == lengths
    starts = np.cumsum([0, *lengths])
    assert [steps.before(epoch) for epoch in range(8)] == starts.tolist()
    every = np.arange(starts[-1], dtype=np.int32)
    np.testing.assert_array_equal(jax.jit(jax.vmap(steps.epoch))(every), np.repeat(np.arange(7), lengths))
    np.testing.assert_array_equal(jax.jit(jax.vmap(steps.begins))(every), np.isin(every, starts))
    assert EpochSteps.of_one_length(4).epoch(9) == 2 and EpochSteps.of_one_length(4).begins(8)
