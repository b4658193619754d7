"""Runs that differ only in their seeds, as one task: a vmapped step over stacked states."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.runs.task import Input, Program, Task

AnyTask = TypeVar("AnyTask", bound=Task[Any])


def batched(task: AnyTask, seeds: Sequence[int], *, description: str) -> AnyTask:
    """The runs of several seeds as one task, with vmapped programs and stacked states.

    The first axis of the state's leaves, metrics and evaluations is that of the runs; the devices share it. Methods of the
    task that read one state (`record`, `result`, …) get the state of one run, from `one`.

    Args:
      task: the task of any of the seeds.
      seeds: the seeds.
      description: the line that the display shows at the start.
    """
    runs = len(seeds)
    template, programs_with = _stacked_shapes(task.template, runs), task.programs_with
    inputs = Input(template, split=True), Input(jax.ShapeDtypeStruct((), jnp.int32), split=None)

    def of_all(programs: Mapping[str, Program]) -> dict[str, Program]:
        return {name: _batched(name, each, runs) for name, each in programs.items()} | {"one": Program(one, inputs)}

    return dataclasses.replace(
        task,
        seed=np.array(seeds, np.uint32),
        template=template,
        description=description,
        key=(runs, task.key),
        programs=of_all(task.programs),
        programs_with=None if programs_with is None else lambda epoch_steps: of_all(programs_with(epoch_steps)),
        runs=runs,
    )


def at_once(task: AnyTask, seeds: Sequence[int]) -> AnyTask:
    """The searches of several seeds as one task, as `batched`, with their line for the display."""
    listed = ", ".join(map(str, seeds))
    return batched(task, seeds, description=f"{len(seeds)} searches at once, seeds {listed}: {task.description}")


def one(state: Any, index: jax.Array) -> Any:
    """The state of one of several stacked runs."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, index, keepdims=False), state)


def stacked(*states: Any) -> Any:
    """The states of several runs as one."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def template_of_one(task: Task[Any]) -> Any:
    """Shapes and types of the state of one of a task's runs."""
    if task.runs is None:
        return task.template
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), task.template)


def numbers_of_one(values: Mapping[str, Any], index: int) -> dict[str, float]:
    """The numbers of one of several runs: its element of each `[runs]` array, and all numbers that the runs share."""
    return {name: float(value[index] if np.ndim(value) else value) for name, value in values.items()}


def _batched(name: str, program: Program, runs: int) -> Program:
    function = program.function
    if name == "init":
        # In sequence: a vmapped program that draws this many arrays takes minutes to compile.
        seeds = Input(np.zeros(runs, np.uint32), split=None)
        return program._replace(function=lambda seeds: jax.lax.map(function, seeds), inputs=(seeds,), spread="results")
    if program.spread == "batch":
        first, *rest = program.inputs
        inputs = (_batched_input(first._replace(stacked=True), runs), *(_batched_input(each, runs) for each in rest))
        return program._replace(inputs=inputs, spread="runs")
    axes = tuple(0 if each.stacked else None for each in program.inputs)
    inputs = tuple(_batched_input(each, runs) for each in program.inputs)
    return program._replace(function=_vmapped(function, axes), inputs=inputs)


@functools.lru_cache(maxsize=16)
def _vmapped(function: Callable[..., Any], axes: tuple[int | None, ...]) -> Callable[..., Any]:
    """One function for all equal ones, which JAX therefore compiles once."""
    return jax.vmap(function, in_axes=axes)


def _batched_input(each: Input, runs: int) -> Input:
    if not each.stacked:
        return each if each.split is None else each._replace(split=False)
    return Input(_stacked_shapes(each.shapes, runs), split=True, stacked=True)


def _stacked_shapes(tree: Any, runs: int) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((runs, *leaf.shape), leaf.dtype), tree)
