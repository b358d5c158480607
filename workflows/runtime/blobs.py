"""Content-addressed files in the additional store: generator states, and whatever else any worker must load."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import tarfile
import tempfile
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from workflows.runtime.modes import as_asked
from workflows.runtime.settings import StoreError

OWNER = "nucleate-files"
"""Stands where a job's uuid stands in what jobflow writes to the same store, so no job's removal takes a file along."""


def pack(directory: Path) -> bytes:
    """Make one archive of a directory; the same names and contents make the same bytes, whenever and wherever.

    Only names and contents count: no owners, times or modes. Empty directories are left out.

    Parameters
    ----------
    directory : pathlib.Path

    Returns
    -------
    bytes
        An uncompressed tar archive (a compressor's output may change with its version, and the hash with it).

    Raises
    ------
    StoreError
        If it is no directory, or holds links or special files.
    """
    if not directory.is_dir():
        raise StoreError(f"{directory} is not a directory")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        paths = {p.relative_to(directory).as_posix(): p for p in directory.rglob("*")}
        for name in sorted(paths):
            path = paths[name]
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise StoreError(f"{path} is no plain file: links and special files are not stored")
            if path.is_file():
                data = path.read_bytes()
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def unpack(data: bytes, target: Path) -> None:
    """Unpack what :func:`pack` made; the target appears whole or not at all.

    Parameters
    ----------
    data : bytes
    target : pathlib.Path
        Must not exist, or be an empty directory.

    Raises
    ------
    StoreError
        If the archive is broken or names anything outside the target (nothing is written then), or the target is taken.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise StoreError(f"{target} exists already")
    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            members = archive.getmembers()
            for member in members:
                name = PurePosixPath(member.name)
                if not member.isreg() or name.is_absolute() or ".." in name.parts or not name.parts:
                    raise StoreError(f"the archive holds {member.name!r}, which is no plain file inside it: refused")
            for member in members:
                content = archive.extractfile(member)
                assert content is not None  # noqa: S101 - for the type checker: it is a regular file
                path = staging / member.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
        if target.exists():
            target.rmdir()
        staging.chmod(as_asked(0o777))
        staging.rename(target)
    except tarfile.TarError as error:
        raise StoreError(f"the archive is broken: {error}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


class Blobs:
    """Files by the sha256 of their content.

    Parameters
    ----------
    store : maggma.core.Store
        The connected additional store of a JobStore; of any kind.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    @staticmethod
    def _key(sha256: str) -> str:
        return f"sha256-{sha256}"

    def put_bytes(self, data: bytes) -> str:
        """Store bytes; storing them again is a no-op.

        Returns
        -------
        str
            Their sha256, in hex.
        """
        sha256 = hashlib.sha256(data).hexdigest()
        key = self._key(sha256)
        if self._store.count({"blob_uuid": key}) == 0:
            self._store.update(
                {
                    "blob_uuid": key,
                    "job_uuid": OWNER,
                    "job_index": 0,
                    "last_updated": datetime.now(UTC).isoformat(),
                    "base64": base64.b64encode(data).decode("ascii"),
                },
                key="blob_uuid",
            )
        return sha256

    def get_bytes(self, sha256: str) -> bytes:
        """Read bytes back.

        Parameters
        ----------
        sha256 : str
            What :meth:`put_bytes` gave.

        Raises
        ------
        StoreError
            If there are none by that hash, or what is stored doesn't have it.
        """
        document = self._store.query_one({"blob_uuid": self._key(sha256)})
        if document is None:
            raise StoreError(f"the store holds no file {sha256}")
        data = base64.b64decode(document["base64"])
        if hashlib.sha256(data).hexdigest() != sha256:
            raise StoreError(f"file {sha256} is damaged in the store: its content has another hash")
        return data

    def put_directory(self, path: Path) -> str:
        """Store a directory.

        Parameters
        ----------
        path : pathlib.Path

        Returns
        -------
        str
            The sha256 of its archive; the same content has the same.
        """
        return self.put_bytes(pack(path))

    def get_directory(self, sha256: str, target: Path) -> None:
        """Unpack a stored directory into ``target``, which must not exist or be empty."""
        unpack(self.get_bytes(sha256), target)
