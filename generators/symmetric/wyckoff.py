"""A crystal as space group, orbits with their free coordinates, and lattice; and back.

Settings are those of pyxtal's tables (the standard ones of the International Tables, origin choice 2, hexagonal axes
for rhombohedral groups): spglib is asked for that setting, so that its Wyckoff letters and pyxtal's operations agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import spglib
from ase.data import atomic_numbers, chemical_symbols
from pymatgen.core import Lattice, Structure
from pyxtal.symmetry import pyxtal_hall_numbers

from generators.crystals.spglib_calls import found_or_none
from generators.random_symmetric import space_group

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from generators.random_symmetric import WyckoffSite

    Floats = NDArray[np.float64]

SYMPREC = 0.05
"""Å; atoms of relaxed crystals lie this close to their symmetric places."""
ON_SITE = 2e-2
"""Largest deviation of an atom from its Wyckoff position in fractions of the cell, after spglib's idealisation."""
SHAPE_SIZE = 5
"""ln(b/a), ln(c/a), cos α, cos β, cos γ."""
SHAPE_FREEDOM = {
    "cubic": (),
    "hexagonal": (1,),
    "trigonal": (1,),
    "rhombohedral": (1,),
    "tetragonal": (1,),
    "orthorhombic": (0, 1),
    "monoclinic": (0, 1, 3),
    "triclinic": (0, 1, 2, 3, 4),
}
"""Which entries of a shape are free in each lattice system."""


class Orbit(NamedTuple):
    """Atoms that symmetry makes equal: Wyckoff letter, element symbol, free coordinates in [0, 1)."""

    letter: str
    element: str
    free: tuple[float, ...]


@dataclass(frozen=True)
class Description:
    """A crystal by its symmetry.

    Parameters
    ----------
    number : int
        Space group, 1-230.
    orbits : tuple of Orbit
        Sorted by letter, then element.
    shape : tuple of float
        SHAPE_SIZE numbers, see there.
    volume : float
        Å³ of the conventional cell.
    """

    number: int
    orbits: tuple[Orbit, ...]
    shape: tuple[float, ...]
    volume: float

    @property
    def letters(self) -> tuple[str, ...]:
        """Wyckoff letters of the orbits."""
        return tuple(orbit.letter for orbit in self.orbits)

    @property
    def counts(self) -> tuple[int, ...]:
        """Atoms of each orbit in the primitive cell."""
        return tuple(sites(self.number)[letter].multiplicity // centring(self.number) for letter in self.letters)


@lru_cache(maxsize=230)
def sites(number: int) -> dict[str, WyckoffSite]:
    """Give the Wyckoff positions of a space group by letter."""
    return {site.letter[-1]: site for site in space_group(number).sites}


def centring(number: int) -> int:
    """Lattice points of the conventional cell."""
    return space_group(number).centring


def free_shape(number: int) -> tuple[int, ...]:
    """Which entries of a shape are free in a space group."""
    return SHAPE_FREEDOM[space_group(number).lattice_type.lower()]


@lru_cache(maxsize=4096)
def free_columns(number: int, letter: str) -> tuple[int, ...]:
    """Which of x, y, z the first operation of a Wyckoff position depends on."""
    rotation = sites(number)[letter].operations[0][:3, :3]
    return tuple(int(c) for c in range(3) if np.abs(rotation[:, c]).max() > 1e-6)


def describe(structure: Structure, symprec: float = SYMPREC) -> Description:
    """Find space group, orbits and lattice.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Ordered, any cell.
    symprec : float
        Å.

    Raises
    ------
    ValueError
        If spglib finds no symmetry, or an atom is on no Wyckoff position of its letter.
    """
    cell = (structure.lattice.matrix, structure.frac_coords, [site.specie.Z for site in structure])
    number = _dataset(cell, symprec, 0).number
    hall = pyxtal_hall_numbers[number - 1]
    first = _dataset(cell, symprec, hall)
    standard = (first.std_lattice, first.std_positions, first.std_types)
    data = _dataset(standard, symprec, hall)
    if data.number != number:
        raise ValueError(f"{structure.composition.reduced_formula}: its symmetry changes with the cell; distorted?")
    places = np.asarray(first.std_positions) @ np.asarray(data.transformation_matrix).T + data.origin_shift
    orbits = []
    for orbit in np.unique(data.crystallographic_orbits):
        members = np.flatnonzero(data.crystallographic_orbits == orbit)
        letter = str(data.wyckoffs[members[0]])
        free = _free_coordinates(number, letter, places[members])
        orbits.append(Orbit(letter, chemical_symbols[int(first.std_types[members[0]])], free))
    matrix = np.asarray(first.std_lattice)
    return Description(number, tuple(sorted(orbits)), shape_of(matrix), float(abs(np.linalg.det(matrix))))


def _dataset(cell: object, symprec: float, hall: int) -> spglib.SpglibDataset:
    data = found_or_none(spglib.get_symmetry_dataset, cell, symprec=symprec, hall_number=hall)
    if data is None:
        raise ValueError(f"spglib finds no symmetry at symprec {symprec} Å: atoms on top of each other or a flat cell")
    return data


def _free_coordinates(number: int, letter: str, places: Floats) -> tuple[float, ...]:
    """Solve the first operation of a position for an atom of the orbit: the one with the smallest coordinates."""
    operation = sites(number)[letter].operations[0]
    rotation, shift = operation[:3, :3], operation[:3, 3]
    columns = free_columns(number, letter)
    solutions = []
    for place in places:
        x = np.zeros(3)
        for column in columns:
            row = next(
                r
                for r in range(3)
                if abs(abs(rotation[r, column]) - 1) < 1e-6 and np.abs(np.delete(rotation[r], column)).max() < 1e-6
            )
            x[column] = (place[row] - shift[row]) / rotation[row, column]
        off = rotation @ x + shift - place
        off -= np.round(off)
        if np.abs(off).max() < ON_SITE:
            solutions.append(tuple(round(float(x[c] % 1.0), 6) % 1.0 for c in columns))
    if not solutions:
        raise ValueError(f"no atom of orbit {letter} in space group {number} is on its first position")
    return min(solutions)


def shape_of(matrix: Floats) -> tuple[float, ...]:
    """Shape of a cell, see SHAPE_SIZE."""
    lengths = np.linalg.norm(matrix, axis=1)
    unit = matrix / lengths[:, None]
    cosines = (unit[1] @ unit[2], unit[0] @ unit[2], unit[0] @ unit[1])
    return (
        float(np.log(lengths[1] / lengths[0])),
        float(np.log(lengths[2] / lengths[0])),
        *(float(c) for c in cosines),
    )


def cell_matrix(number: int, shape: tuple[float, ...], volume: float) -> Floats:
    """Give the conventional cell; entries of the shape that symmetry fixes are ignored.

    Returns
    -------
    numpy.ndarray, shape (3, 3)
        Rows are the cell vectors, Å.

    Raises
    ------
    ValueError
        If no cell has these angles.
    """
    kind = space_group(number).lattice_type.lower()
    free = free_shape(number)
    hexagonal = kind in {"hexagonal", "trigonal", "rhombohedral"}
    full = [shape[i] if i in free else 0.0 for i in range(SHAPE_SIZE)]
    if hexagonal:
        full[4] = -0.5
    b, c = float(np.exp(full[0])), float(np.exp(full[1]))
    cos_a, cos_b, cos_g = full[2:]
    sin_g = float(np.sqrt(max(1 - cos_g**2, 0.0)))
    if sin_g < 0.05:
        raise ValueError("no cell has these angles")
    y = (cos_a - cos_b * cos_g) / sin_g
    z_squared = 1 - cos_b**2 - y**2
    if z_squared < 0.01:
        raise ValueError("no cell has these angles")
    matrix = np.array([[1.0, 0.0, 0.0], [b * cos_g, b * sin_g, 0.0], [c * cos_b, c * y, c * float(np.sqrt(z_squared))]])
    scaled: Floats = matrix * (volume / abs(np.linalg.det(matrix))) ** (1 / 3)
    return scaled


class Atoms(NamedTuple):
    """A primitive cell as arrays: lattice (3, 3) Å, fractional coordinates (n, 3), orbit of each atom (n,)."""

    lattice: Floats
    places: Floats
    orbit: NDArray[np.int64]


@lru_cache(maxsize=230)
def primitive_basis(number: int) -> Floats:
    """Rows are the vectors of a primitive cell in units of the conventional ones."""
    # the lattice points are the translations that the general position repeats
    symbol = _CENTRINGS[_centring_letter(number)]
    return np.array(symbol, dtype=float)


_CENTRINGS = {
    "P": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "A": [[1, 0, 0], [0, 0.5, 0.5], [0, -0.5, 0.5]],
    "C": [[0.5, 0.5, 0], [-0.5, 0.5, 0], [0, 0, 1]],
    "I": [[-0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.5, 0.5, -0.5]],
    "F": [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]],
    "R": [[2 / 3, 1 / 3, 1 / 3], [-1 / 3, 1 / 3, 1 / 3], [-1 / 3, -2 / 3, 1 / 3]],
}
"""Primitive vectors by centring (International Tables A; R obverse, hexagonal axes)."""


