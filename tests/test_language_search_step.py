"""The search step on text: what each text is read for, what is carried on, what all passes share."""

from typing import Any

import jax
import numpy as np
import pytest
from small_language import corpus, search_config
from small_runs import user_settings

from jdarts import bilevel
from jdarts.errors import InputError
from jdarts.language.evaluation import carry_hidden, evaluation_function, evaluation_pieces
from jdarts.language.search import step as step_module
from jdarts.language.search.step import search_program
from jdarts.language.token_streams import steps_per_pass, token_stream
from jdarts.nets.language import mean_loss, token_losses

__all__ = ["user_settings"]
pytestmark = pytest.mark.usefixtures("user_settings")


def made(**changes):
    """Program, jitted step and streams of a search; nothing here depends on the number of nodes."""
    config = search_config(None, nodes=1, **changes)
    corpora = corpus().train, corpus().valid
    streams = [token_stream(words, config.batches.batch_size, size=config.batches.bptt) for words in corpora]
    rows = streams[0].rows, streams[1].rows
    program = search_program(config, vocabulary=12, rows=rows, steps_per_epoch=3)
    program = program._replace(init=jax.jit(program.init))
    step = jax.jit(program.step)
    return (
        program,
        lambda state, length=6: step(state, *(stream.words for stream in streams), np.int32(length)),
        streams,
    )


def leaves(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@pytest.fixture(scope="module")
def begun(user_settings):
    """The first state of a search, by whatever estimator."""
    seed: Any = np.uint32(0)
    return made()[0].init(seed)


@pytest.fixture(scope="module")
def first_order(user_settings):
    return made(hypergradient="first_order", dropout=0.0, dropouth=0.0, dropoutx=0.0, dropouti=0.0, temporal=0.5)


def test_the_alphas_step_on_the_validation_text_and_the_plain_loss(first_order, begun):
    program, step, streams = first_order
    state = begun
    variables = {"params": state.bilevel.weights, "batch_stats": state.bilevel.model_state}

    @jax.jit
    @jax.value_and_grad
    def loss_and_gradient(alphas, words):
        words = words[:7]
        prediction, _ = program.model.apply(
            variables, words[:-1], state.valid.hidden, alphas, train=True, mutable=["batch_stats"]
        )
        return mean_loss(token_losses(prediction.logits, words[1:]))

    new, metrics = step(state)
    value, gradient = loss_and_gradient(state.bilevel.alphas, streams[1].words)
    np.testing.assert_allclose(metrics["valid/loss"], value, rtol=1e-5)
    np.testing.assert_allclose(metrics["hypergradient/norm"], np.linalg.norm(gradient), rtol=1e-4)
    value, _ = loss_and_gradient(new.bilevel.alphas, streams[0].words)
    np.testing.assert_allclose(metrics["train/loss"], value, rtol=1e-5)
    assert metrics["train/penalty"] > 0


def test_the_two_texts_are_read_on_apart(first_order, begun):
    """The alphas' text moves on by whole segments whatever the length of the weights' segment; each wraps by itself."""
    _, step, _ = first_order
    state, places = begun, []
    for length in (3, 6, 3, 6):
        state, _ = step(state, length)
        places.append((int(state.train.row), int(state.valid.row)))
        assert np.any(state.train.hidden) == (state.train.row > 0)
        assert np.any(state.valid.hidden) == (state.valid.row > 0)
    # 20 rows to train, 15 to validate.
    assert places == [(3, 6), (9, 12), (12, 0), (0, 6)]


MANY_ZEROS = {"dropouth": 0.5, "dropout": 0.5}


@pytest.fixture(scope="module")
def exact(begun):
    """The metrics of an exact step."""
    return made(hypergradient="exact", **MANY_ZEROS)[1](begun)[1]


def test_all_passes_of_a_step_share_their_masks(begun, exact, monkeypatch):
    """With dropout, the estimator that splits the step up equals the derivative through the whole of it."""
    found = exact
    monkeypatch.setattr(step_module, "hypergradient_by_name", lambda *args, **kwargs: bilevel.unrolled(1))
    _, expected = made(hypergradient="exact", **MANY_ZEROS)[1](begun)
    np.testing.assert_allclose(found["hypergradient/norm"], expected["hypergradient/norm"], rtol=1e-4)
    np.testing.assert_allclose(found["valid/loss"], expected["valid/loss"], rtol=1e-5)
    assert found["hypergradient/implicit_norm"] > 1e-3 * found["hypergradient/norm"]


def test_a_series_without_terms_is_the_exact_estimate_and_terms_change_it(begun, exact):
    """The hypergradient of iDARTS."""
    norms = [float(exact["hypergradient/norm"])]
    for terms in (0, 2):
        _, metrics = made(hypergradient="neumann", neumann_terms=terms, **MANY_ZEROS)[1](begun)
        norms.append(float(metrics["hypergradient/norm"]))
    assert norms[1] == norms[0]
    assert np.isfinite(norms[2]) and abs(norms[2] / norms[0] - 1) > 1e-6
    with pytest.raises(InputError, match="--neumann-terms is 3, and --hypergradient exact has no series"):
        search_config(None, neumann_terms=3).check()


def test_every_estimate_takes_the_same_weight_step(begun):
    """With alphas that stand still the estimators differ in nothing that the weights see."""
    plain = {"dropout": 0.0, "dropouth": 0.0, "dropoutx": 0.0, "dropouti": 0.0, "temporal": 0.5}
    weights = {}
    for hypergradient in ("first_order", "finite_difference", "reference"):
        new, metrics = made(hypergradient=hypergradient, alpha_learning_rate=1e-30, **plain)[1](begun)
        weights[hypergradient] = leaves(new.bilevel.weights)
        assert np.isfinite(metrics["hypergradient/norm"])
    for name in ("finite_difference", "reference"):
        np.testing.assert_allclose(weights[name], weights["first_order"], rtol=1e-5, atol=1e-7, err_msg=name)


def test_steps_per_pass():
    assert steps_per_pass(13_848, bptt=35) == round(13_847 / (0.95 * 35 + 0.05 * 17.5))
    assert steps_per_pass(2, bptt=35) == 1


def test_statistics_of_the_batch_make_a_loss_that_pieces_do_not_change(begun):
    """Every position has its own statistics over the columns, so padding and pieces leave them alone."""
    program, _, _ = made()
    state = begun.bilevel
    variables = {"params": state.weights, "batch_stats": state.model_state}
    sums = {}
    for by_batch in (False, True):
        evaluate = jax.jit(evaluation_function(program.model, batch_statistics=by_batch))
        for size in (5, 7):
            start = np.zeros((4, 5), np.float32)
            read = carry_hidden(lambda *batch, evaluate=evaluate: evaluate(variables, state.alphas, *batch), start)
            pieces = evaluation_pieces(corpus().valid, 4, size)
            sums[by_batch, size] = sum(float(read(*piece)) for piece in pieces)
    np.testing.assert_allclose(sums[True, 5], sums[True, 7], rtol=1e-5)
    words = corpus().valid[: 4 * (len(corpus().valid) // 4)].reshape(4, -1).T

    @jax.jit
    def losses(words):
        seen, _ = program.model.apply(variables, words[:-1], start, state.alphas, train=True, mutable=["batch_stats"])
        return token_losses(seen.logits, words[1:])

    np.testing.assert_allclose(sums[True, 5], np.sum(losses(words)), rtol=1e-5)
    assert abs(sums[False, 5] / sums[True, 5] - 1) > 1e-4
