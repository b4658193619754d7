"""The comparison of foretold and measured latencies: what it compares, and how it says it. Nothing is measured here."""

import json

import latency
import pytest

from jdarts.budget.cost import MILLISECOND
from jdarts.budget.counting import counted_costs
from jdarts.derivation import sample_genotype
from jdarts.errors import InputError
from jdarts.space import darts_space


def test_the_shortest_times_are_ranked_beside_the_foretold_ones(monkeypatch, tmp_path, capsys):
    space = darts_space()
    foretold = {}

    def cost(of, network):
        foretold["cost"] = counted_costs(of, network)["weights"]
        return foretold["cost"]

    def measured(calls, rounds):
        predicted = [foretold["cost"].of(each, space) for each in calls]
        # The first round is disturbed, the others have the order of what was foretold.
        return [[1.0, *(2e-9 * each + 1e-9 * number for number in range(rounds - 1))] for each in predicted]

    monkeypatch.setattr(latency, "latency_cost", cost)
    monkeypatch.setattr(latency, "network_call", lambda genotype, network: genotype)
    monkeypatch.setattr(latency, "interleaved_seconds", measured)
    path = tmp_path / "found.json"
    given = ["--count", "5", "--seed", "3", "--channels", "4", "--cells", "3", "--rounds", "4", "--json", str(path)]
    monkeypatch.setattr("sys.argv", ["latency.py", *given])
    latency.main()
    found = json.loads(path.read_text())
    assert [each["seed"] for each in found["cells"]] == [3, 4, 5, 6, 7]
    assert found["rank_correlation"]["shortest"] == pytest.approx(1)
    for each in found["cells"]:
        predicted = foretold["cost"].of(sample_genotype(space, each["seed"]), space)
        assert each["predicted_ms"] == predicted / MILLISECOND
        assert each["shortest_ms"] == pytest.approx(2e-6 * predicted)
        assert each["shortest_ms"] < each["median_ms"]
    shown = capsys.readouterr().out
    assert "4 channels, 3 cells" in shown and "1.000 by the shortest of 4 rounds" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--count", "1"], "--count is 1; give 2 or more"),
        (["--json", "no/such/x"], "--json no/such/x: there is no folder"),
        (["--json", "."], "--json . is a folder; give a file in it"),
        (["--json", "x" * 5000], "File name too long; give another file"),
    ],
)
def test_wrong_options_are_refused(monkeypatch, arguments, message):
    monkeypatch.setattr("sys.argv", ["latency.py", *arguments])
    with pytest.raises(InputError, match=message):
        latency.main()
