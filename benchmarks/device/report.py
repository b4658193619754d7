"""The tables of a measurement on a device, from its records."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from harness import tables
from harness.counts import step_bytes, step_flops
from harness.setup import STEP_NAMES, Size, Step

from jdarts.report import formatting

from .parts import SEARCH_EPOCHS, SEARCH_STEPS

Record = Mapping[str, Any]
Records = Mapping[str, Record]

#: Of the kinds of kernels, the longest that the tables show; the file has more.
MOST_KINDS = 20
_PRECISIONS = {"float32": "float32", "tf32": "TF32", "bfloat16": "bfloat16"}


def report(records: Records) -> str:
    """All tables whose parts have results, under one line on the device and the versions."""
    sections = [
        head(records),
        _titled("Steps", steps_table(records)),
        _titled("PyTorch on the same card", torch_table(records)),
        _titled("Programs", programs_table(records)),
        _titled("Several searches in one step", seeds_table(records)),
        _titled("Recurrent search", recurrent_table(records)),
        _titled("Longest kernels", kernels_table(records)),
        *(search_line(record) for record in _of_kind(records, "search")),
        *(fixtures_line(record) for record in _of_kind(records, "fixtures")),
        *(
            _titled(f"Largest distances to the CPU{_forms(record)}", distances_table(record))
            for record in _of_kind(records, "against_cpu")
        ),
        failures(records),
    ]
    return "\n\n".join(section for section in sections if section)


def head(records: Records) -> str:
    """The device, its versions and its ceilings."""
    facts = records.get("ceilings", {})
    today = datetime.now(UTC).strftime("%Y-%m-%d")
    if "device" not in facts:
        return f"{today}; the device's facts are missing"
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    driver = f", driver {facts['driver']}" if facts["driver"] else ""
    line = f"{today}, {facts['device']}{driver}; Python {facts['python']}, {versions}"
    if "copy_bytes_s" not in facts:
        return line
    rates = ", ".join(
        f"{facts[f'{precision}_flops'] / 1e12:.3g} TFLOP/s in {name}" for precision, name in _PRECISIONS.items()
    )
    return f"{line}. Ceilings: {facts['copy_bytes_s'] / 1e9:,.0f} GB/s in a large copy; {rates} in a large product."


def steps_table(records: Records) -> str:
    """Times of jdarts' steps, the larger floor of each, and PyTorch's time of the same step."""
    rows = []
    for record in _of_kind(records, "step"):
        size = Size(**record["size"])
        floor = step_floor(record["step"], record["precision"], size, records.get("ceilings", {}))
        theirs = records.get(f"torch/{record['step']}/eager/{record['precision']}/{size.batch}", {}).get("median_s")
        rows.append(
            [
                _step_name(record),
                str(size.batch),
                _PRECISIONS[record["precision"]],
                _time(record),
                formatting.step_time(record["queued_s"]),
                formatting.step_time(record["kernel_ms"] / 1e3) if "kernel_ms" in record else "",
                f"{formatting.step_time(floor[0])} ({floor[1]})" if floor else "",
                f"{100 * floor[0] / record['median_s']:.0f} %" if floor else "",
                f"{theirs / record['median_s']:.2f}" if theirs else "",
                _gib(record.get("peak_bytes")),
            ]
        )
    columns = ["", "batch", "precision", "time", "queued", "kernels", "floor", "floor / time"]
    columns += ["PyTorch / jdarts", "peak memory"]
    return tables.table(columns, rows) if rows else ""


def step_floor(step: Step, precision: str, size: Size, ceilings: Record) -> tuple[float, str] | None:
    """The larger of the times for a step's operations and bytes, and its name; None without ceilings.

    Feature maps of bfloat16 have half the bytes.
    """
    if "copy_bytes_s" not in ceilings:
        return None
    moved = step_bytes(step, size) / (2 if precision == "bfloat16" else 1) / ceilings["copy_bytes_s"]
    computed = step_flops(step, size) / ceilings[f"{precision}_flops"]
    return max((moved, "memory"), (computed, "arithmetic"))


def torch_table(records: Records) -> str:
    """Times of PyTorch's steps, in every way to run them."""
    found = _of_kind(records, "torch")
    rows = [
        [
            STEP_NAMES[each["step"]],
            str(each["size"]["batch"]),
            _PRECISIONS[each["precision"]],
            each["variant"],
            _time(each),
            _gib(each.get("peak_bytes")),
        ]
        for each in found
    ]
    return tables.table(["", "batch", "precision", "run as", "time", "peak memory"], rows) if rows else ""


def programs_table(records: Records) -> str:
    """Compilation, launches and bytes of every program; `again` is a later process that finds it in the cache."""
    rows = []
    for name, record in records.items():
        if "compile_s" not in record:
            continue
        shown = [formatting.step_time(record[key]) for key in ("trace_s", "compile_s")]
        counted = ["", "", ""]
        if "launches" in record:
            counted = [
                f"{record['launches']:,}",
                *(f"{record[key] / 1e9:.2f} GB" for key in ("written_bytes", "moved_bytes")),
            ]
        rows.append([f"`{name}`", *shown, *counted, _gib(record.get("temporary_bytes"))])
    columns = ["", "trace", "compile or load", "launches", "written", "of it moved maps", "temporary memory"]
    return tables.table(columns, rows) if rows else ""


