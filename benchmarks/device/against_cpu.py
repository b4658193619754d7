"""The device's numbers against those of the CPU beside it, for small networks whose sizes take different functions."""

from collections.abc import Callable
from typing import Any

from jdarts.doctor.numbers import NETWORKS, QUICK_NETWORKS, prepare_distances


def prepare_comparison(*, quick: bool) -> Callable[[], dict[str, Any]]:
    """Compiles what is compared.

    Args:
      quick: one tiny network alone.

    Returns:
      A function that gives, for each network, the largest distance ‖device − CPU‖ / ‖CPU‖ of an array of each result.
    """
    prepared = {network.name: prepare_distances(network) for network in (QUICK_NETWORKS if quick else NETWORKS)}
    return lambda: {"distances": {name: measure() for name, measure in prepared.items()}}
