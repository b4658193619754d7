"""Results as markdown, and their places in a file."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from jdarts.errors import InputError
from jdarts.report import formatting
from jdarts.report.formatting import markdown_table as table

from .limits import Limits
from .rounds import Times
from .setup import STEP_NAMES, STEPS, Setup, Size, Step

_NAMES = {"jdarts": "jdarts", "pytorch": "PyTorch"}


def settings_table(times: Mapping[Setup, Times]) -> str:
    """PyTorch's weight step by layout and number of threads."""
    layouts = tuple(dict.fromkeys(setup.layout for setup in times))
    threads = sorted({setup.threads for setup in times})
    found = {(setup.layout, setup.threads): time_and_range(each) for setup, each in times.items()}
    rows = [[f"`{layout}`", *(found.get((layout, count), "") for count in threads)] for layout in layouts]
    return table(["layout", *(f"{count} thread{'s' * (count > 1)}" for count in threads)], rows)


def steps_table(times: Mapping[Setup, Times], size: Size, limits: Limits) -> str:
    """All steps of both sides at one size, how they compare, and how near each comes to the limits."""
    found = {(setup.side, setup.step): each for setup, each in times.items()}
    rows = []
    for step in STEPS:
        ours, theirs = found.get(("jdarts", step)), found.get(("pytorch", step))
        if ours is None and theirs is None:
            continue
        ratio = "" if ours is None or theirs is None else f"{theirs.median / ours.median:.2f}"
        limit = f"{formatting.step_time(limits.shortest(step, size))} ({limits.bound(step, size)})"
        shares = [_share(each, step, size, limits) for each in (ours, theirs)]
        rows.append([STEP_NAMES[step], time_and_range(ours), time_and_range(theirs), ratio, limit, *shares])
    head = ["", "jdarts", "PyTorch", "PyTorch / jdarts", "limit", "jdarts: limit / time", "PyTorch: limit / time"]
    text = table(head, rows)
    exact, difference = found.get(("jdarts", "exact")), found.get(("jdarts", "finite_difference"))
    if exact and difference:
        text += (
            f"\n\nThe exact step takes {exact.median / difference.median:.2f} times the time of jdarts' own "
            "finite-difference step."
        )
    return text


def compile_table(cold: Mapping[Setup, Mapping[str, float]], warm: Mapping[Setup, Mapping[str, float]]) -> str:
    """Seconds until the compiled step is there, for the first process and for a later one."""

    def row(setup: Setup) -> list[str]:
        first, later = cold[setup], warm[setup]
        total = [facts["trace_s"] + facts["compile_s"] for facts in (first, later)]
        parts = [first["trace_s"], first["compile_s"], total[0], later["compile_s"], total[1]]
        return [STEP_NAMES[setup.step], *map(formatting.step_time, parts)]

    head = ["jdarts", "trace", "compile", "**cold, both**", "load from the cache", "**warm, with trace**"]
    return table(head, [row(setup) for setup in warm])


def memory_table(facts: Mapping[Setup, Mapping[str, float]]) -> str:
    """Memory of a process when all is prepared, and the most of it in two steps."""

    def row(setup: Setup) -> list[str]:
        found = facts[setup]
        numbers = [found["ready_bytes"], found["peak_bytes"], found.get("temporary_bytes", math.nan)]
        return [f"{_NAMES[setup.side]}: {STEP_NAMES[setup.step]}", *map(_memory, numbers)]

    head = ["", "before the first step", "peak in two steps", "XLA's temporary arrays"]
    return table(head, [row(setup) for setup in facts])


def growth_table(times: Mapping[Setup, Times], axis: str, limits: Limits) -> str:
    """Times by one size: each with its multiple of the row above and its limit as a share of it."""

    def entry(setup: Setup, above: Setup | None) -> str:
        each, before = times[setup], None if above is None else times.get(above)
        parts = [formatting.step_time(each.median)]
        if before:
            parts.append(f"×{each.median / before.median:.2f}")
        return ", ".join([*parts, _share(each, setup.step, setup.size, limits)])

    return _by_size(times, axis, entry)


def growth_costs_table(facts: Mapping[Setup, Mapping[str, float]], axis: str) -> str:
    """Trace and compilation together where there are such, and peak memory in two steps, by one size."""

    def entry(setup: Setup, above: Setup | None) -> str:
        del above
        found = facts[setup]
        compiling = [formatting.step_time(found["trace_s"] + found["compile_s"])] if "compile_s" in found else []
        return ", ".join([*compiling, _memory(found["peak_bytes"])])

    return _by_size(facts, axis, entry)


def _by_size(setups: Iterable[Setup], axis: str, entry: Callable[[Setup, Setup | None], str]) -> str:
    """A row for each size, a column for each subject; an entry is told its setup and the one above it."""
    of = {(setup.side, setup.step, getattr(setup.size, axis)): setup for setup in setups}
    columns = list(dict.fromkeys(place[:2] for place in of))
    values = sorted({place[2] for place in of})
    rows = []
    for value, above in zip(values, [None, *values]):
        pairs = [(of.get((*column, value)), of.get((*column, above))) for column in columns]
        rows.append([str(value), *("" if setup is None else entry(setup, last) for setup, last in pairs)])
    return table([axis, *(f"{_NAMES[side]}: {STEP_NAMES[step]}" for side, step in columns)], rows)


def recurrent_table(times: Mapping[str, Times], compilation: Mapping[str, float]) -> str:
    """Steps of a recurrent search, how both sides compare, and the seconds of tracing and compilation, by `side/step`."""
    rows = []
    for step in STEPS:
        ours, theirs = times.get(f"jdarts/{step}"), times.get(f"pytorch/{step}")
        if ours is None and theirs is None:
            continue
        ratio = "" if ours is None or theirs is None else f"{theirs.median / ours.median:.2f}"
        compiling = compilation.get(f"jdarts/{step}")
        made = "" if compiling is None else formatting.step_time(compiling)
        rows.append([STEP_NAMES[step], time_and_range(ours), time_and_range(theirs), ratio, made])
    text = table(["", "jdarts", "PyTorch", "PyTorch / jdarts", "jdarts: trace and compile"], rows)
    exact, difference = times.get("jdarts/exact"), times.get("pytorch/finite_difference")
    if exact and difference:
        text += (
            f"\n\nPyTorch's finite-difference step takes {difference.median / exact.median:.2f} times the time of jdarts' "
            "exact one."
        )
    return text


def place(text: str, sections: Mapping[str, str], path: Path) -> str:
    """Puts sections between their markers, `<!-- begin NAME -->` and `<!-- end NAME -->`.

    Raises:
      InputError: a marker is missing.
    """
    for name, content in sections.items():
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise InputError(f"{path} has no lines {begin} and {end} for a table; put them where it belongs")
        text = f"{before}{begin}\n{content}\n{end}{after}"
    return text


def time_and_range(times: Times | None) -> str:
    """Median, with the shortest and longest."""
    if times is None:
        return ""
    return f"{formatting.step_time(times.median)} ({formatting.step_time(times.least)} to {formatting.step_time(times.most)})"


def _share(times: Times | None, step: Step, size: Size, limits: Limits) -> str:
    return "" if times is None else f"{100 * limits.shortest(step, size) / times.median:.0f} %"


def _memory(count: float) -> str:
    return "" if math.isnan(count) else f"{count / 2**30:.2f} GiB"
