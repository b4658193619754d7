"""Kinds of depthwise kernels, and the table of taps that holds kernels of several kinds."""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Kind(NamedTuple):
    """A kind of kernel: it is `size`×`size` pixels, `dilation` apart."""

    size: int
    dilation: int

    @property
    def padding(self) -> int:
        """Zeros around an image on every side."""
        return self.dilation * (self.size - 1) // 2

    @property
    def taps(self) -> int:
        """The number of taps."""
        return self.size**2

    def offsets(self) -> list[tuple[int, int]]:
        """Where each tap reads, in pixels down and to the right of the kernel's centre, in row order."""
        steps = range(-self.padding, self.padding + 1, self.dilation)
        return list(itertools.product(steps, steps))


Kinds = tuple[Kind, ...]
#: Terms of a bilinear function: both factors of each.
Pairs = Sequence[tuple[jax.Array, jax.Array]]


def each_kind(kinds: Kinds) -> list[tuple[int, Kind, slice]]:
    """The number of each kind, the kind, and its rows of the table of taps."""
    ends = list(itertools.accumulate((kind.taps for kind in kinds), initial=0))
    return [(number, kind, slice(ends[number], ends[number + 1])) for number, kind in enumerate(kinds)]


def images_of(x: jax.Array, number: int) -> jax.Array:
    """The images that a kind reads: `x [G, …]` has a row for each kind (G = M), or one for all."""
    return x[number if x.shape[0] > 1 else 0]


class Run(NamedTuple):
    """Kinds of one size that follow on one another: their numbers, and their rows of the table of taps."""

    numbers: range
    taps: slice


def runs(kinds: Kinds) -> Iterator[Run]:
    """The longest runs of kinds of one size."""
    number = tap = 0
    for size, members in itertools.groupby(kinds, key=lambda kind: kind.size):
        count = len(list(members))
        yield Run(range(number, number + count), slice(tap, tap + count * size**2))
        number, tap = number + count, tap + count * size**2


def table_of_taps(kernels: Sequence[jax.Array]) -> jax.Array:
    """Kernels of several kinds, `[S, T, k, k, C]` each, as one table `[taps of all kinds, S, T, C]`."""
    return jnp.concatenate([jnp.moveaxis(k.reshape(*k.shape[:2], -1, k.shape[-1]), 2, 0) for k in kernels])
