"""Trained networks in memory: a network with its weights and image format, built from a JSON description."""

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

#: Longest allowed side of images in pixels.
LONGEST_SIDE = 16_384


@dataclasses.dataclass(frozen=True)
class ImageFormat:
    """The images that a network reads.

    Attributes:
      shape: `(H, W, C)`.
      mean: per channel, on the scale 0..1.
      std: per channel, on the scale 0..1.
      class_names: one name per class; empty if they are unknown.

    Raises:
      InputError: an impossible size, or statistics that do not fit the channels or the scale.
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
    """A network with its weights, without auxiliary head.

    Attributes:
      network: the network.
      variables: `{'params': …, 'batch_stats': …}`.
      images: the images that it reads.

    Raises:
      InputError: the network cannot read images of this size, the number of class names is not that of the classes, or a
        weight or running statistic is not finite.
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
        """A pure function of variables and raw images, uint8 `[B, H, W, C]`, to logits `[B, classes]`."""
        normal = normalise(images, mean=self.images.mean, std=self.images.std, dtype=self.network.dtype)
        return self.network.apply(dict(variables), normal, train=False, rngs={"noise": jax.random.key(0)})[0]

    def logits(self, images: jax.Array | np.ndarray) -> jax.Array:
        """`apply` with the network's variables, which become constants of an exported program."""
        return self.apply(jax.tree.map(jnp.asarray, dict(self.variables)), images)


def build_network(
    description: Mapping[str, Any], dtypes: set[np.dtype[Any]], modules: Iterable[str]
) -> DiscreteNetwork:
    """Builds a network from its description.

    Args:
      description: JSON data with `genotype` and `network`.
      dtypes: the types of its arrays.
      modules: names of the modules that have arrays.

    Raises:
      InputError: the arrays have several types or are not floats, or the number of cells differs from the description.
    """
    settings = description["network"]
    cells = sum(name.startswith("cell") for name in modules)
    if settings["cells"] != cells:
        raise InputError(
            f"its description has {settings['cells']} cells, its arrays {cells}; use another file or checkpoint"
        )
    dtype = next(iter(dtypes), np.dtype(np.float32))
    if len(dtypes) > 1 or not jnp.issubdtype(dtype, jnp.floating):
        types = ", ".join(sorted(map(str, dtypes)))
        raise InputError(f"arrays of the types {types}; a network has one type of floats: save it again")
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
    """Builds the image format from its description."""
    return ImageFormat(
        tuple(fields["shape"]), tuple(fields["mean"]), tuple(fields["std"]), tuple(map(str, fields["class_names"]))
    )


@contextlib.contextmanager
def errors_name_file(path: Path) -> Iterator[None]:
    """Turns errors in the description of a file or folder into an `InputError` that names it."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} was not written by jdarts: its description lacks the network ({error!r:.80}); use another file "
            "or checkpoint"
        ) from None
