"""Sets that no memory holds: found or refused, read in an order that the seed decides, trained on with any workers."""

import dataclasses
import io
import itertools
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import prepared_pictures
import pytest
import small_runs
import small_train
from mutations import bounded
from PIL import Image
from prepared_pictures import CLASSES, TEST, TRAIN, picture
from small_runs import Died, die_at, finish, read_until, user_settings
from small_train import quick

from jdarts import checkpoint, data
from jdarts.command import run_command
from jdarts.data.streamed.dataset import LargeSplit, open_large
from jdarts.data.streamed.views import ColorJitter, crop_box, evaluation_view, training_view
from jdarts.data.streamed.workers import EvaluationViews, TrainingViews, decoded_batches
from jdarts.errors import InputError
from jdarts.train import TrainConfig, train
from jdarts.train.command import main

__all__ = ["quick", "user_settings"]
SETTINGS = {"dataset": "imagenette", "image_size": 16, "batch_size": 4, "cutout": 0, "workers": 0}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    prepared_pictures.prepare(folder)
    return folder


@pytest.fixture(scope="module")
def dataset(data_dir):
    return open_large("imagenette", data_dir)


def views(dataset, **changes):
    fields = {
        "count": 20,
        "epochs": 3,
        "per_epoch": 16,
        "size": 12,
        "jitter": ColorJitter(0.4, 0.4, 0.4, 0.2),
        "seed": 5,
    }
    return TrainingViews(dataset.train, **{**fields, **changes})


def together(batches):
    """Images and labels of all batches."""
    return [np.concatenate(arrays) for arrays in zip(*batches)]


def settings(data_dir, **changes):
    words = {name: value for name, value in small_train.SETTINGS.items() if name not in SETTINGS}
    return {**words, **SETTINGS, "data_dir": data_dir, **changes}


def trained(folder, data_dir, **changes):
    """Trains in this process; returns the result and what was shown."""
    return small_runs.result_and_text(train, TrainConfig(run_dir=folder, **settings(data_dir, **changes)))


def test_what_lies_there(dataset):
    assert (len(dataset.train), len(dataset.test), dataset.class_names) == (TRAIN, TEST, CLASSES)
    content, label = dataset.test[3]
    assert (content, label) in [(picture(1000 + number, number % 2), number % 2) for number in range(TEST)]
    assert len({dataset.train[place][0] for place in range(TRAIN)}) == TRAIN


def test_every_epoch_has_its_own_order_and_parts(dataset):
    """The labels tell the order: each picture once at the most, and what is left out differs."""
    whole = views(dataset, count=TRAIN, per_epoch=TRAIN)
    made = [whole[place] for place in range(len(whole))]
    epochs = [made[start : start + TRAIN] for start in range(0, len(made), TRAIN)]
    for epoch in epochs:
        assert sum(int(label) for _, label in epoch) == TRAIN // 2
    assert len({tuple(int(label) for _, label in epoch) for epoch in epochs}) == 3
    assert len({image.tobytes() for image, _ in made}) == len(made)


def test_any_place_and_any_number_of_workers_give_the_same_images(dataset):
    pytest.importorskip("grain")
    images, labels = together(decoded_batches(views(dataset), 4, first=0, workers=0))
    assert (images.shape, images.dtype, labels.dtype) == ((48, 12, 12, 3), np.uint8, np.int32)
    for first, workers in ((20, 0), (8, 2)):
        later, later_labels = together(decoded_batches(views(dataset), 4, first=first, workers=workers))
        np.testing.assert_array_equal(later, images[first:])
        np.testing.assert_array_equal(later_labels, labels[first:])
    assert not np.array_equal(together(decoded_batches(views(dataset, seed=6), 4, first=0, workers=0))[0], images)


def test_evaluation_sees_every_picture_once(dataset):
    pytest.importorskip("grain")
    batches = list(decoded_batches(EvaluationViews(dataset.test, 2, 5, 12), 3, first=0, workers=0))
    assert [len(labels) for _, labels in batches] == [3, 2]
    expected = [evaluation_view(dataset.test[place][0], 12) for place in range(2, 7)]
    np.testing.assert_array_equal(together(batches)[0], expected)


