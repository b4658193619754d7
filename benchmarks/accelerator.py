"""Measure jdarts on the accelerator that is there: ceilings, steps, compilation, kernels, memory, and PyTorch beside it.

Each part is a process with its own time limits, and its result is appended to the file of JSON lines at once. Parts of one wave
are traced and compiled side by side and measured one after the other, while nothing else runs. The tables come last, from all
results that the file has: a second call with --only adds to them.

What the machine needs: jax for its device, flax, optax, chex, orbax-checkpoint, etils, rich, tyro (with docstring-parser and
typeguard) and this folder with src/ beside it; torch for the other side. Nothing is fetched.

Command:  PYTHONPATH=src python benchmarks/accelerator.py --out out/accelerator.jsonl            (--quick for a CPU)
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from device.parts import DEPTHWISE, GRAPHS, Switch, chosen_parts
from device.report import report
from device.runner import Runner, read_records
from harness import tables

from jdarts.command import run_command
from jdarts.errors import InputError
from jdarts.files.atomic import replace_text
from jdarts.xla.environment import SEPARABLE_FORMS

README = Path(__file__).resolve().parent / "README.md"
SECTION = "accelerator"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures with the given arguments, by default those of the process.

    Raises:
      InputError: an option is wrong.
    """
    config = parser().parse_args(arguments)
    check(config)
    fixtures = config.fixtures is not None
    parts = chosen_parts(
        config.only,
        config.native,
        config.depthwise,
        config.separable,
        config.graphs,
        config.steps_per_call,
        quick=config.quick,
        fixtures=fixtures,
        patience=config.patience,
    )
    if config.list:
        print("\n".join(part.name for part in parts))
        return
    flags = {
        "quick": config.quick,
        "seconds": 0.3 if config.quick else 3.0,
        "fixtures": str(config.fixtures.resolve()) if fixtures else None,
    }
    folder = config.out.resolve().parent
    folder.mkdir(parents=True, exist_ok=True)
    programs = config.programs or folder / "programs"
    # Before the parts, which take minutes.
    read_records(config.out)
    if not config.tables:
        runner = Runner(config.out, seconds=config.seconds, jobs=config.jobs, programs=programs, flags=flags, tell=tell)
        runner.run(parts)
    text = report(read_records(config.out))
    print(f"\n{text}\n", flush=True)
    if config.write:
        replace_text(README, tables.place(README.read_text(), {SECTION: text}, README))


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--out", type=Path, default=Path("runs/accelerator.jsonl"), help="file of JSON lines that results go to"
    )
    made.add_argument(
        "--programs", type=Path, help="folder of compiled programs (programs, beside the file of results)"
    )
    made.add_argument("--seconds", type=float, default=470, help="for all parts (470)")
    made.add_argument(
        "--only", nargs="+", default=[], metavar="PART", help="beginnings of parts' names; --list shows them"
    )
    made.add_argument("--list", action="store_true", help="print the names of the parts, and measure nothing")
    made.add_argument(
        "--jobs", type=int, default=max(2, 3 * (os.cpu_count() or 2) // 4), help="parts to compile side by side"
    )
    made.add_argument("--patience", type=float, default=1.0, help="multiplies the time limits of the parts")
    made.add_argument("--native", nargs="+", default=[], choices=get_args(Switch), help="native functions of jdarts")
    made.add_argument(
        "--depthwise", nargs="+", default=[], choices=DEPTHWISE, help="forms of the depthwise convolutions of jdarts"
    )
    made.add_argument(
        "--separable",
        nargs="+",
        default=[],
        choices=SEPARABLE_FORMS,
        help="forms of the separable convolutions of jdarts",
    )
    made.add_argument(
        "--graphs", nargs="+", default=[], choices=tuple(GRAPHS), help="how XLA launches jdarts' kernels as CUDA graphs"
    )
    made.add_argument(
        "--steps-per-call",
        nargs="+",
        default=[],
        type=int,
        metavar="COUNT",
        help="steps of one call of jdarts' programs",
    )
    made.add_argument("--fixtures", type=Path, help="folder of the reference implementation's numbers, to compare with")
    made.add_argument("--quick", action="store_true", help="a tiny network in place of all sizes")
    made.add_argument(
        "--tables", action="store_true", help="print the tables of the file that is there, measure nothing"
    )
    made.add_argument("--write", action="store_true", help="put the tables into benchmarks/README.md")
    return made


def check(config: argparse.Namespace) -> None:
    """Refuses what cannot be measured.

    Raises:
      InputError: a number below 1, no reference numbers, or no place for the tables.
    """
    for name, least in (("seconds", 1), ("jobs", 1), ("patience", 0.1)):
        if not getattr(config, name) >= least:
            raise InputError(f"--{name} is {getattr(config, name)}; give {least} or more")
    for count in config.steps_per_call:
        if count < 1:
            raise InputError(f"--steps-per-call {count}; give 1 or more")
    if config.tables and not config.out.is_file():
        raise InputError(f"--tables reads {config.out}, and there is no such file")
    if config.fixtures is not None and not any(config.fixtures.rglob("search_c4_l4.npz")):
        raise InputError(f"--fixtures {config.fixtures}: there is no file search_c4_l4.npz below it")
    if config.write:
        tables.place(README.read_text(), {SECTION: ""}, README)


def tell(text: str) -> None:
    """Says on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    run_command(main)
