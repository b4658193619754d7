"""The prediction of a weight step on paper: its counts against those of the benchmark, and its tables."""

import predict
import pytest
from harness import work
from harness.counts import forward_macs
from harness.setup import NETWORKS
from harness.work import Card, Work

from jdarts.errors import InputError


@pytest.mark.parametrize("network", NETWORKS)
def test_the_convolutions_of_the_cells_are_those_of_the_benchmark_without_stem_and_classifier(network):
    size = NETWORKS[network]
    *_, last = work.layers(size)
    stem = 27 * 3 * size.channels * size.image_size**2
    classifier = size.nodes * last.channels * size.classes
    assert work.forward_flops(size) == 2 * size.batch * (forward_macs(size) - stem - classifier)


def test_a_stage_reads_each_source_once_and_writes_a_map_for_each_edge():
    first, *_, reduction = [layer for layer in work.layers(NETWORKS["paper"]) if layer.side in (32, 16)][:3]
    image = 4 * 16 * 16 * 32 * 32
    assert (first.stages[0].read, first.stages[0].written) == (2 * image, 8 * image)
    assert [stage.edges for stage in first.stages] == [8, 3, 2, 1]
    # Twice the channels on a quarter of the pixels.
    assert reduction.kind == "reduce" and reduction.stages[0].halves
    assert (reduction.stages[0].read, reduction.stages[0].written) == (4 * image, 4 * image)
    assert (reduction.stages[1].read, reduction.stages[1].halves) == (image / 2, False)


def test_the_longer_of_two_times_counts_and_each_launch():
    card = Card(bandwidth=10.0, flops=100.0, launch=0.5)
    assert card.seconds(Work(bytes=20, flops=100, launches=3)) == 2 + 1.5
    assert card.seconds(Work(bytes=5, flops=100, launches=0)) == 1


def test_forms_differ_in_bytes_and_launches_alone():
    size = NETWORKS["digits"]
    totals = {form: work.total(work.step_work(size, form)) for form in (*work.FORMS, None)}
    assert len({totals[form].flops for form in work.FORMS}) == 1
    least = totals["one function"]
    assert all(least.bytes < totals[form].bytes for form in work.FORMS if form != "one function")
    assert totals[None].bytes < least.bytes and totals[None].launches < least.launches
    # It computes the first convolutions again for both gradients.
    assert totals[None].flops > least.flops


def test_the_command_prints_a_row_for_each_form(capsys):
    predict.main(["--network", "digits", "--batch", "8"])
    shown = capsys.readouterr().out
    assert shown.startswith("**Predicted, not measured: weight step, C=8, 3 cells of 3 nodes, batch 8")
    rows = [line.split(" | ")[0] for line in shown.splitlines() if line.startswith("| ")]
    assert rows[-len(work.FORMS) - 1 :] == [f"| {name}" for name in (*work.FORMS, predict.FUSED)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "0"], r"--batch is 0; give 1 or more"),
        (["--bandwidth", "0"], r"--bandwidth is 0\.0; give a number above 0"),
        (["--launch", "-1"], r"--launch is -1\.0; give 0 or more"),
    ],
)
def test_wrong_options_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        predict.main(arguments)
