"""One context of MLIR for many programs: to make one takes longer than to lower a small program."""

from typing import Any

from jax._src.interpreters import mlir

#: A context keeps every type and constant that its programs have had.
PROGRAMS_OF_A_CONTEXT = 500


def share_contexts() -> None:
    """Lets JAX make a context once in so many programs; does nothing where it makes contexts in another way, seen in 0.10.1."""
    make = getattr(mlir, "make_ir_context", None)
    if make is None:
        return
    context: Any = None
    left = 0

    def shared() -> Any:
        nonlocal context, left
        if left == 0:
            context, left = make(), PROGRAMS_OF_A_CONTEXT
        left -= 1
        return context

    mlir.make_ir_context = shared
