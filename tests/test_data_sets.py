import dataclasses

import numpy as np
import pytest

from jdarts.data import NAMES, ImageSplit, halves, load, loading, register_images
from jdarts.errors import InputError


@pytest.fixture(autouse=True)
def empty_data_dir(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))


def made_up_split(size=11, classes=None):
    images = np.arange(size, dtype=np.uint8)[:, None, None, None] + np.zeros((1, 2, 2, 1), np.uint8)
    return ImageSplit(images, np.arange(size, dtype=np.int32) % (classes or size))


def numbers(split):
    """Which of the made-up images a split holds."""
    return split.images[:, 0, 0, 0].tolist()


def test_digits_are_the_known_set():
    digits = load("digits")
    assert (len(digits.train), len(digits.test)) == (1437, 360)
    assert digits.image_shape == (8, 8, 1)
    assert digits.class_names == tuple("0123456789")
    assert digits.num_classes == 10
    images = np.concatenate([digits.train.images, digits.test.images])
    labels = np.concatenate([digits.train.labels, digits.test.labels])
    assert images.dtype == np.uint8
    assert labels.dtype == np.int32
    assert (images.min(), images.max()) == (0, 255)
    assert len(np.unique(images)) == 17
    counts = np.bincount(labels)
    assert counts.sum() == 1797
    assert (counts.min(), counts.max()) == (174, 183)
    # The file's sum of grey values 0..16.
    assert np.round(images.astype(np.float64) * 16 / 255).sum() == 561_718


def test_digits_are_the_same_where_scikit_learn_keeps_its_file_elsewhere(monkeypatch):
    expected = load("digits").fingerprint
    monkeypatch.setattr("jdarts.data.digits.importlib.util.find_spec", lambda name: None)
    assert load("digits").fingerprint == expected


def test_digits_are_shuffled_the_same_way_each_time():
    first, second = load("digits"), load("digits")
    np.testing.assert_array_equal(first.train.images, second.train.images)
    np.testing.assert_array_equal(first.train.labels[:8], [2, 8, 2, 6, 6, 7, 1, 9])
    # Each part of a shuffled set has every class in about its share.
    for split in (*halves(first.train), first.test):
        shares = np.bincount(split.labels, minlength=10) / len(split)
        assert 0.05 < shares.min() < shares.max() < 0.15


def test_digits_statistics_normalise_the_training_images():
    digits = load("digits")
    scaled = digits.train.images / 255
    np.testing.assert_allclose(digits.mean, [scaled.mean()])
    np.testing.assert_allclose(digits.std, [scaled.std()])


def test_a_split_is_a_random_access_sequence():
    split = made_up_split()
    image, label = split[3]
    assert image.shape == (2, 2, 1)
    assert label == 3
    images, labels = split[2:5]
    assert images.shape == (3, 2, 2, 1)
    np.testing.assert_array_equal(labels, [2, 3, 4])
    images, labels = split[np.array([5, 1, 5])]
    np.testing.assert_array_equal(labels, [5, 1, 5])
    np.testing.assert_array_equal(images[:, 0, 0, 0], [5, 1, 5])
    with pytest.raises(IndexError):
        split[11]


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 2, 2, 1), np.float32), np.zeros(3, np.int32), r"float32 \[3, 2, 2, 1\]"),
        (np.zeros((3, 2, 2), np.uint8), np.zeros(3, np.int32), r"uint8 \[3, 2, 2\]"),
        (np.zeros((3, 2, 2, 1), np.uint8), np.zeros(3, np.int64), "int64"),
        (np.zeros((3, 2, 2, 1), np.uint8), np.zeros(4, np.int32), r"int32 \[4\]"),
    ],
)
def test_wrong_arrays_are_refused(images, labels, message):
    with pytest.raises(InputError, match=message):
        ImageSplit(images, labels)


