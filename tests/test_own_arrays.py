"""Arrays in `.npz` and `.npy` files as an image set."""

import numpy as np
import pytest
from picture_files import own_cache

from jdarts.data import load
from jdarts.errors import InputError

__all__ = ["own_cache"]


def images(count=12, *shape, seed=0):
    return np.random.RandomState(seed).randint(0, 256, (count, *(shape or (8, 8, 3)))).astype(np.uint8)


def labels(count=12, classes=3):
    return np.arange(count) % classes


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def rows(split):
    return sorted((int(label), image.tobytes()) for image, label in zip(*split[:]))


def as_rows(pixels, classes):
    return sorted((int(label), image.tobytes()) for image, label in zip(pixels, classes))


NAMES = [
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("X_train", "Y_train", "X_test", "Y_test"),
    ("train_data", "train_targets", "test_data", "test_targets"),
]


@pytest.mark.parametrize("names", NAMES, ids="-".join)
def test_usual_names_of_splits(tmp_path, names):
    values = (images(), labels(), images(6, seed=1), labels(6))
    said = []
    dataset = load(saved(tmp_path / "mine.npz", **dict(zip(names, values))), say=said.append)
    assert (dataset.name, dataset.class_names) == ("mine", ("0", "1", "2"))
    assert rows(dataset.train) == as_rows(*values[:2])
    assert rows(dataset.test) == as_rows(*values[2:])
    assert f"mine: read as train: {names[0]}, {names[1]} and test: {names[2]}, {names[3]}" in said


@pytest.mark.parametrize(
    "names", [("images", "labels"), ("x", "y"), ("X", "y"), ("data", "labels"), ("arr_0", "arr_1")]
)
def test_usual_names_without_splits(tmp_path, names):
    dataset = load(saved(tmp_path / "mine.npz", **dict(zip(names, (images(30), labels(30))))))
    assert (len(dataset.train), len(dataset.test)) == (24, 6)
    assert np.bincount(dataset.test.labels).tolist() == [2, 2, 2]
    assert sorted(rows(dataset.train) + rows(dataset.test)) == as_rows(images(30), labels(30))


def test_sorted_and_shuffled_arrays_give_the_same_set(tmp_path):
    order = np.argsort(labels(30), kind="stable")
    (tmp_path / "other").mkdir()
    first = saved(tmp_path / "mine.npz", images=images(30), labels=labels(30))
    second = saved(tmp_path / "other" / "mine.npz", images=images(30)[order], labels=labels(30)[order])
    assert load(first).fingerprint == load(second).fingerprint


@pytest.mark.parametrize("place", ["", "images.npy", "labels.npy"])
def test_a_pair_of_files(tmp_path, place):
    folder = tmp_path / "mine"
    folder.mkdir()
    np.save(folder / "images.npy", images())
    np.save(folder / "labels.npy", labels())
    dataset = load(folder / place)
    assert (dataset.name, len(dataset.train) + len(dataset.test)) == ("mine", 12)


FORMS = {
    "floats": (images() / np.float32(255), "runs from 0 to 1 and is multiplied by 255"),
    "whole floats": (images().astype(np.float64), ""),
    "int64": (images().astype(np.int64), ""),
    "16 bits": (images().astype(np.uint16) * 257, "has 16 bits, of which the upper 8 are kept"),
    "channels first": (images().transpose(0, 3, 1, 2), "has its channels first"),
    "opaque": (
        np.concatenate([images(), np.full((12, 8, 8, 1), 255, np.uint8)], -1),
        "transparent parts, which become white",
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_pixels(tmp_path, form):
    pixels, said = FORMS[form]
    lines = []
    dataset = load(saved(tmp_path / "mine.npz", images=pixels, labels=labels()), say=lines.append)
    assert sorted(rows(dataset.train) + rows(dataset.test)) == as_rows(images(), labels())
    assert said in "\n".join(lines)


def test_grey_images_need_no_axis_of_channels(tmp_path):
    dataset = load(saved(tmp_path / "mine.npz", images=images(12, 28, 28), labels=labels()))
    assert dataset.image_shape == (28, 28, 1)
    assert load(saved(tmp_path / "odd.npz", images=images(12, 30, 27), labels=labels())).image_shape == (28, 28, 1)
    assert load(tmp_path / "mine.npz", image_size=32).image_shape == (32, 32, 1)


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (labels()[:, None], ("0", "1", "2")),
        (labels() + 1, ("1", "2", "3")),
        (labels().astype(float), ("0", "1", "2")),
        (np.eye(3)[labels()], ("0", "1", "2")),
        (np.array(["ant", "bee", "cow"])[labels()], ("ant", "bee", "cow")),
    ],
)
def test_forms_of_labels(tmp_path, given, names):
    dataset = load(saved(tmp_path / "mine.npz", images=images(), labels=given))
    assert dataset.class_names == names
    assert sorted(rows(dataset.train) + rows(dataset.test)) == as_rows(images(), labels())


