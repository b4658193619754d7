"""Streams of words in columns, and the segments that truncated back-propagation reads of them."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.errors import InputError

#: Shortest segment that is drawn, and the standard deviation of its length, where lengths vary (Merity et al. 2018).
SHORTEST = 5
DEVIATION = 5.0
#: A segment is at most so much longer than the mean.
LONGEST_EXTRA = 20
#: How often a segment is of half the length.
HALVED = 0.05


class TextSegment(NamedTuple):
    """What a recurrent network reads at once, at a compiled shape.

    Attributes:
      inputs: int32 `[T, B]`, words.
      targets: int32 `[T, B]`, the word after each of them.
      length: int32 `[]`, the rows that count, 1 to `T`; those after them are filling.
    """

    inputs: jax.Array
    targets: jax.Array
    length: jax.Array

    @property
    def mask(self) -> jax.Array:
        """Which rows count, bool `[T]`."""
        return jnp.arange(self.inputs.shape[0], dtype=jnp.int32) < self.length


def columns(words: np.ndarray, batch_size: int) -> np.ndarray:
    """Cuts a stream into `B` pieces of one length, side by side; the words left over are dropped.

    Args:
      words: int32 `[N]`.
      batch_size: number of columns `B`.

    Returns:
      int32 `[R, B]`, `R = ⌊N / B⌋` rows; each column is a continuous text.

    Raises:
      InputError: fewer words than two rows need.
    """
    rows = len(words) // batch_size
    if rows < 2:
        raise InputError(
            f"{len(words):,} words make {rows} row{'s' * (rows != 1)} of {batch_size} columns, and a word to tell needs a "
            f"row before it; give a batch size of {max(1, len(words) // 2):,} or less, or more text"
        )
    return np.ascontiguousarray(words[: rows * batch_size].reshape(batch_size, rows).T)


def padded(stream: np.ndarray, rows: int) -> np.ndarray:
    """A stream `[R, B]` with so many rows of filling at its end, from which `segment` can cut at every row."""
    return np.pad(stream, ((0, rows), (0, 0)))


def segment(stream: jax.Array, start: jax.Array, length: jax.Array, *, size: int, rows: int) -> TextSegment:
    """Cuts a segment at a row that may differ from call to call, at one compiled shape.

    Args:
      stream: int32 `[R + size, B]` or longer, as `padded` makes it.
      start: int32 `[]`, the first row, below `rows − 1`.
      length: int32 `[]`, rows that are wanted, at most `size`; fewer count where the stream ends.
      size: rows of the compiled shape `T`.
      rows: rows of the stream without its filling, `R`.

    Returns:
      The segment.
    """
    cut = jax.lax.dynamic_slice_in_dim(stream, start, size + 1, axis=0)
    return TextSegment(cut[:-1], cut[1:], jnp.minimum(length, rows - 1 - start).astype(jnp.int32))


def following(start: jax.Array, length: jax.Array, *, rows: int) -> tuple[jax.Array, jax.Array]:
    """Where the next segment starts, and whether that is the beginning of the stream, read anew.

    A single row left at the end is not read, as in the reference code.

    Args:
      start: int32 `[]`, the first row of the present segment.
      length: int32 `[]`, its rows.
      rows: rows of the stream `R`.

    Returns:
      The row, int32 `[]`, and a bool `[]`.
    """
    after = start + length
    ended = after >= rows - 2
    return jnp.where(ended, 0, after).astype(jnp.int32), ended


def segment_lengths(seed: int, epoch: int, count: int, *, bptt: int, varied: bool) -> np.ndarray:
    """Lengths of the segments of an epoch, the same for the same arguments in every version of numpy.

    The mean is `bptt`, and half of it in 5 % of the segments; where lengths are varied they are normally distributed
    around it with a standard deviation of 5, between 5 and `bptt` + 20. The reference code varies them in training
    and not in the search.

    Args:
      seed: seed of the run.
      epoch: which epoch.
      count: number of segments.
      bptt: rows through which gradients flow.
      varied: whether lengths vary.

    Returns:
      int32 `[count]`.
    """
    random = np.random.RandomState([seed, epoch])
    mean = np.where(random.random_sample(count) < HALVED, bptt / 2, bptt)
    if varied:
        mean = np.clip(random.normal(mean, DEVIATION), SHORTEST, bptt + LONGEST_EXTRA)
    return np.maximum(mean, 1).astype(np.int32)


def mean_length(*, bptt: int) -> float:
    """Mean of `segment_lengths`, to the rounding of single lengths."""
    return (1 - HALVED) * bptt + HALVED * bptt / 2


def sizes(*, bptt: int, varied: bool) -> tuple[int, ...]:
    """The compiled shapes that all lengths fit into, shortest first: one, or one every ten rows where lengths vary."""
    if not varied:
        return (bptt,)
    longest = max(bptt, SHORTEST) + LONGEST_EXTRA
    return (*(size for size in range(longest - 30, longest, 10) if size > SHORTEST), longest)
