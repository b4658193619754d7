"""The platform that programs are compiled for, where code has a form for each."""

from typing import Any

import jax

# Functions that JAX has traced for one platform are traced again for another.
_named = jax.make_user_context(None)


def target_platform() -> str:
    """The platform that programs are compiled for: `cpu`, `gpu` or `tpu`; that of the default device unless one is named."""
    return _named.value or jax.default_backend()


def compiling_for(platform: str) -> Any:
    """A context that names the platform that programs are traced and compiled for, where it is not that of the default device.

    Args:
      platform: `cpu`, `gpu` or `tpu`, as `jax.default_backend` names them.
    """
    return _named(platform)
