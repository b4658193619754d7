"""What tracing of large programs takes from Python itself."""

import contextlib
import gc
from collections.abc import Iterator


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
