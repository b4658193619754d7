"""A checkpoint's arrays, written and read by Orbax."""

import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
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
      ValueError: the same, from a library that Orbax uses.
    """
    from orbax.checkpoint import v1 as ocp

    with _orbax_silenced():
        ocp.save(str((folder / ARRAYS).absolute()), tree)


def load(checkpoint: Checkpoint, template: Any, sharding: jax.sharding.Sharding | None = None) -> Any:
    """Reads a checkpoint's arrays.

    Args:
      checkpoint: the checkpoint.
      template: pytree of arrays or `jax.ShapeDtypeStruct`, of the structure that was saved. For a vector the checkpoint
        may hold a pytree, whose leaves, in order, are concatenated; for a pytree it may hold the vector.
      sharding: sharding of the loaded arrays; by default they are on the default device. It may differ from the saved one.

    Raises:
      InputError: the arrays have another structure, shape or type.
    """
    from orbax.checkpoint import v1 as ocp

    sharding = _default_sharding() if sharding is None else sharding
    try:
        with _orbax_silenced():
            arrays = str((checkpoint.path / ARRAYS).absolute())
            saved: Any = ocp.metadata(arrays).metadata
            is_vector = _is_vector_in(saved)
            stored = jax.tree.map_with_path(
                lambda path, part: _as_stored(saved, path, part), template, is_leaf=is_vector, is_leaf_takes_path=True
            )
            abstract = _with_sharding(stored, sharding)
            # Before Orbax reads: an error during its reads would leave the others unfinished.
            _check_shapes(saved, abstract)
            needed = _by_name(abstract)
            # Read in the saved structure: parts of a state without arrays may differ.
            read = _by_name(ocp.load(arrays, jax.tree.map_with_path(lambda path, _: needed[_name(path)], saved)))
            loaded = jax.tree.map_with_path(lambda path, _: read[_name(path)], stored)
            return jax.tree.map_with_path(
                lambda _, part, found: _as_wanted(part, found),
                template,
                loaded,
                is_leaf=is_vector,
                is_leaf_takes_path=True,
            )
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(
            f"{checkpoint.path} does not hold what this run needs ({reason_of(error)}); it was written with other "
            "settings or another version of jdarts"
        ) from error


def load_all(checkpoint: Checkpoint) -> Any:
    """Reads all arrays of a checkpoint onto the default device, as nested dictionaries, without a template.

    Raises:
      InputError: the arrays cannot be read.
    """
    from orbax.checkpoint import v1 as ocp

    try:
        with _orbax_silenced():
            arrays = str((checkpoint.path / ARRAYS).absolute())
            saved: Any = ocp.metadata(arrays).metadata
            return ocp.load(arrays, _with_sharding(saved, _default_sharding()))
    except (KeyError, TypeError, ValueError, OSError) as error:
        raise InputError(f"{checkpoint.path} cannot be read ({reason_of(error)})") from error


def _default_sharding() -> jax.sharding.Sharding:
    (device,) = jnp.zeros(()).devices()
    return jax.sharding.SingleDeviceSharding(device)


def _with_sharding(tree: Any, sharding: jax.sharding.Sharding) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), tree)


def _is_vector_in(saved: Any) -> Callable[[Any, Any], bool]:
    """Tells of a part of a template and its path whether the part is a pytree for which the checkpoint holds a vector."""
    vectors = {name for name, entry in _by_name(saved).items() if len(entry.shape) == 1}
    return lambda path, part: not _is_array(part) and _name(path) in vectors


def _as_stored(saved: Any, path: Any, part: Any) -> Any:
    """The stored shapes of a part of a template.

    Its own; for a vector those of a pytree with as many numbers, and for a pytree with a vector in its place that vector's.
    """
    if not _is_array(part):
        leaves = jax.tree.leaves(part)
        return jax.ShapeDtypeStruct((_count(leaves),), leaves[0].dtype)
    if len(part.shape) != 1:
        return part
    for name in _name(path).split("/"):
        entries = {str(n): entry for n, entry in enumerate(saved)} if isinstance(saved, list | tuple) else saved
        if not isinstance(entries, Mapping) or name not in entries:
            return part
        saved = entries[name]
    if _is_array(saved) or _count(jax.tree.leaves(saved)) != math.prod(part.shape):
        return part
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, part.dtype), saved)


def _as_wanted(part: Any, found: Any) -> Any:
    """The arrays of a part of a template."""
    if not _is_array(found):
        return jnp.concatenate([a.reshape(-1) for a in jax.tree.leaves(found)])
    if _is_array(part):
        return found
    leaves, structure = jax.tree.flatten(part)
    ends = itertools.accumulate(math.prod(leaf.shape) for leaf in leaves)
    pieces = jnp.split(found, list(ends)[:-1])
    return jax.tree.unflatten(structure, [piece.reshape(leaf.shape) for piece, leaf in zip(pieces, leaves)])


def _is_array(part: Any) -> bool:
    return jax.tree_util.treedef_is_leaf(jax.tree.structure(part))


def _count(leaves: Sequence[Any]) -> int:
    return sum(math.prod(leaf.shape) for leaf in leaves)


def _check_shapes(saved: Any, abstract: Any) -> None:
    """Compares names and shapes; for Orbax a PRNG key has the shape of its key data."""
    stored = _shapes(saved)
    needed = _shapes(jax.eval_shape(lambda tree: jax.tree.map(_key_data, tree), abstract))
    for name in sorted({*stored, *needed}):
        if stored.get(name) != needed.get(name):
            there, here = (str(shapes.get(name, "missing")) for shapes in (stored, needed))
            raise ValueError(f"{name} is {there} there, {here} here")


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    return {name: tuple(leaf.shape) for name, leaf in _by_name(tree).items()}


def _by_name(tree: Any) -> dict[str, Any]:
    return {_name(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _key_data(leaf: jax.Array) -> jax.Array:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


@contextlib.contextmanager
def _orbax_silenced() -> Iterator[None]:
    """Keeps Orbax from logging the tracebacks of its threads: the error that follows has the same information."""
    logger = logging.getLogger("absl")
    before = logger.disabled
    logger.disabled = True
    try:
        yield
    finally:
        logger.disabled = before
