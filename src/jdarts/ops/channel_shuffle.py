"""The channel shuffle, which mixes groups of channels (Zhang et al., ShuffleNet, 2018)."""

import jax
import jax.numpy as jnp

from jdarts.errors import InputError


def channel_shuffle(x: jax.Array, groups: int) -> jax.Array:
    """Takes one channel of every group in turn: channel `c · groups + g` of the result is number `c` of group `g`.

    Args:
      x: `[…, C]`.
      groups: number of groups of neighbouring channels.

    Returns:
      `[…, C]`.

    Raises:
      InputError: the groups do not divide the channels.
    """
    channels = x.shape[-1]
    if groups < 1 or channels % groups:
        raise InputError(f"channel_shuffle: {groups} groups of {channels} channels; give a number that divides them")
    parts = x.reshape(*x.shape[:-1], groups, channels // groups)
    return jnp.swapaxes(parts, -1, -2).reshape(x.shape)
