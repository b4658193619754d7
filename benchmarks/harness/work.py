"""What every part of the supernet has to do on a GPU, by the way it is computed: bytes, operations and launches, on paper.

Each result counts once where it is written and once for each function that reads it; what the functions of one launch pass to
each other counts nothing. Caches, occupancy and the real speed of a kernel are not in it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

from jdarts.genotype import INPUT_STATES
from jdarts.nets.stages import stages
from jdarts.space import CellKind, cell_kinds, uniform_space

from .counts import FLOAT_BYTES, STEM_MULTIPLIER
from .setup import Size


class Work(NamedTuple):
    """Bytes read and written, floating-point operations (two for each multiply-add) and launches of functions."""

    bytes: float = 0.0
    flops: float = 0.0
    launches: float = 0.0

    def times(self, count: float) -> "Work":
        """As much, `count` times."""
        return Work(*(count * each for each in self))


def total(parts: Iterable[Work]) -> Work:
    """The sum of works."""
    return Work(*(sum(each) for each in zip(Work(), *parts)))


class Card(NamedTuple):
    """The speed of a device.

    Attributes:
      bandwidth: bytes a second.
      flops: operations a second.
      launch: seconds of a launch.
    """

    bandwidth: float
    flops: float
    launch: float

    def seconds(self, work: Work) -> float:
        """The longer of the times for bytes and operations, and the launches."""
        return max(work.bytes / self.bandwidth, work.flops / self.flops) + work.launches * self.launch


class StageSize(NamedTuple):
    """The sizes of a stage of a cell.

    Attributes:
      read: bytes of the images of its sources.
      written: bytes of one map for each of its edges.
      edges: number of edges.
      sources: number of sources.
      channels: channels of a map.
      halves: whether its edges halve the images.
    """

    read: float
    written: float
    edges: int
    sources: int
    channels: int
    halves: bool

    @property
    def outputs(self) -> float:
        """Numbers of the maps of all edges."""
        return self.written / FLOAT_BYTES

    @property
    def of_sources(self) -> float:
        """Bytes of one map for each source, as large as a result."""
        return self.written * self.sources / self.edges


class Layer(NamedTuple):
    """A cell of the supernet.

    Attributes:
      kind: normal or reduce.
      channels: channels of its nodes.
      side: side of its nodes in pixels.
      stages: sizes of its stages.
      nodes: bytes of all of its nodes.
      inputs: of both inputs, `(bytes, channels)` before their 1×1 convolutions, and bytes after them.
    """

    kind: CellKind
    channels: int
    side: int
    stages: tuple[StageSize, ...]
    nodes: float
    inputs: tuple[tuple[float, int, float], ...]


def layers(size: Size) -> Iterator[Layer]:
    """The cells of a supernet from its first to its last."""
    space = uniform_space(nodes=size.nodes)
    before = last = STEM_MULTIPLIER * size.channels
    channels, side_before, side = size.channels, size.image_size, size.image_size

    def image(channels: int, side: int) -> float:
        return FLOAT_BYTES * size.batch * channels * side**2

    for kind in cell_kinds(size.cells):
        halves = kind == "reduce"
        channels *= 2 if halves else 1
        inside = side // 2 if halves else side
        found = []
        for stage in stages(space, kind):
            first = stage.first_node == 0
            outside = side if first else inside
            found.append(
                StageSize(
                    read=len(stage.sources) * image(channels, outside),
                    written=len(stage.edges) * image(channels, inside),
                    edges=len(stage.edges),
                    sources=len(stage.sources),
                    channels=channels,
                    halves=halves and first,
                )
            )
        inputs = tuple(
            (image(width, place), width, image(channels, side))
            for width, place in ((before, side_before), (last, side))
        )
        assert len(inputs) == INPUT_STATES
        nodes = size.nodes * image(channels, inside)
        yield Layer(kind, channels, inside, tuple(found), nodes, inputs)
        before, last, side_before, side = last, size.nodes * channels, side, inside


class Kernel(NamedTuple):
    """A depthwise convolution of every edge.

    Attributes:
      operation: the operation that it is part of.
      size: taps in a row.
      second: whether it is the second one of its operation, which reads the results of all edges and does not halve images.
    """

    operation: str
    size: int
    second: bool = False

    def sizes(self, stage: StageSize) -> tuple[float, float]:
        """Bytes that it reads and writes in a stage."""
        return (stage.written if self.second else stage.read), stage.written


KERNELS = (
    Kernel("sep_conv_3x3", 3),
    Kernel("sep_conv_3x3", 3, second=True),
    Kernel("sep_conv_5x5", 5),
    Kernel("sep_conv_5x5", 5, second=True),
    Kernel("dil_conv_3x3", 3),
    Kernel("dil_conv_5x5", 5),
)

#: Launches of the kernel gradient as shifted products, for each tap, as the compiler for an H100 makes them (39 for 25 taps).
_SHIFTED_LAUNCHES = 39 / 25


def _flops(kernel: Kernel, stage: StageSize) -> float:
    return 2 * kernel.size**2 * stage.outputs


def _single(kernel: Kernel, stage: StageSize) -> list[Work]:
    """Forward, the images' gradient, and the kernels' one, which adds up parts in a second launch."""
    moved, flops = sum(kernel.sizes(stage)), _flops(kernel, stage)
    return [Work(moved, flops, 1), Work(moved, flops, 1), Work(moved, flops, 2)]


def _shifted(kernel: Kernel, stage: StageSize) -> list[Work]:
    """One fusion forward and for the images; XLA does not merge the reductions of the kernels' gradient, one for each tap."""
    moved, flops, taps = sum(kernel.sizes(stage)), _flops(kernel, stage), kernel.size**2
    return [Work(moved, flops, 1), Work(moved, flops, 1), Work(taps * moved, flops, _SHIFTED_LAUNCHES * taps)]


