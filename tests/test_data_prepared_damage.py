"""Damaged prepared sets: an `InputError`, soon and within little memory, or the right images and words."""

import json
import os
import shutil

import numpy as np
import pytest
from made_up_images import write_cifar
from mutations import bounded, damaged_bytes

from jdarts.data import TextCorpus, load, load_text, prepare, prepare_text
from jdarts.data.records import MAX_DESCRIPTION_BYTES
from jdarts.errors import InputError

LINES = {"train": "the cat sat\n" * 9, "valid": "a cat\n", "test": "the end\n"}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A prepared image set and a prepared corpus."""
    folder = tmp_path_factory.mktemp("whole")
    write_cifar("cifar10", folder, per_file=2)
    for split, text in LINES.items():
        (folder / f"{split}.txt").write_text(text)
    prepare("cifar10", source=folder, data_dir=folder / "tfds")
    prepare_text("mine", source=folder, data_dir=folder / "tfds")
    # The first reading makes the threads of the record reader, each with address space of its own.
    load("cifar10", folder / "tfds")
    return folder / "tfds"


@pytest.fixture
def data_dir(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "tfds")
    return tmp_path / "tfds"


def changed(path, change):
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def at(*keys, value):
    """A change of a description: the value at a place in it."""

    def change(description):
        for key in keys[:-1]:
            description = description[key]
        description[keys[-1]] = value

    return change


INFO = {
    "lists in lists": lambda path: path.write_text("[" * 100_000),
    "objects in objects": lambda path: path.write_text('{"splits":' * 100_000),
    "null": lambda path: path.write_text("null"),
    "a list": lambda path: path.write_text("[1]"),
    "no UTF-8": lambda path: path.write_bytes(b'{"splits": "\xff"}'),
    "empty": lambda path: path.write_text(""),
    "gigabytes": lambda path: os.truncate(path, 1 << 40),
    "splits as object": lambda path: changed(path, at("splits", value={"name": "train"})),
    "a split as text": lambda path: changed(path, at("splits", 0, value="train")),
    "a split's name as list": lambda path: changed(path, at("splits", 0, "name", value=["train"])),
    "lengths as text": lambda path: changed(path, at("splits", 0, "shardLengths", value="10")),
    "a length as list": lambda path: changed(path, at("splits", 0, "shardLengths", value=[[10]])),
    "a negative length": lambda path: changed(path, at("splits", 0, "shardLengths", value=["-10"])),
    "a broken length": lambda path: changed(path, at("splits", 0, "shardLengths", value=[10.5])),
    "a huge length": lambda path: changed(path, at("splits", 0, "shardLengths", value=["9" * 17])),
    "thousands of digits": lambda path: changed(path, at("splits", 0, "shardLengths", value=["9" * 10_000])),
    "fewer records": lambda path: changed(path, at("splits", 0, "shardLengths", value=["9"])),
    "more records": lambda path: changed(path, at("splits", 0, "shardLengths", value=["11"])),
    "more files": lambda path: changed(path, at("splits", 0, "shardLengths", value=["5", "5"])),
    "names of files": lambda path: changed(path, at("splits", 0, "filepathTemplate", value="{DATASET}-{NOTHING}")),
    "form as number": lambda path: changed(path, at("fileFormat", value=5)),
}
FEATURES = ("featuresDict", "features")
FEATURE_DAMAGE = {
    "lists in lists": lambda path: path.write_text("[" * 100_000),
    "null": lambda path: path.write_text("null"),
    "gigabytes": lambda path: os.truncate(path, 1 << 40),
    "no image": lambda path: changed(path, lambda features: features["featuresDict"]["features"].pop("image")),
    "no label": lambda path: changed(path, lambda features: features["featuresDict"]["features"].pop("label")),
    "another module": lambda path: changed(path, at(*FEATURES, "id", "pythonClassName", value="antigravity.Text")),
    "millions of classes": lambda path: changed(
        path, at(*FEATURES, "label", "classLabel", "numClasses", value="9" * 12)
    ),
    "other classes": lambda path: changed(path, at(*FEATURES, "label", "classLabel", "numClasses", value="9")),
    "huge images": lambda path: changed(
        path, at(*FEATURES, "image", "image", "shape", "dimensions", value=["100000", "100000", "3"])
    ),
    "other images": lambda path: changed(
        path, at(*FEATURES, "image", "image", "shape", "dimensions", value=["8", "128", "3"])
    ),
    "images of any size": lambda path: changed(
        path, at(*FEATURES, "image", "image", "shape", "dimensions", value=["-1", "-1", "3"])
    ),
}


@pytest.mark.parametrize("damage", INFO)
@pytest.mark.parametrize("name", ["cifar10", "mine"])
def test_a_damaged_description_is_refused(name, damage, data_dir):
    (path,) = data_dir.glob(f"{name}/*/dataset_info.json")
    changed(path, at("splits", 0, "shardLengths", value=["9" if name == "mine" else "10"]))
    if damage == "fewer records" and name == "mine":
        changed(path, at("splits", 0, "shardLengths", value=["8"]))
    else:
        INFO[damage](path)
    with bounded(), pytest.raises(InputError, match=rf"{path.parent}.*python -m jdarts\.data prepare {name}") as caught:
        (load_text if name == "mine" else load)(name, data_dir)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", FEATURE_DAMAGE)
def test_damaged_features_are_refused(damage, data_dir):
    (path,) = data_dir.glob("cifar10/*/features.json")
    FEATURE_DAMAGE[damage](path)
    with bounded(), pytest.raises(InputError, match=r"is damaged.*python -m jdarts\.data prepare cifar10 --overwrite"):
        load("cifar10", data_dir)


@pytest.mark.parametrize("size", [MAX_DESCRIPTION_BYTES + 1, 0])
def test_names_of_classes_that_do_not_fit_are_refused(size, data_dir):
    (path,) = data_dir.glob("cifar10/*/label.labels.txt")
    os.truncate(path, size)
    with bounded(), pytest.raises(InputError, match="is damaged"):
        load("cifar10", data_dir)


def contents(found):
    """What a set or a corpus holds, split by split."""
    if isinstance(found, TextCorpus):
        return [[found.vocabulary[word] for word in words] for words in (found.train, found.valid, found.test)]
    return [array for split in (found.train, found.test) for array in (split.images, split.labels)]


@pytest.mark.parametrize("pattern", ["dataset_info.json", "features.json", "*train*record*"])
@pytest.mark.parametrize("name", ["cifar10", "mine"])
def test_damage_is_refused_or_does_no_harm(name, pattern, whole, data_dir):
    """No image and no word is ever another one than that which was prepared."""
    read = load_text if name == "mine" else load
    right = read(name, whole)
    (path,) = data_dir.glob(f"{name}/*/{pattern}")
    content = path.read_bytes()
    refused = 0
    for damaged in damaged_bytes(content, 60, seed=len(pattern)):
        path.write_bytes(damaged)
        try:
            with bounded():
                found = read(name, data_dir)
        except InputError:
            refused += 1
            continue
        for each, expected in zip(contents(found), contents(right), strict=True):
            np.testing.assert_array_equal(each, expected)
    assert refused > 5
