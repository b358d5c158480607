"""Crystals as symmetry sees them, and back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure

from generators.base import Condition
from generators.crystals.symmetry import symmetry
from generators.data import prototypes
from generators.random_symmetric import RandomSymmetric
from generators.symmetric.assignments import row_of
from generators.symmetric.wyckoff import atoms_of, build, cell_matrix, describe, free_shape, shape_of, sites

EXACT = StructureMatcher(primitive_cell=True, scale=False, ltol=0.02, stol=0.02, angle_tol=0.5)


def test_every_prototype_comes_back():
    """All that ship, at most eight atoms: 171 structures of all crystal systems."""
    lost = []
    for prototype in prototypes(8):
        made = build(describe(prototype.structure))
        if not EXACT.fit(made, prototype.structure) or len(made) != len(prototype.structure.get_primitive_structure()):
            lost.append(prototype.tag)
    assert lost == []


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_random_crystals_come_back(seed):
    condition = Condition((("Al", "Mg", "O"),), max_elements=3)
    given_ = next(iter(RandomSymmetric().sample(1, condition, seed))).structure
    described = describe(given_)
    made = build(described)
    assert EXACT.fit(made, given_)
    assert made.volume / len(made) == pytest.approx(given_.volume / len(given_), rel=1e-3)
    assert symmetry(made, 0.01).number == described.number


def test_it_does_not_depend_on_cell_or_order():
    quartz = next(p.structure for p in prototypes(9) if p.structure.composition.reduced_formula == "SiO2")
    one = describe(quartz)
    other = quartz * (2, 1, 1)
    other.translate_sites(range(len(other)), [0.1, 0.2, 0.3])
    two = describe(other)
    assert row_of(one).key == row_of(two).key  # the letters may be called otherwise: another origin
    assert EXACT.fit(build(one), build(two))


def test_rocksalt_in_words():
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    found = describe(salt)
    assert found.number == 225
    assert found.letters == ("a", "b")
    assert found.counts == (1, 1)
    assert [orbit.free for orbit in found.orbits] == [(), ()]
    assert found.volume == pytest.approx(5.6**3)


@pytest.mark.parametrize("number", [1, 12, 62, 139, 166, 194, 225])
def test_shapes_and_cells_agree(number):
    rng = np.random.default_rng(number)
    shape = [0.0] * 5
    for entry in free_shape(number):
        shape[entry] = float(rng.uniform(-0.3, 0.3))
    if number in {166, 194}:
        shape[4] = -0.5
    matrix = cell_matrix(number, tuple(shape), 100.0)
    assert abs(np.linalg.det(matrix)) == pytest.approx(100.0)
    assert shape_of(matrix) == pytest.approx(tuple(shape), abs=1e-9)


def test_a_cell_with_impossible_angles_is_refused():
    with pytest.raises(ValueError, match="angles"):
        cell_matrix(1, (0.0, 0.0, 0.9, -0.9, 0.9), 100.0)


def test_an_orbit_on_a_more_special_place_is_refused():
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.6), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    found = describe(salt)
    free = next(letter for letter, site in sites(225).items() if site.freedom == 1)
    fallen = type(found)(225, (found.orbits[0]._replace(letter=free, free=(0.0,)),), found.shape, found.volume)
    with pytest.raises(ValueError, match="special"):
        atoms_of(fallen)
