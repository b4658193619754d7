"""Where a run stands in a text: the row, and the hidden states with which the next segment begins."""

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from jdarts.data.text import columns
from jdarts.data.text.streams import TextSegment, following, mean_length, padded, segment
from jdarts.errors import InputError
from jdarts.runs.devices import Devices


class Stream(NamedTuple):
    """A text on the device, in columns.

    Attributes:
      words: int32 `[R + size, B]`, filled up at its end.
      rows: rows that are text, `R`.
    """

    words: jax.Array
    rows: int

    def shape(self) -> jax.ShapeDtypeStruct:
        """Shape and type of the words."""
        return jax.ShapeDtypeStruct(self.words.shape, self.words.dtype)


@flax.struct.dataclass
class Reading:
    """Where a text is read on.

    Attributes:
      row: int32 `[]`, the first row of the next segment.
      hidden: `[B, H]`, hidden states before it; 0 at the beginning of the text.
    """

    row: jax.Array
    hidden: jax.Array


def stream_of(words: np.ndarray, batch_size: int, *, size: int, devices: Devices | None = None) -> Stream:
    """Puts a text on the device, or whole on each of several, for segments of up to `size` rows."""
    cut = columns(words, batch_size)
    return Stream((devices or Devices()).whole(padded(cut, size)), len(cut))


def beginning(batch_size: int, width: int, dtype: Any = jnp.float32) -> Reading:
    """The reading of a text that was not begun, with hidden states of a type."""
    return Reading(jnp.zeros((), jnp.int32), jnp.zeros((batch_size, width), dtype))


def cut(reading: Reading, words: jax.Array, length: jax.Array, *, size: int, rows: int) -> TextSegment:
    """The next segment; arguments as for `jdarts.data.text.segment`."""
    return segment(words, reading.row, length, size=size, rows=rows)


def read_on(reading: Reading, length: jax.Array, hidden: jax.Array, *, rows: int) -> Reading:
    """The reading after a segment of so many rows; a text that has ended begins again with hidden states of 0."""
    row, again = following(reading.row, length, rows=rows)
    return Reading(row, jnp.where(again, jnp.zeros_like(hidden), hidden).astype(reading.hidden.dtype))


def steps_per_pass(rows: int, *, bptt: int) -> int:
    """Steps that a pass over a text takes, on average over the lengths of segments."""
    if rows < 2:
        raise InputError(f"a text of {rows} rows has no segment; give 2 or more")
    return max(1, round((rows - 1) / mean_length(bptt=bptt)))
