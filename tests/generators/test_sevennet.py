from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from generators.relaxer.sevennet import sevennet_energies, sevennet_version


def test_energies_are_those_of_the_calculator_and_a_bad_one_spoils_no_other():
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.25), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    primitive = salt.get_primitive_structure()
    cubic, small, none = sevennet_energies([salt, primitive, Structure(Lattice.cubic(4), ["Cm"], [[0, 0, 0]])])
    assert cubic == pytest.approx(small, abs=1e-4)
    assert -6.2 < cubic < -5.7  # MP2020's uncorrected PBE has -5.94 eV/atom
    assert none is None
    assert "7net-0" in sevennet_version()
