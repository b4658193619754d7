"""Compile a search step for an accelerator that is not there, and count what it would launch, write and keep.

JAX's plugins compile for an H100 and for TPUs on any machine; nothing is run. `make aot` sets up the environments that hold them.

Command:  .venv-aot-h100/bin/python benchmarks/launches.py --target h100
          .venv-aot-tpu/bin/python benchmarks/launches.py --target v5e:2x2 --step shard_exact
"""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, get_args

import jax
import tyro
from harness import hlo, tables, targets
from harness.compilation import Compilation
from harness.jdarts_steps import step_program
from harness.limits import cores
from harness.recurrent_steps import RecurrentSize, recurrent_program
from harness.setup import NETWORKS, STEP_NAMES, Dtype, Network, Setup, Size, Step

from jdarts import parallel
from jdarts.command import run_command
from jdarts.errors import InputError
from jdarts.files.atomic import replace_text
from jdarts.files.places import check_output
from jdarts.xla.platform import compiling_for

README = Path(__file__).resolve().parent / "README.md"
Compiled = Literal["weight", "first_order", "finite_difference", "exact", "exact_remat", "pmap_exact", "shard_exact"]
RECURRENT_STEPS = ("first_order", "finite_difference", "exact")
#: Operations whose kernels take longest to count are shown by name; the rest of the kinds is one line.
SHOWN_KINDS = 14


