"""Files written whole or not at all: no link is followed, killed writers' remains go, living writers' stay."""

import errno
import os
import signal
import subprocess
import textwrap

import pytest
import warm_processes
from small_runs import environment

from jdarts.files import atomic as files
from jdarts.files.atomic import remove_abandoned, replace_bytes, replace_text
from jdarts.report import draw_curves

#: Stops, or dies, with a file half-written.
WRITER = textwrap.dedent("""
    import os, pathlib, signal, sys, time
    from jdarts.files import atomic as files

    def stop(descriptor):
        print("writing")
        while not told:
            time.sleep(0.01)

    told = []
    signal.signal(signal.SIGUSR1, lambda *_: told.append(True))
    os.fsync = stop
    files.replace_bytes(pathlib.Path(sys.argv[1]), b"half")
""")


def start_writer(path):
    process = warm_processes.start(["-c", WRITER, path], environment())
    assert process.stdout.readline() == "writing\n"
    return process


def let_go_on(process):
    with process:
        process.send_signal(signal.SIGUSR1)
        process.stdout.read()


def kill(process):
    with process:
        process.kill()


@pytest.mark.parametrize("name", [".file.incomplete", ".file.{}.incomplete"], ids=["foreseen", "guessed"])
def test_a_link_where_the_file_is_written_aside_is_not_followed(name, tmp_path, monkeypatch):
    tokens = iter(["0" * 16, "1" * 16])
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: next(tokens))
    precious = tmp_path / "precious"
    precious.write_text("old")
    link = tmp_path / name.format("0" * 16)
    link.symlink_to(precious)
    if name == ".file.incomplete":
        replace_text(tmp_path / "file", "new")
        assert (tmp_path / "file").read_text() == "new"
    else:
        with pytest.raises(FileExistsError):
            replace_text(tmp_path / "file", "new")
        assert not (tmp_path / "file").exists()
    assert precious.read_text() == "old"
    assert link.is_symlink()


def test_a_link_in_place_of_the_file_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "precious").write_text("old")
    (tmp_path / "file").symlink_to(tmp_path / "precious")
    replace_text(tmp_path / "file", "new")
    assert (tmp_path / "precious").read_text() == "old"
    assert (tmp_path / "file").read_text() == "new"
    assert not (tmp_path / "file").is_symlink()


def test_the_umask_decides_who_reads_the_file(tmp_path):
    before = os.umask(0o027)
    try:
        replace_bytes(tmp_path / "file", b"new")
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_what_a_killed_writer_has_left_goes_with_the_next_and_what_another_is_writing_stays(tmp_path):
    living = start_writer(tmp_path / "file")
    (being_written,) = tmp_path.iterdir()
    killed = start_writer(tmp_path / "file")
    kill(killed)
    assert len(list(tmp_path.iterdir())) == 2
    replace_bytes(tmp_path / "file", b"whole")
    assert set(tmp_path.iterdir()) == {being_written, tmp_path / "file"}
    let_go_on(living)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"half"]


def test_remains_of_drawings_of_earlier_versions_go_where_their_process_has_ended(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    for process in (ended.pid, os.getpid()):
        (tmp_path / f".curves.svg.{process}.part").write_text("half")
    draw_curves([{"step": 1, "train/loss": 1.0}], tmp_path / "curves.svg")
    assert {path.name for path in tmp_path.iterdir()} == {"curves.svg", f".curves.svg.{os.getpid()}.part"}


def test_only_what_is_written_aside_is_removed(tmp_path):
    others = ["file", ".file", ".incomplete", "file.incomplete", ".file.part", "x.12.part", ".other"]
    for name in [*others, ".file.0123456789abcdef.incomplete", ".a.json.incomplete"]:
        (tmp_path / name).write_text("")
    (tmp_path / ".folder.incomplete").mkdir()
    remove_abandoned(tmp_path, "file")
    assert not (tmp_path / ".file.0123456789abcdef.incomplete").exists()
    assert (tmp_path / ".a.json.incomplete").exists()
    remove_abandoned(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*others, ".folder.incomplete"}


def test_a_file_taken_for_abandoned_before_it_is_locked_is_begun_again(tmp_path, monkeypatch):
    lock, removals = files._lock, []

    def late(descriptor):
        if not removals:
            removals.append(remove_abandoned(tmp_path))
        return lock(descriptor)

    monkeypatch.setattr(files, "_lock", late)
    replace_bytes(tmp_path / "file", b"whole")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"whole"]
    assert removals


def test_where_there_are_no_locks_files_are_written_and_nothing_is_removed(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    (tmp_path / ".file.incomplete").write_text("")
    monkeypatch.setattr(files.fcntl, "flock", unknown)
    replace_bytes(tmp_path / "file", b"whole")
    assert (tmp_path / "file").read_bytes() == b"whole"
    assert (tmp_path / ".file.incomplete").exists()


def test_an_interrupted_process_is_told_from_a_killed_one(tmp_path):
    """A stopped writer lives: it goes on when it is woken."""
    process = start_writer(tmp_path / "file")
    process.send_signal(signal.SIGSTOP)
    remove_abandoned(tmp_path)
    process.send_signal(signal.SIGCONT)
    let_go_on(process)
    assert (tmp_path / "file").read_bytes() == b"half"
