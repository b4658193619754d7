"""The loss over a whole text: each column is read from start to end, and hidden states pass from piece to piece."""

import functools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jdarts.data.text import columns
from jdarts.nets.language import token_losses
from jdarts.parallel import padded_share, share, sum_over

Batch = tuple[np.ndarray, np.ndarray, np.ndarray]
Evaluate = Callable[..., tuple[Any, ...]]


class WordAnswers(NamedTuple):
    """What a language model says of each word, `[B, T]`.

    Attributes:
      loss: its negative log probability, in nats.
      guess: int32, the most probable word in its place.
      confidence: the probability of the guess.
    """

    loss: jax.Array
    guess: jax.Array
    confidence: jax.Array


def evaluation_function(model: nn.Module, *, batch_statistics: bool = False, answers: bool = False) -> Evaluate:
    """A pure function of variables, alphas (None for a discrete cell), hidden states, words, targets and mask.

    It returns the sum of the losses in the mask, and the hidden states after the last row in the mask. With `axis_name` each
    device gets all columns, computes its share of them, and returns the results of all.

    Args:
      model: the language model.
      batch_statistics: whether batch norm in a search cell uses the statistics of the batch, separate for each node and time
        step, instead of the running statistics, which all of them share.
      answers: whether it also returns `WordAnswers`, at third.
    """

    def evaluate(
        variables: Any,
        alphas: Any,
        hidden: jax.Array,
        words: jax.Array,
        targets: jax.Array,
        mask: jax.Array,
        *,
        axis_name: str | None = None,
    ) -> tuple[Any, ...]:
        hidden = share(hidden, axis_name)
        words, targets, mask = share((words, targets, mask), axis_name, axis=1)
        length = jnp.sum(mask[:, 0], dtype=jnp.int32)
        network: Any = model.clone(axis_name=axis_name) if batch_statistics else model
        read: Any = functools.partial(network.apply, variables, words, hidden, alphas, length=length)
        prediction = read(train=True, mutable=["batch_stats"])[0] if batch_statistics else read(train=False)
        losses = token_losses(prediction.logits, targets)
        total = jnp.sum(jnp.where(mask, losses, jnp.zeros_like(losses)))
        found = (total, padded_share(prediction.hidden, axis_name))
        if answers:
            said = _answers(prediction.logits, targets, losses)
            found += (jax.tree.map(lambda each: padded_share(each.T, axis_name), said),)
        return sum_over(found, axis_name)

    return evaluate


def _answers(logits: jax.Array, targets: jax.Array, losses: jax.Array) -> WordAnswers:
    """The answers `[T, B]` of logits `[T, B, V]`."""
    of_target = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    confidence = jnp.exp(jnp.max(logits, axis=-1) - of_target - losses)
    return WordAnswers(losses, jnp.argmax(logits, axis=-1).astype(jnp.int32), confidence)


def evaluation_shapes(size: int, batch_size: int, width: int) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Shapes and types of hidden states, words, targets and mask."""
    return (
        jax.ShapeDtypeStruct((batch_size, width), jnp.float32),
        jax.ShapeDtypeStruct((size, batch_size), jnp.int32),
        jax.ShapeDtypeStruct((size, batch_size), jnp.int32),
        jax.ShapeDtypeStruct((size, batch_size), jnp.bool),
    )


def evaluation_pieces(words: np.ndarray, batch_size: int, size: int) -> Iterator[Batch]:
    """Consecutive pieces of a text, all of one size: words, targets and mask, `[size, B]` each.

    Args:
      words: int32 `[N]`.
      batch_size: number of columns `B`.
      size: rows of a piece; the last one is padded.
    """
    stream = columns(words, batch_size)
    for start in range(0, len(stream) - 1, size):
        rows = np.arange(start, start + size)
        mask = rows < len(stream) - 1
        rows = np.minimum(rows, len(stream) - 2)
        yield stream[rows], stream[rows + 1], np.broadcast_to(mask[:, None], (size, batch_size))


def carry_hidden(evaluate: Callable[..., tuple[jax.Array, jax.Array]], hidden: np.ndarray) -> Callable[..., jax.Array]:
    """A function of words, targets and mask that passes the hidden states from call to call, starting with `hidden`."""
    state: Any = hidden

    def next_piece(words: np.ndarray, targets: np.ndarray, mask: np.ndarray) -> jax.Array:
        nonlocal state
        total, state = evaluate(state, words, targets, mask)
        return total

    return next_piece
