"""How large a network is: weights, and the multiply-adds of one image.

Multiply-adds are those of convolutions and linear layers, as the field counts them. They are counted in the program of
the network itself, by following its weights to the convolutions and matrix products that read them.
"""

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax

from jdarts.ops.precision import wide_type
from jdarts.xla.jax_compat import ClosedJaxpr, Jaxpr, Literal

AUXILIARY = "auxiliary"
#: Weights of batch norms and linear layers that no convolution or matrix product multiplies.
_NO_KERNELS = ("scale", "bias")
#: Operations that pass on a weight unchanged, reordered, or in part.
_REARRANGE = frozenset(
    (
        "reshape",
        "transpose",
        "squeeze",
        "broadcast_in_dim",
        "slice",
        "dynamic_slice",
        "convert_element_type",
        "copy",
        "rev",
        "split",
        "unstack",
    )
)


#: The path of a weight among the variables.
Origin = tuple[str, ...]


class Size(NamedTuple):
    """Size of a network or of a part of it.

    Attributes:
      weights: number of weights, scales and biases of batch norms included.
      multiply_adds: of convolutions and linear layers for one image, in use.
    """

    weights: int
    multiply_adds: int


def count_weights(weights: Any) -> int:
    """Number of weights in a pytree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(weights))


def network_sizes(
    network: nn.Module, image_shape: tuple[int, int, int], *inputs: Any, **settings: Any
) -> dict[str, Size]:
    """Sizes of a network by its parts; nothing is computed or compiled.

    Args:
      network: a network of `jdarts.nets`; its call takes images, the `inputs`, and `train`.
      image_shape: `(H, W, C)` of an image.
      inputs: what the network reads beside images, as shapes.
      settings: keyword arguments of its call, such as the `controls` of a supernet.

    Returns:
      The size of each top-level part, in order of the computation; an auxiliary head, which is not used for predictions,
      comes last and has no multiply-adds.

    Raises:
      InputError: images that the network cannot read.
    """
    dtype: Any = getattr(network, "dtype")  # noqa: B009  (flax's Module does not declare it)
    key = jax.eval_shape(lambda: jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, *image_shape), wide_type(dtype))

    def init(key: jax.Array, *arguments: Any) -> Any:
        return network.init({"params": key, "noise": key}, *arguments, train=False, **settings)

    # The program that draws the weights also applies them: one trace tells their shapes and who reads them.
    program, variables = jax.make_jaxpr(init, return_shape=True)(key, images, *inputs)
    counts: Counter[Origin] = Counter()
    _follow(program.jaxpr, [None] * len(program.jaxpr.invars), counts, made=_kernels(variables))
    sizes: dict[str, Size] = {}
    for path, size in _sizes(variables, counts).items():
        before = sizes.get(path[0], Size(0, 0))
        multiply_adds = 0 if path[0] == AUXILIARY else before.multiply_adds + size.multiply_adds
        sizes[path[0]] = Size(before.weights + size.weights, multiply_adds)
    return {part: sizes[part] for part in sorted(sizes, key=_place)}


def weight_sizes(function: Callable[..., Any], variables: Any, *arguments: Any) -> dict[tuple[str, ...], Size]:
    """Sizes of a program by the weights that it reads; nothing is computed or compiled.

    Args:
      function: of variables and arguments.
      variables: collections of a Linen module, or their shapes; weights are those of `params`.
      *arguments: what else it takes, as arrays or shapes; a batch of one image for the multiply-adds of one.

    Returns:
      By the path of each weight its number, and the multiply-adds of the convolutions and matrix products that read it.
    """
    program = jax.make_jaxpr(function)(variables, *arguments)
    kernels = _kernels(variables)
    counts: Counter[Origin] = Counter()
    _follow(program.jaxpr, [*kernels, *[None] * (len(program.jaxpr.invars) - len(kernels))], counts)
    return _sizes(variables, counts)


def _named(variables: Any) -> list[tuple[Origin, Any]]:
    """The arrays of a module's variables, or their shapes, with their paths."""
    leaves = jax.tree.leaves_with_path(variables)
    return [(tuple(str(getattr(part, "key", part)) for part in path), leaf) for path, leaf in leaves]


def _kernels(variables: Any) -> list[Origin | None]:
    """For each array the path of a weight that may be multiplied, or None."""
    names = [name for name, _ in _named(variables)]
    return [name if name[0] == "params" and name[-1] not in _NO_KERNELS else None for name in names]


