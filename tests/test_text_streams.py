"""Streams in columns, and the segments that are read of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jdarts.data.text import columns, segment, segment_lengths
from jdarts.data.text.streams import compiled_sizes, mean_length, next_start, padded
from jdarts.errors import InputError


def test_columns_are_continuous_pieces():
    words = np.arange(11, dtype=np.int32)
    np.testing.assert_array_equal(columns(words, 3), [[0, 3, 6], [1, 4, 7], [2, 5, 8]])
    with pytest.raises(InputError, match=r"11 words make 1 row of 8 columns.*batch size of 5 or less"):
        columns(words, 8)


def test_segments_of_any_length_come_from_one_program():
    stream = columns(np.arange(40, dtype=np.int32), 2)
    words = jnp.asarray(padded(stream, 6))
    traced = []

    @jax.jit
    def cut(row, length):
        traced.append(1)
        return segment(words, row, length, size=6, rows=len(stream))

    for row, length in [(0, 6), (3, 2), (16, 6), (18, 5)]:
        piece = cut(np.int32(row), np.int32(length))
        count = min(length, 19 - row)
        assert int(piece.length) == count
        np.testing.assert_array_equal(piece.inputs[:count], stream[row : row + count])
        np.testing.assert_array_equal(piece.targets[:count], stream[row + 1 : row + count + 1])
        np.testing.assert_array_equal(piece.mask, np.arange(6) < count)
    assert len(traced) == 1


def test_a_pass_reads_every_word_once_but_a_last_single_row():
    for rows in range(2, 40):
        row, told, again = 0, [], False
        while not again:
            length = min(7, rows - 1 - row)
            told += range(row + 1, row + 1 + length)
            place, again = next_start(jnp.int32(row), jnp.int32(length), rows=rows)
            row = int(place)
        assert row == 0
        assert told in (list(range(1, rows)), list(range(1, rows - 1)))


def test_lengths_are_those_of_the_reference_code():
    """35, in 5 % of the segments 17; where they vary, a normal distribution around it, between 5 and 55."""
    fixed = segment_lengths(3, 0, 20_000, bptt=35, varied=False)
    assert set(fixed.tolist()) == {35, 17}
    assert np.mean(fixed == 17) == pytest.approx(0.05, abs=0.005)
    varied = segment_lengths(3, 0, 20_000, bptt=35, varied=True)
    assert varied.min() >= 5 and varied.max() <= 55
    # Quantiles of a normal distribution of mean 35 and deviation 5, 5 % of it moved away, rounded down.
    np.testing.assert_allclose(np.percentile(varied, [20, 50, 84]), [29.5, 34.2, 39.3], atol=0.6)
    assert varied.mean() == pytest.approx(mean_length(bptt=35), abs=0.7)


def test_lengths_depend_on_seed_and_epoch_alone():
    first = segment_lengths(1, 4, 50, bptt=35, varied=True)
    np.testing.assert_array_equal(first, segment_lengths(1, 4, 50, bptt=35, varied=True))
    assert (first != segment_lengths(1, 5, 50, bptt=35, varied=True)).any()
    assert (first != segment_lengths(2, 4, 50, bptt=35, varied=True)).any()


@pytest.mark.parametrize("bptt", [2, 6, 20, 35, 100])
def test_every_length_fits_a_compiled_shape(bptt):
    for varied in (False, True):
        shapes = compiled_sizes(bptt=bptt, varied=varied)
        assert list(shapes) == sorted(set(shapes))
        assert segment_lengths(0, 0, 1000, bptt=bptt, varied=varied).max() <= shapes[-1]
        assert len(shapes) <= 4
