"""What a search says of its cells: margins, skips, changes, and the words for them."""

import json

import numpy as np
import pytest

from jdarts.errors import InputError
from jdarts.genotype import Genotype, RecurrentGenotype
from jdarts.methods.verdict import learnable_ranking, verdict
from jdarts.space import RecurrentSpace, SearchSpace

SPACE = SearchSpace(
    normal=(("none", "skip_connect", "sep_conv_3x3"), ("max_pool_3x3", "dil_conv_3x3")),
    reduce=(("skip_connect", "sep_conv_3x3", "sep_conv_5x5"), ("avg_pool_3x3",)),
)
WEIGHTS = {
    "normal": np.array([[0.7, 0.1, 0.2], [0.501, 0.499, 0.0]]),
    "reduce": np.array([[0.2, 0.5, 0.3], [1.0, 0.0, 0.0]]),
}
CELLS = Genotype(
    normal=(("sep_conv_3x3", 0), ("max_pool_3x3", 1)),
    normal_concat=(2,),
    reduce=(("sep_conv_3x3", 0), ("avg_pool_3x3", 1)),
    reduce_concat=(2,),
)


def test_margins_and_leads_are_those_of_the_chosen_operation():
    """`none` counts for nothing: it is not in any cell."""
    found = verdict(WEIGHTS, CELLS, SPACE).cells
    np.testing.assert_allclose(found["normal"].margins, [0.1, 0.002])
    np.testing.assert_allclose(found["normal"].leads, [1.0, 0.002 / 0.499])
    np.testing.assert_array_equal(found["normal"].decided, [True, False])
    np.testing.assert_allclose(found["reduce"].margins, [0.2, 1.0])
    np.testing.assert_allclose(found["reduce"].leads, [2 / 3, np.inf])
    assert found["reduce"].decided.all()


def test_the_lead_and_the_share_of_a_decision():
    assert not verdict(WEIGHTS, CELLS, SPACE).is_decided
    assert verdict(WEIGHTS, CELLS, SPACE, share=0.75).is_decided
    assert verdict(WEIGHTS, CELLS, SPACE, lead=0.004).is_decided
    assert not verdict(WEIGHTS, CELLS, SPACE, lead=0.005).is_decided


def test_cells_with_their_own_tables_are_averaged():
    several = {kind: np.stack([table * 0.5, table * 1.5]) for kind, table in WEIGHTS.items()}
    found, expected = (verdict(weights, CELLS, SPACE).cells for weights in (several, WEIGHTS))
    for kind in found:
        np.testing.assert_allclose(found[kind].margins, expected[kind].margins)


def test_weights_of_zero_have_no_lead():
    """One-hot rows are decided, rows of zeros are not."""
    weights = {kind: np.zeros_like(table) for kind, table in WEIGHTS.items()}
    weights["normal"][0, 2] = 1
    found = verdict(weights, CELLS, SPACE).cells
    np.testing.assert_array_equal(found["normal"].leads, [np.inf, 0])
    np.testing.assert_array_equal(found["reduce"].leads, [0, np.inf])


def test_skips_and_operations_without_weights():
    """At stride 2 a skip connection has weights."""
    cells = Genotype(
        normal=(("skip_connect", 0), ("max_pool_3x3", 1), ("skip_connect", 1), ("sep_conv_3x3", 2)),
        normal_concat=(2, 3),
        reduce=(("skip_connect", 0), ("sep_conv_3x3", 1), ("skip_connect", 2), ("avg_pool_3x3", 0)),
        reduce_concat=(2, 3),
    )
    rows = (("skip_connect", "sep_conv_3x3", "max_pool_3x3", "avg_pool_3x3"),) * 5
    space = SearchSpace(normal=rows, reduce=rows)
    found = verdict({kind: np.full((5, 4), 0.25) for kind in ("normal", "reduce")}, cells, space).cells
    assert (found["normal"].skips, found["normal"].weightless, found["normal"].operations) == (2, 3, 4)
    assert (found["reduce"].skips, found["reduce"].weightless) == (2, 2)


def test_changes_since_the_epoch_before():
    other = Genotype(
        normal=(("max_pool_3x3", 1), ("sep_conv_3x3", 0)),
        normal_concat=(2,),
        reduce=(("skip_connect", 0), ("avg_pool_3x3", 0)),
        reduce_concat=(2,),
    )
    found = verdict(WEIGHTS, CELLS, SPACE, before=other).cells
    # The order of a node's edges is no change.
    assert (found["normal"].changed, found["reduce"].changed) == (0, 2)
    assert verdict(WEIGHTS, CELLS, SPACE).cells["normal"].changed is None


