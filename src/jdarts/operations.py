"""The operations that cells are made of, in one table; recurrent cells' activations in a second.

Search spaces, genotypes, networks, drawings and the import of weights read these tables. A row holds all that an operation
needs; `register_operation` and `register_activation` add rows. Multiply-adds need no entry: they are counted in the network's
program.
"""

import dataclasses
import functools
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeGuard, get_args

import jax
import jax.numpy as jnp

from jdarts.errors import InputError, did_you_mean, shown
from jdarts.ops import implementations as of
from jdarts.ops.candidates import Implementation
from jdarts.ops.edge_functions import CHANNELS, EdgeFunction, EdgeWeights, check_implementation, edge_by_edge
from jdarts.ops.pool import avg_pool_3x3, max_pool_3x3
from jdarts.ops.recurrent import sigmoid
from jdarts.ops.reference_layouts import ACROSS, CONVOLUTION, DEPTHWISE, DOWN, POINTWISE, ReferenceLayers

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


def _pool_row(kind: str, pool: Callable[..., jax.Array]) -> Operation:
    return Operation(
        f"{kind}_pool_3x3",
        functools.partial(of.pooling, pool),
        "pool",
        aliases=(f"{kind}_pooling_3x3", f"{kind}pool"),
        in_paper=True,
    )


def _convolution_row(
    name: str,
    aliases: tuple[str, ...],
    size: int,
    implement: Callable[[int, int], Implementation],
    reference: ReferenceLayers,
    *,
    in_paper: bool = False,
) -> Operation:
    return Operation(
        f"{name}_{size}x{size}",
        functools.partial(implement, size),
        "convolution",
        reference,
        tuple(f"{alias}{size}x{size}" for alias in aliases),
        in_paper=in_paper,
    )


def _factorized_row(size: int) -> Operation:
    implement = functools.partial(of.factorized_convolution, size)
    return Operation(f"conv_{size}x1_1x{size}", implement, "convolution", _FACTORIZED, searchable=False)


def _bottleneck_row(size: int, expansion: int, *, excitation: bool = False) -> Operation:
    implement = functools.partial(of.inverted_bottleneck, size, expansion, excitation=excitation)
    return Operation(f"mbconv{expansion}_{size}x{size}{'_se' if excitation else ''}", implement, "convolution")


_ROUND = {"depthwise1": ("op.1", DEPTHWISE), "pointwise1": ("op.2", POINTWISE)}
_SEPARABLE = ReferenceLayers(
    _ROUND | {"depthwise2": ("op.5", DEPTHWISE), "pointwise2": ("op.6", POINTWISE)}, last="op.7", middle="op.3"
)
_DILATED = ReferenceLayers(_ROUND, last="op.3")
_HALVES = ReferenceLayers({"even": ("conv_1", POINTWISE), "odd": ("conv_2", POINTWISE)}, last="bn")
#: Without the size, in Katib and NNI.
_SEPARABLE_NAMES, _DILATED_NAMES = ("separable_convolution_", "sepconv"), ("dilated_convolution_", "dilconv")
_FACTORIZED = ReferenceLayers({"across": ("1", ACROSS), "down": ("2", DOWN)}, last="3")

_CONVOLUTION = ReferenceLayers({"kernel": ("op.1", CONVOLUTION)}, last="op.2")
_MATRIX = ReferenceLayers({"pointwise": ("op.1", POINTWISE)}, last="op.2")

# A new operation is a row here, of an `Implementation` over stacked edges, as jdarts/ops/candidates.py describes. `in_paper` rows
# stay in the order of the reference implementation, which is that of alphas in checkpoints. tests/test_operations.py checks every
# row.
_ROWS = (
    _pool_row("max", max_pool_3x3),
    _pool_row("avg", avg_pool_3x3),
    Operation(SKIP, of.skip, "skip", _HALVES, aliases=("skip_connection", "skipconnect"), in_paper=True),
    _convolution_row("sep_conv", _SEPARABLE_NAMES, 3, of.separable_convolution, _SEPARABLE, in_paper=True),
    _convolution_row("sep_conv", _SEPARABLE_NAMES, 5, of.separable_convolution, _SEPARABLE, in_paper=True),
    _convolution_row("sep_conv", _SEPARABLE_NAMES, 7, of.separable_convolution, _SEPARABLE),
    _convolution_row("dil_conv", _DILATED_NAMES, 3, of.dilated_convolution, _DILATED, in_paper=True),
    _convolution_row("dil_conv", _DILATED_NAMES, 5, of.dilated_convolution, _DILATED, in_paper=True),
    _factorized_row(7),
    _factorized_row(3),
    Operation("noise", of.noise, "other"),
    # NAS-Bench-201's operations; its average pool has no batch norm, and no convolution where the channels stay the same.
    Operation("conv_1x1", of.full_pointwise, "convolution", _MATRIX, aliases=("nor_conv_1x1",)),
    _convolution_row("conv", ("nor_conv_",), 3, of.full_convolution, _CONVOLUTION),
    Operation("plain_avg_pool_3x3", functools.partial(of.pooling, avg_pool_3x3, normalised=False), "pool"),
    Operation("squeeze_excitation", of.squeeze_excitation, "other"),
    *(_bottleneck_row(size, expansion) for size in (3, 5) for expansion in (3, 6)),
    _bottleneck_row(3, 6, excitation=True),
)
_operations: dict[str, Operation] = {}
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
        raise InputError(f"unknown operation {name!r}; {known_operations(name, OPERATIONS)}")
    if stride not in (1, 2):
        raise InputError(f"{name}: stride {stride}; give 1 or 2")
    return OPERATIONS[name].implement(stride)


