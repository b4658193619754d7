"""What tracing of large programs takes from Python itself."""

import contextlib
import gc
import types
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])

#: Slots of a frame, 8 bytes each, for which CPython maps a chunk of 1 MB: nearly half of it is left for the frames of callees.
_SLOTS = 2**16


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Pauses Python's search for cycles of objects that nothing refers to.

    Tracing makes objects by the hundred thousand and drops few of them, so that the search takes a third of the time and
    finds next to nothing.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def with_stack_space(function: AnyFunction) -> AnyFunction:
    """Gives the frames of a function space for those of all its callees; a decorator, which returns the same function.

    CPython keeps the frames of a thread in chunks of 16 kB. A call that does not fit into the last chunk maps another one,
    and its return unmaps it: 7 µs where a call takes 0.02 µs, each time that the same depth is reached (seen in 3.11 to
    3.13). Tracing and lowering reach every depth thousands of times. The memory of a large frame costs nothing while
    nobody writes to it.

    Args:
      function: a function written in Python; others stay as they are.
    """
    code = getattr(function, "__code__", None)
    if isinstance(code, types.CodeType):
        changed: Any = function
        # Interpreters that keep frames in another way may refuse such a size.
        with contextlib.suppress(ValueError, OverflowError, SystemError):
            changed.__code__ = code.replace(co_stacksize=max(code.co_stacksize, _SLOTS))
    return function
