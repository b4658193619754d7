"""Compressed files, unpacked no further than they are read."""

import zlib
from typing import Protocol

#: Values of `Unpacked`'s form: a gzip file, a bare zlib stream.
GZIP, ZLIB = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS

_CHUNK_BYTES = 1 << 20


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""
        ...


class Unpacked:
    """The content of a compressed stream, in pieces; never holds more than the piece that is asked for."""

    def __init__(self, packed: Readable, form: int, *, most: int) -> None:
        """Begins at the stream's start.

        Args:
          packed: the stream.
          form: `GZIP` or `ZLIB`.
          most: number of bytes that the content may have.
        """
        self._packed, self._most, self._given = packed, most, 0
        self._stream = zlib.decompressobj(form)

    def read(self, size: int, /) -> bytes:
        """The next bytes, fewer than `size` at the end alone. At the end the stream's own checksum has been compared.

        Raises:
          zlib.error: the stream is damaged.
          EOFError: it is cut off, or its content is longer than it may be.
        """
        parts, missing = [], size
        while missing and not self._stream.eof:
            packed = self._stream.unconsumed_tail or self._packed.read(_CHUNK_BYTES)
            part = self._stream.decompress(packed, missing)
            if not packed and not part and not self._stream.eof:
                raise EOFError("it is cut off")
            parts.append(part)
            missing -= len(part)
        self._given += size - missing
        if self._given > self._most:
            raise EOFError(f"it holds more than the {self._most:,} bytes that are expected")
        return b"".join(parts)

    def check_end(self) -> None:
        """Checks that nothing follows, in the stream or, zeros apart, behind it.

        Raises:
          zlib.error: the stream is damaged.
          EOFError: something follows.
        """
        if self.read(1):
            raise EOFError("it holds more than it says")
        if self._stream.unused_data.strip(b"\0") or self._packed.read(_CHUNK_BYTES).strip(b"\0"):
            raise EOFError("something else stands behind its end")