def known_operations(name: object, known: Iterable[str]) -> str:
    """What a message on an unknown operation says of the known ones: the nearest, and the first few."""
    known = list(known)
    near = did_you_mean(str(name), known)
    few = ", ".join(known)
    if len(few) > _LONGEST_LIST:
        few = f"{few[:_LONGEST_LIST].rpartition(',')[0]}, …"
    return f"known are {few}; {near}{'For' if near else 'for'} one of your own give --plugin FILE"


def searchable_operations() -> tuple[str, ...]:
    """The operations that an edge of a convolutional search space may hold, `none` first."""
    return (NONE, *(row.name for row in OPERATIONS.values() if row.searchable))


def searchable_activations() -> tuple[str, ...]:
    """The operations that an edge of a recurrent search space may hold, `none` first."""
    return (NONE, *ACTIVATIONS)


def register_operation(
    name: str,
    function: EdgeFunction | Callable[..., Any] | None = None,
    *,
    implement: Callable[[int], Implementation] | None = None,
    weights: EdgeWeights | None = None,
    normalised: bool = True,
    family: Family = "other",
    reference: ReferenceLayers | None = None,
    aliases: tuple[str, ...] = (),
    searchable: bool = True,
) -> Operation:
    """Adds an operation to the table, until the program ends.

    Genotypes, search spaces, networks of both kinds, drawings and counts then know it. Run folders and checkpoints hold only its
    name: a program that reads them must register the operation first, as a command does with `--plugin`.

    Args:
      name: a new name of small letters, digits and underscores.
      function: one of

        * `(x [B, H, W, C], weights, stride) -> [B, H / stride, W / stride, C]`, of one edge;
        * a class of Flax modules, or `functools.partial` of one, which is called with `channels=` and `stride=` and whose
          modules map `x` as such a function does. Their parameters are the weights. They may neither draw random numbers nor
          keep batch statistics.

        A batch norm follows if it has weights, and in the search network unless `normalised` is False. No ReLU precedes it: the
        function applies its own.
      implement: in place of the function, from a stride to an `Implementation` over stacked edges, as the operations that
        jdarts brings have: faster, and with batch norms inside.
      weights: `(channels, stride) -> {name: shape}` of a function's weights; no weights by default. They start uniformly within
        ±1/√n, with n the product of all axes but the last.
      normalised: whether a batch norm follows in the search network; an `Implementation` says so itself.
      family: for the colour in drawings.
      reference: its layers in the reference implementation, for files of PyTorch.
      aliases: its names in other programs.
      searchable: whether a search space may hold it.

    Returns:
      The row.

    Raises:
      InputError: an invalid or taken name, an unknown family, a function whose results have another shape or type, or a module
        that has more than parameters.
    """
    if (function is None) == (implement is None):
        raise InputError(f"operation {shown(name)}: give a function or a module class, or implement=, and not both")
    if weights is not None and (implement is not None or _is_module(function)):
        raise InputError(f"operation {shown(name)}: weights= is for functions of one edge; leave it out")
    for each in (name, *aliases):
        _check_new(each, family, OPERATIONS, "operation")
    channels = CHANNELS
    if implement is None and _is_module(function):
        # Flax is imported by those who have modules.
        from jdarts.ops import module_operation

        implement = module_operation.of_modules(name, function, normalised=normalised)
        channels = module_operation.CHANNELS
    elif function is not None:
        implement = functools.partial(edge_by_edge, function, weights=weights, normalised=normalised)
    assert implement is not None
    row = Operation(name, implement, family, reference, aliases, searchable)
    for stride in (1, 2):
        check_implementation(name, row.implement(stride), stride, channels=channels)
    _add(row)
    return row


def unregister_operations(names: Iterable[str]) -> None:
    """Removes operations and activations that a program has added; unknown names are ignored."""
    for name in names:
        _operations.pop(name, None)
        _activations.pop(name, None)


def _is_module(function: object) -> TypeGuard[Callable[..., Any]]:
    """Whether this is a class of Flax modules, or `functools.partial` of one."""
    while isinstance(function, functools.partial):
        function = function.func
    linen = sys.modules.get("flax.linen")
    return linen is not None and isinstance(function, type) and issubclass(function, linen.Module)


def _add(row: Operation) -> None:
    for name in (row.name, *row.aliases):
        _check_new(name, row.family, OPERATIONS, "operation")
    _operations[row.name] = row


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


#: Characters of the known operations in a message.
_LONGEST_LIST = 50
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


for _row in _ROWS:
    _add(_row)
