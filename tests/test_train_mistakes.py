"""What a training records of its mistakes: counts of classes, and pictures of the most confident wrong answers."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from small_runs import user_settings
from small_train import quick, run, undisturbed

from jdarts.data.thumbnails import thumbnail
from jdarts.report.mistakes import MOST_PAIRS, read_mistakes
from jdarts.train.mistakes import SIDE, WORST, MistakeCounter
from jdarts.train.step import Answers

__all__ = ["quick", "undisturbed", "user_settings"]


def counted(labels, guesses, confidences, *, classes=3, size=4, shape=(8, 8, 3)):
    """The record of images in batches of a size, the last one padded; image n is one of brightness n."""
    counter = MistakeCounter(
        "test images", [f"class {label}" for label in range(classes)], lambda place: f"{place}.png"
    )
    for start in range(0, len(labels), size):
        rows = np.arange(start, start + size)
        mask = rows < len(labels)
        rows = np.where(mask, rows, 0)
        images = np.broadcast_to(rows[:, None, None, None], (size, *shape)).astype(np.uint8)
        answers = Answers(*(np.asarray(each)[rows] for each in (guesses, confidences, np.zeros(len(labels)))))  # pyright: ignore
        counter.add(images, np.asarray(labels)[rows], mask, answers)
    return counter.record()


def test_classes_and_confusions_are_counted_over_all_batches():
    found = counted([0, 0, 1, 2, 2, 2], [0, 1, 1, 0, 0, 2], [0.9] * 6)
    assert (list(found.totals), list(found.rights)) == ([2, 1, 3], [1, 1, 1])
    assert [tuple(each) for each in found.confusions] == [(2, 0, 2), (0, 1, 1)]


def test_the_most_confident_mistakes_are_kept_with_their_names_and_pictures():
    count = 60
    confidences = np.linspace(0.2, 0.9, count)[::-1].copy()
    confidences[[7, 50]] = 0.95, 0.99
    found = counted([0] * count, [1] * count, confidences)
    assert len(found.worst) == WORST
    assert [each.place for each in found.worst[:4]] == [50, 7, 0, 1]
    assert found.worst[0].name == "50.png" and found.worst[0].confidence == pytest.approx(0.99)
    with Image.open(io.BytesIO(found.worst[0].picture)) as picture:
        assert picture.getpixel((0, 0)) == (50, 50, 50)


def test_a_record_is_the_same_after_it_was_written():
    found = counted([0, 1, 2], [1, 1, 0], [0.5, 0.6, 0.7])
    read = read_mistakes(found.to_json().encode())
    assert read.to_json() == found.to_json()
    assert read.worst[0].picture == found.worst[0].picture


def test_many_classes_and_large_pictures_leave_a_small_record():
    classes, count = 500, 4000
    draws = np.random.default_rng(0)
    labels, guesses = draws.integers(0, classes, (2, count))
    found = counted(labels, guesses, draws.random(count), classes=classes, size=1000)
    assert len(found.confusions) == MOST_PAIRS
    noise = draws.integers(0, 256, (300, 200, 3)).astype(np.uint8)
    picture = thumbnail(noise, SIDE)
    with Image.open(io.BytesIO(picture)) as opened:
        assert opened.size == (43, SIDE)
    assert WORST * len(picture) < 300_000


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_of_any_channels_are_pictures(channels):
    with Image.open(io.BytesIO(thumbnail(np.full((5, 4, channels), 7, np.uint8), SIDE))) as opened:
        assert (opened.mode, opened.size, opened.getpixel((0, 0))) == ("RGB", (4, 5), (7, 7, 7))


@pytest.mark.parametrize(
    "change",
    [
        {"totals": [1]},
        {"rights": "x"},
        {"class_names": [1, 2, 3]},
        {"confusions": [[0, 7, 1]]},
        {"confusions": [[0, 1]]},
        {"worst": [{"picture": "<script>"}]},
        {"worst": 3},
    ],
)
def test_a_damaged_record_is_refused(change):
    content = json.loads(counted([0, 1, 2], [1, 1, 0], [0.5, 0.6, 0.7]).to_json())
    with pytest.raises(ValueError, match=r".+"):
        read_mistakes(json.dumps({**content, **change}).encode())


def test_the_mistakes_of_a_training_are_those_of_its_test(undisturbed):
    found = read_mistakes((undisturbed / "mistakes.json").read_bytes())
    summary = json.loads((undisturbed / "summary.json").read_text())
    assert (found.images, sum(found.totals), len(found.class_names)) == ("test images", 360, 10)
    assert sum(found.rights) / 360 == pytest.approx(summary["test_accuracy"])
    assert sum(each.count for each in found.confusions) == 360 - sum(found.rights)
    assert all(each.confidence >= each.of_label > 0 for each in found.worst)
    assert '<section id="mistakes">' in (undisturbed / "report.html").read_text()


def test_without_a_test_they_are_those_of_the_held_out_images(quick, tmp_path):
    result, _ = run(tmp_path / "run", test=False, epochs=2)
    found = read_mistakes((tmp_path / "run/mistakes.json").read_bytes())
    assert found.images == "held-out images"
    assert sum(found.rights) / sum(found.totals) == pytest.approx(result.valid_accuracy)


def test_without_either_there_is_no_record(quick, tmp_path):
    run(tmp_path / "run", test=False, validation_fraction=0.0, epochs=1)
    assert not (tmp_path / "run/mistakes.json").exists()
