import errno
import gzip
import hashlib
import json
import socket
from typing import Any

import numpy as np
import pytest
import scipy.io
import tensorflow_datasets as tfds
from made_up_images import (
    FORMS,
    cifar_images,
    idx,
    pack_cifar,
    spoil,
    truncate,
    write_cifar,
    write_fashion_mnist,
    write_svhn,
)

from jdarts.data import load, preparation, prepare
from jdarts.data.originals import finding as originals
from jdarts.data.staging import move_into_place
from jdarts.errors import InputError


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a test reached for the network")

    monkeypatch.setattr(socket, "create_connection", refuse)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "originals"
    folder.mkdir()
    return folder


@pytest.fixture
def data_dir(tmp_path):
    return tmp_path / "tfds"


def register(monkeypatch, archive):
    """Lets a made-up archive pass for the official one."""
    content = archive.read_bytes()
    known = originals.Registered("the official place", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(preparation, "registered_files", lambda _: {archive.name: known})


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
@pytest.mark.parametrize("given", ["archive", "its folder", "unpacked", "its parent"])
def test_cifar_is_read_back_losslessly_in_official_order(name, given, source, data_dir, monkeypatch):
    records = write_cifar(name, source)
    place = {"its parent": source, "unpacked": source / FORMS[name].folder}.get(given)
    if place is None:
        archive = pack_cifar(name, source)
        register(monkeypatch, archive)
        place = archive if given == "archive" else source
    found = prepare(name, source=place, data_dir=data_dir)
    assert found.folder == data_dir / name / "3.0.2"
    assert found.counts == {split: len(part) for split, part in records.items()}
    label_bytes = len(FORMS[name].labels)
    dataset = load(name, data_dir)
    for split, part in records.items():
        read = getattr(dataset, split)
        np.testing.assert_array_equal(read.images, cifar_images(part, label_bytes))
        np.testing.assert_array_equal(read.labels, part[:, label_bytes - 1])
    assert dataset.num_classes == {"cifar10": 10, "cifar100": 100}[name]
    assert dataset.class_names[:2] == ("label_0", "label_1")
    assert dataset.image_shape == (32, 32, 3)
    assert sorted(path.name for path in data_dir.iterdir()) == [name]


def test_plain_tfds_reads_cifar10_by_its_name(source, data_dir):
    records = write_cifar("cifar10", source)["train"]
    prepare("cifar10", source=source, data_dir=data_dir)
    plain: Any = tfds.data_source(
        "cifar10",
        split="train",
        data_dir=data_dir,
        download=False,
        builder_kwargs={"file_format": "array_record"},
    )
    images = cifar_images(records, 1)
    seen = set()
    for record in plain:
        index = int(record["id"].decode().removeprefix("train_"))
        assert record["id"].decode() == f"train_{index:05d}"
        np.testing.assert_array_equal(record["image"], images[index])
        assert record["label"] == records[index, 0]
        seen.add(index)
    assert seen == set(range(60))
    stock: Any = tfds.builder("cifar10", data_dir=data_dir)
    assert stock.is_prepared()
    assert stock.info.features["label"].names[3] == "label_3"
    description = json.loads((data_dir / "cifar10/3.0.2/dataset_info.json").read_text())
    assert description["moduleName"] == "tensorflow_datasets.image_classification.cifar"


def test_plain_tfds_reads_both_labels_of_cifar100(source, data_dir):
    records = write_cifar("cifar100", source)["test"]
    found = prepare("cifar100", source=source, data_dir=data_dir)
    builder: Any = tfds.builder_from_directory(found.folder)
    assert builder.info.features["coarse_label"].names[19] == "coarse_label_19"
    for record in builder.as_data_source("test"):
        index = int(record["id"].decode().removeprefix("test_"))
        assert (record["coarse_label"], record["label"]) == tuple(records[index, :2])


def test_fashion_mnist_is_read_back_losslessly(source, data_dir):
    splits = write_fashion_mnist(source)
    found = prepare("fashion_mnist", source=source, data_dir=data_dir)
    assert found.folder == data_dir / "fashion_mnist" / "3.0.1"
    dataset = load("fashion_mnist", data_dir)
    assert dataset.image_shape == (28, 28, 1)
    assert dataset.class_names[9] == "Ankle boot"
    for split, (images, labels) in splits.items():
        read = getattr(dataset, split)
        # TFDS stores no number with these images, so their order is its shuffle.
        place = {image.tobytes(): index for index, image in enumerate(images)}
        order = [place[image.tobytes()] for image in read.images]
        assert sorted(order) == list(range(len(images)))
        np.testing.assert_array_equal(read.labels, labels[order])


def test_svhn_is_read_back_losslessly_with_ten_for_zero(source, data_dir):
    splits = write_svhn(source)
    found = prepare("svhn", source=source, data_dir=data_dir)
    assert found.folder == data_dir / "svhn_cropped" / "3.1.0"
    dataset = load("svhn", data_dir)
    for split, (images, labels) in splits.items():
        read = getattr(dataset, split)
        np.testing.assert_array_equal(read.images, np.moveaxis(images, -1, 0))
        np.testing.assert_array_equal(read.labels, np.where(labels == 10, 0, labels))
        assert read.labels[0] == 0
    assert dataset.class_names == tuple("0123456789")


def test_progress_comes_to_the_end(source, data_dir):
    write_cifar("cifar10", source)
    calls = []
    prepare("cifar10", source=source, data_dir=data_dir, progress=lambda *call: calls.append(call))
    assert calls[-1] == ("writing images", 72, 72)


def test_prepared_sets_are_kept_unless_overwrite_is_asked_for(source, data_dir, tmp_path):
    first = write_cifar("cifar10", source)
    prepare("cifar10", source=source, data_dir=data_dir)
    other = tmp_path / "other"
    second = write_cifar("cifar10", other, seed=1)
    prepare("cifar10", source=other, data_dir=data_dir)
    np.testing.assert_array_equal(load("cifar10", data_dir).train.labels, first["train"][:, 0])
    prepare("cifar10", source=other, data_dir=data_dir, overwrite=True)
    np.testing.assert_array_equal(load("cifar10", data_dir).train.labels, second["train"][:, 0])
    assert [path.name for path in data_dir.iterdir()] == ["cifar10"]


CIFAR_DAMAGE = {
    "cut off": (
        lambda folder: truncate(folder / "data_batch_3.bin", -1),
        "data_batch_3.bin has 36,875 bytes",
    ),
    "empty": (lambda folder: truncate(folder / "test_batch.bin", 0), "test_batch.bin has 0 bytes"),
    "label": (
        lambda folder: spoil(folder / "data_batch_2.bin", 3073, 10),
        "data_batch_2.bin: record 1 has label 10, labels are 0..9",
    ),
    "missing": (lambda folder: (folder / "data_batch_4.bin").unlink(), "has no data_batch_4.bin"),
    "names": (lambda folder: (folder / "batches.meta.txt").write_text("a\nb\n"), "holds 2 class names"),
}


@pytest.mark.parametrize("damage", CIFAR_DAMAGE)
def test_a_damaged_folder_is_refused_and_nothing_is_left(damage, source, data_dir):
    write_cifar("cifar10", source)
    apply, message = CIFAR_DAMAGE[damage]
    apply(source / FORMS["cifar10"].folder)
    with pytest.raises(InputError, match=message):
        prepare("cifar10", source=source, data_dir=data_dir)
    assert not data_dir.exists()


def test_a_damaged_archive_is_refused_with_both_checksums(source, data_dir, monkeypatch):
    write_cifar("cifar10", source)
    archive = pack_cifar("cifar10", source)
    register(monkeypatch, archive)
    expected = hashlib.sha256(archive.read_bytes()).hexdigest()
    truncate(archive, -100)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    with pytest.raises(InputError) as caught:
        prepare("cifar10", source=source, data_dir=data_dir)
    for part in (str(archive), expected, found):
        assert part in str(caught.value)
    register(monkeypatch, archive)
    with pytest.raises(InputError, match="cannot be unpacked"):
        prepare("cifar10", source=archive, data_dir=data_dir)
    assert not data_dir.exists()


def test_the_official_archive_is_the_one_that_tfds_registers(source, data_dir):
    write_cifar("cifar10", source)
    archive = pack_cifar("cifar10", source)
    with pytest.raises(InputError) as caught:
        prepare("cifar10", source=archive, data_dir=data_dir)
    assert "expected 170,052,171" in str(caught.value)
    assert "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd" in str(caught.value)


FASHION_DAMAGE = {
    "cut off": (lambda folder: truncate(folder / "train-images-idx3-ubyte.gz", -50), "cannot be unpacked"),
    "no gzip": (
        lambda folder: (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"x"),
        "cannot be unpacked",
    ),
    "other magic": (
        lambda folder: (folder / "train-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros((2, 2), np.uint8))),
        "it starts with 00000802",
    ),
    "short": (
        lambda folder: (folder / "t10k-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(bytes([0, 0, 8, 3, 0, 0, 0, 9, 0, 0, 0, 28, 0, 0, 0, 28, 1, 2]))
        ),
        "holds 2 bytes of data, its header says 7,056",
    ),
    "counts": (
        lambda folder: (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.zeros(9, np.uint8))),
        "do not belong together",
    ),
    "label": (
        lambda folder: (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(idx(np.full(10, 11, np.uint8))),
        "record 0 has label 11",
    ),
    "missing": (lambda folder: (folder / "t10k-labels-idx1-ubyte.gz").unlink(), "does not hold t10k-labels"),
}


@pytest.mark.parametrize("damage", FASHION_DAMAGE)
def test_damaged_fashion_mnist_files_are_refused(damage, source, data_dir):
    write_fashion_mnist(source)
    apply, message = FASHION_DAMAGE[damage]
    apply(source)
    with pytest.raises(InputError, match=message):
        prepare("fashion_mnist", source=source, data_dir=data_dir)
    assert not data_dir.exists()


def test_damaged_svhn_files_are_refused(source, data_dir):
    write_svhn(source)
    file = source / "train_32x32.mat"
    whole = file.read_bytes()
    for content, message in ((whole[:-2000], "not a complete MATLAB file"), (b"x" * 300, "not a complete MATLAB file")):
        file.write_bytes(content)
        with pytest.raises(InputError, match=message):
            prepare("svhn", source=source, data_dir=data_dir)
    images = np.zeros((32, 32, 3, 4), np.uint8)
    for arrays, message in (
        ({"X": images}, "has no X and y"),
        ({"X": images[:9], "y": np.ones(4)}, r"\[9, 32, 3, 4\]"),
        ({"X": images, "y": np.ones(3)}, "4 images and 3 labels"),
        ({"X": images, "y": np.array([1, 2, 11, 4])}, "record 2"),
    ):
        scipy.io.savemat(file, arrays)
        with pytest.raises(InputError, match=message):
            prepare("svhn", source=source, data_dir=data_dir)
    assert not data_dir.exists()


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist", "svhn"])
def test_a_source_without_the_files_is_told_which(name, source, data_dir):
    with pytest.raises(InputError) as caught:
        prepare(name, source=source, data_dir=data_dir)
    assert all(file in str(caught.value) for file in originals.needed_files(name))
    with pytest.raises(InputError, match="does not exist"):
        prepare(name, source=source / "nowhere", data_dir=data_dir)
    assert not data_dir.exists()


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
def test_an_interruption_leaves_nothing_and_keeps_the_old(interruption, source, data_dir, monkeypatch):
    records = write_cifar("cifar10", source)
    expected = KeyboardInterrupt if interruption is KeyboardInterrupt else InputError

    def interrupt(image):
        raise interruption

    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_png", interrupt)
        with pytest.raises(expected):
            prepare("cifar10", source=source, data_dir=data_dir)
        assert not data_dir.exists()
    prepare("cifar10", source=source, data_dir=data_dir)
    with monkeypatch.context() as patch:
        patch.setattr(preparation, "_png", interrupt)
        with pytest.raises(expected):
            prepare("cifar10", source=source, data_dir=data_dir, overwrite=True)
    assert [path.name for path in data_dir.iterdir()] == ["cifar10"]
    np.testing.assert_array_equal(load("cifar10", data_dir).train.labels, records["train"][:, 0])


def test_the_old_set_returns_when_the_new_one_cannot_be_moved(tmp_path):
    place, staging = tmp_path / "place", tmp_path / "staging"
    place.mkdir()
    staging.mkdir()
    (place / "file").write_text("old")
    with pytest.raises(OSError, match="No such file"):
        move_into_place(staging / "absent", place, staging)
    assert (place / "file").read_text() == "old"


def test_too_little_space_is_said_before_writing(source, data_dir, monkeypatch):
    write_cifar("cifar10", source)
    usage = preparation.shutil.disk_usage(source)._replace(free=100_000)
    monkeypatch.setattr(preparation.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match="0 MB free"):
        prepare("cifar10", source=source, data_dir=data_dir)
    assert not data_dir.exists()


def test_a_file_where_the_folder_should_be(source, tmp_path):
    write_cifar("cifar10", source)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=f"{tmp_path}/file/cifar10: Not a directory"):
        prepare("cifar10", source=source, data_dir=tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"
