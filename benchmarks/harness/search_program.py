"""The program of a search, with images to read."""

import jax.numpy as jnp
import numpy as np

from jdarts.data import Augmentation
from jdarts.methods.presets import DARTS
from jdarts.search.building import program_from_config
from jdarts.search.config import Hypergradient, SearchConfig
from jdarts.search.step import Images, SearchProgram

from .setup import Size


def search_program(
    size: Size,
    hypergradient: Hypergradient,
    draw: np.random.Generator,
    *,
    count: int,
    padding: int,
    method: str = DARTS,
) -> tuple[SearchProgram, Images]:
    """The functions of a search on random images, the same for both halves.

    Args:
      size: of the network and its batches.
      hypergradient: the estimator.
      draw: draws the images.
      count: number of images of each half.
      padding: of the augmentation, in pixels.
      method: the search method.
    """
    shape = (size.image_size, size.image_size, 3)
    program = program_from_config(
        SearchConfig(
            channels=size.channels,
            cells=size.cells,
            nodes=size.nodes,
            batch_size=size.batch,
            hypergradient=hypergradient,
            method=method,
        ),
        image_shape=shape,
        classes=size.classes,
        counts=(count, count),
        augmentation=Augmentation(padding=padding, flip=True),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )
    pixels = jnp.asarray(draw.integers(256, size=(count, *shape)), jnp.uint8)
    labels = jnp.asarray(draw.integers(size.classes, size=count), jnp.int32)
    return program, Images(pixels, labels, pixels, labels)
