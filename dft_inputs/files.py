"""Which file of a run directory is what, told by content: names are nobody's standard, and gzip changes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dft_inputs.logs import speaks_of_trouble
from dft_inputs.texts import Text, read_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_SNIFF = 1 << 18
"""Bytes at the beginning of a file that tell what it is; batch systems put their own chatter before pw.x's."""

_TAIL = 1 << 16
"""Bytes at the end of a longer one that tell whether it is a log: a scheduler has the last word."""

_OTHER_LIMIT = 1 << 22
"""Bytes read of a file that is nobody's output."""

RECORD = "nucleate.json"
"""Ours, so its name is fixed: what we decided about the run, and what became of its process."""


class NoRunError(Exception):
    """A directory holds nothing that a DFT code has written.

    Parameters
    ----------
    directory : pathlib.Path
    why : str
    """

    def __init__(self, directory: Path, why: str) -> None:
        self.directory = directory
        super().__init__(f"{directory}: {why}")


@dataclass(frozen=True)
class Found:
    """One file and what it is.

    Parameters
    ----------
    path : pathlib.Path
    kind : str
        ``pw.out, pw.in, crash, vasprun, outcar, oszicar, vasp.out, incar, xdatcar, poscar, log, empty, other``.
    modified : float
        Seconds since the epoch.
    """

    path: Path
    kind: str
    modified: float

    def read(self) -> Text:
        """Read all of it; an error becomes an empty text (it was readable a moment ago)."""
        try:
            return Text(self.path.name, read_text(self.path, _OTHER_LIMIT if self.kind == "other" else None))
        except OSError:
            return Text(self.path.name, "")


@dataclass(frozen=True)
class RunFiles:
    """Files of a run directory.

    Parameters
    ----------
    directory : pathlib.Path
    files : tuple of Found
        In the order of their names.
    """

    directory: Path
    files: tuple[Found, ...]

    def of(self, *kinds: str) -> tuple[Found, ...]:
        """Give files of some kinds, the newest first."""
        chosen = [one for one in self.files if one.kind in kinds]
        return tuple(sorted(chosen, key=lambda one: (-one.modified, one.path.name)))

    def has(self, *kinds: str) -> bool:
        """Whether there is a file of one of these kinds."""
        return any(one.kind in kinds for one in self.files)

    def texts(self, *kinds: str) -> tuple[Text, ...]:
        """Read files of some kinds, the newest first."""
        return tuple(one.read() for one in self.of(*kinds))


def find_files(directory: Path) -> RunFiles:
    """Look at the files of a directory; directories in it are not entered.

    Raises
    ------
    NoRunError
        If it is no directory, or can't be read.
    """
    try:
        paths = sorted(directory.iterdir())
    except FileNotFoundError:
        raise NoRunError(directory, "no such directory") from None
    except NotADirectoryError:
        raise NoRunError(
            directory, "is a file; `nucleate diagnose` wants the directory that a run was made in"
        ) from None
    except OSError as error:
        raise NoRunError(directory, f"can't be read: {error.strerror}") from None
    found = [one for one in map(_look, paths) if one is not None]
    return RunFiles(directory, tuple(found))


def _look(path: Path) -> Found | None:
    try:
        if not path.is_file():
            return None
        status = path.stat()
        if status.st_size == 0:
            return Found(path, "empty", status.st_mtime)
        if path.name == RECORD:
            return Found(path, "other", status.st_mtime)
        head = read_text(path, _SNIFF)
        kind = kind_of(head)
        if (
            kind == "other"
            and not _is_data(head)
            and len(head) >= _SNIFF
            and speaks_of_trouble(read_text(path)[-_TAIL:])
        ):
            kind = "log"
    except OSError:
        return None
    return Found(path, kind, status.st_mtime)


def kind_of(head: str) -> str:
    """Tell what a file is from its beginning."""
    for kind, test in _KINDS:
        if test(head):
            return kind
    return "other"


def _matches(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern, re.MULTILINE)
    return lambda head: compiled.search(head) is not None


_PW_HEADER = "Program PWSCF v."


def _begins_like_pw(head: str) -> bool:
    """Whether the file ended while pw.x was writing its first words."""
    words = head.strip()
    return len(words) >= len("Program") and _PW_HEADER.startswith(words)


def _is_data(head: str) -> bool:
    """Whether it is JSON, a script, a pseudopotential, an archive or binary: they quote messages, or seem to."""
    if "\0" in head[:1024] and "\0" in head[-1024:]:
        return True
    return head.lstrip().startswith(("{", "[", "#!", "<UPF", "<PP_INFO")) or head[257:262] == "ustar"


def _is_poscar(head: str) -> bool:
    lines = head.splitlines()
    return len(lines) >= 7 and all(re.fullmatch(r"(\s*-?\d+\.\d+){3}\s*", line) for line in lines[2:5])


_NUMBERED = "       N       E                     dE             d eps"

_KINDS: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("pw.out", _matches(r"Program PWSCF v\.\S+ +.*starts on")),
    ("pw.out", _matches(r"^ *Error in routine +\S+ +\( *-?\d+\):")),
    ("pw.out", _begins_like_pw),
    ("other", _is_data),
    ("crash", _matches(r"^ *task # +\d+\s+from .* : error # ")),
    ("pw.in", _matches(r"(?i)^\s*&(control|system)\b")),
    ("vasprun", _matches(r"<modeling>")),
    ("outcar", _matches(r"^ executed on .* date |^ (INCAR|POTCAR): |^ Dimension of arrays:")),
    ("oszicar", lambda head: head.lstrip("\n").startswith(_NUMBERED)),
    ("vasp.out", _matches(r"^ running (on)? +\d+ (total cores|mpi-ranks)|entering main loop|^ POSCAR found")),
    ("vasp.out", _matches(r"^ vasp\.\d")),
    ("xdatcar", _matches(r"^Direct configuration= ")),
    ("poscar", _is_poscar),
    ("log", speaks_of_trouble),
    ("incar", _matches(r"(?i)^\s*(PREC|ENCUT|ISMEAR|IBRION|EDIFF|EDIFFG|NSW|ALGO|NELM|ISIF)\s*=")),
)
"""In the order in which they are tried."""
