"""How the reference implementation (quark0/darts) names and lays out the arrays of a network, entry by entry.

Its names are those of a PyTorch `state_dict`. An array of ours is one of theirs, or several of them stacked.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from jdarts.errors import InputError
from jdarts.nets.discrete import DiscreteNetwork
from jdarts.nets.stages import EdgeGroup, discrete_stages
from jdarts.operations import OPERATIONS, implementation
from jdarts.ops.reference_layouts import CONVOLUTION, LINEAR, POINTWISE, VECTOR, Layout
from jdarts.space import CellKind


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


def discrete_entries(network: DiscreteNetwork) -> Iterator[Entry]:
    """Every array of a discrete network's variables.

    Raises:
      InputError: the genotype has an operation that the reference implementation has no weights of.
    """
    if network.stem == "cifar":
        yield from _convolution("stem", "stem.0", "stem.1")
    else:
        yield from _convolution("stem0", "stem0.0", "stem0.1")
        yield from _convolution("stem1", "stem0.3", "stem0.4")
        yield from _convolution("stem2", "stem1.1", "stem1.2")
    reduction_before = network.stem == "imagenet"
    for index, kind in enumerate(network.kinds):
        yield from _preprocess(index, reduction_before)
        for number, groups in enumerate(discrete_stages(network.genotype, kind)):
            yield from _stage(index, number, groups, kind)
        reduction_before = kind == "reduce"
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


def _preprocess(index: int, reduction_before: bool) -> Iterator[Entry]:
    path, theirs = (f"cell{index}", "preprocess"), f"cells.{index}.preprocess"
    if reduction_before:
        for name, layer in (("even0", "conv_1"), ("odd0", "conv_2")):
            yield Entry(("params", *path, name), (f"{theirs}0.{layer}.weight",), POINTWISE, True)
    else:
        yield Entry(("params", *path, "pointwise0"), (f"{theirs}0.op.1.weight",), POINTWISE, True)
    yield Entry(("params", *path, "pointwise1"), (f"{theirs}1.op.1.weight",), POINTWISE, True)
    yield from norm_entries(
        (*path, "norm"), [f"{theirs}0.bn" if reduction_before else f"{theirs}0.op.2", f"{theirs}1.op.2"]
    )


def _stage(index: int, number: int, groups: tuple[EdgeGroup, ...], kind: CellKind) -> Iterator[Entry]:
    stride = 2 if kind == "reduce" and number == 0 else 1
    path = (f"cell{index}", f"stage{number}")
    middle, last = [], []
    for group in groups:
        if not implementation(group.name, stride).has_weights:
            continue
        operation = OPERATIONS[group.name].reference
        if operation is None:
            raise InputError(
                f"operation {group.name} has no layers in the reference implementation, so its weights have no names there"
            )
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
