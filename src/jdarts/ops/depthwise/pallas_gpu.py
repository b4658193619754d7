"""The joint depthwise functions as Pallas kernels for NVIDIA's GPUs, which Triton compiles: one for each kind of kernel.

A program computes a block of pixels and channels. For every tap it loads the pixels that the tap reads, by their addresses, from
maps as they lie in memory; the processor's cache holds what several taps read. The kernel gradient adds up chunks of pixels, and
an operation of XLA adds up the chunks.

The compiler for an H100 accepts the kernels. No GPU has run them.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.ops.depthwise.kinds import Kind, Pairs
from jdarts.ops.precision import wide_type
from jdarts.xla.jax_compat import pallas, pallas_triton, shape_beside

#: Numbers of a block, and the most channels of one. Blocks of a kernel gradient: four for each of an H100's processors.
_NUMBERS, _CHANNELS, _BLOCKS = 512, 64, 528


class _Maps(NamedTuple):
    """How maps `[rows, B, H, W, C]` lie in memory, and the blocks that they are cut into."""

    batch: int
    height: int
    width: int
    channels: int

    @classmethod
    def of(cls, array: Any) -> "_Maps":
        return cls(*array.shape[-4:])

    @property
    def pixels(self) -> int:
        """Pixels of a row."""
        return self.batch * self.height * self.width

    @property
    def block(self) -> tuple[int, int]:
        """Pixels and channels of a block, powers of two."""
        channels = min(_CHANNELS, pallas().next_power_of_2(self.channels))
        return _NUMBERS // channels, channels

    @property
    def blocks(self) -> tuple[int, int]:
        """The numbers of blocks of pixels and of channels."""
        pixels, channels = self.block
        return -(-self.pixels // pixels), -(-self.channels // channels)

    def places(self, row: Any, image: Any, i: Any, j: Any, channel: Any) -> Any:
        """Where the numbers of pixels are, `[pixels, channels]`; those of pixels outside an image are anywhere."""
        i, j = jnp.clip(i, 0, self.height - 1), jnp.clip(j, 0, self.width - 1)
        pixel = ((row * self.batch + image) * self.height + i) * self.width + j
        return pixel[:, None] * self.channels + channel[None]

    def has(self, i: Any, j: Any) -> Any:
        """Whether pixels lie inside an image."""
        return (i >= 0) & (i < self.height) & (j >= 0) & (j < self.width)


class _Pixels(NamedTuple):
    """The pixels and channels of a block: their images, rows, columns and numbers, and whether there are such."""

    image: Any
    i: Any
    j: Any
    real: Any
    channel: Any
    real_channel: Any

    @classmethod
    def of(cls, maps: _Maps, block: Any, channels: Any) -> "_Pixels":
        count, width = maps.block
        pixel = block * count + jnp.arange(count, dtype=jnp.int32)
        channel = channels * width + jnp.arange(width, dtype=jnp.int32)
        of_image = maps.height * maps.width
        places = pixel // of_image, pixel // maps.width % maps.height, pixel % maps.width
        return cls(*places, pixel < maps.pixels, channel, channel < maps.channels)

    def both(self, mask: Any) -> Any:
        """A mask of pixels, with that of channels: `[pixels, channels]`."""
        return (mask & self.real)[:, None] & self.real_channel[None]


def _load(array: Any, places: Any, mask: Any) -> Any:
    found = pallas_triton().load(array.at[places], mask=mask, other=0)
    return found.astype(wide_type(found.dtype))


def forward(pairs: Pairs, kind: Kind, stride: int, interpret: bool) -> jax.Array:
    """x `[S, B, H, W, C]` and taps `[k², S, T, C]` → `[S, T, B, H', W', C]`."""
    x, taps = pairs[0]
    sources, targets, dtype = x.shape[0], taps.shape[2], x.dtype
    read = _Maps.of(x)
    made = read._replace(height=-(-read.height // stride), width=-(-read.width // stride))

    def kernel(*refs: Any) -> None:
        images, kernels, out = refs[: len(pairs)], refs[len(pairs) : -1], refs[-1]
        edge, own = pallas().program_id(1), _Pixels.of(made, pallas().program_id(0), pallas().program_id(2))
        total = jnp.zeros(made.block, wide_type(dtype))
        for x, kernel in zip(images, kernels):
            for n, (down, right) in enumerate(kind.offsets()):
                i, j = own.i * stride + down, own.j * stride + right
                values = _load(x, read.places(edge // targets, own.image, i, j, own.channel), own.both(read.has(i, j)))
                total += values * _tap(kernel, n * sources * targets + edge, own, made)
        places = made.places(edge, own.image, own.i, own.j, own.channel)
        pallas_triton().store(out.at[places], total.astype(dtype), mask=own.both(own.real))

    blocks = made.blocks
    shape = (sources, targets, *made)
    return _call(kernel, pairs, shape, dtype, (blocks[0], sources * targets, blocks[1]), interpret)


def _tap(kernel: Any, row: Any, own: _Pixels, maps: _Maps) -> Any:
    return _load(kernel, row * maps.channels + own.channel, own.real_channel)[None]


def input_gradient(pairs: Pairs, kind: Kind, stride: int, size: tuple[int, int], interpret: bool) -> jax.Array:
    """y `[S, T, B, H', W', C]` and taps `[k², S, T, C]` → `[S, B, H, W, C]`."""
    y = pairs[0][0]
    sources, targets, dtype = *y.shape[:2], y.dtype
    read = _Maps.of(y)
    made = read._replace(height=size[0], width=size[1])

    def kernel(*refs: Any) -> None:
        images, kernels, out = refs[: len(pairs)], refs[len(pairs) : -1], refs[-1]
        source, own = pallas().program_id(1), _Pixels.of(made, pallas().program_id(0), pallas().program_id(2))

        def of_target(target: Any, total: Any) -> Any:
            edge = source * targets + target
            for y, kernel in zip(images, kernels):
                for n, (down, right) in enumerate(kind.offsets()):
                    # Shifted to numbers above 0, which Triton and Python divide alike.
                    i, j = own.i - down + stride * kind.padding, own.j - right + stride * kind.padding
                    inside = (i % stride == 0) & (j % stride == 0)
                    i, j = i // stride - kind.padding, j // stride - kind.padding
                    values = _load(
                        y, read.places(edge, own.image, i, j, own.channel), own.both(inside & read.has(i, j))
                    )
                    total += values * _tap(kernel, n * sources * targets + edge, own, made)
            return total

        total = lax.fori_loop(jnp.int32(0), jnp.int32(targets), of_target, jnp.zeros(made.block, wide_type(dtype)))
        places = made.places(source, own.image, own.i, own.j, own.channel)
        pallas_triton().store(out.at[places], total.astype(dtype), mask=own.both(own.real))

    blocks = made.blocks
    return _call(kernel, pairs, (sources, *made), dtype, (blocks[0], sources, blocks[1]), interpret)


def kernel_gradient(pairs: Pairs, kind: Kind, stride: int, interpret: bool) -> jax.Array:
    """x `[S, B, H, W, C]` and y `[S, T, B, H', W', C]` → taps `[k², S, T, C]`. A program has a row of taps."""
    x, y = pairs[0]
    sources, targets, dtype, wide = *y.shape[:2], x.dtype, wide_type(x.dtype)
    read, given = _Maps.of(x), _Maps.of(y)
    edges, blocks = sources * targets, given.blocks
    chunks = max(1, min(blocks[0], _BLOCKS // (edges * kind.size * blocks[1])))
    turns = -(-blocks[0] // chunks)

    def kernel(*refs: Any) -> None:
        images, results, out = refs[: len(pairs)], refs[len(pairs) : -1], refs[-1]
        chunk, channels = pallas().program_id(0), pallas().program_id(2)
        edge, tap_row = pallas().program_id(1) // kind.size, pallas().program_id(1) % kind.size
        down = tap_row * kind.dilation - kind.padding

        def turn(number: Any, sums: Any) -> Any:
            own = _Pixels.of(given, chunk * turns + number, channels)
            sums = list(sums)
            for x, y in zip(images, results):
                factor = _load(y, given.places(edge, own.image, own.i, own.j, own.channel), own.both(own.real))
                for n in range(kind.size):
                    i, j = own.i * stride + down, own.j * stride + (n * kind.dilation - kind.padding)
                    places = read.places(edge // targets, own.image, i, j, own.channel)
                    sums[n] += factor * _load(x, places, own.both(read.has(i, j)))
            return tuple(sums)

        sums = lax.fori_loop(jnp.int32(0), jnp.int32(turns), turn, (jnp.zeros(given.block, wide),) * kind.size)
        own = _Pixels.of(given, 0, channels)
        for n, each in enumerate(sums):
            row = (chunk * kind.taps + tap_row * kind.size + n) * edges + edge
            places = row * given.channels + own.channel
            pallas_triton().store(out.at[places], jnp.sum(each, axis=0), mask=own.real_channel)

    shape = (chunks, kind.taps, sources, targets, given.channels)
    parts = _call(kernel, pairs, shape, wide, (chunks, edges * kind.size, blocks[1]), interpret)
    return jnp.sum(parts, axis=0).astype(dtype)


def _call(kernel: Any, pairs: Pairs, shape: tuple[int, ...], dtype: Any, grid: tuple[int, ...], interpret: bool) -> Any:
    """Calls a kernel of flat arrays: the first factors of all terms, the second ones, the result."""
    operands = [array.reshape(-1) for factors in zip(*pairs) for array in factors]
    size = math.prod(shape)
    out = pallas().pallas_call(
        kernel,
        shape_beside(operands[0], (size,), dtype),
        grid=grid,
        interpret=interpret,
        compiler_params=pallas_triton().CompilerParams(num_warps=4),
    )(*operands)
    return out.reshape(shape)
