"""Checkpoints that are whole or are not there: written aside, sealed with checksums, then renamed.

A checkpoint is a folder `step_00000390` that holds the arrays, written by Orbax, `record.json`, what a reader needs
without the arrays, and `SHA256SUMS` over all of them. A folder that its checksums do not fit is damaged.
"""

import contextlib
import errno
import hashlib
import json
import logging
import os
import re
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jdarts.errors import InputError
from jdarts.files.json_data import Fields, parse_json
from jdarts.xla.jax_compat import sync_global_devices

FOLDER = "checkpoints"
RECORD = "record.json"
ARRAYS = "arrays"
CHECKSUMS = "SHA256SUMS"
_NAME = re.compile(r"step_(\d+)")
_ASIDE = ".incomplete-"
#: What the system says of files that are missing, of the wrong kind or on a bad part of a disk.
_DAMAGES = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.EIO)


class UnreadableError(InputError):
    """A checkpoint that may be whole, but that this process cannot read: passing it over would lose what it holds."""


class Checkpoint(NamedTuple):
    """A checkpoint on disk whose checksums were found right.

    Attributes:
      path: its folder.
      step: the step after which it was written.
      record: what was stored beside the arrays.
    """

    path: Path
    step: int
    record: Mapping[str, Any]


def save(folder: Path, step: int, tree: Any, record: Mapping[str, Any], *, keep: int = 3) -> Path:
    """Writes a checkpoint, then removes older ones.

    A reader never sees a part of it: whatever interrupts the writing, the checkpoint is there or it is not. Where several
    processes hold the arrays all of them must call it; process 0 does what is to be done once.

    Args:
      folder: folder of the run's checkpoints; made where it is missing.
      step: the step after which the tree was taken.
      tree: pytree of arrays, typed PRNG keys included.
      record: JSON data to be read without the arrays.
      keep: number of checkpoints up to this step to leave. Later ones, which only a run that went back has, stay.

    Returns:
      The checkpoint's folder.

    Raises:
      InputError: the folder cannot be written, or the disk is full.
    """
    from orbax.checkpoint import v1 as ocp

    target = path_of(folder, step)
    aside = folder / f"{_ASIDE}{target.name}"
    try:
        with contextlib.ExitStack() as stack:
            leads = jax.process_index() == 0
            if leads:
                folder.mkdir(parents=True, exist_ok=True)
                _remove(aside)
                aside.mkdir()
                made = stack.enter_context(_held(aside))
            _wait_for_all("folder")
            with _orbax_silenced():
                ocp.save(str((aside / ARRAYS).absolute()), tree)
            _wait_for_all("arrays")
            if not leads:
                _wait_for_all("sealed")
                return target
            if not os.path.samestat(made, aside.stat()):
                _remove_stray(aside)
                raise FileNotFoundError(errno.ENOENT, "it was removed or replaced meanwhile", str(folder))
            _write_through(aside / RECORD, json.dumps(record, indent=1) + "\n")
            _write_through(aside / CHECKSUMS, _checksums(aside))
            _put_in_place(aside, target)
            _wait_for_all("sealed")
    except (OSError, ValueError) as error:
        # Orbax reports a full disk as a ValueError of the library beneath it.
        _remove(aside)
        raise InputError(
            f"cannot write checkpoint {target}: {_reason(error)}; free some space or mend the folder, and "
            "start the same command again"
        ) from error
    for _, old in _newest_first(folder, up_to=step)[keep:]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def _put_in_place(aside: Path, target: Path) -> None:
    """Gives a whole checkpoint its name; one of that name that was there before is whole until then."""
    replaced = target.with_name(f"{_ASIDE}replaced-{target.name}")
    if target.exists():
        _remove(replaced)
        target.rename(replaced)
    aside.rename(target)
    _remove(replaced)
    _sync(target.parent)


def steps(folder: Path) -> list[int]:
    """Steps of the checkpoints in a folder, whole or damaged, the newest first."""
    return [step for step, _ in _newest_first(folder, float("inf"))]


