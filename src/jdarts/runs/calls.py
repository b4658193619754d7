"""Several steps of a run as one call of a program: a `lax.scan` over their inputs, which the host starts and reads at once."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jdarts.xla.convolutions import evaluate_canonical


class Call(NamedTuple):
    """A call of one of a run's programs, which takes one step or several.

    Attributes:
      program: its name.
      inputs: its inputs besides the state.
      steps: number of steps. The metrics of several have them as their last axis.
    """

    program: str
    inputs: tuple[Any, ...]
    steps: int = 1


def program_of_several(name: str) -> str:
    """The name of the program that takes several of the steps of another one."""
    return f"{name}s"


def plan(names: Sequence[str], first: int, most: int) -> Iterator[tuple[str, range]]:
    """Joins steps that follow each other and have one program: as many as a call takes, or a single one.

    A program of several steps is compiled for their number, so that steps which do not fill a call are single ones.

    Args:
      names: the program of each step.
      first: index of the first of them.
      most: number of steps of a call.

    Yields:
      The program of each call, and the indices of its steps.
    """
    for name, equal in itertools.groupby(names):
        end = first + len(list(equal))
        while first < end:
            count = most if first + most <= end else 1
            yield program_of_several(name) if count > 1 else name, range(first, first + count)
            first += count


def of_several(step: Callable[..., Any], axes: Sequence[int | None]) -> Callable[..., Any]:
    """A step as a function that takes several, one after the other.

    Args:
      step: `(state, *inputs, …) -> (state, metrics)`.
      axes: for each input the axis of the steps; None for an input that all steps share.

    Returns:
      `(state, *inputs, …) -> (state, metrics)`, with the steps as the first axis of the metrics.
    """

    def steps(state: Any, *inputs: Any, **settings: Any) -> tuple[Any, Any]:
        changing = tuple(
            jax.tree.map(lambda leaf, axis=axis: jnp.moveaxis(leaf, axis, 0), each)
            for each, axis in zip(inputs, axes, strict=True)
            if axis is not None
        )

        def one(state: Any, present: tuple[Any, ...]) -> tuple[Any, Any]:
            left = iter(present)
            given = (each if axis is None else next(left) for each, axis in zip(inputs, axes))
            return step(state, *given, **settings)

        return evaluate_canonical(lambda *start: jax.lax.scan(one, *start), state, changing)

    return steps


def shapes_of_several(shapes: Any, axis: int | None, steps: int) -> Any:
    """Shapes and types of an input of `of_several`, from those of one step."""
    if axis is None:
        return shapes

    def longer(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*leaf.shape[:axis], steps, *leaf.shape[axis:]), leaf.dtype)

    return jax.tree.map(longer, shapes)
