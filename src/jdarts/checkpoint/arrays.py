"""A checkpoint's arrays, which Orbax writes and reads."""

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jdarts.checkpoint.folders import ARRAYS, reason_of
from jdarts.checkpoint.records import Checkpoint
from jdarts.errors import InputError


def write_arrays(folder: Path, tree: Any) -> None:
    """Writes a pytree of arrays, typed PRNG keys included, into the folder of a checkpoint.

    Raises:
      OSError: the folder cannot be written.
      ValueError: the same, from the library beneath Orbax.
    """
    from orbax.checkpoint import v1 as ocp

    with _orbax_silenced():
        ocp.save(str((folder / ARRAYS).absolute()), tree)


def load(checkpoint: Checkpoint, template: Any, place: jax.sharding.Sharding | None = None) -> Any:
    """Reads a checkpoint's arrays.

    Args:
      checkpoint: which one.
      template: pytree of arrays or `jax.ShapeDtypeStruct`, of the structure that was saved. For a vector the checkpoint
        may hold a pytree, the numbers of whose leaves in order are those of the vector.
      place: where to put them; the default device where it is not given. Those who save and load need not agree on it.

    Raises:
      InputError: the arrays are of another structure, shape or type.
    """
    from orbax.checkpoint import v1 as ocp

    place = _default_place() if place is None else place
    try:
        with _orbax_silenced():
            arrays = str((checkpoint.path / ARRAYS).absolute())
            saved: Any = ocp.metadata(arrays).metadata
            stored = jax.tree.map_with_path(lambda path, leaf: _as_stored(saved, path, leaf), template)
            abstract = _placed(stored, place)
            # Before Orbax begins: an error amid its reads leaves the others of them unfinished.
            _check_shapes(saved, abstract)
            wanted = _by_name(abstract)
            # In the structure that was saved: parts of a state that hold no array may have come or gone since.
            found = _by_name(ocp.load(arrays, jax.tree.map_with_path(lambda path, _: wanted[_name(path)], saved)))
            loaded = jax.tree.map_with_path(lambda path, _: found[_name(path)], stored)
            return jax.tree.map(_joined, template, loaded)
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(
            f"{checkpoint.path} does not hold what this run needs ({reason_of(error)}); it was written with other "
            "settings or another version of jdarts"
        ) from error


def load_all(checkpoint: Checkpoint) -> Any:
    """Reads all arrays of a checkpoint onto the default device, as nested dictionaries, whatever they are.

    Raises:
      InputError: the arrays cannot be read.
    """
    from orbax.checkpoint import v1 as ocp

    try:
        with _orbax_silenced():
            arrays = str((checkpoint.path / ARRAYS).absolute())
            saved: Any = ocp.metadata(arrays).metadata
            return ocp.load(arrays, _placed(saved, _default_place()))
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{checkpoint.path} cannot be read ({reason_of(error)})") from error


def _default_place() -> jax.sharding.Sharding:
    (device,) = jnp.zeros(()).devices()
    return jax.sharding.SingleDeviceSharding(device)


def _placed(tree: Any, place: jax.sharding.Sharding) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), tree)


def _as_stored(saved: Any, path: Any, leaf: Any) -> Any:
    """The shapes that a checkpoint holds for a leaf of a template: one, or for a vector those of a pytree of as many numbers."""
    if len(leaf.shape) != 1:
        return leaf
    for name in _name(path).split("/"):
        entries = {str(n): entry for n, entry in enumerate(saved)} if isinstance(saved, list | tuple) else saved
        if not isinstance(entries, Mapping) or name not in entries:
            return leaf
        saved = entries[name]
    sizes = [math.prod(part.shape) for part in jax.tree.leaves(saved)]
    if jax.tree_util.treedef_is_leaf(jax.tree.structure(saved)) or sum(sizes) != math.prod(leaf.shape):
        return leaf
    return jax.tree.map(lambda part: jax.ShapeDtypeStruct(part.shape, leaf.dtype), saved)


def _joined(leaf: Any, found: Any) -> Any:
    """The array of a leaf of a template."""
    return found if isinstance(found, jax.Array) else jnp.concatenate([a.reshape(-1) for a in jax.tree.leaves(found)])


def _check_shapes(saved: Any, wanted: Any) -> None:
    """Compares names and shapes; Orbax describes a key by the numbers that it is made of."""
    there = _shapes(saved)
    here = _shapes(jax.eval_shape(lambda tree: jax.tree.map(_numbers, tree), wanted))
    for name in sorted({*there, *here}):
        if there.get(name) != here.get(name):
            found, needed = (str(shapes.get(name, "missing")) for shapes in (there, here))
            raise ValueError(f"{name} is {found} there, {needed} here")


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in _by_name(tree).items()}


def _by_name(tree: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _numbers(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


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
