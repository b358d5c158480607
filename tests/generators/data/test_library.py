from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest
from ase.collections import dcdft

from generators.crystals.duplicates import DEFAULT_TOLERANCES
from generators.crystals.symmetry import prototype_key
from generators.data import element_ground_states, elemental_prototypes, known_structures, prototypes


def test_known_structures_are_ordered_primitive_and_uniquely_labelled():
    known = known_structures()
    assert len(known) > 350
    assert {k.source for k in known} == {"aflow", "dcdft", "pyxtal"}
    assert max(Counter(k.label for k in known).values()) == 1
    assert all(k.structure.is_ordered for k in known)
    for k in known[::7]:
        assert len(k.structure.get_primitive_structure()) == len(k.structure)


def test_the_order_is_always_the_same_and_copies_are_ones_own():
    first = prototypes(8)
    tags = [p.tag for p in first]
    first[0].structure.remove_sites([0])
    again = prototypes(8)
    assert [p.tag for p in again] == tags
    assert len(again[0].structure) == len(first[0].structure) + 1


@pytest.mark.parametrize(
    ("n_elements", "key"),
    [
        (1, "225_1a"),  # fcc
        (1, "229_1a"),  # bcc
        (1, "194_2c"),  # hcp
        (1, "227_2a"),  # diamond
        (1, "205_8c"),  # molecular N2
        (1, "12_2i"),  # molecular O2
        (1, "194_4bc"),  # graphite
        (2, "225_1a_1b"),  # rocksalt
        (2, "221_1a_1b"),  # CsCl
        (2, "216_1a_1c"),  # zincblende
        (2, "186_2b_2b"),  # wurtzite
        (2, "225_1a_2c"),  # fluorite
        (2, "136_2a_4f"),  # rutile
        (2, "194_2a_2c"),  # NiAs
        (3, "221_1a_1b_3c"),  # perovskite
        (3, "216_1a_1b_1c"),  # half-Heusler
        (3, "225_1a_1b_2c"),  # Heusler
        (3, "166_1a_1b_2c"),  # NaFeO2
    ],
)
def test_the_prototypes_that_everybody_needs_are_there(n_elements, key):
    assert key in {prototype_key(p.structure) for p in prototypes(8, n_elements)}


def test_sizes_and_numbers_of_elements_are_kept():
    for n_elements in (1, 2, 3):
        pool = prototypes(6, n_elements)
        assert pool
        assert all(len(p.structure) <= 6 and len(p.structure.symbol_set) == n_elements for p in pool)
    assert len(prototypes(1000)) > len(prototypes(8)) > 150
    assert [p.tag for p in elemental_prototypes(4)] == [p.tag for p in prototypes(4, 1)]


def test_no_two_are_one_prototype():
    matcher = DEFAULT_TOLERANCES.matcher()
    for a, b in combinations(prototypes(5), 2):
        alike = a.skeleton == b.skeleton and matcher.fit_anonymous(a.structure, b.structure)
        assert not (alike and prototype_key(a.structure) == prototype_key(b.structure)), (a.tag, b.tag)


def test_elements_have_their_ground_states():
    states = element_ground_states()
    assert len(states) == len(dcdft.names) == 71
    for symbol in ("H", "Mg", "Al", "Si", "O", "N", "Fe"):
        atoms = dcdft[symbol]
        assert states[symbol].symbol_set == (symbol,)
        assert states[symbol].volume / len(states[symbol]) == pytest.approx(atoms.get_volume() / len(atoms))
