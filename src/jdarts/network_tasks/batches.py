"""The user's own batches: what gives them, and their form."""

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.errors import InputError, shown

#: What `jdarts.NetworkTask` takes.
Batches = Callable[..., Iterable[Any]] | Iterable[Any]


class Source:
    """The batches of one part of a task.

    Args:
      given: as `jdarts.NetworkTask` says.
      name: of the part, for messages.

    Attributes:
      takes_seed: whether the batches depend on the seed of a run.
      shapes: shapes and types of a batch.
      size: examples of a batch.

    Raises:
      InputError: it gives no batches, or batches that are no arrays of examples.
    """

    def __init__(self, given: Batches, name: str) -> None:
        self._given, self._name = given, name
        self.takes_seed = _takes_seed(given, name)
        self.first = next(self._checked(0, 0), None)
        if self.first is None:
            raise InputError(f"{name} gives no batch in epoch 0; give one or more")
        self.shapes = shapes_of(self.first)
        self.size = len(jax.tree.leaves(self.first)[0])

    @property
    def is_sized(self) -> bool:
        """Whether the number of batches is known without reading them."""
        return hasattr(self._given, "__len__")

    def count(self) -> int:
        """Batches of whole size in epoch 0: the length of what gives them, or else they are counted."""
        for sized in (self._given, self._read(0, 0)):
            if hasattr(sized, "__len__"):
                count = len(sized)  # pyright: ignore[reportArgumentType]
                last = sized[-1] if isinstance(sized, list | tuple) else self.first
                return count if shapes_of(as_arrays(last, self._name)) == self.shapes else count - 1
        return sum(1 for _ in self.whole(0, 0))

    def whole(self, epoch: int, seed: int) -> Iterator[Any]:
        """The batches of an epoch that have the whole size.

        Raises:
          InputError: another batch than the last one has another size.
        """
        smaller = None
        for number, batch in enumerate(self._checked(epoch, seed), 1):
            if smaller is not None:
                raise self._uneven(number - 1, epoch, smaller)
            if shapes_of(batch) == self.shapes:
                yield batch
            else:
                smaller = self._as_smaller(batch, number, epoch)

    def repeated(self, epoch: int, seed: int) -> Iterator[Any]:
        """The batches of `whole`, again and again."""
        while True:
            is_empty = True
            for batch in self.whole(epoch, seed):
                is_empty = False
                yield batch
            if is_empty:
                raise InputError(f"{self._name} gives no batch of whole size in epoch {epoch}; give one or more")

    def in_order(self) -> Iterator[tuple[Any, np.ndarray]]:
        """All batches of an evaluation, each with its number of examples; only the last may be smaller."""
        ordered = getattr(self._given, "in_order", None)
        batches = self._checked(0, 0) if ordered is None else map(as_arrays, ordered())
        smaller = None
        for number, batch in enumerate(batches, 1):
            if smaller is not None:
                raise self._uneven(number - 1, 0, smaller)
            if shapes_of(batch) != self.shapes:
                smaller = self._as_smaller(batch, number, 0)
            yield batch, np.array(len(jax.tree.leaves(batch)[0]))

    def _read(self, epoch: int, seed: int) -> Iterable[Any]:
        if not callable(self._given):
            return self._given
        found: Any = self._given(epoch, seed=seed) if self.takes_seed else self._given(epoch)
        if not isinstance(found, Iterable):
            raise InputError(
                f"{self._name} gives {shown(type(found).__name__)} for an epoch; give an iterable of batches"
            )
        return found

    def _checked(self, epoch: int, seed: int) -> Iterator[Any]:
        for number, batch in enumerate(self._read(epoch, seed), 1):
            yield as_arrays(batch, f"batch {number} of {self._name} in epoch {epoch}")

    def _as_smaller(self, batch: Any, number: int, epoch: int) -> Any:
        """The shapes of a batch that may be the last one of an epoch."""
        shapes = shapes_of(batch)
        rows = [each.shape[0] for each in jax.tree.leaves(shapes)]
        if rows[0] > self.size or shapes != with_examples(self.shapes, rows[0]):
            raise self._uneven(number, epoch, shapes)
        return shapes

    def _uneven(self, number: int, epoch: int, shapes: Any) -> InputError:
        return InputError(
            f"batch {number} of {self._name} in epoch {epoch} has {shape_words(shapes)}, and the first one has "
            f"{shape_words(self.shapes)}; give batches of one shape, of which the last alone may be smaller"
        )


def as_arrays(batch: Any, where: str = "a batch") -> Any:
    """A batch as arrays of NumPy, in the types that JAX computes in.

    Args:
      batch: a pytree of arrays; a list at its top counts as a tuple.
      where: the batch in messages.

    Raises:
      InputError: a leaf is no array of numbers, or the first axes differ.
    """

    def array(leaf: Any) -> np.ndarray:
        value = np.asarray(leaf)
        if not value.ndim or not (jnp.issubdtype(value.dtype, jnp.number) or value.dtype == bool):
            raise InputError(
                f"{where} holds {shown(leaf)}; give arrays of numbers whose first axis is that of the examples"
            )
        return value.astype(jax.dtypes.canonicalize_dtype(value.dtype), copy=False)

    arrays = jax.tree.map(array, tuple(batch) if isinstance(batch, list) else batch)
    sizes = {len(leaf) for leaf in jax.tree.leaves(arrays)}
    if len(sizes) != 1 or 0 in sizes:
        raise InputError(
            f"{where} has {shape_words(shapes_of(arrays)) or 'no arrays'}; give arrays with the same number of examples, one or "
            "more"
        )
    return arrays


def shapes_of(arrays: Any) -> Any:
    """Shapes and types of arrays."""
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), arrays)


def with_examples(shapes: Any, count: int) -> Any:
    """Shapes and types of a batch with another number of examples."""
    return jax.tree.map(lambda each: jax.ShapeDtypeStruct((count, *each.shape[1:]), each.dtype), shapes)


def one_example(shapes: Any) -> Any:
    """A batch of zeros with one example."""
    return jax.tree.map(lambda each: jnp.zeros(each.shape, each.dtype), with_examples(shapes, 1))


def shape_words(shapes: Any) -> str:
    """Shapes and types in one line."""
    return ", ".join(f"{each.dtype}{list(each.shape)}" for each in jax.tree.leaves(shapes))


def _takes_seed(given: object, name: str) -> bool:
    if callable(given):
        parameters = inspect.signature(given).parameters.values()
        return any(each.name == "seed" for each in parameters)
    if not isinstance(given, Iterable):
        raise InputError(
            f"{name} is {shown(given)}; give a function from the epoch to its batches, a list of batches, or jdarts.ArrayBatches"
        )
    if isinstance(given, Iterator):
        raise InputError(
            f"{name} is {shown(type(given).__name__)}, which can be read once; give a function from the epoch to its batches"
        )
    return False