@dataclasses.dataclass(frozen=True)
class Launches:
    """What to compile.

    Attributes:
      target: h100, or a topology of TPUs such as v5e:2x2.
      step: which step; pmap_exact and shard_exact take all devices of the topology.
      network: paper is C=16, 8 cells of 4 nodes on 32×32 images; digits is C=8, 3 cells of 3 nodes on 8×8 images; recurrent is
        the language model of the search on Penn Treebank, in segments of 35 words.
      batch: images or streams of words of each batch.
      seeds: searches that one step advances, by vmap.
      dtype: type of the feature maps.
      matmul_precision: of products; JAX's default is TF32 on GPUs and bfloat16 on TPUs.
      text: a file for the program's text.
      write: put the table into benchmarks/README.md.
    """

    target: str = targets.H100
    step: Compiled = "weight"
    network: Network | Literal["recurrent"] = "digits"
    batch: int = 64
    seeds: int = 1
    dtype: Dtype = "float32"
    matmul_precision: Literal["default", "highest"] = "default"
    text: Path | None = None
    write: bool = False

    @property
    def size(self) -> Size | RecurrentSize:
        """Of network and batch."""
        if self.network == "recurrent":
            return RecurrentSize(batch=self.batch)
        return dataclasses.replace(NETWORKS[self.network], batch=self.batch)

    @property
    def section(self) -> str:
        """The name of its markers in benchmarks/README.md."""
        return f"launches {self.target} {self.network} {self.step}"

    def check(self) -> None:
        """Refuses what cannot be compiled.

        Raises:
          InputError: no images or searches, several searches on several devices, several devices of one card, a step that the
            network does not have, no plugin, no place for the table, or none for the text.
        """
        if self.batch < 1:
            raise InputError(f"--batch is {self.batch}; give 1 or more")
        if self.seeds < 1:
            raise InputError(f"--seeds is {self.seeds}; give 1 or more")
        if self.network == "recurrent" and (self.step not in RECURRENT_STEPS or self.dtype != "float32"):
            raise InputError(
                f"--network recurrent has the steps {', '.join(RECURRENT_STEPS)} in float32, not {self.step} in {self.dtype}"
            )
        if self.seeds > 1 and self.step.startswith(("pmap_", "shard_")):
            raise InputError(f"--seeds {self.seeds} are searches on one device; give --step exact, not {self.step}")
        if self.target == targets.H100 and self.step.startswith(("pmap_", "shard_")):
            raise InputError(
                f"--step {self.step} needs several devices, and --target {self.target} is one; give v5e:2x2"
            )
        if self.text is not None:
            check_output("--text", self.text)
        targets.check_plugin(self.target)
        if self.write:
            tables.place(README.read_text(), {self.section: ""}, README)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compiles with the given arguments, by default those of the process.

    Raises:
      InputError: an option is wrong, or the plugin is missing.
    """
    config = tyro.cli(Launches, args=arguments, description=__doc__)
    config.check()
    os.environ.update(targets.environment(config.target))
    print(f"compiling {config.step} for {config.target}: {config.size}", file=sys.stderr, flush=True)
    compilation = compile_step(config)
    text = compilation.program.as_text()
    if config.text is not None:
        config.text.write_text(text)
    summary = hlo.summarise(text, map_numbers=config.size.smallest_map)
    report = f"**{title(config)}**\n\n{launches_table(compilation, summary)}"
    print(f"\n{report}\n", flush=True)
    if config.write:
        replace_text(README, tables.place(README.read_text(), {config.section: report}, README))


def compile_step(config: Launches) -> Compilation:
    """The compiled step."""
    # The host has no other device, or leaves it alone.
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_default_matmul_precision", config.matmul_precision)
    target = targets.describe_target(config.target)
    manner, _, name = (
        config.step.rpartition("_") if config.step.startswith(("pmap", "shard")) else ("", "", config.step)
    )
    step: Step = next(each for each in get_args(Step) if each == name)
    with compiling_for(target.platform):
        size = config.size
        if isinstance(size, RecurrentSize):
            program = recurrent_program(step, size)
        else:
            program = step_program(Setup("jdarts", step, size, dtype=config.dtype))
        shapes = program.shapes()
        devices = target.devices if manner else target.devices[:1]
        if manner == "pmap":
            jitted = parallel.pmap_step(program.step, devices, donate=True)
        elif manner == "shard":
            jitted = parallel.shard_step(program.step, parallel.device_mesh(devices), donate=True)
        elif config.seeds > 1:
            shapes = jax.tree.map(lambda leaf: leaf.update(shape=(config.seeds, *leaf.shape)), shapes)
            jitted = parallel.vmap_step(program.step, donate=True)
        else:
            jitted = parallel.jit_step(program.step, donate=True)
        return targets.compile_for(devices, jitted, shapes, program.compiler_options)


def title(config: Launches) -> str:
    """What was compiled, where and with what."""
    manner, _, name = config.step.partition("_")
    several = {"pmap": ", `pmap_step` on all devices", "shard": ", `shard_step` on all devices"}
    step = STEP_NAMES.get(config.step) or STEP_NAMES[name] + several[manner]
    step += f" of {config.seeds} searches" if config.seeds > 1 else ""
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    plugin = "jax-cuda13-plugin" if config.target == targets.H100 else "libtpu"
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("jax", plugin))
    return (
        f"{config.target}: {step}, {config.size}, {config.dtype}, products `{config.matmul_precision}`. "
        f"{today}, compiled on {cores()} cores with {versions}."
    )


def launches_table(compilation: Compilation, summary: hlo.Summary) -> str:
    """Compilation, launches and bytes by kind, memory, and what devices exchange."""
    memory: Any = compilation.program.memory_analysis()
    rows = [
        ["trace", f"{compilation.trace_s:.1f} s", ""],
        ["compile", f"{compilation.compile_s:.1f} s", ""],
        ["**launches**", f"**{summary.count:,}**", f"**{_bytes(summary.bytes)}**"],
        *_kinds(summary),
        [f"launches that write less than {hlo.SMALL // 1000} kB", f"{summary.small:,}", ""],
        [
            "transposes, concatenations, pads, slices, copies of feature maps, nothing computed",
            "",
            _bytes(summary.moved),
        ],
        ["the same, together with those at the end of something computed", "", _bytes(summary.placed)],
    ]
    if summary.loops:
        rows.append([f"in the bodies of {summary.loops} loops, each counted once", f"{summary.in_loops:,}", ""])
        rows.append(["launches of every trip of the loops", f"{summary.all_trips[0]:,}", _bytes(summary.all_trips[1])])
    rows += [[f"arrays in `{name}`", f"{count:,}", _bytes(size)] for name, (count, size) in summary.collectives.items()]
    if memory is not None:
        rows.append(["temporary memory", "", _bytes(memory.temp_size_in_bytes)])
    return tables.table(["", "number", "bytes written"], rows)


def _kinds(summary: hlo.Summary) -> list[list[str]]:
    names = list(summary.launches)
    rest = names[SHOWN_KINDS:] if len(names) > SHOWN_KINDS + 1 else []
    rows = [
        [f"… `{name}`", f"{summary.launches[name]:,}", _bytes(summary.written[name])]
        for name in names
        if name not in rest
    ]
    if rest:
        counts = [_sum(each, rest) for each in (summary.launches, summary.written)]
        rows.append([f"… {len(rest)} other kinds", f"{counts[0]:,}", _bytes(counts[1])])
    return rows


def _sum(values: Mapping[str, int], names: Sequence[str]) -> int:
    return sum(values[name] for name in names)


def _bytes(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


if __name__ == "__main__":
    run_command(main)
