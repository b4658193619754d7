"""Searches whose batches several devices share."""

import jax
import numpy as np
import pytest
import small_runs
import small_search
from small_runs import newest, read_metrics, user_settings
from small_search import PLAIN, SETTINGS, quick, searches, start

__all__ = ["quick", "user_settings"]

#: Devices share the batches of every estimator, as `test_parallel` shows.
FIRST_ORDER = {"hypergradient": "first_order"}
_, run = searches({**SETTINGS, **FIRST_ORDER})
undisturbed = small_runs.undisturbed_run(run)


def assert_close(folder, reference):
    """Alphas, metrics and genotypes of a search are those of another, up to float32's rounding."""
    found, expected = newest(folder).record["alphas"], newest(reference).record["alphas"]
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    np.testing.assert_allclose(jax.tree.leaves(found), jax.tree.leaves(expected), rtol=1e-4, atol=1e-6)
    small_runs.assert_records_close(folder, reference)
    assert (folder / "genotype.json").read_bytes() == (reference / "genotype.json").read_bytes()


@pytest.mark.parametrize("parallel, images_on", [("shard", "device"), ("shard", "host"), ("pmap", "device")])
def test_two_devices_find_what_one_finds(undisturbed, tmp_path, parallel, images_on):
    run(tmp_path / "run", devices=2, parallel=parallel, images_on=images_on)
    assert_close(tmp_path / "run", undisturbed)


def test_per_device_statistics_are_another_search(undisturbed, tmp_path):
    run(tmp_path / "run", devices=2, batch_statistics="per_device")
    found, expected = (read_metrics(folder)[0]["train/loss"] for folder in (tmp_path / "run", undisturbed))
    assert abs(found - expected) > 1e-4


def test_a_search_resumes_with_another_number_of_devices(undisturbed, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        small_runs.die_at(patch, small_runs.checkpoint, "save", 2)
        with pytest.raises(small_runs.Died):
            run(tmp_path / "run", devices=2)
    assert newest(tmp_path / "run").step == 5
    _, shown = run(tmp_path / "run", devices=1)
    assert "resuming" in shown
    assert_close(tmp_path / "run", undisturbed)


#: Runs a program as where nothing has told JAX how many devices to make.
WITHOUT_DEVICES = """
import os, runpy, sys, jax

del os.environ["JAX_NUM_CPU_DEVICES"]
jax.config.update("jax_num_cpu_devices", -1)
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_the_command_says_so_and_makes_cpu_devices(tmp_path):
    process = start(tmp_path / "run", devices=64)
    code, _, errors = small_runs.finish(process)
    assert (code, errors.count("\n")) == (2, 1)
    assert "error: 64 devices were asked for, and 2 CPU present; ask for fewer" in errors
    assert not (tmp_path / "run").exists()
    process = start(
        tmp_path / "run", program=("-c", WITHOUT_DEVICES, small_search.__file__), devices=4, epochs=1, **PLAIN
    )
    code, out, errors = small_runs.finish(process)
    assert code == 0, errors
    assert "genotype:" in out
