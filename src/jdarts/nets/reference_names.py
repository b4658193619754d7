"""How the reference implementation (quark0/darts) names and lays out the arrays of a network, entry by entry.

Its names are those of a PyTorch `state_dict`. An array of ours is one of theirs, or several of them stacked.
"""

from collections.abc import Callable, Iterable, Iterator
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from jdarts.nets.discrete import DiscreteNetwork
from jdarts.nets.stages import EdgeGroup, discrete_stages
from jdarts.space import CellKind, cell_kinds


class Layout(NamedTuple):
    """How an array stands in PyTorch.

    Attributes:
      shape: its shape there, from the shape that it has here.
      convert: the array from there, as it stands here.
    """

    shape: Callable[[tuple[int, ...]], tuple[int, ...]]
    convert: Callable[[np.ndarray], np.ndarray]


CONVOLUTION = Layout(lambda s: (s[3], s[2], s[0], s[1]), lambda a: a.transpose(2, 3, 1, 0))
DEPTHWISE = Layout(lambda s: (s[2], 1, s[0], s[1]), lambda a: a[:, 0].transpose(1, 2, 0))
POINTWISE = Layout(lambda s: (s[1], s[0], 1, 1), lambda a: a[:, :, 0, 0].T)
ACROSS = Layout(lambda s: (s[2], s[1], 1, s[0]), lambda a: a[:, :, 0].transpose(2, 1, 0))
DOWN = Layout(lambda s: (s[2], s[1], s[0], 1), lambda a: a[:, :, :, 0].transpose(2, 1, 0))
LINEAR = Layout(lambda s: (s[1], s[0]), lambda a: a.T)
VECTOR = Layout(lambda s: s, lambda a: a)


class Entry(NamedTuple):
    """One array of ours.

    Attributes:
      path: where it stands in the variables: collection, modules, name.
      names: the arrays there that it is made of.
      layout: of each of them.
      stacked: whether it has a leading axis over them.
    """

    path: tuple[str, ...]
    names: tuple[str, ...]
    layout: Layout
    stacked: bool


class OperationNames(NamedTuple):
    """The layers of an operation, by the names they have below it.

    Attributes:
      weights: layer and layout of every weight of ours.
      middle: the first batch norm of two.
      last: the last batch norm.
    """

    weights: dict[str, tuple[str, Layout]]
    last: str
    middle: str | None = None


_ROUND = {"depthwise1": ("op.1", DEPTHWISE), "pointwise1": ("op.2", POINTWISE)}
_ROUNDS = _ROUND | {"depthwise2": ("op.5", DEPTHWISE), "pointwise2": ("op.6", POINTWISE)}
_HALVES = {"even": ("conv_1", POINTWISE), "odd": ("conv_2", POINTWISE)}
_TWO = {"across": ("1", ACROSS), "down": ("2", DOWN)}

#: The operations that have weights. `skip_connect` is the one with stride 2.
OPERATIONS = MappingProxyType(
    {
        **{f"sep_conv_{k}x{k}": OperationNames(_ROUNDS, last="op.7", middle="op.3") for k in (3, 5, 7)},
        **{f"dil_conv_{k}x{k}": OperationNames(_ROUND, last="op.3") for k in (3, 5)},
        **{name: OperationNames(_TWO, last="3") for name in ("conv_7x1_1x7", "conv_3x1_1x3")},
        "skip_connect": OperationNames(_HALVES, last="bn"),
    }
)