def _grouped(kernel: Kernel, stage: StageSize) -> list[Work]:
    """Images and results are put into the layout of the library and back, a read and a write more of each."""
    moved, flops = sum(kernel.sizes(stage)), _flops(kernel, stage)
    return [Work(3 * moved, flops, 3)] * 3


def _products(kernel: Kernel, stage: StageSize) -> list[Work]:
    """The kernels' gradient as a product over pixels, for which the windows of the sources are written."""
    forward, images, _ = _single(kernel, stage)
    read, written = kernel.sizes(stage)
    windows = kernel.size**2 * (stage.written if kernel.second else stage.of_sources)
    return [forward, images, Work(read + 2 * windows + written, _flops(kernel, stage), 2)]


def _pallas(kernel: Kernel, stage: StageSize) -> list[Work]:
    """One kernel each. That of the kernels' gradient reads both maps once for each row of taps, and parts are added up."""
    forward, images, kernels = _single(kernel, stage)
    return [forward, images, kernels._replace(bytes=kernel.size * kernels.bytes)]


#: Ways to compute a depthwise convolution and its two gradients: each as one function, as the native ones are and
#: `window_gathers`; in operations of XLA; and with a matrix product.
FORMS: Mapping[str, Callable[[Kernel, StageSize], list[Work]]] = {
    "one function": _single,
    "shifted products": _shifted,
    "grouped convolutions": _grouped,
    "product over pixels": _products,
    "Pallas": _pallas,
}


def depthwise(form: str, kernel: Kernel, stage: StageSize) -> Work:
    """A depthwise convolution of a weight step: forward, the images' gradient and the kernels'."""
    return total(FORMS[form](kernel, stage))


def pointwise(stage: StageSize, *, fused: bool) -> Work:
    """The six 1×1 convolutions after the depthwise ones, each with both gradients.

    Args:
      stage: the stage.
      fused: whether a function computes both convolutions: it does not write the results of the first one, and computes them
        again for both gradients. The depthwise part of this work is then in it. On the way back one launch is for the images,
        one for kernels and matrices, which reads both maps again, and one adds up the parts of its sums.
    """
    flops = 2 * stage.channels * stage.outputs
    if not fused:
        return Work(2 * stage.written, flops, 1).times(3 * len(KERNELS))
    works = []
    for kernel in KERNELS:
        read, written = kernel.sizes(stage)
        both = _flops(kernel, stage) + flops
        works += [Work(read + written, both, 1), Work(2 * (read + written), 3 * both, 3)]
    return total(works)


def others(stage: StageSize) -> Work:
    """Pools, skip connections, batch norms and the sum of a node, forward and back."""
    pooled = stage.of_sources
    pools = [Work(stage.read + pooled, 9 * pooled / FLOAT_BYTES, 1)] * 4
    skips = [Work(stage.read + stage.written, 2 * stage.channels * stage.outputs, 2)] * 3 if stage.halves else []
    # Moments and application forward; products and application back.
    inner = 2 * stage.written
    inner_norms = [
        Work(inner, inner, 1),
        Work(2 * inner, inner, 1),
        Work(2 * inner, inner, 1),
        Work(3 * inner, inner, 1),
    ]
    maps = 4 * stage.written + 2 * pooled + (stage.written if stage.halves else stage.read)
    nodes = stage.written / stage.sources
    sums = [
        Work(maps, maps, 1),
        Work(maps + nodes, maps, 1),
        Work(maps + nodes, maps, 1),
        Work(2 * maps + nodes, maps, 1),
    ]
    return total([*pools, *skips, *inner_norms, *sums])


def preprocessing(layer: Layer) -> Work:
    """The 1×1 convolutions of both inputs with their batch norms, forward and back."""
    works = []
    for read, width, written in layer.inputs:
        flops = 2 * width * written / FLOAT_BYTES
        works += [Work(read + written, flops, 1)] * 3
        works += [Work(written, written, 1), Work(2 * written, written, 1), Work(2 * written, written, 1)]
        works += [Work(3 * written, written, 1)]
    return total(works)


def step_work(size: Size, form: str | None) -> list[Work]:
    """All that a weight step computes in its cells.

    Args:
      size: of network and batch.
      form: of the depthwise convolutions; None where one function computes them together with the 1×1 convolutions.
    """
    works = []
    for layer in layers(size):
        works.append(preprocessing(layer))
        for stage in layer.stages:
            works += [others(stage), pointwise(stage, fused=form is None)]
            if form is not None:
                works += [depthwise(form, kernel, stage) for kernel in KERNELS]
    return works


def forward_flops(size: Size) -> float:
    """Operations of the convolutions of a forward pass within the cells, for a comparison with `counts`."""
    found = 0.0
    for layer in layers(size):
        found += sum(2 * width * written / FLOAT_BYTES for _, width, written in layer.inputs)
        for stage in layer.stages:
            found += sum(_flops(kernel, stage) for kernel in KERNELS)
            found += 2 * (len(KERNELS) + stage.halves) * stage.channels * stage.outputs
    return found
