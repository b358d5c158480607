from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure


@pytest.fixture(scope="session")
def magnesia() -> Structure:
    """MgO, two atoms, 4 % too long and with an atom out of place: some ten steps to relax."""
    cell = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.45), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    structure = cell.get_primitive_structure()
    structure.translate_sites([1], [0.02, 0.01, -0.01])
    return structure
