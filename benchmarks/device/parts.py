"""The parts of a measurement, in the order of their worth, and their time limits."""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal

from harness.recurrent_steps import RecurrentSize
from harness.setup import Size, Step

from jdarts.errors import InputError
from jdarts.xla.environment import DEPTHWISE_FORMS

Kind = Literal[
    "ceilings", "step", "again", "fixtures", "against_cpu", "seeds", "search", "recurrent", "torch", "torch_recurrent"
]
Precision = Literal["float32", "tf32", "bfloat16"]
Variant = Literal["eager", "graph", "compile"]
Switch = Literal["on", "off"]
#: Forms of depthwise convolutions; `usual` is the platform's.
USUAL = "usual"
DEPTHWISE = (USUAL, *DEPTHWISE_FORMS)

#: How XLA launches kernels as CUDA graphs, with its options. It captures them in its own order by default; may let kernels run
#: beside each other that do not wait for each other, all or small ones alone; and may keep temporary arrays, or what it has seen
#: stay, at fixed addresses, so that it updates no graph.
GRAPHS: Mapping[str, str] = MappingProxyType(
    {
        "usual": "",
        "off": "--xla_gpu_enable_command_buffer=",
        "concurrent": "--xla_gpu_command_buffer_scheduling_mode=CONCURRENT",
        "concurrent_regions": "--xla_gpu_command_buffer_scheduling_mode=CONCURRENT_REGIONS",
        "skip_temp": "--xla_gpu_command_buffer_update_mode=SKIP_TEMP",
        "skip_profiled": "--xla_gpu_command_buffer_update_mode=SKIP_PROFILED",
    }
)

PAPER = Size(batch=64)
DIGITS = Size(channels=8, cells=3, nodes=3, batch=64, image_size=8)
QUICK = Size(channels=2, cells=1, nodes=1, batch=4, image_size=8)
QUICK_RECURRENT = RecurrentSize(vocabulary=50, width=8, batch=2, length=3)
#: Steps that a search of the paper on CIFAR-10 takes, its epochs, and images of either half.
SEARCH_STEPS, SEARCH_EPOCHS, HALF = 19_500, 50, 25_000


