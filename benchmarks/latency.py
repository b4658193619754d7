"""Predicted against measured latency of random cells' networks on this device, with the rank correlation.

The prediction is the sum over the operations, which a table has (`jdarts describe --latency` shows it). The networks
are timed in turn, in several rounds, and the shortest time of each counts, so that a busy machine disturbs the comparison little.

Command:  python benchmarks/latency.py --channels 16 --cells 5
"""

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import tyro

from jdarts.budget.cost import MILLISECOND
from jdarts.budget.counting import target
from jdarts.budget.latency import interleaved_seconds, latency_cost, network_call
from jdarts.budget.latency_table import device_words
from jdarts.command import run_command
from jdarts.derivation import sample_genotype
from jdarts.files.places import check_output
from jdarts.report.cell_text import table_text
from jdarts.runs.bounds import CELLS, CHANNELS, SEED, Bounds
from jdarts.runs.settings import Settings
from jdarts.space import darts_space


@dataclasses.dataclass(frozen=True)
class LatencyConfig(Settings):
    """Predicts and measures the latency of networks of random cells of the paper's space.

    Attributes:
      count: number of random cells.
      seed: of the first; the others have the seeds after it.
      channels: of the first cells of a network.
      cells: number of its cells.
      image_size: height and width of its images.
      rounds: how often each network is timed.
      json: file that gets the numbers.
    """

    count: Annotated[int, Bounds(2, 10_000)] = 20
    seed: Annotated[int, SEED] = 0
    channels: Annotated[int, CHANNELS] = 16
    cells: Annotated[int, CELLS] = 8
    image_size: Annotated[int, Bounds(8, 1024)] = 32
    rounds: Annotated[int, Bounds(1, 1000)] = 15
    json: Path | None = None

    def check(self) -> None:
        """Checks every value.

        Raises:
          InputError: a number out of its range, or no place for the file.
        """
        super().check()
        if self.json is not None:
            check_output("--json", self.json)


def compare(config: LatencyConfig) -> dict[str, Any]:
    """The numbers: predicted, shortest and median latency of each network in milliseconds, and rank correlations."""
    from scipy import stats  # takes long to import

    space = darts_space()
    network = target(space, channels=config.channels, cells=config.cells, image_size=config.image_size)
    cost = latency_cost(space, network)
    genotypes = [sample_genotype(space, config.seed + number) for number in range(config.count)]
    times = interleaved_seconds([network_call(each, network) for each in genotypes], config.rounds)
    predicted = [cost.of(each, space) / MILLISECOND for each in genotypes]
    shortest = [1e3 * min(each) for each in times]
    median = [1e3 * statistics.median(each) for each in times]
    ranks: dict[str, Any] = {
        name: stats.spearmanr(predicted, measured) for name, measured in (("shortest", shortest), ("median", median))
    }
    return {
        "network": str(network),
        "device": device_words(),
        "rounds": config.rounds,
        "cells": [
            {"seed": config.seed + number, "predicted_ms": one, "shortest_ms": two, "median_ms": three}
            for number, (one, two, three) in enumerate(zip(predicted, shortest, median))
        ],
        "rank_correlation": {name: float(each.statistic) for name, each in ranks.items()},
    }


def shown(found: dict[str, Any]) -> str:
    """The numbers as text."""
    rows = [
        [each["seed"], *(f"{each[name]:.3f}" for name in ("predicted_ms", "shortest_ms", "median_ms"))]
        for each in found["cells"]
    ]
    shortest, median = (found["rank_correlation"][name] for name in ("shortest", "median"))
    return (
        f"{found['network']}\n{found['device']}\n\n"
        f"{table_text(('cell', 'predicted, ms', 'shortest, ms', 'median, ms'), rows)}\n\n"
        f"rank correlation (Spearman) of predicted and measured latency: {shortest:.3f} by the shortest of "
        f"{found['rounds']} rounds, {median:.3f} by the median"
    )


def main() -> None:
    """Measures, prints, and writes."""
    config = tyro.cli(LatencyConfig, description=__doc__)
    config.check()
    found = compare(config)
    if config.json is not None:
        config.json.write_text(json.dumps(found, indent=1) + "\n")
    print(shown(found))


if __name__ == "__main__":
    run_command(main)
