"""What a step has to do at least: floating-point operations and bytes, counted from the network's shape."""

from collections.abc import Iterator
from typing import NamedTuple

from jdarts.genotype import INPUT_STATES
from jdarts.space import cell_kinds, uniform_space

from .setup import Size, Step

STEM_MULTIPLIER = 3
FLOAT_BYTES = 4

#: Cost in forward passes. A gradient with respect to the weights costs two more than its loss, one with respect to the
#: alphas alone one more. The exact product is a forward and an alpha-gradient differentiated along one direction: twice two.
PASSES: dict[Step, int] = {
    "weight": 3,
    "first_order": 3 + 2,
    "finite_difference": 3 + 3 + 3 + 2 + 2,
    "exact": 3 + 3 + 3 + 4,
    "exact_remat": 3 + 3 + 3 + 4,
}


class Layer(NamedTuple):
    """Multiply-adds of a convolution (0 for others), and numbers read and written, per image."""

    macs: int
    numbers: int


def layers(size: Size) -> Iterator[Layer]:
    """Every layer of a forward pass: convolutions, pools, sums and the classifier.

    ReLU, batch norm and the mixture weight belong to the layer before or after; weights are few beside the activations.
    """
    edges = uniform_space(nodes=size.nodes).edges
    image = size.image_size
    before = last = STEM_MULTIPLIER * size.channels
    yield Layer(27 * last * image**2, (3 + last) * image**2)
    channels, before_image = size.channels, image
    for kind in cell_kinds(size.cells):
        reduction = kind == "reduce"
        channels *= 2 if reduction else 1
        for width, side in ((before, before_image), (last, image)):
            yield Layer(width * channels * image**2, width * side**2 + channels * image**2)
        inside = image // 2 if reduction else image
        for source, _ in edges:
            outside = image if source < INPUT_STATES else inside
            yield from _edge(channels, channels * outside**2, channels * inside**2, halves=outside != inside)
        yield Layer(0, size.nodes * channels * inside**2)
        before, last, before_image, image = last, size.nodes * channels, image, inside
    yield Layer(last * size.classes, last * image**2)


def _edge(channels: int, read: int, written: int, *, halves: bool) -> Iterator[Layer]:
    """An edge with the paper's eight candidates, and the reading of their outputs by the node's sum."""
    for kernel in (3, 5):
        depthwise = kernel**2 * written
        pointwise = Layer(channels * written, 2 * written)
        yield from (Layer(depthwise, read + written), pointwise, Layer(depthwise, 2 * written), pointwise)
        yield from (Layer(depthwise, read + written), pointwise)
    yield from [Layer(0, read + written)] * 2
    if halves:
        yield Layer(channels * written, read + written)
    yield Layer(0, 7 * written)


def forward_macs(size: Size) -> int:
    """Multiply-adds of a forward pass of one image, convolutions and classifier."""
    return sum(layer.macs for layer in layers(size))


def step_flops(step: Step, size: Size) -> float:
    """Floating-point operations of a step, two per multiply-add."""
    return 2.0 * PASSES[step] * size.batch * forward_macs(size)


def step_bytes(step: Step, size: Size) -> float:
    """Bytes that a step moves in float32 where every layer reads its input once and writes its output once."""
    return float(FLOAT_BYTES) * PASSES[step] * size.batch * sum(layer.numbers for layer in layers(size))