def seeds_table(records: Records) -> str:
    """The time of one step of several searches against that of one times their number."""
    found = _of_kind(records, "seeds")
    rows = []
    for record in found:
        size, alone = record["size"], _one_search(record, records)
        ratio = f"{record['median_s'] / (record['seeds'] * alone):.2f}" if alone else ""
        network = f"C={size['channels']}, {size['cells']} cells, {size['image_size']}×{size['image_size']}"
        rows.append([f"{_step_name(record)}, {network}", str(record["seeds"]), _time(record), ratio])
    return tables.table(["", "searches", "time", "time / searches × one"], rows) if rows else ""


def _one_search(record: Record, records: Records) -> float | None:
    """Seconds of a step of one search that is like this one of several."""
    keys = ("step", "precision", "size", "native", "depthwise", "separable", "graphs", "steps_per_call")
    alike = (
        each["median_s"]
        for each in records.values()
        if each["kind"] in ("seeds", "step")
        and each["seeds"] == 1
        and "median_s" in each
        and all(each.get(key) == record.get(key) for key in keys)
    )
    return next(alike, None)


def recurrent_table(records: Records) -> str:
    """Steps of the recurrent search, and PyTorch's."""
    rows = []
    for record in _of_kind(records, "recurrent"):
        theirs = records.get(f"torch_recurrent/{record['step']}", {})
        ratio = f"{theirs['median_s'] / record['median_s']:.2f}" if "median_s" in theirs else ""
        rows.append([_step_name(record), _time(record), _time(theirs), ratio])
    return tables.table(["", "jdarts", "PyTorch", "PyTorch / jdarts"], rows) if rows else ""


def kernels_table(records: Records) -> str:
    """The kernels of one step that take longest."""
    found = [*_of_kind(records, "again"), *_of_kind(records, "step")]
    record = next((each for each in found if each.get("kernels")), None)
    if record is None:
        return ""
    total = record["kernel_ms"]

    def table(title: str, found: Sequence[Record]) -> str:
        rows = [
            [f"`{each['name'][:80]}`", f"{each['ms']:.3f}", f"{100 * each['ms'] / total:.0f} %", f"{each['calls']:g}"]
            for each in found
        ]
        return tables.table([title, "ms", "share", "calls"], rows)

    summary = (
        f"{_step_name(record)} in {_PRECISIONS[record['precision']]}: {record['kernels_run']:,.0f} kernels and copies a step, "
        f"{total:.1f} ms on the device."
    )
    single, alike = table("kernel", record["kernels"]), table("kernels of one kind", record["kinds"][:MOST_KINDS])
    return f"{summary}\n\n{single}\n\n{alike}"


def search_line(record: Record) -> str:
    """The projection of a whole search."""
    return (
        f"**The paper's second-order search, {SEARCH_STEPS:,} steps and {SEARCH_EPOCHS} evaluations, projected from "
        f"{record['steps_taken']} measured steps with augmentation ({_PRECISIONS[record['precision']]}{_forms(record)}): "
        f"{formatting.duration(record['search_s'])}**, at {formatting.step_time(record['median_s'])} a step and "
        f"{formatting.step_time(record['evaluation_s'])} an evaluation."
    )


def fixtures_line(record: Record) -> str:
    """The largest errors against the reference numbers."""
    errors = ", ".join(f"{name} {error:.1e}" for name, error in record["errors"].items())
    return f"Largest errors against the reference numbers, as shares of the largest number: {errors}."


def distances_table(record: Record) -> str:
    """For each network, ‖device − CPU‖ / ‖CPU‖ of what it computes."""
    found: Mapping[str, Mapping[str, float]] = record["distances"]
    columns = list(next(iter(found.values())))
    rows = [[name, *(f"{each[column]:.1e}" for column in columns)] for name, each in found.items()]
    return tables.table(["", *columns], rows)


def failures(records: Records) -> str:
    """One line for every part without a result."""
    lines = [f"* `{name}`: {record['error']}" for name, record in records.items() if "error" in record]
    return "\n".join(["Without a result:", "", *lines]) if lines else ""


def _titled(title: str, table: str) -> str:
    return f"**{title}.**\n\n{table}" if table else ""


def _of_kind(records: Records, kind: str) -> Sequence[Record]:
    return [record for record in records.values() if record["kind"] == kind and "error" not in record]


def _step_name(record: Record) -> str:
    return STEP_NAMES[record["step"]] + _forms(record)


def _forms(record: Record) -> str:
    native = f", native functions {record['native']}" if record.get("native") else ""
    forms = (f", {name} {record[name]}" for name in ("depthwise", "separable") if record.get(name))
    graphs = f", CUDA graphs {record['graphs']}" if record.get("graphs") else ""
    steps = f", {record['steps_per_call']} steps a call" if record.get("steps_per_call", 1) > 1 else ""
    return "".join((native, *forms, graphs, steps))


def _time(record: Record) -> str:
    if "median_s" not in record:
        return ""
    times = (formatting.step_time(record[key]) for key in ("median_s", "min_s", "max_s"))
    return "{} ({} to {})".format(*times)


def _gib(count: float | None) -> str:
    return "" if count is None else f"{count / 2**30:.2f} GiB"
