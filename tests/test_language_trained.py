"""The language model that a training leaves behind."""

import math

import numpy as np
import pytest
from small_language import corpus, quick, run_search, run_train
from small_runs import user_settings

from jdarts.errors import InputError
from jdarts.language.evaluation import carry_hidden, evaluation_function, evaluation_pieces
from jdarts.language.trained import load_language_model

__all__ = ["quick", "user_settings"]
pytestmark = pytest.mark.usefixtures("quick")


def test_the_loaded_model_has_the_perplexity_of_the_result(tmp_path):
    result, _ = run_train(tmp_path / "run")
    trained = load_language_model(tmp_path / "run")
    assert trained.words == corpus().vocabulary
    assert math.exp(trained.valid_loss) == pytest.approx(result.best_perplexity)
    evaluate = evaluation_function(trained.model)
    function = carry_hidden(
        lambda *batch: evaluate({"params": trained.weights}, None, *batch), np.zeros((2, 5), np.float32)
    )
    total = sum(float(function(*piece)) for piece in evaluation_pieces(corpus().test, 2, 6))
    assert math.exp(total / 38) == pytest.approx(result.test_perplexity, rel=1e-4)


def test_a_search_holds_no_trained_model(tmp_path):
    run_search(tmp_path / "run", epochs=1)
    with pytest.raises(InputError, match=r"is not of a training on text; give a folder of jdarts\.language\.train"):
        load_language_model(tmp_path / "run")
