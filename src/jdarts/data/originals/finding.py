"""Gets a set's original files, from the user's disk or from the network, and reads them."""

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jdarts.data.originals import cifar as raw_cifar
from jdarts.data.originals import fashion_mnist as raw_fashion_mnist
from jdarts.data.originals import svhn as raw_svhn
from jdarts.data.originals.download import Progress, download
from jdarts.data.originals.images import RawSet, os_errors_as_input
from jdarts.errors import InputError

CIFAR_FORMS = {"cifar10": raw_cifar.CIFAR10, "cifar100": raw_cifar.CIFAR100}
FOLDER_READERS: Mapping[str, tuple[tuple[str, ...], Callable[[Path], RawSet]]] = {
    "fashion_mnist": (sum(raw_fashion_mnist.FILES.values(), ()), raw_fashion_mnist.read_folder),
    "svhn": (tuple(raw_svhn.FILES.values()), raw_svhn.read_folder),
}


class Registered(NamedTuple):
    """Address, size and checksum of an original file, as TFDS registers them."""

    url: str
    size: int
    sha256: str


def registered_files(builder_class: Any) -> dict[str, Registered]:
    """The original files that TFDS registers for a builder, by file name."""
    return {info.filename: Registered(url, info.size, info.checksum) for url, info in builder_class.url_infos.items()}


def needed_files(name: str) -> tuple[str, ...]:
    """File names of the original files of a set."""
    return (CIFAR_FORMS[name].archive,) if name in CIFAR_FORMS else FOLDER_READERS[name][0]


def download_originals(
    name: str, registered: Mapping[str, Registered], folder: Path, *, prepare_from: str, progress: Progress
) -> None:
    """Downloads the original files of a set into a folder.

    Args:
      name: A name of the catalogue.
      registered: Addresses, sizes and checksums of the files.
      folder: The folder.
      prepare_from: The command that prepares the set from files on disk, for error messages.
      progress: Called with the name of the present work, the bytes so far and the total bytes.

    Raises:
      InputError: The network cannot be reached, or a file is damaged.
    """
    for file in needed_files(name):
        url, size, sha256 = registered[file]
        mend = f"fetch {', '.join(needed_files(name))} in another way and run: {prepare_from}"
        download(url, folder / file, size=size, sha256=sha256, mend=mend, progress=progress)


def read_originals(name: str, source: Path, registered: Mapping[str, Registered]) -> RawSet:
    """Reads the original files of a set.

    Args:
      name: A name of the catalogue.
      source: For CIFAR the archive, a folder that holds it, the unpacked folder or its parent; for the others the
        folder of the files.
      registered: Sizes and checksums, which the archive must match.

    Raises:
      InputError: A file is missing or damaged.
    """
    with os_errors_as_input(source):
        exists = source.exists()
    if not exists:
        raise InputError(f"{source} does not exist; give {_wanted(name)}")
    if name in CIFAR_FORMS:
        return _read_cifar(name, source, registered)
    files, read_folder = FOLDER_READERS[name]
    missing = [file for file in files if not (source / file).is_file()]
    if missing:
        raise InputError(f"{source} does not hold {', '.join(missing)}; give {_wanted(name)}")
    for file in files:
        _check_if_official(source / file, registered.get(file))
    return read_folder(source)


def _check_if_official(path: Path, expected: Registered | None) -> None:
    """Checks a file of the official size against the official checksum; other files are checked by their content."""
    with os_errors_as_input(path):
        official = expected is not None and path.stat().st_size == expected.size
    if expected and official:
        _check_registered(path, expected)


def _read_cifar(name: str, source: Path, registered: Mapping[str, Registered]) -> RawSet:
    form = CIFAR_FORMS[name]
    archive = source if source.is_file() else source / form.archive
    if archive.is_file():
        _check_registered(archive, registered[form.archive])
        return raw_cifar.read_archive(archive, form)
    for folder in (source, source / form.folder):
        if any((folder / file).is_file() for file in form.files):
            return raw_cifar.read_folder(folder, form)
    raise InputError(f"{source} holds neither {form.archive} nor {form.folder}; give {_wanted(name)}")


def _check_registered(path: Path, expected: Registered) -> None:
    """Raises an `InputError` unless a file is the official one; does not read a longer file."""
    with os_errors_as_input(path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        checksum = hashlib.file_digest(file, "sha256").hexdigest() if size <= expected.size else None
    if checksum != expected.sha256:
        sums = f"sha256 {checksum}, expected {expected.sha256}; " if checksum else ""
        raise InputError(
            f"{path} is damaged or another file: {size:,} bytes, expected {expected.size:,}; {sums}"
            f"download it again from {expected.url}"
        )


def _wanted(name: str) -> str:
    if name in CIFAR_FORMS:
        form = CIFAR_FORMS[name]
        return f"{form.archive}, or a folder that holds it or the unpacked {form.folder}"
    return f"a folder that holds {', '.join(needed_files(name))}"
