from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from generators.crystals.novelty import KnownStructures
from generators.data import known_structures

if TYPE_CHECKING:
    from collections.abc import Callable

KINDS = ("permuted", "translated", "rotated", "mirrored", "other cell", "supercell")


@pytest.fixture(scope="session")
def redescribe() -> Callable[[Structure, str, int], Structure]:
    """Describe the same crystal in another way; ``all`` does all of it at once."""

    def describe(structure: Structure, kind: str, seed: int) -> Structure:
        rng = np.random.default_rng(seed)
        wanted = KINDS if kind == "all" else (kind,)
        copy = structure.copy()
        if "supercell" in wanted:
            copy.make_supercell(rng.permutation([2, 1, 1]).tolist(), to_unit_cell=False)
        matrix, frac, species = copy.lattice.matrix, copy.frac_coords, copy.species
        if "other cell" in wanted:
            change = np.eye(3)
            for _ in range(3):
                i, j = rng.permutation(3)[:2]
                shear = np.eye(3)
                shear[i, j] = rng.choice([-1, 1])
                change = shear @ change
            matrix, frac = change @ matrix, frac @ np.linalg.inv(change)
        if "rotated" in wanted:
            rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
            matrix = matrix @ (rotation * np.sign(np.linalg.det(rotation)))
        if "mirrored" in wanted:
            matrix = matrix @ np.diag([1, 1, -1])
        if "translated" in wanted:
            frac = frac + rng.random(3)
        if "permuted" in wanted:
            order = rng.permutation(len(species))
            frac, species = frac[order], [species[i] for i in order]
        return Structure(Lattice(matrix), species, frac, to_unit_cell=True)

    return describe


@pytest.fixture(scope="session")
def shipped() -> KnownStructures:
    """Everything that ships in dependencies."""
    return KnownStructures((k.label, k.structure) for k in known_structures())


@pytest.fixture
def rocksalt() -> Structure:
    return Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.21), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