def encoded(pixels):
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_evaluation_takes_the_middle():
    """A picture of 64×96 whose middle is white: at size 28 it is scaled by half, and its middle 28 of 48 are seen."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[4:60, 20:76] = 255
    seen = evaluation_view(encoded(pixels), 28)
    assert seen.shape == (28, 28, 3)
    assert seen[1:-1, 1:-1].min() == 255
    assert evaluation_view(encoded(pixels[:8, :9]), 28).shape == (28, 28, 3)


def test_random_parts_have_the_area_and_ratio_that_they_should():
    draws = np.random.RandomState(0)
    boxes = np.array([crop_box(200, 100, draws) for _ in range(2000)])
    left, top, right, bottom = boxes.T
    assert min(left.min(), top.min()) == 0 and right.max() == 200 and bottom.max() == 100
    across, down = right - left, bottom - top
    areas, ratios = across * down / 20000, across / down
    assert 0.075 < areas.min() < 0.1
    assert ratios.min() > 0.73 and ratios.max() < 1.37
    # In so wide a picture, large parts do not fit with every ratio; small ones do.
    small = areas < 0.36
    assert abs(np.log(ratios[small]).mean()) < 0.03
    counts, _ = np.histogram(areas, bins=4, range=(0.08, 0.36))
    assert counts.max() / counts.min() < 1.3
    # Nothing fits into a strip but its middle.
    assert crop_box(100, 1, np.random.RandomState(0))[1:] == (0, *crop_box(100, 1, np.random.RandomState(1))[2:])
    assert crop_box(1000, 10, np.random.RandomState(0)) == (493, 0, 506, 10)


def test_colours_change_as_they_are_told():
    flat = np.full((20, 20, 3), (120, 60, 60), np.uint8)

    def seen(seed, **jitter):
        return training_view(encoded(flat), 8, ColorJitter(**jitter), np.random.RandomState(seed)).astype(int)

    assert (seen(0) == (120, 60, 60)).all()
    brightness = np.array([seen(seed, brightness=0.4)[0, 0] for seed in range(60)])
    assert 0.6 * 120 - 1 <= brightness[:, 0].min() < 80 and 160 < brightness[:, 0].max() <= 1.4 * 120
    assert abs(brightness[:, 0] - 2 * brightness[:, 1]).max() <= 2
    saturation = np.array([seen(seed, saturation=0.4)[0, 0] for seed in range(60)])
    spread = saturation[:, 0] - saturation[:, 1]
    assert 0.6 * 60 - 1 <= spread.min() < 42 and 78 < spread.max() <= 1.4 * 60 + 1
    grey = saturation @ (0.299, 0.587, 0.114)
    assert abs(grey - grey[0]).max() < 1.5
    # A flat picture is its own mean but for rounding, so contrast changes it by its distance from its grey alone.
    assert len({tuple(seen(seed, contrast=0.4)[0, 0]) for seed in range(20)}) > 10
    hue = np.array([seen(seed, hue=0.5)[0, 0] for seed in range(60)])
    assert (abs(hue.max(1) - 120) <= 1).all() and (abs(hue.min(1) - 60) <= 1).all()
    assert set(hue.argmax(1)) == {0, 1, 2}


@pytest.fixture(scope="module")
def undisturbed(quick, data_dir, tmp_path_factory):
    pytest.importorskip("grain")
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    result, shown = trained(folder, data_dir)
    assert "training on imagenette: 17 images, 6 held out" in shown
    assert result.test_top5_accuracy is None
    return folder


def test_a_training_that_dies_resumes_with_the_same_images(undisturbed, data_dir, tmp_path, monkeypatch):
    die_at(monkeypatch, checkpoint, "save", 4)
    with pytest.raises(Died):
        trained(tmp_path / "run", data_dir, checkpoint_minutes=1e-9)
    monkeypatch.undo()
    trained(tmp_path / "run", data_dir)
    small_train.assert_same_bits(tmp_path / "run", undisturbed)


def test_a_killed_training_leaves_no_workers(undisturbed, data_dir, tmp_path):
    process = small_train.start(tmp_path / "run", **settings(data_dir, workers=1, checkpoint_minutes=1e-9))
    read_until(process, "epoch 1/3")
    children = workers_of(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    assert finish(process, seconds=60)[0] == -signal.SIGKILL
    assert children
    deadline = time.monotonic() + 60
    while any(map(command_line, children)):
        assert time.monotonic() < deadline, "workers outlive the training"
        time.sleep(0.1)
    trained(tmp_path / "run", data_dir)
    small_train.assert_same_bits(tmp_path / "run", undisturbed)


def workers_of(pid):
    """The worker processes of a process, whichever of its threads has started them."""
    lists = [path.read_text().split() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [child for children in lists for child in children if "spawn_main" in command_line(child)]


def command_line(pid):
    """The command of a process; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def refusal(monkeypatch, capsys, given):
    monkeypatch.setattr(sys, "argv", ["train", *small_runs.arguments(given)])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "name, build",
    [
        ("imagenet2012", "tfds build imagenet2012 --file_format=array_record --data_dir"),
        ("imagenette", "tfds build imagenette/full-size-v2 --file_format=array_record --data_dir"),
    ],
)
def test_a_set_that_is_not_prepared(name, build, tmp_path, monkeypatch, capsys):
    given = settings(tmp_path / "no data", dataset=name, run_dir=tmp_path / "run")
    err = refusal(monkeypatch, capsys, given)
    assert f" is not prepared in {tmp_path}/no data/{name}" in err
    assert f"prepare it, in an environment that has TensorFlow, with: {build} '{tmp_path}/no data'" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_damage_is_named(data_dir, tmp_path, monkeypatch, capsys):
    copy = tmp_path / "tfds"
    shutil.copytree(data_dir, copy)
    given = settings(copy, run_dir=tmp_path / "run")
    (train,) = copy.rglob("*train*record*")
    whole = train.read_bytes()
    third = len(whole) // 3
    train.write_bytes(whole[:third] + b"x" * third + whole[2 * third :])
    with pytest.raises(InputError, match=r"record [0-9]+ of .*, train, cannot be read"):
        opened = open_large("imagenette", copy).train
        for place in range(len(opened)):
            opened[place]
    train.unlink()
    assert f"error: {train} is missing; prepare it, in an environment" in refusal(monkeypatch, capsys, given)
    (info,) = copy.rglob("dataset_info.json")
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    assert "is prepared as tfrecord, which does not allow random access" in refusal(monkeypatch, capsys, given)
    assert not (tmp_path / "run").exists()


