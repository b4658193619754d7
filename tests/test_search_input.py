"""What a search refuses: one short message, exit code 2, and nothing half-written."""

import errno
import functools
import io
import json
import os
import shutil
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small_runs
import warm_processes
from small_runs import environment, newest, read_until, undisturbed_run, user_settings
from small_search import PLAIN, SETTINGS, STEPS_PER_EPOCH, arguments, assert_same_bits, quick, searches, start

from jdarts import checkpoint, data, optimizers
from jdarts.command import run_command
from jdarts.errors import InputError
from jdarts.runs.folder import RunFolder
from jdarts.runs.settings import BEFORE
from jdarts.search import command, search
from jdarts.search.command import main

__all__ = ["quick", "user_settings"]

config, run = searches({**SETTINGS, **PLAIN})
undisturbed = undisturbed_run(run)


def told(function, capsys):
    """Runs a command's function; returns its exit code and what it wrote to standard error."""
    with pytest.raises(SystemExit) as ended:
        run_command(function)
    return ended.value.code, capsys.readouterr().err


def refusal(folder, monkeypatch, capsys, **changes):
    monkeypatch.setattr(sys, "argv", ["search", *arguments(folder, **{**PLAIN, **changes})])
    code, err = told(main, capsys)
    assert code == 2
    return err


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epochs": 0}, "--epochs is 0; give 1 or more"),
        ({"batch_size": 1}, "--batch-size is 1; give 2 or more"),
        ({"seed": -1}, "--seed is -1; give 0 or more"),
        ({"seed": 2**32}, "--seed is 4294967296; give a number below 2^32"),
        ({"learning_rate": "nan"}, "--learning-rate is nan; give a number above 0"),
        ({"clip": 0}, "--clip is 0.0; give a number above 0"),
        ({"momentum": 1}, "--momentum is 1.0; give a number from 0 to below 1"),
        ({"alpha_weight_decay": -1}, "--alpha-weight-decay is -1.0; give 0 or more"),
        ({"train_fraction": 1.5}, "--train-fraction is 1.5; give a number between 0 and 1"),
        ({"keep_checkpoints": 1}, "--keep-checkpoints is 1; give 2 or more"),
        (
            {"dataset": "cifar1O"},
            "there is no image set 'cifar1O'; did you mean 'cifar10'? "
            "The names are digits, cifar10, cifar100, fashion_mnist, svhn; for images of your own give the path of their "
            "folder",
        ),
        (
            {"batch_size": 719},
            "--batch-size is 719, but the part of digits that trains the weights has 718 images; give 718 or less",
        ),
        (
            {"train_fraction": 0.95},
            "--batch-size is 128, but the part of digits that trains the alphas has 72 images; give 72 or less",
        ),
        (
            {"train_fraction": 0.7, "alpha_fraction": 0.4},
            "--train-fraction is 0.7 and --alpha-fraction 0.4, which share no image; give numbers whose sum is 1 or less",
        ),
        (
            {"alpha_fraction": 0.05},
            "--batch-size is 128, but the part of digits that trains the alphas has 71 images; give 71 or less",
        ),
        (
            {"network": "imagenet", "channels": 3},
            "channels is 3; the ImageNet network halves it, so give an even number",
        ),
        (
            {"network": "imagenet"},
            "images of 8×8 are 1×1 at the reduction in cell 1 of 3, which needs even sizes; resize or pad the images",
        ),
        ({"operations": ("none",)}, "search space: edge 0 of the normal cell has no operation to choose from"),
    ],
)
def test_wrong_values(changes, message, tmp_path, monkeypatch, capsys):
    assert refusal(tmp_path / "run", monkeypatch, capsys, **changes) == f"error: {message}\n"
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_operation_is_answered_with_the_nearest(tmp_path, monkeypatch, capsys):
    err = refusal(tmp_path / "run", monkeypatch, capsys, operations=("none", "dil_conf_3x3"))
    assert err.startswith(
        "error: --operations names dil_conf_3x3; did you mean dil_conv_3x3? The operations are none, "
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"hypergradient": "exakt"}, ["hypergradient", "exakt", "finite_difference"]),
        ({"epochs": "many"}, ["--epochs", "many"]),
    ],
)
def test_what_is_no_value_of_an_option(changes, words, tmp_path, monkeypatch, capsys):
    err = refusal(tmp_path / "run", monkeypatch, capsys, **changes)
    assert all(word in err for word in words)
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_images_that_are_not_prepared(tmp_path, monkeypatch, capsys):
    err = refusal(tmp_path / "run", monkeypatch, capsys, dataset="cifar10", data_dir=tmp_path / "none")
    assert err.startswith("error: ")
    assert f"python -m jdarts.data prepare cifar10 --data-dir {tmp_path}/none" in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def images_of(size, count=300, seed=0):
    generator = np.random.default_rng(seed)
    split = data.ImageSplit(
        generator.integers(0, 256, (count, size, size, 1), dtype=np.uint8),
        generator.integers(0, 4, count).astype(np.int32),
    )
    return data.ImageDataset("mine", split, split, ("a", "b", "c", "d"), (0.5,), (0.25,), data.Augmentation(padding=1))


