"""Trained networks in memory: weights with what is needed to use them, made of a description in JSON data."""

import contextlib
import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.data import normalise
from jdarts.data.checks import check_statistics
from jdarts.errors import InputError
from jdarts.genotype import Genotype, parse_genotype
from jdarts.nets.discrete import DiscreteNetwork, check_images_of, check_network

#: Pixels of the longest side of images.
LONGEST_SIDE = 16_384


@dataclasses.dataclass(frozen=True)
class ImageFormat:
    """What images a network reads.

    Attributes:
      shape: `(H, W, C)`.
      mean: per channel, on the scale 0..1.
      std: per channel, on the scale 0..1.
      class_names: one name per class; empty where they are not known.

    Raises:
      InputError: a size that no image has, or statistics that do not fit the channels or the scale.
    """

    shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or not all(type(size) is int and 1 <= size <= LONGEST_SIDE for size in self.shape):
            raise InputError(
                f"images are [H, W, C] = {list(self.shape)}; give whole numbers from 1 to {LONGEST_SIDE:,} for each"
            )
        check_statistics(self.mean, self.std, self.shape[2])


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedNetwork:
    """A network with its weights, in use: without auxiliary head.

    Attributes:
      network: the network.
      variables: `{'params': …, 'batch_stats': …}`.
      images: what it reads.

    Raises:
      InputError: the network cannot read images of this size, has another number of classes than there are names, or has a
        weight or a running statistic that is not finite.
    """

    network: DiscreteNetwork
    variables: Mapping[str, Any]
    images: ImageFormat

    def __post_init__(self) -> None:
        height, width, _ = self.images.shape
        check_images_of(self.network, height, width)
        names = len(self.images.class_names)
        if names not in (0, self.network.classes):
            raise InputError(f"{names} class names for {self.network.classes} classes; give one for each")
        for place, leaf in jax.tree.leaves_with_path(dict(self.variables)):
            if not np.isfinite(leaf).all():
                name = jax.tree_util.keystr(place, simple=True, separator="/")
                raise InputError(
                    f"{name!r} holds values that are not finite (NaN or infinity): its training has diverged; use another "
                    "file or checkpoint"
                )

    def apply(self, variables: Mapping[str, Any], images: jax.Array | np.ndarray) -> jax.Array:
        """The network with any variables: raw images, uint8 `[B, H, W, C]`, to logits `[B, classes]`. A pure function."""
        normal = normalise(images, mean=self.images.mean, std=self.images.std, dtype=self.network.dtype)
        return self.network.apply(dict(variables), normal, train=False, rngs={"noise": jax.random.key(0)})[0]

    def logits(self, images: jax.Array | np.ndarray) -> jax.Array:
        """`apply` with the network's own variables, which are constants of a program that is made of it."""
        return self.apply(jax.tree.map(jnp.asarray, dict(self.variables)), images)


def described_network(
    description: Mapping[str, Any], dtypes: set[np.dtype[Any]], modules: Iterable[str]
) -> DiscreteNetwork:
    """The network that a description tells.

    Args:
      description: with `genotype` and `network`.
      dtypes: the types of its arrays.
      modules: names of the modules that have arrays.

    Raises:
      InputError: arrays of several types or of other numbers than floats, or another number of cells than is told.
    """
    settings = description["network"]
    cells = sum(name.startswith("cell") for name in modules)
    if settings["cells"] != cells:
        raise InputError(
            f"its description tells {settings['cells']} cells, it holds {cells}; use another file or checkpoint"
        )
    dtype = next(iter(dtypes), np.dtype(np.float32))
    if len(dtypes) > 1 or not jnp.issubdtype(dtype, jnp.floating):
        found = ", ".join(sorted(map(str, dtypes)))
        raise InputError(f"arrays of the types {found}; a network has one type of floats: save it again")
    network = DiscreteNetwork(
        genotype=parse_genotype(json.dumps(description["genotype"]), Genotype),
        stem=settings["stem"],
        channels=settings["channels"],
        cells=settings["cells"],
        classes=settings["classes"],
        auxiliary=False,
        dtype=jnp.dtype(dtype),
    )
    check_network(network)
    return network


def image_format(fields: Mapping[str, Any]) -> ImageFormat:
    """What a description tells of the images."""
    return ImageFormat(
        tuple(fields["shape"]), tuple(fields["mean"]), tuple(fields["std"]), tuple(map(str, fields["class_names"]))
    )


@contextlib.contextmanager
def description_of(path: Path) -> Iterator[None]:
    """Names a file or folder in the errors of its description; what the description lacks is such an error too."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is nothing that jdarts has written: its description does not tell the network ({error!r:.80}); use another "
            "file or checkpoint"
        ) from None