def path_of(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies in a folder of checkpoints, if it is there."""
    return folder / f"step_{step:08d}"


def load(checkpoint: Checkpoint, template: Any, place: jax.sharding.Sharding | None = None) -> Any:
    """Reads a checkpoint's arrays.

    Args:
      checkpoint: which one.
      template: pytree of arrays or `jax.ShapeDtypeStruct`, of the structure that was saved.
      place: where to put them; the default device where it is not given. Those who save and load need not agree on it.

    Raises:
      InputError: the arrays are of another structure, shape or type.
    """
    from orbax.checkpoint import v1 as ocp

    if place is None:
        (device,) = jnp.zeros(()).devices()
        place = jax.sharding.SingleDeviceSharding(device)
    abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), template)
    try:
        with _orbax_silenced():
            arrays = str((checkpoint.path / ARRAYS).absolute())
            # Before Orbax begins: an error amid its reads leaves the others of them unfinished.
            _check_shapes(ocp.metadata(arrays).metadata, abstract)
            return ocp.load(arrays, abstract)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(
            f"{checkpoint.path} does not hold what this run needs ({_reason(error)}); it was written with other "
            "settings or another version of jdarts"
        ) from error


def load_all(checkpoint: Checkpoint) -> Any:
    """Reads all arrays of a checkpoint onto the default device, as nested dictionaries, whatever they are.

    Raises:
      InputError: the arrays cannot be read.
    """
    from orbax.checkpoint import v1 as ocp

    (device,) = jnp.zeros(()).devices()
    place = jax.sharding.SingleDeviceSharding(device)
    try:
        with _orbax_silenced():
            arrays = str((checkpoint.path / ARRAYS).absolute())
            saved: Any = ocp.metadata(arrays).metadata
            abstract = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), saved)
            return ocp.load(arrays, abstract)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{checkpoint.path} cannot be read ({_reason(error)})") from error


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint's record and verifies its checksums.

    Raises:
      InputError: it is not a checkpoint, half-written or damaged.
    """
    match = _NAME.fullmatch(path.resolve().name)
    if not match or not _is_folder(path):
        raise InputError(f"{path} is not a checkpoint; give a run's folder or a step_… folder below its checkpoints")
    try:
        with _readable(path):
            expected = _by_name((path / CHECKSUMS).read_text(encoding="utf-8"))
            found = _by_name(_checksums(path))
    except (OSError, UnicodeDecodeError, _OtherChecksums) as error:
        raise _damaged(path, _reason(error)) from error
    for name in sorted({*expected, *found}):
        if name not in found:
            raise _damaged(path, f"{name} is missing")
        if expected.get(name) != found[name]:
            raise _damaged(path, f"{name} is not as it was written")
    try:
        with _readable(path):
            record = parse_json((path / RECORD).read_bytes())
        Fields(record)
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise _damaged(path, f"{RECORD}: {_reason(error)}") from error
    return Checkpoint(path, int(match[1]), record)


def newest(folder: Path, skipped: list[str], *, up_to: float = float("inf")) -> Checkpoint | None:
    """The newest checkpoint that is whole.

    Args:
      folder: folder of the run's checkpoints.
      skipped: gets one message for each half-written or damaged checkpoint that was passed over.
      up_to: the largest step that counts.

    Raises:
      UnreadableError: the folder, or a checkpoint that may be the newest, cannot be read.
    """
    skipped += [f"checkpoint {path} is half-written" for path in sorted(_half_written(folder), reverse=True)]
    for _, path in _newest_first(folder, up_to):
        try:
            return read(path)
        except UnreadableError:
            raise
        except InputError as error:
            skipped.append(str(error))
    return None


def find(path: Path, skipped: list[str]) -> Checkpoint:
    """The checkpoint that a path means: itself, or the newest whole one of a run's folder.

    Args:
      path: a run's folder, its folder of checkpoints, or one checkpoint.
      skipped: as in `newest`.

    Raises:
      InputError: there is no such folder, no whole checkpoint in it, or the checkpoint is damaged.
    """
    with _readable(path):
        if not path.exists():
            raise InputError(f"{path} does not exist; give a run's folder or a checkpoint in it")
    if _is_folder(path / FOLDER):
        folder = path / FOLDER
    elif _NAME.fullmatch(path.resolve().name):
        try:
            return read(path)
        except UnreadableError:
            raise
        except InputError as error:
            raise InputError(
                f"{error}; give another one, or the run's folder for its newest whole checkpoint"
            ) from None
    else:
        folder = path
    found = newest(folder, skipped)
    if found is None:
        why = f": {skipped[-1]}" if skipped else "; a search writes one at the end of each epoch"
        raise InputError(f"{path} holds no whole checkpoint{why}")
    return found


def remove_half_written(folder: Path) -> None:
    """Removes what an interrupted `save` has left behind."""
    for path in _half_written(folder):
        _remove(path)


def _half_written(folder: Path) -> list[Path]:
    return [folder / name for name in _names(folder) if name.startswith(_ASIDE)]


def _names(folder: Path) -> list[str]:
    """Names of what lies in a folder; none where there is no folder."""
    with _readable(folder):
        try:
            return os.listdir(folder)
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            raise UnreadableError(
                f"{folder} is a file, and checkpoints lie in a folder of this name; move it away and start the same command again"
            ) from None


def _is_folder(path: Path) -> bool:
    with _readable(path):
        try:
            return stat.S_ISDIR(path.stat().st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False


@contextlib.contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Tells what cannot be read from what is damaged: an `UnreadableError` for the first, the system's own for the other."""
    try:
        yield
    except OSError as error:
        if error.errno in _DAMAGES:
            raise
        raise UnreadableError(
            f"cannot read {error.filename or path}: {error.strerror or error}; make it readable and start the same command "
            "again"
        ) from error


def _remove(path: Path) -> None:
    """Removes a folder, or what has taken its place."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _remove_stray(aside: Path) -> None:
    """Removes what Orbax has written into a new folder in place of one that was removed, and the empty folders around it."""
    shutil.rmtree(aside, ignore_errors=True)
    with contextlib.suppress(OSError):
        aside.parent.rmdir()
        aside.parent.parent.rmdir()


def _wait_for_all(what: str) -> None:
    if jax.process_count() > 1:
        sync_global_devices(f"checkpoint: {what}")


def _check_shapes(saved: Any, wanted: Any) -> None:
    """Compares names and shapes; Orbax describes a key by the numbers that it is made of."""
    there = _shapes(saved)
    here = _shapes(jax.eval_shape(lambda tree: jax.tree.map(_numbers, tree), wanted))
    for name in sorted({*there, *here}):
        if there.get(name) != here.get(name):
            found, needed = (str(shapes.get(name, "missing")) for shapes in (there, here))
            raise ValueError(f"{name} is {found} there, {needed} here")


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree.leaves_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): tuple(leaf.shape) for path, leaf in leaves}


def _numbers(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


def _newest_first(folder: Path, up_to: float) -> list[tuple[int, Path]]:
    return sorted((entry for entry in _folders(folder) if entry[0] <= up_to), reverse=True)


def _folders(folder: Path) -> Iterator[tuple[int, Path]]:
    for name in _names(folder):
        if match := _NAME.fullmatch(name):
            yield int(match[1]), folder / name


def _checksums(folder: Path) -> str:
    """The text of `SHA256SUMS`, as `sha256sum` writes it, from the files that are there."""
    lines = []
    for path in sorted(_files(folder)):
        if path != folder / CHECKSUMS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            lines.append(f"{digest}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines)


def _files(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for parent, _, names in os.walk(folder, onerror=fail):
        paths = [Path(parent, name) for name in names]
        yield from (path for path in paths if stat.S_ISREG(path.stat().st_mode))


class _OtherChecksums(ValueError):
    """`SHA256SUMS` is not as `save` writes it."""


def _by_name(text: str) -> dict[str, str]:
    pairs = [line.split("  ", 1) for line in text.splitlines()]
    if not text.endswith("\n") or any(len(pair) != 2 for pair in pairs):
        raise _OtherChecksums(f"{CHECKSUMS} is not as it was written")
    return {name: digest for digest, name in pairs}


def _write_through(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[os.stat_result]:
    """What tells a folder from every other while it is held: without, a new one may get the number of a removed one."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield os.fstat(descriptor)
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _orbax_silenced() -> Iterator[None]:
    """Keeps Orbax from logging the tracebacks of its threads: the error that follows them says it all."""
    logger = logging.getLogger("absl")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before


def _damaged(path: Path, reason: str) -> InputError:
    return InputError(f"checkpoint {path} is damaged ({reason})")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{Path(error.filename).name}: {error.strerror}" if error.filename else error.strerror
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
