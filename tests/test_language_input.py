"""Wrong inputs to runs on text: short messages that name the thing and the mend, and nothing left behind."""

import numpy as np
import pytest
from small_language import corpus, quick, run_search, run_train, train_config
from small_runs import newest, user_settings

from jdarts import zoo
from jdarts.data.text import TextCorpus
from jdarts.derive import genotype_of
from jdarts.errors import InputError
from jdarts.genotype import Genotype

__all__ = ["quick", "user_settings"]
pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize("run", [run_search, run_train])
@pytest.mark.parametrize(
    "changes, sizes, message",
    [
        ({"vocabulary": 11}, (80, 60, 40), r"--vocabulary is 11, but made_up has 12 different words; give 12 or more"),
        (
            {},
            (27, 60, 40),
            r"train text of made_up has 27 words, 6 in each of 4 columns .* need 7: give --batch-size 3",
        ),
        ({"bptt": 50, "batch_size": 2}, (40, 60, 40), r"need 51: give a smaller --bptt or more text"),
        (
            {"evaluation_batch_size": 50},
            (80, 60, 40),
            r"valid text .* 60 words, too few for --evaluation-batch-size 50; give 30",
        ),
        ({"train_words": 20}, (80, 60, 40), r"train text of made_up has 20 words, 5 in each of 4 columns"),
        ({"dropouth": 1.0}, (80, 60, 40), r"--dropouth is 1.0; give a number from 0 to below 1"),
        ({"learning_rate": 0.0}, (80, 60, 40), r"--learning-rate is 0.0; give a number above 0"),
        ({"bptt": 1}, (80, 60, 40), r"--bptt is 1; give 2 or more"),
    ],
)
def test_settings_that_do_not_fit_the_text(run, changes, sizes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        run(tmp_path / "run", text=corpus(sizes), **changes)
    assert not (tmp_path / "run").exists()


def test_the_alphas_text_must_hold_a_segment_too(tmp_path):
    with pytest.raises(InputError, match=r"valid text of made_up has 20 words, 5 in each"):
        run_search(tmp_path / "run", text=corpus((80, 20, 40)))
    with pytest.raises(InputError, match=r"--operations names tan; did you mean tanh\?"):
        run_search(tmp_path / "run", operations=("none", "tan"))


@pytest.mark.parametrize(
    "words, vocabulary, message",
    [
        (np.zeros(0, np.int32), 3, "train text of own is empty"),
        (np.array([0, 3], np.int32), 3, "word number 3, its vocabulary has 3 words"),
        (np.zeros(4, np.int64), 3, r"train is int64 \[4\]; it must be int32"),
    ],
)
def test_a_corpus_of_numbers_is_checked(words, vocabulary, message):
    rest = np.zeros(4, np.int32)
    with pytest.raises(InputError, match=message):
        TextCorpus("own", ("a",) * vocabulary, words, rest, rest)


def test_a_run_with_other_settings_is_refused(tmp_path):
    run_search(tmp_path / "run", epochs=1)
    with pytest.raises(InputError, match=r"begun with other settings: --width 5 \(now 6\)"):
        run_search(tmp_path / "run", epochs=1, width=6)


def test_cells_of_a_search_are_derived_and_trained_from_its_folder(tmp_path):
    result, shown = run_search(tmp_path / "run")
    assert "unigram model has a validation perplexity of" in shown and "words/s" in shown
    assert genotype_of(newest(tmp_path / "run").record) == result.genotype
    assert train_config(None, genotype=str(tmp_path / "run")).cell == result.genotype
    # A search that still runs has its checkpoints alone.
    (tmp_path / "run" / "genotype.json").unlink()
    assert train_config(None, genotype=str(tmp_path / "run")).cell == result.genotype
    assert train_config(None, genotype="ENAS").cell is zoo.RECURRENT_CELLS["ENAS"]


@pytest.mark.parametrize(
    "genotype, message",
    [
        ("DARTS_V9", "no genotype .DARTS_V9.; did you mean DARTS_V[12]"),
        (str(zoo.CELLS["DARTS_V2"]), "a convolutional cell is given; a recurrent cell is needed here"),
    ],
)
def test_a_genotype_that_cannot_be_trained(genotype, message, tmp_path):
    assert isinstance(zoo.CELLS["DARTS_V2"], Genotype)
    with pytest.raises(InputError, match=message):
        run_train(tmp_path / "run", genotype=genotype)
    assert not (tmp_path / "run").exists()
