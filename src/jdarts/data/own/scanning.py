"""Finds the pictures in a folder: `train/CLASS/…`, with `test` and `val` where there are, or `CLASS/…`."""

import functools
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jdarts.data.originals.images import open_bounded, os_errors_as_input, read_bounded
from jdarts.data.own.pictures import SPLIT_NAMES, SPLITS, TRAIN, Picture, Pictures, Problem, listed
from jdarts.errors import InputError

SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .bmp .dib .gif .webp .tif .tiff .ppm .pgm .pbm .pnm".split()  # noqa: SIM905
)
#: Files that file managers write beside pictures: ignored, as are names that begin with a dot.
_OF_FILE_MANAGERS = frozenset(("thumbs.db", "desktop.ini", "__macosx", "ehthumbs.db", "icon\r"))
MAX_FILE_BYTES = 1 << 28
#: Folders within each other below the given one: more are a mistake, and Python's stack has an end.
_DEEPEST = 100
#: Characters that move the cursor, end a line or turn the direction of a text: categories of Unicode, and single ones.
_UNSEEN, _TURNING = ("Cc", "Zl", "Zp"), "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


class _File(NamedTuple):
    """A picture's file: its path, its name in messages, size in bytes and time of its last change."""

    path: Path
    name: str
    size: int
    changed: int


def scan(root: Path) -> Pictures:
    """The pictures of a folder, sorted by class and name; opens no file.

    Links are followed, but for those to a folder that they lie in. Hidden files are ignored; other files that are no
    pictures are left out and named.

    Args:
      root: the folder: of the splits, or of the classes.

    Raises:
      InputError: the folder cannot be read, or has no classes with pictures, or only one.
    """
    with os_errors_as_input(root):
        entries = _entries(root)
    folders = {entry.name: Path(entry.path) for entry in entries if entry.is_dir()}
    of_splits = {name: SPLIT_NAMES[name.lower()] for name in folders if name.lower() in SPLIT_NAMES}
    problems: list[Problem] = []
    files: dict[str, dict[str, list[_File]]] = {}
    if TRAIN in of_splits.values():
        _check_one_of_each(root, of_splits)
        for name, split in of_splits.items():
            files[split] = _classes(folders[name], root, problems)
        problems += [Problem(name, "is beside the folders of the splits") for name in folders if name not in of_splits]
        problems += [
            Problem(entry.name, "is in no class")
            for entry in entries
            if not entry.is_dir() and not _is_ignored(entry.name)
        ]
        kind = "a folder with " + ", ".join(
            f"{name}/" for name in sorted(of_splits, key=lambda name: SPLITS.index(of_splits[name]))
        )
    elif of_splits and len(of_splits) == len(folders):
        raise InputError(
            f"{root} has {listed(f'{name}/' for name in of_splits)} and no train/; name the folder of the training images "
            "train, or give the path of one folder of classes"
        )
    else:
        files[TRAIN] = _classes(root, root, problems, outside=True)
        kind = "a folder of classes"
    names = _class_names(root, files, problems)
    labels = {name: label for label, name in enumerate(names)}
    splits = {
        split: [
            Picture(
                file.name,
                labels[name],
                functools.partial(read_bounded, file.path, MAX_FILE_BYTES),
                file.size,
                functools.partial(open_bounded, file.path, MAX_FILE_BYTES),
            )
            for name in names
            for file in classes.get(name, ())
        ]
        for split, classes in sorted(files.items(), key=lambda each: SPLITS.index(each[0]))
    }
    identity = {
        split: [(file.name, file.size, file.changed) for name in names for file in classes.get(name, ())]
        for split, classes in files.items()
    }
    splits = {split: pictures for split, pictures in splits.items() if pictures}
    return Pictures(kind, lambda: splits, names, tuple(problems), identity)


def _check_one_of_each(root: Path, of_splits: dict[str, str]) -> None:
    for split in set(of_splits.values()):
        same = [f"{name}/" for name, of in of_splits.items() if of == split]
        if len(same) > 1:
            raise InputError(f"{root} has {' and '.join(sorted(same))}, which both hold the {split} images; keep one")


