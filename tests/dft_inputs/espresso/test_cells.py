from __future__ import annotations

import re
from functools import cache

import numpy as np
import pytest
import spglib
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Lattice, Structure
from scipy.spatial.transform import Rotation

from dft_inputs.causes import DftError
from dft_inputs.espresso.cells import primitive_cell, symmetry_safe
from dft_inputs.espresso.inputs import make_input
from dft_inputs.espresso.kpoints import irreducible_k_points
from dft_inputs.espresso.protocols import load_protocol


@cache
def crystals():
    """One of each kind of lattice, primitive; the numbers are near those of the real crystals."""
    spacegroup = Structure.from_spacegroup
    conventional = {
        "fcc Al": spacegroup("Fm-3m", Lattice.cubic(4.04), ["Al"], [[0, 0, 0]]),
        "bcc Na": spacegroup("Im-3m", Lattice.cubic(4.2), ["Na"], [[0, 0, 0]]),
        "diamond Si": spacegroup("Fd-3m", Lattice.cubic(5.47), ["Si"], [[0, 0, 0]]),
        "hcp Mg": spacegroup("P6_3/mmc", Lattice.hexagonal(3.19, 5.18), ["Mg"], [[1 / 3, 2 / 3, 0.25]]),
        "wurtzite AlN": spacegroup(
            "P6_3mc", Lattice.hexagonal(3.13, 5.02), ["Al", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.381]]
        ),
        "rutile SiO2": spacegroup(
            "P4_2/mnm", Lattice.tetragonal(4.2, 2.68), ["Si", "O"], [[0, 0, 0], [0.306, 0.306, 0]]
        ),
        "anatase-like I4_1/amd SiO2": spacegroup(
            "I4_1/amd", Lattice.tetragonal(3.6, 9.1), ["Si", "O"], [[0, 0.75, 0.125], [0, 0.25, 0.165]]
        ),
        "trigonal quartz SiO2": spacegroup(
            "P3_221", Lattice.hexagonal(4.99, 5.49), ["Si", "O"], [[0.468, 0, 2 / 3], [0.411, 0.27, 0.785]]
        ),
        "rhombohedral corundum Al2O3": spacegroup(
            "R-3c", Lattice.hexagonal(4.8, 13.1), ["Al", "O"], [[0, 0, 0.352], [0.306, 0, 0.25]]
        ),
        "base-centred orthorhombic B": spacegroup("Cmcm", Lattice.orthorhombic(3, 8.1, 2.9), ["B"], [[0, 0.14, 0.25]]),
        "monoclinic P2_1/c MgO2": spacegroup(
            "P2_1/c",
            Lattice.monoclinic(5.1, 5.2, 5.3, 99.2),
            ["Mg", "O", "O"],
            [[0.275, 0.04, 0.208], [0.07, 0.332, 0.345], [0.45, 0.757, 0.479]],
        ),
        "triclinic P-1 NaCl": Structure(
            Lattice.from_parameters(3.9, 4.3, 4.7, 81, 77, 69), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]]
        ),
    }
    return {name: crystal.get_primitive_structure() for name, crystal in conventional.items()}


def rotations(structure, symprec):
    cell = (structure.lattice.matrix, structure.frac_coords, [site.specie.Z for site in structure])
    return len(np.unique(spglib.get_symmetry(cell, symprec=symprec)["rotations"], axis=0))


def askew(structure, seed, noise=0.002):
    """Turn a crystal anywhere, put its origin anywhere, and disturb it as a force field's relaxation would."""
    rng = np.random.default_rng(seed)
    turn = Rotation.random(random_state=seed).as_matrix()
    strain = np.eye(3) + rng.normal(scale=noise / 10, size=(3, 3))
    moved = Structure(
        structure.lattice.matrix @ strain @ turn.T, structure.species, structure.frac_coords + rng.random(3)
    )
    moved.perturb(noise)
    return moved


