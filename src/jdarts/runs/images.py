"""Image splits as steps and evaluations read them: all on the device, or batches that the host gathers."""

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
#: Images, labels, and a mask of those that count.
EvaluationBatches = Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]


class Batch(NamedTuple):
    """The input of a step from one split: all of its images or some, and the rows of the batch.

    Attributes:
      images: uint8 `[N, H, W, C]`.
      labels: int32 `[N]`.
      rows: int32 `[B]`, indices into both.
    """

    images: Any
    labels: Any
    rows: Any


class StepImages:
    """One split as the steps read it.

    Args:
      split: the images.
      batch_size: images of a batch `B`.
      on_device: whether the whole split is on the device.
      devices: those that share a batch; one by default.
    """

    def __init__(
        self, split: data.ImageSplit, batch_size: int, *, on_device: bool, devices: Devices | None = None
    ) -> None:
        self._split = split
        self._batch = batch_size
        self._devices = devices or Devices()
        self._whole = self._devices.replicate((split.images, split.labels)) if on_device else None

    def shapes(self) -> Batch:
        """Shapes and types of `batch`, for the rows of one run."""
        count = self._batch if self._whole is None else len(self._split)
        return batch_shapes(self._split.images.shape[1:], images=count, rows=self._batch)

    def batch(self, rows: jax.Array | np.ndarray) -> Batch:
        """The input of one step.

        Args:
          rows: int32 `[B]`, indices into the split; `[runs, B]` for several runs. Where the whole split is on the device, an
            axis of several steps may follow.
        """
        if self._whole is not None:
            images, labels = self._whole
            return Batch(
                images,
                labels,
                self._devices.split(rows if processes.is_single_process() else self._devices.share(np.asarray(rows))),
            )
        rows = np.asarray(rows)
        if rows.ndim == 1:
            return place_batch(*self._split[self._devices.share(rows)], len(rows), self._devices)
        images, labels = self._split[self._devices.share(rows)]
        places = np.broadcast_to(np.arange(self._batch, dtype=np.int32), labels.shape)
        return Batch(*self._devices.split((images, labels, places)))


def place_batch(
    images: np.ndarray, labels: np.ndarray, count: int | None = None, devices: Devices | None = None
) -> Batch:
    """Places a batch, whose images are already selected, on the devices.

    Args:
      images: uint8 `[B, H, W, C]`, or this process's share of them.
      labels: int32, likewise.
      count: images of the batch `B`; by default the number of labels given.
      devices: those that share it; one by default.
    """
    devices = devices or Devices()
    placed, placed_labels = devices.split((images, labels))
    return Batch(placed, placed_labels, devices.batch_rows(count or len(labels)))


def check_augmentation(augmentation: data.Augmentation, image_shape: tuple[int, ...]) -> None:
    """Checks that augmentation leaves a part of each image `(H, W, C)`.

    Raises:
      InputError: a square that blanks every image whole, or a crop that may lie beside the image.
    """
    height, width = image_shape[:2]
    if augmentation.cutout // 2 >= max(height, width):
        raise InputError(
            f"--cutout is {augmentation.cutout}, and such a square always blanks the whole of an image of {height}×{width}; "
            f"give {max(height, width)} or less, or 0 for none"
        )
    if augmentation.padding >= min(height, width):
        raise InputError(
            f"--padding is {augmentation.padding}, and crops of images of {height}×{width} would lie beside them; give "
            f"{min(height, width) - 1} or less"
        )


def batch_shapes(image_shape: tuple[int, ...], *, images: int, rows: int) -> Batch:
    """Shapes and types of a `Batch`."""
    return Batch(
        jax.ShapeDtypeStruct((images, *image_shape), jnp.uint8),
        jax.ShapeDtypeStruct((images,), jnp.int32),
        jax.ShapeDtypeStruct((rows,), jnp.int32),
    )


def fit_on_device(images_on: ImagesOn, *splits: data.ImageSplit) -> bool:
    """Whether to place these splits on the device: as set, or for auto if they take at most a quarter of its memory."""
    if images_on == "auto" and not processes.is_single_process():
        # Each process reads its share of every batch.
        return False
    if images_on != "auto":
        return images_on == "device"
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit")
    return limit is None or 4 * sum(split.images.nbytes for split in splits) <= limit


def shuffled_rows(key: jax.Array, count: int, *, steps: int, batch_size: int) -> jax.Array:
    """Rows of all steps of an epoch. No row repeats before all others have been used.

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


def rows_of(rows: Any, steps: range) -> Any:
    """The rows of a call.

    Args:
      rows: those of all steps of an epoch, `[…, steps, B]`.
      steps: indices of the steps of the call.

    Returns:
      `[…, B]`, or for several steps `[…, B, steps]`: devices share the axis before.
    """
    if len(steps) == 1:
        return rows[..., steps.start, :]
    return rows[..., steps.start : steps.stop, :].swapaxes(-1, -2)


def check_steps_per_call(steps: int, *, on_device: bool) -> None:
    """Refuses several steps in one call where each step waits for images of the host.

    Args:
      steps: of a call.
      on_device: whether all images are on the device.

    Raises:
      InputError: they are not.
    """
    if steps > 1 and not on_device:
        raise InputError(
            f"--steps-per-call is {steps}, and the host hands over the images of each step; give --images-on device if the "
            "images fit on the device, or leave --steps-per-call out"
        )


def evaluation_shapes(image_shape: tuple[int, ...], batch_size: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Shapes and types of `evaluation_batches`: images, labels, mask."""
    images, labels, _ = batch_shapes(image_shape, images=batch_size, rows=batch_size)
    return images, labels, jax.ShapeDtypeStruct((batch_size,), jnp.bool)


def evaluation_batches(split: data.ImageSplit, batch_size: int) -> EvaluationBatches:
    """A split in batches of one size; the last is padded, and a mask says which images count."""
    for start in range(0, len(split), batch_size):
        index = np.arange(start, start + batch_size)
        mask = index < len(split)
        yield *split[np.where(mask, index, 0)], mask
