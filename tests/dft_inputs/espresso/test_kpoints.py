from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from dft_inputs.espresso.cells import symmetry_safe
from dft_inputs.espresso.kpoints import _rotations, irreducible_k_points, k_mesh

ALUMINIUM = Structure(Lattice([[0, 2.02, 2.02], [2.02, 0, 2.02], [2.02, 2.02, 0]]), ["Al"], [[0, 0, 0]])


@pytest.mark.parametrize("spacing", [0.1, 0.19, 0.28, 0.5, 2.0, 50.0])
def test_neighbouring_points_are_no_farther_apart_than_asked(spacing):
    mesh = k_mesh(ALUMINIUM, spacing)
    assert len(set(mesh)) == 1
    steps = np.array(ALUMINIUM.lattice.reciprocal_lattice.abc) / mesh
    assert steps.max() <= spacing * 1.001
    assert mesh == (1, 1, 1) or steps.max() > spacing * (mesh[0] - 1) / mesh[0] * 0.99


def test_noise_in_a_lattice_does_not_add_a_division():
    spacing = ALUMINIUM.lattice.reciprocal_lattice.a / 12
    stretched = Structure(ALUMINIUM.lattice.matrix * (1 - 1e-7), ["Al"], [[0, 0, 0]])
    assert k_mesh(ALUMINIUM, spacing) == k_mesh(stretched, spacing) == (12, 12, 12)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from(
        [("I4/mmm", 1.0, 2.9), ("R-3m", 1.0, 3.4), ("Fddd", 0.7, 1.9), ("Cmcm", 2.7, 0.9), ("C2/m", 0.6, 1.4)]
    ),
    st.floats(2.5, 6.0),
    st.floats(0.15, 0.6),
)
def test_a_mesh_has_the_symmetry_of_its_crystal(kind, a, spacing):
    group, b_over_a, c_over_a = kind
    lattice = {
        "I": Lattice.tetragonal(a, c_over_a * a),
        "R": Lattice.hexagonal(a, c_over_a * a),
        "F": Lattice.orthorhombic(a, b_over_a * a, c_over_a * a),
        "C": Lattice.orthorhombic(a, b_over_a * a, c_over_a * a),
    }[group[0]]
    if group == "C2/m":
        lattice = Lattice.monoclinic(a, b_over_a * a, c_over_a * a, 104)
    crystal = symmetry_safe(
        Structure.from_spacegroup(group, lattice, ["Al"], [[0, 0, 0]]).get_primitive_structure(), 0.01
    )
    mesh = k_mesh(crystal, spacing)
    points = np.diag(1 / np.array(mesh))
    for rotation in _rotations(crystal, 1e-4):
        # every point of the mesh lands on a point of the mesh
        landed = points @ rotation @ np.diag(mesh)
        np.testing.assert_allclose(landed, np.round(landed), atol=1e-9)


def test_symmetry_leaves_few_points():
    assert irreducible_k_points(ALUMINIUM, (12, 12, 12)) == 72  # what pw.x 6.7 prints for it
    assert irreducible_k_points(ALUMINIUM, (1, 1, 1)) == 1


def test_spins_lower_the_symmetry_of_the_mesh():
    cell = Structure(Lattice.cubic(2.87), ["Fe", "Fe"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    tilted = Structure(Lattice.cubic(2.87), ["Fe"] * 2, [[0, 0, 0], [0.5, 0.5, 0.0]])
    assert irreducible_k_points(cell, (4, 4, 4), kinds=["up", "down"]) == irreducible_k_points(cell, (4, 4, 4))
    assert irreducible_k_points(tilted, (4, 4, 4)) > irreducible_k_points(cell, (4, 4, 4))


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan")])
def test_no_mesh_from_no_spacing(spacing):
    with pytest.raises(ValueError, match="spacing"):
        k_mesh(ALUMINIUM, spacing)
