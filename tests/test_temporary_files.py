import os
from types import SimpleNamespace

import temporary_files


def test_a_folder_with_space_is_taken(tmp_path):
    assert temporary_files.in_memory(tmp_path, space=1) == tmp_path


def test_a_small_or_missing_one_is_not(tmp_path):
    assert temporary_files.in_memory(tmp_path, space=2**80) is None
    assert temporary_files.in_memory(tmp_path / "missing", space=0) is None


def test_one_where_no_program_runs_is_not(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "statvfs", lambda folder: SimpleNamespace(f_flag=os.ST_NOEXEC))
    assert temporary_files.in_memory(tmp_path, space=0) is None
