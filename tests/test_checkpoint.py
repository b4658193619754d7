"""Checkpoints: whole or not there, whatever dies or is damaged."""

import errno
import gc
import json
import logging
import os
import pathlib
import shutil
import subprocess

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small_runs import Died

from jdarts import checkpoint
from jdarts.errors import InputError


def tree(step):
    return {"weights": jnp.full((3, 2), step, jnp.float32), "key": jax.random.key(step), "count": jnp.int32(step)}


def save(folder, step, **options):
    return checkpoint.save(folder, step, tree(step), {"words": f"after {step}"}, **options)


def assert_whole(found, step):
    assert found.step == step
    assert found.record == {"words": f"after {step}"}
    loaded = checkpoint.load(found, jax.eval_shape(lambda: tree(0)))
    expected = tree(step)
    assert jax.tree.structure(loaded) == jax.tree.structure(expected)
    for name in ("weights", "count"):
        np.testing.assert_array_equal(loaded[name], expected[name])
        assert loaded[name].dtype == expected[name].dtype
    assert jnp.all(jax.random.key_data(loaded["key"]) == jax.random.key_data(expected["key"]))


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "run" / checkpoint.FOLDER
    for step in (10, 20):
        save(folder, step)
    return folder


def test_the_newest_ones_are_kept_and_read_back(folder):
    assert_whole(checkpoint.newest(folder, []), 20)
    for step in (30, 40):
        path = save(folder, step, keep=2)
    assert path == folder / "step_00000040"
    assert sorted(entry.name for entry in folder.iterdir()) == ["step_00000030", "step_00000040"]
    assert_whole(checkpoint.read(folder / "step_00000030"), 30)


def test_the_checksums_are_those_of_sha256sum(folder):
    command = ["sha256sum", "--check", "--strict", "--quiet", checkpoint.CHECKSUMS]
    assert subprocess.run(command, cwd=folder / "step_00000020", check=False).returncode == 0


def test_every_truncated_flipped_or_missing_file_is_found(folder):
    """Each file of the newest checkpoint in turn is damaged in three ways: named, skipped, the one before is used."""
    target = folder / "step_00000020"
    whole = folder.parent / "whole"
    shutil.copytree(target, whole)
    files = [path.relative_to(whole) for path in whole.rglob("*") if path.is_file()]
    assert {str(path) for path in files} >= {checkpoint.RECORD, checkpoint.CHECKSUMS}
    for name in files:
        content = (whole / name).read_bytes()
        for damage in damages(content):
            shutil.rmtree(target)
            shutil.copytree(whole, target)
            (target / name).unlink()
            if damage is not None:
                (target / name).write_bytes(damage)
            skipped = []
            found = checkpoint.newest(folder, skipped)
            assert found is not None and found.step == 10
            assert len(skipped) == 1
            assert skipped[0].startswith(f"checkpoint {target} is damaged (")


