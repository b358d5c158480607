"""Crystals that somebody else made: read one by one, and judged against the condition before they become samples."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import spglib
from ase.io import read as ase_read
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from generators.compositions import is_neutral
from generators.crystals.spglib_calls import found_or_none
from generators.crystals.validity import check_structure, read_structures

if TYPE_CHECKING:
    from pathlib import Path

    from generators.base import Condition

PRIMITIVE_SYMPREC = 0.01
"""Å; a cell is reduced only if its halves agree this well: a distorted supercell is a crystal of its own."""
MOST_BYTES = 256 * 2**20
"""A batch beyond it is no batch of crystals."""


class Unreadable(NamedTuple):
    """One crystal of a file that can't be read, and why."""

    reason: str


Found: TypeAlias = Structure | Unreadable


class NoCrystalsError(ValueError):
    """A file that holds no crystals at all."""


def read_extxyz(path: Path) -> list[Found]:
    """Read the frames of an extxyz file; a frame that can't be read, or is no crystal, costs only itself.

    Raises
    ------
    NoCrystalsError
        If the file is no extxyz file or too large.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise NoCrystalsError(f"{path.name} has {size / 2**20:.0f} MiB, at most {MOST_BYTES // 2**20} are read")
    try:
        lines = path.read_text().splitlines()
    except UnicodeDecodeError as error:
        raise NoCrystalsError(f"{path.name} is no text") from error
    found: list[Found] = []
    at = 0
    while at < len(lines):
        try:
            end = at + 2 + int(lines[at])
        except ValueError as error:
            raise NoCrystalsError(
                f"line {at + 1} of {path.name} should be a number of atoms, it is {lines[at][:40]!r}"
            ) from error
        if not at + 2 < end <= len(lines):
            raise NoCrystalsError(f"{path.name} ends before the {lines[at].strip()} atoms of line {at + 1}")
        found.append(_crystal("\n".join(lines[at:end]) + "\n"))
        at = end
    return found


def _crystal(frame: str) -> Found:
    try:
        atoms = ase_read(StringIO(frame), format="extxyz")
        if atoms.cell.rank != 3:
            return Unreadable('it has no cell (Lattice="..." in the comment line)')
        return AseAtomsAdaptor.get_structure(atoms)
    except Exception as error:  # noqa: BLE001 - garbage makes ASE's reader raise nearly anything
        return Unreadable(f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}")


def read_file(path: Path) -> list[Found]:
    """Read the crystals of a CIF, POSCAR, (ext)xyz or pymatgen JSON file; one that can't be read costs the file."""
    try:
        return list(read_structures(path))
    except (ValueError, OSError) as error:
        return [Unreadable(str(error))]


def plain(structure: Structure) -> Structure:
    """Return elements on sites, without charges, spins or site properties, in the primitive cell.

    The cell stays as it is unless it holds the same motif more than once (spglib, PRIMITIVE_SYMPREC).

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Ordered, checked.
    """
    symbols = [site.specie.symbol for site in structure]
    bare = Structure(structure.lattice, symbols, structure.frac_coords)
    numbers = [site.specie.Z for site in bare]
    cell = (bare.lattice.matrix, bare.frac_coords, numbers)
    options = {"to_primitive": True, "no_idealize": True, "symprec": PRIMITIVE_SYMPREC}
    smaller = found_or_none(spglib.standardize_cell, cell, **options)
    if smaller is None or len(smaller[2]) >= len(bare):
        return bare
    matrix, places, kinds = smaller
    return Structure(matrix, [int(z) for z in kinds], places)


class Refused(NamedTuple):
    """Why a crystal is passed over: a kind to count by, and what is wrong with this one."""

    kind: str
    detail: str


def judge(found: Found, condition: Condition) -> Structure | Refused:
    """Return a crystal as a sample holds it, or why it can't be one.

    Parameters
    ----------
    found : pymatgen.core.Structure or Unreadable
    condition : Condition

    Returns
    -------
    pymatgen.core.Structure or Refused
        The structure is ordered and primitive.
    """
    if isinstance(found, Unreadable):
        return Refused("unreadable", found.reason)
    if problems := check_structure(found):
        return Refused("no crystal", problems[0])
    structure = plain(found)
    amounts = {str(element): int(count) for element, count in structure.composition.items()}
    formula = structure.composition.reduced_formula
    if not condition.allows(amounts):
        return Refused("outside the chemical systems", formula)
    if len(structure) > condition.max_atoms:
        return Refused("too many atoms", f"{formula}: {len(structure)}, at most {condition.max_atoms} are wanted")
    elements = tuple(sorted(amounts))
    if not is_neutral(elements, tuple(amounts[e] for e in elements), condition.neutrality):
        return Refused("not charge neutral", f"{formula}, rule {condition.neutrality!r}")
    return structure


@dataclass
class PassedOver:
    """Counts crystals that became no samples, by kind, with one example of each."""

    kinds: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, refused: Refused) -> None:
        """Count one."""
        self.kinds[refused.kind] += 1
        self.examples.setdefault(refused.kind, refused.detail)

    def __len__(self) -> int:
        return self.kinds.total()

    def __str__(self) -> str:
        return "; ".join(
            f"{count} {kind} (such as {self.examples[kind]})" for kind, count in sorted(self.kinds.items())
        )
