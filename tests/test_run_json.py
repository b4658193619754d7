"""JSON files of runs that somebody has changed: an error for people, or what a run can use, and never a traceback."""

import json
import shutil
from typing import Any

import numpy as np
import pytest
import small_runs
from small_runs import undisturbed_run, user_settings
from small_search import PLAIN, SETTINGS, STEPS_PER_EPOCH, quick, searches

from jdarts import checkpoint
from jdarts.checkpoint.checksums import checksums_of
from jdarts.errors import InputError
from jdarts.files.json_data import Fields, parse_json
from jdarts.genotype import parse_genotype
from jdarts.language.search import summary as language_search_summary
from jdarts.language.search.summary import LanguageSearchResult
from jdarts.language.train import summary as language_train_summary
from jdarts.language.train.summary import LanguageTrainResult
from jdarts.report import MetricsLog, read_metrics
from jdarts.runs import RunFolder
from jdarts.runs.summaries import Summary, write_summary
from jdarts.search import search
from jdarts.search import summary as search_summary
from jdarts.search.summary import SearchResult
from jdarts.train import summary as train_summary
from jdarts.train.summary import TrainResult
from jdarts.zoo import CELLS, RECURRENT_CELLS

__all__ = ["quick", "user_settings"]

config, run = searches({**SETTINGS, **PLAIN})
undisturbed = undisturbed_run(run)

DEEP = "[" * 100_000
#: Texts of JSON values, one of each kind of wrong.
WRONG = [
    "null",
    "true",
    '"x"',
    "[]",
    "{}",
    "[[]]",
    '[["x"]]',
    "-1",
    "1.5",
    "1e400",
    "NaN",
    "1e308",
    "9" * 400,
    "9" * 5000,
    DEEP,
    '{"step": null}',
]
CONVOLUTIONAL, RECURRENT = CELLS["DARTS_V2"], RECURRENT_CELLS["DARTS_V1"]


def summaries(folder):
    """Of each kind of run: its summary, and what writes and reads it."""
    rows = np.ones((2, 3), np.float32)
    search_result = SearchResult(CONVOLUTIONAL, {"normal": rows, "reduce": rows}, 0.5, folder)
    train_result = TrainResult(CONVOLUTIONAL, 9, "best", "best/step_00000004", 0.5, 0.5, 0.5, None, 1.5, 7.0, folder)
    language_search = LanguageSearchResult(RECURRENT, rows, 9.0, 10.0, 9.5, 10.5, folder)
    language_train = LanguageTrainResult(RECURRENT, 9, True, 0, 9.0, 9.1, 9.2, 10.0, 10.1, 7.0, folder)
    return {
        "search": (Summary(search_result, 2, 10, 7.0), search_summary),
        "train": (Summary(train_result, 2, 10, 7.0), train_summary),
        "language search": (Summary(language_search, 2, 10, 7.0), language_search_summary),
        "language train": (Summary(language_train, 2, 10, 7.0), language_train_summary),
    }


def with_field(text, name, value):
    """A JSON object in which a field has the value that a text says, as nothing but a text can where it is too deep."""
    return text.replace(json.dumps(name) + ": " + json.dumps(json.loads(text)[name]), f"{json.dumps(name)}: {value}")


@pytest.mark.parametrize("kind", ["search", "train", "language search", "language train"])
def test_a_changed_summary_is_refused_or_can_be_shown(kind, tmp_path):
    folder = RunFolder(tmp_path)
    written, room = summaries(tmp_path)[kind]
    write_summary(written, folder)
    content = json.dumps(json.loads(folder.summary.read_text()))
    assert room.read(folder).lines() == written.lines()
    refused = 0
    for name in json.loads(content):
        for value in WRONG:
            folder.summary.write_text(with_field(content, name, value))
            try:
                assert all(isinstance(line, str) for line in room.read(folder).lines())
            except InputError as error:
                refused += 1
                assert str(error).startswith(f"{folder.summary} is damaged (")
                assert str(error).endswith("); remove it and start the same command again")
                assert len(str(error)) < 1000
        fields = json.loads(content)
        del fields[name]
        folder.summary.write_text(json.dumps(fields))
        with pytest.raises(InputError, match="is damaged"):
            room.read(folder)
    assert refused > 8 * len(json.loads(content))
    for text in (*WRONG, "", '{"a"', "\x00"):
        folder.summary.write_text(text)
        with pytest.raises(InputError, match="is damaged"):
            room.read(folder)
    folder.summary.write_bytes(b"\xff")
    with pytest.raises(InputError, match="is damaged"):
        room.read(folder)


