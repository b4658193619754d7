"""The recurrent search cell over time with the statistics of each batch, and its derivatives, natively on CPUs.

A loop of XLA spends as much time on copies, slices and small matrix products one at a time as on arithmetic. Here the whole
segment is one function and its derivative another, which accumulates the gradients of the matrices. The tangents of each are one
function more, at about twice the cost: a product of second derivatives with a vector costs as much as two gradients. Other
derivatives (that of a gradient in reverse mode, third derivatives) are those of the same cell in operations of JAX.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jdarts import native
from jdarts.ops.highway import mixed_highway_in_jnp
from jdarts.ops.recurrent import mixed_cell
from jdarts.xla.jax_compat import (
    Primitive,
    Zero,
    define_dead_code_rule,
    instantiate_zeros,
    is_undefined_primal,
    primitive_jvps,
    primitive_transposes,
)
from jdarts.xla.tangents import define_jvp_by, zero_tangent

search_cell_p = Primitive("search_cell")
backward_p = Primitive("search_cell_backward")
tangent_p = Primitive("search_cell_tangent")
backward_tangent_p = Primitive("search_cell_backward_tangent")

# Operands of `search_cell_p`: those that have derivatives, then mask and length.
_FLOATS = 5
_INPUTS = 7
# Its results: those of the public function, then the residuals for the derivatives.
_RESULTS = 4
_KEPT = 3
# Operands of `backward_p`: inputs, outputs, residuals, and cotangents of the results.
_COTANGENTS = slice(_INPUTS + 1 + _KEPT, _INPUTS + 1 + _KEPT + _RESULTS)


def search_cell(
    mixture: jax.Array,
    recurrent: jax.Array,
    matrices: jax.Array,
    projected: jax.Array,
    hidden: jax.Array,
    mask: jax.Array,
    length: jax.Array,
    concat: tuple[int, ...],
) -> Any:
    """The cell over all time steps; equal to `jdarts.ops.recurrent.mixed_cell` with the statistics of each batch.

    Derivatives may be taken in both modes and any number of times. The mask is a constant: no derivative reaches it.

    Args:
      mixture: weights of the activations `[E, F]`.
      recurrent: matrix of the hidden state `[H, 2H]`.
      matrices: matrices of the nodes `[N, H, 2H]`.
      projected: products of the words with the input matrix `[T, B, 2H]`.
      hidden: the state before the first word, `[B, H]`.
      mask: dropout mask of hidden state and states where they enter a product, `[B, H]`.
      length: words before the padding, an integer `[]`.
      concat: the states whose mean is the output.

    Returns:
      Outputs `[T, B, H]`, the hidden state after the last word `[B, H]`, and means and variances of the norms
      `[T · (N + 1), H]`.
    """
    words = jnp.asarray(length, jnp.int32)
    operands = (mixture, recurrent, matrices, projected, hidden, lax.stop_gradient(mask), words)
    results: Any = search_cell_p.bind(*operands, concat=concat)
    return tuple(results[:_RESULTS])


# Derivatives.


def _cell_jvp(primals: Any, tangents: Any, *, concat: tuple[int, ...]) -> Any:
    results = search_cell_p.bind(*primals, concat=concat)
    if all(isinstance(tangent, Zero) for tangent in tangents[:_FLOATS]):
        return results, list(map(zero_tangent, results))
    kept = results[_RESULTS:]
    out_tangents = tangent_p.bind(
        *primals, results[0], *kept, *map(instantiate_zeros, tangents[:_FLOATS]), concat=concat
    )
    return results, out_tangents


def _tangent_transpose(cotangents: Any, *operands: Any, concat: tuple[int, ...]) -> Any:
    known, needed = operands[:-_FLOATS], list(map(is_undefined_primal, operands[-_FLOATS:]))
    # Residuals have no cotangents: `_backward_tangent_transpose` gives their share to the inputs.
    given = map(instantiate_zeros, cotangents[:_RESULTS])
    of_mixture, of_projected, of_hidden, *of_matrices = backward_p.bind(
        *known, *given, concat=concat, of_matrices=needed[1] or needed[2], of_states=False
    )
    found = (of_mixture, *(of_matrices or (None, None)), of_projected, of_hidden)
    return [*(None for _ in known), *_only(needed, found)]


def _backward_jvp(primals: Any, tangents: Any, *, concat: tuple[int, ...], of_matrices: bool, of_states: bool) -> Any:
    if all(isinstance(tangent, Zero) for tangent in tangents):
        results = backward_p.bind(*primals, concat=concat, of_matrices=of_matrices, of_states=of_states)
        return results, list(map(zero_tangent, results))
    *results, states = backward_p.bind(*primals, concat=concat, of_matrices=of_matrices, of_states=True)
    in_tangents = [*tangents[:_FLOATS], *tangents[_INPUTS:]]
    out_tangents = backward_tangent_p.bind(
        *primals, states, *map(instantiate_zeros, in_tangents), concat=concat, of_matrices=of_matrices
    )
    if of_states:
        # Only `backward_tangent_p` reads the states, and its derivative computes them from the inputs.
        return [*results, states], [*out_tangents, zero_tangent(states)]
    return results, out_tangents


def _backward_tangent_transpose(cotangents: Any, *operands: Any, concat: tuple[int, ...], of_matrices: bool) -> Any:
    known, linear = operands[: _COTANGENTS.stop + 1], operands[_COTANGENTS.stop + 1 :]

    def function(floats: Any, given: Any) -> Any:
        return _backward_of_floats(floats, known[_FLOATS:_INPUTS], given, concat, of_matrices)

    _, pull_back = jax.vjp(function, known[:_FLOATS], known[_COTANGENTS])
    of_floats, of_given = pull_back(list(map(instantiate_zeros, cotangents)))
    # Outputs and residuals are functions of the inputs, whose cotangents include theirs.
    found = [*of_floats, *(None for _ in range(1 + _KEPT)), *of_given]
    return [*(None for _ in known), *_only(map(is_undefined_primal, linear), found)]


def _only(needed: Any, cotangents: Any) -> list[Any]:
    return [cotangent if is_needed else None for is_needed, cotangent in zip(needed, cotangents)]


def _without_unused_matrices(used: Sequence[bool], equation: Any) -> Any:
    """Leaves out the tangents of the matrices' gradients if nothing reads them."""
    if not any(used):
        return [False] * len(equation.invars), None
    if not equation.params["of_matrices"] or any(used[3:]):
        return [True] * len(equation.invars), equation
    params = {**equation.params, "of_matrices": False}
    return [True] * len(equation.invars), equation.replace(outvars=equation.outvars[:3], params=params)


