"""Rules that start a search again from an earlier epoch with other controls (DARTS-ADA)."""

import numpy as np
import pytest
import small_runs
from small_runs import newest, user_settings
from small_search import PLAIN, SETTINGS, STEPS_PER_EPOCH, assert_same_bits, quick, searches

from jdarts.methods import stopping
from jdarts.methods.stopping import WEIGHT_DECAY, RollBack, StoppingRule

__all__ = ["quick", "user_settings"]

EPOCHS = 3
_, run = searches({**SETTINGS, **PLAIN})


def once(history):
    """After the second epoch back to the first with ten times the weight decay."""
    decay = history[-1].numbers[WEIGHT_DECAY]
    return RollBack("a test", 1, {WEIGHT_DECAY: 10 * decay}) if len(history) == 2 and decay < 1e-3 else None


@pytest.fixture(scope="module")
def rule(quick):
    with pytest.MonkeyPatch.context() as patch:
        found = StoppingRule(once, reach=1, changes=(WEIGHT_DECAY,))
        patch.setattr(stopping, "RULES", {**stopping.RULES, "once": lambda: found})
        yield


def run_with(folder, **changes):
    return run(folder, **{"epochs": EPOCHS, "stop": "once", **changes})


@pytest.fixture(scope="module")
def rolled_back(rule, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rolled_back")
    return folder, run_with(folder)[1]


def epochs(folder):
    return [each for each in small_runs.records(folder) if "epoch/number" in each]


def test_a_search_starts_again_with_other_controls(rolled_back, tmp_path):
    folder, shown = rolled_back
    assert "the search starts again from epoch 1 with weight_decay 0.003: a test" in shown
    assert [each["epoch/number"] for each in epochs(folder)] == [1, 2, 3]
    decays = [each["epoch/controls_weight_decay"] for each in epochs(folder)]
    np.testing.assert_allclose(decays, [3e-4, 3e-3, 3e-3], rtol=1e-12)
    expected = {"reason": "a test", "after": 2, "epoch": 1, WEIGHT_DECAY: pytest.approx(3e-3)}
    assert newest(folder).record["rollbacks"] == [expected]
    assert len(newest(folder).record["history"]) == EPOCHS
    # The first epoch is that of a search without the rule, and the rest is not.
    run_with(tmp_path, stop=None)
    ours, plain = epochs(folder), epochs(tmp_path)
    assert ours[0]["epoch/train_loss"] == plain[0]["epoch/train_loss"]
    assert ours[1]["epoch/train_loss"] != plain[1]["epoch/train_loss"]
    steps = [each["step"] for each in small_runs.records(folder)]
    assert sorted(steps) == steps
    assert steps[-1] == EPOCHS * STEPS_PER_EPOCH


def test_a_death_at_any_change_of_a_file_is_followed_by_the_same_end(rolled_back, tmp_path):
    reference, _ = rolled_back
    folder = tmp_path / "run"

    def check(ended):
        del ended
        assert_same_bits(folder, reference)

    assert small_runs.resume_before_every_ninth_change(folder, lambda: run_with(folder), check) > 40
