"""Conditions survive their compact form: what is not said again would be lost for whoever reads it."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.base import Bounds, Condition
from generators.symmetric.conditions import MAX_SYSTEMS, compact, expand, from_key, key_of

ELEMENTS = ("Al", "Ca", "Cu", "K", "Li", "Mg", "N", "Na", "O", "S", "Si", "Zn")
TRIPLES = tuple(combinations(ELEMENTS, 3))
"""220 chemical systems."""


@settings(max_examples=30, deadline=None)
@given(
    systems=st.lists(st.sampled_from(TRIPLES), min_size=1, max_size=150, unique=True).map(tuple),
    stable=st.booleans(),
    rule=st.sampled_from(["strict", "permissive", "off"]),
)
def test_a_condition_comes_back_whole(systems, stable, rule):
    wanted = {"bulk_modulus": Bounds(100.0, None, "GPa")}
    condition = Condition(systems, 2, 3, max_atoms=7, neutrality=rule, properties=wanted, stable=stable)
    assert expand(compact(condition)) == condition
    assert from_key(key_of(condition)) == replace(condition, properties={})


def test_all_systems_of_some_elements_are_kept_in_few_words():
    condition = Condition(TRIPLES, max_elements=3)
    assert len(TRIPLES) > MAX_SYSTEMS
    assert compact(condition)["elements"] == list(ELEMENTS)
    assert set(expand(compact(condition)).chemical_systems) == set(TRIPLES)


@pytest.mark.parametrize("n", [MAX_SYSTEMS, MAX_SYSTEMS + 20])
def test_many_systems_are_kept_to_exactly(small, n):
    systems = tuple(s for s in TRIPLES if not {"Cu", "S"} & set(s))[:n]
    condition = Condition(systems, 2, 3, max_atoms=6, neutrality="off")
    for sample in small.sample(24, condition, seed=2):
        assert condition.allows(e.symbol for e in sample.structure.composition.elements)
