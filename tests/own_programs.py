"""Programs of JAX that a part of a test has for itself."""

import itertools
from typing import Any

import jax

_part = jax.make_user_context(None)
_numbers = itertools.count(1)


def own_programs() -> Any:
    """A context in which every function is traced, lowered and compiled again.

    JAX keeps what it has traced and lowered, whatever the environment or a replaced function say later. Unlike
    `jax.clear_caches`, this leaves the programs of all other tests where they are.
    """
    return _part(next(_numbers))
