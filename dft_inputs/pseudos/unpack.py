"""Takes named files out of wheels and tar archives; no name from inside an archive ever becomes a path.

That makes the usual attacks (``../`` and absolute names, links, devices) void by construction: members are looked for
by names that we know, and their content is given as bytes.
"""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from lzma import LZMAError
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from dft_inputs.pseudos.upf import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_MAX_MEMBERS = 20_000
_MAX_TOTAL_BYTES = 2 * 1024**3


class ArchiveError(Exception):
    """An archive that can't be used; the message says why."""


def read_zip(path: Path, prefix: str, names: Collection[str]) -> dict[str, bytes]:
    """Read files of one folder of a zip archive (a wheel is one).

    Parameters
    ----------
    path : pathlib.Path
    prefix : str
        The folder's path inside, with its last slash.
    names : collection of str
        File names in that folder.

    Returns
    -------
    dict of str to bytes
        What was found; names that are not there are missing.

    Raises
    ------
    ArchiveError
        If it is no zip archive, is damaged, or a file is too large for a pseudopotential.
    """
    found = {}
    try:
        with zipfile.ZipFile(path) as archive:
            present = {info.filename: info for info in archive.infolist()}
            for name in sorted(names):
                info = present.get(f"{prefix}{name}")
                if info is None:
                    continue
                with archive.open(info) as member:
                    found[name] = _bounded(member.read(MAX_BYTES + 1), name)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise ArchiveError(f"{path.name} is no whole zip archive: {error}") from error
    return found


def read_tar(path: Path, names: Collection[str]) -> dict[str, bytes]:
    """Read files of a tar archive, in whatever folder they lie inside.

    Parameters
    ----------
    path : pathlib.Path
        Compressed or not.
    names : collection of str
        File names, without folders.

    Returns
    -------
    dict of str to bytes
        What was found. Links, devices and files of other names are passed over.

    Raises
    ------
    ArchiveError
        If it is no tar archive, is damaged, or expands to more than an archive of pseudopotentials can hold.
    """
    wanted = set(names)
    found: dict[str, bytes] = {}
    total = 0
    try:
        # opened as a stream: what a bomb expands to is counted while it comes
        with tarfile.open(path, mode="r|*") as archive:
            for count, member in enumerate(archive):
                total += member.size
                if count > _MAX_MEMBERS or total > _MAX_TOTAL_BYTES:
                    raise ArchiveError(f"{path.name} expands to more than an archive of pseudopotentials holds")
                name = PurePosixPath(member.name).name
                if not member.isfile() or name not in wanted:
                    continue
                content = archive.extractfile(member)
                if content is not None:
                    found[name] = _bounded(content.read(MAX_BYTES + 1), name)
    except (tarfile.TarError, zlib.error, EOFError, LZMAError, OSError) as error:
        raise ArchiveError(f"{path.name} is no whole tar archive: {error}") from error
    return found


def _bounded(content: bytes, name: str) -> bytes:
    if len(content) > MAX_BYTES:
        raise ArchiveError(f"{name} has more than {MAX_BYTES // 1024**2} MB, which no pseudopotential has")
    return content
