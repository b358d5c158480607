"""Elements on sites: probabilities that add up, and a model without energies that knows where anions sit."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.base import Condition
from generators.symmetric.arena import make_arena
from generators.symmetric.assignments import Row, assignments
from generators.symmetric.skeletons import Skeleton
from generators.symmetric.species import gather_species, log_probability, site_shares

PEROVSKITE = Skeleton(221, ("a", "b", "c"))
OXIDES = [("Ba", "Ti"), ("Sr", "Ti"), ("Ca", "Zr"), ("Ba", "Zr"), ("Sr", "Sn")]
SPECIES = gather_species([(Row(PEROVSKITE, (a, b, "O")), 1.0) for a, b in OXIDES])
ELEMENTS = ("Ba", "Ca", "N", "O", "Sn", "Sr", "Ti", "Zr")


def test_evidence_is_summed_by_site_and_what_is_none_is_left_out():
    assert SPECIES[PEROVSKITE]["c"] == {"O": 5.0}
    assert SPECIES[PEROVSKITE]["a"] == {"Ba": 2.0, "Sr": 2.0, "Ca": 1.0}
    assert gather_species([(Row(PEROVSKITE, ("Ba", "Ti", "O")), 0.0)]) == {}


@settings(max_examples=20, deadline=None)
@given(elements=st.sets(st.sampled_from(ELEMENTS), min_size=1, max_size=5), seen=st.booleans())
def test_the_probabilities_of_all_assignments_add_up_to_one(elements, seen):
    symbols = sorted(elements)
    rows = [Row(PEROVSKITE, chosen) for chosen in product(symbols, repeat=3)]
    logs = log_probability(SPECIES if seen else {}, rows, symbols)
    assert np.exp(logs).sum() == pytest.approx(1.0)
    if not seen:
        assert np.ptp(logs) == pytest.approx(0.0)


def test_where_there_are_too_many_assignments_those_that_training_has_the_like_of_are_looked_at():
    system = tuple(sorted({*ELEMENTS, "Mg", "Al", "Si", "K", "Na", "Li", "F", "S", "Cl", "Ge"}))
    condition = Condition((system,), 3, 3, max_atoms=5, neutrality="off", stable=False)

    def oxides(rows):
        return np.mean([row.elements[2] == "O" for row in rows])

    blind, likely = (assignments(PEROVSKITE, condition, 10_000, species=s) for s in (None, SPECIES))
    assert oxides(blind) < 0.15
    assert oxides(likely) > 0.3
    np.testing.assert_allclose(site_shares(SPECIES, PEROVSKITE, system).sum(axis=1), 1.0)


def test_only_without_energies_the_elements_weigh(small):
    model = replace(small.model, fingerprint="with perovskites", species=SPECIES)
    system = (("Ba", "O", "Ti"),)
    with_energy, without = (
        make_arena(model, Condition(system, 3, 3, max_atoms=5, neutrality="off", stable=stable))
        for stable in (True, False)
    )
    for arena, even in ((with_energy, True), (without, False)):
        mine = [i for i, row in enumerate(arena.rows) if row.skeleton == PEROVSKITE]
        if not mine:
            pytest.skip("the corner of the data set has no perovskite")
        priors = {arena.rows[i].elements: arena.prior[i] for i in mine}
        assert (np.ptp(list(priors.values())) < 1e-9) == even
        if not even:
            best = max(priors, key=priors.get)
            assert best[2] == "O"
