"""Where runs log beside `metrics.jsonl`: TensorBoard, W&B offline, an MLflow file store, and what all have in common."""

import importlib
import importlib.machinery
import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image
from recorded_logs import recorded

from jdarts.errors import InputError
from jdarts.report import MetricsLog
from jdarts.report.loggers import check_loggers
from jdarts.report.loggers.progress import read_progress
from jdarts.search import SearchConfig, search

__all__ = ["recorded"]

ALPHAS = {"normal": np.array([[0.25, 0.75], [0.5, 0.5]])}


def picture():
    content = io.BytesIO()
    Image.new("RGBA", (3, 2)).save(content, "png")
    return content.getvalue()


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ((), "--log is empty; give tensorboard, wandb, mlflow or none"),
        (("none", "mlflow"), "--log is none mlflow; leave none out"),
        (("tensorboard", "tensorboard"), "--log is tensorboard tensorboard; give each name once"),
        (("wandb",), r"wandb is not installed; run: pip install 'jdarts\[wandb\]'"),
        (("tensorboard", "mlflow"), r"mlflow is not installed; run: pip install 'jdarts\[mlflow\]'"),
    ],
)
@pytest.mark.parametrize("found", [None, importlib.machinery.ModuleSpec("wandb", None, is_package=True)])
def test_wrong_choices_are_refused_before_anything_is_written(names, words, found, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: found)
    with pytest.raises(InputError, match=words):
        search(SearchConfig(dataset="digits", log=names, run_dir=tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_where_a_run_logs_is_no_part_of_its_identity():
    assert SearchConfig(log=("none",)).to_json() == SearchConfig().to_json()
    assert SearchConfig().loop.log == ("tensorboard",)
    check_loggers(("none",))


def test_records_after_a_roll_back_are_logged_from_the_step_that_is_new(recorded, tmp_path):
    for after, steps in ((0, (1, 2, 3)), (1, (2, 3, 4))):
        with MetricsLog(tmp_path / "run", after_step=after, loggers=("wandb",)) as log:
            for step in steps:
                log.write(step, {"a": step})
                log.write_cells(step, step, ALPHAS)
    assert [step for step, *_ in recorded["run"].numbers] == [1, 2, 3, 4]
    assert [step for step, *_ in recorded["run"].cells] == [1, 2, 3, 4]


def test_damaged_progress_is_refused(tmp_path):
    (tmp_path / "jdarts.json").write_text('{"id": "a"')
    with pytest.raises(InputError, match=r"jdarts\.json is damaged.*; remove .* to log it as a new run"):
        read_progress(tmp_path)


def test_without_loggers_there_is_the_file_of_metrics_alone_and_no_picture(tmp_path):
    with MetricsLog(tmp_path, loggers=("none",)) as log:
        log.write(1, {"a": 1.0})
        log.write_cells(1, 1, ALPHAS, lambda: pytest.fail("nobody looks at this picture"))
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_tensorboard_has_pictures_of_cells_and_histograms_of_alphas(tmp_path):
    event_pb2: Any = importlib.import_module("tensorboardX.proto.event_pb2")

    with MetricsLog(tmp_path) as log:
        log.write_cells(5, 1, ALPHAS, picture)
        log.write_cells(10, 2, ALPHAS)
    (path,) = (tmp_path / "tensorboard").iterdir()
    found, content = [], path.read_bytes()
    while content:
        (size,) = struct.unpack("<Q", content[:8])
        event = event_pb2.Event.FromString(content[12 : 12 + size])
        found += [(event.step, value) for value in event.summary.value]
        content = content[16 + size :]
    assert [(step, value.tag) for step, value in found] == [(5, "alphas/normal"), (5, "cells"), (10, "alphas/normal")]
    histogram, image = found[0][1].histo, found[1][1].image
    assert (histogram.num, histogram.sum, histogram.min, histogram.max) == (4, 2.0, 0.25, 0.75)
    assert (image.width, image.height, image.encoded_image_string) == (3, 2, picture())


def logged_twice(folder, name):
    """Two processes of a run, the second one from the checkpoint of step 2; the second line of its settings is a list."""
    settings = {"epochs": 2, "operations": ["none", "skip_connect"]}
    with pytest.raises(KeyboardInterrupt), MetricsLog(folder, loggers=(name,), settings=settings) as log:
        for step in (1, 2, 3):
            log.write(step, {"train/loss": 1 / step})
        log.write_epoch(3, {"epoch/loss": float("nan")}, 1)
        log.write_cells(3, 1, ALPHAS, picture)
        raise KeyboardInterrupt
    with MetricsLog(folder, after_step=2, loggers=(name,), settings=settings) as log:
        for step in (3, 4):
            log.write(step, {"train/loss": 1 / step})
        log.write_epoch(3, {"epoch/loss": float("nan")}, 1)
        log.write_cells(3, 1, ALPHAS, picture)
        log.write_epoch(4, {"epoch/loss": 0.5}, 2)


def wandb_records(path):
    """The records of W&B's file: blocks as in LevelDB's log, each record a protocol buffer."""
    from wandb.proto.wandb_internal_pb2 import Record  # pyright: ignore[reportMissingImports]

    content, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, size, kind = struct.unpack("<IHB", content[at : at + 7])
        whole += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):
            yield Record.FromString(whole)
            whole = b""


def test_a_resumed_run_is_one_run_in_wandb(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="the extra jdarts[wandb] is not installed", exc_type=ImportError)
    monkeypatch.setenv("WANDB_MODE", "offline")
    check_loggers(("wandb",))
    logged_twice(tmp_path / "run", "wandb")
    identifier = json.loads((tmp_path / "run" / "wandb" / "jdarts.json").read_text())["id"]
    files = sorted((tmp_path / "run").glob("wandb/offline-run-*/*.wandb"), key=lambda path: path.stat().st_mtime_ns)
    assert [path.name for path in files] == [f"run-{identifier}.wandb"] * 2
    records = [record for path in files for record in wandb_records(path)]
    rows = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]
    assert [row["_step"] for row in rows] == [1, 2, 3, 4]
    assert [row["train/loss"] for row in rows] == [1, 1 / 2, 1 / 3, 1 / 4]
    assert [row["epoch/number"] for row in rows[2:]] == [1, 2]
    assert (rows[2]["cells/width"], rows[2]["alphas/normal/_type"]) == (3, "histogram")
    first = next(record.run for record in records if record.WhichOneof("record_type") == "run")
    assert {item.key: json.loads(item.value_json) for item in first.config.update}["epochs"] == 2
    assert [record.exit.exit_code for record in records if record.WhichOneof("record_type") == "exit"] == [1, 0]


