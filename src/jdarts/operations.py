"""The operations that cells are made of, in one table; recurrent cells' activations in a second.

Search spaces, genotypes, networks, drawings and the import of weights read these tables. A row holds all that an operation
needs; `register_operation` and `register_activation` add rows. Multiply-adds need no entry: they are counted in the network's
program.
"""

import dataclasses
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.errors import InputError, shown
from jdarts.ops.candidates import (
    EdgeFunction,
    Implementation,
    Weights,
    WeightShape,
    check_edge_function,
    edge_by_edge,
    factorized_reduce,
    separable,
)
from jdarts.ops.depthwise.kinds import Kind
from jdarts.ops.pool import avg_pool_3x3, max_pool_3x3
from jdarts.ops.recurrent import sigmoid
from jdarts.ops.reference_layouts import ACROSS, DEPTHWISE, DOWN, POINTWISE, ReferenceLayers

#: The operations of a family have one colour in drawings.
Family = Literal["convolution", "pool", "skip", "smooth", "rectifier", "other"]

#: An edge that adds nothing. It may be a candidate in a search and is never in a genotype.
NONE = "none"
#: The identity, or at stride 2 a factorised reduction.
SKIP = "skip_connect"
#: The name of weights that search networks may have on every edge beside the candidate operations.
AUXILIARY_SKIP = "auxiliary_skip"


@dataclasses.dataclass(frozen=True)
class Operation:
    """A convolutional operation.

    Attributes:
      name: in genotypes, spaces and files.
      implement: from a stride, 1 or 2, to the computation.
      family: for the colour in drawings.
      reference: its layers in the reference implementation; None if it has no weights there.
      aliases: its names in other programs, such as Katib.
      searchable: whether a search space may hold it.
      in_paper: whether the paper's space holds it.
    """

    name: str
    implement: Callable[[int], Implementation]
    family: Family
    reference: ReferenceLayers | None = None
    aliases: tuple[str, ...] = ()
    searchable: bool = True
    in_paper: bool = False


@dataclasses.dataclass(frozen=True)
class Activation:
    """An activation of a recurrent cell's nodes.

    Attributes:
      name: in genotypes and spaces.
      function: of arrays of any shape, element by element.
      family: for the colour in drawings.
      in_paper: whether the paper's space holds it.
    """

    name: str
    function: Callable[[jax.Array], jax.Array]
    family: Family
    in_paper: bool = False


def _convolution_weights(size: int, rounds: int) -> Callable[[int], Mapping[str, WeightShape]]:
    def weights(channels: int) -> Mapping[str, WeightShape]:
        shapes = {}
        for number in range(1, rounds + 1):
            # The fan-in of PyTorch 0.3: input channels, not divided by the groups.
            shapes[f"depthwise{number}"] = WeightShape((size, size, channels), channels * size * size)
            shapes[f"pointwise{number}"] = WeightShape((channels, channels), channels)
        return shapes

    return weights


def _separable(size: int, stride: int) -> Implementation:
    def first(states: jax.Array, weights: Weights) -> jax.Array:
        return separable(states, weights["depthwise1"], weights["pointwise1"], stride=stride)

    def second(x: jax.Array, weights: Weights) -> jax.Array:
        return separable(x, weights["depthwise2"], weights["pointwise2"])

    return Implementation(first, second, _convolution_weights(size, rounds=2), kernel=Kind(size, 1))


def _dilated(size: int, stride: int) -> Implementation:
    def first(states: jax.Array, weights: Weights) -> jax.Array:
        return separable(states, weights["depthwise1"], weights["pointwise1"], stride=stride, dilation=2)

    return Implementation(first, weights=_convolution_weights(size, rounds=1), kernel=Kind(size, 2))


