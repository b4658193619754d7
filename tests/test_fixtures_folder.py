"""Which files of reference numbers the tests take."""

import shutil

from fixtures_folder import REFERENCE_NUMBERS, fixture_files


def taken(pattern):
    return {each.id: each.values[0] for each in fixture_files(pattern)}


def test_every_file_below_the_folder_is_taken_once(tmp_path, monkeypatch):
    monkeypatch.setenv("JDARTS_FIXTURES", str(tmp_path))
    for folder in ("public", "held_out", "copies"):
        (tmp_path / folder).mkdir()
    (tmp_path / "public" / "gdas.npz").write_text("one")
    (tmp_path / "held_out" / "gdas.npz").write_text("of another seed")
    (tmp_path / "held_out" / "gdas_seed7.npz").write_text("one")
    shutil.copy(tmp_path / "public" / "gdas.npz", tmp_path / "copies")
    assert taken("gdas*.npz") == {
        "copies-gdas": tmp_path / "copies" / "gdas.npz",
        "held_out-gdas": tmp_path / "held_out" / "gdas.npz",
        "gdas_seed7": tmp_path / "held_out" / "gdas_seed7.npz",
    }


def test_a_file_of_the_repository_stands_for_its_copies(tmp_path, monkeypatch):
    monkeypatch.setenv("JDARTS_FIXTURES", str(tmp_path))
    own = REFERENCE_NUMBERS / "rnn_eval.npz"
    shutil.copy(own, tmp_path)
    assert taken("rnn_eval.npz") == {"rnn_eval": own}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "rnn_eval.npz").write_text("of another seed")
    assert set(taken("rnn_eval.npz")) == {"reference_numbers-rnn_eval", "other-rnn_eval"}


def test_no_file_is_a_skip_with_the_reason(tmp_path, monkeypatch):
    monkeypatch.setenv("JDARTS_FIXTURES", str(tmp_path))
    (only,) = fixture_files("nothing*.npz")
    assert only.marks[0].kwargs["reason"] == f"no file nothing*.npz below {tmp_path} (JDARTS_FIXTURES)"
