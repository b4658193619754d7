"""Augmentation as a pure function with a key, made to run inside a jitted step."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jdarts.errors import InputError


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """The augmentation of training images; 0 or False switches a part off.

    Attributes:
      padding: Black pixels added on each side before a random crop to the original size.
      flip: Whether an image is mirrored left to right with probability 0.5.
      cutout: Side in pixels of the one square that is blanked (DeVries and Taylor 2017).

    Raises:
      InputError: A size is negative.
    """

    padding: int = 0
    flip: bool = False
    cutout: int = 0

    def __post_init__(self) -> None:
        for name in ("padding", "cutout"):
            if getattr(self, name) < 0:
                raise InputError(f"{name} is {getattr(self, name)}; give a number of pixels, 0 to switch it off")

    def changed(self, *, padding: int | None, flip: bool | None, cutout: int) -> "Augmentation":
        """The augmentation with other settings; None keeps the present one."""
        return Augmentation(
            padding=self.padding if padding is None else padding,
            flip=self.flip if flip is None else flip,
            cutout=cutout,
        )


class AugmentationDraws(NamedTuple):
    """The random numbers of one batch.

    Attributes:
      crop: int32 `[B, 2]`, top and left edge of the crop in the padded image, each in `0..2·padding`.
      flip: bool `[B]`, whether the image is mirrored.
      cutout: int32 `[B, 2]`, row and column of the blanked square's centre.
    """

    crop: jax.Array
    flip: jax.Array
    cutout: jax.Array


def augment(
    key: jax.Array,
    images: jax.Array | np.ndarray,
    augmentation: Augmentation,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    first: jax.Array | int = 0,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Crops, mirrors, normalises and blanks a part of each image of a batch.

    The order is the reference implementation's: the crop's padding is black (0 before normalisation), the
    blanked square is the mean colour (0 after it). An image's augmentation depends on the key and on its
    position in the batch alone, not on the batch's size.

    Args:
      key: One random key for the batch.
      images: uint8 `[B, H, W, C]`.
      augmentation: The settings; static under jit.
      mean: Per channel, on the scale 0..1; static under jit.
      std: Per channel, on the scale 0..1; static under jit.
      first: Position of the first image in the batch, if the images are a device's share of it.
      dtype: Floating-point type of the result.

    Returns:
      `[B, H, W, C]`, normalised.

    Raises:
      InputError: The images are not uint8 `[B, H, W, C]`, or mean or std do not fit their channels.
    """
    _check(images, mean, std)
    if augmentation == Augmentation():
        return normalise(images, mean=mean, std=std, dtype=dtype)
    draws = draw_augmentation(key, images.shape, augmentation, first=first)
    return apply_augmentation(draws, images, augmentation, mean=mean, std=std, dtype=dtype)


def draw_augmentation(
    key: jax.Array, shape: tuple[int, ...], augmentation: Augmentation, *, first: jax.Array | int = 0
) -> AugmentationDraws:
    """Draws the random numbers of `augment` for images of shape `[B, H, W, C]`; `first` as for `augment`."""
    batch, height, width, _ = shape
    places = 2 * augmentation.padding + 1
    ends = jnp.array([places, places, 2, height, width], jnp.float32)

    def draw(position: jax.Array) -> AugmentationDraws:
        # One uniform draw of five numbers compiles and runs several times faster than five integer draws.
        uniform = jax.random.uniform(jax.random.fold_in(key, position), (5,), jnp.float32)
        drawn = jnp.floor(uniform * ends).astype(jnp.int32)
        return AugmentationDraws(crop=drawn[:2], flip=drawn[2] == 1, cutout=drawn[3:])

    return jax.vmap(draw)(jnp.arange(batch, dtype=jnp.int32) + jnp.asarray(first, jnp.int32))


def apply_augmentation(
    draws: AugmentationDraws,
    images: jax.Array | np.ndarray,
    augmentation: Augmentation,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """Augments with the given random numbers; arguments and result as for `augment`."""
    _, height, width, _ = images.shape
    if augmentation.padding or augmentation.flip:
        images = _crop_and_flip(draws, images, augmentation)
    normal = normalise(images, mean=mean, std=std, dtype=dtype)
    if not augmentation.cutout:
        return normal
    rows = _within_cutout(draws.cutout[:, 0], height, augmentation.cutout)
    columns = _within_cutout(draws.cutout[:, 1], width, augmentation.cutout)
    blanked = rows[:, :, None] & columns[:, None, :]
    return jnp.where(blanked[..., None], jnp.zeros((), dtype), normal)


def normalise(
    images: jax.Array | np.ndarray,
    *,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """`(images / 255 − mean) / std`, which is all that an evaluation batch needs.

    Args:
      images: uint8 `[B, H, W, C]`.
      mean: Per channel, on the scale 0..1.
      std: Per channel, on the scale 0..1.
      dtype: Floating-point type of the result.

    Returns:
      `[B, H, W, C]` with mean 0 and standard deviation 1 over the training set.

    Raises:
      InputError: The images are not uint8 `[B, H, W, C]`, or mean or std do not fit their channels.
    """
    _check(images, mean, std)
    per_channel = (1, 1, 1, len(mean))
    centre = jnp.array(mean, dtype).reshape(per_channel)
    scale = jnp.array(std, dtype).reshape(per_channel)
    return (jnp.asarray(images).astype(dtype) / jnp.array(255, dtype) - centre) / scale


def _crop_and_flip(draws: AugmentationDraws, images: jax.Array | np.ndarray, augmentation: Augmentation) -> jax.Array:
    """Gathers each output pixel from its source; pixels from outside the image are black."""
    batch, height, width, channels = images.shape
    rows = jnp.arange(height, dtype=jnp.int32)[None, :]
    columns = jnp.arange(width, dtype=jnp.int32)[None, :]
    if augmentation.flip:
        columns = jnp.where(draws.flip[:, None], width - 1 - columns, columns)
    if augmentation.padding:
        rows = rows + (draws.crop[:, :1] - augmentation.padding)
        columns = columns + (draws.crop[:, 1:] - augmentation.padding)
    # One flat index: a gather of whole pixels, several times faster on a CPU than one with three index axes.
    pixels = (
        jnp.arange(batch, dtype=jnp.int32)[:, None, None] * (height * width)
        + jnp.clip(rows, 0, height - 1)[:, :, None] * width
        + jnp.clip(columns, 0, width - 1)[:, None, :]
    )
    moved = jnp.asarray(images).reshape(batch * height * width, channels).at[pixels].get(mode="clip")
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None, :]
    return jnp.where(inside[..., None], moved, jnp.zeros((), jnp.uint8))


def _within_cutout(centre: jax.Array, size: int, side: int) -> jax.Array:
    """Which of `size` places lie within the square of each centre `[B]`: bool `[B, size]`."""
    offset = jnp.arange(size, dtype=jnp.int32)[None, :] - centre[:, None]
    return (offset >= -(side // 2)) & (offset < side - side // 2)


def _check(images: jax.Array | np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    if images.ndim != 4 or images.dtype != jnp.uint8:
        raise InputError(f"images are {images.dtype} {list(images.shape)}; they must be uint8 [B, H, W, C]")
    channels = images.shape[-1]
    if len(mean) != channels or len(std) != channels:
        raise InputError(
            f"images have {channels} channels, mean has {len(mean)} values and std {len(std)}; "
            "give one value per channel"
        )
