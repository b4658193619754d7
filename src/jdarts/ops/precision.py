"""Types that belong together: feature maps may be narrower than weights, statistics and sums over pixels."""

from typing import Any

import jax.numpy as jnp


def wide_type(dtype: Any) -> Any:
    """The type of weights, batch statistics, logits and sums over pixels for feature maps of a type.

    float32 for bfloat16 and float16, which have too few digits for a sum over a batch or a small step of a weight; otherwise
    the same type.
    """
    dtype = jnp.dtype(dtype)
    return jnp.dtype(jnp.float32) if dtype.itemsize < 4 else dtype
