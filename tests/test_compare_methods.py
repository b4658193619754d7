"""experiments/compare_methods.py: what it refuses, the settings of its searches, and that it repeats nothing."""

import importlib.util
import json
import sys
import time
from pathlib import Path

import command_line
import numpy as np
import pytest
import small_search
from small_runs import user_settings  # noqa: F401

from jdarts.data import Augmentation, ImageDataset, ImageSplit
from jdarts.errors import InputError

FILE = Path(__file__).resolve().parents[1] / "experiments" / "compare_methods.py"
SPEC = importlib.util.spec_from_file_location("compare_methods", FILE)
assert SPEC is not None and SPEC.loader is not None
MODULE = sys.modules["compare_methods"] = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(MODULE)

#: Of every row.
NUMBERS = ("accuracy", "lead", "eigenvalue", "seconds", "processor_seconds")

command = command_line.fixture(MODULE.main, "compare_methods")

TINY = "--images 32 --image-size 8 --channels 2 --cells 3 --nodes 1 --epochs 1 --batch-size 8 --space S2 --seeds 0-1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--methods", "--methods names none; give one or more, such as darts:first_order pc_darts"),
        ("--methods gdas gdas", "--methods is gdas gdas, which names a method twice; give each once"),
        ("--images 3", "--images is 3; give 4 or more"),
        ("--alpha-rate-factor 0", "--alpha-rate-factor is 0.0; give a number above 0"),
        ("--seeds 2-1", "--seeds is 2-1; give seeds such as 0-3 or 0,2,5"),
    ],
)
def test_wrong_values(words, message, command):
    assert command(*words.split()) == (2, "", f"error: {message}\n")


def test_an_unknown_method_or_hypergradient():
    for name, named in (("drats", "drats"), ("darts:second", "second")):
        with pytest.raises(InputError, match=named):
            MODULE.CompareConfig(methods=(name,)).check()


def test_settings_of_presets_fit_a_short_search():
    config = MODULE.CompareConfig(epochs=10, alpha_rate_factor=20.0)
    config.check()
    pc_darts = config.search_config("pc_darts")
    # Epoch 15 of 50 is epoch 3 of 10; PC-DARTS's 6e-4 is twice DARTS's.
    assert (pc_darts.methods.alphas_from, pc_darts.supernet.partial_channels) == (3, 4)
    assert pc_darts.alphas.alpha_learning_rate == pytest.approx(1.2e-2)
    assert config.search_config("snas").methods.temperature_epochs == 10
    exact = config.search_config("darts:exact")
    assert (exact.hypergradient, exact.alphas.alpha_learning_rate) == ("exact", pytest.approx(6e-3))
    for name in config.methods:
        found = config.search_config(name)
        assert (found.batches.batch_size, found.rate.learning_rate, found.loop.epochs) == (64, 0.1, 10)


def test_a_processor_clock_counts_work_and_not_waiting():
    with MODULE.ProcessorClock() as clock:
        start, before = time.time(), time.process_time()
        while time.process_time() - before < 0.2:
            pass
        middle = time.time()
        time.sleep(0.2)
        end = time.time()
    assert clock.used(start, middle) == pytest.approx(0.2, abs=0.1)
    assert clock.used(middle, end) < 0.1
    assert clock.used(start - 60, end) is None and clock.used(start, end + 60) is None


def test_times_that_are_not_known_stay_empty():
    """Rows of a run that another process has begun, or that an earlier version has kept."""
    row = {"hypergradient": "exact", "accuracy": 0.5, "skips": 1, "lead": 0.1, "decided": 0.5, "eigenvalue": 0.1}
    plain = {**row, "seconds": 0.2, "processor_seconds": 0.1}
    text = MODULE.table(
        {
            "darts:first_order": [plain],
            "gdas": [{**plain, "processor_seconds": None}],
            "snas": [{**row, "seconds": 0.4}],
        }
    )
    assert [line.split("|")[-5:-1] for line in text.splitlines()[2:]] == [
        [" 0.2 ", " 1.00 ", " 0.1 ", " 1.00 "],
        [" 0.2 ", " 1.00 ", "  ", "  "],
        [" 0.4 ", " 2.00 ", "  ", "  "],
    ]


def test_one_epoch_is_enough_for_every_method():
    config = MODULE.CompareConfig(epochs=1)
    config.check()
    assert config.search_config("pc_darts").methods.alphas_from == 0
    assert config.search_config("snas").methods.temperature_epochs == 1


@pytest.fixture
def images(monkeypatch):
    """Random images in place of CIFAR-10, without augmentation."""
    draw = np.random.default_rng(0)

    def split(count):
        images = draw.integers(256, size=(count, 32, 32, 3)).astype(np.uint8)
        return ImageSplit(images, np.arange(count, dtype=np.int32) % 2)

    augmentation = Augmentation(padding=0, flip=False)
    dataset = ImageDataset("x", split(64), split(8), ("a", "b"), (0.5,) * 3, (0.2,) * 3, augmentation, shuffled=True)
    monkeypatch.setattr(MODULE.images, "load", lambda name, data_dir: dataset)
    return dataset


@pytest.mark.usefixtures("user_settings")
def test_a_finished_method_is_not_repeated(tmp_path, images, command, monkeypatch):
    small_search.quicken(monkeypatch.setattr)
    words = [*TINY.split(), "--out", tmp_path, "--methods", "darts:first_order"]
    code, first, _ = command(*words)
    assert code == 0
    (path,) = tmp_path.glob("*.json")
    rows, kept = json.loads(path.read_text())["rows"], path.read_bytes()
    assert [row["seed"] for row in rows] == [0, 1]
    assert all(np.isfinite(row[name]) for row in rows for name in NUMBERS)
    assert all(0 <= row["skips"] <= 2 for row in rows)
    code, second, _ = command(*words)
    assert code == 0 and "epoch" not in second
    assert [each.read_bytes() for each in tmp_path.glob("*.json")] == [kept]
    assert first.splitlines()[-3:] == second.splitlines()[-3:] == (tmp_path / "table-S2.md").read_text().splitlines()