@pytest.mark.parametrize("seed", [None, 0, 5])
@pytest.mark.parametrize(("fraction", "first_size"), [(0.5, 5), (0.9, 9), (0.1, 1)])
def test_halves_are_disjoint_and_complete(seed, fraction, first_size):
    first, second = halves(made_up_split(classes=1), fraction=fraction, seed=seed)
    assert (len(first), len(second)) == (first_size, 11 - first_size)
    assert sorted([*numbers(first), *numbers(second)]) == list(range(11))
    again, _ = halves(made_up_split(classes=1), fraction=fraction, seed=seed)
    assert numbers(first) == numbers(again)


def test_images_keep_their_labels():
    for part in halves(made_up_split(classes=3), seed=1):
        np.testing.assert_array_equal(np.array(numbers(part)) % 3, part.labels)


def test_halves_keep_the_file_order_unless_seeded():
    first, second = halves(made_up_split(classes=2))
    assert (numbers(first), numbers(second)) == (list(range(5)), list(range(5, 11)))
    seeded = [numbers(halves(made_up_split(classes=2), seed=seed)[0]) for seed in (0, 1)]
    assert seeded[0] != seeded[1]
    assert seeded[0] != list(range(5))


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5, 0.01, float("nan")])
def test_halves_refuse_an_empty_part(fraction):
    with pytest.raises(InputError, match="leaves a part empty"):
        halves(made_up_split(), fraction=fraction)


def test_an_unknown_name_is_answered_with_the_names():
    with pytest.raises(InputError, match="did you mean 'cifar10'") as caught:
        load("CIFAR-10")
    assert all(name in str(caught.value) for name in NAMES)
    with pytest.raises(
        InputError,
        match=r"^there is no image set 'x'\. The names are digits, .*svhn; for images of your own",
    ):
        load("x")
    with pytest.raises(InputError, match=r"^there is no image set 'svh'; did you mean 'svhn'\? The names"):
        load("svh")
    with pytest.raises(InputError, match="no image set 'imagenet'"):
        load("imagenet")


@pytest.mark.parametrize(("name", "folder"), [("cifar100", "cifar100"), ("svhn", "svhn_cropped")])
def test_an_unprepared_set_names_the_path_and_the_command(name, folder, tmp_path):
    with pytest.raises(InputError) as caught:
        load(name)
    assert str(tmp_path / "tfds" / folder) in str(caught.value)
    assert str(caught.value).endswith(f"python -m jdarts.data prepare {name}")
    elsewhere = tmp_path / "else where"
    with pytest.raises(InputError) as caught:
        load(name, elsewhere)
    assert str(caught.value).endswith(f"python -m jdarts.data prepare {name} --data-dir '{elsewhere}'")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def own_table(monkeypatch):
    """The table of sets as a test may change it."""
    monkeypatch.setattr(loading, "_LOADERS", dict(loading._LOADERS))


def test_a_registered_set_is_found_by_its_name(own_table):
    folders = []

    def loader(data_dir):
        folders.append(data_dir)
        return dataclasses.replace(load("digits"), name="my-digits")

    register_images("my-digits", loader)
    assert load("my-digits").name == "my-digits"
    assert load("my-digits", "here").fingerprint == load("my-digits").fingerprint
    assert folders == [None, "here", None]
    with pytest.raises(InputError, match="did you mean 'my-digits'"):
        load("mydigits")


@pytest.mark.parametrize("name", ["digits", "cifar10", "imagenet2012", "ptb", "sotu", "", "a/b", "..", " ", 3])
def test_names_that_are_taken_or_no_names_are_not_registered(own_table, name):
    with pytest.raises(InputError, match=r"already|give letters"):
        register_images(name, lambda data_dir: load("digits"))


@pytest.mark.parametrize("returned", [None, "digits", load("digits")])
def test_a_loader_returns_a_set_of_its_name(own_table, returned):
    register_images("mine", lambda data_dir: returned)
    with pytest.raises(InputError, match="the loader of mine returns"):
        load("mine")