def _classes(folder: Path, root: Path, problems: list[Problem], *, outside: bool = False) -> dict[str, list[_File]]:
    """The pictures in each class of a folder, which may lie in folders within it.

    Args:
      folder: the folder of the classes.
      root: the folder below which names in messages begin.
      problems: is extended by files that are left out.
      outside: whether pictures beside the folders of classes are an error if there are no such folders.
    """
    found: dict[str, list[_File]] = {}
    beside: list[str] = []
    with os_errors_as_input(folder):
        entries = _entries(folder)
        above = frozenset(map(_identity, (folder, *folder.resolve().parents)))
    for entry in entries:
        if _is_ignored(entry.name):
            continue
        name = _shown(Path(entry.path).relative_to(root))
        if entry.is_dir():
            files = list(_files(Path(entry.path), root, problems, above))
            found.setdefault(_class_name(entry.name), []).extend(files)
        else:
            problems.append(Problem(name, "is in no class"))
            beside.append(name)
    if outside and beside and not found:
        raise InputError(
            f"{root} holds {listed(beside, 3)} and no folders; put the images of each class into a folder named after the class"
        )
    return found


def _files(folder: Path, root: Path, problems: list[Problem], above: frozenset[tuple[int, int]]) -> Iterator[_File]:
    """The pictures below a folder; `above` are the folders that it lies in, where a link must not lead."""
    shown = _shown(folder.relative_to(root))
    if len(folder.relative_to(root).parts) > _DEEPEST:
        problems.append(Problem(shown, f"lies more than {_DEEPEST} folders deep"))
        return
    try:
        identity = _identity(folder)
        if identity in above:
            problems.append(Problem(shown, "is a link to a folder that it lies in"))
            return
        entries = _entries(folder)
    except OSError as error:
        problems.append(Problem(shown, f"cannot be read ({error.strerror or error})"))
        return
    for entry in entries:
        if _is_ignored(entry.name):
            continue
        path = Path(entry.path)
        name = _shown(path.relative_to(root))
        try:
            if entry.is_dir():
                yield from _files(path, root, problems, above | {identity})
            elif path.suffix.lower() not in SUFFIXES:
                problems.append(Problem(name, "is no picture by its suffix"))
            elif not entry.is_file():
                broken = entry.is_symlink() and not path.exists()
                problems.append(Problem(name, "is a broken link" if broken else "is not a file"))
            else:
                status = entry.stat()
                yield _File(path, name, status.st_size, status.st_mtime_ns)
        except OSError as error:
            problems.append(Problem(name, f"cannot be read ({error.strerror or error})"))


def _class_names(root: Path, files: dict[str, dict[str, list[_File]]], problems: list[Problem]) -> tuple[str, ...]:
    """The names of the classes in order, after checks that each can be trained on."""
    classes = files[TRAIN]
    empty = sorted(name for name, of_class in classes.items() if not of_class)
    if not any(classes.values()):
        what = f"only {listed(map(str, problems), 3)}" if problems else "nothing"
        raise InputError(
            f"{root} holds no images: {what}; give a folder with a folder of images for each class, or with train/ and test/ "
            "that have such folders"
        )
    if len(classes) < 2:
        (name,) = classes
        inner = sorted({Path(file.name).parts[-2] for file in classes[name]} - {name})
        within = f"; its folders {listed(inner, 3)} may be the classes: give {root / name}" if len(inner) > 1 else ""
        raise InputError(
            f"{root} has one class, {name!r}, and there is nothing to tell apart; give two or more{within}"
        )
    if empty:
        raise InputError(
            f"the class folder{'s' if len(empty) > 1 else ''} {listed(empty)} in {root} "
            f"hold{'' if len(empty) > 1 else 's'} no training images; remove {'them' if len(empty) > 1 else 'it'} or add images"
        )
    for split, others in files.items():
        unknown = sorted(name for name in others if name not in classes and others[name])
        if unknown:
            raise InputError(
                f"{root} has the classes {listed(unknown)} in {split} and not in train; give both the same class folders"
            )
    return tuple(sorted(classes))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _OF_FILE_MANAGERS


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def _shown(path: Path | str) -> str:
    """A path as text of one line, with escapes for bytes that are not UTF-8 and for characters that nobody sees."""
    return "".join(
        each.encode("unicode_escape").decode() if each in _TURNING or unicodedata.category(each) in _UNSEEN else each
        for each in os.fsencode(path).decode("utf-8", "backslashreplace")
    )


def _class_name(name: str) -> str:
    """One form for names that look the same: file systems store accents composed or decomposed."""
    return unicodedata.normalize("NFC", _shown(name))
