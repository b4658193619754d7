"""The paper's search, projected from some of its steps with augmentation and from its evaluation on some batches."""

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness.search_program import search_program

from jdarts.parallel import jit_step
from jdarts.search.step import Images

from .parts import HALF, PAPER, SEARCH_EPOCHS, SEARCH_STEPS, Part
from .programs import compiled_step, drawn, shapes_of

MOST_STEPS, MOST_BATCHES = 500, 100
#: Steps between two looks at the clock.
_CHUNK = 25


def prepare_search(part: Part) -> tuple[dict[str, Any], Callable[[float], dict[str, Any]]]:
    """Compiles the programs of a search whose images are on the device.

    Returns:
      Facts of the step's compilation, and a function that measures for some seconds: `steps_taken`, `median_s` (here the mean of
      steps that nothing waits for), `evaluation_s` and `search_s`.
    """
    size = part.size
    count = HALF if size.image_size == PAPER.image_size else 8 * size.batch
    program, images = search_program(size, "exact", np.random.default_rng(0), count=count, padding=4)
    state = drawn(shapes_of(program.init, jax.ShapeDtypeStruct((), jnp.uint32)))
    # As the search does: a step gets its rows of an epoch's order.
    order = jax.device_get(jax.jit(program.rows)(state.data_key, jnp.int32(0)))
    per_epoch = count // size.batch

    def rows(place: int) -> Any:
        return jax.tree.map(lambda leaf: leaf[place % per_epoch], order)

    step, facts = compiled_step(jit_step(program.step, donate=True), (state, images, rows(0)), size)

    def evaluate_batch(state: Any, images: Images, place: Any) -> Any:
        halves = images.valid, images.valid_labels
        batch = (jax.lax.dynamic_slice_in_dim(array, place * size.batch, size.batch) for array in halves)
        return program.evaluate(state, *batch, jnp.ones(size.batch, bool))

    evaluate = jax.jit(evaluate_batch).lower(state, images, np.int32(0)).compile()

    def measure(seconds: float) -> dict[str, Any]:
        nonlocal state
        state, _ = step(state, images, rows(0))
        jax.block_until_ready((state, evaluate(state, images, np.int32(0))))
        taken = 0
        start = time.perf_counter()
        while taken < MOST_STEPS and time.perf_counter() - start < seconds:
            for place in range(taken, taken + _CHUNK):
                state, _ = step(state, images, rows(place))
            jax.block_until_ready(state)
            taken += _CHUNK
        of_step = (time.perf_counter() - start) / taken
        batches = min(MOST_BATCHES, per_epoch)
        start = time.perf_counter()
        jax.block_until_ready([evaluate(state, images, np.int32(place)) for place in range(batches)])
        of_evaluation = (time.perf_counter() - start) / batches * HALF / size.batch
        return {
            "steps_taken": taken,
            "median_s": of_step,
            "evaluation_s": of_evaluation,
            "search_s": of_step * SEARCH_STEPS + of_evaluation * SEARCH_EPOCHS,
        }

    return facts, measure
