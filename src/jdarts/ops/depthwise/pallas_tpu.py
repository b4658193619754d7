"""The joint depthwise functions as Pallas kernels for TPUs: one for each kind of kernel, which writes its result alone.

A vector register holds eight channels of up to 128 images. Pixels are outer axes, so that a shift is another address and no
number changes its lane. A kernel computes a row of an image at a time, from a block of whole images. Images whose blocks do not
fit into a core's memory are left to `grouped_convolutions`.

The compiler for a TPU v5e accepts the kernels. No TPU has run them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jdarts.ops.depthwise import grouped_convolutions
from jdarts.ops.depthwise.kinds import Kind, Pairs
from jdarts.ops.precision import wide_type
from jdarts.xla.jax_compat import pallas, pallas_tpu, shape_beside

_LANES = 128
#: Bytes of a core's memory that a kernel may always take, and the most that it may ask for: a TPU v5e has 128 MiB.
_USUAL, _MOST = 16 << 20, 96 << 20


def forward(pairs: Pairs, kind: Kind, stride: int, interpret: bool) -> jax.Array:
    """x `[S, B, H, W, C]` and taps `[k², S, T, C]` → `[S, T, B, H', W', C]`."""
    (sources, batch, height, width, channels), targets = pairs[0][0].shape, pairs[0][1].shape[2]
    rows, columns = -(-height // stride), -(-width // stride)
    dtype, places = pairs[0][0].dtype, _places(kind)
    reach = 2 * kind.padding // stride
    xs = [_tiles(x, kind.padding, stride, (rows + reach, columns + reach)) for x, _ in pairs]
    block = _Block.of(channels, batch, dtype)

    def kernel(*refs: Any) -> None:
        images, taps, out = refs[: len(pairs)], refs[len(pairs) : -1], refs[-1]

        def row(i: Any, carry: None) -> None:
            total: Any = 0
            for x, tap in zip(images, taps):
                for n, (down, right) in enumerate(places):
                    total += _row(
                        x, (0, down % stride, right % stride), i + down // stride, right // stride, columns
                    ) * _tap(tap, n)
            out[0, 0, i] = total.astype(out.dtype)

        lax.fori_loop(jnp.int32(0), jnp.int32(rows), row, None)

    call = _Call((sources, *block.counts(channels, batch), targets), interpret)
    for x in xs:
        call.reads(x, (1, *x.shape[1:5], *block), lambda s, c, b, t: (s, 0, 0, 0, 0, c, b))
    for _, taps in pairs:
        call.reads(_columns(taps), (1, 1, kind.taps, block.channels, 1), lambda s, c, b, t: (s, t, 0, c, 0))
    shape = (sources, targets, rows, columns, channels, batch)
    call.writes(shape, dtype, (1, 1, rows, columns, *block), lambda s, c, b, t: (s, t, 0, 0, c, b))
    out = call(kernel)
    if out is None:
        grouped = [(x[None], taps) for x, taps in pairs]
        return grouped_convolutions.forward(grouped, kinds=(kind,), stride=stride)[0]
    return jnp.transpose(out, (0, 1, 5, 2, 3, 4))


def input_gradient(pairs: Pairs, kind: Kind, stride: int, size: tuple[int, int], interpret: bool) -> jax.Array:
    """y `[S, T, B, H', W', C]` and taps `[k², S, T, C]` → `[S, B, H, W, C]`.

    Of x, the pixels whose rows and columns leave the same rest when divided by the stride read the same taps.
    """
    sources, targets, batch, rows, columns, channels = pairs[0][0].shape
    dtype, wide = pairs[0][0].dtype, wide_type(pairs[0][0].dtype)
    before = -(-kind.padding // stride)
    reach = before + (stride - 1 + kind.padding) // stride
    ys = [_tiles(y, before, 1, (rows + reach, columns + reach)) for y, _ in pairs]
    block = _Block.of(channels, batch, dtype)

    def kernel(*refs: Any) -> None:
        images, taps, (out, sums) = refs[: len(pairs)], refs[len(pairs) : -2], refs[-2:]
        first = pallas().program_id(3) == 0

        def row(i: Any, carry: None) -> None:
            for a, b in np.ndindex(stride, stride):
                total = jnp.where(first, jnp.zeros((columns, *block), wide), sums[a, b, i])
                for y, tap in zip(images, taps):
                    for n, (down, right) in enumerate(kind.offsets()):
                        if (a - down) % stride == 0 and (b - right) % stride == 0:
                            place = (a - down) // stride + before, (b - right) // stride + before
                            total += _row(y, (0, 0, 0, 0), i + place[0], place[1], columns) * _tap(tap, n)
                sums[a, b, i] = total
                out[0, a, b, i] = total.astype(out.dtype)

        lax.fori_loop(jnp.int32(0), jnp.int32(rows), row, None)

    call = _Call((sources, *block.counts(channels, batch), targets), interpret)
    for y in ys:
        call.reads(y, (1, 1, *y.shape[2:6], *block), lambda s, c, b, t: (s, t, 0, 0, 0, 0, c, b))
    for _, taps in pairs:
        call.reads(_columns(taps), (1, 1, kind.taps, block.channels, 1), lambda s, c, b, t: (s, t, 0, c, 0))
    whole = (stride, stride, rows, columns)
    call.writes(
        (sources, *whole, channels, batch), dtype, (1, *whole, *block), lambda s, c, b, t: (s, 0, 0, 0, 0, c, b)
    )
    call.keeps((*whole, *block), wide)
    out = call(kernel)
    if out is None:
        geometry = {"kinds": (kind,), "stride": stride, "height": size[0], "width": size[1], "shared": True}
        return grouped_convolutions.input_gradient([(y[None], taps) for y, taps in pairs], **geometry)[0]
    # [S, a, b, i, j, C, B] → [S, B, i, a, j, b, C]
    joined = jnp.transpose(out, (0, 6, 3, 1, 4, 2, 5)).reshape(
        sources, batch, rows * stride, columns * stride, channels
    )
    return joined[:, :, : size[0], : size[1]]


def kernel_gradient(pairs: Pairs, kind: Kind, stride: int, interpret: bool) -> jax.Array:
    """x `[S, B, H, W, C]` and y `[S, T, B, H', W', C]` → taps `[k², S, T, C]`."""
    sources, targets, batch, rows, columns, channels = pairs[0][1].shape
    dtype, wide, places = pairs[0][0].dtype, wide_type(pairs[0][0].dtype), _places(kind)
    reach = 2 * kind.padding // stride
    xs = [_tiles(x, kind.padding, stride, (rows + reach, columns + reach)) for x, _ in pairs]
    ys = [_tiles(y, 0, 1, (rows, columns)) for _, y in pairs]
    block = _Block.of(channels, batch, dtype)

    def kernel(*refs: Any) -> None:
        images, results, (out, sums) = refs[: len(pairs)], refs[len(pairs) : -2], refs[-2:]
        sums[...] = jnp.zeros(sums.shape, wide)

        def row(i: Any, carry: None) -> None:
            for x, y in zip(images, results):
                factor = _row(y, (0, 0, 0, 0), i, 0, columns)
                for n, (down, right) in enumerate(places):
                    window = _row(x, (0, down % stride, right % stride), i + down // stride, right // stride, columns)
                    sums[n] += jnp.sum(window * factor, axis=0)

        lax.fori_loop(jnp.int32(0), jnp.int32(rows), row, None)
        total = jnp.sum(sums[...], axis=-1, keepdims=True)
        out[0, 0] = jnp.where(pallas().program_id(3) == 0, total, out[0, 0] + total)

    counts = block.counts(channels, batch)
    call = _Call((sources, counts[0], targets, counts[1]), interpret)
    for x in xs:
        call.reads(x, (1, *x.shape[1:5], *block), lambda s, c, t, b: (s, 0, 0, 0, 0, c, b))
    for y in ys:
        call.reads(y, (1, 1, *y.shape[2:6], *block), lambda s, c, t, b: (s, t, 0, 0, 0, 0, c, b))
    shape = (sources, targets, kind.taps, channels, 1)
    call.writes(shape, wide, (1, 1, kind.taps, block.channels, 1), lambda s, c, t, b: (s, t, 0, c, 0))
    call.keeps((kind.taps, *block), wide)
    out = call(kernel)
    if out is None:
        grouped = [(x[None], y[None]) for x, y in pairs]
        return grouped_convolutions.kernel_gradient(grouped, kinds=(kind,), stride=stride)
    return jnp.transpose(out[..., 0], (2, 0, 1, 3)).astype(dtype)


def _places(kind: Kind) -> list[tuple[int, int]]:
    """Where each tap reads in an image with zeros around it."""
    return [(down + kind.padding, right + kind.padding) for down, right in kind.offsets()]


def _tiles(images: jax.Array, before: int, stride: int, size: tuple[int, int]) -> jax.Array:
    """`[…, B, H, W, C]` with zeros around as `[…, a, b, i, j, C, B]`, the pixel in row `stride · i + a - before`."""
    padding = [(0, 0, 0)] * images.ndim
    for axis, count in zip((-3, -2), size):
        padding[axis] = (before, stride * count - before - images.shape[axis], 0)
    padded = lax.pad(images, jnp.zeros((), images.dtype), padding)
    *outer, batch, _, _, channels = images.shape
    split = padded.reshape(*outer, batch, size[0], stride, size[1], stride, channels)
    kept = range(len(outer))
    return jnp.transpose(split, (*kept, *(len(outer) + n for n in (2, 4, 1, 3, 5, 0))))


def _columns(taps: jax.Array) -> jax.Array:
    """Taps `[k², S, T, C]` as columns of channels in the wide type, `[S, T, k², C, 1]`."""
    return jnp.transpose(taps, (1, 2, 0, 3))[..., None].astype(wide_type(taps.dtype))


def _row(images: Any, first: tuple[int, ...], row: Any, start: int, count: int) -> jax.Array:
    """Pixels of a row of the images in a block, in the wide type: `[count, C, B]`."""
    found = images[(*first, row, pallas().ds(start, count))]
    return found.astype(wide_type(found.dtype))


def _tap(taps: Any, number: int) -> jax.Array:
    """A tap of a block of `_columns`, `[1, C, 1]`."""
    return taps[0, 0, pallas().ds(number, 1)]


class _Block(NamedTuple):
    """Channels and images of a block."""

    channels: int
    images: int

    @classmethod
    def of(cls, channels: int, batch: int, dtype: Any) -> "_Block":
        """As few as a register has, where they divide all."""
        sublanes = _sublanes(dtype)
        return cls(sublanes if channels % sublanes == 0 else channels, _LANES if batch % _LANES == 0 else batch)

    def counts(self, channels: int, batch: int) -> tuple[int, int]:
        """How many blocks of channels and of images there are."""
        return channels // self.channels, batch // self.images


def _sublanes(dtype: Any) -> int:
    return 32 // min(4, jnp.dtype(dtype).itemsize)


class _Call:
    """A call of a kernel, and the memory that its blocks take."""

    def __init__(self, grid: tuple[int, ...], interpret: bool) -> None:
        self._grid, self._interpret = grid, interpret
        self._operands: list[jax.Array] = []
        self._specs: list[Any] = []
        self._scratch: list[Any] = []
        self._out: Any = None
        self._out_spec: Any = None
        self._bytes = 0

    def reads(self, array: jax.Array, block: Sequence[int], index: Callable[..., tuple[Any, ...]]) -> None:
        """Adds an operand."""
        self._operands.append(array)
        self._specs.append(pallas().BlockSpec(tuple(block), index))
        self._bytes += 2 * _bytes(block, array.dtype)

    def writes(
        self, shape: tuple[int, ...], dtype: Any, block: Sequence[int], index: Callable[..., tuple[Any, ...]]
    ) -> None:
        """Names the result."""
        self._out = shape_beside(self._operands[0], shape, dtype)
        self._out_spec = pallas().BlockSpec(tuple(block), index)
        self._bytes += 2 * _bytes(block, dtype)

    def keeps(self, shape: tuple[int, ...], dtype: Any) -> None:
        """Adds memory for sums that a kernel keeps from one block to the next."""
        self._scratch.append(pallas_tpu().VMEM(shape, dtype))
        self._bytes += _bytes(shape, dtype)

    def __call__(self, kernel: Callable[..., None]) -> jax.Array | None:
        """The result; None if the blocks do not fit into a core's memory."""
        needed = self._bytes + (self._bytes >> 2)
        if needed > _MOST:
            return None
        outer = ("parallel",) * (len(self._grid) - 2)
        return pallas().pallas_call(
            kernel,
            self._out,
            grid=self._grid,
            in_specs=self._specs,
            out_specs=self._out_spec,
            scratch_shapes=self._scratch,
            interpret=self._interpret,
            compiler_params=pallas_tpu().CompilerParams(
                dimension_semantics=(*outer, "arbitrary", "arbitrary"), vmem_limit_bytes=max(needed, _USUAL)
            ),
        )(*self._operands)


def _bytes(block: Sequence[int], dtype: Any) -> int:
    *outer, channels, images = block
    sublanes = _sublanes(dtype)
    padded = -(-channels // sublanes) * sublanes * -(-images // _LANES) * _LANES
    return math.prod(outer) * padded * jnp.dtype(dtype).itemsize
