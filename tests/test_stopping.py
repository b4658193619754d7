"""Runs that end early: for a stored reason, with the state of the last or of an earlier epoch, wherever they are killed."""

import json
import shutil

import pytest
import small_runs
from small_runs import newest, user_settings
from small_search import PLAIN, SETTINGS, STEPS_PER_EPOCH, assert_same_bits, quick, searches

from jdarts import InputError, checkpoint
from jdarts.derivation import derive_genotype
from jdarts.genotype import parse_genotype
from jdarts.methods import stopping
from jdarts.methods.stopping import Stop, StoppingRule
from jdarts.runs.folder import RunFolder
from jdarts.search import search, search_seeds, summary

__all__ = ["quick", "user_settings"]

EPOCHS = 4
config, run = searches({**SETTINGS, **PLAIN})


def rolling_back(history):
    """Stops after the third epoch with the state of the first."""
    return Stop("three epochs are enough", 1) if len(history) == 3 else None


def stopping_after_three(history):
    return Stop("three epochs are enough", 3) if len(history) == 3 else None


RULES = {
    "last": lambda: StoppingRule(stopping_after_three),
    "rolls_back": lambda: StoppingRule(rolling_back, reach=2),
    "never": lambda: StoppingRule(lambda history: None, reach=1),
}


@pytest.fixture(scope="module")
def rules():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stopping, "RULES", {**stopping.RULES, **RULES})
        yield


@pytest.fixture(scope="module", params=["last", "rolls_back"])
def stopped(request, quick, rules, tmp_path_factory):
    """Name of a rule, and the folder of a search that it has ended undisturbed."""
    folder = tmp_path_factory.mktemp(request.param)
    return request.param, folder, run_with(folder, request.param)


def run_with(folder, rule, **changes):
    return run(folder, epochs=EPOCHS, stop=rule, **changes)


def test_the_reason_is_stored_and_shown_and_reported_again(stopped):
    rule, folder, (result, shown) = stopped
    kept = {"reason": "three epochs are enough", "epoch": 1 if rule == "rolls_back" else 3}
    found = newest(folder)
    assert (found.step, found.record["epochs_ended"], found.record["stopped"]) == (3 * STEPS_PER_EPOCH, 3, kept)
    written = json.loads((folder / "summary.json").read_text())
    assert (written["stopped"], written["epochs"], written["steps"]) == (kept, 3, 3 * STEPS_PER_EPOCH)
    text = "three epochs are enough" + ("; the result is that of epoch 1" if rule == "rolls_back" else "")
    assert f"the search stops after epoch 3: {text}" in shown
    assert f"stopped early: {text}" in shown.splitlines()
    again, shown = run_with(folder, rule)
    assert f"stopped early: {text}" in shown.splitlines()
    assert "has finished" in shown
    assert again.genotype == result.genotype
    assert summary.read(RunFolder(folder)).stopped == Stop(**kept)


def test_the_result_is_that_of_the_epoch_that_the_rule_names(stopped):
    rule, folder, (result, _) = stopped
    epoch = 1 if rule == "rolls_back" else 3
    written = parse_genotype((folder / f"genotypes/epoch_{epoch:03d}.json").read_text())
    assert result.genotype == written
    found = newest(folder)
    space = config(folder).search_space
    alphas = {kind: found.record["alphas"][kind] for kind in ("normal", "reduce")}
    assert {kind: each.tolist() for kind, each in result.alphas.items()} == alphas
    assert derive_genotype(result.alphas, space, edges_per_node=2) == result.genotype
    record = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert record["epoch/number"] == 3
    evaluated = [
        each["epoch/evaluation_accuracy"] for each in small_runs.records(folder) if each.get("epoch/number") == epoch
    ]
    assert evaluated == [result.valid_accuracy]


