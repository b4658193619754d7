"""Programs of jdarts, compiled for the device that is there, with random numbers for what they read."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from harness import hlo
from harness.jdarts_steps import StepProgram, step_program
from harness.setup import Setup, Size

from jdarts.data import Augmentation
from jdarts.parallel import jit_step, vmap_step
from jdarts.search import SearchConfig
from jdarts.search.step import Images, Rows
from jdarts.search.task import program_from_config

from .parts import HALF, SEARCH_EPOCHS, SEARCH_STEPS, Part

#: The precision of products that a part's name stands for; the default of GPUs is TF32.
MATMUL_PRECISION = {"float32": "highest", "tf32": "default", "bfloat16": "default"}


class Ready(NamedTuple):
    """A program that can be measured.

    Attributes:
      take: starts a step.
      wait: waits until it is done.
      facts: what was noticed on the way.
    """

    take: Callable[[], object]
    wait: Callable[[], object]
    facts: dict[str, Any]


def prepare_step(part: Part) -> Ready:
    """A step of one search."""
    program = _program(part)
    state, train, valid = drawn(program.shapes())
    return _ready(jit_step(program.step, donate=True), (state, train, valid), program, part.size)


def prepare_seeds(part: Part) -> Ready:
    """One step of several searches, each with batches of its own."""
    program = _program(part)
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((part.seeds, *leaf.shape), leaf.dtype), program.shapes())
    return _ready(vmap_step(program.step, donate=True), drawn(shapes), program, part.size)


def prepare_search(part: Part) -> tuple[Ready, Callable[[Any], dict[str, Any]]]:
    """The step of a search with its data on the device; the function measures it with its evaluations and projects a search."""
    size, quick = part.size, part.size.image_size < 32
    count = HALF if not quick else 8 * size.batch
    config = SearchConfig(
        channels=size.channels, cells=size.cells, nodes=size.nodes, batch_size=size.batch, hypergradient="exact"
    )
    shape = (size.image_size, size.image_size, 3)
    program = program_from_config(
        config,
        image_shape=shape,
        classes=size.classes,
        counts=(count, count),
        augmentation=Augmentation(padding=4, flip=True),
        mean=(0.5,) * 3,
        std=(0.25,) * 3,
    )
    draw = np.random.default_rng(0)
    pixels = jnp.asarray(draw.integers(256, size=(count, *shape)), jnp.uint8)
    labels = jnp.asarray(draw.integers(size.classes, size=count), jnp.int32)
    images = Images(pixels, labels, pixels, labels)
    state = drawn(jax.eval_shape(program.init, jax.ShapeDtypeStruct((), jnp.uint32)))
    step, facts = _compiled(jit_step(program.step, donate=True), (state, images, _first_rows(program, state)), size)
    rows = jax.jit(program.rows)
    evaluate = jit_step(program.evaluate)
    mask = jnp.ones(size.batch, bool)

    def take() -> None:
        nonlocal state
        state, _ = step(state, images, jax.tree.map(lambda leaf: leaf[0], rows(state.data_key, jnp.int32(0))))

    def measure(seconds: float) -> dict[str, Any]:
        nonlocal state
        scores = evaluate(state, pixels[: size.batch], labels[: size.batch], mask)
        take()
        jax.block_until_ready((state, scores))
        order, taken, per_epoch = rows(state.data_key, jnp.int32(1)), 0, count // size.batch
        start = time.perf_counter()
        while taken < 500 and time.perf_counter() - start < seconds:
            for place in range(taken % per_epoch, min(per_epoch, taken % per_epoch + 50)):
                state, _ = step(state, images, jax.tree.map(lambda leaf, at=place: leaf[at], order))
                taken += 1
            jax.block_until_ready(state)
        of_steps = time.perf_counter() - start
        start = time.perf_counter()
        batches = min(100, per_epoch)
        for place in range(batches):
            chosen = slice(place * size.batch, (place + 1) * size.batch)
            scores = evaluate(state, pixels[chosen], labels[chosen], mask)
        jax.block_until_ready(scores)
        of_evaluation = (time.perf_counter() - start) / batches * (HALF / size.batch)
        search = of_steps / taken * SEARCH_STEPS + of_evaluation * SEARCH_EPOCHS
        return {
            "steps_taken": taken,
            "median_s": of_steps / taken,
            "evaluation_s": of_evaluation,
            "search_s": search,
        }

    return Ready(take, lambda: jax.block_until_ready(state), facts), measure


def prepare_recurrent(part: Part) -> Ready:
    """A step of a recurrent search."""
    from harness.recurrent_steps import prepare_jdarts

    take, facts = prepare_jdarts(part.step, part.recurrent)
    return Ready(take, lambda: None, dict(facts))


def drawn(shapes: Any) -> Any:
    """Arrays of these shapes without a program that draws them: small random numbers, with ones for batch statistics."""
    random = np.random.default_rng(0)

    def leaf(path: Any, shape: Any) -> jax.Array:
        if jnp.issubdtype(shape.dtype, jax.dtypes.prng_key):
            return jax.random.wrap_key_data(jnp.zeros((*shape.shape, 2), jnp.uint32))
        if not jnp.issubdtype(shape.dtype, jnp.floating):
            return jnp.zeros(shape.shape, shape.dtype)
        name = jax.tree_util.keystr(path)
        if "model_state" in name:
            return jnp.ones(shape.shape, shape.dtype)
        scale = 0.0 if "opt_state" in name or "sums" in name else 0.1
        return jnp.asarray(scale * random.standard_normal(shape.shape, np.float32), shape.dtype)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def peak_bytes() -> int | None:
    """The most memory of the device that this process has used; None where the device does not tell."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def _program(part: Part) -> StepProgram:
    dtype = "bfloat16" if part.precision == "bfloat16" else "float32"
    return step_program(Setup("jdarts", part.step, part.size, dtype=dtype))


def _first_rows(program: Any, state: Any) -> Rows:
    rows = jax.eval_shape(program.rows, state.data_key, jnp.int32(0))
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), rows)


def _ready(step: Any, inputs: Any, program: StepProgram, size: Size) -> Ready:
    compiled, facts = _compiled(step, inputs, size, program.compiler_options)
    state, *batches = inputs

    def take() -> None:
        nonlocal state
        state, _ = compiled(state, *batches)

    return Ready(take, lambda: jax.block_until_ready(state), facts)


def _compiled(step: Any, inputs: Any, size: Size, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
    start = time.perf_counter()
    lowered = step.lower(*inputs)
    traced = time.perf_counter()
    compiled = lowered.compile(options)
    facts: dict[str, Any] = {"trace_s": traced - start, "compile_s": time.perf_counter() - traced}
    memory = compiled.memory_analysis()
    if memory is not None:
        facts["temporary_bytes"] = memory.temp_size_in_bytes
    summary = hlo.summarise(compiled.as_text(), map_numbers=size.smallest_map)
    facts |= {"launches": summary.count, "written_bytes": summary.bytes, "moved_bytes": summary.moved}
    return compiled, facts | {"launches_by_kind": summary.launches}
