"""Damaged original files: whatever is wrong with them, an `InputError`, soon and within little memory."""

import hashlib
import io
import os
import tarfile
import zlib

import numpy as np
import pytest
import scipy.io
from made_up_images import FORMS, pack_cifar, spoil, write_cifar, write_fashion_mnist, write_svhn
from mutations import bounded, damaged_bytes

from jdarts.data import preparation, prepare
from jdarts.data.originals import cifar as raw_cifar
from jdarts.data.originals import fashion_mnist as raw_fashion_mnist
from jdarts.data.originals import finding as originals
from jdarts.data.originals import svhn as raw_svhn
from jdarts.data.originals.matlab import read_arrays
from jdarts.data.text.catalogue import text_entry
from jdarts.data.text.originals import read_texts
from jdarts.errors import InputError


def packed(content, size, form):
    """Content followed by so many zeros, compressed: one packed megabyte over and over, with no right checksum then."""
    stream = zlib.compressobj(9, wbits=form)
    front = stream.compress(content) + stream.flush(zlib.Z_FULL_FLUSH)
    megabyte = stream.compress(bytes(1 << 20)) + stream.flush(zlib.Z_FULL_FLUSH) if size else b""
    return front + megabyte * (size >> 20) + stream.flush()


def header(count):
    return bytes([0, 0, 8, 3]) + count.to_bytes(4, "big") + bytes([0, 0, 0, 28, 0, 0, 0, 28])


@pytest.mark.parametrize("count, message", [(1 << 30, r"sizes \[1073741824, 28, 28\]"), (20, "more than it says")])
def test_a_file_that_unpacks_to_gigabytes_is_not_unpacked(count, message, tmp_path):
    write_fashion_mnist(tmp_path)
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(packed(header(count), 1 << 31, 31))
    with bounded(size=1 << 28), pytest.raises(InputError, match=message):
        prepare("fashion_mnist", source=tmp_path, data_dir=tmp_path / "tfds")
    assert not (tmp_path / "tfds").exists()


def test_a_matlab_variable_that_unpacks_to_gigabytes_is_not_unpacked(tmp_path):
    scipy.io.savemat(tmp_path / "x.mat", {"X": np.zeros((32, 32, 3, 4), np.uint8)})
    whole = (tmp_path / "x.mat").read_bytes()
    # The sizes stand behind the tags of the variable, of its flags and of the sizes themselves.
    assert whole[160:176] == np.array([32, 32, 3, 4], "<i4").tobytes()
    for images, message in ((1 << 30, r"X has the sizes \[32, 32, 3, 1073741824\]"), (4, "more than it says")):
        element = whole[128:172] + images.to_bytes(4, "little") + whole[176:]
        bomb = packed(element, 1 << 31, 15)
        content = whole[:128] + np.array([15, len(bomb)], "<u4").tobytes() + bomb
        (tmp_path / "x.mat").write_bytes(content)
        with bounded(size=1 << 28), pytest.raises(InputError, match=message):
            read_arrays(tmp_path / "x.mat", {"X": 32 * 32 * 3 * 100})


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i2", "i8", "f4", "f8"])
def test_matlab_arrays_are_read_as_scipy_reads_them(compressed, kind, tmp_path):
    arrays = {
        "skipped": np.arange(7.0),
        "X": np.arange(2 * 3 * 4).reshape(2, 3, 4).astype(kind),
        "one": np.ones((1, 1), kind),
    }
    scipy.io.savemat(tmp_path / "x.mat", arrays, do_compression=compressed)
    found = read_arrays(tmp_path / "x.mat", {"X": 24, "one": 1, "absent": 1})
    assert set(found) == {"X", "one"}
    for name, array in found.items():
        assert array.dtype == kind
        np.testing.assert_array_equal(array, arrays[name])


def test_matlab_numbers_in_a_smaller_type_and_the_other_byte_order(tmp_path):
    """MATLAB stores whole doubles as bytes; big-endian machines write their own order."""

    def element(kind, content, order):
        tag = np.array([kind, len(content)], f"{order}u4").tobytes()
        return tag + content + bytes(-len(content) % 8)

    for order, mark in (("<", b"\0\1IM"), (">", b"\1\0MI")):
        variable = b"".join(
            (
                element(6, np.array([6, 0], f"{order}u4").tobytes(), order),
                element(5, np.array([1, 3], f"{order}i4").tobytes(), order),
                element(1, b"y", order),
                element(4, np.array([1, 10, 300], f"{order}u2").tobytes(), order),
            )
        )
        (tmp_path / "x.mat").write_bytes(b"MATLAB 5.0".ljust(124) + mark + element(14, variable, order))
        found = read_arrays(tmp_path / "x.mat", {"y": 3})["y"]
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, [[1, 10, 300]])


def test_labels_of_svhn_that_are_no_whole_numbers_are_refused(tmp_path):
    write_svhn(tmp_path)
    images = np.zeros((32, 32, 3, 3), np.uint8)
    for label in (1.5, float("nan"), 1e300, 0, 11):
        scipy.io.savemat(tmp_path / "train_32x32.mat", {"X": images, "y": np.array([1.0, 2.0, label])})
        with pytest.raises(InputError, match=r"record 2 has label .*, labels are 1\.\.10"):
            raw_svhn.read_folder(tmp_path)


