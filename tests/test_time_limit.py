"""A command with a time limit ends at a checkpoint, and its pieces end with the bits of an undisturbed run."""

import pytest
import small_language
import small_pipeline
import small_train
from small_runs import finish, newest, undisturbed_run, user_settings
from small_search import PLAIN, SETTINGS, STEPS, assert_same_bits, quick, searches, start

from jdarts.errors import InputError
from jdarts.pipeline import PipelineConfig
from jdarts.runs import Interrupted
from jdarts.runs.time_limit import TIME_IS_UP, TimeLimit, limited, seconds_of, time_limit
from jdarts.search import SearchConfig

__all__ = ["quick", "user_settings"]

_, run = searches({**SETTINGS, **PLAIN})
undisturbed = undisturbed_run(run)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("2h", 7200), ("1h30m", 5400), (" 1H0m5s ", 3605)]
)
def test_a_time_is_a_number_of_hours_minutes_and_seconds(text, seconds):
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "m", "0s", "-5m", "1.5h", "30s1h", "ten minutes", "5d", "9" * 40 + "h"])
def test_another_text_is_refused_with_examples(text):
    with pytest.raises(InputError, match=r"^--time-limit is '.*; give hours, minutes and seconds such as 90s, 10m"):
        SearchConfig(time_limit=text).check()


def test_runs_within_a_limited_command_share_its_limit():
    assert time_limit() is None
    with limited("10m"):
        outer = time_limit()
        assert outer is not None and not outer.is_over
        with limited("1s"):
            assert time_limit() is outer
    assert time_limit() is None


def over_at_every(count, monkeypatch):
    """Lets the time be over at every so many questions."""
    asked = []

    def is_over(limit):
        asked.append(1)
        return len(asked) % count == 0

    monkeypatch.setattr(TimeLimit, "is_over", property(is_over))


def in_pieces(run):
    """Runs again until the end; returns the number of pieces."""
    for piece in range(1, 100):
        try:
            run()
            return piece
        except Interrupted as stopped:
            assert stopped.exit_code == TIME_IS_UP
    raise AssertionError


@pytest.mark.parametrize("every", [1, 3])
def test_the_pieces_of_a_search_are_an_undisturbed_one(every, quick, undisturbed, tmp_path, monkeypatch):
    over_at_every(every, monkeypatch)
    folder = tmp_path / "run"
    # The last step of an epoch is followed by its evaluation, and the last epoch by the end.
    assert in_pieces(lambda: run(folder, time_limit="1h")) == (STEPS if every == 1 else 4)
    assert_same_bits(folder, undisturbed)


def test_a_limited_command_saves_says_how_to_resume_and_ends_with_its_code(tmp_path):
    folder = tmp_path / "run"
    process = start(folder, **PLAIN, epochs=100_000, checkpoint_minutes=1000, time_limit="1s")
    code, out, err = finish(process)
    assert (code, err) == (TIME_IS_UP, "stopped by --time-limit\n")
    assert out.splitlines()[-1] == f"saved {newest(folder).path}; run the same command to resume"


def test_a_training_and_a_search_on_text_end_at_the_limit_too(user_settings, tmp_path, monkeypatch):
    over_at_every(2, monkeypatch)
    with pytest.MonkeyPatch.context() as patch:
        small_train.quicken(patch.setattr)
        with pytest.raises(Interrupted):
            small_train.run(tmp_path / "train", time_limit="1h")
    assert newest(tmp_path / "train").step == 2
    with pytest.raises(Interrupted):
        small_language.run_search(tmp_path / "text", time_limit="1h", hypergradient="first_order", nodes=1)
    assert newest(tmp_path / "text").step == 2


def test_no_run_of_a_pipeline_begins_after_the_limit(user_settings, tmp_path, monkeypatch):
    begun = []
    begin = TimeLimit.begin_run
    monkeypatch.setattr(TimeLimit, "begin_run", lambda limit: begun.append(1) or begin(limit))
    # It is over while the first search runs to its end: a run asks within epochs alone, but for its last.
    monkeypatch.setattr(TimeLimit, "is_over", property(lambda limit: len(begun) > 1))
    with pytest.MonkeyPatch.context() as patch:
        small_pipeline.quicken(patch.setattr)
        with pytest.raises(Interrupted) as stopped:
            small_pipeline.run(tmp_path / "run", time_limit="1h")
    assert stopped.value.exit_code == TIME_IS_UP
    for left in ("summary.json", "."):
        assert [name for name in small_pipeline.RUNS if (tmp_path / "run" / name / left).exists()] == ["searches/seed3"]


def test_the_runs_of_a_pipeline_take_no_separate_limit():
    with pytest.raises(InputError, match=r"--search\.time-limit has no effect within a pipeline; give --time-limit"):
        PipelineConfig(search=SearchConfig(time_limit="1m")).check()