def test_names_of_classes(tmp_path):
    path = saved(tmp_path / "mine.npz", images=images(), labels=labels(), class_names=np.array(["ant", "bee", "cow"]))
    assert load(path).class_names == ("ant", "bee", "cow")


WRONG = {
    "no labels": ({"images": images()}, r"has 'images'; name the arrays train_images and train_labels"),
    "nothing": ({}, "has no arrays; name the arrays"),
    "lengths": (
        {"images": images(), "labels": labels(11)},
        "has 12 images and 11 labels; give one label for each image",
    ),
    "one class": (
        {"images": images(), "labels": labels() * 0},
        "has the one label 0, and there is nothing to tell apart",
    ),
    "no class": (
        {"images": images(), "labels": labels() - 1},
        "with the label -1; leave out the images that have no class",
    ),
    "flat": ({"images": images(12, 64), "labels": labels()}, r"images is uint8 \[12, 64\]; give images \[N, H, W\]"),
    "channels": ({"images": images(12, 8, 8, 5), "labels": labels()}, "give 1 channel"),
    "range": (
        {"images": images() - 0.5, "labels": labels()},
        "with values from -0.5 to 254.5; give pixels from 0 to 255",
    ),
    "not finite": ({"images": images() * np.nan, "labels": labels()}, "with values that are not finite"),
    "text": ({"images": np.array(["a"] * 12), "labels": labels()}, r"images is <U1 \[12\]; give images"),
    "labels": ({"images": images(), "labels": labels() + 0.5}, r"labels is float64 \[12\]; give whole numbers"),
    "label axes": ({"images": images(), "labels": images()}, "give one label for each image"),
    "unknown test class": (
        {"x_train": images(), "y_train": labels(), "x_test": images(), "y_test": labels() + 1},
        "has labels that no training image has: 3",
    ),
    "test shape": (
        {"x_train": images(), "y_train": labels(), "x_test": images(12, 4, 4, 3), "y_test": labels()},
        "has images of the shapes .* give all splits one shape",
    ),
    "objects": ({"images": np.array([{}] * 12), "labels": labels()}, "holds Python objects, which are never read"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arrays_are_refused(tmp_path, wrong):
    arrays, message = WRONG[wrong]
    with pytest.raises(InputError, match=message) as caught:
        load(saved(tmp_path / "mine.npz", **arrays))
    assert str(tmp_path / "mine.npz") in str(caught.value)


def test_damaged_files_are_refused(tmp_path):
    path = saved(tmp_path / "mine.npz", images=images(), labels=labels())
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(InputError, match=r"mine\.npz is damaged"):
        load(path)
    with pytest.raises(InputError, match=r"none\.npz does not exist"):
        load(tmp_path / "none.npz")
    np.save(tmp_path / "images.npy", images())
    (tmp_path / "labels.npy").write_bytes(b"x")
    with pytest.raises(InputError, match=r"labels\.npy is damaged or holds Python objects"):
        load(tmp_path / "images.npy")
    saved(tmp_path / "both.npz", images=images()).rename(tmp_path / "labels.npy")
    with pytest.raises(InputError, match=r"labels\.npy is an archive of arrays; give its name the suffix \.npz"):
        load(tmp_path / "images.npy")


@pytest.mark.parametrize("compressed", [True, False])
def test_arrays_that_no_memory_holds_are_refused_unread(tmp_path, compressed, monkeypatch):
    monkeypatch.setattr("jdarts.data.own.reading.available_bytes", lambda: 10**7)
    monkeypatch.setattr("jdarts.data.own.arrays._pixels", lambda *_: pytest.fail("read"))
    given = {"images": np.zeros((100, 128, 128, 3), np.uint8), "labels": labels(100)}
    (np.savez_compressed if compressed else np.savez)(tmp_path / "mine.npz", **given)
    with pytest.raises(InputError, match=r"mine\.npz(: images)? takes 0\.0 GB in memory, .* give fewer or smaller"):
        load(tmp_path / "mine.npz")
    np.save(tmp_path / "images.npy", given["images"])
    np.save(tmp_path / "labels.npy", given["labels"])
    with pytest.raises(InputError, match=r"images takes 0\.0 GB in memory"):
        load(tmp_path / "images.npy")