def _centring_letter(number: int) -> str:
    return str(spglib.get_spacegroup_type(pyxtal_hall_numbers[number - 1]).international_short)[0]


def atoms_of(description: Description) -> Atoms:
    """Place all atoms of the primitive cell.

    Raises
    ------
    ValueError
        If the cell has no volume, or atoms fall together (the orbit is then of a more special position).
    """
    matrix = cell_matrix(description.number, description.shape, description.volume)
    basis = primitive_basis(description.number)
    to_primitive = np.linalg.inv(basis)
    places: list[Floats] = []
    owners: list[int] = []
    for i, orbit in enumerate(description.orbits):
        site = sites(description.number)[orbit.letter]
        x = np.zeros(4)
        x[3] = 1.0
        for column, value in zip(free_columns(description.number, orbit.letter), orbit.free, strict=True):
            x[column] = value
        points = ((site.operations @ x)[:, :3] @ to_primitive) % 1.0
        wanted = site.multiplicity // centring(description.number)
        kept: list[Floats] = []
        for point in points:
            if all(np.abs((d := point - other) - np.round(d)).max() > 1e-4 for other in kept):
                kept.append(point)
        if len(kept) != wanted:
            raise ValueError(f"orbit {orbit.letter} makes {len(kept)} atoms, not {wanted}: a more special position")
        places += kept
        owners += [i] * wanted
    return Atoms(basis @ matrix, np.array(places), np.array(owners, dtype=np.int64))


def build(description: Description) -> Structure:
    """Make the primitive cell; raises ValueError as :func:`atoms_of`."""
    atoms = atoms_of(description)
    species = [description.orbits[i].element for i in atoms.orbit]
    order = np.argsort([atomic_numbers[s] for s in species], kind="stable")
    return Structure(Lattice(atoms.lattice), [species[i] for i in order], atoms.places[order], to_unit_cell=True)
