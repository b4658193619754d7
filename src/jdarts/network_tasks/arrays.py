"""Arrays as shuffled batches."""

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jdarts.errors import InputError, shown
from jdarts.network_tasks.batches import as_arrays


class ArrayBatches:
    """Batches of arrays for `jdarts.NetworkTask`, in another order in each epoch.

    The order follows from the seed of the run and the epoch. Examples that are left over are in no batch of this epoch; an
    evaluation reads all of them, in their order.

    Args:
      arrays: a pytree of arrays whose first axes are the examples, such as `(x, y)`, or `((left, right), y)` for a network with
        two arguments.
      batch_size: examples of a batch.
      shuffle: whether to shuffle.

    Raises:
      InputError: arrays of different lengths, or fewer examples than a batch.
    """

    def __init__(self, arrays: Any, batch_size: int, *, shuffle: bool = True) -> None:
        if type(batch_size) is not int or batch_size < 1:
            raise InputError(f"batch_size is {shown(batch_size)}; give a whole number of 1 or more")
        self._arrays = as_arrays(arrays, "jdarts.ArrayBatches")
        self._count = len(jax.tree.leaves(self._arrays)[0])
        if self._count < batch_size:
            raise InputError(
                f"batch_size is {batch_size}, and the arrays have {self._count} examples; give {self._count} or less"
            )
        self._batch, self._shuffle = batch_size, shuffle

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self._count // self._batch

    def __call__(self, epoch: int, *, seed: int = 0) -> Iterator[Any]:
        """The batches of an epoch, which is counted from 0."""
        order = np.arange(self._count)
        if self._shuffle:
            order = np.random.default_rng((seed, epoch)).permutation(self._count)
        for start in range(0, len(self) * self._batch, self._batch):
            yield self._rows(order[start : start + self._batch])

    def in_order(self) -> Iterator[Any]:
        """All examples in their order; the last batch may be smaller."""
        for start in range(0, self._count, self._batch):
            yield self._rows(slice(start, start + self._batch))

    def _rows(self, rows: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf[rows], self._arrays)
