"""Files of one JSON object a line that long work appends to: what a kill cut off costs its own line and no other."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a file's lines, none if there is no file; lines that are no whole object are left out.

    Parameters
    ----------
    path : pathlib.Path
    """
    if not path.exists():
        return
    for line in path.read_bytes().split(b"\n"):
        try:
            record = json.loads(line)
        except ValueError:  # of JSON or of UTF-8
            continue
        if isinstance(record, dict):
            yield record


def mend(path: Path) -> None:
    """Take out a last line that a kill cut off, so that what is appended next does not continue it and is lost with it.

    Only for whoever is about to append: another process may be in the middle of that line.

    Parameters
    ----------
    path : pathlib.Path
    """
    if not path.exists():
        return
    data = path.read_bytes()
    if not data.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(data.rfind(b"\n") + 1)


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a line; it is in the file when this returns.

    Parameters
    ----------
    path : pathlib.Path
    record : dict
        What JSON has no word for is written as text.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, separators=(",", ":"), default=str) + "\n")
