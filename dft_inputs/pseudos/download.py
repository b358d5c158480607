"""Downloads over https, bounded in time and size; one that was cut goes on where it stopped."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CHUNK = 256 * 1024
_AGENT = "nucleate (pseudopotential installer)"
_PARTIAL, _RANGE_REFUSED = 206, 416


class DownloadError(Exception):
    """A download that can't be had; the message says from where and why."""


@dataclass(frozen=True)
class Downloader:
    """How files are fetched.

    Parameters
    ----------
    schemes : tuple of str
        What an address, and whatever it redirects to, may begin with.
    timeout_s : float
        Longest silence of a server (s).
    """

    schemes: tuple[str, ...] = ("https",)
    timeout_s: float = 60.0

    def fetch(self, url: str, path: Path, *, limit_bytes: int, progress: Callable[[str], None]) -> None:
        """Download a file.

        What came of an interrupted download is kept as ``<path>.part`` and continued by the next call, if the server
        can do that. Nothing is trusted: what the bytes must be is for the caller to check.

        Raises
        ------
        DownloadError
            If the address is not of an allowed scheme (also after redirection), the server does not answer, refuses,
            or sends more than the limit.
        OSError
            If it can't be written.
        """
        part = path.with_name(f"{path.name}.part")
        have = part.stat().st_size if part.exists() else 0
        request = urllib.request.Request(self.allowed(url), headers={"User-Agent": _AGENT})  # noqa: S310 - checked
        if have:
            request.add_header("Range", f"bytes={have}-")
        opener = urllib.request.build_opener(_Redirects(self))
        try:
            with opener.open(request, timeout=self.timeout_s) as answer:
                continued = answer.status == _PARTIAL
                total = int(answer.headers.get("Content-Length") or 0) + (have if continued else 0)
                if total > limit_bytes:
                    raise DownloadError(f"{url}: {total / 1e6:.0f} MB are offered, {limit_bytes / 1e6:.0f} allowed")
                progress(f"{url}: {total / 1e6:.1f} MB" if total else url)
                with part.open("ab" if continued else "wb") as out:
                    _copy(answer, out, url, limit_bytes, progress, total)
        except urllib.error.HTTPError as error:
            if error.code == _RANGE_REFUSED and have:
                # the part is longer than the file, or whole: begin anew rather than guess
                part.unlink()
                self.fetch(url, path, limit_bytes=limit_bytes, progress=progress)
                return
            raise DownloadError(f"{url}: the server says {error.code} {error.reason}") from error
        except (urllib.error.URLError, TimeoutError, ConnectionError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", None) or error
            raise DownloadError(f"{url} can't be reached: {reason}") from error
        part.replace(path)

    def allowed(self, url: str) -> str:
        """Give an address back, or raise :class:`DownloadError` if its scheme is not allowed."""
        scheme = urlsplit(url).scheme
        if scheme not in self.schemes:
            raise DownloadError(f"{url}: only {' or '.join(self.schemes)} is allowed, not {scheme or 'no scheme'}")
        return url


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to allowed addresses only."""

    def __init__(self, downloader: Downloader) -> None:
        self._downloader = downloader

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        return super().redirect_request(req, fp, code, msg, headers, self._downloader.allowed(newurl))


def _copy(
    source: http.client.HTTPResponse,
    target: IO[bytes],
    url: str,
    limit_bytes: int,
    progress: Callable[[str], None],
    total: int,
) -> None:
    done = target.tell()
    told = done
    while chunk := source.read(_CHUNK):
        done += len(chunk)
        if done > limit_bytes:
            raise DownloadError(f"{url}: more than {limit_bytes / 1e6:.0f} MB were sent")
        target.write(chunk)
        if total and done - told > total / 10:
            told = done
            progress(f"{done / 1e6:.1f} of {total / 1e6:.1f} MB")
    if total and done < total:
        raise DownloadError(f"{url}: the connection ended after {done} of {total} bytes; the same again goes on there")
