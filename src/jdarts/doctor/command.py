"""`python -m jdarts.doctor`: a report on this installation and this machine."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from jdarts.command import program_name
from jdarts.doctor import Finding, caches, data_sets, devices, extras, native_kernels, packages

CHECKS: Mapping[str, Callable[[], list[Finding]]] = {
    "packages": packages,
    "extras": extras,
    "devices": devices,
    "native kernels": native_kernels,
    "caches": caches,
    "data": data_sets,
}
_COLOURS = {"good": "", "slow": "yellow", "wrong": "red"}


@dataclasses.dataclass(frozen=True)
class DoctorConfig:
    """Shows what is installed, which devices there are, and what a first step will cost.

    The exit code is 1 if something is wrong.

    Attributes:
      compute: also compute gradients of small search networks, and compare them with those of the CPU, or on a CPU with those of
        JAX's own operations; takes a minute or two.
      json: print JSON instead of a table.
    """

    compute: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")] = False
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")] = False


def main() -> int:
    """Prints the report.

    Returns:
      The exit code: 1 if something is wrong.
    """
    config = tyro.cli(DoctorConfig, prog=program_name("jdarts.doctor"))
    report = {name: check() for name, check in CHECKS.items()}
    if config.compute:
        report["numbers"] = computed(report)
    if config.json:
        print(json.dumps({name: [each._asdict() for each in found] for name, found in report.items()}, indent=2))
    else:
        show(report, Console(soft_wrap=False))
    return int(any(each.state == "wrong" for found in report.values() for each in found))


def computed(report: Mapping[str, list[Finding]]) -> list[Finding]:
    """What the device computes; nothing, if the report says that it can compute nothing."""
    if any(each.state == "wrong" for name in ("packages", "devices") for each in report[name]):
        return [Finding("numbers", "not computed: packages or devices are wrong", "slow")]
    # A network and its search are more than the other checks need.
    from jdarts.doctor.numbers import numbers

    return numbers()


def show(report: Mapping[str, list[Finding]], console: Console) -> None:
    """Prints a table for each part of the report."""
    for name, found in report.items():
        table = Table(box=None, show_header=False, pad_edge=False, title=name, title_justify="left", title_style="bold")
        table.add_column(min_width=26)
        table.add_column(overflow="fold")
        for each in found:
            mend = f"\n→ {each.mend}" if each.mend else ""
            table.add_row(Text(f"  {each.name}"), Text(each.text + mend, style=_COLOURS[each.state]))
        console.print(table)
        console.print()
