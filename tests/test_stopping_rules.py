"""The rules that end a search early, on histories without a network, and RobustDARTS's own decisions."""

from typing import Any

import numpy as np
import pytest
from fixtures_folder import fixture_files

from jdarts.errors import InputError
from jdarts.methods import stopping
from jdarts.methods.stopping import EIGENVALUE, WEIGHT_DECAY, Epoch, RollBack, Stop, stopping_rule


def decisions(rule, history) -> tuple[Any, Any]:
    """The first decision that is not None, and the number of epochs after which it is made."""
    for count in range(1, len(history) + 1):
        if (decision := rule.decide(history[:count])) is not None:
            return decision, count
    return None, None


# Skip connections.


def with_skips(counts):
    return [
        Epoch(
            number,
            {},
            {
                "genotype": {
                    "normal": [["skip_connect", 0]] * count + [["sep_conv_3x3", 1]] * (4 - count),
                    "reduce": [["skip_connect", 0]] * 4,
                }
            },
        )
        for number, count in enumerate(counts, 1)
    ]


@pytest.mark.parametrize("count, stops", [(1, False), (2, True), (3, True)])
def test_skip_connections(count, stops):
    history = with_skips([0] * 6 + [count])
    stop = stopping.skip_connections().decide(history)
    assert (stop is not None) == stops
    if stops:
        assert stop == Stop(f"the normal cell has {count} skip connections, and 2 end the search", 7)


def test_skip_connections_give_the_last_cells_or_those_before():
    history = with_skips([0, 1, 3])
    last, before = stopping.skip_connections(), stopping.skip_connections(result="before")
    assert (decisions(last, history)[0].epoch, last.reach) == (3, 0)
    assert (decisions(before, history)[0].epoch, before.reach) == (2, 1)
    # There is none before the first epoch.
    assert decisions(before, with_skips([3]))[0].epoch == 1
    assert decisions(stopping.skip_connections(limit=4), history) == (None, None)
    assert decisions(stopping.skip_connections(kind="reduce"), history)[1] == 1
    with pytest.raises(InputError, match="kind is 'other', and the cells have no such kind"):
        stopping.skip_connections(kind="other").decide(history)


# The ranking of operations.


def with_rankings(rankings):
    return [Epoch(number, {}, {"ranking": ranking}) for number, ranking in enumerate(rankings, 1)]


def test_a_ranking_that_stays_the_same_ends_the_search():
    one, other = {"normal": [[1, 2]], "reduce": [[2, 1]]}, {"normal": [[1, 2]], "reduce": [[1, 2]]}
    rule = stopping.stable_ranking(3)
    stop, count = decisions(rule, with_rankings([one] * 6))
    assert (stop, count) == (Stop("3 epochs have not changed the ranking of the operations", 4), 4)
    assert decisions(rule, with_rankings([one, one, one, other, one, one, one, one]))[1] == 8
    assert decisions(rule, with_rankings([one, other] * 6)) == (None, None)
    assert decisions(stopping.stable_ranking(), with_rankings([one] * 20))[1] == 11
    # Where nothing can be ranked, nothing is stable.
    assert decisions(rule, with_rankings([{"normal": [], "reduce": []}] * 6)) == (None, None)


# The eigenvalue.


def with_eigenvalues(values, *, every=2, epochs=50):
    """A history with the values in the epochs 1, 1 + every, …, and in the last."""
    values = iter(values)
    return [
        Epoch(
            number,
            {"valid/loss": 1.0, WEIGHT_DECAY: 3e-4}
            | ({EIGENVALUE: float(next(values))} if (number - 1) % every == 0 or number == epochs else {}),
            {},
        )
        for number in range(1, epochs + 1)
    ]


def test_a_constant_eigenvalue_never_ends_the_search():
    assert decisions(stopping.eigenvalue(), with_eigenvalues([0.3] * 26)) == (None, None)
    assert decisions(stopping.eigenvalue(), with_eigenvalues([0.0] * 26)) == (None, None)
    assert decisions(stopping.eigenvalue(), with_eigenvalues([float("nan")] * 26)) == (None, None)


def test_a_growing_eigenvalue_ends_the_search_in_epoch_22_with_epoch_10():
    """RobustDARTS counts epochs from 0."""
    rule = stopping.eigenvalue()
    stop, count = decisions(rule, with_eigenvalues([1.1**i for i in range(26)]))
    assert isinstance(stop, Stop)
    assert (count - 1, stop.epoch - 1) == (22, 10)
    assert stop.reason.startswith(
        "the largest eigenvalue of the alphas' Hessian has grown from 1.63 to 2.38, more than 1.3 times"
    )
    assert (rule.reach, rule.measured, rule.after_last) == (12, {EIGENVALUE: 2}, False)


def test_the_settings_of_the_eigenvalue():
    growing = [1.1**i for i in range(60)]
    every_epoch = with_eigenvalues(growing, every=1)
    stop, count = decisions(stopping.eigenvalue(1), every_epoch)
    assert (count - 1, stop.epoch - 1) == (16, 10)
    stop, count = decisions(stopping.eigenvalue(1, first=0), every_epoch)
    assert (count - 1, stop.epoch - 1) == (6, 0)
    # Averages of four measurements apart have the ratio 1.1⁴ = 1.4641.
    assert decisions(stopping.eigenvalue(1, ratio=1.4642), every_epoch) == (None, None)
    assert decisions(stopping.eigenvalue(1, ratio=1.464), every_epoch)[1] == 17
    with pytest.raises(InputError, match="the rule reads guards/eigenvalue, and epoch 1 has no such number"):
        stopping.eigenvalue().decide([Epoch(1, {}, {})])