@pytest.mark.parametrize("name", crystals())
def test_pw_x_finds_the_symmetry_that_spglib_finds(name, set_up, family):
    crystal = askew(crystals()[name], seed=7)
    inp = make_input(crystal, load_protocol("fast"), family, "scf", ecutwfc_ry=12.0)
    printed = set_up(inp)
    found = re.search(r"(\d+) Sym\. ?Ops", printed)
    assert (int(found[1]) if found else 1) == rotations(crystals()[name], 1e-4)
    assert int(re.search(r"number of k points=\s*(\d+)", printed)[1]) == irreducible_k_points(inp.structure, inp.mesh)


def test_without_refinement_pw_x_finds_none(set_up, family):
    crystal = askew(crystals()["diamond Si"], seed=7)
    printed = set_up(make_input(crystal, load_protocol("fast"), family, "scf", ecutwfc_ry=12.0, refine=False))
    assert re.search(r"(\d+) Sym\. ?Ops", printed) is None


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(crystals())),
    st.integers(0, 2**31),
    st.sampled_from(
        [
            None,
            [[1, 0, 0], [0, 2, 0], [0, 0, 1]],
            [[1, 1, 0], [0, 1, 0], [0, 0, 1]],
            [[-1, 0, 0], [0, 1, 0], [0, 0, 1]],
        ]
    ),
)
def test_the_crystal_stays_the_one_it_was(name, seed, cell):
    crystal = askew(crystals()[name] if cell is None else crystals()[name].make_supercell(cell, in_place=False), seed)
    safe = symmetry_safe(crystal, 0.02)
    assert safe.species == crystal.species
    assert abs(safe.volume / crystal.volume - 1) < 1e-9
    assert StructureMatcher(ltol=0.01, stol=0.01, angle_tol=0.5, primitive_cell=False, scale=False).fit(safe, crystal)
    np.testing.assert_allclose(safe.distance_matrix, crystal.distance_matrix, atol=0.03)
    assert rotations(safe, 1e-5) == rotations(crystals()[name] if cell is None else safe, 0.02)
    again = symmetry_safe(safe, 0.02)
    np.testing.assert_allclose(again.lattice.matrix, safe.lattice.matrix, atol=1e-8)
    np.testing.assert_allclose(again.frac_coords, safe.frac_coords, atol=1e-8)


def test_handedness_stays():
    """Quartz is left- or right-handed: P3_121 must not become P3_221."""
    quartz = crystals()["trigonal quartz SiO2"]
    mirrored = Structure(quartz.lattice, quartz.species, -quartz.frac_coords)
    left_handed_axes = Structure(quartz.lattice.matrix[[1, 0, 2]], quartz.species, quartz.frac_coords[:, [1, 0, 2]])
    numbers = [symmetry_safe(s, 0.01).get_space_group_info(1e-4)[1] for s in (quartz, mirrored, left_handed_axes)]
    assert numbers == [154, 152, 154]


def test_sites_of_another_kind_are_kept_apart():
    crystal = crystals()["bcc Na"].make_supercell([[0, 1, 1], [1, 0, 1], [1, 1, 0]], in_place=False)
    crystal.translate_sites([1], [0.002, 0, 0])
    together = symmetry_safe(crystal, 0.02)
    apart = symmetry_safe(crystal, 0.02, kinds=["up", "down"])
    assert rotations(together, 1e-5) >= rotations(apart, 1e-5) > 1
    assert together.species == apart.species


def test_primitive_cell_is_the_same_crystal_in_the_smallest_cell():
    silicon = askew(crystals()["diamond Si"].make_supercell([[-1, 1, 1], [1, -1, 1], [1, 1, -1]], in_place=False), 3)
    small = primitive_cell(silicon, 0.02)
    assert (len(silicon), len(small)) == (8, 2)
    assert abs(small.volume * 4 / silicon.volume - 1) < 1e-9
    assert StructureMatcher(scale=False).fit(small, silicon)
    assert rotations(small, 1e-5) == 48


def test_atoms_on_top_of_each_other_are_refused():
    with pytest.raises(DftError) as caught:
        symmetry_safe(Structure(Lattice.cubic(3), ["Al", "Al"], [[0, 0, 0], [0, 0, 0]]), 0.01)
    assert caught.value.code == 301
