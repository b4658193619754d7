"""How long a network of convolutional cells takes for one image on this device, operation by operation."""

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, cast

from jdarts.budget.cost import MILLISECOND
from jdarts.budget.counting import Place, Target, operation_places
from jdarts.budget.latency import entry_name, latency_cost, network_latency
from jdarts.budget.latency_table import Measurement, read_table
from jdarts.describe.convolutional import Description
from jdarts.errors import InputError
from jdarts.genotype import INPUT_STATES, Genotype
from jdarts.nets.stem import Stem
from jdarts.report.cell_text import table_text
from jdarts.space import CELL_KINDS, SearchSpace


class OperationLatency(NamedTuple):
    """The latency of an operation at one place.

    Attributes:
      name: of the operation.
      place: channels, size and stride of its inputs.
      times: how often it stands there in the network.
      measured: once, with its date.
    """

    name: str
    place: Place
    times: int
    measured: Measurement


@dataclasses.dataclass(frozen=True)
class LatencyDescription:
    """The latency of a network for one image.

    Attributes:
      device: the device, in words.
      path: the file of the table.
      operations: of the cells.
      predicted: nanoseconds of the network, as the sum over its operations and the rest.
      measured: nanoseconds of the whole network, measured now.
    """

    device: str
    path: Path
    operations: tuple[OperationLatency, ...]
    predicted: int
    measured: int

    def to_json(self) -> dict[str, Any]:
        """As JSON data, in milliseconds."""
        return {
            "device": self.device,
            "table": str(self.path),
            "predicted_ms": self.predicted / MILLISECOND,
            "measured_ms": self.measured / MILLISECOND,
            "operations": [
                {
                    "operation": each.name,
                    **each.place._asdict(),
                    "times": each.times,
                    "ms": each.measured.nanoseconds / MILLISECOND,
                    "date": each.measured.date,
                }
                for each in self.operations
            ],
        }

    def to_text(self) -> str:
        """As text: both latencies, and a table of the operations."""
        rows = [
            [
                each.name,
                f"{each.place.size}×{each.place.size}×{each.place.channels}",
                each.place.stride,
                each.times,
                f"{each.measured.nanoseconds / MILLISECOND:.4f}",
                f"{each.times * each.measured.nanoseconds / MILLISECOND:.3f}",
                each.measured.date,
            ]
            for each in self.operations
        ]
        header = ("operation", "input", "stride", "times", "ms each", "ms", "measured on")
        return (
            f"latency        {self.measured / MILLISECOND:.4g} ms for one image, measured now; "
            f"{self.predicted / MILLISECOND:.4g} ms by its operations\n"
            f"device         {self.device}\n"
            f"table          {self.path} (remove it to measure again)\n\n{table_text(header, rows)}"
        )


def describe_latency(description: Description) -> LatencyDescription:
    """Measures a network on this device: operations that the user's cache does not have, and the whole network.

    Args:
      description: of a network that is trained, not of a search network.

    Raises:
      InputError: cells that no search space holds, or the user's cache cannot be written.
    """
    cells, (size, _, depth) = description.genotype, description.image_shape
    stem = cast(Stem, description.network)
    network = Target(stem, description.channels, description.cells, description.classes, size, depth)
    space = _space_of(cells)
    cost = latency_cost(space, network)
    table = read_table()
    where = operation_places(network, cells.kinds)
    times: Counter[tuple[str, Place]] = Counter()
    for kind in cells.kinds:
        for node in cells.nodes(kind):
            for name, source in node:
                for place, count in where[kind, source < INPUT_STATES].items():
                    times[name, place] += count
    operations = tuple(
        OperationLatency(name, place, count, table.entries[entry_name(name, place)])
        for (name, place), count in sorted(times.items())
    )
    return LatencyDescription(
        table.device, table.path, operations, cost.of(cells, space), network_latency(cells, network)
    )


def _space_of(cells: Genotype) -> SearchSpace:
    """The smallest space that holds cells: the operations of each kind on all of its edges."""
    nodes = {len(cells.nodes(kind)) for kind in cells.kinds}
    outputs = {getattr(cells, f"{kind}_concat") for kind in cells.kinds}
    if len(nodes) > 1 or len(outputs) > 1:
        raise InputError(
            "the cells have different nodes or outputs, and latencies are of cells of one search space; give other cells"
        )
    edges = sum(INPUT_STATES + node for node in range(nodes.pop()))
    names = {kind: tuple(sorted({name for node in cells.nodes(kind) for name, _ in node})) for kind in cells.kinds}
    operations = {kind: (names[kind],) * edges if kind in names else () for kind in CELL_KINDS}
    return SearchSpace(**operations, concat=outputs.pop())
