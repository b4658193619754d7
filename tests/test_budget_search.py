"""Searches with a budget: all epochs keep it, the penalty grows until the alphas do, a resumed search has the same bits."""

import json

import pytest
from small_runs import Died, die_at, leaves, newest, records, user_settings
from small_search import PLAIN, SETTINGS, assert_same_bits, quick, searches
from test_search_devices import assert_close
from test_search_seeds import run_seeds

from jdarts import checkpoint
from jdarts.budget.flags import BoundFlags, NetworkFlags, budget_of
from jdarts.derivation import genotype_of
from jdarts.describe import describe
from jdarts.errors import InputError
from jdarts.genotype import Genotype, parse_genotype
from jdarts.search import SearchConfig
from jdarts.space import SearchSpace

__all__ = ["quick", "user_settings"]
pytestmark = pytest.mark.usefixtures("quick")

#: Bounds are the same with every hypergradient and with every image.
config, run = searches({**SETTINGS, **PLAIN})
#: A network whose cells have 830 to 2,118 weights and 24,480 to 38,688 multiply-adds.
SIZE = {"budget_channels": 4, "budget_cells": 3}
BUDGET = {"max_weights": "1.2k", **SIZE}
FAST = {"alpha_learning_rate": 0.3, "epochs": 3}


def weights_of(genotype):
    return describe(genotype, "cifar", channels=4, cells=3, classes=10, image_size=8, image_channels=1).to_json()[
        "params"
    ]


def epochs_of(folder):
    return [each for each in records(folder) if "epoch/number" in each]


@pytest.fixture(scope="module")
def bounded(quick, tmp_path_factory):
    """A search whose penalty is strong enough for its few steps."""
    folder = tmp_path_factory.mktemp("bounded")
    result, shown = run(folder, **BUDGET, **FAST, budget_rate=30.0)
    return folder, result, shown


def test_the_cells_of_every_epoch_keep_the_bound(bounded):
    folder, result, _ = bounded
    for path in sorted((folder / "genotypes").glob("*.json")):
        assert weights_of(parse_genotype(path.read_text())) <= 1200
    assert weights_of(result.genotype) <= 1200
    record = newest(folder).record
    assert genotype_of(record) == result.genotype
    space = SearchSpace(**record["space"])
    stands = budget_of(BoundFlags(), NetworkFlags(), record, space)
    assert stands is not None and stands.limits[0].cost.of(result.genotype, space) == weights_of(result.genotype)


def test_the_penalty_grows_until_the_alphas_keep_the_bound(bounded, tmp_path):
    folder, _, shown = bounded
    numbers = epochs_of(folder)
    excess = [each["epoch/budget_weights_without_bounds"] / 1200 - 1 for each in numbers]
    multipliers = [each["epoch/budget_multiplier_weights"] for each in numbers]
    before = 0.0
    for share, multiplier in zip(excess, multipliers):
        assert multiplier == pytest.approx(max(0.0, before + 30 * share), rel=1e-5)
        before = multiplier
    assert excess[0] > 0 >= excess[-1]
    assert "weights exceeds 1,200 weights, multiplier" in shown and "weights keeps 1,200 weights, multiplier" in shown
    run(tmp_path, **BUDGET, **FAST, budget_rate=0.0)
    without = epochs_of(tmp_path)
    assert without[-1]["epoch/budget_weights_without_bounds"] > 1200 >= without[-1]["epoch/budget_weights"]
    assert not any("multiplier" in name or "penalty" in name for each in records(tmp_path) for name in each)


def test_the_summary_says_how_the_network_stands(bounded):
    folder, result, shown = bounded
    summary = json.loads((folder / "summary.json").read_text())
    stands = summary["verdict"]["budget"]["weights"]
    assert stands["most"] == 1200 and stands["cost"] == weights_of(result.genotype)
    line = f"{stands['cost']:,} weights, within the bound of 1,200 weights"
    assert summary["verdict"]["text"][0].startswith(line) and line in shown


def test_a_search_that_dies_has_the_bits_of_an_undisturbed_one(bounded, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        die_at(patch, checkpoint, "save", 2)
        with pytest.raises(Died):
            run(tmp_path, **BUDGET, **FAST, budget_rate=30.0)
    assert newest(tmp_path).step == 5
    # Written otherwise, it is the same bound.
    _, shown = run(tmp_path, **{**BUDGET, "max_weights": 1200}, **FAST, budget_rate=30.0)
    assert "after step 5" in shown
    assert_same_bits(tmp_path, bounded[0])
    assert leaves(tmp_path) == leaves(bounded[0])


def test_seeds_at_once_have_their_own_multipliers(tmp_path):
    settings = {**BUDGET, "alpha_learning_rate": 0.3, "budget_rate": 3.0}
    for seed in (0, 2):
        run(tmp_path / "alone" / f"seed{seed}", seed=seed, **settings)
    run_seeds(tmp_path / "at once", **PLAIN, **settings)
    for seed in (0, 2):
        assert_close(tmp_path / "at once" / f"seed{seed}", tmp_path / "alone" / f"seed{seed}")


def test_two_bounds(tmp_path):
    result, _ = run(tmp_path, **BUDGET, max_multiply_adds="30k", epochs=1)
    found = describe(
        result.genotype, "cifar", channels=4, cells=3, classes=10, image_size=8, image_channels=1
    ).to_json()
    assert found["params"] <= 1200 and found["multiply_adds"] <= 30_000
    assert isinstance(result.genotype, Genotype)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_weights": "lots"}, "--max-weights: 'lots' is no amount; give a whole number such as 400000, 400k, 0.4M"),
        ({"max_latency_ms": -1.0}, "--max-latency-ms is -1.0; give a number above 0"),
        ({"budget_channels": 4}, "--budget-channels is 4 without a bound that would read it; give --max-weights, such as 0.4M"),
        ({"budget_rate": -1.0, **BUDGET}, "--budget-rate is -1.0; give 0 or more"),
        ({"select": "pairs", **BUDGET}, "--select pairs does not keep bounds on the network; give --select argmax, or leave "
         "--max-weights out"),
    ],
)  # fmt: skip
def test_what_is_refused(settings, message, tmp_path):
    with pytest.raises(InputError) as refused:
        config(tmp_path / "run", **settings).check()
    assert str(refused.value).startswith(message)


def test_a_bound_that_no_cells_keep_is_refused_before_the_first_step(tmp_path):
    with pytest.raises(
        InputError, match=r"the bound is 100 weights, and the smallest network of such cells has \d+ weights"
    ):
        run(tmp_path / "run", **{**BUDGET, "max_weights": 100})
    assert not (tmp_path / "run").exists()


def test_amounts_are_numbers_in_the_settings():
    assert SearchConfig(max_weights="0.4M") == SearchConfig(max_weights="400k") == SearchConfig(max_weights=400_000)
    assert SearchConfig(max_weights="0.4M").to_json()["max_weights"] == 400_000
