"""The recurrent search cell over time with the statistics of each batch, and its derivatives, natively on CPUs.

A loop of XLA spends as much time on copies, slices and small matrix products one at a time as on arithmetic. Here the whole
segment is one function and its derivative another, which adds the matrices' gradients up as it goes. The derivative of that is
taken of the same cell in operations of JAX.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jdarts import native
from jdarts.ops.recurrent import mixed_cell
from jdarts.xla.batching import define_batching, map_in_turn
from jdarts.xla.jax_compat import Primitive

search_cell_p = Primitive("search_cell")
backward_p = Primitive("search_cell_backward")

_INPUTS = 7
_COTANGENTS = 4


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

    Derivatives may be taken twice and more in reverse mode. The mask is a constant: no derivative reaches it.

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
    results: Any = _cell(mixture, recurrent, matrices, projected, hidden, mask, words, concat)
    return results[:_COTANGENTS]


@functools.partial(jax.custom_vjp, nondiff_argnums=(7,))
def _cell(
    mixture: Any, recurrent: Any, matrices: Any, projected: Any, hidden: Any, mask: Any, length: Any, concat: Any
) -> Any:
    """The results of `search_cell`, and what is kept for the derivative."""
    operands = (mixture, recurrent, matrices, projected, hidden, mask, length)
    results: Any = search_cell_p.bind(*operands, concat=concat)
    return tuple(results)


def _forward(*primals: Any) -> Any:
    *given, concat = primals
    arguments = tuple(argument.value for argument in given)
    results: Any = _cell(*arguments, concat)
    # The structure of a tree says whether gradients of the matrices are wanted.
    wanted = () if given[1].perturbed or given[2].perturbed else None
    return results, (arguments, results[0], results[_COTANGENTS:], wanted)


def _pull_back(concat: tuple[int, ...], residuals: Any, cotangents: Any) -> Any:
    arguments, outputs, kept, wanted = residuals
    shapes = [jax.typeof(outputs), jax.typeof(arguments[4])]
    shapes += [jax.ShapeDtypeStruct((kept[0].shape[0] * kept[0].shape[1], outputs.shape[-1]), outputs.dtype)] * 2
    known = [
        jnp.zeros(shape.shape, shape.dtype) if isinstance(cotangent, jax.custom_derivatives.SymbolicZero) else cotangent
        for shape, cotangent in zip(shapes, cotangents)
    ]
    results: Any = _backward((*arguments, outputs, *kept, *known), concat, wanted is not None)
    of_mixture, of_projected, of_hidden, *matrices = results
    return of_mixture, *(matrices or (None, None)), of_projected, of_hidden, None, None


_cell.defvjp(_forward, _pull_back, symbolic_zeros=True)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _backward(operands: Any, concat: tuple[int, ...], of_matrices: bool) -> Any:
    """Cotangents of mixture, projected and hidden, and, if asked for, of recurrent and matrices.

    Operands are the arguments, the outputs, what was kept, and the cotangents of the results.
    """
    results: Any = backward_p.bind(*operands, concat=concat, of_matrices=of_matrices)
    return tuple(results)


def _second(concat: tuple[int, ...], of_matrices: bool, operands: Any, cotangents: Any) -> Any:
    def again(floats: Any, given: Any) -> Any:
        *first, hidden, mask = floats
        everything = (*first, hidden, mask, *operands[6:-_COTANGENTS], *given)
        return tuple(_backward_in_jnp(*everything, concat=concat, of_matrices=of_matrices))

    of_arguments, of_given = jax.vjp(again, operands[:6], operands[-_COTANGENTS:])[1](cotangents)
    # Outputs and what was kept follow from the arguments, and count with them.
    return ((*of_arguments, *(None,) * (len(operands) - 6 - _COTANGENTS), *of_given),)


_backward.defvjp(
    lambda operands, concat, of_matrices: (_backward(operands, concat, of_matrices), operands),
    _second,
)


def _search_cell_in_jnp(*arguments: Any, concat: tuple[int, ...]) -> Any:
    mixture, recurrent, matrices, projected, hidden, mask, length = arguments
    outputs, last, moments = mixed_cell(
        mixture, recurrent, matrices, projected, hidden, lax.stop_gradient(mask), length, concat=concat
    )
    return outputs, last, moments.mean, moments.variance


def _cell_without_kept(*arguments: Any, concat: tuple[int, ...]) -> list[jax.Array]:
    kept = _shapes(*map(jax.typeof, arguments), concat=concat)[_COTANGENTS:]
    zeros = [jnp.zeros(shape.shape, shape.dtype) for shape in kept]
    return [*_search_cell_in_jnp(*arguments, concat=concat), *zeros]


def _backward_in_jnp(*operands: Any, concat: tuple[int, ...], of_matrices: bool) -> list[jax.Array]:
    length = operands[_INPUTS - 1]
    _, pull_back = jax.vjp(
        lambda *floats: _search_cell_in_jnp(*floats, length, concat=concat), *operands[: _INPUTS - 1]
    )
    of_mixture, *matrices, of_projected, of_hidden, _ = pull_back(tuple(operands[-_COTANGENTS:]))
    return [of_mixture, of_projected, of_hidden, *(matrices if of_matrices else ())]


@search_cell_p.def_abstract_eval
def _shapes(
    mixture: Any, recurrent: Any, matrices: Any, projected: Any, hidden: Any, mask: Any, length: Any, **_: Any
) -> Any:
    del mixture, recurrent, mask, length
    steps, batch, _ = projected.shape
    nodes, width, _ = matrices.shape
    # Rows of what is kept are filled up to whole vectors, of at most 64 bytes.
    lanes = 64 // projected.dtype.itemsize
    filled = -(-width // lanes) * lanes
    rows = batch * (1 + nodes * (nodes + 1) // 2)
    moments = (steps * (nodes + 1), width)
    kept = ((steps, nodes + 1, batch, filled), (steps, rows, 2, filled), (steps, nodes + 1, filled))
    return [projected.update(shape=shape) for shape in ((steps, batch, width), hidden.shape, moments, moments, *kept)]


@backward_p.def_abstract_eval
def _backward_shapes(
    mixture: Any, recurrent: Any, matrices: Any, projected: Any, hidden: Any, *_: Any, **params: Any
) -> Any:
    return [mixture, projected, hidden, *((recurrent, matrices) if params["of_matrices"] else ())]


def _define(primitive: Primitive, function: Callable, statics: tuple[str, ...]) -> None:
    primitive.multiple_results = True
    native.define_lowering(primitive, function, statics, native_name=primitive.name)

    def batched(operands: Any, axes: Any, **params: Any) -> Any:
        results = map_in_turn(functools.partial(primitive.bind, **params), operands, axes)
        return results, [0] * len(results)

    define_batching(primitive, batched)


_define(search_cell_p, _cell_without_kept, ("concat",))
_define(backward_p, _backward_in_jnp, ("concat", "of_matrices"))
