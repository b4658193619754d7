"""The output of a run: progress on the terminal, metrics in files, drawings."""

from jdarts.report.drawing import draw_budgets, draw_cells, draw_curves, draw_genotype
from jdarts.report.formatting import duration
from jdarts.report.metrics import MetricsLog, read_metrics
from jdarts.report.progress import Progress

__all__ = [
    "MetricsLog",
    "Progress",
    "draw_budgets",
    "draw_cells",
    "draw_curves",
    "draw_genotype",
    "duration",
    "read_metrics",
]
