from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice

from generators.crystals.lattices import ReducedLattice


def unit(lattice: Lattice) -> Lattice:
    return Lattice(lattice.matrix / lattice.volume ** (1 / 3))


def maps(a: ReducedLattice, b: ReducedLattice) -> bool:
    return len(a.mappings_onto(b)) > 0


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Lattice, Lattice]:
    """Draw two Niggli-reduced lattices, the second a strained copy of the first, so that many barely fit."""
    lengths = [draw(st.floats(2, 8)) for _ in range(3)]
    angles = [draw(st.floats(65, 115)) for _ in range(3)]
    first = Lattice.from_parameters(*lengths, *angles)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    strain = rng.normal(0, draw(st.sampled_from([0.02, 0.06, 0.12])), (3, 3))
    second = Lattice(first.matrix @ (np.eye(3) + strain))
    return first.get_niggli_reduced_lattice(), second.get_niggli_reduced_lattice()


@settings(max_examples=150, deadline=None)
@given(pair=pairs(), ltol=st.sampled_from([0.05, 0.2]), angle_tol=st.sampled_from([2.0, 5.0]))
def test_it_never_refuses_what_pymatgen_maps(pair, ltol, angle_tol):
    a, b = map(unit, pair)
    mappings = a.find_all_mappings(b, ltol=ltol, atol=angle_tol, skip_rotation_matrix=True)
    fits = any(abs(abs(np.linalg.det(scale)) - 1) < 0.5 for _, _, scale in mappings)
    ours = maps(*(ReducedLattice(lattice.matrix, ltol, angle_tol) for lattice in pair))
    assert ours or not fits


def test_it_maps_what_pymatgen_maps_and_nothing_else():
    rng = np.random.default_rng(0)
    lattices = [
        unit(Lattice.from_parameters(*rng.uniform(2, 8, 3), *rng.uniform(65, 115, 3)).get_niggli_reduced_lattice())
        for _ in range(40)
    ]
    reduced = [ReducedLattice(lattice.matrix, 0.2, 5) for lattice in lattices]
    theirs = np.array(
        [
            [
                any(abs(abs(np.linalg.det(m)) - 1) < 0.5 for _, _, m in a.find_all_mappings(b, 0.2, 5, True))
                for b in lattices
            ]
            for a in lattices
        ]
    )
    ours = np.array([[maps(a, b) for b in reduced] for a in reduced])
    np.testing.assert_array_equal(ours, theirs)
    assert 0.02 < theirs.mean() < 0.5  # both kinds were there


def test_a_needle_does_not_map_onto_a_cube():
    cube, needle = ReducedLattice(np.eye(3), 0.2, 5), ReducedLattice(np.diag([1, 1, 20.0]), 0.2, 5)
    assert not maps(cube, needle)
    assert not maps(needle, cube)
    assert maps(needle, needle)
