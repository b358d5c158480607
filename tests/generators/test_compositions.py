"""What a condition that nothing meets is told: what was asked for, and the rule where the rule is to blame."""

from __future__ import annotations

from itertools import combinations

import pytest

from generators.base import Condition
from generators.compositions import asked

LIFT = "none is neutral by it; lift it with --neutrality off (campaign.yaml: `chemistry: {neutrality: off}`)"
METALS = tuple(combinations(("Al", "Co", "Cr", "Cu", "Fe", "Mg", "Ni", "Ti", "V", "Zr"), 3))


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        (Condition((("Al", "Mg"),)), "Al-Mg with 2 elements, at most 8 atoms and the neutrality rule 'strict'"),
        (Condition((("Mg", "O"), ("Al", "O"))), "the 2 chemical systems (the first: Mg-O) with 2 elements"),
        (Condition((("Al", "Mg", "O"),), max_atoms=1), "Al-Mg-O with 2 to 3 elements, at most 1 atom and"),
        (Condition((("O",),), min_elements=2), "O with 2 elements"),
        (Condition((("O",),), min_elements=1, neutrality="off"), "O with 1 element, at most 8 atoms and the"),
    ],
)
def test_what_was_asked_for_is_said_in_full(condition, says):
    assert asked(condition).startswith(says)
    assert "..." not in asked(condition)


@pytest.mark.parametrize("condition", [Condition((("Al", "Mg"),)), Condition((("B", "Mo"),)), Condition(METALS)])
def test_a_rule_that_leaves_nothing_is_told_how_to_lift(condition):
    assert asked(condition).endswith(LIFT)


@pytest.mark.parametrize(
    "condition",
    [
        Condition((("Al", "Mg"),), neutrality="off"),
        Condition((("Al", "Mg"),), neutrality="permissive"),
        Condition((("Mg", "Sn"),)),
        Condition((("Mg", "O"),), max_atoms=1),
        Condition((("O",),), min_elements=2),
    ],
)
def test_a_rule_that_is_not_to_blame_is_not_blamed(condition):
    assert "lift" not in asked(condition)
