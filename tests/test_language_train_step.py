"""The training step on text: its averages, its way back, its scaled steps, its perplexity."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_language import corpus, train_config
from small_runs import user_settings

from jdarts.language.evaluation import carry_hidden, evaluation_function, evaluation_pieces
from jdarts.language.token_streams import token_stream
from jdarts.language.train.step import end_epoch, train_program

__all__ = ["user_settings"]
pytestmark = pytest.mark.usefixtures("user_settings")

SIZE = 6
PLAIN = {"dropout": 0.0, "dropouth": 0.0, "dropoutx": 0.0, "dropouti": 0.0, "dropoute": 0.0}


@pytest.fixture(scope="module")
def made():
    """Configuration, program, jitted step and words of a training without dropout."""
    config = train_config(None, temporal=0.0, weight_decay=0.0, clip=1e3, **PLAIN)
    stream = token_stream(corpus().train, config.batches.batch_size, size=SIZE)
    program = train_program(config, vocabulary=12, rows=stream.rows)
    step = jax.jit(program.step, static_argnames="size")

    def taken(state, length=SIZE, starts_epoch=False):
        return step(state, stream.words, np.int32(length), np.bool(starts_epoch), size=SIZE)

    return config, program, taken


def leaves(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def test_a_step_is_scaled_by_the_length_of_its_segment(made):
    """A segment of 3 rows moves the weights by half of the step on its gradient, whatever its filling."""
    config, program, step = made
    state = program.init(np.uint32(0))
    stream = token_stream(corpus().train, config.batches.batch_size, size=SIZE)

    def loss(weights):
        prediction = program.model.apply({"params": weights}, stream.words[:3], state.reading.hidden, train=True)
        logs = jax.nn.log_softmax(prediction.logits)
        return -jnp.mean(jnp.take_along_axis(logs, stream.words[1:4, :, None], axis=-1))

    value, gradient = jax.value_and_grad(loss)(state.weights)
    new, metrics = step(state, 3)
    expected = jax.tree.map(
        lambda w, g: w - config.learning_rate * 3 / config.batches.bptt * g, state.weights, gradient
    )
    np.testing.assert_allclose(leaves(new.weights), leaves(expected), rtol=2e-5, atol=1e-7)
    np.testing.assert_allclose(metrics["train/loss"], value, rtol=1e-5)
    assert int(new.reading.row) == 3


def test_hidden_states_are_carried_from_segment_to_segment(made):
    """Two segments of 3 rows see what one of 6 rows sees, if the weights stand still."""
    config, _, _ = made
    still = train_program(
        dataclasses.replace(config, learning_rate=1e-30),
        vocabulary=12,
        rows=len(corpus().train) // config.batches.batch_size,
    )
    words = token_stream(corpus().train, config.batches.batch_size, size=SIZE).words
    step = jax.jit(still.step, static_argnames="size")
    once, _ = step(still.init(np.uint32(0)), words, np.int32(6), np.bool(True), size=SIZE)
    twice = still.init(np.uint32(0))
    for _ in range(2):
        twice, _ = step(twice, words, np.int32(3), np.bool(True), size=SIZE)
    np.testing.assert_allclose(twice.reading.hidden, once.reading.hidden, rtol=1e-5, atol=1e-7)
    assert np.abs(once.reading.hidden).max() > 0


def test_the_text_restarts_with_hidden_states_of_zero(made):
    _, program, step = made
    state, rows = program.init(np.uint32(0)), []
    for _ in range(4):
        state, _ = step(state)
        rows.append((int(state.reading.row), bool(np.any(state.reading.hidden))))
    # 20 rows: the last segment has only one row to tell, and is read with the third.
    assert rows == [(6, True), (12, True), (0, False), (6, True)] or rows == [
        (6, True),
        (12, True),
        (18, True),
        (0, False),
    ]


def test_averages_are_the_mean_of_the_weights_since_the_trigger(made):
    _, program, step = made
    state = program.init(np.uint32(0))
    state, _ = step(state)
    np.testing.assert_array_equal(leaves(state.average), leaves(state.weights))
    state = state.replace(averaging=jnp.ones((), jnp.bool))
    seen = []
    for count in range(1, 6):
        state, metrics = step(state)
        seen.append(leaves(state.weights))
        assert int(metrics["averaged_steps"]) == count
        np.testing.assert_allclose(leaves(state.average), np.mean(seen, axis=0), rtol=1e-5, atol=1e-7)


def simple_trigger(losses, patience):
    """The reference code's rule, epoch by epoch: whether weights are averaged after each."""
    earlier, averaging, after = [], False, []
    for loss in losses:
        averaging = averaging or (len(earlier) > patience and loss > min(earlier[:-patience]))
        earlier.append(loss)
        after.append(averaging)
    return after