def test_a_file_that_is_too_large_is_not_read(tmp_path):
    write_cifar("cifar10", tmp_path)
    folder = tmp_path / FORMS["cifar10"].folder
    archive = tmp_path / FORMS["cifar10"].archive
    for file in (archive, folder / "data_batch_2.bin", folder / "batches.meta.txt"):
        file.touch()
        before = file.stat().st_size
        os.truncate(file, 1 << 40)
        with bounded(size=1 << 28), pytest.raises(InputError, match=r"1,099,511,627,776 bytes.*expected"):
            prepare("cifar10", source=tmp_path, data_dir=tmp_path / "tfds")
        os.truncate(file, before)
        archive.unlink(missing_ok=True)
    assert not (tmp_path / "tfds").exists()


def test_a_damaged_file_of_the_official_size_is_known_by_its_checksum(tmp_path, monkeypatch):
    write_svhn(tmp_path)
    file = tmp_path / "test_32x32.mat"
    content = file.read_bytes()
    known = originals.Registered("the official place", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setattr(preparation, "registered_files", lambda _: {file.name: known})
    spoil(file, 3, ord("x"))
    with pytest.raises(InputError, match=f"is damaged or another file: .*{known.sha256}; download it again"):
        prepare("svhn", source=tmp_path, data_dir=tmp_path / "tfds")
    file.write_bytes(content)
    assert prepare("svhn", source=tmp_path, data_dir=tmp_path / "tfds").counts == {"train": 15, "test": 8}


def archive_of(members):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return file.getvalue()


def member(name, size=0, kind=tarfile.REGTYPE, link=""):
    made = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
    made.size, made.type, made.linkname = size, kind, link
    return made


ARCHIVES = {
    "links": lambda: archive_of(
        [
            (member("data_batch_1.bin", kind=kind, link="/etc/passwd"), b"")
            for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE)
        ]
    ),
    "other places": lambda: archive_of([(member("../../data_batch_1.bin", 1), b"x"), (member("/etc/x", 1), b"x")]),
    "a device": lambda: archive_of([(member("data_batch_1.bin", kind=tarfile.CHRTYPE), b"")]),
    "thousands of members": lambda: archive_of([(member(f"{number}"), b"") for number in range(5000)]),
    "a large member": lambda: packed(member("data_batch_1.bin", 1 << 33).tobuf(), 1 << 31, 31),
    "a large other member": lambda: packed(member("other", 1 << 33).tobuf(), 1 << 31, 31),
    "a large header": lambda: packed(member("other", (1 << 33) - 1, tarfile.XHDTYPE).tobuf(), 1 << 31, 31),
    "headers of headers": lambda: packed(member("other", 0, tarfile.XHDTYPE).tobuf() * 20_000, 0, 31),
    "zeros": lambda: packed(b"", 1 << 31, 31),
    "nothing": lambda: b"",
    "another file": lambda: b"PK" * 1000,
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_an_archive_of_another_content_is_refused(kind, tmp_path):
    archive = tmp_path / "archive.tar.gz"
    archive.write_bytes(ARCHIVES[kind]())
    with bounded(), pytest.raises(InputError, match=r"archive\.tar\.gz"):
        raw_cifar.read_archive(archive, FORMS["cifar10"])


def cifar_archive(folder):
    write_cifar("cifar10", folder, per_file=2)
    return pack_cifar("cifar10", folder)


def svhn_file(folder):
    write_svhn(folder)
    return folder / "train_32x32.mat"


def plain_svhn_file(folder):
    path = svhn_file(folder)
    arrays = {name: array for name, array in scipy.io.loadmat(path).items() if not name.startswith("_")}
    scipy.io.savemat(path, arrays)
    return path


def fashion_file(folder):
    write_fashion_mnist(folder)
    return folder / "train-images-idx3-ubyte.gz"


def text_file(folder):
    for split in ("train", "valid", "test"):
        (folder / f"{split}.txt").write_text("the cat sat\n" * 50)
    return folder / "train.txt"


READERS = {
    "cifar archive": (cifar_archive, lambda path: raw_cifar.read_archive(path, FORMS["cifar10"])),
    "svhn": (svhn_file, lambda path: raw_svhn.read_folder(path.parent)),
    "svhn, not compressed": (plain_svhn_file, lambda path: raw_svhn.read_folder(path.parent)),
    "fashion_mnist": (fashion_file, lambda path: raw_fashion_mnist.read_folder(path.parent)),
    "text": (text_file, lambda path: read_texts(path.parent, text_entry("mine"))),
}


@pytest.mark.parametrize("form", READERS)
def test_no_damage_is_more_than_an_input_error(form, tmp_path):
    write, read = READERS[form]
    path = write(tmp_path)
    whole = path.read_bytes()
    refused = 0
    # In the first bytes stand the headers, of which each has a meaning.
    for head in (False, True):
        for damaged in damaged_bytes(whole[:400] if head else whole, 150):
            path.write_bytes(damaged + whole[400:] if head else damaged)
            try:
                with bounded():
                    read(path)
            except InputError as error:
                refused += 1
                assert str(path) in str(error) and "\n" not in str(error)
    assert refused > (0 if form == "text" else 100)
