from __future__ import annotations

import numpy as np
from pymatgen.core import Lattice, Structure

from generators.crystals.novelty import KnownStructures, PrototypeIndex


def decorated(structure: Structure, **species: str) -> Structure:
    copy = structure.copy()
    copy.replace_species(species)
    return copy


def test_what_ships_is_known_however_it_is_described(shipped, redescribe):
    salt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(5.5), ["Na", "Cl"], [[0, 0, 0], [0.5] * 3])
    label = shipped.match(redescribe(salt, "all", 1))
    assert label is not None
    assert label.endswith("NaCl")
    assert shipped.novelty(redescribe(salt, "all", 2)) == (False, False, False)


def test_new_composition_of_a_known_prototype(shipped, rocksalt):
    strange = decorated(rocksalt, Mg="Lu", O="Se")
    assert shipped.match(strange) is None
    assert shipped.novelty(strange) == (True, False, False)


def test_new_prototype_of_a_known_skeleton():
    # The same three orbits of Fm-3m, once with three species and once with two.
    heusler = Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(6), ["Al", "Mn", "Cu"], [[0, 0, 0], [0.5] * 3, [0.25] * 3]
    )
    bif3 = Structure.from_spacegroup("Fm-3m", Lattice.cubic(6), ["Bi", "F", "F"], [[0, 0, 0], [0.5] * 3, [0.25] * 3])
    known = KnownStructures([("heusler", heusler)])
    assert known.novelty(bif3) == (True, True, False)


def test_known_composition_in_a_new_skeleton(rocksalt):
    known = KnownStructures([("rocksalt", rocksalt)])
    rng = np.random.default_rng(5)
    low = Structure(Lattice.from_parameters(4, 5, 6, 75, 85, 95), ["Mg", "Mg", "O", "O"], rng.random((4, 3)))
    assert known.match(low) is None
    assert known.novelty(low) == (False, True, True)


def test_it_learns_what_is_added_also_after_questions(rocksalt):
    known = KnownStructures()
    assert known.novelty(rocksalt) == (True, True, True)
    assert known.add("first", rocksalt) is None
    assert known.add("again", rocksalt * (1, 1, 2)) == "first"
    assert known.match(rocksalt) == "first"
    assert known.novelty(rocksalt) == (False, False, False)
    assert len(known) == 1


def test_prototypes_alike_to_the_matcher_but_of_other_symmetry_both_represent():
    # CsCl stretched by 8 % is CuAu: one to the matcher at its tolerances, two prototypes to start from.
    index = PrototypeIndex()
    cubic = Structure(Lattice.cubic(4), ["Cs", "Cl"], [[0, 0, 0], [0.5] * 3])
    stretched = Structure(Lattice.tetragonal(4, 4.32), ["Cs", "Cl"], [[0, 0, 0], [0.5] * 3])
    assert index.add("CsCl", cubic) is None
    assert index.find(stretched) == "CsCl"
    assert index.add("CuAu", stretched) is None
    assert index.add("third", decorated(stretched, Cs="Cu", Cl="Au")) == "CuAu"
    assert len(index) == 2
