"""The user's own batches, without a run: their order, their sizes, and what is refused."""

import itertools

import numpy as np
import pytest
from small_runs import user_settings

from jdarts.errors import InputError
from jdarts.network_tasks.batches import Source, as_arrays

__all__ = ["user_settings"]
pytestmark = pytest.mark.usefixtures("user_settings")


def batch(first, size=4):
    return np.arange(first, first + size, dtype=np.float32), np.zeros(size, np.int32)


def firsts(batches):
    return [int(inputs[0]) for inputs, _ in batches]


def test_a_function_gives_the_batches_of_an_epoch_and_of_a_seed():
    source = Source(lambda epoch, seed: [batch(100 * epoch + 10 * seed), batch(100 * epoch + 10 * seed + 4)], "train")
    assert source.takes_seed and source.size == 4
    assert firsts(source.whole(2, 3)) == firsts(source.whole(2, 3)) == [230, 234]
    assert not Source(lambda epoch: [batch(epoch)], "train").takes_seed


def test_a_smaller_last_batch_counts_in_evaluations_alone():
    source = Source([batch(0), batch(4), batch(8, size=1)], "valid")
    assert source.count() == 2
    assert firsts(source.whole(0, 0)) == [0, 4]
    assert firsts(itertools.islice(source.repeated(0, 0), 5)) == [0, 4, 0, 4, 0]
    assert [(int(each[0][0]), int(size)) for each, size in source.in_order()] == [(0, 4), (4, 4), (8, 1)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "train gives no batch in epoch 0"),
        (iter([batch(0)]), "which can be read once; give a function from the epoch"),
        (7, "train is 7; give a function from the epoch to its batches"),
        (lambda epoch: 7, "train gives 'int' for an epoch; give an iterable of batches"),
        ([("a", "b")], "batch 1 of train in epoch 0 holds 'a'; give arrays of numbers"),
        ([(np.zeros(3), np.zeros(4))], "give arrays with the same number of examples"),
    ],
)
def test_what_gives_no_batches_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        Source(given, "train")


def test_a_batch_of_another_size_between_others_is_refused():
    source = Source([batch(0), batch(4, size=1), batch(5)], "train")
    with pytest.raises(InputError, match=r"batch 2 of train in epoch 0 has float32\[1\], int32\[1\]"):
        list(source.whole(0, 0))


def test_lists_become_tuples_of_arrays_in_types_that_jax_computes_in():
    batch = as_arrays([np.ones((2, 3)), np.array([3, 4], np.int64), np.array([True, False])])
    assert isinstance(batch, tuple) and [each.dtype for each in batch] == [np.float32, np.int32, bool]
    assert [each.shape for each in batch] == [(2, 3), (2,), (2,)]
