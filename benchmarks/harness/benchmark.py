"""One run of the benchmark: what is measured in which order, and its report."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import machine, tables
from .config import COMPARED, GROWN, GROWTH, QUICK_GROWTH, REMEMBERED, Axis, BenchmarkConfig
from .limits import Limits, cores
from .rounds import Times, measure
from .setup import Layout, Setup, Size, Step


class Benchmark:
    """One run: the sections of its report, and every number behind them."""

    def __init__(self, config: BenchmarkConfig, limits: Limits, cache: Path) -> None:
        self.config = config
        self.limits = limits
        self.sections: dict[str, str] = {}
        self.records: list[dict[str, Any]] = []
        self.torch_setting: tuple[Layout, int] = (config.layout or "channels_last", config.threads or cores())
        self._environment = {
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def run(self) -> None:
        """Measures everything that the configuration asks for."""
        config = self.config
        if config.needs_torch:
            self.choose_torch_setting()
        compared = self.setups(COMPARED, config.size)
        cold: dict[Setup, dict[str, float]] = {}
        if "steps" in config.parts and compared:
            times, cold = self.measure("steps", compared, config.rounds)
            self.report("steps", f"Steps at {config.size}", tables.steps_table(times, config.size, self.limits))
        ours = [setup for setup in compared if setup.side == "jdarts"]
        if "compile" in config.parts and ours:
            if not cold:
                cold = self.measure("compile", ours)[1]
            warm = self.measure("compile", ours)[1]
            self.report("compile", f"Compilation at {config.size}", tables.compile_table(cold, warm))
        if "memory" in config.parts:
            self.memory()
        for axis in config.growth:
            self.growth(axis)

    def setups(self, names: Sequence[str], size: Size) -> list[Setup]:
        """The chosen ones of these subjects at a size."""
        layout, threads = self.torch_setting
        return [
            Setup(side, step, size, layout, threads) if side == "pytorch" else Setup(side, step, size)
            for side, step in self.config.chosen(names)
        ]

    def choose_torch_setting(self) -> None:
        """Finds PyTorch's fastest layout and number of threads by its weight step."""
        config = self.config
        layouts: tuple[Layout, ...] = (config.layout,) if config.layout else ("channels_last", "contiguous")
        threads = (config.threads,) if config.threads else range(1, cores() + 1)
        step: Step = "weight"
        setups = [Setup("pytorch", step, config.size, layout, count) for layout in layouts for count in threads]
        if len(setups) == 1:
            return
        times, _ = self.measure("settings", setups, config.growth_rounds)
        best = min(times, key=lambda setup: times[setup].median)
        self.torch_setting = best.layout, best.threads
        self.report("settings", f"PyTorch's weight step at {config.size}", tables.settings_table(times))

    def memory(self) -> None:
        """Peak memory, of a process that finds its program compiled: compiling takes memory of its own."""
        size = dataclasses.replace(self.config.size, batch=self.config.memory_batch)
        facts = {}
        for setup in self.setups(REMEMBERED, size):
            if setup.side == "jdarts":
                self.measure("memory, compiling", [setup])
            facts |= self.measure("memory", [setup])[1]
        if facts:
            self.report("memory", f"Memory at {size}", tables.memory_table(facts))

    def growth(self, axis: Axis) -> None:
        """Times along one axis; one size after the other, since all at once would need the memory of all."""
        sizes = [
            dataclasses.replace(self.config.size, **{axis: value})
            for value in (QUICK_GROWTH if self.config.quick else GROWTH)[axis]
        ]
        times: dict[Setup, Times] = {}
        for size in sizes:
            setups = self.setups(GROWN, size)
            times |= self.measure(f"growth {axis}", setups, self.config.growth_rounds)[0] if setups else {}
        if not times:
            return
        title = f"Growth with the {axis}, else {self.config.size}"
        self.report(f"growth {axis}", title, tables.growth_table(times, axis, self.limits))

    def measure(
        self, purpose: str, setups: Sequence[Setup], rounds: int = 0
    ) -> tuple[dict[Setup, Times], dict[Setup, dict[str, float]]]:
        """Measures, and keeps every number."""
        times, facts = measure(setups, rounds=rounds, environment=self._environment, tell=tell)
        for setup in setups:
            record = {"purpose": purpose, **dataclasses.asdict(setup), "seconds": times[setup].values, **facts[setup]}
            self.records.append(record)
        return times, facts

    def report(self, name: str, title: str, table: str) -> None:
        """Prints a section and keeps it. Rates are in the units of 10⁹ operations and bytes a second."""
        rates = f"limits: {self.limits.flops / 1e9:.0f} GFLOP/s and {self.limits.bandwidth / 1e9:.0f} GB/s"
        layout, threads = self.torch_setting
        setting = (
            f"; PyTorch with `{layout}` and {threads} thread{'s' * (threads > 1)}" if self.config.needs_torch else ""
        )
        self.sections[name] = f"**{title}.** {machine.describe()}{setting}; {rates}.\n\n{table}"
        print(f"\n{self.sections[name]}\n", flush=True)


def tell(text: str) -> None:
    """Says on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)
