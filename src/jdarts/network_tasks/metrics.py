"""Metrics of a task in words and in the summary of a run."""

from collections.abc import Mapping

from jdarts.files.json_data import Fields
from jdarts.report.formatting import by_group


def metrics_text(metrics: Mapping[str, float]) -> str:
    """Metrics in one line, such as `loss 0.312, accuracy 91.2 %`."""
    (texts,) = by_group(metrics).values()
    return ", ".join(f"{name} {text.strip()}" for name, text in texts.items())


def metrics_from(fields: Fields, name: str) -> dict[str, float]:
    """The metrics of a summary; none where a run is older than them. A `ValueError` if they are damaged."""
    if not fields.has(name):
        return {}
    metrics = Fields(fields.get(name))
    return {each: metrics.number(each) for each in metrics.names}


def metrics_of(numbers: Mapping[str, float], part: str) -> dict[str, float]:
    """The numbers whose names begin with a part, such as `evaluation`, by the rest of their names."""
    return {
        name.removeprefix(f"{part}/"): float(value) for name, value in numbers.items() if name.startswith(f"{part}/")
    }
