"""MLflow."""

import io
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jdarts.errors import InputError
from jdarts.report.loggers.interface import EpochCells
from jdarts.report.loggers.progress import OnceLogger, read_progress, run_name

#: Folder of the file store and of the progress, in a run's folder.
FOLDER = "mlflow"
EXPERIMENT = "jdarts"
#: MLflow takes no more parameters at once.
_PARAMETERS = 100
#: Longest value of a parameter.
_LONGEST = 500


def open_mlflow(folder: Path, settings: Mapping[str, Any]) -> OnceLogger:
    """The MLflow run of a run's folder, which a resumed run continues.

    It is at MLFLOW_TRACKING_URI, or else in a file store in the run's folder.

    Args:
      folder: the run's folder.
      settings: those that decide its result, as JSON data.

    Raises:
      InputError: the store cannot be reached or written.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        # MLflow 3 refuses its file stores without this.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        uri = (folder / FOLDER).resolve().as_uri()
    import mlflow  # pyright: ignore[reportMissingImports]

    progress = read_progress(folder / FOLDER)
    with _errors_as_input(uri):
        client = mlflow.MlflowClient(tracking_uri=uri)
        if progress.id:
            client.update_run(progress.id, status="RUNNING")
        else:
            progress = progress._replace(id=_new_run(client, folder, settings))
    return OnceLogger(_Mlflow(mlflow, client, progress.id, uri), folder / FOLDER, progress)


def _new_run(client: Any, folder: Path, settings: Mapping[str, Any]) -> str:
    from mlflow.entities import Param  # pyright: ignore[reportMissingImports]

    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
    experiment = client.get_experiment_by_name(name)
    place = experiment.experiment_id if experiment else client.create_experiment(name)
    run = client.create_run(place, run_name=run_name(folder)).info.run_id
    parameters = [Param(key, str(value)[:_LONGEST]) for key, value in settings.items()]
    for first in range(0, len(parameters), _PARAMETERS):
        client.log_batch(run, params=parameters[first : first + _PARAMETERS])
    return run


class _Mlflow:
    def __init__(self, mlflow: Any, client: Any, run: str, uri: str) -> None:
        self._mlflow = mlflow
        self._client = client
        self._run = run
        self._uri = uri

    def write(self, step: int, now: float, numbers: Mapping[str, float], epoch: int | None) -> None:
        del epoch
        time = int(1000 * now)
        metrics = [self._mlflow.entities.Metric(name, number, time, step) for name, number in numbers.items()]
        with _errors_as_input(self._uri):
            self._client.log_batch(self._run, metrics=metrics)

    def write_cells(self, step: int, now: float, cells: EpochCells) -> None:
        del step, now
        from PIL import Image

        name = f"epoch_{cells.epoch:03d}"
        with _errors_as_input(self._uri):
            if cells.alphas:
                weights = {kind: table.tolist() for kind, table in cells.alphas.items()}
                self._client.log_text(self._run, json.dumps(weights), f"alphas/{name}.json")
            if cells.picture is not None:
                picture = Image.open(io.BytesIO(cells.picture))
                self._client.log_image(self._run, picture, artifact_file=f"cells/{name}.png")

    def close(self, *, failed: bool) -> None:
        with _errors_as_input(self._uri):
            self._client.set_terminated(self._run, "KILLED" if failed else "FINISHED")


@contextmanager
def _errors_as_input(uri: str) -> Iterator[None]:
    from mlflow.exceptions import MlflowException  # pyright: ignore[reportMissingImports]

    try:
        yield
    except (MlflowException, ImportError, OSError) as error:
        text = str(error).strip().partition("\n")[0].rstrip(".")
        raise InputError(
            f"cannot log to MLflow at {uri}: {text}; mend MLFLOW_TRACKING_URI or the store, and start the same command again"
        ) from None
