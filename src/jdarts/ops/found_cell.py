"""A found recurrent cell over the words of a segment.

On accelerators it has a derivative like that of `jdarts.ops.cell_for_accelerators`: the products of states and matrices are
computed for all words at once before its loop over the words, and the gradients of the matrices after it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jdarts.ops.recurrent import (
    CellInputs,
    gradient_of_matrix,
    highway,
    masked,
    mean_backward,
    mean_of_states,
    over_time,
    product,
    step_backward,
)
from jdarts.xla.platform import target_platform


class Node(NamedTuple):
    """A node of a found cell: its activation, and the number of the state that it reads."""

    function: Callable[[jax.Array], jax.Array]
    source: int


class _Kept(NamedTuple):
    """Hidden states before the words `[T, B, H]`, and states `[T, N + 1, B, H]`."""

    before: jax.Array
    states: jax.Array


def found_cell(inputs: CellInputs, nodes: Sequence[Node], concat: Sequence[int]) -> tuple[jax.Array, jax.Array]:
    """Runs a found cell over the words of a segment. Nodes that read the same state share one product.

    On accelerators, derivatives have every order in reverse mode, and none reaches the mask, which is a constant.

    Args:
      inputs: of the cell.
      nodes: of the cell, each after those that it reads.
      concat: the states whose mean is the output.

    Returns:
      Outputs `[T, B, H]`, and the hidden state after the last word.
    """
    if target_platform() == "cpu":
        return _forward(inputs, nodes, concat)[0]
    results: Any = _cell(inputs, tuple(nodes), tuple(concat))
    return results


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _cell(inputs: CellInputs, nodes: tuple[Node, ...], concat: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    return _forward(inputs, nodes, concat, keep=True)[0]


def _readers(nodes: Sequence[Node]) -> dict[int, list[int]]:
    """The nodes that read each state that any node reads."""
    found: dict[int, list[int]] = {}
    for number, node in enumerate(nodes):
        found.setdefault(node.source, []).append(number)
    return found


def _joined(matrices: jax.Array, readers: dict[int, list[int]]) -> dict[int, jax.Array]:
    """The matrices of a state's readers, side by side."""
    return {
        source: jnp.concatenate([matrices[number] for number in numbers], axis=-1)
        for source, numbers in readers.items()
    }


def _forward(
    inputs: CellInputs, nodes: Sequence[Node], concat: Sequence[int], *, keep: bool = False
) -> tuple[tuple[jax.Array, jax.Array], Any]:
    """The results, and if asked for `_Kept`."""
    readers = _readers(nodes)
    joined = _joined(inputs.matrices, readers)

    def states_of(hidden: jax.Array, words: jax.Array) -> tuple[jax.Array, Any]:
        states = [highway(hidden, words, jnp.tanh)]
        products: dict[int, jax.Array] = {}
        for number, node in enumerate(nodes):
            if number == readers[node.source][0]:
                numbers = readers[node.source]
                parts = jnp.split(
                    product(masked(states[node.source], inputs.mask), joined[node.source]), len(numbers), -1
                )
                products |= dict(zip(numbers, parts))
            states.append(highway(states[node.source], products[number], node.function))
        kept = _Kept(hidden, jnp.stack(states)) if keep else None
        return mean_of_states([states[state] for state in concat]), kept

    outputs, last, kept = over_time(
        states_of, inputs.projected, inputs.recurrent, inputs.hidden, inputs.mask, inputs.length
    )
    return (outputs, last), kept


def _forward_rule(
    inputs: CellInputs, nodes: tuple[Node, ...], concat: tuple[int, ...]
) -> tuple[tuple[jax.Array, jax.Array], tuple[CellInputs, _Kept]]:
    results, kept = _forward(inputs, nodes, concat, keep=True)
    return results, (inputs, kept)


class _Word(NamedTuple):
    """What the loop reads of a word: the cotangent of its output, and what is known of it."""

    of_output: jax.Array
    time: jax.Array
    before: jax.Array
    words: jax.Array
    states: jax.Array
    products: dict[int, jax.Array]


def _backward_rule(
    nodes: tuple[Node, ...],
    concat: tuple[int, ...],
    residuals: tuple[CellInputs, _Kept],
    cotangents: tuple[jax.Array, jax.Array],
) -> tuple[CellInputs]:
    (inputs, kept), (of_outputs, of_last) = residuals, cotangents
    mask, readers = inputs.mask, _readers(nodes)
    joined = _joined(inputs.matrices, readers)
    dropped = {source: masked(kept.states[:, source], mask) for source in readers}
    dropped_before = masked(kept.before, mask)

    def of_word(of_hidden: jax.Array, word: _Word) -> tuple[jax.Array, Any]:
        of_output, around_cell = step_backward(word.of_output, of_hidden, word.time, inputs.length)
        of_states = mean_backward(of_output, concat, len(nodes) + 1)
        of_products: dict[int, jax.Array] = {}
        for state in reversed(range(len(nodes) + 1)):
            if state in readers:
                # All of them come after this state, so that their cotangents are known.
                side_by_side = jnp.concatenate([of_products[number] for number in readers[state]], axis=-1)
                of_states[state] += masked(product(side_by_side, joined[state].T), mask)
            if state == 0:
                break
            number, source = state - 1, nodes[state - 1].source
            around, of_products[number] = _highway_backward(
                word.states[source], _part(word.products[source], readers[source], number), nodes[number].function
            )(of_states[state])
            of_states[source] += around
        around, of_words = _highway_backward(word.before, word.words, jnp.tanh)(of_states[0])
        of_before = around_cell + around + masked(product(of_words, inputs.recurrent.T), mask)
        of_readers = {
            source: jnp.concatenate([of_products[number] for number in numbers], axis=-1)
            for source, numbers in readers.items()
        }
        return of_before, (of_words, of_readers)

    words = _Word(
        of_outputs,
        jnp.arange(len(of_outputs), dtype=jnp.int32),
        kept.before,
        inputs.projected + product(dropped_before, inputs.recurrent),
        kept.states,
        {source: product(dropped[source], joined[source]) for source in readers},
    )
    of_hidden, (of_words, of_readers) = lax.scan(
        jax.checkpoint(of_word, prevent_cse=False), of_last, words, reverse=True
    )
    of_matrices: dict[int, jax.Array] = {}
    for source, numbers in readers.items():
        of_joined = gradient_of_matrix(dropped[source], of_readers[source])
        of_matrices |= dict(zip(numbers, jnp.split(of_joined, len(numbers), axis=-1)))
    return (
        CellInputs(
            gradient_of_matrix(dropped_before, of_words),
            jnp.stack([of_matrices[number] for number in range(len(nodes))]),
            of_words,
            of_hidden,
            None if mask is None else jnp.zeros_like(mask),
            None,
        ),
    )


def _part(products: jax.Array, numbers: Sequence[int], number: int) -> jax.Array:
    return jnp.split(products, len(numbers), axis=-1)[numbers.index(number)]


def _highway_backward(
    states: jax.Array, products: jax.Array, function: Callable[[jax.Array], jax.Array]
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
    """From the cotangent of a highway's result, those of states and products."""
    pull: Any = jax.vjp(lambda states, products: highway(states, products, function), states, products)[1]
    return pull


_cell.defvjp(_forward_rule, _backward_rule)
