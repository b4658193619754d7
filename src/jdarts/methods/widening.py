"""Net2wider between the stages of DrNAS: new channels copy old ones (Chen, Goodfellow and Shlens 2016)."""

from typing import Any

import jax
import numpy as np


def channel_map(draws: np.random.RandomState, old: int, new: int) -> np.ndarray:
    """The old channel that each new channel copies: the old ones stay where they are, the others are drawn from them.

    Args:
      draws: random numbers.
      old: number of channels.
      new: number of channels afterwards, not below `old`.

    Returns:
      int `[new]`.
    """
    return np.concatenate([np.arange(old), draws.randint(old, size=new - old)])


def widened(tree: Any, like: Any, *, seed: int) -> Any:
    """Arrays of a network with more channels, made from those of the same network with fewer.

    All axes of one module that grow from one size to another copy the same channels: so does an operation's input its
    predecessor's output. The copies are not divided by their number, as in DrNAS, so the network's function changes.

    Args:
      tree: nested dictionaries of arrays, such as weights or running statistics, or the momentum in their shape.
      like: the same with the new shapes.
      seed: the same seed copies the same channels, also in another tree of the same modules.

    Returns:
      Arrays of NumPy in the shapes of `like`.
    """

    def leaf(path: Any, array: Any, target: Any) -> np.ndarray:
        found = np.asarray(array)
        # The cell and its stage: all operations of a stage read and write the same channels.
        module = jax.tree_util.keystr(path[:2])
        for axis, (old, new) in enumerate(zip(found.shape, target.shape)):
            if old != new:
                words = np.frombuffer(f"{module} {old} {new}".encode(), np.uint8)
                draws = np.random.RandomState([seed, *words])
                found = np.take(found, channel_map(draws, old, new), axis=axis)
        return found

    return jax.tree.map_with_path(leaf, tree, like)
