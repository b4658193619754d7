"""What the loop of a run reads of others: states, settings, logs and summaries."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

#: What tells the data of a run from others, as JSON data.
Fingerprint = Mapping[str, Any]


class State(Protocol):
    """What the loop reads of a run's state, a pytree.

    Attributes:
      step: int32 `[]`, steps that were done.
      sums: sums of metrics over the steps of the present epoch.
      not_finite_at: int32 `[]`, the first step at which something was not finite; 0 while there is none.
    """

    @property
    def step(self) -> Any: ...  # noqa: D102

    @property
    def sums(self) -> Mapping[str, Any]: ...  # noqa: D102

    @property
    def not_finite_at(self) -> Any: ...  # noqa: D102


class Setting(Protocol):
    """What the loop reads of a run's configuration."""

    @property
    def epochs(self) -> int: ...  # noqa: D102

    @property
    def batch_size(self) -> int: ...  # noqa: D102

    @property
    def log_every(self) -> int: ...  # noqa: D102

    @property
    def checkpoint_minutes(self) -> float: ...  # noqa: D102

    @property
    def keep_checkpoints(self) -> int: ...  # noqa: D102

    @property
    def folder(self) -> Path: ...  # noqa: D102

    def check(self) -> None: ...  # noqa: D102

    def to_json(self) -> dict[str, Any]: ...  # noqa: D102


class Log(Protocol):
    """Where the numbers of a run are written: `MetricsLog`, or several."""

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Appends the numbers of a step."""
        ...

    def write_epoch(self, step: int, values: Mapping[str, Any], number: int) -> None:
        """Appends the numbers of an epoch, counted from 1, unless they are there."""
        ...


class Summary(Protocol):
    """What a finished run has found, with the effort that it took."""

    @property
    def result(self) -> Any: ...  # noqa: D102

    def lines(self) -> list[str]: ...  # noqa: D102
