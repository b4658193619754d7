"""Programs, with the seconds that they take to trace and to compile."""

import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from jdarts.xla.tracing import with_stack_space, without_garbage_collection


class Compilation(NamedTuple):
    """A compiled program, and the seconds of tracing and compiling it."""

    program: Any
    trace_s: float
    compile_s: float

    def facts(self) -> dict[str, Any]:
        """The seconds, and as `temporary_bytes` what the program asks for beside its arguments and results, where XLA tells."""
        found: dict[str, Any] = {"trace_s": self.trace_s, "compile_s": self.compile_s}
        memory = self.program.memory_analysis()
        return found if memory is None else found | {"temporary_bytes": memory.temp_size_in_bytes}


@without_garbage_collection()
@with_stack_space
def timed_compilation(step: Any, inputs: Any, options: Mapping[str, Any] | None = None) -> Compilation:
    """Traces and compiles a function as runs do: with space for frames, and without a search for garbage.

    Args:
      step: under `jax.jit`.
      inputs: its arguments, or their shapes.
      options: of the compiler.
    """
    start = time.perf_counter()
    lowered = step.lower(*inputs)
    traced = time.perf_counter()
    program = lowered.compile(dict(options or {}) or None)
    return Compilation(program, traced - start, time.perf_counter() - traced)