def damages(content):
    """None for a missing file, then files that are cut or have one bit flipped; an empty one gets a byte."""
    flipped = [
        content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        for place in {0, len(content) // 2}
        if content
    ]
    return [None, *flipped, *([content[:-1], b""] if content else [b"x"])]


def test_empty_half_written_and_foreign_folders(folder):
    (folder / "step_00000030").mkdir()
    (folder / ".incomplete-step_00000040").mkdir()
    (folder / "step_of_a_stranger").mkdir()
    skipped = []
    assert_whole(checkpoint.newest(folder, skipped), 20)
    assert skipped == [
        f"checkpoint {folder}/.incomplete-step_00000040 is half-written",
        f"checkpoint {folder}/step_00000030 is damaged (SHA256SUMS: No such file or directory)",
    ]
    checkpoint.remove_half_written(folder)
    assert not (folder / ".incomplete-step_00000040").exists()


def test_damaged_newer_checkpoints_do_not_push_out_good_ones(folder):
    for step in (30, 40, 50):
        (folder / f"step_{step:08d}").mkdir()
    save(folder, 25, keep=2)
    assert_whole(checkpoint.newest(folder, []), 25)
    assert_whole(checkpoint.read(folder / "step_00000020"), 20)


# Orbax leaves files open where it dies.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("step", [20, 30])
def test_a_death_at_any_file_operation_leaves_a_complete_checkpoint(step, folder, monkeypatch):
    """Saving step 30, or step 20 once more, dies before its 1st, 2nd, … operation until it gets through."""
    operations = [(os, "fsync"), (os, "open"), (shutil, "rmtree"), (pathlib.Path, "mkdir"), (pathlib.Path, "rename")]
    operations += [(pathlib.Path, "open")]
    before = 20 if step == 30 else 10
    loaded = []
    for deaths in range(100):
        left = [deaths]
        with monkeypatch.context() as patch:
            for owner, name in operations:
                patch.setattr(owner, name, dying(getattr(owner, name), left))
            try:
                save(folder, step)
                break
            except Died:
                pass
        found = checkpoint.newest(folder, [])
        assert found is not None and found.step in (before, step, 20)
        if (content := content_of(found.path)) not in loaded:
            assert_whole(found, found.step)
            loaded.append(content)
    collect_what_is_new()
    assert deaths > 8
    assert_whole(checkpoint.newest(folder, []), step)
    assert not list(folder.glob(".incomplete-*"))


def content_of(folder):
    """Every file below a folder, by its name."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def collect_what_is_new():
    """Lets what Orbax has left tell of its end within the test; all that lives longer would take a second to look through."""
    gc.collect(1)


def dying(function, left):
    def counted(*args, **kwargs):
        if left[0] == 0:
            raise Died
        left[0] -= 1
        return function(*args, **kwargs)

    return counted


@pytest.mark.parametrize(
    "error, reason",
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (ValueError("RESOURCE_EXHAUSTED: Failed writing: \"x\" [os_error_code='28']"), "No space left on device"),
        (OSError(errno.EIO, os.strerror(errno.EIO), "/a/b"), "b: Input/output error"),
    ],
)
def test_a_failed_save_says_why_and_leaves_nothing(error, reason, folder, monkeypatch, capfd):
    from orbax.checkpoint import v1 as ocp

    def failing(path, _):
        pathlib.Path(path).mkdir()
        logging.getLogger("absl").error("a traceback")
        raise error

    monkeypatch.setattr(ocp, "save", failing)
    with pytest.raises(InputError) as told:
        save(folder, 30)
    assert str(told.value) == (
        f"cannot write checkpoint {folder}/step_00000030: {reason}; free some space or mend the folder, and start the "
        "same command again"
    )
    assert sorted(entry.name for entry in folder.iterdir()) == ["step_00000010", "step_00000020"]
    assert capfd.readouterr() == ("", "")
    assert not logging.getLogger("absl").disabled


# Orbax leaves a coroutine behind where it fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_another_structure_is_refused(folder):
    found = checkpoint.read(folder / "step_00000020")
    template = jax.eval_shape(lambda: {**tree(0), "weights": jnp.zeros((4, 2))})

    def refused():
        with pytest.raises(InputError, match=r"does not hold what this run needs .* other settings"):
            checkpoint.load(found, template)

    refused()
    collect_what_is_new()


def test_find_takes_a_run_its_checkpoints_or_one_of_them(folder, monkeypatch):
    for path in (folder.parent, folder, folder / "step_00000020"):
        assert_whole(checkpoint.find(path, []), 20)
    monkeypatch.chdir(folder / "step_00000010")
    assert_whole(checkpoint.find(pathlib.Path("."), []), 10)
    # A run's folder may have any name.
    odd = folder.parent.rename(folder.parent.with_name("step_7"))
    assert_whole(checkpoint.find(odd, []), 20)


def test_find_says_what_is_missing(folder, tmp_path):
    with pytest.raises(InputError, match=r"nowhere does not exist; give a run's folder or a checkpoint in it"):
        checkpoint.find(tmp_path / "nowhere", [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no complete checkpoint; a search writes one at the end of each epoch"):
        checkpoint.find(tmp_path / "empty", [])
    (folder / "step_00000010" / checkpoint.RECORD).write_text(json.dumps({}))
    with pytest.raises(InputError, match=r"step_00000010 is damaged \(record.json has changed since it was written\)"):
        checkpoint.find(folder / "step_00000010", [])


def test_a_file_in_the_place_of_the_checkpoints_is_an_input_error(tmp_path):
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(InputError, match="checkpoints is a file, but checkpoints need a folder of this name"):
        checkpoint.newest(tmp_path / "checkpoints", [])


def test_a_vector_may_have_been_stored_leaf_by_leaf(folder):
    parts = {"second": jnp.arange(2.0), "first": {"b": jnp.ones((2, 3)), "a": jnp.full((1,), 7.0)}}
    other = {"step": jnp.int32(3), "chain": ((), (optax.TraceState(parts),))}
    checkpoint.save(folder, 40, other, {"format": 1})
    template = jax.eval_shape(lambda: {"step": jnp.int32(0), "chain": ((), (optax.TraceState(jnp.zeros(9)),))})
    loaded = checkpoint.load(checkpoint.read(folder / "step_00000040"), template)
    np.testing.assert_array_equal(loaded["chain"][1][0].trace, [7, 1, 1, 1, 1, 1, 1, 0, 1])
    assert loaded["step"] == 3
    template["chain"] = jax.eval_shape(lambda: ((), (optax.TraceState(jnp.zeros(8)),)))
    with pytest.raises(InputError, match="does not hold what this run needs"):
        checkpoint.load(checkpoint.read(folder / "step_00000040"), template)


def test_a_pytree_may_have_been_stored_as_a_vector(folder):
    vector = jnp.arange(9.0)
    checkpoint.save(folder, 40, {"step": jnp.int32(3), "chain": ((), (optax.TraceState(vector),))}, {})

    def template(rows):
        parts = {"second": jnp.zeros(2), "first": {"b": jnp.zeros((rows, 3)), "a": jnp.zeros((1,))}}
        return jax.eval_shape(lambda: {"step": jnp.int32(0), "chain": ((), (optax.TraceState(parts),))})

    loaded = checkpoint.load(checkpoint.read(folder / "step_00000040"), template(2))
    found = loaded["chain"][1][0].trace
    np.testing.assert_array_equal(found["first"]["a"], [0])
    np.testing.assert_array_equal(found["first"]["b"], [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(found["second"], [7, 8])
    assert loaded["step"] == 3
    with pytest.raises(InputError, match="does not hold what this run needs"):
        checkpoint.load(checkpoint.read(folder / "step_00000040"), template(3))


def test_parts_without_arrays_may_be_others(folder):
    """An optimiser without a state, which the checkpoint knows nothing of, or one that it alone knows."""
    kept = {"step": jnp.int32(3), "weights": (jnp.ones(2), jnp.zeros((2, 2)))}
    empty = {"chain": (optax.EmptyState(), optax.EmptyState())}
    for step, saved, wanted in ((40, kept, kept | empty), (50, kept | empty, kept)):
        checkpoint.save(folder, step, saved, {})
        loaded = checkpoint.load(checkpoint.read(folder / f"step_{step:08}"), jax.eval_shape(lambda tree=wanted: tree))
        assert jax.tree.structure(loaded) == jax.tree.structure(wanted)
        for found, expected in zip(jax.tree.leaves(loaded), jax.tree.leaves(wanted), strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("number", [checkpoint.FORMAT + 1, 0, "2"])
def test_a_checkpoint_of_another_format_is_refused_and_not_passed_over(folder, number):
    checkpoint.save(folder, 40, tree(40), {"format": number, "versions": {"jdarts": "9.8"}})
    for find in (checkpoint.newest, checkpoint.find):
        with pytest.raises(
            checkpoint.UnreadableError, match=rf"has format {number!r}, written by jdarts 9\.8; .* up to"
        ):
            find(folder, [])