def picture_of_size(width, height):
    file = io.BytesIO()
    Image.new("L", (width, height)).save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("content", [b"GIF89a", b"", picture_of_size(20_000, 4_000), picture_of_size(1, 4_000)])
def test_a_file_that_is_no_picture_or_a_huge_one(content):
    def training(content, size):
        return training_view(content, size, ColorJitter(), np.random.RandomState(0))

    for view in (evaluation_view, training):
        with (
            bounded(size=1 << 27),
            pytest.raises(InputError, match=r"^a picture cannot be decoded: .*set again$") as caught,
        ):
            view(content, 8)
        assert "object at" not in str(caught.value)


def test_a_label_outside_of_the_classes(data_dir):
    whole = open_large("imagenette", data_dir).train
    assert isinstance(whole, LargeSplit)
    split = dataclasses.replace(whole, classes=1)
    with pytest.raises(InputError, match=r"record \d+ of .*, train, has the label 1, labels are 0\.\.0; prepare"):
        for place in range(len(split)):
            split[place]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_size": 7}, "--image-size is 7; give 8 or more"),
        ({"workers": -1}, "--workers is -1; give 0 or more"),
        (
            {"color_jitter": ("0.4", "0.4", "0.4", "0.6")},
            "--color-jitter is 0.4 0.4 0.4 0.6; give numbers from 0 to 1, the",
        ),
        (
            {"dataset": "digits", "color_jitter": ("0.4",) * 4},
            "--color-jitter is for imagenet2012 and imagenette and for your own folder with --network imagenet; leave it out",
        ),
        ({"batch_size": 18}, "--batch-size is 18, but 17 images of imagenette train; give 17 or less"),
    ],
)
def test_wrong_values(changes, message, data_dir, tmp_path, monkeypatch, capsys):
    if "batch_size" in changes:
        pytest.importorskip("grain")
    given = settings(data_dir, run_dir=tmp_path / "run", **changes)
    assert refusal(monkeypatch, capsys, given).startswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []


def test_without_grain(data_dir, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "grain", None)
    err = refusal(monkeypatch, capsys, settings(data_dir, run_dir=tmp_path / "run"))
    assert err.endswith("install it with: pip install 'jdarts[imagenet]'\n")
    assert list(itertools.chain(tmp_path.iterdir())) == []


def test_no_search_on_them():
    with pytest.raises(InputError, match="imagenet2012 does not fit into memory; train a network on it with"):
        data.load("imagenet2012")
