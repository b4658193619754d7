"""A training that dies anywhere and is started again ends with the bits of an undisturbed one."""

import json
import os
import shutil
import signal
from typing import Any

import numpy as np
import pytest
from small_runs import (
    die_in_turn,
    finish,
    leaves,
    newest,
    read_until,
    records,
    signal_after_step,
    user_settings,
)
from small_train import STEPS, STEPS_PER_EPOCH, assert_same_bits, config, quick, run, start, undisturbed

from jdarts import checkpoint, data
from jdarts.errors import InputError
from jdarts.report import MetricsLog
from jdarts.runs import CompiledPrograms, RunFolder
from jdarts.train import Interrupted, TrainConfig
from jdarts.train.images import MemoryImages

__all__ = ["quick", "undisturbed", "user_settings"]
pytestmark = pytest.mark.usefixtures("quick")
EVERY_STEP = {"checkpoint_minutes": 1e-9}


def test_deaths_between_two_files_lose_and_double_nothing(undisturbed, tmp_path):
    """One training dies again and again, each time further."""
    deaths = [
        (MetricsLog, "write", 1, {}, 0),  # before the first record
        (checkpoint, "save", 3, EVERY_STEP, 2),  # within the first epoch
        (checkpoint, "save", 1, {}, 2),  # before the best of the first epoch
        (checkpoint, "save", 2, {}, 2),  # after it, before the checkpoint of that epoch
        (checkpoint, "save", 6, {}, 2 * STEPS_PER_EPOCH),  # before the last checkpoint
        (RunFolder, "write_genotype", 1, {}, STEPS),  # all epochs done, nothing of the end written
        (RunFolder, "write", 4, {}, STEPS),  # all written but the summary
    ]
    die_in_turn(tmp_path / "run", run, deaths)
    assert not (tmp_path / "run/summary.json").exists()
    result, _ = run(tmp_path / "run")
    assert_same_bits(tmp_path / "run", undisturbed)
    expected = json.loads((undisturbed / "summary.json").read_text())
    for key in ("test_accuracy", "test_loss", "valid_accuracy", "train_accuracy", "checkpoint", "tested"):
        assert getattr(result, key) == expected[key]


def test_a_killed_training_resumes_to_the_same_bits(undisturbed, tmp_path):
    folder = tmp_path / "run"
    for shown in ("compiling the step:", "epoch 1/3"):
        process = start(folder, **EVERY_STEP)
        read_until(process, shown)
        os.kill(process.pid, signal.SIGKILL)
        code, _, err = finish(process)
        assert (code, err) == (-signal.SIGKILL, "")
    run(folder)
    assert_same_bits(folder, undisturbed)


def test_a_signal_saves_after_the_present_step(undisturbed, tmp_path, monkeypatch):
    for after, number in [(1, signal.SIGINT), (STEPS_PER_EPOCH, signal.SIGTERM), (STEPS, signal.SIGINT)]:
        with monkeypatch.context() as patch, pytest.raises(Interrupted) as stopped:
            signal_after_step(patch, after, number)
            run(tmp_path / "run")
        assert stopped.value.exit_code == 128 + number
        assert newest(tmp_path / "run").step == after
    run(tmp_path / "run")
    assert_same_bits(tmp_path / "run", undisturbed)


def test_a_signal_during_the_test_keeps_the_last_state(undisturbed, tmp_path, monkeypatch):
    """The tested weights are those of the best epoch; what is saved must not be."""
    batches = MemoryImages.test_batches

    def interrupting(images):
        os.kill(os.getpid(), signal.SIGTERM)
        yield from batches(images)

    monkeypatch.setattr(MemoryImages, "test_batches", interrupting)
    with pytest.raises(Interrupted):
        run(tmp_path / "run")
    monkeypatch.undo()
    assert (newest(tmp_path / "run").step, newest(tmp_path / "run").record["epochs_ended"]) == (STEPS, 3)
    run(tmp_path / "run")
    assert_same_bits(tmp_path / "run", undisturbed)


def test_images_on_the_host_give_the_same_bits(undisturbed, tmp_path):
    run(tmp_path / "run", images_on="host")
    assert_same_bits(tmp_path / "run", undisturbed)


def test_another_seed_gives_other_bits(undisturbed, tmp_path):
    """The comparisons above can fail."""
    run(tmp_path / "run", seed=1)
    found, expected = leaves(tmp_path / "run"), leaves(undisturbed)
    assert all(found[place] != expected[place] for place in expected if "kernel" in place)
    assert records(tmp_path / "run") != records(undisturbed)


