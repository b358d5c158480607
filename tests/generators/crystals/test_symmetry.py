from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from generators.crystals.symmetry import crystal_system, prototype_key, skeleton, spacegroup_symbol, symmetry
from generators.data import known_structures, prototypes


def test_rocksalt_and_its_twin_with_species_swapped(rocksalt):
    assert spacegroup_symbol(rocksalt) == "Fm-3m"
    assert skeleton(rocksalt) == "225_a_b"
    assert prototype_key(rocksalt) == "225_1a_1b"
    swapped = rocksalt.copy()
    swapped.replace_species({"Mg": "O", "O": "Mg"})
    assert prototype_key(swapped) == prototype_key(rocksalt)


def test_either_origin_of_perovskite_is_one_setting():
    cell = Lattice.cubic(3.9)
    at_corner = Structure.from_spacegroup("Pm-3m", cell, ["Ca", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]])
    at_centre = Structure.from_spacegroup("Pm-3m", cell, ["Ca", "Ti", "O"], [[0.5] * 3, [0, 0, 0], [0.5, 0, 0]])
    assert skeleton(at_corner) == skeleton(at_centre)
    assert prototype_key(at_corner) == prototype_key(at_centre)


def test_zincblende_and_diamond_differ_in_key_and_skeleton():
    zincblende = Structure.from_spacegroup("F-43m", Lattice.cubic(5.4), ["Zn", "S"], [[0, 0, 0], [0.25] * 3])
    diamond = Structure.from_spacegroup("Fd-3m", Lattice.cubic(3.6), ["C"], [[0, 0, 0]])
    assert skeleton(zincblende) != skeleton(diamond)
    # the twin with the other sublattice filled, which spglib may call a_c or a_d
    other = Structure.from_spacegroup("F-43m", Lattice.cubic(5.4), ["Zn", "S"], [[0, 0, 0], [0.75] * 3])
    assert prototype_key(other) == prototype_key(zincblende)


@pytest.mark.parametrize("kind", ["permuted", "translated", "rotated", "other cell", "supercell", "all"])
def test_no_description_of_the_same_crystal_changes_it(redescribe, kind):
    for seed, prototype in enumerate(prototypes(8)[::4]):
        again = symmetry(redescribe(prototype.structure, kind, seed))
        assert again.number == prototype.spacegroup or kind == "all"  # a mirror image may be of the other hand
        assert again.skeleton == prototype.skeleton
        assert again.prototype_key == prototype_key(prototype.structure)


ENANTIOMORPHIC = {
    76,
    78,
    91,
    95,
    92,
    96,
    144,
    145,
    151,
    153,
    152,
    154,
    169,
    170,
    171,
    172,
    178,
    179,
    180,
    181,
    212,
    213,
}


def test_left_and_right_hand_are_one():
    chiral = [k.structure for k in known_structures() if symmetry(k.structure).number in ENANTIOMORPHIC]
    assert len(chiral) >= 8
    for structure in chiral:
        mirrored = Structure(Lattice(structure.lattice.matrix * [1, 1, -1]), structure.species, structure.frac_coords)
        assert symmetry(mirrored).number != symmetry(structure).number
        assert skeleton(mirrored) == skeleton(structure)
        assert prototype_key(mirrored) == prototype_key(structure)


def test_letters_agree_with_those_of_aflow():
    # AFLOW tags name space group and letters; ours are brought to one origin, so compare the space group only.
    wrong = [
        k.label
        for k in known_structures()
        if k.source == "aflow"
        and len(k.structure) <= 8
        and str(symmetry(k.structure, 0.01).number) != k.tag.split("_")[2]
    ]
    assert len(wrong) <= 6, wrong  # a few are more symmetric than their tag says


def test_what_spglib_refuses_is_refused():
    broken = Structure(Lattice.cubic(3), ["Mg", "Mg"], [[0, 0, 0], [0, 0, 1e-9]])
    with pytest.raises(ValueError, match="on top of each other"):
        symmetry(broken)


def test_crystal_systems_are_those_of_the_tables():
    from pymatgen.symmetry.groups import SpaceGroup

    for number in range(1, 231):
        assert crystal_system(number) == SpaceGroup.from_int_number(number).crystal_system
