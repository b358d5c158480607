"""The whole list takes minutes to draw, for all decorations of all prototypes: here parts, by the same functions."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from pymatgen.core import Element

from generators.compositions import is_neutral
from generators.crystals.validity import check_structure
from generators.data.library import element_ground_states
from generators.data.proposals import (
    ANIONS,
    BLIND_CROWDED,
    CROWDED,
    MAX_ATOMS,
    NOBLE_GASES,
    Amounts,
    _draw,
    _random,
    elements,
    proposals,
)
from generators.exchanges import Decoration, Exchange, plausibility
from generators.volume import crowding

NONE = Amounts(exchange=0, alloy=0, blind=0, blind_alloy=0, random=0, random_alloy=0)


@pytest.fixture(scope="module")
def first():
    return list(islice(proposals(NONE), 60))


def test_known_crystals_come_first_and_fit(first):
    assert {p.kind for p in first} == {"known"}
    assert len({p.label for p in first}) == len(first) == 60
    for proposal in first:
        assert len(proposal.structure) <= MAX_ATOMS
        assert {e.symbol for e in proposal.structure.composition} <= set(elements())
        assert check_structure(proposal.structure) == []


def test_the_list_is_always_the_same(first):
    again = list(islice(proposals(Amounts(), seed=7), 60))  # known crystals are all taken, whatever the options
    assert [p.label for p in again] == [p.label for p in first]
    assert all(a.structure == b.structure for a, b in zip(again, first, strict=True))


def test_elements_have_reference_energies_and_are_no_noble_gases():
    found = elements()
    assert list(found) == sorted(set(found))
    assert not NOBLE_GASES & set(found)
    assert set(element_ground_states()) - NOBLE_GASES <= set(found)
    assert len(found) > 75


@pytest.fixture
def decoration(crystals):
    return Decoration("perovskite", "", crystals["SrTiO3"], 221, ("O", "Sr", "Ti"), ((2, 3, 4), (0,), (1,)))


def draw(decoration, kind, n, seed=0):
    return [exchange.new for exchange in _draw(decoration, kind, n, np.random.default_rng(seed))]


@pytest.mark.parametrize(("kind", "limit"), [("exchange", CROWDED), ("blind", BLIND_CROWDED)])
def test_substitutions_balance_and_have_room(decoration, kind, limit):
    drawn = draw(decoration, kind, 4)
    assert len(drawn) == 4
    for new in drawn:
        assert is_neutral(new, decoration.counts, "strict")
        assert set(new) & set(ANIONS)
        assert crowding(decoration.decorated(new)) <= limit


@pytest.mark.parametrize("kind", ["alloy", "blind_alloy"])
def test_alloys_are_of_metals(decoration, kind):
    assert all(Element(symbol).is_metal for new in draw(decoration, kind, 4) for symbol in new)


def test_exchanges_are_more_plausible_than_blind_ones(decoration):
    def mean(kind):
        drawn = [Exchange("perovskite", "", decoration.slots, new) for new in draw(decoration, kind, 12)]
        return np.mean([plausibility(exchange, decoration.counts) for exchange in drawn])

    assert mean("exchange") > mean("blind") + 0.3
    assert mean("alloy") > mean("blind_alloy") + 0.3


def test_draws_follow_their_seed(decoration):
    assert draw(decoration, "exchange", 3) == draw(decoration, "exchange", 3)
    assert draw(decoration, "exchange", 3) != draw(decoration, "exchange", 3, seed=1)


@pytest.mark.parametrize(("kind", "metals_only"), [("random", False), ("random_alloy", True)])
def test_random_crystals_are_new_at_each_number_and_the_same_for_a_seed(kind, metals_only):
    made, again = (list(_random(kind, 3, seed=5)) for _ in range(2))
    assert [p.label for p in made] == [f"{kind} {i:04d}" for i in range(3)]
    assert all(a.structure == b.structure for a, b in zip(made, again, strict=True))
    assert len({p.structure.composition.formula for p in made}) == 3
    for proposal in made:
        assert check_structure(proposal.structure, MAX_ATOMS) == []
        metals = [Element(e.symbol).is_metal for e in proposal.structure.composition]
        assert all(metals) if metals_only else any(metals) and not all(metals)
