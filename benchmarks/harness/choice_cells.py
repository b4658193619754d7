"""The search network of DARTS as a user writes it: layers of Flax, and a `jdarts.Choice` on every edge."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

import jdarts
from jdarts.space import SearchSpace, reduction_cells


def norm(name: str | None = None) -> nn.BatchNorm:
    """A batch norm without scale and shift, as every operation of the search has it."""
    return nn.BatchNorm(use_running_average=False, use_bias=False, use_scale=False, name=name)


class ReluConvNorm(nn.Module):
    """A relu, a convolution of 1×1 and a norm."""

    channels: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to `[B, H, W, channels]`."""
        return norm()(nn.Conv(self.channels, (1, 1), use_bias=False)(nn.relu(x)))


class FactorizedReduce(nn.Module):
    """Two convolutions of 1×1 with stride 2, the second one shifted by a pixel."""

    channels: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to half the sides."""
        x = nn.relu(x)
        halves = [nn.Conv(self.channels // 2, (1, 1), strides=2, use_bias=False)(each) for each in (x, x[:, 1:, 1:])]
        return norm()(jnp.concatenate(halves, axis=-1))


class Separable(nn.Module):
    """Relu, depthwise convolution, convolution of 1×1 and norm, `times` times."""

    channels: int
    side: int
    stride: int
    dilation: int
    times: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, channels]` to sides divided by the stride."""
        for number in range(self.times):
            x = nn.Conv(
                self.channels,
                (self.side, self.side),
                strides=1 if number else self.stride,
                padding=self.dilation * (self.side - 1) // 2,
                kernel_dilation=self.dilation,
                feature_group_count=self.channels,
                use_bias=False,
            )(nn.relu(x))
            x = norm()(nn.Conv(self.channels, (1, 1), use_bias=False)(x))
        return x


class Pool(nn.Module):
    """A pool of 3×3 and a norm."""

    stride: int
    mean: bool

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """`[B, H, W, C]` to sides divided by the stride."""
        settings: Any = {"strides": (self.stride, self.stride), "padding": ((1, 1), (1, 1))}
        if self.mean:
            return norm()(nn.avg_pool(x, (3, 3), count_include_pad=False, **settings))
        return norm()(nn.max_pool(x, (3, 3), **settings))


def operation(name: str, channels: int, stride: int) -> Callable[..., Any] | None:
    """A candidate of an edge; None for zeros."""
    if name == "none":
        return None
    if name == "skip_connect":
        return FactorizedReduce(channels) if stride > 1 else lambda x: x
    if name.endswith("pool_3x3"):
        return Pool(stride, mean=name.startswith("avg"))
    kind, _, side = name.split("_")
    dilation, times = (2, 1) if kind == "dil" else (1, 2)
    return Separable(channels, int(side[0]), stride, dilation, times)


class EdgeByEdge(nn.Module):
    """The network: cells of a kind share the alphas of each edge by its name.

    Attributes:
      space: the search space.
      channels: of the first cells.
      cells: their number.
      classes: number of classes.
    """

    space: SearchSpace
    channels: int
    cells: int
    classes: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Images `[B, H, W, 3]` to logits `[B, classes]`."""
        x = nn.Conv(3 * self.channels, (3, 3), use_bias=False)(images)
        s0 = s1 = nn.BatchNorm(use_running_average=False)(x)
        channels, reduced = self.channels, False
        for number in range(self.cells):
            reduces = number in reduction_cells(self.cells)
            channels *= 2 if reduces else 1
            s0, s1 = s1, self.cell(number, s0, s1, channels, reduces, reduced)
            reduced = reduces
        return nn.Dense(self.classes)(jnp.mean(s1, axis=(1, 2)))

    def cell(self, number: int, s0: jax.Array, s1: jax.Array, channels: int, reduces: bool, reduced: bool) -> jax.Array:
        """One cell: the sum of the choices on the edges into each node, and the nodes side by side."""
        kind, edge = "reduce" if reduces else "normal", 0
        states = [(FactorizedReduce if reduced else ReluConvNorm)(channels)(s0), ReluConvNorm(channels)(s1)]
        for _ in range(self.space.nodes):
            total: Any = 0
            for source, state in enumerate(states):
                stride = 2 if reduces and source < 2 else 1
                names = self.space.operations(kind)[edge]
                candidates = {name: operation(name, channels, stride) for name in names}
                choice = jdarts.Choice(candidates, shared=f"{kind}{edge}", name=f"cell{number}_edge{edge}")
                total, edge = total + choice(state), edge + 1
            states.append(total)
        return jnp.concatenate([states[place] for place in self.space.concat], axis=-1)
