"""Crystals that lie in a folder as a generator: what somebody else's model, database or hand has made already."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from generators.adapters.options import flag
from generators.adapters.options import path as checked_path
from generators.adapters.reading import PassedOver, Refused, judge, read_file
from generators.base import Sample, derive_seed, untrained
from generators.state_file import read_own, understood, write_own

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pymatgen.core import Structure

    from generators.base import Condition, FitReport, Labelled

FORMAT = 1
SUFFIXES = (".cif", ".vasp", ".xyz", ".extxyz", ".json")


class Stored(NamedTuple):
    """A crystal of the folder that fits: file, number in it (from 1), structure."""

    file: str
    number: int
    structure: Structure


class FolderOfCrystals:
    """The crystals of a folder in the order of their files' names; the seed plays no part.

    Parameters
    ----------
    path : str
        Folder of CIF, POSCAR, extxyz or pymatgen JSON files, or one such file; a relative path is taken from the
        working directory now. Sub-folders are not looked into, other files not read.
    repeat : bool
        Whether to begin again when all have been given; else asking for more is an error.

    Raises
    ------
    ValueError
        If an option has the wrong type.
    """

    name = "folder"
    version = "1+0"
    conditions_on: frozenset[str] = frozenset()

    def __init__(self, path: str, repeat: bool = False) -> None:
        self.path = checked_path(self.name, "path", path)
        self.repeat = flag(self.name, "repeat", repeat)

    def options(self) -> dict[str, Any]:
        """Return the options that make an equal generator."""
        return {"path": self.path, "repeat": self.repeat}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FolderOfCrystals) and self.options() == other.options()

    def __hash__(self) -> int:
        return hash(json.dumps(self.options(), sort_keys=True))

    def fit(self, dataset: Iterable[Structure], **options: Any) -> FitReport:
        """Count the structures; there is nothing to train.

        Raises
        ------
        ValueError
            If an option is given.
        """
        return untrained(self.name, dataset, options)

    def sample(self, n: int, condition: Condition, seed: int, start: int = 0) -> Iterator[Sample]:
        """Yield samples ``start`` .. ``n - 1``; see :class:`generators.base.Generator`.

        Crystals that can't be read, are none, or do not fit the condition are passed over, with a warning that counts
        them.

        Raises
        ------
        ValueError
            At once, if the folder is not there, or fewer crystals fit than are asked for.
        """
        stored, passed_over = self._fitting(condition)
        if passed_over.kinds:
            warnings.warn(f"folder: {self.path}: {len(passed_over)} crystals passed over: {passed_over}", stacklevel=2)
        if n > len(stored) and not (self.repeat and stored):
            raise ValueError(
                f"folder: {n} crystals are asked for, {len(stored)} of those in {self.path} fit the condition"
                + (f"; passed over: {passed_over}" if passed_over.kinds else "")
                + ("; ask for fewer, or set the option repeat" if stored else "")
            )
        return (self._one(index, stored, seed) for index in range(start, n))

    def _one(self, index: int, stored: list[Stored], seed: int) -> Sample:
        file, number, structure = stored[index % len(stored)]
        info = {"file": file, "number": number}
        return Sample(index, structure.copy(), derive_seed(seed, index), self.name, self.version, info)

    def _fitting(self, condition: Condition) -> tuple[list[Stored], PassedOver]:
        stored: list[Stored] = []
        passed_over = PassedOver()
        for file in self._files():
            for number, found in enumerate(read_file(file), start=1):
                structure = judge(found, condition)
                if isinstance(structure, Refused):
                    where = structure.detail if structure.kind == "unreadable" else f"{file.name}: {structure.detail}"
                    passed_over.add(structure._replace(detail=where))
                else:
                    stored.append(Stored(file.name, number, structure))
        return stored, passed_over

    def _files(self) -> list[Path]:
        path = Path(self.path)
        if path.is_file():
            return [path]
        if not path.is_dir():
            raise ValueError(f"folder: {path} (option path) is not there; name a folder of CIF, POSCAR or extxyz files")
        return sorted((p for p in path.iterdir() if p.is_file() and _is_crystal(p)), key=lambda p: p.name)

    def update(self, labelled: Iterable[Labelled]) -> Self:
        """Return an equal generator: files do not learn."""
        del labelled
        return type(self)(**self.options())

    def save(self, directory: Path) -> None:
        """Write ``generator.json``: the options; the crystals stay where they are."""
        write_own(directory, self.name, FORMAT, {"options": self.options()})

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read what :meth:`save` wrote."""
        state = read_own(directory, cls.name, FORMAT)
        with understood(directory):
            return cls(**state["options"])


def _is_crystal(path: Path) -> bool:
    name = path.name.lower()
    return not name.startswith(".") and (name.endswith(SUFFIXES) or "poscar" in name or "contcar" in name)