def test_an_odd_size_at_a_reduction(tmp_path):
    with pytest.raises(
        InputError, match="images of 10×10 are 5×5 at the reduction in cell 5 of 8, which needs even sizes"
    ):
        search(config(tmp_path / "run", cells=8), dataset=images_of(10))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_something_else(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "letters"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    err = refusal(folder, monkeypatch, capsys)
    assert err == f"error: {folder} holds other files and no run; choose another --run-dir\n"
    err = refusal(folder / "letter.txt", monkeypatch, capsys)
    assert err == f"error: {folder}/letter.txt is a file; choose another --run-dir\n"
    err = refusal(folder / "letter.txt" / "run", monkeypatch, capsys)
    assert err.startswith(f"error: cannot write {folder}/letter.txt/run: ")
    assert [path.name for path in folder.iterdir()] == ["letter.txt"]


def test_a_folder_where_nothing_may_be_made(monkeypatch, capsys):
    err = refusal("/proc/run", monkeypatch, capsys)
    assert (
        err == "error: cannot write /proc/run: No such file or directory; choose another --run-dir or mend this one\n"
    )


def test_a_run_with_other_settings(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    before = config(folder).to_json()
    (folder / "config.json").write_text(json.dumps(before))
    err = refusal(folder, monkeypatch, capsys, seed=3, operations=("none", "skip_connect"))
    assert err == (
        f"error: {folder} was begun with other settings: --operations none skip_connect max_pool_3x3 dil_conv_3x3 (now "
        "none skip_connect), --seed 0 (now 3); give the same settings to resume it, or choose another --run-dir\n"
    )
    (folder / "config.json").write_text('{"epochs"')
    err = refusal(folder, monkeypatch, capsys)
    assert err == f"error: {folder}/config.json is damaged; choose another --run-dir\n"


def test_a_run_that_is_older_than_a_setting(tmp_path, monkeypatch, capsys):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    now = config(folder.path).to_json()
    # Searches on images have always had a momentum; it is younger on text.
    younger = BEFORE.keys() - {"momentum"}
    before = {name: value for name, value in now.items() if name not in younger}
    assert len(before) < len(now)
    (folder.path / "config.json").write_text(json.dumps(before))
    folder.check(now)
    # What the runs did that had no such setting is what they do by default, and nothing else.
    assert {name: BEFORE[name] for name in now if name in younger}.items() <= now.items()
    err = refusal(folder.path, monkeypatch, capsys, precision="bfloat16")
    assert "begun with other settings: --precision float32 (now bfloat16); " in err
    with pytest.raises(InputError, match=r"--search.microbatches 1 \(now 2\)"):
        folder.check(now | {"search.microbatches": 2})
    # A setting that there always was must be there.
    del before["seed"]
    (folder.path / "config.json").write_text(json.dumps(before))
    with pytest.raises(InputError, match=r"--seed None \(now 0\)"):
        folder.check(now)


def test_settings_without_effect_on_the_result_may_change(tmp_path):
    before = config(tmp_path).to_json()
    changed = config(tmp_path / "moved", data_dir=tmp_path, log_every=1, checkpoint_minutes=2.0, keep_checkpoints=9)
    assert changed.to_json() == before
    assert config(tmp_path, seed=1).to_json() != before


def test_a_folder_in_use(tmp_path, monkeypatch, capsys):
    folder = RunFolder(tmp_path / "run")
    with folder.lock(config(folder.path).to_json(), {}):
        err = refusal(folder.path, monkeypatch, capsys)
    expected = f"error: {folder.path} is in use by another process; wait for it, or choose another --run-dir\n"
    assert err == expected


@pytest.mark.parametrize(
    "moment", ["config.json", "metrics.jsonl", "genotypes/epoch_001.json", "a checkpoint", "curves"]
)
def test_a_full_disk(moment, quick, undisturbed, tmp_path, monkeypatch, capsys):
    """The disk is full from some moment on; with space again, the run ends with the same bits."""
    from orbax.checkpoint import v1 as ocp

    import jdarts.runs.ending as ending

    folder = tmp_path / "run"
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def failing(*_, **__):
        raise full

    with monkeypatch.context() as patch:
        patch.setattr(command, "search", functools.partial(search, programs=small_runs.shared_programs))
        if moment == "a checkpoint":
            patch.setattr(ocp, "save", failing)
        elif moment == "metrics.jsonl":
            patch.setattr("jdarts.report.metrics.os.fstat", failing)
        elif moment == "curves":
            patch.setattr(ending, "draw_curves", failing)
        else:
            write = RunFolder.write

            def written(self, name, text):
                if name == moment:
                    patch.setattr("jdarts.files.atomic.os.fsync", failing)
                write(self, name, text)

            patch.setattr(RunFolder, "write", written)
        err = refusal(folder, patch, capsys)
    assert "No space left on device" in err
    assert err.count("\n") == 1
    assert err.startswith("error: cannot ")
    if moment == "config.json":
        assert list(tmp_path.iterdir()) == []
    run(folder)
    assert_same_bits(folder, undisturbed)


def test_a_loss_that_is_not_finite(quick, tmp_path, monkeypatch, capsys):
    """The seventh step gives NaN: named exactly, although it is noticed later."""
    make = optimizers.weight_optimizer

    def spoiled(rate, **options):
        optimizer = make(rate, **options)

        def update(updates, state, params=None):
            updates, state = optimizer.update(updates, state, params)
            spoils = optax.tree_utils.tree_get(state, "count") == 7
            return jax.tree.map(lambda leaf: jnp.where(spoils, jnp.nan, leaf), updates), state

        # The virtual step has no clipping, and stays as it is.
        return optimizer if options["clip"] is None else optax.GradientTransformation(optimizer.init, update)

    monkeypatch.setattr(optimizers, "weight_optimizer", spoiled)
    folder = tmp_path / "run"
    err = refusal(folder, monkeypatch, capsys, hypergradient="exact", log_every=10, checkpoint_minutes=1000)
    assert err == (
        "error: a loss, a gradient or a weight was not finite at step 7 (epoch 2); the search has stopped, the last good "
        f"checkpoint is {folder}/checkpoints/step_00000005. Start another --run-dir with a lower --learning-rate or --clip\n"
    )
    assert newest(folder).step == STEPS_PER_EPOCH
    assert all("nan" not in line for line in (folder / "metrics.jsonl").read_text().splitlines())


def test_a_learning_rate_that_explodes(quick, tmp_path):
    with pytest.raises(InputError, match=r"not finite at step \d+ .* there is no checkpoint yet"):
        run(tmp_path / "run", learning_rate=1e38, momentum=0.99)
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_damaged_checkpoints_are_named_and_passed_over(quick, undisturbed, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    (folder / "summary.json").unlink()
    last, first = folder / "checkpoints/step_00000010", folder / "checkpoints/step_00000005"
    (last / checkpoint.RECORD).write_text("")
    (folder / "checkpoints/.incomplete-step_00000015").mkdir()
    _, shown = run(folder)
    assert shown.splitlines()[:3] == [
        f"skipped: checkpoint {folder}/checkpoints/.incomplete-step_00000015 is half-written",
        f"skipped: checkpoint {last} is damaged (record.json has changed since it was written)",
        f"resuming {folder} after step 5",
    ]
    assert_same_bits(folder, undisturbed)
    (folder / "summary.json").unlink()
    for path in (last, first):
        shutil.rmtree(path / checkpoint.ARRAYS)
    _, shown = run(folder)
    lines = shown.splitlines()
    assert [line.startswith("skipped: checkpoint") for line in lines[:3]] == [True, True, False]
    assert lines[2].startswith(
        "no complete checkpoint is left, so the run starts from the beginning: searching on digits"
    )
    assert_same_bits(folder, undisturbed)


def test_a_damaged_summary_is_named(quick, undisturbed, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    (folder / "summary.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"summary.json is damaged \(genotype is missing\); remove it and start the same command again"
    ):
        run(folder)


@pytest.mark.parametrize(
    "output, code, message", [("full", 2, "error: cannot use the output: No space left on device\n"), ("pipe", 141, "")]
)
def test_an_output_that_fails_ends_the_command_once(output, code, message):
    """Through the interpreter's end, where what was buffered is written once more."""
    program = (
        "import os, select, sys; from jdarts.command import run_command\n"
        "if sys.argv[1] == 'full':\n"
        "    os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\n"
        "else:  # Until nobody reads it.\n"
        "    written = select.poll()\n"
        "    written.register(1, 0)\n"
        "    written.poll()\n"
        "sys.stdout = open(1, 'w', closefd=False)\n"
        "run_command(lambda: print('x'))\n"
    )
    process = warm_processes.start(["-c", program, output], environment())
    process.stdout.close()
    with process:
        assert (process.stderr.read(), process.wait(60)) == (message, code)


def test_a_search_whose_reader_goes_away_leaves_a_run_that_resumes(quick, undisturbed, tmp_path):
    process = start(tmp_path / "run", **PLAIN)
    read_until(process, "searching on digits")
    process.stdout.close()
    with process:
        assert (process.stderr.read(), process.wait(180)) == ("", 141)
    run(tmp_path / "run")
    assert_same_bits(tmp_path / "run", undisturbed)


def test_the_loss_of_a_terminal_file_is_reported(quick, tmp_path, capsys):
    class Full(io.StringIO):
        def write(self, text):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    code, err = told(lambda: search(config(tmp_path / "run"), stream=Full()) and None, capsys)
    assert (code, err) == (2, "error: cannot use the output: No space left on device\n")