def test_the_words():
    assert verdict(WEIGHTS, CELLS, SPACE, before=CELLS).lines() == [
        "undecided: the chosen operation leads by less than 10 % on 1 of 2 edges of the normal cell (median lead 100 %)",
        "the normal cell: 0 of 2 operations are skip connections, 1 without weights, 0 changed in the last epoch",
        "the reduction cell: 0 of 2 operations are skip connections, 1 without weights, 0 changed in the last epoch",
    ]
    decided = verdict(WEIGHTS, CELLS, SPACE, share=0.7).lines()[0]
    assert decided == "decided: the chosen operation leads by 10 % or more on 3 of 4 edges"
    even = {"normal": np.array([[0.2, 0.4, 0.4], [0.5, 0.5, 0]]), "reduce": np.array([[0.3, 0.3, 0.3], [1, 0, 0]])}
    assert verdict(even, CELLS, SPACE, lead=0.01).lines()[0] == (
        "undecided: the chosen operation leads by less than 1 % on 2 of 2 edges of the normal cell (median lead 0 %) and 1 of 2 "
        "edges of the reduction cell (median lead without a rival)"
    )


def test_the_numbers():
    found = verdict(WEIGHTS, CELLS, SPACE, before=CELLS)
    numbers = found.numbers()
    assert numbers["guards/decided_normal"] == 0.5
    assert numbers["guards/margin_reduce"] == pytest.approx(0.6)
    assert numbers["guards/weightless_normal"] == 1
    assert "guards/lead_normal" in numbers and "guards/lead_reduce" not in numbers
    assert {"guards/skips_normal", "guards/changed_reduce"} <= numbers.keys()
    assert "guards/changed_normal" not in verdict(WEIGHTS, CELLS, SPACE).numbers()
    written = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert written["decided"] is False
    assert written["cells"]["reduce"]["leads"][1] is None
    assert written["text"] == found.lines()


def test_recurrent_cells():
    space = RecurrentSpace(recurrent=(("none", "tanh", "identity"),) * 3)
    cell = RecurrentGenotype((("identity", 0), ("tanh", 1)), (1, 2))
    before = RecurrentGenotype((("identity", 0), ("identity", 1)), (1, 2))
    weights = {"recurrent": np.array([[0.1, 0.4, 0.5], [0.8, 0.1, 0.1], [0.0, 0.9, 0.1]])}
    found = verdict(weights, cell, space, before=before)
    np.testing.assert_allclose(found.cells["recurrent"].leads, [0.25, 0, 8])
    assert (found.cells["recurrent"].skips, found.cells["recurrent"].weightless) == (1, 0)
    assert found.lines() == [
        "undecided: the chosen operation leads by less than 10 % on 1 of 3 edges of the recurrent cell (median lead 25 %)",
        "the recurrent cell: 1 of 2 nodes have the activation identity, 1 changed in the last epoch",
    ]


def test_wrong_weights_are_refused():
    with pytest.raises(InputError, match=r"weights of the normal cell are no finite table \(2, 3\)"):
        verdict({**WEIGHTS, "normal": np.zeros((2, 2))}, CELLS, SPACE)
    with pytest.raises(InputError, match="no finite table"):
        verdict({**WEIGHTS, "reduce": np.full((2, 3), np.nan)}, CELLS, SPACE)
    with pytest.raises(InputError, match="the lead of a decided edge is 0; give a number above 0"):
        verdict(WEIGHTS, CELLS, SPACE, lead=0)


def test_the_ranking_of_learnable_operations():
    rows = (("none", "skip_connect", "sep_conv_3x3", "dil_conv_5x5"), ("sep_conv_3x3", "max_pool_3x3"))
    space = SearchSpace(normal=rows, reduce=rows)
    strengths = {
        "normal": np.array([[9.0, 8.0, 1.0, 2.0], [1.0, 2.0, 0.0, 0.0]]),
        "reduce": np.array([[9.0, 8.0, 2.0, 2.0], [1.0, 2.0, 0.0, 0.0]]),
    }
    assert learnable_ranking(strengths, space) == {"normal": [[3, 2]], "reduce": [[2, 3]]}
    recurrent = RecurrentSpace(recurrent=(("none", "tanh", "relu"),))
    assert learnable_ranking({"recurrent": np.array([[3.0, 1.0, 2.0]])}, recurrent) == {"recurrent": [[2, 1]]}