# In operations of JAX.


def _cell_of_floats(floats: Any, others: Any, concat: tuple[int, ...]) -> Any:
    mixture, recurrent, matrices, projected, hidden = floats
    outputs, last, moments = mixed_cell(
        mixture, recurrent, matrices, projected, hidden, *others, concat=concat, highways=mixed_highway_in_jnp
    )
    return [outputs, last, moments.mean, moments.variance]


def _backward_of_floats(floats: Any, others: Any, given: Any, concat: tuple[int, ...], of_matrices: bool) -> Any:
    _, pull_back = jax.vjp(lambda floats: _cell_of_floats(floats, others, concat), floats)
    ((of_mixture, *matrices, of_projected, of_hidden),) = pull_back(list(given))
    return [of_mixture, of_projected, of_hidden, *(matrices if of_matrices else ())]


def _zeros(shapes: Sequence[Any]) -> list[jax.Array]:
    return [jnp.zeros(shape.shape, shape.dtype) for shape in shapes]


def _cell_in_jnp(*inputs: Any, concat: tuple[int, ...]) -> list[jax.Array]:
    kept = _zeros(_shapes(*map(jax.typeof, inputs), concat=concat)[_RESULTS:])
    return [*_cell_of_floats(inputs[:_FLOATS], inputs[_FLOATS:], concat), *kept]


