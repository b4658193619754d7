"""Runs on text that die anywhere and are started again end with the bits of undisturbed ones."""

import functools
import json
import os
import signal

import pytest
from small_language import (
    SEARCH_STEPS,
    TRAIN_STEPS,
    quick,
    run_search,
    run_train,
    start,
)
from small_runs import (
    assert_same_bits,
    die_in_turn,
    finish,
    newest,
    read_until,
    signal_after_step,
    user_settings,
)

from jdarts import checkpoint
from jdarts.report import MetricsLog
from jdarts.runs import Interrupted, RunFolder

__all__ = ["quick", "user_settings"]
pytestmark = pytest.mark.usefixtures("quick")

FILES = ["genotype.json", "genotype.txt", "recurrent.svg", "curves.png"]
#: What a run leaves when it dies is the same whatever its cell; one node compiles soonest.
ONE_NODE = {"search": {"nodes": 1}, "train": {"genotype": "Genotype(recurrent=[('tanh', 0)], concat=range(1, 2))"}}
RUN = {
    "search": functools.partial(run_search, **ONE_NODE["search"]),
    "train": functools.partial(run_train, **ONE_NODE["train"]),
}
STEPS = {"search": SEARCH_STEPS, "train": TRAIN_STEPS}
STEPS_PER_EPOCH = 3
EVERY_STEP = {"checkpoint_minutes": 1e-9}


@pytest.fixture(scope="module")
def undisturbed(quick, tmp_path_factory):
    """Folders of a search and of a training from their start to their end."""
    folders = {}
    for kind, run in RUN.items():
        folders[kind] = tmp_path_factory.mktemp("undisturbed") / kind
        run(folders[kind])
        assert newest(folders[kind]).step == STEPS[kind]
    return folders


@pytest.mark.parametrize("kind", RUN)
def test_deaths_between_two_files_lose_and_double_nothing(kind, undisturbed, tmp_path):
    """One run dies again and again, each time further."""
    folder = tmp_path / "run"
    deaths = [
        (MetricsLog, "write", 1, {}, 0),  # before the first record
        (checkpoint, "save", 2, EVERY_STEP, 1),  # within the first epoch, hidden states under way
        (checkpoint, "save", 2, {}, STEPS_PER_EPOCH),  # before the checkpoint of the second epoch
        (RunFolder, "write", {"search": 3, "train": 2}[kind], {}, STEPS[kind]),  # at the end
    ]
    die_in_turn(folder, RUN[kind], deaths)
    assert not (folder / "summary.json").exists()
    RUN[kind](folder)
    assert_same_bits(folder, undisturbed[kind], FILES)
    kept, expected = (json.loads((each / "summary.json").read_text()) for each in (folder, undisturbed[kind]))
    assert {**kept, "seconds": 0} == {**expected, "seconds": 0}


@pytest.mark.parametrize("kind", RUN)
def test_a_killed_run_resumes_to_the_same_bits(kind, undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = start(folder, kind, **ONE_NODE[kind], **EVERY_STEP)
    read_until(process, "epoch 1/")
    os.kill(process.pid, signal.SIGKILL)
    code, _, err = finish(process)
    assert (code, err) == (-signal.SIGKILL, "")
    _, shown = RUN[kind](folder)
    assert "resuming" in shown
    assert_same_bits(folder, undisturbed[kind], FILES)


@pytest.mark.parametrize("kind", RUN)
def test_a_signal_saves_after_the_present_step(kind, undisturbed, tmp_path, monkeypatch):
    for after, number in [(1, signal.SIGINT), (3, signal.SIGTERM)]:
        with monkeypatch.context() as patch, pytest.raises(Interrupted) as stopped:
            signal_after_step(patch, after, number)
            RUN[kind](tmp_path / "run")
        assert stopped.value.exit_code == 128 + number
        assert newest(tmp_path / "run").step == after
    RUN[kind](tmp_path / "run")
    assert_same_bits(tmp_path / "run", undisturbed[kind], FILES)


@pytest.mark.parametrize("kind", RUN)
def test_a_finished_run_is_reported_and_not_repeated(kind, undisturbed):
    result, shown = RUN[kind](undisturbed[kind])
    assert "has finished" in shown and "unigram model" in shown
    assert result.test_perplexity > 1
    assert result.folder == undisturbed[kind]
