"""Steps of the PyTorch search, ready to be measured."""

from collections.abc import Callable

import torch  # pyright: ignore[reportMissingImports]

from .network import SearchNetwork, num_edges
from .operations import PRIMITIVES
from .step import Search


def prepare(
    step: str,
    *,
    channels: int,
    cells: int,
    nodes: int,
    batch: int,
    image_size: int,
    classes: int,
    layout: str,
    threads: int,
) -> Callable[[], object]:
    """Builds network and batches, and returns a function that takes one step.

    Args:
      step: `weight`, `first_order` or `finite_difference`.
      channels: of the first cells.
      cells: number of cells.
      nodes: nodes of a cell.
      batch: images of each batch.
      image_size: their height and width.
      classes: of the labels.
      layout: `channels_last` or `contiguous`.
      threads: that PyTorch may use.
    """
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    form = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}[layout]
    network = SearchNetwork(channels, cells, nodes, classes).to(memory_format=form)
    shape = (num_edges(nodes), len(PRIMITIVES))
    search = Search(network, (1e-3 * torch.randn(shape), 1e-3 * torch.randn(shape)))
    train, valid = (
        (
            torch.randn(batch, 3, image_size, image_size).to(memory_format=form),
            torch.randint(0, classes, (batch,)),
        )
        for _ in range(2)
    )
    steps = {
        "weight": lambda: search.weight_step(train),
        "first_order": lambda: search.first_order_step(train, valid),
        "finite_difference": lambda: search.second_order_step(train, valid),
    }
    return steps[step]
