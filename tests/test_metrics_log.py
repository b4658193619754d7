"""The metrics files: every record whole and readable, after kills, resumptions and full disks."""

import errno
import json
import math
import struct
import threading
import time

import numpy as np
import pytest
from tensorboardX import RecordWriter
from tensorboardX.proto import event_pb2

from jdarts.errors import InputError
from jdarts.report import MetricsLog, read_metrics


def events(folder):
    """The events of all TensorBoard files, in the order of the files' names."""
    read = []
    for path in sorted((folder / "tensorboard").iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            read.append(event_pb2.Event.FromString(data[12 : 12 + length]))  # pyright: ignore
            data = data[12 + length + 4 :]
    return read


def scalars(folder):
    return [(e.step, v.tag, v.simple_value) for e in events(folder) for v in e.summary.value]


def steps(folder):
    return [record["step"] for record in read_metrics(folder)]


def test_a_record_is_in_both_files_before_write_returns(tmp_path):
    before = time.time()
    with MetricsLog(tmp_path / "runs" / "one") as log:
        log.write(1, {"train/loss": 2.5, "train/accuracy": np.float32(0.25)})
        (record,) = read_metrics(tmp_path / "runs" / "one")
        assert list(record) == ["step", "time", "train/loss", "train/accuracy"]
        assert (record["step"], record["train/loss"], record["train/accuracy"]) == (1, 2.5, 0.25)
        assert before <= record["time"] <= time.time()
        expected = [(1, "train/loss", 2.5), (1, "train/accuracy", 0.25)]
        assert scalars(tmp_path / "runs" / "one") == expected


def test_numbers_that_are_not_finite_are_valid_json_and_read_back(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(1, {"a": math.nan, "b": math.inf, "c": -math.inf})

    def refuse(name):
        raise AssertionError(name)

    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert (line["a"], line["b"], line["c"]) == ("nan", "inf", "-inf")
    (record,) = read_metrics(tmp_path)
    assert math.isnan(record["a"])
    assert (record["b"], record["c"]) == (math.inf, -math.inf)


def test_resuming_drops_later_records_and_tells_tensorboard(tmp_path):
    with MetricsLog(tmp_path) as log:
        for step in (10, 20, 30):
            log.write(step, {"loss": float(step)})
    with MetricsLog(tmp_path, after_step=20) as log:
        assert steps(tmp_path) == [10, 20]
        log.write(30, {"loss": -1.0})
    assert [(r["step"], r["loss"]) for r in read_metrics(tmp_path)] == [(10, 10.0), (20, 20.0), (30, -1.0)]
    # The second file has a name of its own even within the same second, and begins by purging from step 21.
    assert len(list((tmp_path / "tensorboard").iterdir())) == 2
    starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert starts == [1, 21]
    assert [s for s in scalars(tmp_path) if s[0] == 30] == [(30, "loss", 30.0), (30, "loss", -1.0)]


def test_starting_again_from_the_beginning_starts_an_empty_file(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(1, {"loss": 1.0})
    with MetricsLog(tmp_path):
        assert steps(tmp_path) == []


def test_a_line_that_a_kill_left_unfinished_is_skipped_and_removed_on_resuming(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with MetricsLog(tmp_path) as log:
        log.write(1, {"loss": 1.0})
        log.write(2, {"loss": 2.0})
    whole = path.read_bytes()
    for length in range(len(whole) - 1):
        path.write_bytes(whole[:length])
        assert steps(tmp_path) == ([1] if length >= whole.index(b"\n") else [])
    path.write_bytes(whole[:-5])
    with MetricsLog(tmp_path, after_step=2) as log:
        log.write(2, {"loss": 3.0})
    assert [record["loss"] for record in read_metrics(tmp_path)] == [1.0, 3.0]
    assert [file.name for file in tmp_path.iterdir() if file.is_file()] == ["metrics.jsonl"]


@pytest.mark.parametrize("broken", [b'{"step": 1, "lo', b"[1]", b"{}", b"\xff", b"7", b""])
def test_another_broken_line_is_named(tmp_path, broken):
    (tmp_path / "metrics.jsonl").write_bytes(broken + b'\n{"step": 2}\n')
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 1 is not a record"):
        read_metrics(tmp_path)
    with pytest.raises(InputError, match=r"line 1 is not a record"):
        MetricsLog(tmp_path, after_step=5)
    assert (tmp_path / "metrics.jsonl").read_bytes() == broken + b'\n{"step": 2}\n'


def test_reading_where_nothing_was_written_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*metrics\.jsonl: No such file"):
        read_metrics(tmp_path)


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*file"):
        MetricsLog(tmp_path / "file")
    (tmp_path / "tensorboard").write_text("")
    with pytest.raises(InputError, match=r"cannot write .*tensorboard"):
        MetricsLog(tmp_path)


class FullDisk:
    """A file on a disk with room for some bytes more."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, data):
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.file.write(data[: self.room])
        self.room -= written
        return written

    def __getattr__(self, name):
        return getattr(self.file, name)


def test_a_full_disk_is_an_input_error_and_leaves_whole_records(tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(1, {"loss": 1.0})
        log._file = FullDisk(log._file, room=7)  # pyright: ignore
        with pytest.raises(InputError, match=r"cannot write .*metrics\.jsonl: No space left on device"):
            log.write(2, {"loss": 2.0})
        assert (tmp_path / "metrics.jsonl").read_bytes().endswith(b'"loss": 1.0}\n')
        log._file = log._file.file  # pyright: ignore
        log.write(3, {"loss": 3.0})
    assert steps(tmp_path) == [1, 3]


def test_a_full_disk_under_tensorboard_is_an_input_error_and_closing_is_quiet(tmp_path, monkeypatch):
    threads = threading.active_count()
    log = MetricsLog(tmp_path)
    assert threading.active_count() == threads

    def flush(self):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RecordWriter, "flush", flush)
    with pytest.raises(InputError, match=r"cannot write .*tfevents.*: No space left on device"):
        log.write(1, {"loss": 1.0})
    log.close()
    log.close()
    assert steps(tmp_path) == [1]


def test_an_epoch_is_recorded_once(tmp_path):
    """Also where a process ended between the record and its checkpoint; of a later step it goes as every record does."""
    with MetricsLog(tmp_path) as log:
        log.write_epoch(5, {"epoch/train_loss": 2.0}, 1)
        log.write_epoch(5, {"epoch/train_loss": 3.0}, 1)
        log.write_epoch(10, {"epoch/train_loss": 1.0}, 2)
    for after, expected in ((10, [(5, 2.0), (10, 1.0)]), (9, [(5, 2.0), (10, 4.0)])):
        with MetricsLog(tmp_path, after_step=after) as log:
            log.write_epoch(5, {"epoch/train_loss": 4.0}, 1)
            log.write_epoch(10, {"epoch/train_loss": 4.0}, 2)
        assert [(record["step"], record["epoch/train_loss"]) for record in read_metrics(tmp_path)] == expected


def test_the_file_is_read_once_however_many_epochs_follow(tmp_path, monkeypatch):
    reads = []
    monkeypatch.setattr(
        "jdarts.report.metrics.read_metrics", lambda folder: reads.append(folder) or read_metrics(folder)
    )
    for after in (0, 3):
        with MetricsLog(tmp_path, after_step=after) as log:
            for epoch in range(1, 50):
                log.write_epoch(epoch, {}, epoch)
    assert len(reads) == 1
    assert len(read_metrics(tmp_path)) == 49


@pytest.mark.parametrize("content", ["", '{"step": 1}\n{"step": 2}\n'])
def test_a_file_that_is_changed_meanwhile_is_noticed(tmp_path, content):
    with MetricsLog(tmp_path) as log:
        log.write(1, {"a": 1.0})
        (tmp_path / "metrics.jsonl").write_text(content)
        with pytest.raises(InputError, match=r"metrics.jsonl was changed while the run wrote it: it has \d+ bytes"):
            log.write(2, {"a": 1.0})
