"""What a training on text records of its test: the words that cost most, and the places that surprised it."""

import json
import math

import numpy as np
import pytest
import small_language
from small_language import quick
from small_runs import user_settings

from jdarts.language.evaluation import WordAnswers, evaluation_pieces
from jdarts.language.train.surprises import BEFORE, PASSAGES, SurpriseCounter
from jdarts.report.html.surprises import surprises_html
from jdarts.report.surprises import read_surprises

__all__ = ["quick", "user_settings"]


def counted(text, losses, guesses, *, vocabulary, columns=1, size=4):
    """The record of a text of which the model says the same wherever a word stands."""
    counter = SurpriseCounter("test text", vocabulary)
    for words, targets, mask in evaluation_pieces(np.asarray(text, np.int32), columns, size):
        answers = WordAnswers(*(np.asarray(each)[targets].T for each in (losses, guesses, [0.5] * len(losses))))  # pyright: ignore
        counter.add(words, targets, mask, answers)
    return counter.record()


def test_words_are_ordered_by_their_share_of_the_loss():
    found = counted([0, 1, 2, 1, 1, 0, 2, 1, 0], [1.0, 2.0, 3.0], [0, 0, 2], vocabulary=["a", "b", "c"])
    assert [tuple(each) for each in found.words] == [("b", 4, 2.0), ("c", 2, 3.0), ("a", 2, 1.0)]
    assert (found.total, found.right) == (8, 4)


@pytest.mark.parametrize("columns", [1, 2])
def test_the_largest_surprises_have_the_words_before_them_across_pieces(columns):
    names = [f"w{number}" for number in range(40)]
    text = np.tile(np.arange(40), columns)
    found = counted(text, np.arange(40) / 10, [39 - word for word in range(40)], vocabulary=names, columns=columns)
    assert len(found.passages) == PASSAGES
    first = found.passages[0]
    assert (first.word, first.guess, first.loss) == ("w39", "w0", pytest.approx(3.9))
    assert first.before == [f"w{number}" for number in range(39 - BEFORE, 39)]
    assert [each.word for each in found.passages] == [f"w{39 - place}" for place in range(PASSAGES)]


def test_a_guess_beyond_the_words_has_a_name():
    assert counted([0, 1, 0], [1.0, 2.0], [7, 7], vocabulary=["a", "b"]).passages[0].guess == "no word"


def test_a_record_is_the_same_after_it_was_written_and_its_texts_show_as_texts():
    found = counted([0, 1, 0, 1], [1.0, 2.0], [1, 0], vocabulary=["<script>", "&amp;"])
    assert read_surprises(found.to_json().encode()).to_json() == found.to_json()
    page = surprises_html(found)
    assert "<script>" not in page and "&lt;script&gt;" in page and "&amp;amp;" in page


@pytest.mark.parametrize("change", [{"words": 1}, {"passages": [{"word": 1}]}, {"total": -1}, {"words": [[1]]}])
def test_a_damaged_record_is_refused(change):
    content = json.loads(counted([0, 1, 0], [1.0, 2.0], [0, 0], vocabulary=["a", "b"]).to_json())
    with pytest.raises(ValueError, match=r".+"):
        read_surprises(json.dumps({**content, **change}).encode())


def test_the_surprises_of_a_training_are_those_of_its_test(quick, tmp_path):
    result, _ = small_language.run_train(tmp_path / "run", epochs=1)
    found = read_surprises((tmp_path / "run/surprises.json").read_bytes())
    # All words are listed, so their losses are those of the test. It leaves out the first word of each column.
    columns = small_language.TRAIN["test_batch_size"]
    assert found.total == sum(each.count for each in found.words) == len(small_language.corpus().test) - columns
    mean = sum(each.count * each.loss for each in found.words) / found.total
    assert math.exp(mean) == pytest.approx(result.test_perplexity, rel=1e-4)
    assert all(0 < each.confidence <= 1.0001 for each in found.passages)
    assert '<section id="surprises">' in (tmp_path / "run/report.html").read_text()
