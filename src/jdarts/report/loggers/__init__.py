"""Programs that show the numbers of runs: TensorBoard, W&B and MLflow, behind one interface."""

from jdarts.report.loggers.choice import FOLDERS, LoggerName, check_loggers, open_loggers
from jdarts.report.loggers.interface import EpochCells, Logger

__all__ = ["FOLDERS", "EpochCells", "Logger", "LoggerName", "check_loggers", "open_loggers"]
