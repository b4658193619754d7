"""What a training refuses: one short message, exit code 2, and nothing half-written."""

import errno
import json
import os
import shutil
import sys

import jax
import jax.numpy as jnp
import optax
import pytest
import small_runs
from small_runs import newest, user_settings
from small_train import SETTINGS, assert_same_bits, config, quick, run, undisturbed

from jdarts import checkpoint, optimizers
from jdarts.command import run_command
from jdarts.errors import InputError
from jdarts.train import TrainConfig, train
from jdarts.train.command import main

__all__ = ["quick", "undisturbed", "user_settings"]


def refusal(folder, monkeypatch, capsys, **changes):
    """What the command writes to standard error, which ends it with code 2."""
    words = small_runs.arguments({**SETTINGS, "run_dir": folder, **changes})
    monkeypatch.setattr(sys, "argv", ["train", *words])
    with pytest.raises(SystemExit) as ended:
        run_command(main)
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"epochs": 0}, "--epochs is 0; give 1 or more"),
        ({"batch_size": 1}, "--batch-size is 1; give 2 or more"),
        ({"drop_path": 1}, "--drop-path is 1.0; give a number from 0 to below 1"),
        ({"ema_decay": 1.5}, "--ema-decay is 1.5; give a number from 0 to below 1"),
        ({"label_smoothing": -0.1}, "--label-smoothing is -0.1; give a number from 0 to below 1"),
        ({"validation_fraction": 1}, "--validation-fraction is 1.0; give a number from 0 to below 1"),
        ({"learning_rate_decay": 1.2}, "--learning-rate-decay is 1.2; give a number above 0, up to 1"),
        ({"auxiliary_weight": -1}, "--auxiliary-weight is -1.0; give 0 or more"),
        ({"keep_checkpoints": 1}, "--keep-checkpoints is 1; give 2 or more"),
        ({"seed": 2**32}, "--seed is 4294967296; give a number below 2^32"),
        (
            {"validation_fraction": 0.9},
            "--batch-size is 256, but 143 images of digits train; give 143 or less",
        ),
        (
            {"validation_fraction": 0.9999},
            "fraction 9.999999999998899e-05 of 1437 images leaves a part empty; give a fraction between 0 and 1 that "
            "leaves images on both sides",
        ),
        (
            {"network": "imagenet", "channels": 3},
            "channels is 3; the ImageNet network halves it, so give an even number",
        ),
    ],
)
def test_wrong_values(changes, message, tmp_path, monkeypatch, capsys):
    assert refusal(tmp_path / "run", monkeypatch, capsys, **changes) == f"error: {message}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "genotype, words",
    [
        ("DARTS_V3", ["DARTS_V3"]),
        ("Genotype(normal=[('sep_conf_3x3', 0), ('skip_connect', 1)], normal_concat=[2])", ["sep_conf_3x3", "reduce"]),
        (
            "Genotype(normal=[('skip_connect', 0), ('skip_connect', 3)], normal_concat=[2], "
            "reduce=[('skip_connect', 0), ('skip_connect', 1)], reduce_concat=[2])",
            ["('skip_connect', 3) in normal leads to state 2; its source must be a state from 0 to 1"],
        ),
    ],
)
def test_a_genotype_that_makes_no_cells(genotype, words, tmp_path, monkeypatch, capsys):
    err = refusal(tmp_path / "run", monkeypatch, capsys, genotype=genotype)
    assert any(word in err for word in words)
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_images_too_small_for_the_auxiliary_head(tmp_path):
    settings = {**SETTINGS, "cells": 3, "auxiliary": True}
    with pytest.raises(InputError, match=r"8×8.*auxiliary"):
        train(TrainConfig(run_dir=tmp_path / "run", **settings))
    assert list(tmp_path.iterdir()) == []


def test_a_run_with_other_settings(undisturbed, monkeypatch, capsys):
    err = refusal(undisturbed, monkeypatch, capsys, drop_path=0.3, genotype="PDARTS")
    assert f"error: {undisturbed} was begun with other settings: --genotype Genotype(" in err
    assert "--drop-path 0.2 (now 0.3)" in err


def test_a_loss_that_is_not_finite(quick, tmp_path, monkeypatch, capsys):
    """The seventh step gives NaN: named exactly, although it is noticed later."""
    make = optimizers.weight_optimizer

    def spoiled(rate, **options):
        optimizer = optax.chain(make(rate, **options), optax.scale_by_schedule(lambda count: 1.0))

        def update(updates, state, params=None):
            updates, state = optimizer.update(updates, state, params)
            spoils = optax.tree_utils.tree_get(state, "count") == 7
            return jax.tree.map(lambda leaf: jnp.where(spoils, jnp.nan, leaf), updates), state

        return optax.GradientTransformation(optimizer.init, update)

    monkeypatch.setattr(optimizers, "weight_optimizer", spoiled)
    folder = tmp_path / "run"
    err = refusal(folder, monkeypatch, capsys, log_every=10, checkpoint_minutes=1000)
    assert err == (
        "error: a loss, a gradient or a weight was not finite at step 7 (epoch 2); the training has stopped, the last good "
        f"checkpoint is {folder}/checkpoints/step_00000004. Start another --run-dir with a lower --learning-rate or --clip\n"
    )
    assert newest(folder).step == 4


def test_a_full_disk_at_the_best_checkpoint(undisturbed, tmp_path, monkeypatch, capsys):
    """With space again, the run ends with the same bits."""
    from orbax.checkpoint import v1 as ocp

    folder = tmp_path / "run"

    def failing(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(ocp, "save", failing)
        err = refusal(folder, patch, capsys)
    assert err.startswith(f"error: cannot write checkpoint {folder}/best/step_00000004: No space left on device; ")
    run(folder)
    assert_same_bits(folder, undisturbed)


def test_damaged_files_at_the_end_are_named(undisturbed, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(undisturbed, folder)
    (folder / "summary.json").write_text('{"epochs": 3}')
    with pytest.raises(InputError, match=r"summary.json is damaged \(genotype is missing\); remove it"):
        run(folder)
    (folder / "summary.json").unlink()
    (best,) = (folder / "best").iterdir()
    (best / checkpoint.RECORD).write_text("{}")
    with pytest.raises(
        InputError, match=rf"checkpoint {best} is damaged \(record.json has changed since it was written\)"
    ):
        run(folder)


def test_settings_without_effect_on_the_result_may_change(tmp_path):
    before = config(tmp_path).to_json()
    changed = config(tmp_path / "moved", data_dir=tmp_path, log_every=1, checkpoint_minutes=2.0, keep_checkpoints=9)
    assert changed.to_json() == before
    assert json.dumps(config(tmp_path, ema_decay=0.5).to_json()) != json.dumps(before)
