"""The two halves of a training set, as steps and evaluation read them."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jdarts import data
from jdarts.errors import InputError
from jdarts.nets.layers import check_image_size
from jdarts.search.config import SearchConfig
from jdarts.search.step import Images, Rows


class SearchImages:
    """The images of a search: whole halves on the device, or batches that the host gathers.

    Args:
      config: the settings.
      dataset: the images.

    Attributes:
      train: the weights' half.
      valid: the alphas' half.
      on_device: whether the images live on the device.

    Raises:
      InputError: a half has less than a batch, or the size of the images does not fit the reductions.
    """

    def __init__(self, config: SearchConfig, dataset: data.ImageDataset) -> None:
        self._batch = config.batch_size
        self.train, self.valid = data.halves(dataset.train, fraction=config.train_fraction)
        for what, split in (("weights", self.train), ("alphas", self.valid)):
            if len(split) < config.batch_size:
                raise InputError(
                    f"--batch-size is {config.batch_size}, but the part of {dataset.name} that trains the {what} has "
                    f"{len(split)} images; give {len(split)} or less"
                )
        check_image_size(*dataset.image_shape[:2], config.cells)
        self.on_device = _fit(config, self.train, self.valid)
        whole = Images(self.train.images, self.train.labels, self.valid.images, self.valid.labels)
        self._images = jax.device_put(whole) if self.on_device else whole

    @property
    def steps_per_epoch(self) -> int:
        """Whole batches of the weights' half."""
        return len(self.train) // self._batch

    def step_shapes(self) -> tuple[Images, Rows]:
        """Shapes and types of `step_inputs`."""
        row = jax.ShapeDtypeStruct((self._batch,), jnp.int32)
        leading = {} if self.on_device else {"batch": self._batch}
        shapes = (_shape(array, **leading) for array in self._images)
        return Images(*shapes), Rows(row, row)

    def step_inputs(self, rows: Rows, place: int) -> tuple[Images, Rows]:
        """What one step reads.

        Args:
          rows: rows of all steps of an epoch, `[steps, B]`.
          place: which of them.
        """
        train, valid = rows.train[place], rows.valid[place]
        if self.on_device:
            return self._images, Rows(train, valid)
        gathered = Images(*self.train[np.asarray(train)], *self.valid[np.asarray(valid)])
        every = jnp.arange(self._batch, dtype=jnp.int32)
        return jax.device_put(gathered), Rows(every, every)

    def evaluation_shapes(self) -> tuple[jax.ShapeDtypeStruct, ...]:
        """Shapes and types of `evaluation_batches`: images, labels, mask."""
        flags = jax.ShapeDtypeStruct((self._batch,), jnp.bool)
        return _shape(self.valid.images, self._batch), _shape(self.valid.labels, self._batch), flags

    def evaluation_batches(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The alphas' half in batches of one size; the last is filled up, and a mask says which images count."""
        for start in range(0, len(self.valid), self._batch):
            index = np.arange(start, start + self._batch)
            mask = index < len(self.valid)
            yield *self.valid[np.where(mask, index, 0)], mask


def _fit(config: SearchConfig, *splits: data.ImageSplit) -> bool:
    if config.images_on != "auto":
        return config.images_on == "device"
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit is None or 4 * sum(split.images.nbytes for split in splits) <= limit


def _shape(array: np.ndarray | jax.Array, batch: int | None = None) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((batch or len(array), *array.shape[1:]), array.dtype)
