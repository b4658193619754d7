"""Compressed streams, unpacked only as far as they are read."""

import zlib
from typing import Protocol

#: Values of `Unpacked`'s argument `form`: a gzip file, a bare zlib stream.
GZIP, ZLIB = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS

_CHUNK_BYTES = 1 << 20


class Readable(Protocol):
    """A source of bytes."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""
        ...


class Unpacked:
    """The content of a compressed stream, unpacked piece by piece."""

    def __init__(self, packed: Readable, form: int, *, max_bytes: int) -> None:
        """Starts to unpack a stream.

        Args:
          packed: the stream.
          form: `GZIP` or `ZLIB`.
          max_bytes: largest allowed size of the content.
        """
        self._packed, self._max_bytes, self._count = packed, max_bytes, 0
        self._stream = zlib.decompressobj(form)

    def read(self, size: int, /) -> bytes:
        """The next bytes; fewer than `size` only at the end, where the stream's checksum is compared.

        Raises:
          zlib.error: the stream is damaged.
          EOFError: it is cut off, or its content is longer than allowed.
        """
        parts, missing = [], size
        while missing and not self._stream.eof:
            packed = self._stream.unconsumed_tail or self._packed.read(_CHUNK_BYTES)
            part = self._stream.decompress(packed, missing)
            if not packed and not part and not self._stream.eof:
                raise EOFError("it is cut off")
            parts.append(part)
            missing -= len(part)
        self._count += size - missing
        if self._count > self._max_bytes:
            raise EOFError(f"it holds more than the {self._max_bytes:,} bytes that are expected")
        return b"".join(parts)

    def check_end(self) -> None:
        """Checks that the content ends here, and that only zeros follow the stream.

        Raises:
          zlib.error: the stream is damaged.
          EOFError: something follows.
        """
        if self.read(1):
            raise EOFError("it holds more than it says")
        if self._stream.unused_data.strip(b"\0") or self._packed.read(_CHUNK_BYTES).strip(b"\0"):
            raise EOFError("other data follow its end")
