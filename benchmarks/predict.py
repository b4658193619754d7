"""Predict the time of a weight step on a GPU on paper, layer by layer and for each way to compute depthwise convolutions.

The prediction of a function is the longer of the times for its bytes and for its operations, with a time for each launch. No
device takes part, and none has confirmed the figures.

Command:  python benchmarks/predict.py                     (an H100; --write puts the tables into benchmarks/README.md)
"""

import dataclasses
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import tyro
from harness import tables, work
from harness.setup import NETWORKS, Network, Size
from harness.work import Card, Layer, Work

from jdarts.command import run_command
from jdarts.errors import InputError
from jdarts.files.atomic import replace_text

README = Path(__file__).resolve().parent / "README.md"
SECTIONS = ("predicted layers", "predicted steps")
#: Of a step in which one function computes a depthwise and a 1×1 convolution.
FUSED = "one function with the 1×1 convolution"


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What to predict. The defaults are an H100 in float32 without tensor cores.

    Attributes:
      network: paper is C=16, 8 cells of 4 nodes on 32×32 images; digits is C=8, 3 cells of 3 nodes on 8×8 images.
      batch: images of the batch.
      bandwidth: of the memory, in TB/s.
      flops: in TFLOP/s.
      launch: time of a launch in µs.
      write: put the tables into benchmarks/README.md.
    """

    network: Network = "paper"
    batch: int = 64
    bandwidth: float = 3.0
    flops: float = 67.0
    launch: float = 4.0
    write: bool = False

    @property
    def size(self) -> Size:
        """Of network and batch."""
        return dataclasses.replace(NETWORKS[self.network], batch=self.batch)

    @property
    def card(self) -> Card:
        """The speed of the device."""
        return Card(1e12 * self.bandwidth, 1e12 * self.flops, 1e-6 * self.launch)

    def check(self) -> None:
        """Refuses sizes and speeds without a meaning, and a place in the file that is not there.

        Raises:
          InputError: a number below its least, or no markers for the tables.
        """
        if self.batch < 1:
            raise InputError(f"--batch is {self.batch}; give 1 or more")
        for name in ("bandwidth", "flops"):
            if not getattr(self, name) > 0:
                raise InputError(f"--{name} is {getattr(self, name)}; give a number above 0")
        if not self.launch >= 0:
            raise InputError(f"--launch is {self.launch}; give 0 or more")
        if self.write:
            tables.place(README.read_text(), dict.fromkeys(SECTIONS, ""), README)


def main(arguments: Sequence[str] | None = None) -> None:
    """Predicts with the given arguments, by default those of the process.

    Raises:
      InputError: an option is wrong.
    """
    config = tyro.cli(Prediction, args=arguments, description=__doc__)
    config.check()
    found = (f"**{title(config)}**\n\n{layers_table(config)}", steps_table(config))
    print("\n\n".join(found), flush=True)
    if config.write:
        replace_text(README, tables.place(README.read_text(), dict(zip(SECTIONS, found)), README))
        print(f"written to {README}", file=sys.stderr)


def title(config: Prediction) -> str:
    """What is predicted, and at which speeds."""
    return (
        f"Predicted, not measured: weight step, {config.size}, float32; {config.bandwidth:g} TB/s, {config.flops:g} TFLOP/s, "
        f"{config.launch:g} µs a launch."
    )


def layers_table(config: Prediction) -> str:
    """Bytes, operations and predicted times of one cell of every kind and size, by operation and form."""
    rows = []
    for _, equal in itertools.groupby(sorted(work.layers(config.size), key=_kind_and_size), key=_kind_and_size):
        rows += _rows(config, list(equal))
    head = ["cell", "operation", "read and written", "operations", "launches", *work.FORMS]
    return tables.table(head, rows)


def _kind_and_size(layer: Layer) -> tuple[int, str, int]:
    return layer.channels, layer.kind, layer.side


def _rows(config: Prediction, cells: Sequence[Layer]) -> Iterator[list[str]]:
    """The rows of cells that differ in their inputs alone: for each form of depthwise convolutions the time of one cell."""
    layer = cells[0]
    cell = f"{len(cells)} × {layer.kind}, C={layer.channels}, {layer.side}×{layer.side}"
    for operation in dict.fromkeys(kernel.operation for kernel in work.KERNELS):
        parts = {
            form: [
                work.depthwise(form, kernel, stage)
                for kernel in work.KERNELS
                if kernel.operation == operation
                for stage in layer.stages
            ]
            for form in work.FORMS
        }
        times = [_time(config.card, each) for each in parts.values()]
        yield [cell, f"depthwise of {operation}", *_amounts(next(iter(parts.values()))), *times]
        cell = ""
    for name, works in (
        ("1×1 convolutions after them", [work.pointwise(stage, fused=False) for stage in layer.stages]),
        ("both as one function", [work.pointwise(stage, fused=True) for stage in layer.stages]),
        ("pools, skips, norms, sums", [work.others(stage) for stage in layer.stages]),
        ("1×1 convolutions of the inputs", [work.preprocessing(each).times(1 / len(cells)) for each in cells]),
    ):
        yield ["", name, *_amounts(works), _time(config.card, works), *[""] * (len(work.FORMS) - 1)]


def steps_table(config: Prediction) -> str:
    """The cells of a whole weight step by the form of its depthwise convolutions."""
    forms: dict[str, str | None] = {**{name: name for name in work.FORMS}, FUSED: None}
    rows = []
    for name, form in forms.items():
        works = work.step_work(config.size, form)
        launching = sum(each.launches for each in works) * config.card.launch
        rows.append([name, *_amounts(works), _milliseconds(launching), _time(config.card, works)])
    return tables.table(
        ["depthwise convolutions as", "read and written", "operations", "launches", "of launches", "predicted"], rows
    )


def _amounts(works: Sequence[Work]) -> list[str]:
    found = work.total(works)
    return [
        f"{found.bytes / 1e9:.2f} GB" if found.bytes >= 1e9 else f"{found.bytes / 1e6:.1f} MB",
        f"{found.flops / 1e9:.1f} GFLOP",
        f"{found.launches:,.0f}",
    ]


def _time(card: Card, works: Sequence[Work]) -> str:
    return _milliseconds(sum(card.seconds(each) for each in works))


def _milliseconds(seconds: float) -> str:
    return f"{1e3 * seconds:.2f} ms"


if __name__ == "__main__":
    run_command(main)
