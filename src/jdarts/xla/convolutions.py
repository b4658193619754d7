"""XLA's convolutions in the form that its CPU backend computes fast wherever they are in a program.

XLA for CPUs has two ways to compute a `convolution`: with Eigen, or by a loop that goes through the kernel for every entry of the
result, 10 to 30 times as slow. Eigen's needs float16 or float32, images as `NHWC` and a kernel as `HWIO`
(`PotentiallyImplementedAsEigenConvolution`). Layers of Flax are in that form; their derivatives are not: that by the image has a
kernel as `HWOI`, that by the kernel an image as `CHWN`. The pass `convolution-canonicalization` transposes such operands, but it
reads the instructions of `module->entry_computation()` alone (`xla/service/cpu/conv_canonicalization.cc`; seen in dumps of jaxlib
0.10.1). What is in a call that XLA does not inline, or in the body of a loop or a conditional, stays slow (jax#12868).

`canonical` does the same to a traced function, before XLA reads it. The numbers are those of the fast form.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jdarts.xla.jax_compat import ClosedJaxpr, Jaxpr, JaxprEqn, Tracer, jaxpr_as_fun
from jdarts.xla.jaxprs import equations
from jdarts.xla.plain import has_plain_form
from jdarts.xla.platform import target_platform

#: The types that XLA's fast convolutions have, and bfloat16, which is float32 there.
_TYPES = ("float16", "bfloat16", "float32")
#: The supernets of DARTS have at most three convolutions of XLA, in their stem: with all derivatives less than a sixth as many as
#: operations of jdarts in the smallest one. Their programs stay as they are.
_SHARE = 1 / 5

_Program = Jaxpr | ClosedJaxpr


def has_convolutions(program: _Program) -> bool:
    """Whether XLA's convolutions matter in a traced function: they are not a few beside operations of jdarts."""
    found = [equation.primitive for equation in equations(program)]
    convolutions = sum(map(_is_convolution, found))
    return convolutions > _SHARE * sum(map(has_plain_form, found))


def canonical(program: ClosedJaxpr) -> ClosedJaxpr | None:
    """A traced function with its convolutions in XLA's fast form, in all that it calls; None if nothing changes.

    Nothing changes for other platforms than CPUs, in float64, and where XLA's convolutions do not matter.
    """
    if target_platform() != "cpu" or not has_convolutions(program):
        return None
    changed = _Canonical().program(program)
    return None if changed is program else changed


def evaluate_canonical(function: Callable[..., Any], *operands: Any) -> Any:
    """The results of a function of pytrees of arrays, which is traced, with its convolutions `canonical`."""
    program, shapes = jax.make_jaxpr(function, return_shape=True)(*operands)
    results = jaxpr_as_fun(canonical(program) or program)(*jax.tree.leaves(operands))
    return jax.tree.unflatten(jax.tree.structure(shapes), results)


def with_canonical_convolutions(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function whose convolutions are `canonical` where it is traced; eager code calls the function itself.

    Args:
      function: a function of pytrees of arrays.
    """
    return lambda *operands: evaluate_canonical(function, *operands) if is_traced(operands) else function(*operands)


def for_derivatives_of(program: ClosedJaxpr, *args: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """What to put around derivatives of a traced function: `with_canonical_convolutions` if it has any, else nothing.

    Nothing in eager code, where XLA compiles every operation alone.

    Args:
      program: the traced function.
      *args: pytrees that show whether a larger program is being traced.
    """
    return with_canonical_convolutions if is_traced(args) and has_convolutions(program) else lambda function: function


def is_traced(operands: Any) -> bool:
    """Whether any leaf of a pytree is traced."""
    return any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(operands))


def _is_convolution(primitive: Any) -> bool:
    return primitive is jax.lax.conv_general_dilated_p


class _Canonical:
    """Traced functions in the fast form; one that is called in several places changes once."""

    def __init__(self) -> None:
        self._changed: dict[int, Any] = {}

    def program(self, program: Any) -> Any:
        """The program, or a new one if anything in it changes."""
        if id(program) not in self._changed:
            self._changed[id(program)] = self._of_program(program)
        return self._changed[id(program)]

    def _of_program(self, program: Any) -> Any:
        # Where the two are one class, it holds its equations itself.
        if not isinstance(program, Jaxpr):
            inner = self.program(program.jaxpr)
            return program if inner is program.jaxpr else program.replace(jaxpr=inner)
        equations = _same_or_new(list(program.eqns), self._equation)
        return program if equations is None else program.replace(eqns=equations)

    def _equation(self, equation: JaxprEqn) -> JaxprEqn:
        if _is_convolution(equation.primitive):
            return _transposed(equation) if _is_slow(equation) else equation
        # The axes of a mesh are bound inside of it alone.
        if equation.primitive.name == "shard_map":
            return equation
        values = _same_or_new(list(equation.params.values()), self._parameter)
        return equation if values is None else equation.replace(params=dict(zip(equation.params, values)))

    def _parameter(self, value: Any) -> Any:
        if isinstance(value, tuple):
            values = _same_or_new(list(value), self._parameter)
            return value if values is None else tuple(values)
        return self.program(value) if isinstance(value, Jaxpr | ClosedJaxpr) else value


def _same_or_new(values: list[Any], change: Callable[[Any], Any]) -> list[Any] | None:
    """The changed values; None if all are the same."""
    changed = list(map(change, values))
    return None if all(new is old for new, old in zip(changed, values)) else changed


def _is_slow(equation: JaxprEqn) -> bool:
    """Whether a convolution has a fast form, and another one now."""
    image: Any = equation.invars[0].aval
    ordered = all(order == tuple(range(image.ndim)) for order in _orders(equation))
    return not ordered and str(image.dtype) in _TYPES and 3 <= image.ndim <= 5


def _orders(equation: JaxprEqn) -> tuple[tuple[int, ...], ...]:
    """The axes of image, kernel and result in the order of the fast form."""
    (image, feature, *of_image), (result, of_result, *pixels), (outputs, inputs, *taps) = (
        equation.params["dimension_numbers"][place] for place in (0, 2, 1)
    )
    return (image, *of_image, feature), (*taps, inputs, outputs), (result, *pixels, of_result)


def _transposed(equation: JaxprEqn) -> JaxprEqn:
    """An equation of the same operands and results: the convolution in the fast form, between transposes."""
    of_image, of_kernel, of_result = _orders(equation)
    last, images = len(of_image) - 1, (0, len(of_image) - 1, *range(1, len(of_image) - 1))
    numbers = jax.lax.ConvDimensionNumbers(images, (last, last - 1, *range(last - 1)), images)
    back = sorted(range(last + 1), key=of_result.__getitem__)

    def convolution(image: jax.Array, kernel: jax.Array) -> jax.Array:
        operands = jnp.transpose(image, of_image), jnp.transpose(kernel, of_kernel)
        return jnp.transpose(
            equation.primitive.bind(*operands, **{**equation.params, "dimension_numbers": numbers}), back
        )

    given: list[Any] = [each.aval for each in equation.invars]
    shapes = [jax.ShapeDtypeStruct(each.shape, each.dtype) for each in given]
    (call,) = jax.make_jaxpr(jax.jit(convolution))(*shapes).eqns
    return call.replace(invars=equation.invars, outvars=equation.outvars)