def _backward_in_jnp(*operands: Any, concat: tuple[int, ...], of_matrices: bool, of_states: bool) -> list[jax.Array]:
    states = [jnp.zeros_like(operands[_INPUTS + 1])] if of_states else []
    others = operands[_FLOATS:_INPUTS]
    return [
        *_backward_of_floats(operands[:_FLOATS], others, operands[_COTANGENTS], concat, of_matrices),
        *states,
    ]


def _tangent_in_jnp(*operands: Any, concat: tuple[int, ...]) -> list[jax.Array]:
    others = operands[_FLOATS:_INPUTS]
    _, out_tangents = jax.jvp(
        lambda *floats: _cell_of_floats(floats, others, concat), operands[:_FLOATS], operands[-_FLOATS:]
    )
    kept = operands[_INPUTS + 1 : _INPUTS + 1 + _KEPT]
    return [*out_tangents, *map(jnp.zeros_like, kept)]


def _backward_tangent_in_jnp(*operands: Any, concat: tuple[int, ...], of_matrices: bool) -> list[jax.Array]:
    others, in_tangents = operands[_FLOATS:_INPUTS], operands[_COTANGENTS.stop + 1 :]

    def function(*arguments: Any) -> Any:
        return _backward_of_floats(arguments[:_FLOATS], others, arguments[_FLOATS:], concat, of_matrices)

    primals = (*operands[:_FLOATS], *operands[_COTANGENTS])
    _, out_tangents = jax.jvp(function, primals, (*in_tangents[:_FLOATS], *in_tangents[-_RESULTS:]))
    return out_tangents


# Shapes.


@search_cell_p.def_abstract_eval
def _shapes(
    mixture: Any, recurrent: Any, matrices: Any, projected: Any, hidden: Any, mask: Any, length: Any, **_: Any
) -> Any:
    del mixture, recurrent, mask, length
    steps, batch, _ = projected.shape
    nodes, width, _ = matrices.shape
    # Rows of residuals are filled up to whole vectors, of at most 64 bytes.
    lanes = 64 // projected.dtype.itemsize
    filled = -(-width // lanes) * lanes
    rows = batch * (1 + nodes * (nodes + 1) // 2)
    moments = (steps * (nodes + 1), width)
    kept = ((steps, nodes + 1, batch, filled), (steps, rows, 2, filled), (steps, nodes + 1, filled))
    return [projected.update(shape=shape) for shape in ((steps, batch, width), hidden.shape, moments, moments, *kept)]


@backward_p.def_abstract_eval
def _backward_shapes(*operands: Any, of_matrices: bool, of_states: bool = False, **_: Any) -> Any:
    mixture, recurrent, matrices, projected, hidden = operands[:_FLOATS]
    states = operands[_INPUTS + 1]
    return [
        mixture,
        projected,
        hidden,
        *((recurrent, matrices) if of_matrices else ()),
        *((states,) if of_states else ()),
    ]


tangent_p.def_abstract_eval(lambda *operands, concat: _shapes(*operands[:_INPUTS], concat=concat))
backward_tangent_p.def_abstract_eval(_backward_shapes)


def _define(primitive: Primitive, function: Callable, statics: tuple[str, ...]) -> None:
    primitive.multiple_results = True
    native.define_lowering(primitive, function, statics, native_name=primitive.name)
    native.batch_in_turn(primitive, function)


_define(search_cell_p, _cell_in_jnp, ("concat",))
_define(backward_p, _backward_in_jnp, ("concat", "of_matrices", "of_states"))
_define(tangent_p, _tangent_in_jnp, ("concat",))
_define(backward_tangent_p, _backward_tangent_in_jnp, ("concat", "of_matrices"))

primitive_jvps[search_cell_p] = _cell_jvp
primitive_jvps[backward_p] = _backward_jvp
define_jvp_by(tangent_p, _tangent_in_jnp)
define_jvp_by(backward_tangent_p, _backward_tangent_in_jnp)
primitive_transposes[tangent_p] = _tangent_transpose
primitive_transposes[backward_tangent_p] = _backward_tangent_transpose
define_dead_code_rule(backward_tangent_p, _without_unused_matrices)
