"""Runs that get more epochs, and runs that resume on other devices."""

import dataclasses
import json
import shutil

import pytest
import small_runs
import small_search
import small_train
from small_runs import Died, die_at, die_in_turn, leaves, newest, records, user_settings
from small_search import quick
from small_train import quick as quick_train

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.report import MetricsLog
from jdarts.runs import RunFolder
from jdarts.search import SearchConfig
from jdarts.search.seeds import search_seeds
from jdarts.search.summary import read

__all__ = ["quick", "quick_train", "user_settings"]
pytestmark = pytest.mark.usefixtures("quick")
MORE = {"epochs": 3, "extend": True}
#: More epochs are the same with every hypergradient and with every image.
config, run = small_search.searches({**small_search.SETTINGS, **small_search.PLAIN})
undisturbed = small_runs.undisturbed_run(run)
EXTENDED = "extended from 2 to 3 epochs at step 10"


@pytest.fixture(scope="module")
def extended(undisturbed, tmp_path_factory):
    """The folder of a search of two epochs that has got a third, and what the second command has shown."""
    folder = tmp_path_factory.mktemp("extended") / "run"
    shutil.copytree(undisturbed, folder)
    _, shown = run(folder, **MORE)
    return folder, shown


def rates(folder):
    """The learning rate of each epoch, counted from 1."""
    per_epoch = small_search.STEPS_PER_EPOCH
    return {
        (each["step"] - 1) // per_epoch + 1: each["learning_rate"]
        for each in records(folder)
        if "learning_rate" in each
    }


def test_a_finished_search_gets_more_epochs_and_says_so(extended, undisturbed, tmp_path):
    folder, shown = extended
    assert shown.count(EXTENDED) == 2
    assert read(RunFolder(folder)).changes[0]._asdict() == {"setting": "epochs", "before": 2, "now": 3, "step": 10}
    assert json.loads((folder / "config.json").read_text())["epochs"] == 3
    first = [each for each in records(folder) if each["step"] <= small_search.STEPS]
    assert first == records(undisturbed)
    # From there on, the schedule is that of a run of three epochs.
    whole = tmp_path / "whole"
    run(whole, epochs=3)
    assert rates(folder)[3] == rates(whole)[3]
    assert rates(folder)[2] == rates(undisturbed)[2] != rates(whole)[2]


def test_an_extension_that_dies_resumes_with_the_bits_of_an_undisturbed_one(extended, undisturbed, tmp_path):
    folder, step = tmp_path / "run", small_search.STEPS
    shutil.copytree(undisturbed, folder)
    deaths = [
        (RunFolder, "write", 1, MORE, step),  # the summary is gone, and config.json has the old number
        (MetricsLog, "write", 2, MORE, step),  # within the new epoch
        (checkpoint, "save", 1, MORE, step),  # before its checkpoint
        (RunFolder, "write", 5, MORE, step + small_search.STEPS_PER_EPOCH),  # all but the new summary
    ]
    die_in_turn(folder, run, deaths)
    assert not (folder / "summary.json").exists()
    _, shown = run(folder, **MORE)
    assert EXTENDED in shown
    small_search.assert_same_bits(folder, extended[0])
    assert read(RunFolder(folder)).changes == read(RunFolder(extended[0])).changes


def test_an_unfinished_search_is_extended_from_the_step_it_has_reached(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    die_at(monkeypatch, checkpoint, "save", 4)
    with pytest.raises(Died):
        run(folder, checkpoint_minutes=1e-9)
    monkeypatch.undo()
    assert newest(folder).step == 3
    _, shown = run(folder, **MORE)
    assert "extended from 2 to 3 epochs at step 3" in shown
    assert newest(folder).step == 3 * small_search.STEPS_PER_EPOCH


def test_the_extended_search_is_found_with_its_new_number_alone(extended):
    folder, _ = extended
    before = leaves(folder)
    for changes in ({"epochs": 3}, MORE):
        _, shown = run(folder, **changes)
        assert "has finished" in shown and EXTENDED in shown
    with pytest.raises(InputError, match=r"was begun with other settings: --epochs 3 \(now 2\)"):
        run(folder)
    assert leaves(folder) == before


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epochs": 3}, r"was begun with --epochs 2 \(now 3\); add --extend to give it more epochs"),
        ({"epochs": 1, "extend": True}, "--epochs is 1, and .* is a run of 2; --extend gives it more: 3 or above"),
        ({**MORE, "batch_size": 64}, r"was begun with --batch-size 128 \(now 64\); add --change-batch-size to resume"),
        ({**MORE, "channels": 3}, r"was begun with other settings: --channels 2 \(now 3\); give the same"),
    ],
)
def test_other_numbers_are_refused_with_the_mend(changes, message, undisturbed):
    before = (undisturbed / "config.json").read_bytes()
    with pytest.raises(InputError, match=message):
        run(undisturbed, **changes)
    assert (undisturbed / "config.json").read_bytes() == before
    assert (undisturbed / "summary.json").exists()