@pytest.mark.parametrize("value", [value for value in WRONG if value not in ("1e308", "1.5")])
def test_a_step_of_another_kind_is_no_record_of_metrics(value, tmp_path):
    with MetricsLog(tmp_path) as log:
        log.write(1, {"loss": 2.0})
    whole = (tmp_path / "metrics.jsonl").read_bytes()
    for line in (f'{{"step": {value}}}', value, f'{{"step": 2, "loss": {value}}}' if value[0] in 'nt"[{' else value):
        content = line.encode() + b"\n" + whole
        (tmp_path / "metrics.jsonl").write_bytes(content)
        for read in (lambda: read_metrics(tmp_path), lambda: MetricsLog(tmp_path, after_step=5)):
            with pytest.raises(InputError, match=r"metrics\.jsonl, line 1 is not a record of metrics"):
                read()
        assert (tmp_path / "metrics.jsonl").read_bytes() == content


def test_a_deep_unfinished_line_is_passed_over(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n' + DEEP)
    assert read_metrics(tmp_path) == [{"step": 1, "loss": 2.0}]


@pytest.mark.parametrize("text", [value for value in WRONG if value != "{}"])
def test_a_changed_configuration_is_refused(text, tmp_path):
    folder = RunFolder(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError, match=r"(is damaged|is not a run's configuration|begun with other settings)"):
        folder.check({"seed": 0})
    assert (tmp_path / "config.json").read_text() == text


def test_fields_say_what_is_wrong():
    fields = Fields(parse_json('{"a": "x", "b": 1e400, "c": [[1, 2], [3]], "d": 99999999999999999999}'))
    for read, name, message in (
        (fields.count, "a", r'a is "x", not a whole number of 0 or more'),
        (fields.seconds, "b", r"b is Infinity, not a length of time in seconds"),
        (fields.table, "c", r"c is \[\[1, 2\], \[3\]\], not a table of numbers"),
        (fields.count, "d", r"d is 99999999999999999999, not a whole number of 0 or more"),
        (fields.flag, "a", "not true or false"),
        (fields.text, "b", "not a text"),
        (fields.texts, "c", "not a list of texts"),
        (fields.listed, "a", '^a is "x", not a list$'),
        (fields.objects, "c", r"^\[1, 2\] is not a JSON object$"),
        (fields.number, "e", "e is missing"),
    ):
        with pytest.raises(ValueError, match=message):
            read(name)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json(DEEP)


def sealed(path, text):
    """Gives a checkpoint another record, and checksums that fit."""
    (path / checkpoint.RECORD).write_text(text)
    (path / checkpoint.CHECKSUMS).write_text(checksums_of(path))


@pytest.fixture
def interrupted(undisturbed, tmp_path):
    """A search with both of its checkpoints and without its end."""
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    (folder / "summary.json").unlink()
    return folder


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epochs_ended": "x"}, r'epochs_ended is "x", not a whole number'),
        ({"epochs_ended": None}, r"epochs_ended is null, not a whole number"),
        ({"epochs_ended": 10**18}, r"epochs_ended is 1000000000000000000, not a whole number"),
        ({"epochs_ended": 7}, r"7 epochs of 5 steps have not ended at step 10"),
        ({"seconds": 1e300}, r"seconds is 1e\+300, not a length of time"),
        ({"seconds": [1]}, r"seconds is \[1\], not a number"),
    ],
)
def test_a_sealed_record_that_is_wrong_stops_the_run(changes, message, interrupted):
    last = interrupted / "checkpoints/step_00000010"
    record = json.loads((last / checkpoint.RECORD).read_text())
    sealed(last, json.dumps({**record, **changes}))
    before = (interrupted / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match=f"step_00000010 does not hold what this run needs .*{message}.*remove it"):
        search(config(interrupted), programs=small_runs.shared_programs)
    assert (interrupted / "metrics.jsonl").read_bytes() == before
    assert not (interrupted / "summary.json").exists()


@pytest.mark.parametrize("text", [DEEP, "null", "[1]", '"x"', "{"])
def test_a_sealed_record_that_is_no_object_is_passed_over_and_named(text, interrupted):
    sealed(interrupted / "checkpoints/step_00000010", text)
    skipped: list[str] = []
    found: Any = checkpoint.newest(interrupted / "checkpoints", skipped)
    assert found.step == STEPS_PER_EPOCH
    assert len(skipped) == 1
    assert "step_00000010 is damaged (record.json: " in skipped[0]


def test_a_checkpoint_under_the_name_of_another_step_is_refused(interrupted):
    shutil.rmtree(interrupted / "checkpoints/step_00000010")
    (interrupted / "checkpoints/step_00000005").rename(interrupted / "checkpoints/step_00000007")
    with pytest.raises(InputError, match=r"the checkpoint of step 7 in .*run holds step 5; remove it"):
        search(config(interrupted), programs=small_runs.shared_programs)


def test_genotypes_of_summaries_are_read_as_such(tmp_path):
    folder = RunFolder(tmp_path)
    written, room = summaries(tmp_path)["search"]
    write_summary(written, folder)
    content = json.loads(folder.summary.read_text())
    content["genotype"] = json.loads(RECURRENT.to_json())
    folder.summary.write_text(json.dumps(content))
    with pytest.raises(InputError, match="is damaged"):
        room.read(folder)
    assert parse_genotype(CONVOLUTIONAL.to_json()) == written.result.genotype
