"""An image set that cannot be right is refused where it is made, with the value and the mend."""

import dataclasses
import time
from typing import Any

import numpy as np
import pytest

from jdarts import data
from jdarts.errors import InputError


def split(labels=(0, 1, 2), size=(4, 4, 3), count=None):
    labels = np.array(labels, np.int32)
    return data.ImageSplit(np.zeros((len(labels) if count is None else count, *size), np.uint8), labels)


def dataset(
    train: Any = None, test=None, names: Any = ("a", "b", "c"), mean: Any = (0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2)
):
    return data.ImageDataset("mine", train or split(), test or split(), names, mean, std, data.Augmentation())


NO_ARRAY: Any = [[1]]
WRONG = {
    "labels from 1": (
        lambda: dataset(train=split([1, 2, 3])),
        "train labels run from 1 to 3; with 3 class names they must run from 0 to 2: subtract 1",
    ),
    "test labels from 1": (lambda: dataset(test=split([3, 2])), "test labels run from 2 to 3; .* subtract 1"),
    "fewer names": (
        lambda: dataset(names=("a", "b")),
        "run from 0 to 2; with 2 class names .* give a class name for each",
    ),
    "one far label": (lambda: dataset(train=split([0, 1, 77])), "run from 0 to 77; with 3 class names"),
    "negative label": (lambda: split([0, -1, 2]), "image 1 has the label -1; labels count classes from 0"),
    "same names": (lambda: dataset(names=("a", "b", "a")), "classes 0 and 2 both have the name 'a'"),
    "no names": (lambda: dataset(names=()), "there are no class names; give one for each label"),
    "names in one text": (lambda: dataset(names="abc"), "class_names is 'abc'; give a tuple of texts"),
    "names in a set": (lambda: dataset(names={"a", "b", "c"}), "class_names is .*; give a tuple of texts"),
    "a name None": (lambda: dataset(names=(None, "b", "c")), "class_names is .*None.*; give a tuple of texts"),
    "an empty name": (lambda: dataset(names=("a", "", "c")), "the class 1 has the name ''; give each a name"),
    "mean in a text": (lambda: dataset(mean="000"), "mean is '000'; give a tuple of numbers"),
    "mean in a set": (lambda: dataset(mean={0.1, 0.2, 0.3}), "mean is .*; give a tuple of numbers"),
    "mean of truths": (lambda: dataset(mean=(True, False, True)), "mean is .*; give a tuple of numbers"),
    "mean huge": (lambda: dataset(mean=(10**400, 0.5, 0.5)), "mean is .*; give a tuple of numbers"),
    "std 0 in float32": (lambda: dataset(std=(1e-40, 0.2, 0.2)), "std is .*1e-40.*; images are divided by it"),
    "shuffled a text": (lambda: dataclasses.replace(dataset(), shuffled="no"), "shuffled is 'no'; give True or False"),
    "no augmentation": (lambda: dataclasses.replace(dataset(), augmentation=None), "augmentation is a NoneType"),
    "a pair as split": (lambda: dataset(train=(NO_ARRAY, NO_ARRAY)), "train is a tuple; give an ImageSplit"),
    "masked labels": (
        lambda: data.ImageSplit(split().images, np.ma.masked_equal(split().labels, 2)),
        "labels are a masked array",
    ),
    "mean of 0..255": (lambda: dataset(mean=(125.3, 123.0, 113.9)), r"mean is \(125.3, 123.0, 113.9\); .* by 255"),
    "std of 0..255": (lambda: dataset(std=(63.0, 62.1, 66.7)), r"std is \(63.0, .* by 255"),
    "mean NaN": (lambda: dataset(mean=(0.5, float("nan"), 0.5)), "mean is .*nan.*; give finite numbers"),
    "std infinite": (lambda: dataset(std=(0.5, float("inf"), 0.5)), "std is .*inf.*; give finite numbers"),
    "mean negative": (lambda: dataset(mean=(0.5, -0.5, 0.5)), "mean is .*-0.5.*; it cannot be negative"),
    "std negative": (lambda: dataset(std=(0.5, -0.5, 0.5)), "std is .*-0.5.*; it cannot be negative"),
    "std 0": (lambda: dataset(std=(0.2, 0.0, 0.2)), "std is .*0.0.*; images are divided by it"),
    "one mean": (lambda: dataset(mean=(0.5,)), r"mean is \(0.5,\), the images have 3 channels; give one value per"),
    "four stds": (lambda: dataset(std=(0.5,) * 4), "std is .*, the images have 3 channels"),
    "mean a number": (lambda: dataset(mean=0.5), "mean is 0.5; give a tuple of numbers, one per channel"),
    "mean a text": (lambda: dataset(mean=("x", "y", "z")), "mean is .*'x'.*; give a tuple of numbers"),
    "other shape": (lambda: dataset(test=split(size=(8, 4, 3))), r"\[4, 4, 3\] and the test images \[8, 4, 3\]"),
    "other channels": (lambda: dataset(test=split(size=(4, 4, 1))), r"\[4, 4, 3\] and the test images \[4, 4, 1\]"),
    "no images": (lambda: split([]), r"\[0, 4, 4, 3\]; give at least one image"),
    "no rows": (lambda: split(size=(0, 4, 3)), r"\[3, 0, 4, 3\]; give at least one image of at least one pixel"),
    "no channels": (lambda: split(size=(4, 4, 0)), r"\[3, 4, 4, 0\]; give at least one image of at least one pixel"),
    "no name": (lambda: dataclasses.replace(dataset(), name=" "), "the set's name is ' '; give a text"),
    "a number as name": (lambda: dataclasses.replace(dataset(), name=5), "the set's name is 5; give a text"),
    "a list": (
        lambda: data.ImageSplit(NO_ARRAY, np.zeros(1, np.int32)),
        "images are a list; they must be a NumPy array",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_set_shows_the_value_and_the_mend(case):
    make, message = WRONG[case]
    with pytest.raises(InputError, match=message):
        make()


def test_lists_and_numpys_numbers_become_plain_tuples():
    made = dataset(names=np.array(["a", "b", "c"]), mean=[0, 0.5, 1], std=np.full(3, 0.25, np.float32))
    assert (made.class_names, made.mean, made.std) == (("a", "b", "c"), (0.0, 0.5, 1.0), (0.25, 0.25, 0.25))
    assert {type(value) for value in (*made.class_names, *made.mean, *made.std)} == {str, float}


def test_a_class_may_have_no_image():
    assert dataset(train=split([2, 2]), test=split([0])).num_classes == 3


def test_fifty_thousand_images_are_checked_in_milliseconds():
    images = split(np.arange(50_000) % 3, size=(32, 32, 3))
    start = time.perf_counter()
    dataset(images, data.ImageSplit(images.images, images.labels))
    assert time.perf_counter() - start < 0.1
