"""Tangents of the results of primitives."""

from typing import Any

import jax
from jax.interpreters import ad


def no_change(out: Any) -> ad.Zero:
    """The tangent of a result that does not change."""
    return ad.Zero(jax.typeof(out).to_tangent_aval())
