"""The result of a training of the user's own network, as text and in the summary file."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jdarts.files.json_data import Fields
from jdarts.network_tasks.metrics import metrics_from, metrics_text
from jdarts.rich_forms import text_html
from jdarts.runs.folder import RunFolder
from jdarts.runs.summaries import Summary, read_summary


class NetworkTrainResult(NamedTuple):
    """The result of a training.

    Attributes:
      weights: number of the network's weights.
      tested: the weights that the metrics belong to, `last` or `best`.
      checkpoint: the checkpoint of these weights, below the run's folder.
      train_metrics: loss and metrics of the last epoch's steps.
      valid_metrics: the same on the held-out examples; empty without them.
      test_metrics: the same on the test examples; empty without a test.
      seconds: time that the processes of the run have taken.
      folder: the run's folder.
      genotype: None; the network has no cells.
    """

    weights: int
    tested: str
    checkpoint: str
    train_metrics: Mapping[str, float]
    valid_metrics: Mapping[str, float]
    test_metrics: Mapping[str, float]
    seconds: float
    folder: Path
    genotype: None = None

    def _repr_html_(self) -> str:
        return text_html("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """The result as text, one line each."""
        which = "best epoch by the validation loss" if self.tested == "best" else "last epoch"
        named = {"validation": self.valid_metrics, "test": self.test_metrics}
        lines = [f"{name} {metrics_text(metrics)}, {which}" for name, metrics in named.items() if metrics]
        return [*lines, f"weights: {self.folder / self.checkpoint}; curves: {self.folder}/curves.png"]

    def to_json(self) -> dict[str, Any]:
        """All fields but genotype and folder; metrics by name, such as `test_accuracy`, too."""
        fields = self._asdict()
        del fields["genotype"], fields["folder"]
        named = {f"valid_{name}": value for name, value in self.valid_metrics.items()}
        named |= {f"test_{name}": value for name, value in self.test_metrics.items()}
        return {**named, **{name: dict(each) if isinstance(each, Mapping) else each for name, each in fields.items()}}


def read(folder: RunFolder) -> Summary[NetworkTrainResult]:
    """Reads the summary of a finished run.

    Raises:
      InputError: it is damaged.
    """

    def parse(fields: Fields, _: Any) -> NetworkTrainResult:
        return NetworkTrainResult(
            weights=fields.count("weights"),
            tested=fields.text("tested"),
            checkpoint=fields.text("checkpoint"),
            train_metrics=metrics_from(fields, "train_metrics"),
            valid_metrics=metrics_from(fields, "valid_metrics"),
            test_metrics=metrics_from(fields, "test_metrics"),
            seconds=fields.seconds("seconds"),
            folder=folder.path,
        )

    return read_summary(folder, None, parse)