def _factorized(size: int, stride: int) -> Implementation:
    """A full 1×k convolution, then a full k×1 one, with one batch norm: NASNet's, AmoebaNet's and SETN's."""
    pad = size // 2

    def convolution(x: jax.Array, kernel: jax.Array, axis: int) -> jax.Array:
        window, padding = [1, 1], [(0, 0), (0, 0)]
        window[axis], padding[axis] = stride, (pad, pad)
        kernel = jnp.expand_dims(kernel, 1 - axis)
        return lax.conv_general_dilated(x, kernel, window, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"))

    def first(states: jax.Array, weights: Weights) -> jax.Array:
        rectified = jax.nn.relu(states)
        targets = weights["across"].shape[0] // states.shape[0]
        edges = enumerate(zip(weights["across"], weights["down"]))
        rows = [
            convolution(convolution(rectified[edge // targets], across, 1), down, 0) for edge, (across, down) in edges
        ]
        return jnp.stack(rows)

    def shapes(channels: int) -> Mapping[str, WeightShape]:
        kernel = WeightShape((size, channels, channels), channels * size)
        return {"across": kernel, "down": kernel}

    return Implementation(first, weights=shapes)


def _pool(pool: Callable[..., jax.Array], stride: int) -> Implementation:
    return Implementation(lambda states, weights: pool(states, stride=stride), per_source=True)


def _skip(stride: int) -> Implementation:
    if stride == 1:
        return Implementation(lambda states, weights: states, per_source=True, normalised=False, identity=True)

    def first(states: jax.Array, weights: Weights) -> jax.Array:
        edges = weights["even"].shape[0]
        x = jnp.repeat(jax.nn.relu(states), edges // states.shape[0], axis=0)
        return factorized_reduce(x, weights["even"], weights["odd"])

    def shapes(channels: int) -> Mapping[str, WeightShape]:
        half = WeightShape((channels, channels // 2), channels)
        return {"even": half, "odd": half}

    return Implementation(first, weights=shapes)


def _noise(stride: int) -> Implementation:
    """Standard normal numbers in place of an output (RobustDARTS, space S4)."""

    def first(states: jax.Array, weights: Weights, key: jax.Array, edges: int) -> jax.Array:
        _, batch, height, width, channels = states.shape
        return jax.random.normal(key, (edges, batch, -(-height // stride), -(-width // stride), channels), states.dtype)

    return Implementation(first, normalised=False, random=True)


def _convolution_row(
    name: str,
    alias: str,
    size: int,
    implement: Callable[[int, int], Implementation],
    reference: ReferenceLayers,
    *,
    in_paper: bool = False,
) -> Operation:
    aliases = (f"{alias}_convolution_{size}x{size}",)
    return Operation(
        f"{name}_{size}x{size}",
        lambda stride: implement(size, stride),
        "convolution",
        reference,
        aliases,
        in_paper=in_paper,
    )


_ROUND = {"depthwise1": ("op.1", DEPTHWISE), "pointwise1": ("op.2", POINTWISE)}
_SEPARABLE = ReferenceLayers(
    _ROUND | {"depthwise2": ("op.5", DEPTHWISE), "pointwise2": ("op.6", POINTWISE)}, last="op.7", middle="op.3"
)
_DILATED = ReferenceLayers(_ROUND, last="op.3")
_HALVES = ReferenceLayers({"even": ("conv_1", POINTWISE), "odd": ("conv_2", POINTWISE)}, last="bn")
_FACTORIZED = ReferenceLayers({"across": ("1", ACROSS), "down": ("2", DOWN)}, last="3")

# A new operation is a row here. `edge_by_edge` makes one from a function of a single edge; a faster one is an `Implementation`
# over stacked edges, as jdarts/ops/candidates.py describes. `in_paper` rows stay in the order of the reference implementation,
# which is that of alphas in checkpoints. tests/test_operations.py checks every row.
_operations = {
    row.name: row
    for row in (
        Operation(
            "max_pool_3x3", lambda s: _pool(max_pool_3x3, s), "pool", aliases=("max_pooling_3x3",), in_paper=True
        ),
        Operation(
            "avg_pool_3x3", lambda s: _pool(avg_pool_3x3, s), "pool", aliases=("avg_pooling_3x3",), in_paper=True
        ),
        Operation(SKIP, _skip, "skip", _HALVES, aliases=("skip_connection",), in_paper=True),
        _convolution_row("sep_conv", "separable", 3, _separable, _SEPARABLE, in_paper=True),
        _convolution_row("sep_conv", "separable", 5, _separable, _SEPARABLE, in_paper=True),
        _convolution_row("sep_conv", "separable", 7, _separable, _SEPARABLE),
        _convolution_row("dil_conv", "dilated", 3, _dilated, _DILATED, in_paper=True),
        _convolution_row("dil_conv", "dilated", 5, _dilated, _DILATED, in_paper=True),
        Operation("conv_7x1_1x7", lambda s: _factorized(7, s), "convolution", _FACTORIZED, searchable=False),
        Operation("conv_3x1_1x3", lambda s: _factorized(3, s), "convolution", _FACTORIZED, searchable=False),
        Operation("noise", _noise, "other"),
    )
}
# A new activation is a row here; the native kernel of whole cells has those of the paper alone.
_activations = {
    row.name: row
    for row in (
        Activation("tanh", jnp.tanh, "smooth", in_paper=True),
        Activation("relu", jax.nn.relu, "rectifier", in_paper=True),
        Activation("sigmoid", sigmoid, "other", in_paper=True),
        Activation("identity", lambda x: x, "skip", in_paper=True),
    )
}

#: The convolutional operations by name, including registered ones.
OPERATIONS: Mapping[str, Operation] = MappingProxyType(_operations)
#: The activations by name, including registered ones.
ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(_activations)


def implementation(name: str, stride: int) -> Implementation:
    """The computation of an operation at stride 1 or 2.

    Raises:
      InputError: an unknown name or another stride.
    """
    if name not in OPERATIONS:
        raise InputError(f"unknown operation {name!r}; known are {', '.join(OPERATIONS)}")
    if stride not in (1, 2):
        raise InputError(f"{name}: stride {stride}; give 1 or 2")
    return OPERATIONS[name].implement(stride)


def searchable_operations() -> tuple[str, ...]:
    """The operations that an edge of a convolutional search space may hold, `none` first."""
    return (NONE, *(row.name for row in OPERATIONS.values() if row.searchable))


def searchable_activations() -> tuple[str, ...]:
    """The operations that an edge of a recurrent search space may hold, `none` first."""
    return (NONE, *ACTIVATIONS)


def register_operation(
    name: str,
    function: EdgeFunction,
    *,
    weights: Callable[[int, int], Mapping[str, tuple[int, ...]]] | None = None,
    normalised: bool = True,
    family: Family = "other",
    searchable: bool = True,
) -> Operation:
    """Adds an operation to the table, until the program ends.

    Genotypes, search spaces, networks of both kinds, drawings and counts then know it. Run folders and checkpoints hold only its
    name: a program that reads them must register the operation first.

    Args:
      name: a new name of small letters, digits and underscores.
      function: `(x [B, H, W, C], weights, stride) -> [B, H / stride, W / stride, C]`, of one edge. A batch norm follows if it
        has weights, and in the search network unless `normalised` is False. No ReLU precedes it: the function applies its own.
      weights: `(channels, stride) -> {name: shape}` of the weights; no weights by default. They start uniformly within
        ±1/√n, with n the product of all axes but the last.
      normalised: whether a batch norm follows in the search network.
      family: for the colour in drawings.
      searchable: whether a search space may hold it.

    Returns:
      The row.

    Raises:
      InputError: an invalid or taken name, an unknown family, or a function whose results have another shape or type.
    """
    _check_new(name, family, OPERATIONS, "operation")

    def implement(stride: int) -> Implementation:
        return edge_by_edge(function, stride, weights, normalised=normalised)

    for stride in (1, 2):
        check_edge_function(name, implement(stride), stride)
    row = Operation(name, implement, family, searchable=searchable)
    _operations[name] = row
    return row


def register_activation(
    name: str, function: Callable[[jax.Array], jax.Array], *, family: Family = "other"
) -> Activation:
    """Adds an activation for recurrent cells, until the program ends.

    A search with such an activation uses XLA's operations instead of the native kernel of whole cells.

    Args:
      name: as for `register_operation`.
      function: of an array of any shape, element by element.
      family: for the colour in drawings.

    Returns:
      The row.

    Raises:
      InputError: an invalid or taken name, an unknown family, or a function whose result has another shape or type.
    """
    _check_new(name, family, ACTIVATIONS, "activation")
    states = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    output = jax.eval_shape(function, states)
    if (output.shape, output.dtype) != (states.shape, states.dtype):
        raise InputError(
            f"activation {name}: maps {states.dtype} {states.shape} to {output.dtype} {output.shape}; give one that keeps both"
        )
    row = Activation(name, function, family)
    _activations[name] = row
    return row


_NAME = re.compile(r"[a-z][a-z0-9_]{1,39}")
#: Names that networks give to other things than operations.
_RESERVED = (NONE, AUXILIARY_SKIP, "middle", "last")


def _check_new(name: object, family: str, table: Mapping[str, object], what: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{what} {shown(name)}: give a name of 2 to 40 small letters, digits and underscores that begins with a letter"
        )
    taken = (*table, *(alias for row in table.values() if isinstance(row, Operation) for alias in row.aliases))
    if name in taken or name in _RESERVED:
        raise InputError(
            f"{what} {name}: the name is taken; give one that is not among {', '.join((*_RESERVED, *taken))}"
        )
    if family not in get_args(Family):
        raise InputError(f"{what} {name}: family {shown(family)}; give one of {', '.join(get_args(Family))}")
