"""What a preparation that is killed leaves behind, and who removes it."""

import fcntl
import os
import signal

import pytest
from small_runs import run_in_a_process

from jdarts.data.staging import move_into_place, staging_folder

KILLED = """
import os, pathlib, signal, sys
from jdarts.data import staging

root, step = pathlib.Path(sys.argv[1]), sys.argv[2]
with staging.staging_folder(root, "mine") as folder:
    built = folder / "mine" / "1.0.0"
    built.mkdir(parents=True)
    (built / "file").write_text("new")
    if step == "moving":
        rename = pathlib.Path.rename
        def rename_once(path, target):
            rename(path, target)
            os.kill(os.getpid(), signal.SIGKILL)
        pathlib.Path.rename = rename_once
        staging.move_into_place(built, root / "mine" / "1.0.0", folder)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("step", ["writing", "moving"])
def test_what_a_killed_preparation_left_goes_at_the_next_start(step, tmp_path):
    place = tmp_path / "mine" / "1.0.0"
    place.mkdir(parents=True)
    (place / "file").write_text("old")
    code, _, _ = run_in_a_process("-c", KILLED, tmp_path, step)
    assert code == -signal.SIGKILL
    assert len(names(tmp_path)) == 2
    assert place.exists() == (step == "writing")
    with staging_folder(tmp_path, "other") as folder:
        assert names(tmp_path) == [folder.name, "mine", "other"]
        assert (place / "file").read_text() == "old"
    assert names(tmp_path) == ["mine"]


def test_a_running_preparation_keeps_its_folder(tmp_path):
    with staging_folder(tmp_path, "mine") as first, staging_folder(tmp_path, "mine") as second:
        assert first.is_dir() and second.is_dir()
        with staging_folder(tmp_path, "other"):
            assert first.is_dir() and second.is_dir()
    assert names(tmp_path) == []


def test_a_folder_that_was_taken_for_a_left_over_is_made_again(tmp_path, monkeypatch):
    flock, taken = fcntl.flock, []

    def taken_first(descriptor, how):
        if not taken:
            (folder,) = tmp_path.glob(".mine-incomplete-*")
            taken.append(folder)
            folder.rmdir()
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", taken_first)
    with staging_folder(tmp_path, "mine") as folder:
        assert folder.is_dir() and folder != taken[0]


def test_only_folders_of_this_form_are_removed(tmp_path):
    kept = ["mine", ".mine-incomplete-", ".mine-incomplete-ABCDEFGH", "mine-incomplete-abcdefgh", ".hidden"]
    for name in (*kept, ".mine-incomplete-abcdefgh"):
        (tmp_path / name).mkdir()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").touch()
    os.symlink(outside, tmp_path / ".mine-incomplete-linklink")
    with staging_folder(tmp_path, "mine"):
        pass
    assert names(tmp_path) == sorted([*kept, "outside", ".mine-incomplete-linklink"])
    assert names(outside) == ["file"]


def test_a_set_is_replaced_whole(tmp_path):
    place = tmp_path / "mine" / "1.0.0"
    for content in ("first", "second"):
        with staging_folder(tmp_path, "mine") as folder:
            (folder / "built").mkdir()
            (folder / "built" / "file").write_text(content)
            move_into_place(folder / "built", place, folder)
        assert (place / "file").read_text() == content
    assert names(tmp_path) == ["mine"]