def test_wandb_without_an_account_is_refused(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb", reason="the extra jdarts[wandb] is not installed", exc_type=ImportError)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setattr(wandb.setup().settings, "mode", "online")
    monkeypatch.setattr(wandb, "login", lambda prompt: False)
    with pytest.raises(InputError, match="not logged in to W&B; run `wandb login`, or set WANDB_MODE=offline"):
        check_loggers(("wandb",))


def test_a_resumed_run_is_one_run_in_mlflow(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="the extra jdarts[mlflow] is not installed", exc_type=ImportError)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    logged_twice(tmp_path / "run", "mlflow")
    client = mlflow.MlflowClient(tracking_uri=(tmp_path / "run" / "mlflow").as_uri())
    experiment = client.get_experiment_by_name("jdarts")
    (found,) = client.search_runs([experiment.experiment_id])
    assert found.info.status == "FINISHED"
    assert found.data.params == {"epochs": "2", "operations": "['none', 'skip_connect']"}
    history = client.get_metric_history(found.info.run_id, "train/loss")
    assert [(each.step, each.value) for each in history] == [(1, 1.0), (2, 0.5), (3, 1 / 3), (4, 0.25)]
    epochs = client.get_metric_history(found.info.run_id, "epoch/number")
    assert [(each.step, each.value) for each in epochs] == [(3, 1.0), (4, 2.0)]
    assert [each.path for each in client.list_artifacts(found.info.run_id)] == ["alphas", "cells"]


def test_an_mlflow_server_that_does_not_answer_is_named(tmp_path, monkeypatch):
    pytest.importorskip("mlflow", reason="the extra jdarts[mlflow] is not installed", exc_type=ImportError)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(
        InputError, match=r"cannot log to MLflow at http://127\.0\.0\.1:9: .*; mend MLFLOW_TRACKING_URI"
    ):
        MetricsLog(tmp_path, loggers=("mlflow",))
