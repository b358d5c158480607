"""Space group, Wyckoff skeleton and prototype key of a crystal, from spglib.

Two settings of one crystal (another origin, permuted axes) may give spglib's Wyckoff letters in another order: the
letters are brought to one form with the relabellings that the Euclidean normaliser of the space group allows
(pymatgen's table, from aviary; Goodall et al., Sci. Adv. 8, eabn4117 (2022)). The 11 enantiomorphic pairs of space
groups count as one, as left and right do for StructureMatcher and the AMD.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import spglib

from generators.crystals.spglib_calls import found_or_none

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymatgen.core import Structure

SYMPREC = 0.1
"""Å; how far atoms may lie from their symmetric places. Materials Project uses the same for relaxed crystals."""

CRYSTAL_SYSTEMS = (
    ("triclinic", 2),
    ("monoclinic", 15),
    ("orthorhombic", 74),
    ("tetragonal", 142),
    ("trigonal", 167),
    ("hexagonal", 194),
    ("cubic", 230),
)
"""Name and last space group of each crystal system."""

_ENANTIOMORPHS = {
    78: 76, 95: 91, 96: 92, 145: 144, 153: 151, 154: 152, 170: 169, 172: 171, 179: 178, 181: 180, 213: 212
}  # fmt: skip


@dataclass(frozen=True)
class Symmetry:
    """What spglib finds.

    Parameters
    ----------
    number : int
        Space group, 1-230.
    symbol : str
        International short symbol, e.g. ``Fm-3m``.
    orbits : tuple of (str, str)
        Element symbol and Wyckoff letter of each orbit of the conventional cell, sorted.
    counts : tuple of (str, int)
        Atoms of each element in the primitive cell, sorted by symbol.
    """

    number: int
    symbol: str
    orbits: tuple[tuple[str, str], ...]
    counts: tuple[tuple[str, int], ...]

    @property
    def skeleton(self) -> str:
        """Space group and Wyckoff letters, blind to species, e.g. ``225_a_b`` for rocksalt."""
        number = _ENANTIOMORPHS.get(self.number, self.number)
        letters = [letter for _, letter in self.orbits]
        return f"{number}_" + "_".join(min(sorted(map(table.__getitem__, letters)) for table in relabellings(number)))

    @property
    def prototype_key(self) -> str:
        """Skeleton with which orbits carry one species, e.g. ``225_1a_1b`` for rocksalt, whatever the species.

        Each part is the number of atoms of a species in the primitive cell and the letters of its orbits. Equal keys
        do not imply the same prototype: free parameters may differ.
        """
        number = _ENANTIOMORPHS.get(self.number, self.number)
        groups = [
            (count, [letter for symbol, letter in self.orbits if symbol == element]) for element, count in self.counts
        ]
        best = min(
            sorted((count, "".join(sorted(map(table.__getitem__, letters)))) for count, letters in groups)
            for table in relabellings(number)
        )
        return f"{number}_" + "_".join(f"{count}{letters}" for count, letters in best)


def symmetry(structure: Structure, symprec: float = SYMPREC) -> Symmetry:
    """Find space group and Wyckoff orbits.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Ordered, any cell.
    symprec : float
        Å.

    Raises
    ------
    ValueError
        If spglib finds no symmetry (atoms on top of each other, a flat cell).
    """
    numbers = [site.specie.Z for site in structure]
    cell = (structure.lattice.matrix, structure.frac_coords, numbers)
    dataset = found_or_none(spglib.get_symmetry_dataset, cell, symprec=symprec)
    if dataset is None:
        raise ValueError(
            f"spglib finds no symmetry of {structure.composition.reduced_formula} at symprec {symprec} Å: "
            "atoms on top of each other or a flat cell"
        )
    first = np.unique(dataset.crystallographic_orbits, return_index=True)[1]
    # The input may be a supercell: atoms are counted in the primitive cell.
    repeats = len(numbers) // len(np.unique(dataset.mapping_to_primitive))
    elements = [site.specie.symbol for site in structure]
    counts = {element: elements.count(element) // repeats for element in sorted(set(elements))}
    return Symmetry(
        number=int(dataset.number),
        symbol=str(dataset.international),
        orbits=tuple(sorted((elements[i], str(dataset.wyckoffs[i])) for i in first)),
        counts=tuple(counts.items()),
    )


def spacegroup_symbol(structure: Structure, symprec: float = SYMPREC) -> str:
    """International short symbol of the space group; raises ValueError as :func:`symmetry`."""
    return symmetry(structure, symprec).symbol


def skeleton(structure: Structure, symprec: float = SYMPREC) -> str:
    """Space group and Wyckoff letters, blind to species; raises ValueError as :func:`symmetry`.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    >>> skeleton(salt), prototype_key(salt)
    ('225_a_b', '225_1a_1b')
    """
    return symmetry(structure, symprec).skeleton


def prototype_key(structure: Structure, symprec: float = SYMPREC) -> str:
    """Skeleton with which orbits carry one species; raises ValueError as :func:`symmetry`."""
    return symmetry(structure, symprec).prototype_key


def crystal_system(number: int) -> str:
    """Name the crystal system of a space group.

    Examples
    --------
    >>> crystal_system(225), crystal_system(1), crystal_system(194)
    ('cubic', 'triclinic', 'hexagonal')
    """
    return next(name for name, last in CRYSTAL_SYSTEMS if number <= last)


@lru_cache(maxsize=230)
def relabellings(number: int) -> tuple[dict[str, str], ...]:
    """Wyckoff letters as they may be renamed by another choice of origin or axes."""
    return tuple({chr(int(old)): new for old, new in table.items()} for table in _relabelling_table()[str(number)])


@lru_cache(maxsize=1)
def _relabelling_table() -> Mapping[str, Any]:
    # Importing pymatgen's table builds the whole AFLOW library, which takes seconds: the file is read instead.
    spec = find_spec("pymatgen.analysis.prototypes")
    path = Path(spec.origin).with_name("wyckoff-position-relabelings.json.gz") if spec and spec.origin else None
    if path is not None and path.is_file():
        return dict(json.loads(gzip.decompress(path.read_bytes())))
    from pymatgen.analysis.prototypes import WYCKOFF_POSITION_RELAB_DICT  # noqa: PLC0415 - see above

    return dict(WYCKOFF_POSITION_RELAB_DICT)
