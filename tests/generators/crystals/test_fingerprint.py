from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from generators.crystals.fingerprint import amd, nearest_distances
from generators.data import prototypes


@st.composite
def crystals(draw: st.DrawFn) -> Structure:
    lengths = [draw(st.floats(2.5, 9)) for _ in range(3)]
    angles = [draw(st.floats(70, 110)) for _ in range(3)]
    n = draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    species = rng.choice(["Mg", "Al", "O"], n)
    return Structure(Lattice.from_parameters(*lengths, *angles), species, rng.random((n, 3)))


@pytest.mark.parametrize("kind", ["permuted", "translated", "rotated", "mirrored", "other cell", "supercell", "all"])
@settings(max_examples=25, deadline=None)
@given(structure=crystals(), seed=st.integers(0, 10**6))
def test_no_description_of_the_same_crystal_changes_it(redescribe, kind, structure, seed):
    np.testing.assert_allclose(amd(redescribe(structure, kind, seed)), amd(structure), atol=1e-6)


@settings(max_examples=25, deadline=None)
@given(structure=crystals(), factor=st.floats(0.5, 3))
def test_volume_is_divided_out(structure, factor):
    scaled = Structure(Lattice(structure.lattice.matrix * factor), structure.species, structure.frac_coords)
    np.testing.assert_allclose(amd(scaled), amd(structure), atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(structure=crystals(), step=st.floats(0, 0.3), seed=st.integers(0, 10**6))
def test_it_is_continuous(structure, step, seed):
    # Widdowson et al. 2022, theorem 4.2: sites moved by at most ε change every AMD by at most 2 ε.
    moved = structure.copy()
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(moved), 3))
    vectors *= step / np.linalg.norm(vectors, axis=1)[:, None]
    moved = Structure(moved.lattice, moved.species, moved.cart_coords + vectors, coords_are_cartesian=True)
    size = (structure.volume / len(structure)) ** (1 / 3)
    assert np.abs(amd(moved) - amd(structure)).max() <= 2 * step / size + 1e-8


@settings(max_examples=20, deadline=None)
@given(structure=crystals())
def test_distances_are_those_of_pymatgen(structure):
    k = 30
    ours = nearest_distances(structure.lattice.matrix, structure.frac_coords, k)
    size = (structure.volume / len(structure)) ** (1 / 3)
    radius = ours.max() * size + 1e-6
    for site, row in zip(structure, ours, strict=True):
        # pymatgen drops neighbours closer than 1e-8 Å as the site itself; random sites are never that close
        theirs = sorted(n.nn_distance for n in structure.get_neighbors(site, radius))[:k]
        np.testing.assert_allclose(row * size, theirs, atol=1e-6)


def test_fcc_has_twelve_neighbours_six_second_ones_and_twenty_four_third_ones():
    copper = Structure.from_spacegroup("Fm-3m", Lattice.cubic(3.6), ["Cu"], [[0, 0, 0]])
    vector = amd(copper, k=42)
    near = 4 ** (1 / 3) / 2**0.5  # a / √2, in units of (a³ / 4)^(1/3)
    np.testing.assert_allclose(vector[:12], near)
    np.testing.assert_allclose(vector[12:18], near * 2**0.5)
    np.testing.assert_allclose(vector[18:42], near * 3**0.5)


def test_fewer_neighbours_are_a_prefix():
    for prototype in prototypes(8)[::15]:
        np.testing.assert_allclose(amd(prototype.structure, k=7), amd(prototype.structure, k=100)[:7], atol=1e-9)


def test_it_is_blind_to_species(rocksalt):
    swapped = rocksalt.copy()
    swapped.replace_species({"Mg": "O", "O": "Mg"})
    np.testing.assert_allclose(amd(swapped), amd(rocksalt), atol=1e-9)


def test_very_skewed_cell_and_large_cell(rocksalt):
    skewed = Structure(Lattice([[1, 0, 0], [40, 1, 0], [17, 23, 1]] @ rocksalt.lattice.matrix), ["Mg"], [[0, 0, 0]])
    simple = Structure(rocksalt.lattice, ["Mg"], [[0, 0, 0]])
    np.testing.assert_allclose(amd(skewed), amd(simple), atol=1e-6)
    large = rocksalt * (3, 3, 3)  # 216 atoms: more than one block
    np.testing.assert_allclose(amd(large), amd(rocksalt), atol=1e-9)


@pytest.mark.parametrize(
    ("lattice", "frac"),
    [(np.eye(3), np.empty((0, 3))), (np.ones((3, 3)), np.zeros((1, 3))), (np.eye(3), np.full((1, 3), np.nan))],
)
def test_what_is_no_crystal_is_refused(lattice, frac):
    with pytest.raises(ValueError, match="crystal"):
        nearest_distances(lattice, frac)
