"""A search in the user's own network with a budget: its choices keep it, the penalty grows, and it resumes with the same bits."""

import json

import jax
import numpy as np
import pytest
import small_runs
from small_runs import Died, assert_same_bits, die_at, leave_undrawn, newest, user_settings, with_stand_ins
from test_own_network import NETWORK, SETTINGS, Network

import jdarts
from jdarts import checkpoint
from jdarts.nets.counts import count_weights
from jdarts.report import read_metrics
from jdarts.search import SearchConfig, search

__all__ = ["undrawn", "user_settings"]
undrawn = with_stand_ins(leave_undrawn)
pytestmark = pytest.mark.usefixtures("undrawn", "user_settings")

#: The decided network has 318 weights, and 20 more for each block that is dense.
BUDGET = {"max_weights": "330", "budget_rate": 40.0, "alpha_learning_rate": 0.2}


def run(folder, **changes):
    config = SearchConfig(run_dir=folder, **{**SETTINGS, **BUDGET, "epochs": 3, "seed": 2, **changes})
    return small_runs.result_and_text(search, config, network=NETWORK)


@pytest.fixture(scope="module")
def bounded(tmp_path_factory, undrawn):
    return run(tmp_path_factory.mktemp("bounded") / "run")


def test_the_choices_keep_the_bound(bounded):
    result, shown = bounded
    images = np.zeros((1, 8, 8, 1), np.float32)
    variables = NETWORK.init({"params": jax.random.key(0)}, images, train=False)
    small, kept = jdarts.decided(NETWORK, result.choices, dict(variables), images, train=False)
    assert isinstance(small, Network)
    has = count_weights(kept["params"])
    assert has == result.budget["weights"]["cost"] <= 330 == result.budget["weights"]["most"]
    assert f"{has} weights, within the bound of 330 weights" in shown and "(the decided Network)" in shown
    summary = json.loads((result.folder / "summary.json").read_text())
    assert summary["budget"]["weights"]["cost"] == has
    again, _ = run(result.folder)
    assert again.budget == result.budget and again.choices == result.choices


def test_the_penalty_grows_with_what_the_alphas_alone_would_choose(bounded):
    result, _ = bounded
    epochs = [each for each in read_metrics(result.folder) if "epoch/budget_weights" in each]
    assert len(epochs) == 3
    before = 0.0
    for each in epochs:
        assert each["epoch/budget_weights"] <= 330
        before = max(0.0, before + 40 * (each["epoch/budget_weights_without_bounds"] / 330 - 1))
        assert each["epoch/budget_multiplier_weights"] == pytest.approx(before, rel=1e-5, abs=1e-6)
    assert any("hypergradient/penalty_weights" in each for each in read_metrics(result.folder))


def test_a_search_that_dies_has_the_bits_of_an_undisturbed_one(bounded, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        die_at(patch, checkpoint, "save", 2)
        with pytest.raises(Died):
            run(tmp_path / "run")
    assert newest(tmp_path / "run").record["budget"]["limits"][0]["most"] == 330
    # The costs of the run hold, not those that would be counted now.
    monkeypatch.setattr("jdarts.search.own_budget.choice_costs", lambda *_, **__: pytest.fail("counted again"))
    run(tmp_path / "run", max_weights=330)
    assert_same_bits(tmp_path / "run", bounded[0].folder, ["curves.png"])
