"""The controls of a run, such as the weight decay: numbers in its state that a stopping rule may change."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jdarts.files.json_data import shortest

_PREFIX = "controls/"


def numbers_of_controls(controls: Mapping[str, Any]) -> dict[str, float]:
    """The controls of a state as numbers of an epoch, by names such as `controls/weight_decay`."""
    return {f"{_PREFIX}{name}": shortest(value) for name, value in controls.items()}


def changed_controls(controls: Mapping[str, jax.Array], changes: Mapping[str, float]) -> dict[str, jax.Array]:
    """The controls of a state with others in their place.

    Args:
      controls: scalars by name.
      changes: by the names of `jdarts.methods.stopping.RollBack.controls`.
    """
    new = {name.removeprefix(_PREFIX): jnp.asarray(value, jnp.float32) for name, value in changes.items()}
    return {**controls, **new}
