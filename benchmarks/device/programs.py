"""Programs of jdarts, compiled for the device that is there, with random numbers for what they read."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from harness import hlo
from harness.compilation import timed_compilation
from harness.jdarts_steps import StepProgram, step_program
from harness.setup import Setup, Size

from jdarts.parallel import jit_step, vmap_step

from .parts import Part

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
    state, train, valid = drawn(shapes_of(program.start))
    step = program.step if part.steps_per_call == 1 else of_several(program.step, part.steps_per_call)
    return _ready(jit_step(step, donate=True), (state, train, valid), program, part.size)


def of_several(step: Callable[..., tuple[Any, Any]], count: int) -> Callable[..., tuple[Any, Any]]:
    """Several steps on one batch, in a loop on the device."""

    def steps(state: Any, train: Any, valid: Any, *, axis_name: str | None = None) -> tuple[Any, Any]:
        return jax.lax.scan(lambda state, _: step(state, train, valid, axis_name=axis_name), state, length=count)

    return steps


def prepare_seeds(part: Part) -> Ready:
    """One step of several searches, each with batches of its own."""
    program = _program(part)
    shapes = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((part.seeds, *leaf.shape), leaf.dtype), shapes_of(program.start)
    )
    return _ready(vmap_step(program.step, donate=True), drawn(shapes), program, part.size)


def prepare_recurrent(part: Part) -> Ready:
    """A step of a recurrent search."""
    from harness.recurrent_steps import prepare_jdarts

    take, facts = prepare_jdarts(part.step, part.recurrent)
    return Ready(take, lambda: None, dict(facts))


def shapes_of(function: Callable[..., Any], *inputs: Any) -> Any:
    """The shapes of a function's results; what it compiles on the way is compiled for the CPU, which takes least time."""
    with jax.default_device(jax.local_devices(backend="cpu")[0]):
        return jax.eval_shape(function, *inputs)


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


def compiled_step(
    step: Any, inputs: Any, size: Size, options: dict[str, Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """Traces and compiles a step, and counts what it launches and writes.

    Args:
      step: under `jax.jit`.
      inputs: its arguments.
      size: of the network and its batch.
      options: of the compiler.
    """
    made = timed_compilation(step, inputs, options)
    facts, text = made.facts(), made.program.as_text()
    # A backend may not keep the text of a program that it has loaded.
    if text:
        summary = hlo.summarise(text, map_numbers=size.smallest_map)
        facts |= {"launches": summary.count, "written_bytes": summary.bytes, "moved_bytes": summary.moved}
        facts |= {"launches_by_kind": summary.launches}
    return made.program, facts


def peak_bytes() -> int | None:
    """The most memory of the device that this process has used; None where the device does not tell."""
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")


def _program(part: Part) -> StepProgram:
    dtype = "bfloat16" if part.precision == "bfloat16" else "float32"
    return step_program(Setup("jdarts", part.step, part.size, dtype=dtype))


def _ready(step: Any, inputs: Any, program: StepProgram, size: Size) -> Ready:
    compiled, facts = compiled_step(step, inputs, size, program.compiler_options)
    state, *batches = inputs

    def take() -> None:
        nonlocal state
        state, _ = compiled(state, *batches)

    return Ready(take, lambda: jax.block_until_ready(state), facts)