@dataclasses.dataclass(frozen=True)
class Part:
    """One thing to measure.

    Attributes:
      kind: what it is.
      step: which step; of fixtures, seeds and searches too.
      precision: `float32` for products of full precision, `tf32` for JAX's default on GPUs, `bfloat16` for such feature maps of
        jdarts.
      size: of network and batch.
      recurrent: size of a recurrent search.
      seeds: how many searches one step advances.
      variant: how PyTorch runs.
      native: whether jdarts has native functions; None leaves it to the environment.
      depthwise: form of the depthwise convolutions, one of `DEPTHWISE`; None leaves it to the environment.
      separable: form of the separable convolutions, one of `SEPARABLE_FORMS`; None leaves it to the environment.
      graphs: how XLA launches kernels as CUDA graphs, one of `GRAPHS`; None leaves it to the environment.
      steps_per_call: steps of one call of the program, in a loop on the device.
      wave: parts of one wave are prepared side by side, then measured one after the other, with nothing beside them.
      prepare_s: seconds for tracing and compilation.
      measure_s: seconds for what follows.
    """

    kind: Kind
    step: Step = "exact"
    precision: Precision = "float32"
    size: Size = PAPER
    recurrent: RecurrentSize = dataclasses.field(default_factory=RecurrentSize)
    seeds: int = 1
    variant: Variant = "eager"
    native: Switch | None = None
    depthwise: str | None = None
    separable: str | None = None
    graphs: str | None = None
    steps_per_call: int = 1
    wave: int = 0
    prepare_s: float = 240
    measure_s: float = 40

    @property
    def name(self) -> str:
        """As `step/exact/float32/64`, what `--only` reads."""
        words: dict[Kind, tuple[object, ...]] = {
            "step": (self.step, self.precision, self.size.batch),
            "again": (self.step, self.precision, self.size.batch),
            "seeds": (self.step, self.precision, f"C{self.size.channels}", self.seeds),
            "search": (self.step, self.precision),
            "recurrent": (self.step,),
            "torch": (self.step, self.variant, self.precision, self.size.batch),
            "torch_recurrent": (self.step,),
        }
        names = ("native", "depthwise", "separable", "graphs")
        forms = [f"{name}-{form}" for name in names if (form := getattr(self, name)) is not None]
        forms += [f"{self.steps_per_call}-steps-a-call"] * (self.steps_per_call > 1)
        return "/".join(str(word) for word in (self.kind, *words.get(self.kind, ()), *forms))

    @property
    def is_torch(self) -> bool:
        """Whether PyTorch is measured."""
        return self.kind.startswith("torch")

    @property
    def is_ours(self) -> bool:
        """Whether jdarts is measured."""
        return self.kind != "ceilings" and not self.is_torch

    @property
    def is_convolutional(self) -> bool:
        """Whether jdarts's convolutions are measured."""
        return self.is_ours and self.kind != "recurrent"

    def to_json(self) -> str:
        """The part as text, for another process."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Part":
        """The part of a text that `to_json` made."""
        fields = json.loads(text)
        return cls(**{**fields, "size": Size(**fields["size"]), "recurrent": RecurrentSize(**fields["recurrent"])})


def _batch(batch: int) -> Size:
    return dataclasses.replace(PAPER, batch=batch)


def all_parts(*, fixtures: bool) -> list[Part]:
    """Every part in the order of worth; that of the fixtures only if there are some."""
    steps: tuple[Step, ...] = ("weight", "first_order")
    searching: tuple[Precision, ...] = ("float32", "tf32")
    return [
        Part("ceilings", prepare_s=60),
        *(Part("step", "exact", precision, wave=1, prepare_s=280) for precision in searching),
        *(Part("step", "finite_difference", precision, wave=1) for precision in searching),
        Part("torch", "finite_difference", "tf32", wave=1, prepare_s=60),
        *(Part("step", step, precision, wave=1) for step in steps for precision in searching),
        *(Part("torch", step, "tf32", wave=1, prepare_s=60) for step in steps),
        Part("again", wave=2, prepare_s=90),
        *(Part("fixtures", wave=3) for _ in range(fixtures)),
        Part("against_cpu", wave=3, prepare_s=200),
        Part("torch", "finite_difference", "float32", wave=3, prepare_s=60),
        *(Part("step", step, "bfloat16", wave=3) for step in ("exact", "weight", "first_order")),
        *(Part("seeds", "exact", "tf32", DIGITS, seeds=seeds, wave=3, prepare_s=150) for seeds in (1, 4, 16)),
        *(Part("seeds", "first_order", "tf32", seeds=seeds, wave=3, prepare_s=150) for seeds in (4, 16)),
        Part("search", "exact", "tf32", wave=3, measure_s=60),
        *(Part("step", "exact", "tf32", graphs=graphs, wave=4, prepare_s=150) for graphs in ("off", "concurrent")),
        Part("step", "exact", "tf32", steps_per_call=4, wave=4, prepare_s=150),
        Part("step", "exact", "float32", _batch(256), wave=4, prepare_s=150),
        Part("step", "finite_difference", "tf32", _batch(256), wave=4, prepare_s=150),
        Part("step", "weight", "tf32", _batch(256), wave=4, prepare_s=150),
        Part("torch", "finite_difference", "tf32", _batch(256), wave=4, prepare_s=60),
        *(Part("recurrent", step, wave=4, prepare_s=150) for step in ("first_order", "finite_difference", "exact")),
        *(Part("torch_recurrent", step, wave=4, prepare_s=60) for step in ("first_order", "finite_difference")),
        *(Part("torch", step, "tf32", variant="graph", wave=5, prepare_s=60) for step in ("finite_difference", *steps)),
        Part("torch", "weight", "tf32", variant="compile", wave=5, prepare_s=150),
        Part("torch", "finite_difference", "tf32", variant="compile", wave=5, prepare_s=150),
    ]


def chosen_parts(
    only: Sequence[str],
    native: Sequence[Switch] = (),
    depthwise: Sequence[str] = (),
    separable: Sequence[str] = (),
    graphs: Sequence[str] = (),
    steps_per_call: Sequence[int] = (),
    *,
    quick: bool = False,
    fixtures: bool = False,
    patience: float = 1,
) -> list[Part]:
    """The parts of a run.

    Args:
      only: beginnings of names, such as `step/exact` or `torch`; all parts where it is empty.
      native: whether to measure jdarts with native functions, without, or both; as the environment says where it is empty.
      depthwise: forms of depthwise convolutions to measure jdarts with; as the environment says where it is empty.
      separable: forms of separable convolutions, in the same way.
      graphs: ways to launch kernels as CUDA graphs, in the same way.
      steps_per_call: numbers of steps of one call, for steps of jdarts; as the parts are where it is empty.
      quick: a tiny network in place of all sizes.
      fixtures: whether there are reference numbers.
      patience: what the time limits are multiplied with.

    Raises:
      InputError: a beginning that no part has.
    """
    parts = all_parts(fixtures=fixtures)
    for beginning in only:
        if not any(part.name.startswith(beginning) for part in parts):
            names = ", ".join(dict.fromkeys(part.name.partition("/")[0] for part in parts))
            raise InputError(f"--only {beginning}: no part begins so; there are {names}, and --list names all")
    kept = [part for part in parts if not only or any(part.name.startswith(beginning) for beginning in only)]
    if quick:
        # The precisions of one step alone, and one number of seeds of each step: a CPU computes them all alike.
        unlike = {
            (p.kind, p.step, p.variant, p.seeds > 1, p.precision * (p.step == "exact"), p.graphs, p.steps_per_call): p
            for p in reversed(kept)
        }
        kept = [_small(part) for part in kept if part in unlike.values()]
    limits = [{"prepare_s": patience * part.prepare_s, "measure_s": patience * part.measure_s} for part in kept]
    varied = [dataclasses.replace(part, **limit) for part, limit in zip(kept, limits)]
    settings: list[tuple[str, Sequence[Any], Callable[[Part], bool]]] = [
        ("native", native, lambda part: part.is_ours),
        ("depthwise", depthwise, lambda part: part.is_convolutional),
        ("separable", separable, lambda part: part.is_convolutional),
        ("graphs", graphs, lambda part: part.is_ours),
        ("steps_per_call", steps_per_call, lambda part: part.kind == "step"),
    ]
    for name, values, concerns in settings:
        if values:
            changes = [{name: value} for value in values]
            varied = [
                dataclasses.replace(part, **change)
                for part in varied
                for change in (changes if concerns(part) else [{}])
            ]
    return list({part.name: part for part in varied}.values())


def _small(part: Part) -> Part:
    """The part on a network that compiles in seconds on a CPU."""
    batch = QUICK.batch * max(1, part.size.batch // PAPER.batch)
    size = dataclasses.replace(QUICK, batch=batch, channels=QUICK.channels * (2 if part.size == PAPER else 1))
    return dataclasses.replace(part, size=size, recurrent=QUICK_RECURRENT, prepare_s=45, measure_s=30)