@pytest.mark.parametrize("patience", [1, 3, 5])
def test_averaging_begins_when_the_loss_has_stopped_falling(patience):
    program = train_program(train_config(None, patience=patience), vocabulary=12, rows=20)
    ended = jax.jit(end_epoch)
    random = np.random.RandomState(patience)
    for _ in range(4):
        state = program.init(np.uint32(0))
        losses = (6 / np.arange(1, 16) ** 0.3 + random.normal(0, 0.15, 15)).astype(np.float32)
        found = []
        for loss in losses:
            state = ended(state, loss)
            found.append(bool(state.averaging))
        assert found == simple_trigger(losses.tolist(), patience)
        assert float(state.best_loss) == losses.min()


def test_what_is_not_finite_goes_back_to_the_best_weights(made):
    config, program, step = made
    state, _ = step(program.init(np.uint32(0)))
    state = end_epoch(state, jnp.float32(3.0))
    best = leaves(state.weights)
    state, _ = step(state)
    state = end_epoch(state, jnp.float32(4.0))
    broken = state.replace(weights=jax.tree.map(lambda leaf: leaf * jnp.nan, state.weights))
    back, metrics = step(broken)
    np.testing.assert_array_equal(leaves(back.weights), best)
    np.testing.assert_array_equal(leaves(back.average), best)
    assert not np.any(back.reading.hidden)
    assert (int(metrics["returns"]), int(back.not_finite_at)) == (1, 0)
    assert np.isfinite(float(back.sums["train/loss"]))
    on, _ = step(back)
    assert np.isfinite(leaves(on.weights)).all() and int(on.returns) == 1
    for _ in range(config.rollbacks):
        back, _ = step(back.replace(weights=broken.weights))
    assert int(back.not_finite_at) == int(back.step)


def test_perplexity_is_that_of_the_whole_text_in_one_piece(made):
    """However a text is cut into pieces; the last is filled up."""
    config, program, _ = made
    weights = {"params": program.init(np.uint32(0)).weights}
    evaluate = jax.jit(evaluation_function(program.model))
    words = corpus().valid
    sums = []
    for size in (4, 6, 29):
        function = carry_hidden(lambda *batch: evaluate(weights, None, *batch), np.zeros((2, config.width), np.float32))
        pieces = list(evaluation_pieces(words, 2, size))
        sums.append(sum(float(function(*piece)) for piece in pieces))
        assert sum(int(mask.sum()) for _, _, mask in pieces) == 58
    np.testing.assert_allclose(sums, sums[-1], rtol=1e-5)


@pytest.mark.parametrize("chosen", [{"momentum": 0.9}, {"optimizer": "adamw"}])
def test_the_state_of_the_optimizer_is_carried_until_the_weights_go_back(chosen):
    config = train_config(None, learning_rate=0.01, **chosen, **PLAIN)
    stream = token_stream(corpus().train, config.batches.batch_size, size=SIZE)
    program = train_program(config, vocabulary=12, rows=stream.rows)
    step = jax.jit(lambda state: program.step(state, stream.words, np.int32(SIZE), np.bool(False), size=SIZE)[0])
    state = program.init(np.uint32(0))
    begun = leaves(state.optimizer_state)
    assert not np.any(begun)
    once = step(state)
    forgotten = step(once.replace(optimizer_state=state.optimizer_state))
    assert np.any(leaves(once.optimizer_state)) and np.any(leaves(step(once).weights) != leaves(forgotten.weights))
    broken = once.replace(weights=jax.tree.map(lambda leaf: leaf * jnp.nan, once.weights))
    np.testing.assert_array_equal(leaves(step(broken).optimizer_state), begun)
