"""What competes: the library's prototypes, in the order and number that a hull is built of."""

from __future__ import annotations

import pytest
from pymatgen.core import Composition, Lattice, Structure

from generators.crystals.duplicates import same
from generators.evaluation.hull import Reach, elemental, first_look, known_of, of_stoichiometry
from generators.evaluation.store import Protocol, Store

ROCKSALT = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.25), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
PEROVSKITE = Structure.from_spacegroup(
    "Pm-3m", Lattice.cubic(3.9), ["Sr", "Ti", "O"], [[0.5, 0.5, 0.5], [0, 0, 0], [0.5, 0, 0]]
)


@pytest.mark.parametrize(("formula", "there"), [("MgO", ROCKSALT), ("SrTiO3", PEROVSKITE)])
def test_prototypes_of_a_stoichiometry_hold_the_one_everybody_knows(formula, there):
    found = [s for _, s in of_stoichiometry(Composition(formula), 8)]
    assert {s.composition.reduced_formula for s in found} == {formula}
    assert any(same(s, there) for s in found)


def test_what_is_not_neutral_competes_too_and_multiples_are_the_same_stoichiometry():
    one = [label for label, _ in of_stoichiometry(Composition("Mg3Al"), 8)]
    assert one
    assert one == [label for label, _ in of_stoichiometry(Composition("Mg6Al2"), 8)]


def test_an_element_competes_in_its_ground_state_and_in_prototypes():
    assert "dcdft/Mg" in [label for label, _ in known_of(("Mg",), ())]
    assert {s.composition.reduced_formula for _, s in elemental("Mg")} == {"Mg"}
    assert len(list(elemental("Mg"))) > 10


def test_further_crystals_compete_where_their_elements_are_asked_about():
    more = [("mine", ROCKSALT), ("other", PEROVSKITE)]
    assert "mine" in [label for label, _ in known_of(("Mg", "O"), more)]
    assert "other" not in [label for label, _ in known_of(("Mg", "O"), more)]


def test_the_first_look_keeps_the_lowest_and_drops_equals(tmp_path):
    stretched = {edge: ROCKSALT.get_primitive_structure().copy() for edge in (4.2, 4.5, 5.0)}
    for edge, structure in stretched.items():
        structure.scale_lattice(edge**3 / 4)
    asked = [("far", stretched[5.0]), ("near", stretched[4.2]), ("near again", stretched[4.2]), ("mid", stretched[4.5])]
    store, reach = Store(tmp_path), Reach(per_composition=2, own=3)
    chosen = first_look(asked, set(), store, Protocol(), reach)
    assert [label for label, _ in chosen] == ["near", "mid"]
    assert [label for label, _ in first_look(asked, {"MgO"}, store, Protocol(), reach)] == ["near", "mid", "far"]