def unreadable(*_, **__):
    raise InputError("the images are gone")


def test_a_finished_run_is_reported_without_its_data(undisturbed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("jdarts.data.load", unreadable)
    result, shown = run(undisturbed)
    lines = shown.splitlines()
    assert lines[0] == f"{undisturbed} has finished; another --run-dir or --seed starts another training"
    assert lines[3].startswith("test accuracy, best epoch by validation: ")
    assert result == run(undisturbed)[0]
    shutil.copytree(undisturbed, tmp_path / "copy")
    assert run(tmp_path / "copy")[0].folder == tmp_path / "copy"


class Watched:
    """A split that notes how often each of its images is read."""

    def __init__(self, split):
        self.split, self.read = split, np.zeros(len(split), int)
        self.images, self.labels = split.images, split.labels

    def __len__(self):
        return len(self.split)

    def __getitem__(self, index):
        np.add.at(self.read, index, 1)
        return self.split[index]


def test_test_images_are_read_once_at_the_end_and_held_out_ones_never_train(tmp_path, monkeypatch):
    dataset = data.load("digits")
    train: Any = Watched(dataset.train)
    test: Any = Watched(dataset.test)
    watched = data.ImageDataset(
        "digits", train, test, dataset.class_names, dataset.mean, dataset.std, dataset.augmentation
    )
    monkeypatch.setattr(data.ImageDataset, "arranged", lambda self, fraction, seed: (train, int(fraction * len(train))))
    reads = []
    save = checkpoint.save
    monkeypatch.setattr(checkpoint, "save", lambda *a, **k: reads.append(test.read.sum()) or save(*a, **k))
    run(tmp_path / "run", dataset=watched, images_on="host")
    assert set(reads) == {0}
    # The last batch is filled up with the first image.
    assert set(test.read[1:]) == {1}
    held_out = len(dataset.train) - len(dataset.train) * 3 // 4
    # Once, to be set apart.
    assert set(train.read[-held_out:]) == {1}
    assert (train.read[:-held_out] > 0).mean() > 0.9


def test_without_held_out_images_the_last_epoch_is_tested(tmp_path):
    result, shown = run(tmp_path / "run", validation_fraction=0.0, ema_decay=0.0)
    assert (result.tested, result.checkpoint, result.valid_accuracy) == ("last", "checkpoints/step_00000015", None)
    assert not (tmp_path / "run" / "best").exists()
    assert "test accuracy, last epoch: " in shown
    assert result.test_accuracy is not None and result.test_accuracy > 0.5
    untested, shown = run(tmp_path / "untested", test=False, epochs=1)
    assert untested.test_accuracy is None
    assert "test accuracy" not in shown


def test_the_best_epoch_is_the_one_with_the_best_validation(undisturbed):
    accuracies = [record["epoch/valid_accuracy"] for record in records(undisturbed) if "epoch/number" in record]
    (best,) = (undisturbed / "best").iterdir()
    assert best.name == f"step_{STEPS_PER_EPOCH * (1 + int(np.argmax(accuracies))):08d}"
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert summary["valid_accuracy"] == max(accuracies)


def test_one_program_serves_every_seed_schedule_and_share(tmp_path):
    """A brief training and a full one, compiled once, end as they end alone."""
    programs, full = CompiledPrograms(), {"epochs": 2, "validation_fraction": 0.0}
    for folder, changes in (
        ("brief", {"epochs": 1, "test": False}),
        ("full", {**full, "seed": 3, "schedule": "exponential"}),
    ):
        _, shown = run(tmp_path / folder, programs=programs, **changes)
        assert ("compiling" in shown) == (folder == "brief")
    run(tmp_path / "alone", **full, seed=3, schedule="exponential")
    found, expected = leaves(tmp_path / "full"), leaves(tmp_path / "alone")
    assert found == expected
    _, shown = run(tmp_path / "other", programs=programs, weight_decay=0.0, epochs=1)
    assert "compiling" in shown


def test_the_genotype_is_that_of_the_start(tmp_path):
    """A run belongs to the cells, not to the name under which they were found."""
    assert config(tmp_path).to_json() == config(tmp_path, genotype=str(config(tmp_path).cell)).to_json()
    assert TrainConfig(seed=3).folder.name == "train-cifar10-DARTS_V2-seed3"