def _sizes(variables: Any, counts: Counter[Origin]) -> dict[tuple[str, ...], Size]:
    return {
        name[1:]: Size(math.prod(leaf.shape), counts[name]) for name, leaf in _named(variables) if name[0] == "params"
    }


def total(sizes: Mapping[str, Size], *, auxiliary: bool = False) -> Size:
    """The size of the whole network, with or without its auxiliary head."""
    counted = [size for part, size in sizes.items() if auxiliary or part != AUXILIARY]
    return Size(sum(size.weights for size in counted), sum(size.multiply_adds for size in counted))


def _place(part: str) -> tuple[int, int, str]:
    """Stem, cells by number, classifier, auxiliary head."""
    if part.startswith("cell"):
        return 1, int(part.removeprefix("cell")), part
    return {"classifier": 2, AUXILIARY: 3}.get(part, 0), 0, part


def _follow(
    jaxpr: Jaxpr,
    origins: Sequence[Origin | None],
    counts: Counter[Origin],
    times: int = 1,
    made: Sequence[Origin | None] = (),
) -> list[Origin | None]:
    """Counts the multiply-adds of each convolution and matrix product with a weight, by the weight.

    Args:
      jaxpr: the program.
      origins: for each of its inputs, the weight that it is, or None.
      counts: gets the numbers.
      times: how often the program runs.
      made: for each of its results, the weight that the program makes there, or None.

    Returns:
      For each of its results, the weight that it still is, or None.
    """
    known = {variable: origin for variable, origin in zip(jaxpr.invars, origins) if origin}
    known |= {
        result: origin for result, origin in zip(jaxpr.outvars, made) if origin and not isinstance(result, Literal)
    }
    for equation in jaxpr.eqns:
        weights = [None if isinstance(operand, Literal) else known.get(operand) for operand in equation.invars]
        results = [known.get(result) for result in equation.outvars]
        weight = next(filter(None, weights), None)
        if weight is None and not any(results):
            continue
        if inner := _inner(equation):
            # A scan has the length of its loop among its parameters.
            inner_origins = _follow(inner, weights, counts, times * equation.params.get("length", 1), results)
            known |= {variable: origin for variable, origin in zip(equation.outvars, inner_origins) if origin}
        elif weight is None:
            continue
        elif equation.primitive.name in _REARRANGE:
            known |= dict.fromkeys(equation.outvars, weight)
        elif counter := _COUNTERS.get(equation.primitive.name):
            counts[weight] += times * counter(equation)
    return [None if isinstance(result, Literal) else known.get(result) for result in jaxpr.outvars]


def _inner(equation: Any) -> Jaxpr | None:
    """The program that an equation calls, whose inputs are the equation's."""
    for name in ("jaxpr", "call_jaxpr"):
        called = equation.params.get(name)
        if isinstance(called, ClosedJaxpr):
            return called.jaxpr
        if isinstance(called, Jaxpr):
            return called
    return None


def _convolution(equation: Any) -> int:
    kernel = equation.invars[1].aval.shape
    features = equation.params["dimension_numbers"].rhs_spec[0]
    return math.prod(equation.outvars[0].aval.shape) * math.prod(kernel) // kernel[features]


def _matrix_product(equation: Any) -> int:
    ((contracted, _), _) = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(shape[axis] for axis in contracted)


def _depthwise(equation: Any) -> int:
    return math.prod(equation.outvars[0].aval.shape) * math.prod(equation.invars[1].aval.shape[2:4])


def _pointwise(equation: Any) -> int:
    results = [equation.outvars[q].aval.shape for q in equation.params["sums"]]
    return sum(math.prod(y) * x.aval.shape[-1] for x, y in zip(equation.invars, results))


def _separable(equation: Any) -> int:
    kernels, matrices = (value.aval.shape for value in equation.invars[1:3])
    edges, channels, _ = matrices
    pixels = math.prod(equation.outvars[0].aval.shape[1:-1])
    return edges * pixels * channels * (math.prod(kernels[2:4]) + matrices[-1])


_COUNTERS: Mapping[str, Callable[[Any], int]] = {
    "conv_general_dilated": _convolution,
    "dot_general": _matrix_product,
    "depthwise_conv": _depthwise,
    "pointwise": _pointwise,
    "separable": _separable,
}