def test_a_death_at_any_change_of_a_file_is_followed_by_the_same_end(stopped, tmp_path):
    """Before every ninth change that is made below the folder, until the search gets through."""
    rule, reference, _ = stopped

    folder = tmp_path / "run"

    def check(ended):
        assert "stopped early: three epochs are enough" in ended[1]
        assert_same_bits(folder, reference)

    changes = small_runs.resume_before_every_ninth_change(folder, lambda: run_with(folder, rule), check)
    assert changes > 40


def test_a_run_that_has_stopped_is_not_searched_on(stopped, tmp_path):
    """Its last checkpoint is there, and its summary is not."""
    rule, reference, (result, _) = stopped
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    (folder / "summary.json").unlink()
    again, shown = run_with(folder, rule)
    assert "epoch 4" not in shown
    assert again.genotype == result.genotype
    assert_same_bits(folder, reference)


def test_a_rule_that_does_not_fire_changes_no_bit(quick, rules, tmp_path):
    run_with(tmp_path / "never", "never")
    run_with(tmp_path / "none", None)
    small_runs.assert_same_bits(tmp_path / "never", tmp_path / "none", ["genotype.json", "normal.svg"])
    # Without a rule nothing of it is stored.
    record = newest(tmp_path / "none").record
    assert not {"history", "stopped"} & record.keys()
    assert "stopped" not in json.loads((tmp_path / "none/summary.json").read_text())
    history = newest(tmp_path / "never").record["history"]
    assert [each["number"] for each in history] == list(range(1, EPOCHS + 1))
    assert {"train/loss", "evaluation/accuracy"} < history[0]["numbers"].keys()
    assert history[0]["facts"].keys() == {"alphas", "genotype", "ranking"}


def test_checkpoints_that_a_rule_may_roll_back_to_stay(quick, rules, tmp_path, monkeypatch):
    """However many checkpoints lie between them: here one after each step, of which two are kept."""
    monkeypatch.setitem(stopping.RULES, "far", lambda: StoppingRule(rolling_back, reach=2))
    settings = {"checkpoint_minutes": 1e-9, "keep_checkpoints": 2}
    result, _ = run_with(tmp_path / "run", "far", **settings)
    # Those that the rule no longer needs are gone.
    assert checkpoint.steps(tmp_path / "run/checkpoints") == [15, 14]
    other, _ = run_with(tmp_path / "other", "rolls_back")
    assert {kind: each.tolist() for kind, each in result.alphas.items()} == {
        kind: each.tolist() for kind, each in other.alphas.items()
    }


def test_a_checkpoint_that_is_lost_is_named(quick, rules, tmp_path, monkeypatch):
    save = checkpoint.save

    def losing(folder, step, *arguments, **options):
        if step == 2 * STEPS_PER_EPOCH:
            shutil.rmtree(folder / "step_00000005")
        return save(folder, step, *arguments, **options)

    monkeypatch.setattr(checkpoint, "save", losing)
    with pytest.raises(InputError, match=r"cannot roll back to epoch 1: .*step_00000005.*; start another --run-dir"):
        run_with(tmp_path / "run", "rolls_back")


def test_a_damaged_reason_is_refused(stopped, tmp_path):
    rule, reference, _ = stopped
    folder = tmp_path / "run"
    shutil.copytree(reference, folder)
    path = folder / "summary.json"
    path.write_text(path.read_text().replace('"reason"', '"season"'))
    with pytest.raises(InputError, match=r"summary.json is damaged \(reason is missing\)"):
        run_with(folder, rule)


def test_rules_that_do_not_fit_are_refused(tmp_path, rules):
    with pytest.raises(InputError, match=r"--stop is 'soon'; give adaptive_decay or eigenvalue or last"):
        search(config(tmp_path / "run", stop="soon"))
    with pytest.raises(InputError, match=r"--stop last may end each search .*leave one of the two out"):
        search_seeds(config(tmp_path / "run", stop="last", seeds="0-1"))
    assert list(tmp_path.iterdir()) == []
