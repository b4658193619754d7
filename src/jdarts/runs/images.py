"""Image splits as steps and evaluations read them: whole on the device, or batches that the host gathers."""

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts import data
from jdarts.errors import InputError
from jdarts.runs import processes
from jdarts.runs.devices import Devices

ImagesOn = Literal["auto", "device", "host"]


class Batch(NamedTuple):
    """What a step reads of one split: a whole split or some of its images, and the rows that make up the batch.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      labels: int32 `[N]`.
      rows: int32 `[B]`, places in both.
    """

    images: Any
    labels: Any
    rows: Any


class StepImages:
    """One split as the steps read it.

    Args:
      split: the images.
      batch_size: images of a batch `B`.
      on_device: whether the whole split lives on the device.
      devices: those that share a batch; one where they are not given.
    """

    def __init__(
        self, split: data.ImageSplit, batch_size: int, *, on_device: bool, devices: Devices | None = None
    ) -> None:
        self._split = split
        self._batch = batch_size
        self._devices = devices or Devices()
        self._whole = self._devices.whole((split.images, split.labels)) if on_device else None

    def shapes(self) -> Batch:
        """Shapes and types of `batch`, for the rows of one run."""
        count = self._batch if self._whole is None else len(self._split)
        return batch_shapes(self._split.images.shape[1:], images=count, rows=self._batch)

    def batch(self, rows: jax.Array | np.ndarray) -> Batch:
        """What one step reads.

        Args:
          rows: int32 `[B]`, places in the split; or those of several runs, `[runs, B]`.
        """
        if self._whole is not None:
            images, labels = self._whole
            return Batch(
                images,
                labels,
                self._devices.split(rows if processes.alone() else self._devices.share(np.asarray(rows))),
            )
        rows = np.asarray(rows)
        if rows.ndim == 1:
            return gathered(*self._split[self._devices.share(rows)], len(rows), self._devices)
        images, labels = self._split[self._devices.share(rows)]
        places = np.broadcast_to(np.arange(self._batch, dtype=np.int32), labels.shape)
        return Batch(*self._devices.split((images, labels, places)))


def gathered(images: np.ndarray, labels: np.ndarray, count: int | None = None, devices: Devices | None = None) -> Batch:
    """A batch whose images are already chosen, on its way to the devices.

    Args:
      images: uint8 `[B, H, W, C]`, or this process's share of them.
      labels: int32, likewise.
      count: images of the batch `B`; those that are given where there is one process.
      devices: those that share it; one where they are not given.
    """
    devices = devices or Devices()
    placed, placed_labels = devices.split((images, labels))
    return Batch(placed, placed_labels, devices.rows(count or len(labels)))


def check_augmentation(augmentation: data.Augmentation, image_shape: tuple[int, ...]) -> None:
    """Checks that something is left of an image `(H, W, C)` after its augmentation.

    Raises:
      InputError: a square that blanks every image whole, or a crop that may lie beside the image.
    """
    height, width = image_shape[:2]
    if augmentation.cutout // 2 >= max(height, width):
        raise InputError(
            f"--cutout is {augmentation.cutout}, and such a square blanks images of {height}×{width} whole, wherever it lies; "
            f"give {max(height, width)} or less, or 0 for none"
        )
    if augmentation.padding >= min(height, width):
        raise InputError(
            f"--padding is {augmentation.padding}, and crops of images of {height}×{width} would lie beside them; give "
            f"{min(height, width) - 1} or less"
        )


def batch_shapes(image_shape: tuple[int, ...], *, images: int, rows: int) -> Batch:
    """Shapes and types of a `Batch` of so many images and rows."""
    return Batch(
        jax.ShapeDtypeStruct((images, *image_shape), jnp.uint8),
        jax.ShapeDtypeStruct((images,), jnp.int32),
        jax.ShapeDtypeStruct((rows,), jnp.int32),
    )


def fit_on_device(images_on: ImagesOn, *splits: data.ImageSplit) -> bool:
    """Whether these splits are to live on the device: as said, or if they take at most a quarter of its memory."""
    if images_on == "auto" and not processes.alone():
        # Each process reads its share of every batch.
        return False
    if images_on != "auto":
        return images_on == "device"
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit is None or 4 * sum(split.images.nbytes for split in splits) <= limit


def shuffled_rows(key: jax.Array, count: int, *, steps: int, batch_size: int) -> jax.Array:
    """Rows of all steps of an epoch; each row comes once before one comes again.

    Args:
      key: random key of the epoch.
      count: number of images.
      steps: number of steps.
      batch_size: rows of a step.

    Returns:
      int32 `[steps, B]`.
    """
    needed = steps * batch_size
    passes = -(-needed // count)
    every = jnp.arange(count, dtype=jnp.int32)
    order = jax.vmap(lambda k: jax.random.permutation(k, every))(jax.random.split(key, passes))
    return order.reshape(-1)[:needed].reshape(steps, batch_size)


def evaluation_shapes(image_shape: tuple[int, ...], batch_size: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Shapes and types of `evaluation_batches`: images, labels, mask."""
    images, labels, _ = batch_shapes(image_shape, images=batch_size, rows=batch_size)
    return images, labels, jax.ShapeDtypeStruct((batch_size,), jnp.bool)


def evaluation_batches(split: data.ImageSplit, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """A split in batches of one size; the last is filled up, and a mask says which images count."""
    for start in range(0, len(split), batch_size):
        index = np.arange(start, start + batch_size)
        mask = index < len(split)
        yield *split[np.where(mask, index, 0)], mask
