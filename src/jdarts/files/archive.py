"""Zip archives of arrays, read from memory: what a member holds is checked, and no more is unpacked than it says."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping

_START = b"PK\x03\x04"
#: Signature, then flags, then lengths of name and extra field, of the header that stands before a member.
_LOCAL = struct.Struct("<4s2xH18xHH")
_ENTRY = b"PK\x01\x02"
_MOST_MEMBERS = 65_535
_ENCRYPTED = 1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class DamagedArchive(Exception):
    """An archive that cannot be read; the text says why."""


class Archive:
    """The members of a zip archive.

    Attributes:
      members: what the archive's directory says of each, by name.

    Raises:
      DamagedArchive: no zip archive, a damaged one, or one with members that no file of arrays has.
    """

    def __init__(self, content: bytes) -> None:
        if content.count(_ENTRY) > _MOST_MEMBERS:
            raise DamagedArchive(f"it has more than {_MOST_MEMBERS:,} members")
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                infos = archive.infolist()
        except (
            # All that the standard library raises for directories that contradict themselves.
            zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError, OverflowError,
            IndexError, struct.error,
        ) as error:  # fmt: skip
            raise DamagedArchive(str(error) or type(error).__name__) from None
        self.members: Mapping[str, zipfile.ZipInfo] = {info.filename: info for info in infos}
        if len(self.members) != len(infos):
            raise DamagedArchive("it has two members of one name")
        if sum(info.compress_size for info in infos) > len(content):
            raise DamagedArchive("its members are longer than the file")
        self._content = memoryview(content)

    def read(self, name: str) -> bytes | memoryview:
        """All that a member holds.

        Its size is that which the directory gives: look at it before reading a member that may be too large.

        Raises:
          DamagedArchive: the member is damaged.
        """
        info = self.members[name]
        content = self.start(name, info.file_size)
        if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
            raise DamagedArchive(f"{shown(name)} is not as it was written")
        return content

    def start(self, name: str, size: int) -> bytes | memoryview:
        """The first bytes of a member, at most `size`; they are not checked against its checksum.

        Raises:
          DamagedArchive: the member cannot be unpacked.
        """
        info = self.members[name]
        if info.compress_type not in _METHODS or info.flag_bits & _ENCRYPTED:
            raise DamagedArchive(f"{shown(name)} is encrypted, or packed in another way than arrays are")
        packed = self._packed(info)
        if info.compress_type == zipfile.ZIP_STORED:
            return packed[:size]
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size) if size else b""
        except zlib.error:
            raise DamagedArchive(f"{shown(name)} cannot be unpacked") from None

    def _packed(self, info: zipfile.ZipInfo) -> memoryview:
        """The bytes of a member as they stand in the file."""
        offset = info.header_offset
        header = self._content[offset : offset + _LOCAL.size] if offset >= 0 else b""
        if len(header) != _LOCAL.size or header[:4] != _START:
            raise DamagedArchive(f"{shown(info.filename)} is not where the archive's directory says")
        _, _, name, extra = _LOCAL.unpack(header)
        start = offset + _LOCAL.size + name + extra
        packed = self._content[start : start + info.compress_size]
        if len(packed) != info.compress_size:
            raise DamagedArchive(f"{shown(info.filename)} is cut short")
        return packed


def is_archive(content: bytes) -> bool:
    """Whether a file that begins like this is a zip archive."""
    return content.startswith(_START)


def shown(name: str) -> str:
    """A name as messages show it."""
    return repr(name if len(name) <= 60 else f"{name[:59]}…")
