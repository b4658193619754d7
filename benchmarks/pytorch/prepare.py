"""Steps of the PyTorch search, ready to be measured."""

from collections.abc import Callable
from typing import Any

import torch  # pyright: ignore[reportMissingImports]

from .network import SearchNetwork, num_edges
from .operations import PRIMITIVES
from .step import Batch, Search


def prepare_search(
    *,
    channels: int,
    cells: int,
    nodes: int,
    batch: int,
    image_size: int,
    classes: int,
    layout: str,
    threads: int,
    capturable: bool = False,
) -> tuple[Search, Batch, Batch]:
    """Builds network, search and both batches, on PyTorch's default device.

    Args:
      channels: of the first cells.
      cells: number of cells.
      nodes: nodes of a cell.
      batch: images of each batch.
      image_size: their height and width.
      classes: of the labels.
      layout: `channels_last` or `contiguous`.
      threads: that PyTorch may use.
      capturable: whether a CUDA graph can hold the steps.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    form = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}[layout]
    network = SearchNetwork(channels, cells, nodes, classes).to(memory_format=form)
    shape = (num_edges(nodes), len(PRIMITIVES))
    alphas = (1e-3 * torch.randn(shape), 1e-3 * torch.randn(shape))
    search = Search(network, alphas, capturable=capturable)
    train, valid = (
        (
            torch.randn(batch, 3, image_size, image_size).to(memory_format=form),
            torch.randint(0, classes, (batch,)),
        )
        for _ in range(2)
    )
    return search, train, valid


def prepare(step: str, **settings: Any) -> Callable[[], object]:
    """Builds network and batches, and returns a function that takes one step.

    Args:
      step: `weight`, `first_order` or `finite_difference`.
      **settings: of `prepare_search`.
    """
    return step_of(step, *prepare_search(**settings))


def step_of(step: str, search: Search, train: Batch, valid: Batch) -> Callable[[], object]:
    """A function that takes one step; `step` as for `prepare`."""
    steps = {
        "weight": lambda: search.weight_step(train),
        "first_order": lambda: search.first_order_step(train, valid),
        "finite_difference": lambda: search.second_order_step(train, valid),
    }
    return steps[step]