each_file = pytest.mark.parametrize("path", fixture_files("robustdarts*.npz"))


@each_file
def test_the_decisions_of_robust_darts(path):
    file = np.load(path)
    measured = file["stop/measured_epochs"]
    every, epochs = int(measured[1]), int(measured[-1]) + 1
    curves = {name.split("/")[1] for name in file.files if name.startswith("stop/") and name.count("/") == 2}
    assert len(curves) >= 1
    seen = set()
    for curve in curves:
        values = file[f"stop/{curve}/eigenvalues"]
        stopped, returned = (int(file[f"stop/{curve}/{name}"]) for name in ("stopped_in_epoch", "returned_epoch"))
        rule = stopping.eigenvalue(every)
        decision, count = decisions(rule, with_eigenvalues(values, every=every, epochs=epochs)[: epochs - 1])
        seen.add(stopped >= 0)
        if stopped < 0:
            assert decision is None
        else:
            assert isinstance(decision, Stop)
            assert (count - 1, decision.epoch - 1) == (stopped, returned)
        # The file's last three averages are of the last epoch, whose measurement no decision uses.
        averages = stopping.local_averages(values[:-1].tolist())
        np.testing.assert_allclose(averages, file[f"stop/{curve}/local_averages"][: len(averages)], rtol=1e-12)
    assert True in seen


# More weight decay.


def test_more_weight_decay_from_the_epoch_that_would_be_the_result():
    rule = stopping.adaptive_decay()
    history = with_eigenvalues([1.1**i for i in range(26)])
    back, count = decisions(rule, history)
    assert isinstance(back, RollBack)
    assert (count - 1, back.epoch - 1) == (22, 10)
    assert back.controls == {WEIGHT_DECAY: pytest.approx(9e-4)}
    assert (rule.reach, rule.measured, rule.after_last) == (12, {EIGENVALUE: 2}, False)


def test_the_weight_decay_grows_four_times_and_then_the_search_ends_by_itself():
    """The loop's part, played by hand: later epochs are dropped, and the new weight decay holds from there on."""
    rule, decay, decays = stopping.adaptive_decay(), 3e-4, []
    history: list[Epoch] = []
    while len(history) < 50:
        number = len(history) + 1
        numbers = {WEIGHT_DECAY: decay} | ({EIGENVALUE: 1.1 ** (number // 2)} if number % 2 else {})
        history.append(Epoch(number, numbers, {}))
        decision = rule.decide(history)
        if isinstance(decision, RollBack):
            assert len(history) - decision.epoch == 12
            history, decay = history[: decision.epoch], decision.controls[WEIGHT_DECAY]
            decays.append(decay)
        else:
            assert decision is None
    np.testing.assert_allclose(decays, [9e-4, 27e-4, 81e-4, 243e-4])


def test_the_largest_weight_decay_is_reached_despite_rounding():
    history = with_eigenvalues([1.1**i for i in range(26)])
    decays = [each._replace(numbers={**each.numbers, WEIGHT_DECAY: 0.001 * 3.0 * 3.0}) for each in history]
    back, _ = decisions(stopping.adaptive_decay(largest=0.027), decays)
    assert back.controls == {WEIGHT_DECAY: pytest.approx(0.027)}
    assert decisions(stopping.adaptive_decay(largest=0.026), decays) == (None, None)


def test_the_weight_decay_must_be_known():
    history = [each._replace(numbers={EIGENVALUE: 1.1 ** (each.number // 2)}) for each in with_eigenvalues([0.0] * 26)]
    with pytest.raises(InputError, match="the rule reads controls/weight_decay, and epoch 23 has no such number"):
        decisions(stopping.adaptive_decay(), history)


# Rules by name.


def test_a_rule_with_settings_by_name():
    rule = stopping_rule("skip_connections:limit=3,result=before")
    assert rule is not None
    assert rule.reach == 1
    assert decisions(rule, with_skips([2, 3]))[0] == Stop(
        "the normal cell has 3 skip connections, and 3 end the search", 1
    )
    assert stopping_rule("stable_ranking") is not None
    assert stopping_rule(None) is stopping_rule("none") is None


@pytest.mark.parametrize(
    "text, message",
    [
        ("soon", "--stop is 'soon'; give adaptive_decay or eigenvalue or skip_connections or stable_ranking, or none"),
        ("", "--stop is ''; give adaptive_decay or"),
        ("skip_connections:", "give skip_connections:limit=2,kind=normal,result=last, or some of these"),
        ("skip_connections:count=3", "give skip_connections:limit=2,kind=normal,result=last, or some of these"),
        ("skip_connections:limit", "give skip_connections:limit=2"),
        ("skip_connections:limit=1,limit=2", "give skip_connections:limit=2"),
        ("skip_connections:limit=two", "limit is 'two'; give a whole number"),
        ("skip_connections:limit=0", "skip_connections: limit is 0; give 1 or more"),
        ("skip_connections:result=none", "result is 'none'; give last or before"),
        ("stable_ranking:epochs=0", "epochs is 0; give 1 or more"),
        ("eigenvalue:every=0", "every is 0; give 1 or more epochs"),
        ("eigenvalue:ratio=nan", "ratio is nan; give a number above 0"),
        ("eigenvalue:ratio=much", "ratio is 'much'; give a number"),
        ("eigenvalue:first=-1", "first is -1; give 0 or more"),
        ("adaptive_decay:factor=1", "factor is 1.0; give a number above 1"),
        ("adaptive_decay:largest=0", "largest is 0.0; give a weight decay above 0"),
    ],
)
def test_rules_that_do_not_exist_are_refused(text, message):
    with pytest.raises(InputError) as refused:
        stopping_rule(text)
    assert message in str(refused.value)
