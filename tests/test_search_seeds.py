"""Searches of several seeds as one."""

import io
import shutil
from typing import Any

import pytest
import small_runs
from small_runs import newest, user_settings
from small_search import PLAIN, SETTINGS, config, quick, searches
from test_search_devices import assert_close

from jdarts import InputError
from jdarts.report import Progress
from jdarts.search import search_seeds

__all__ = ["quick", "user_settings"]

#: Searches with other estimators lie beside each other in `test_search_guards` and `test_method_contract`.
FIRST_ORDER: Any = {"hypergradient": "first_order"}
_, run = searches({**SETTINGS, **FIRST_ORDER})


def run_seeds(folder, seeds="0,2", **changes):
    stream = io.StringIO()
    results = search_seeds(config(folder, seeds=seeds, **changes), stream=stream, programs=small_runs.shared_programs)
    return results, stream.getvalue()


@pytest.fixture(scope="module")
def alone(quick, tmp_path_factory):
    """The folder of the folders of single runs."""
    folder = tmp_path_factory.mktemp("alone")
    for seed in (0, 2):
        run(folder / f"seed{seed}", seed=seed)
    return folder


def assert_each_close(folder, alone):
    for seed in (0, 2):
        assert_close(folder / f"seed{seed}", alone / f"seed{seed}")


@pytest.mark.parametrize("settings", [{}, {"devices": 2}, {"images_on": "host"}], ids=str)
def test_each_seed_finds_what_it_finds_alone(alone, tmp_path, settings):
    results, shown = run_seeds(tmp_path, **FIRST_ORDER, **settings)
    assert_each_close(tmp_path, alone)
    assert [result.folder.name for result in results] == ["seed0", "seed2"]
    assert shown.count("epoch 2") >= 1
    assert "different genotypes:" in shown
    assert all(f"seed{seed}: " in shown for seed in (0, 2))
    # The folders are those of single runs, which a single run finds finished.
    _, shown = run(tmp_path / "seed2", seed=2)
    assert "has finished" in shown
    again, shown = run_seeds(tmp_path, **FIRST_ORDER, **settings)
    assert [result.genotype for result in again] == [result.genotype for result in results]
    assert "different genotypes:" in shown


def test_death_between_two_checkpoints_of_a_step(alone, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        small_runs.die_at(patch, small_runs.checkpoint, "save", 4)
        with pytest.raises(small_runs.Died):
            run_seeds(tmp_path, **FIRST_ORDER)
    assert [newest(tmp_path / f"seed{seed}").step for seed in (0, 2)] == [10, 5]
    _, shown = run_seeds(tmp_path, **FIRST_ORDER)
    assert "after step 5" in shown
    assert_each_close(tmp_path, alone)


def test_a_finished_seed_is_not_run_again(alone, tmp_path):
    run(tmp_path / "seed0")
    before = (tmp_path / "seed0" / "summary.json").read_bytes()
    results, shown = run_seeds(tmp_path, **FIRST_ORDER)
    assert f"{tmp_path / 'seed0'} has finished" in shown
    assert (tmp_path / "seed0" / "summary.json").read_bytes() == before
    assert len(results) == 2
    assert_each_close(tmp_path, alone)


@pytest.fixture(scope="module")
def together(quick, tmp_path_factory):
    """The folder of two searches that nothing has disturbed."""
    folder = tmp_path_factory.mktemp("together")
    run_seeds(folder, **FEW)
    return folder


#: One epoch of one step, after which is the one checkpoint.
FEW: Any = {**PLAIN, "epochs": 1, "batch_size": 600}


def assert_each_same(folder, reference):
    for seed in ("seed0", "seed2"):
        names = ["genotype.json", "genotypes/epoch_001.json"]
        small_runs.assert_same_bits(folder / seed, reference / seed, names)


def test_a_death_at_any_change_of_a_file_is_followed_by_the_same_end(together, tmp_path):
    """Before every ninth change that is made below the folder, until the searches get through; `make torture` takes all."""

    folder = tmp_path / "run"
    changes = small_runs.resume_before_every_ninth_change(
        folder,
        lambda: run_seeds(folder, **FEW),
        lambda _: assert_each_same(folder, together),
    )
    assert changes > 40


def test_a_death_between_two_first_checkpoints_begins_again(together, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        small_runs.die_at(patch, small_runs.checkpoint, "save", 2)
        with pytest.raises(small_runs.Died):
            run_seeds(tmp_path, **FEW)
    first = tmp_path / "seed0/checkpoints/step_00000001"
    assert first.exists()
    assert not list((tmp_path / "seed2/checkpoints").glob("*"))
    _, shown = run_seeds(tmp_path, **FEW)
    assert shown.splitlines()[0] == f"skipped: checkpoint {first} has no counterpart of every seed"
    assert "no complete checkpoint is left, so the run starts from the beginning" in shown
    assert_each_same(tmp_path, together)


def test_seeds_stop_when_one_of_their_folders_is_gone(together, tmp_path, monkeypatch):
    note = Progress.step

    def noting(progress, done, values=None):
        if done == 1:
            shutil.rmtree(tmp_path / "seed2")
        note(progress, done, values)

    monkeypatch.setattr(Progress, "step", noting)
    with pytest.raises(InputError, match=r"seed2 was removed or renamed"):
        run_seeds(tmp_path, **FEW)
    assert not (tmp_path / "seed2").exists()


def test_searches_at_different_steps_are_refused(quick, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        small_runs.die_at(patch, small_runs.checkpoint, "save", 2)
        with pytest.raises(small_runs.Died):
            run(tmp_path / "seed2", seed=2)
    with pytest.raises(InputError, match=r"different steps \(seed 0 step 0, seed 2 step 5\).*--seed"):
        run_seeds(tmp_path, **FIRST_ORDER)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"seeds": "3-1"}, "--seeds is 3-1; give seeds such as 0-3 or 0,2,5"),
        ({"seeds": "one"}, "--seeds is one; give seeds"),
        ({"seeds": "0-2,1"}, "names a seed twice"),
        ({"seeds": "9999999999"}, "--seed is 9999999999; give a number below"),
        ({"seeds": "0-2", "devices": 2}, "--seeds of 3 does not divide .* 2 devices; give 2 or 4"),
        ({"seeds": "0-3", "devices": 2, "parallel": "pmap"}, "--parallel pmap shares batches"),
    ],
)
def test_seeds_that_do_not_fit_are_refused(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        run_seeds(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_seeds_of_the_command_line():
    listed = config(None, seeds="0-2, 7").of_each_seed()
    assert [each.run.seed for each in listed] == [0, 1, 2, 7]
    assert {each.seeds for each in listed} == {None}
    assert listed[3].folder == config(None, seed=7).folder
    assert listed[1].to_json() == config(None, seed=1).to_json()
