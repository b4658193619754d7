"""Token streams in parallel columns, and the segments of truncated back-propagation through time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jdarts.errors import InputError

#: If lengths vary: the shortest segment, and the standard deviation of the lengths (Merity et al. 2018).
SHORTEST = 5
DEVIATION = 5.0
#: The longest segment exceeds the mean by this.
LONGEST_EXTRA = 20
#: Probability that a segment has half the length.
HALVED = 0.05


class TextSegment(NamedTuple):
    """A segment of text with a compiled shape.

    Attributes:
      inputs: int32 `[T, B]`, words.
      targets: int32 `[T, B]`, the next word after each input.
      length: int32 `[]`, the rows that count, 1 to `T`; later rows are padding.
    """

    inputs: jax.Array
    targets: jax.Array
    length: jax.Array

    @property
    def mask(self) -> jax.Array:
        """Which rows count, bool `[T]`."""
        return jnp.arange(self.inputs.shape[0], dtype=jnp.int32) < self.length


def columns(words: np.ndarray, batch_size: int) -> np.ndarray:
    """Cuts a text into `B` pieces of equal length, side by side; the words left over are dropped.

    Args:
      words: int32 `[N]`.
      batch_size: number of columns `B`.

    Returns:
      int32 `[R, B]`, `R = ⌊N / B⌋` rows; each column is a continuous text.

    Raises:
      InputError: the words do not fill two rows.
    """
    rows = len(words) // batch_size
    if rows < 2:
        raise InputError(
            f"{len(words):,} words make {rows} row{'s' * (rows != 1)} of {batch_size} columns, and a prediction needs two "
            f"rows; give a batch size of {max(1, len(words) // 2):,} or less, or more text"
        )
    return np.ascontiguousarray(words[: rows * batch_size].reshape(batch_size, rows).T)


def padded(stream: np.ndarray, rows: int) -> np.ndarray:
    """A stream `[R, B]` with rows of padding at its end, so that `segment` can cut at every row."""
    return np.pad(stream, ((0, rows), (0, 0)))


def segment(stream: jax.Array, start: jax.Array, length: jax.Array, *, size: int, rows: int) -> TextSegment:
    """Cuts a segment at any row, with one compiled shape.

    Args:
      stream: int32 `[R + size, B]` or longer, from `padded`.
      start: int32 `[]`, the first row, below `rows − 1`.
      length: int32 `[]`, requested rows, at most `size`; fewer count at the end of the stream.
      size: rows of the compiled shape `T`.
      rows: rows of the stream without padding, `R`.

    Returns:
      The segment.
    """
    cut = jax.lax.dynamic_slice_in_dim(stream, start, size + 1, axis=0)
    return TextSegment(cut[:-1], cut[1:], jnp.minimum(length, rows - 1 - start).astype(jnp.int32))


def next_start(start: jax.Array, length: jax.Array, *, rows: int) -> tuple[jax.Array, jax.Array]:
    """The first row of the next segment, and whether the stream starts again there.

    A single remaining row is not read, as in the reference code.

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

    The mean is `bptt`, and half of it in 5 % of the segments. Varied lengths are normally distributed around the mean, with
    a standard deviation of 5, between 5 and `bptt` + 20. The reference code varies them in training, not in the search.

    Args:
      seed: seed of the run.
      epoch: which epoch.
      count: number of segments.
      bptt: rows of back-propagation through time.
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
    """Mean of `segment_lengths` without rounding."""
    return (1 - HALVED) * bptt + HALVED * bptt / 2


def compiled_sizes(*, bptt: int, varied: bool) -> tuple[int, ...]:
    """The row counts of the compiled shapes, shortest first: one, or one every ten rows if lengths vary."""
    if not varied:
        return (bptt,)
    longest = max(bptt, SHORTEST) + LONGEST_EXTRA
    return (*(size for size in range(longest - 30, longest, 10) if size > SHORTEST), longest)
