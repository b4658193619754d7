"""Writes small original files of each image set, in the official forms, with random content."""

import gzip
import tarfile

import numpy as np
import scipy.io

from jdarts.data.originals.cifar import CIFAR10, CIFAR100

FORMS = {"cifar10": CIFAR10, "cifar100": CIFAR100}


def cifar_images(records, label_bytes):
    """The images of binary records, written out pixel by pixel: red, green, blue plane, row by row."""
    images = np.empty((len(records), 32, 32, 3), np.uint8)
    for row in range(32):
        for column in range(32):
            for channel in range(3):
                place = label_bytes + channel * 1024 + row * 32 + column
                images[:, row, column, channel] = records[:, place]
    return images


def write_cifar(name, folder, per_file=12, seed=0):
    """Writes an unpacked archive and returns the records of each split."""
    form = FORMS[name]
    generator = np.random.default_rng(seed)
    target = folder / form.folder
    target.mkdir(parents=True)
    splits = {}
    for split, files in form.splits.items():
        parts = []
        for file in files:
            records = generator.integers(0, 256, (per_file, len(form.labels) + 3072), dtype=np.uint8)
            for place, (_, classes, _) in enumerate(form.labels):
                records[:, place] = generator.integers(0, classes, per_file)
            (target / file).write_bytes(records.tobytes())
            parts.append(records)
        splits[split] = np.concatenate(parts)
    for label, classes, file in form.labels:
        names = [f"{label}_{number}" for number in range(classes)]
        (target / file).write_text("\n".join(names) + "\n\n")
    return splits


def pack_cifar(name, folder):
    """Packs an unpacked archive that lies in a folder; returns the archive."""
    form = FORMS[name]
    archive = folder / form.archive
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder / form.folder, form.folder)
    return archive


def idx(array):
    """An IDX file of unsigned bytes, packed."""
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return gzip.compress(bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes())


def write_fashion_mnist(folder, sizes=(20, 10)):
    """Writes the four files and returns images and labels of each split."""
    generator = np.random.default_rng(1)
    splits = {}
    for split, prefix, size in zip(("train", "test"), ("train", "t10k"), sizes):
        images = generator.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        labels = generator.integers(0, 10, size, dtype=np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (folder / f"{prefix}-labels-idx1-ubyte.gz").write_bytes(idx(labels))
        splits[split] = (images, labels)
    return splits


def write_svhn(folder, sizes=(15, 8)):
    """Writes both files and returns images `[H, W, C, N]` and labels 1..10 of each split."""
    generator = np.random.default_rng(2)
    splits = {}
    for split, size in zip(("train", "test"), sizes):
        images = generator.integers(0, 256, (32, 32, 3, size), dtype=np.uint8)
        labels = generator.integers(1, 11, (size, 1)).astype(np.uint8)
        labels[0] = 10
        scipy.io.savemat(folder / f"{split}_32x32.mat", {"X": images, "y": labels}, do_compression=True)
        splits[split] = (images, labels[:, 0])
    return splits


def truncate(path, size):
    """Cuts a file off."""
    path.write_bytes(path.read_bytes()[:size])


def spoil(path, place, value):
    """Changes one byte of a file."""
    content = bytearray(path.read_bytes())
    content[place] = value
    path.write_bytes(bytes(content))
