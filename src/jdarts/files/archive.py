"""Zip archives of arrays, read from memory: each member is checked, and unpacked no further than its stated size."""

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping

_MEMBER_SIGNATURE = b"PK\x03\x04"
#: The header before a member: signature, flags, then the lengths of its name and its extra field.
_MEMBER_HEADER = struct.Struct("<4s2xH18xHH")
_DIRECTORY_SIGNATURE = b"PK\x01\x02"
_MAX_MEMBERS = 65_535
_ENCRYPTED = 1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class DamagedArchive(Exception):
    """An archive that cannot be read; the message says why."""


class Archive:
    """The members of a zip archive.

    Attributes:
      members: the directory entry of each member, by name.

    Raises:
      DamagedArchive: the content is not a zip archive, is damaged, or has too many members.
    """

    def __init__(self, content: bytes) -> None:
        if content.count(_DIRECTORY_SIGNATURE) > _MAX_MEMBERS:
            raise DamagedArchive(f"it has more than {_MAX_MEMBERS:,} members")
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                infos = archive.infolist()
        except (
            # The standard library raises all of these for contradictory directories.
            zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, OSError, EOFError, OverflowError,
            IndexError, struct.error,
        ) as error:  # fmt: skip
            raise DamagedArchive(str(error) or type(error).__name__) from None
        self.members: Mapping[str, zipfile.ZipInfo] = {info.filename: info for info in infos}
        if len(self.members) != len(infos):
            raise DamagedArchive("two of its members have the same name")
        if sum(info.compress_size for info in infos) > len(content):
            raise DamagedArchive("its members are longer than the file")
        self._content = memoryview(content)

    def read(self, name: str) -> bytes | memoryview:
        """The content of a member.

        Its size is in the directory: check it before you read a member that may be too large.

        Raises:
          DamagedArchive: the member is damaged.
        """
        info = self.members[name]
        content = self.start(name, info.file_size)
        if len(content) != info.file_size or zlib.crc32(content) != info.CRC:
            raise DamagedArchive(f"{shown(name)} does not match its checksum")
        return content

    def start(self, name: str, size: int) -> bytes | memoryview:
        """The first bytes of a member, at most `size`. Its checksum is not compared.

        Raises:
          DamagedArchive: the member cannot be unpacked.
        """
        info = self.members[name]
        if info.compress_type not in _METHODS or info.flag_bits & _ENCRYPTED:
            raise DamagedArchive(f"{shown(name)} is encrypted or compressed in an unknown way")
        compressed = self._compressed(info)
        if info.compress_type == zipfile.ZIP_STORED:
            return compressed[:size]
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(compressed, size) if size else b""
        except zlib.error:
            raise DamagedArchive(f"{shown(name)} cannot be unpacked") from None

    def _compressed(self, info: zipfile.ZipInfo) -> memoryview:
        """The compressed bytes of a member."""
        offset = info.header_offset
        header = self._content[offset : offset + _MEMBER_HEADER.size] if offset >= 0 else b""
        if len(header) != _MEMBER_HEADER.size or header[:4] != _MEMBER_SIGNATURE:
            raise DamagedArchive(f"{shown(info.filename)} is not at the position that the archive's directory gives")
        _, _, name, extra = _MEMBER_HEADER.unpack(header)
        start = offset + _MEMBER_HEADER.size + name + extra
        compressed = self._content[start : start + info.compress_size]
        if len(compressed) != info.compress_size:
            raise DamagedArchive(f"{shown(info.filename)} is cut short")
        return compressed


def is_archive(content: bytes) -> bool:
    """Whether the content of a file begins like a zip archive."""
    return content.startswith(_MEMBER_SIGNATURE)


def shown(name: str) -> str:
    """A name in the form that messages show."""
    return repr(name if len(name) <= 60 else f"{name[:59]}…")
