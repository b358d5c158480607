"""Results by structure, shared by all arms and kept over runs: what was relaxed once is not relaxed again."""

from __future__ import annotations

import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pymatgen.core import Structure


def name_of(structure: Structure, what: str) -> str:
    """Hash a structure as it is (to 1e-6) together with what is done to it."""
    lattice = [[round(float(x), 6) + 0.0 for x in row] for row in structure.lattice.matrix]
    sites = [[s.specie.symbol, *(round(float(x), 6) + 0.0 for x in s.frac_coords)] for s in structure]
    return hashlib.sha256(json.dumps([what, lattice, sites]).encode()).hexdigest()


class Cache:
    """JSON files in a folder, one a result.

    Parameters
    ----------
    folder : pathlib.Path
    what : str
        Names what is done: model and limits.
    """

    def __init__(self, folder: Path, what: str) -> None:
        self.folder, self._what = folder, what
        folder.mkdir(parents=True, exist_ok=True)

    def get(self, structure: Structure) -> dict[str, Any] | None:
        """Give a result that is there."""
        path = self._path(structure)
        if not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def put(self, structure: Structure, result: dict[str, Any]) -> dict[str, Any]:
        """Keep a result; whole or not at all, whoever else writes."""
        path = self._path(structure)
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.write_text(json.dumps(result))
        part.replace(path)
        return result

    def remember(self, structure: Structure, work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Give a result, doing the work if it isn't there."""
        return self.get(structure) or self.put(structure, work())

    def _path(self, structure: Structure) -> Path:
        return self.folder / f"{name_of(structure, self._what)}.json"
