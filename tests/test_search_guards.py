"""What a search measures about itself: numbers of its epochs, rules that read them, the verdict in the summary."""

import functools
import json
from typing import Any

import jax
import numpy as np
import pytest
import small_runs
from small_runs import user_settings
from small_search import PLAIN, SETTINGS, quick, searches
from test_search_seeds import run_seeds

from jdarts import data
from jdarts.bilevel import alpha_hessian
from jdarts.bilevel.curvature import ROBUST_DARTS_DECAY
from jdarts.errors import InputError
from jdarts.methods.stopping import stopping_rule
from jdarts.runs import guards
from jdarts.runs.devices import Devices
from jdarts.runs.guards import CURVATURE, FORESIGHT, Guards
from jdarts.search.building import search_task

__all__ = ["quick", "user_settings"]

WITHOUT_AUGMENTATION = {"padding": 0}
config, run = searches({**SETTINGS, **WITHOUT_AUGMENTATION})
MEASURED = {"eigenvalue_every": 1, "foresight_every": 2}


def epochs(folder):
    return [each for each in small_runs.records(folder) if "epoch/number" in each]


@pytest.fixture(scope="module")
def measured(quick, tmp_path_factory):
    folder = tmp_path_factory.mktemp("measured")
    _, shown = run(folder, epochs=3, **MEASURED)
    return folder, shown


def test_numbers_of_the_epochs(measured):
    folder, shown = measured
    found = epochs(folder)
    for record in found:
        assert record["epoch/guards_eigenvalue"] > 0
        assert record["epoch/guards_eigenvalue_residual"] < 1e-3
        assert 0 <= record["epoch/guards_decided_normal"] <= 1
        assert record["epoch/guards_margin_reduce"] >= 0
    lines = [line for line in shown.splitlines() if line.startswith("epoch ") and "evaluation" in line]
    assert ["hypergradient slope" in line and "hypergradient correlation" in line for line in lines] == [
        True,
        False,
        True,
    ]
    assert ["guards eigenvalue" in line and "margin" not in line for line in lines] == [True] * 3
    assert ["epoch/guards_hypergradient_slope" in record for record in found] == [True, False, True]
    assert ["epoch/guards_changed_normal" in record for record in found] == [False, True, True]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["verdict"]["decided"] in (True, False)
    assert summary["verdict"]["text"][0] in shown
    # A finished run tells it again.
    assert summary["verdict"]["text"][0] in run(folder, epochs=3, **MEASURED)[1]


def test_measuring_changes_no_bit_and_survives_a_death(measured, tmp_path, monkeypatch):
    folder, _ = measured
    run(tmp_path / "plain", epochs=3)
    first, second = (small_runs.leaves(path) for path in (tmp_path / "plain", folder))
    assert first == second
    small_runs.die_at(monkeypatch, small_runs.checkpoint, "save", 2)
    with pytest.raises(small_runs.Died):
        run(tmp_path / "dead", epochs=3, **MEASURED)
    monkeypatch.undo()
    run(tmp_path / "dead", epochs=3, **MEASURED)
    without_time = [[{**each, "time": 0} for each in epochs(path)] for path in (tmp_path / "dead", folder)]
    assert without_time[0] == without_time[1]


def test_each_seed_has_its_numbers(measured, tmp_path):
    folder, _ = measured
    run_seeds(tmp_path, seeds="0,2", epochs=3, **WITHOUT_AUGMENTATION, **MEASURED)
    first, second = epochs(tmp_path / "seed0"), epochs(tmp_path / "seed2")
    for ours, alone in zip(first, epochs(folder), strict=True):
        guards = [name for name in alone if "guards" in name]
        assert guards == [name for name in ours if "guards" in name]
        for name in guards:
            # Differences between losses of float32, which several searches together may round in another way.
            tolerance = 0.1 if "hypergradient" in name else 0.01
            assert ours[name] == pytest.approx(alone[name], rel=tolerance, abs=1e-6)
    assert first[0]["epoch/guards_eigenvalue"] != second[0]["epoch/guards_eigenvalue"]


def test_a_rule_reads_its_measurements(quick, tmp_path):
    folder = tmp_path / "run"
    _, shown = run(folder, epochs=9, **PLAIN, stop="eigenvalue:every=1,ratio=1e-9,first=0")
    assert "stopped early: the largest eigenvalue of the alphas' Hessian has grown" in shown
    history = small_runs.newest(folder).record["history"]
    assert [each["numbers"]["guards/eigenvalue"] > 0 for each in history] == [True] * len(history)
    assert json.loads((folder / "summary.json").read_text())["stopped"]["epoch"] == len(history) - 6


def test_rules_bring_their_measurements():
    assert Guards().every(None) == {}
    assert Guards().every(stopping_rule("eigenvalue")) == {CURVATURE: 2}
    assert Guards(3, 5).every(stopping_rule("eigenvalue:every=4")) == {CURVATURE: 4, FORESIGHT: 5}


def test_the_eigenvalue_is_that_of_the_whole_hessian_on_the_last_batch(quick, tmp_path):
    settings = config(tmp_path, eigenvalue_every=1)
    task = search_task(settings, data.load("digits"), Devices(1, "shard"))
    functions = {name: jax.jit(program.function) for name, program in task.programs.items()}
    state = task.initial(functions)
    calls = list(task.calls(functions, state, 0, 0))
    for call in calls:
        state, _ = functions[call.program](state, *call.inputs)
    found = task.measured(functions, state, 1)["guards/eigenvalue"]
    loss = _loss(task, state, calls[-1].inputs)
    hessian = jax.jit(functools.partial(alpha_hessian, loss, weight_decay=ROBUST_DARTS_DECAY))(state.bilevel.alphas)
    np.testing.assert_allclose(found, np.linalg.eigvalsh(hessian)[-1], rtol=1e-4)


def _loss(task, state, inputs):
    """The loss whose curvature the task's program measures."""
    seen: list[Any] = []

    def kept(loss, *_, **__):
        seen.append(loss)
        raise StopIteration

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guards, "largest_eigenvalue", kept)
        with pytest.raises(StopIteration):
            task.programs[CURVATURE].function(state, *inputs)
    return seen[0]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"eigenvalue_every": -1}, "--eigenvalue-every is -1; give 0 or more"),
        ({"stop": "eigenvalue:every=0"}, "eigenvalue: every is 0"),
        ({"select": "best"}, "the selection is 'best'; give argmax"),
        ({"neumann_terms": 3}, "give --hypergradient neumann"),
    ],
)
def test_settings_that_do_not_fit_are_refused(tmp_path, settings, message):
    with pytest.raises(InputError, match=message):
        config(tmp_path, **settings).check()
