"""The platform that programs are compiled for, where code has a form for each."""

import contextlib
import contextvars
from collections.abc import Iterator

import jax

_named: contextvars.ContextVar[str | None] = contextvars.ContextVar("platform", default=None)


def target_platform() -> str:
    """The platform that programs are compiled for: `cpu`, `gpu` or `tpu`; that of the default device unless one is named."""
    return _named.get() or jax.default_backend()


@contextlib.contextmanager
def compiling_for(platform: str) -> Iterator[None]:
    """Names the platform that programs are traced and compiled for, where it is not that of the default device.

    JAX keeps functions that it has traced: a function traced for one platform stays in that form. Use one platform in a process.

    Args:
      platform: `cpu`, `gpu` or `tpu`, as `jax.default_backend` names them.
    """
    token = _named.set(platform)
    try:
        yield
    finally:
        _named.reset(token)
