"""Folders of runs that others change meanwhile, or may not read: the run says so and changes nothing more."""

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from small_runs import Died, assert_same_bits, die_at, undisturbed_run, user_settings
from small_search import PLAIN, SETTINGS, quick, searches

from jdarts import checkpoint
from jdarts.errors import InputError
from jdarts.report import Progress
from jdarts.runs import CompiledPrograms
from jdarts.search import search

__all__ = ["quick", "user_settings"]
pytestmark = pytest.mark.usefixtures("quick")
NOBODY = 65534

config, searched = searches({**SETTINGS, **PLAIN})
undisturbed = undisturbed_run(searched)


@pytest.fixture(scope="module")
def programs(quick):
    return CompiledPrograms()


@pytest.fixture
def run(programs):
    """Searches with the programs of this module."""
    return lambda folder, **changes: search(config(folder, **changes), programs=programs)


def content(folder):
    """Every file below a folder, and every folder."""
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))
    }


def after_step(monkeypatch, step, change):
    """Makes a change while the loop notes a step as done."""
    note = Progress.step

    def noting(progress, done, values=None):
        if done == step:
            change()
        note(progress, done, values)

    monkeypatch.setattr(Progress, "step", noting)


def replaced(folder):
    folder.rename(folder.with_name("elsewhere"))
    folder.mkdir()
    (folder / "of another").write_text("precious")


CHANGES = {
    "removed": (shutil.rmtree, r"run was removed or renamed while the run used it; put it back"),
    "renamed": (lambda folder: folder.rename(folder.with_name("elsewhere")), r"run was removed or renamed while"),
    "replaced": (replaced, r"run/\.lock was removed while the run used it; put it back"),
    "replaced by a run": (
        lambda folder: (
            folder.rename(folder.with_name("elsewhere")),
            shutil.copytree(folder.with_name("elsewhere"), folder),
        ),
        r"run was replaced by another folder while the run used it; put it back",
    ),
    "without config.json": (lambda folder: (folder / "config.json").unlink(), r"config\.json was removed while"),
    "with another config.json": (
        lambda folder: (folder / "config.json").write_text('{"seed": 1}'),
        r"was begun with other settings: .*--seed 1 \(now 0\)",
    ),
    "without its lock": (lambda folder: (folder / ".lock").unlink(), r"\.lock was removed while the run used it"),
    "without metrics.jsonl": (
        lambda folder: (folder / "metrics.jsonl").unlink(),
        r"metrics\.jsonl(: No such file or directory| was removed or replaced while the run wrote it); put it back",
    ),
}


@pytest.mark.parametrize("step", [1, 4, 10])
@pytest.mark.parametrize("change", CHANGES)
def test_a_run_stops_at_the_first_write_when_its_folder_is_changed(change, step, run, tmp_path, monkeypatch):
    """Step 1 is followed by a step without a record, 4 by the end of the epoch, 10 by the end of the run."""
    make, message = CHANGES[change]
    folder = tmp_path / "run"
    left = {}

    def changed():
        make(folder)
        left.update(content(tmp_path))

    after_step(monkeypatch, step, changed)
    with pytest.raises(InputError, match=message):
        run(folder)
    # A folder that holds no step of a run does not stay.
    assert content(tmp_path) == ({} if change == "without metrics.jsonl" and step < 5 else left)


def test_a_renamed_run_resumes_under_either_name(run, undisturbed, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        after_step(patch, 7, lambda: folder.rename(tmp_path / "elsewhere"))
        with pytest.raises(InputError, match="put it back and start the same command again"):
            run(folder)
    (tmp_path / "elsewhere").rename(folder)
    run(folder)
    assert_same_bits(folder, undisturbed, ["genotype.json"])


@pytest.mark.parametrize("how", ["removed", "renamed"])
def test_a_folder_that_goes_while_a_checkpoint_is_written_does_not_come_back(how, tmp_path, monkeypatch):
    """Orbax makes the folders that it writes into."""
    from orbax.checkpoint import v1 as ocp

    folder = tmp_path / "run"
    folder.mkdir()
    save = ocp.save

    def gone_before(path, tree):
        CHANGES[how][0](folder)
        save(path, tree)

    monkeypatch.setattr(ocp, "save", gone_before)
    with pytest.raises(InputError, match=r"cannot write checkpoint .*removed or replaced meanwhile"):
        checkpoint.save(folder / checkpoint.FOLDER, 5, {"a": np.ones(3, np.float32)}, {})
    assert not folder.exists()


def test_half_written_files_of_a_killed_run_go_at_the_next_start(run, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        die_at(patch, checkpoint, "save", 2)
        with pytest.raises(Died):
            run(folder)
    remains = [
        ".normal.svg.0123456789abcdef.incomplete",
        f".reduce.png.{2**22 + 1}.part",
        "genotypes/.epoch_001.json.0123456789abcdef.incomplete",
        ".config.json.incomplete",
    ]
    for name in remains:
        (folder / name).write_text("half")
    (folder / "checkpoints/.incomplete-step_00000010").mkdir()
    (folder / "checkpoints/.incomplete-step_00000007").symlink_to(tmp_path)
    run(folder)
    assert not [name for name in remains if (folder / name).exists()]
    assert not list((folder / "checkpoints").glob(".incomplete*"))
    assert tmp_path.exists()


@contextlib.contextmanager
def as_nobody():
    """Without root's right to read everything."""
    if os.geteuid():
        yield
        return
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.fixture
def place():
    """A folder that any user reaches."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        yield Path(folder)


def given_to_nobody(folder):
    if not os.geteuid():
        for path in (folder, *folder.rglob("*")):
            os.chown(path, NOBODY, NOBODY)


@contextlib.contextmanager
def unreadable(path):
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(mode)


@pytest.mark.parametrize("ended", [False, True], ids=["interrupted", "finished"])
@pytest.mark.parametrize(
    "name",
    [
        "checkpoints",
        "checkpoints/step_00000010",
        "checkpoints/step_00000010/SHA256SUMS",
        "checkpoints/step_00000010/record.json",
        "checkpoints/step_00000010/arrays",
        "config.json",
        "metrics.jsonl",
        "summary.json",
        ".",
    ],
)
def test_what_may_not_be_read_stops_the_run_and_changes_nothing(name, ended, run, undisturbed, place):
    folder = place / "run"
    shutil.copytree(undisturbed, folder)
    if not ended:
        (folder / "summary.json").unlink()
    read_first = ["config.json", "summary.json", "."]
    if ended != (name == "summary.json") and name not in read_first[::2]:
        pytest.skip("not read, or not there")
    given_to_nobody(folder)
    before = content(folder)
    with unreadable(folder / name), as_nobody(), pytest.raises(InputError, match=r"cannot read .*: Permission denied"):
        run(folder)
    assert content(folder) == before


def test_a_checkpoint_that_may_not_be_read_is_not_passed_over(undisturbed, place):
    shutil.copytree(undisturbed, place / "run")
    folder = place / "run" / checkpoint.FOLDER
    given_to_nobody(place / "run")
    skipped = []
    with unreadable(folder / "step_00000010"), as_nobody():
        for read in (lambda: checkpoint.newest(folder, skipped), lambda: checkpoint.find(place / "run", skipped)):
            with pytest.raises(InputError, match=r"cannot read .*step_00000010.*: Permission denied; make it readable"):
                read()
    with unreadable(folder / "step_00000005"), as_nobody():
        found = checkpoint.newest(folder, skipped)
    assert found is not None and found.step == 10
    assert skipped == []
