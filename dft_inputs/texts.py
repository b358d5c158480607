"""Text files as a run leaves them: compressed or not, cut off or not, with line numbers for evidence."""

from __future__ import annotations

import bz2
import lzma
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dft_inputs.diagnosis import Evidence

if TYPE_CHECKING:
    import re
    from collections.abc import Callable
    from pathlib import Path

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Text:
    """Content of a file, or a part of it that knows where it stands in the file.

    Parameters
    ----------
    file : str
        Name of the file.
    content : str
    first_line : int
        Number in the file, from 1, of the line that the content begins with.
    """

    file: str
    content: str
    first_line: int = 1

    def __contains__(self, words: str) -> bool:
        return words in self.content

    def at(self, position: int) -> Evidence:
        """Give the line that holds a position of the content."""
        begin = self.content.rfind("\n", 0, position) + 1
        end = self.content.find("\n", position)
        line = self.content[begin : end if end >= 0 else None]
        return Evidence(self.file, self.first_line + self.content.count("\n", 0, position), line.strip())

    def first(self, pattern: re.Pattern[str]) -> Evidence | None:
        """Give the line where a pattern first matches; ``None`` if nowhere."""
        found = pattern.search(self.content)
        return self.at(found.start()) if found else None

    def last(self, words: str) -> Evidence | None:
        """Give the line where words last occur; ``None`` if nowhere."""
        position = self.content.rfind(words)
        return self.at(position) if position >= 0 else None

    def end(self) -> Evidence:
        """Give the last line that is not empty."""
        kept = self.content.rstrip()
        return self.at(len(kept) - 1) if kept else Evidence(self.file, None, "the file is empty")

    def part(self, begin: int, end: int | None = None) -> Text:
        """Give what stands between two positions."""
        return Text(self.file, self.content[begin:end], self.first_line + self.content.count("\n", 0, begin))


def read_text(path: Path, limit: int | None = None) -> str:
    """Read a text file that may be compressed (gzip, bzip2, xz) and may be cut off or damaged at its end.

    Parameters
    ----------
    path : pathlib.Path
    limit : int, optional
        Bytes, uncompressed, after which reading stops.

    Returns
    -------
    str
        As much as can be had; what is no UTF-8 is replaced.

    Raises
    ------
    OSError
        If the file can't be read at all.
    """
    with path.open("rb") as file:
        head = file.read(6)
        file.seek(0)
        decompressor = _decompressor(head)
        if decompressor is None:
            return file.read(-1 if limit is None else limit).decode("utf-8", errors="replace")
        return _decompress(file.read(), decompressor, limit).decode("utf-8", errors="replace")


class _Gzip:
    """zlib's decompressor for gzip, with the names that bz2's and lzma's have."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data

    def decompress(self, data: bytes) -> bytes:
        return self._zlib.decompress(data)


_Decompressor = _Gzip | bz2.BZ2Decompressor | lzma.LZMADecompressor


def _decompressor(head: bytes) -> Callable[[], _Decompressor] | None:
    for magic, make in ((b"\x1f\x8b", _Gzip), (b"BZh", bz2.BZ2Decompressor), (b"\xfd7zXZ\x00", lzma.LZMADecompressor)):
        if head.startswith(magic):
            return make
    return None


def _decompress(data: bytes, make: Callable[[], _Decompressor], limit: int | None) -> bytes:
    """Decompress a file of one or several members, up to where it is cut off or damaged."""
    kept = bytearray()
    active = make()
    rest = data
    try:
        while rest and (limit is None or len(kept) < limit):
            kept += active.decompress(rest[:_CHUNK])
            rest = rest[_CHUNK:]
            if active.eof:
                rest = active.unused_data + rest
                active = make()
    except (zlib.error, lzma.LZMAError, OSError, EOFError):
        pass  # what came before the damage is worth reading
    return bytes(kept[:limit])
