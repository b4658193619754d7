"""Numbers as text: durations, speeds, losses, accuracies; tables of texts."""

import math
from collections.abc import Mapping, Sequence

MINUTE, HOUR, DAY = 60, 3600, 86400


def duration(seconds: float) -> str:
    """A duration in its two largest units: `42 s`, `3 min 20 s`, `1 h 52 min`, `2 days 3 h`.

    A second unit of zero is left out. Less than a second has one decimal.
    """
    seconds = max(0.0, seconds)
    if seconds < 0.95:
        return f"{seconds:.1f} s"
    # Each unit is rounded before it is split, so that 59.7 s becomes 1 min and never 60 s.
    if round(seconds) < MINUTE:
        return f"{round(seconds)} s"
    if round(seconds) < HOUR:
        return _two_units(round(seconds), MINUTE, "min", 1, "s")
    minutes = round(seconds / MINUTE) * MINUTE
    if minutes < DAY:
        return _two_units(minutes, HOUR, "h", MINUTE, "min")
    hours = round(seconds / HOUR) * HOUR
    return _two_units(hours, DAY, "day" if hours < 2 * DAY else "days", HOUR, "h")


def step_time(seconds: float) -> str:
    """The time of one step with two or three digits: `4.2 ms`, `0.34 s`, `12.5 s`."""
    if seconds < 0.1:
        return f"{1000 * seconds:.{0 if seconds >= 0.01 else 1}f} ms"
    return f"{seconds:.{1 if seconds >= 10 else 2}f} s"


def rate(per_second: float) -> str:
    """A number per second: `8.3`, `188`, `12,300`."""
    return f"{per_second:,.0f}" if per_second >= 10 else f"{per_second:.1f}"


def by_group(values: Mapping[str, float]) -> dict[str, dict[str, str]]:
    """Groups values by the part of their keys before the last slash, and formats each.

    Args:
      values: numbers by key, such as `train/loss` (group `train`) or `learning_rate` (group `""`).

    Returns:
      Texts by group and name, in the order of the values, such as `{"train": {"accuracy": "56.1 %"}}`.
    """
    groups: dict[str, dict[str, str]] = {}
    for key, value in values.items():
        group, _, name = key.rpartition("/")
        groups.setdefault(group, {})[name.replace("_", " ")] = _number(name, float(value))
    return groups


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A markdown table; all columns but the first are flush right."""
    marks = ["---", *("---:" for _ in head[1:])]
    return "\n".join("| " + " | ".join(line) + " |" for line in (head, marks, *rows))


def _two_units(total: int, large: int, large_name: str, small: int, small_name: str) -> str:
    count, rest = divmod(total, large)
    rest //= small
    return f"{count} {large_name} {rest} {small_name}" if rest else f"{count} {large_name}"


def _number(name: str, value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if name.endswith("accuracy"):
        return f"{100 * value:4.1f} %"
    if name.endswith("perplexity"):
        return f"{value:,.1f}"
    if name.endswith("rate") or not 0.001 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:.3f}"