def test_a_folder_without_a_run_is_not_extended(tmp_path):
    with pytest.raises(
        InputError, match="holds no run that --extend could give more epochs; leave it out to start one"
    ):
        run(tmp_path / "run", **MORE)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_without_its_checkpoints_keeps_its_summary(undisturbed, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    shutil.rmtree(folder / checkpoint.FOLDER)
    with pytest.raises(InputError, match="has finished, and has no checkpoint with which it could be extended"):
        run(folder, **MORE)
    assert read(RunFolder(folder)).epochs == 2


def test_a_search_that_a_rule_has_stopped_is_not_extended(tmp_path):
    folder, stop = tmp_path / "run", {"stop": "skip_connections:limit=1"}
    run(folder, **stop, epochs=3)
    summary = (folder / "summary.json").read_bytes()
    assert b"stopped" in summary
    with pytest.raises(InputError, match="--stop has ended this search before its 3 epochs were over"):
        run(folder, **stop, epochs=4, extend=True)
    assert (folder / "summary.json").read_bytes() == summary
    assert json.loads((folder / "config.json").read_text())["epochs"] == 3


@pytest.mark.parametrize(
    "changes", [{"select": "perturbation"}, {"stages": "p_darts", "earlier_skip_dropout": (0.0, 0.0)}]
)
def test_searches_that_act_after_their_last_epoch_are_not_extended(changes):
    with pytest.raises(InputError, match="--extend gives a search more epochs, and --s"):
        SearchConfig(extend=True, **changes)._check_extend()


def test_searches_of_several_seeds_get_more_epochs_together(tmp_path):
    several = config(tmp_path / "runs", seeds="0,1")
    small_runs.result_and_text(search_seeds, several)
    results, _ = small_runs.result_and_text(search_seeds, dataclasses.replace(several, **MORE))
    for result in results:
        assert read(RunFolder(result.folder)).epochs == 3
        assert str(read(RunFolder(result.folder)).changes[0]) == EXTENDED


def test_other_devices_are_said_in_the_summary(tmp_path, monkeypatch):
    """Their results agree up to rounding, as test_search_devices.py says."""
    folder = tmp_path / "run"
    die_at(monkeypatch, checkpoint, "save", 2)
    with pytest.raises(Died):
        run(folder, devices=2)
    monkeypatch.undo()
    _, shown = run(folder)
    assert shown.count("1 device instead of 2 since step 5") == 2
    assert "changes" not in newest(folder).record or newest(folder).record["devices"] == 1


def test_statistics_of_each_device_allow_no_other_number(tmp_path, monkeypatch):
    folder, settings = tmp_path / "run", {"batch_statistics": "per_device"}
    die_at(monkeypatch, checkpoint, "save", 2)
    with pytest.raises(Died):
        run(folder, devices=2, **settings)
    monkeypatch.undo()
    with pytest.raises(InputError, match="--devices is 1, and this search has computed with 2"):
        run(folder, **settings)
    assert newest(folder).step == 5


def test_a_training_gets_more_epochs(quick_train, tmp_path):
    folder, whole = tmp_path / "run", tmp_path / "whole"
    small_train.run(folder, **small_train.PLAIN)
    result, shown = small_train.run(folder, **small_train.PLAIN, epochs=4, extend=True)
    assert shown.count("extended from 3 to 4 epochs at step 12") == 2
    small_train.run(whole, **small_train.PLAIN, epochs=4)
    found, expected = ([each for each in records(path) if "drop_path" in each] for path in (folder, whole))
    for name in ("learning_rate", "drop_path"):
        last = [each[name] for each in found if each["step"] > small_train.STEPS]
        assert last == [each[name] for each in expected if each["step"] > small_train.STEPS]
    assert json.loads((folder / "summary.json").read_text())["epochs"] == 4
    assert result.test_accuracy is not None
