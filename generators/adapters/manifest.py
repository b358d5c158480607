"""Reading the manifest that a script writes beside its batches; its contract: :mod:`generators.adapters.outside`."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from generators.adapters.outside import MANIFEST
from generators.adapters.reading import NoCrystalsError, read_extxyz
from generators.adapters.runs import FailedRun, Part, sha256_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FILE = re.compile(r"batch-[0-9]{1,9}\.extxyz")
_FIELDS: dict[str, type] = {"file": str, "n": int, "sha256": str, "model": str, "version": str}


def parts(folder: Path, seen: int, code: int | None) -> Iterator[Part]:
    """Yield the batches that a manifest names, from number ``seen`` on.

    A line counts when it is whole; a file that no line names does not count.

    Parameters
    ----------
    folder : pathlib.Path
    seen : int
        Batches that were read before.
    code : int or None
        Exit code, None while the model works.

    Raises
    ------
    FailedRun
        At the first batch that breaks the contract.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return
    *lines, rest = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[seen:], start=seen + 1):
        entry = _entry(line, number)
        file = folder / entry["file"]
        if file.is_symlink() or not file.is_file():
            raise FailedRun(f"line {number} of {MANIFEST} names {file.name}, which is no file there")
        found = sha256_of(file)
        if found != entry["sha256"]:
            raise FailedRun(
                f"{file.name} is not what {MANIFEST} says (another sha256): a batch has to be whole before its line "
                "is written"
            )
        try:
            crystals = read_extxyz(file)
        except NoCrystalsError as error:
            raise FailedRun(str(error)) from error
        if len(crystals) != entry["n"]:
            raise FailedRun(f"{file.name} has {len(crystals)} crystals, {MANIFEST} says {entry['n']}")
        yield Part(crystals, entry["model"], entry["version"], found)
    if code == 0 and rest.strip():
        raise FailedRun(f"the last line of {MANIFEST} is cut short")


def _entry(line: bytes, number: int) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError as error:
        raise FailedRun(f"line {number} of {MANIFEST} is no JSON: {line[:80]!r}") from error
    if not isinstance(entry, dict):
        raise FailedRun(f"line {number} of {MANIFEST} is no JSON object")
    for field, kind in _FIELDS.items():
        value = entry.get(field)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise FailedRun(f"line {number} of {MANIFEST} has no {field} of type {kind.__name__}")
    if not _FILE.fullmatch(entry["file"]):
        raise FailedRun(f"line {number} of {MANIFEST} names {entry['file']!r}; batches are called batch-00000.extxyz")
    return entry
