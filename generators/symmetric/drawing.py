"""Geometries of rows, drawn from the geometry network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from ase.data import atomic_numbers

from generators.symmetric.geometry import draw
from generators.symmetric.tables import conventional_volume, tabulate
from generators.symmetric.wyckoff import Atoms, Description, Orbit, atoms_of, free_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from generators.symmetric.assignments import Row
    from generators.symmetric.geometry import Densities, GeometryNetwork

    Floats = NDArray[np.float64]

COOL = 0.3
"""Temperature of first geometries: near the middle of what the network expects."""


class Drawn(NamedTuple):
    """Geometries of rows: description and atoms, None where the cell or an orbit makes no sense."""

    descriptions: list[Description]
    atoms: list[Atoms | None]

    def expanded(self, log_volume: Floats) -> Drawn:
        """Change the volumes, shapes and fractional coordinates kept.

        Parameters
        ----------
        log_volume : ndarray, shape (n,)
            What is added to ln V; ignored where there are no atoms.
        """
        factors = np.exp(np.nan_to_num(log_volume))
        return Drawn(
            [replace(d, volume=d.volume * float(f)) for d, f in zip(self.descriptions, factors, strict=True)],
            [
                None if a is None else a._replace(lattice=a.lattice * float(f) ** (1 / 3))
                for a, f in zip(self.atoms, factors, strict=True)
            ],
        )


def numbers_of(row: Row, atoms: Atoms) -> NDArray[np.int64]:
    """Atomic numbers of a row's atoms, shape (m,)."""
    return np.array([atomic_numbers[row.elements[i]] for i in atoms.orbit])


def bare_description(row: Row) -> Description:
    """Describe a row that has no geometry yet."""
    number = row.skeleton.number
    orbits = tuple(
        Orbit(letter, element, (0.0,) * len(free_columns(number, letter)))
        for letter, element in zip(row.skeleton.letters, row.elements, strict=True)
    )
    return Description(number, orbits, (0.0,) * 5, 0.0)


def densities_of(network: GeometryNetwork, rows: Sequence[Row]) -> Densities:
    """Ask the geometry network about rows."""
    bare = [bare_description(row) for row in rows]
    with torch.no_grad():
        found: Densities = network(tabulate(bare))
    return found


def draw_rows(densities: Densities, rows: Sequence[Row], rngs: list[np.random.Generator], temperature: float) -> Drawn:
    """Draw a geometry of each row."""
    geometry = draw(densities, rngs, temperature)
    descriptions: list[Description] = []
    atoms: list[Atoms | None] = []
    for k, row in enumerate(rows):
        bare = bare_description(row)
        orbits = tuple(
            orbit._replace(free=tuple(float(geometry.free[k, i, c]) for c in free_columns(bare.number, orbit.letter)))
            for i, orbit in enumerate(bare.orbits)
        )
        volume = conventional_volume(bare) * float(np.exp(np.clip(geometry.expansion[k], -1.0, 1.5)))
        description = Description(bare.number, orbits, tuple(float(x) for x in geometry.shape[k]), volume)
        descriptions.append(description)
        try:
            atoms.append(atoms_of(description))
        except ValueError:
            atoms.append(None)
    return Drawn(descriptions, atoms)