def discrete_entries(network: DiscreteNetwork) -> Iterator[Entry]:
    """Every array of a discrete network's variables."""
    if network.stem == "cifar":
        yield from _convolution("stem", "stem.0", "stem.1")
    else:
        yield from _convolution("stem0", "stem0.0", "stem0.1")
        yield from _convolution("stem1", "stem0.3", "stem0.4")
        yield from _convolution("stem2", "stem1.1", "stem1.2")
    halved = network.stem == "imagenet"
    for index, kind in enumerate(cell_kinds(network.cells)):
        yield from _preprocess(index, halved)
        for number, groups in enumerate(discrete_stages(network.genotype, kind)):
            yield from _stage(index, number, groups, kind)
        halved = kind == "reduce"
    yield from _classifier(("classifier",), "classifier")
    if network.auxiliary:
        head = "auxiliary_head.features"
        yield from _convolution(("auxiliary", "first"), f"{head}.2", f"{head}.3")
        yield from _convolution(("auxiliary", "last"), f"{head}.5", f"{head}.6" if network.stem == "cifar" else None)
        yield from _classifier(("auxiliary", "classifier"), "auxiliary_head.classifier")


def norm_entries(path: tuple[str, ...], names: Iterable[str], *, affine: bool = True) -> Iterator[Entry]:
    """The arrays of batch norms that are stacked here.

    Args:
      path: of the module.
      names: of the batch norms.
      affine: whether they have a scale and a bias.
    """
    arrays = [("batch_stats", "mean", "running_mean"), ("batch_stats", "variance", "running_var")]
    if affine:
        arrays += [("params", "scale", "weight"), ("params", "bias", "bias")]
    names = tuple(names)
    for collection, ours, theirs in arrays:
        yield Entry((collection, *path, ours), tuple(f"{name}.{theirs}" for name in names), VECTOR, True)


def _convolution(path: str | tuple[str, ...], convolution: str, norm: str | None) -> Iterator[Entry]:
    path = (path,) if isinstance(path, str) else path
    yield Entry(("params", *path, "kernel"), (f"{convolution}.weight",), CONVOLUTION, False)
    if norm is not None:
        yield from norm_entries((*path, "norm"), [norm])


def _classifier(path: tuple[str, ...], name: str) -> Iterator[Entry]:
    yield Entry(("params", *path, "kernel"), (f"{name}.weight",), LINEAR, False)
    yield Entry(("params", *path, "bias"), (f"{name}.bias",), VECTOR, False)


def _preprocess(index: int, halved: bool) -> Iterator[Entry]:
    path, theirs = (f"cell{index}", "preprocess"), f"cells.{index}.preprocess"
    if halved:
        for name, layer in (("even0", "conv_1"), ("odd0", "conv_2")):
            yield Entry(("params", *path, name), (f"{theirs}0.{layer}.weight",), POINTWISE, True)
    else:
        yield Entry(("params", *path, "pointwise0"), (f"{theirs}0.op.1.weight",), POINTWISE, True)
    yield Entry(("params", *path, "pointwise1"), (f"{theirs}1.op.1.weight",), POINTWISE, True)
    yield from norm_entries((*path, "norm"), [f"{theirs}0.bn" if halved else f"{theirs}0.op.2", f"{theirs}1.op.2"])


def _stage(index: int, number: int, groups: tuple[EdgeGroup, ...], kind: CellKind) -> Iterator[Entry]:
    stride = 2 if kind == "reduce" and number == 0 else 1
    path = (f"cell{index}", f"stage{number}")
    middle, last = [], []
    for group in groups:
        if group.name not in OPERATIONS or (group.name == "skip_connect" and stride == 1):
            continue
        operation = OPERATIONS[group.name]
        prefixes = [f"cells.{index}._ops.{edge}" for edge in group.edges]
        for ours, (layer, layout) in operation.weights.items():
            names = tuple(f"{prefix}.{layer}.weight" for prefix in prefixes)
            yield Entry(("params", *path, group.key, ours), names, layout, True)
        last += [f"{prefix}.{operation.last}" for prefix in prefixes]
        if operation.middle:
            middle += [f"{prefix}.{operation.middle}" for prefix in prefixes]
    if middle:
        yield from norm_entries((*path, "middle"), middle)
    if last:
        yield from norm_entries((*path, "last"), last)
