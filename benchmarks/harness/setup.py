"""What is measured: a step of one implementation at one size."""

import dataclasses
import json
from typing import Literal, get_args

Side = Literal["jdarts", "pytorch"]
Step = Literal["weight", "first_order", "finite_difference", "exact", "exact_remat"]
Layout = Literal["channels_last", "contiguous"]
Dtype = Literal["float32", "bfloat16"]

SIDES: tuple[Side, ...] = get_args(Side)
STEPS: tuple[Step, ...] = get_args(Step)

#: Words for tables.
STEP_NAMES = {
    "weight": "weight step",
    "first_order": "first-order step",
    "finite_difference": "second-order step, finite difference",
    "exact": "second-order step, exact",
    "exact_remat": "second-order step, exact, cells computed again",
}


@dataclasses.dataclass(frozen=True)
class Size:
    """Size of a search network and its batch; images are square with 3 channels."""

    channels: int = 16
    cells: int = 8
    nodes: int = 4
    batch: int = 16
    image_size: int = 32
    classes: int = 10

    @property
    def smallest_map(self) -> int:
        """Numbers of the smallest feature map of a batch: four times the first channels on a sixteenth of the pixels."""
        return self.batch * self.channels * self.image_size**2 // 4

    def __str__(self) -> str:
        return (
            f"C={self.channels}, {self.cells} cells of {self.nodes} nodes, batch {self.batch}, "
            f"{self.image_size}×{self.image_size} images"
        )


#: Networks by name, to be compiled or counted.
Network = Literal["paper", "digits"]
NETWORKS: dict[Network, Size] = {"paper": Size(), "digits": Size(channels=8, cells=3, nodes=3, image_size=8)}


@dataclasses.dataclass(frozen=True)
class Setup:
    """One thing to measure.

    Attributes:
      side: whose implementation.
      step: which step.
      size: of network and batch.
      layout: PyTorch's memory format.
      threads: PyTorch's number of threads; XLA takes all cores.
      dtype: type of jdarts' feature maps.
    """

    side: Side
    step: Step
    size: Size
    layout: Layout = "channels_last"
    threads: int = 1
    dtype: Dtype = "float32"

    @property
    def name(self) -> str:
        """Side and step, as `jdarts/exact`."""
        return f"{self.side}/{self.step}"

    def to_json(self) -> str:
        """The setup as text, for another process."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Setup":
        """The setup of a text that `to_json` made."""
        fields = json.loads(text)
        return cls(**{**fields, "size": Size(**fields["size"])})
