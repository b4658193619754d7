"""One run of the benchmark: what is measured in which order, and its report."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from . import machine, tables
from .config import COMPARED, GROWN, GROWTH, QUICK_GROWTH, REMEMBERED, Axis, BenchmarkConfig
from .limits import Limits, cores
from .rounds import Times, measure
from .setup import Layout, Setup, Size, Step


class Benchmark:
    """One run: the sections of its report, and every number behind them.

    Args:
      config: the settings.
      limits: of this machine.
      cache: a folder for compiled programs.
      save: is given the run after every section, and after every part of one that takes long.
    """

    def __init__(
        self, config: BenchmarkConfig, limits: Limits, cache: Path, save: "Callable[[Benchmark], None]"
    ) -> None:
        self.config = config
        self._save = save
        self.limits = limits
        self.sections: dict[str, str] = {}
        self.records: list[dict[str, Any]] = []
        self.torch_setting: tuple[Layout, int] = (config.layout or "channels_last", config.threads or cores())
        self._cold: dict[Setup, dict[str, float]] = {}
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
        if "steps" in config.parts and compared:
            times, _ = self.measure("steps", compared, config.rounds)
            self.report("steps", f"Steps at {config.size}", tables.steps_table(times, config.size, self.limits))
        ours = [setup for setup in compared if setup.side == "jdarts"]
        if "compile" in config.parts and ours:
            if not self._cold:
                self.measure("compile", ours)
            warm = self.measure("compile", ours)[1]
            self.report("compile", f"Compilation at {config.size}", tables.compile_table(self._cold, warm))
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
        """Times, compilation and memory along one axis; a subject's sizes take turns, one subject after the other."""
        values = (QUICK_GROWTH if self.config.quick else GROWTH)[axis]
        sizes = [dataclasses.replace(self.config.size, **{axis: value}) for value in values]
        times: dict[Setup, Times] = {}
        facts: dict[Setup, dict[str, float]] = {}
        for name in GROWN:
            setups = [setup for size in sizes for setup in self.setups((name,), size)]
            if not setups:
                continue
            found = self.measure(f"growth {axis}", setups, self.config.growth_rounds)
            times |= found[0]
            facts |= {setup: found[1][setup] | self._cold[setup] for setup in setups}
            title = f"Growth with the {axis}, else {self.config.size}"
            growth = tables.growth_table(times, axis, self.limits)
            self.report(f"growth {axis}", title, f"{growth}\n\n{tables.growth_costs_table(facts, axis)}")

    def measure(
        self, purpose: str, setups: Sequence[Setup], rounds: int = 0
    ) -> tuple[dict[Setup, Times], dict[Setup, dict[str, float]]]:
        """Measures, and keeps every number."""
        times, facts = measure(setups, rounds=rounds, environment=self._environment, tell=tell)
        for setup in setups:
            record = {"purpose": purpose, **dataclasses.asdict(setup), "seconds": times[setup].values, **facts[setup]}
            self.records.append(record)
            made = {name: facts[setup][name] for name in ("trace_s", "compile_s") if name in facts[setup]}
            # What was measured later may have found the program in the cache.
            self._cold.setdefault(setup, made)
        return times, facts

    def report(self, name: str, title: str, table: str) -> None:
        """Prints a section and saves it. Rates are in the units of 10⁹ operations and bytes a second."""
        rates = f"limits: {self.limits.flops / 1e9:.0f} GFLOP/s and {self.limits.bandwidth / 1e9:.0f} GB/s"
        layout, threads = self.torch_setting
        setting = (
            f"; PyTorch with `{layout}` and {threads} thread{'s' * (threads > 1)}" if self.config.needs_torch else ""
        )
        self.sections[name] = f"**{title}.** {machine.describe()}{setting}; {rates}.\n\n{table}"
        print(f"\n{self.sections[name]}\n", flush=True)
        self._save(self)


def tell(text: str) -> None:
    """Says on standard error what is going on."""
    print(text, file=sys.stderr, flush=True)
