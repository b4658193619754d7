"""Several steps as one call of a program: the same search, training and search on text as step by step."""

import functools

import pytest
import small_language
import small_runs
import small_train
from small_runs import Died, assert_records_close, die_at, records, signal_after_step, user_settings
from small_search import PLAIN, SETTINGS, STEPS_PER_EPOCH, assert_same_bits, quick, searches
from test_search_devices import assert_close
from test_search_seeds import run_seeds

from jdarts import checkpoint, data
from jdarts.errors import InputError
from jdarts.methods.method import Method
from jdarts.runs import Interrupted
from jdarts.runs.calls import plan
from jdarts.runs.devices import Devices
from jdarts.search.building import search_task

__all__ = ["quick", "user_settings"]

#: Any estimator and any augmentation are parts of a step, of which a call takes several; one test has augmentation.
config, run = searches({**SETTINGS, **PLAIN})
undisturbed = small_runs.undisturbed_run(run)


def test_steps_with_one_program_that_follow_each_other_fill_calls_and_the_rest_are_single_ones():
    names = ["weights_step"] * 5 + ["step"] * 4
    assert list(plan(names, 2, 2)) == [
        ("weights_steps", range(2, 4)),
        ("weights_steps", range(4, 6)),
        ("weights_step", range(6, 7)),
        ("steps", range(7, 9)),
        ("steps", range(9, 11)),
    ]
    assert list(plan(["step"] * 2, 0, 3)) == [("step", range(1)), ("step", range(1, 2))]
    assert [steps for _, steps in plan(names, 0, 1)] == [range(index, index + 1) for index in range(9)]


@pytest.fixture(scope="module")
def task(user_settings):
    """The task of a search by the number of steps of a call; nothing of it is traced but the shapes of its state."""
    dataset = data.load("digits")
    return functools.cache(
        lambda steps, **changes: search_task(config(None, steps_per_call=steps, **changes), dataset, Devices(1))
    )


def names_of(task, first_step=0):
    return {name for name in task.needed_programs(first_step) if "step" in name}


def test_programs_that_no_step_needs_are_not_compiled(task):
    assert STEPS_PER_EPOCH == 5
    assert names_of(task(1)) == {"step"}
    assert names_of(task(5)) == names_of(task(1000)) == {"steps"}
    assert names_of(task(2)) == {"step", "steps"}
    # Resumed within an epoch.
    assert names_of(task(5), first_step=8) == {"step", "steps"}
    assert names_of(task(5, alphas_from=1)) == {"weights_steps", "steps"}
    assert names_of(task(5, weight_steps=5)) == {"weights_step", "step"}
    assert Method().program(4, 0) == "step"


@pytest.mark.parametrize("steps", [2, 5])
def test_a_search_finds_what_it_finds_step_by_step(steps, quick, undisturbed, tmp_path):
    run(tmp_path / "run", steps_per_call=steps)
    # Every number of every record; XLA rounds the quick network's few fused operations otherwise within a loop.
    assert_close(tmp_path / "run", undisturbed)
    assert [record["step"] for record in records(tmp_path / "run")] == [
        record["step"] for record in records(undisturbed)
    ]


def test_a_search_resumes_between_two_calls_to_the_same_bits(quick, tmp_path, monkeypatch):
    run(tmp_path / "straight", steps_per_call=2)
    die_at(monkeypatch, checkpoint, "save", 3)
    with pytest.raises(Died):
        run(tmp_path / "broken", steps_per_call=2, checkpoint_minutes=1e-9)
    monkeypatch.undo()
    assert small_runs.newest(tmp_path / "broken").step == 4
    run(tmp_path / "broken", steps_per_call=2)
    assert_same_bits(tmp_path / "broken", tmp_path / "straight")


def test_a_search_resumes_with_another_number(quick, undisturbed, tmp_path, monkeypatch):
    signal_after_step(monkeypatch, 8, 2)
    with pytest.raises(Interrupted):
        run(tmp_path / "run")
    monkeypatch.undo()
    _, shown = run(tmp_path / "run", steps_per_call=2)
    assert "after step 8" in shown
    assert_close(tmp_path / "run", undisturbed)


@pytest.mark.parametrize("parallel", ["shard", "pmap"])
def test_two_devices_take_several_steps_together(parallel, quick, undisturbed, tmp_path):
    run(tmp_path / "run", steps_per_call=5, devices=2, parallel=parallel)
    assert_close(tmp_path / "run", undisturbed)


def test_several_seeds_take_several_steps(undisturbed, tmp_path):
    run_seeds(tmp_path, steps_per_call=5, devices=2, **PLAIN)
    run(tmp_path / "alone", seed=2)
    for seed, reference in (("seed0", undisturbed), ("seed2", tmp_path / "alone")):
        assert_close(tmp_path / seed, reference)


def test_methods_with_two_kinds_of_steps(quick, tmp_path):
    for name, steps in (("single", 1), ("several", 2)):
        run(tmp_path / name, steps_per_call=steps, alphas_from=1, padding=1)
    assert_close(tmp_path / "several", tmp_path / "single")


def test_images_of_the_host_are_refused(quick, tmp_path):
    with pytest.raises(
        InputError, match=r"^--steps-per-call is 5, and the host hands over the images of each step; give"
    ):
        run(tmp_path / "run", steps_per_call=5, images_on="host")
    assert not (tmp_path / "run").exists()


def test_a_training_and_a_search_on_text_take_several_steps(user_settings, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        small_train.quicken(patch.setattr)
        for name, steps in (("train", 1), ("train several", 3)):
            small_train.run(tmp_path / name, steps_per_call=steps, **small_train.PLAIN)
    assert_records_close(tmp_path / "train several", tmp_path / "train")
    for name, steps in (("text", 1), ("text several", 3)):
        small_language.run_search(tmp_path / name, steps_per_call=steps, hypergradient="first_order", nodes=1)
    assert_records_close(tmp_path / "text several", tmp_path / "text")
