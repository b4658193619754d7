"""Token streams on the device, and the position of a run in them: the next row, and the hidden states before it."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jdarts.data.text import columns
from jdarts.data.text.streams import TextSegment, mean_length, next_start, padded, segment
from jdarts.errors import InputError
from jdarts.runs.devices import Devices


class TokenStream(NamedTuple):
    """A text on the device, in parallel columns.

    Attributes:
      words: int32 `[R + size, B]`, padded at the end.
      rows: rows of text without padding, `R`.
    """

    words: jax.Array
    rows: int

    def shape(self) -> jax.ShapeDtypeStruct:
        """Shape and type of the words."""
        return jax.ShapeDtypeStruct(self.words.shape, self.words.dtype)


@flax.struct.dataclass
class StreamPosition:
    """The position in a token stream.

    Attributes:
      row: int32 `[]`, the first row of the next segment.
      hidden: `[B, H]`, the hidden states before it; 0 at the start of the text.
    """

    row: jax.Array
    hidden: jax.Array


def token_stream(words: np.ndarray, batch_size: int, *, size: int, devices: Devices | None = None) -> TokenStream:
    """Places a text on the device, or the whole of it on each of several, for segments of up to `size` rows."""
    rows = columns(words, batch_size)
    return TokenStream((devices or Devices()).replicate(padded(rows, size)), len(rows))


def start_of_stream(batch_size: int, width: int, dtype: Any = jnp.float32) -> StreamPosition:
    """The position at the start of a stream."""
    return StreamPosition(jnp.zeros((), jnp.int32), jnp.zeros((batch_size, width), dtype))


def next_segment(position: StreamPosition, words: jax.Array, length: jax.Array, *, size: int, rows: int) -> TextSegment:
    """The next segment; arguments as for `jdarts.data.text.segment`."""
    return segment(words, position.row, length, size=size, rows=rows)


def advance(position: StreamPosition, length: jax.Array, hidden: jax.Array, *, rows: int) -> StreamPosition:
    """The position after a segment of `length` rows. At the end of the text it returns to the start, with hidden states of 0."""
    row, starts_again = next_start(position.row, length, rows=rows)
    return StreamPosition(row, jnp.where(starts_again, jnp.zeros_like(hidden), hidden).astype(position.hidden.dtype))


def steps_per_pass(rows: int, *, bptt: int) -> int:
    """Steps of a pass over a text, on average over the lengths of segments."""
    if rows < 2:
        raise InputError(f"a text of {rows} rows has no segment; give 2 or more")
    return max(1, round((rows - 1) / mean_length(bptt=bptt)))
