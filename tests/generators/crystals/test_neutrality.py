from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymatgen.core import Composition

from generators.crystals.neutrality import neutral, oxidation_states, strict_states

BALANCED = """MgO Al2O3 Si3N4 Mg2SiO4 AlN MgAl2O4 Mg3N2 MgSiN2 Si2N2O SiO2 NaCl CsCl ZnS GaAs BN SiC Mg2Si MgH2 Cu2O CuO
TiN TiO2 Fe3O4 Mn3O4 Ti4O7 Pb3O4 BaTiO3 LiFePO4 CaCO3 MgSO4 La2O3 UO2 MoSe2 FeS ZrO2 CeO2 Cs2AgBiBr6"""
UNBALANCED = "Mo2Se Fe2S IrCl MgN Mg2O MgO2 AlO SiO Al2O SiN MgAl AlSi TiAl AlB2 Na2Cl NaHe2 FeS2"


@pytest.mark.parametrize("formula", BALANCED.split())
def test_strict_accepts_what_balances(formula):
    assert neutral(formula)


@pytest.mark.parametrize("formula", UNBALANCED.split())
def test_strict_refuses_what_does_not(formula):
    assert not neutral(formula)


@pytest.mark.parametrize("formula", ["Mo2Se", "Fe2S", "IrCl", "MgAl", "TiAl"])
def test_permissive_passes_alloys_and_odd_states(formula):
    assert neutral(formula, "permissive")


@pytest.mark.parametrize("formula", BALANCED.split())
def test_permissive_passes_whatever_strict_passes(formula):
    assert neutral(formula, "permissive")


def test_permissive_still_refuses_something():
    assert not neutral("Na2Cl", "permissive")
    assert neutral("Na2Cl", "off")


@pytest.mark.parametrize("formula", ["Mg", "O2", "Si", "He"])
@pytest.mark.parametrize("rule", ["strict", "permissive", "off"])
def test_elements_are_neutral(formula, rule):
    assert neutral(formula, rule)


@given(
    st.dictionaries(
        st.sampled_from(["Mg", "Al", "Si", "O", "N", "Fe", "Ti", "Cu", "S", "Cl", "C", "P"]),
        st.integers(1, 6),
        min_size=2,
        max_size=4,
    ),
    st.integers(2, 3),
)
def test_an_assignment_balances_and_does_not_depend_on_the_cell(amounts, factor):
    composition = Composition(amounts)
    states = oxidation_states(composition)
    assert (states is not None) == neutral(composition) == neutral(composition * factor)
    if states is None:
        return
    reduced = composition.reduced_composition.get_el_amt_dict()
    assert {symbol: sum(atoms.values()) for symbol, atoms in states.items()} == reduced
    assert sum(state * n for atoms in states.values() for state, n in atoms.items()) == 0
    assert sum(len(atoms) > 1 for atoms in states.values()) <= 1
    assert all(state in strict_states(symbol) for symbol, atoms in states.items() for state in atoms)


def test_mixed_valence_is_said():
    assert oxidation_states("Fe3O4") == {"Fe": {2: 1, 3: 2}, "O": {-2: 4}}
    assert oxidation_states("Mo2Se") is None


def test_anions_have_their_octet_state_alone():
    assert strict_states("O") == (-2,)
    assert strict_states("F") == (-1,)
    assert [s for s in strict_states("N") if s < 0] == [-3]
    assert strict_states("H") == (-1, 1)
    assert strict_states("He") == ()


def test_oxidation_states_that_a_species_carries_are_ignored():
    assert neutral(Composition({"Mg2+": 1, "O2-": 1}))
    assert not neutral(Composition({"Mo+": 2, "Se2-": 1}))


def test_an_unknown_rule_is_refused():
    with pytest.raises(ValueError, match="strict, permissive or off"):
        neutral("MgO", "loose")  # type: ignore[arg-type]
