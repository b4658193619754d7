"""Compiled functions that the runs of one process share."""

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

Functions = TypeVar("Functions")


class CompiledPrograms:
    """Keeps the compiled functions of runs, so that runs which differ in their seed alone are compiled once."""

    def __init__(self) -> None:
        self._kept: dict[Hashable, Any] = {}

    def get(self, key: Hashable, compiled: Callable[[], Functions]) -> Functions:
        """The functions of a key: those that were compiled for it before, or what `compiled` gives now."""
        if key not in self._kept:
            self._kept[key] = compiled()
        return self._kept[key]
