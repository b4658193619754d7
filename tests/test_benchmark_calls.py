"""The benchmark of several steps in one call."""

from types import SimpleNamespace

import calls
import pytest
from harness import clock
from harness.clock import Seconds

from jdarts.errors import InputError


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["--steps", "1"], "--steps is 1; give 2 or more"), (["--rounds", "0"], "--rounds is 0; give 1 or more")],
)
def test_wrong_options_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        calls.main(arguments)


def test_times_are_those_of_a_step_and_their_ratio_is_of_medians(monkeypatch, capsys):
    alone = [Seconds(0.4, 0.5), Seconds(0.2, 0.5), Seconds(0.3, 0.5)]
    ways = alone, [Seconds(0.15, 0.4), Seconds(0.15, 0.4), Seconds(0.9, 0.4)]
    monkeypatch.setattr(calls, "measure", lambda config, name: ways)
    calls.main(["--hypergradients", "exact", "--steps", "4"])
    *_, row = capsys.readouterr().out.splitlines()
    assert row.split(" | ")[1:4] == ["0.30 s (0.20 s to 0.40 s)", "0.15 s (0.15 s to 0.90 s)", "0.50"]
    assert row.endswith("| 0.80 |")


def test_work_of_several_steps_counts_by_the_step(monkeypatch):
    seconds = {"clock": 10.0, "processors": 3.0}
    clocks = SimpleNamespace(perf_counter=lambda: seconds["clock"], process_time=lambda: seconds["processors"])
    monkeypatch.setattr(clock, "time", clocks)

    def work() -> None:
        seconds["clock"] += 8
        seconds["processors"] += 2

    assert clock.seconds_of(work, 4) == (2, 0.5)
