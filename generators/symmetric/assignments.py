"""Elements on the orbits of a skeleton: every assignment that keeps the condition exactly, equal crystals once."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from generators.base import Condition, derive_seed
from generators.compositions import element_sets, is_neutral
from generators.crystals.symmetry import relabellings
from generators.symmetric.skeletons import Skeleton

if TYPE_CHECKING:
    from collections.abc import Sequence

    from generators.symmetric.wyckoff import Description

MAX_TRIED = 3000
"""Most assignments of one skeleton that are looked at; beyond, so many are drawn at random."""


class Row(NamedTuple):
    """A decorated skeleton: what is chosen before any coordinate."""

    skeleton: Skeleton
    elements: tuple[str, ...]

    @property
    def amounts(self) -> dict[str, int]:
        """Atoms of each element in the primitive cell."""
        amounts: dict[str, int] = {}
        for element, n in zip(self.elements, self.skeleton.counts, strict=True):
            amounts[element] = amounts.get(element, 0) + n
        return amounts

    @property
    def formula(self) -> str:
        """Reduced formula, elements sorted, e.g. ``Al2 Mg1 O4``."""
        amounts = self.amounts
        unit = gcd(*amounts.values())
        return " ".join(f"{element}{amounts[element] // unit}" for element in sorted(amounts))

    @property
    def key(self) -> str:
        """Name that equal choices share, whichever way the letters are called, e.g. ``225_a:Mg_b:O``."""
        return row_key(self.skeleton.number, tuple(zip(self.skeleton.letters, self.elements, strict=True)))


def row_of(description: Description) -> Row:
    """Forget coordinates and cell."""
    return Row(Skeleton(description.number, description.letters), tuple(o.element for o in description.orbits))


@lru_cache(maxsize=200_000)
def row_key(number: int, orbits: tuple[tuple[str, str], ...]) -> str:
    """Canonical name of a decorated skeleton: the smallest over the other settings of its space group.

    The relabellings are pymatgen's (from aviary; Goodall et al., Sci. Adv. 8, eabn4117 (2022)).
    """
    best = min(sorted((table[letter], element) for letter, element in orbits) for table in relabellings(number))
    return f"{number}_" + "_".join(f"{letter}:{element}" for letter, element in best)


def canonical(skeleton: Skeleton) -> tuple[int, tuple[str, ...]]:
    """Name of a skeleton that does not depend on how its letters are called."""
    return skeleton.number, min(
        tuple(sorted(table[letter] for letter in skeleton.letters)) for table in relabellings(skeleton.number)
    )


def assignments(skeleton: Skeleton, condition: Condition, limit: int, seed: int = 0) -> list[Row]:
    """List assignments of elements to orbits that keep the condition: system, element count, size, neutrality.

    Parameters
    ----------
    skeleton : Skeleton
    condition : Condition
    limit : int
        Most rows given; more are thinned out at random, always in the same way.
    seed : int

    Returns
    -------
    list of Row
        Equal crystals once.
    """
    if skeleton.atoms > condition.max_atoms:
        return []
    allowed = allowed_sets(condition.chemical_systems, condition.min_elements, condition.max_elements)
    elements = sorted({e for members in allowed for e in members})
    rng = np.random.default_rng(derive_seed(seed, skeleton.key, *elements))
    n_orbits = len(skeleton.letters)
    found: dict[str, Row] = {}
    for chosen in _candidates(elements, n_orbits, rng):
        if frozenset(chosen) not in allowed:
            continue
        row = Row(skeleton, tuple(chosen))
        amounts = row.amounts
        names = tuple(sorted(amounts))
        if is_neutral(names, tuple(amounts[e] for e in names), condition.neutrality):
            found.setdefault(row.key, row)
    rows = [found[key] for key in sorted(found)]
    if len(rows) > limit:
        rows = [rows[i] for i in sorted(rng.choice(len(rows), limit, replace=False))]
    return rows


def _candidates(elements: Sequence[str], n: int, rng: np.random.Generator) -> list[tuple[str, ...]]:
    if len(elements) ** n <= MAX_TRIED:
        return list(product(elements, repeat=n))
    drawn = rng.integers(len(elements), size=(MAX_TRIED, n))
    if n > 3:  # half of them with few elements: drawn freely, orbits hardly ever share one
        few = np.array([rng.choice(len(elements), 3, replace=len(elements) < 3) for _ in range(MAX_TRIED // 2)])
        places = rng.integers(3, size=(MAX_TRIED // 2, n))
        drawn[: MAX_TRIED // 2] = np.take_along_axis(few, places, axis=1)
    return sorted({tuple(elements[i] for i in row) for row in drawn})


@lru_cache(maxsize=32)
def allowed_sets(systems: tuple[tuple[str, ...], ...], fewest: int, most: int) -> frozenset[frozenset[str]]:
    """Give the element sets that some chemical systems and numbers of elements allow."""
    sets = element_sets(Condition(systems, min_elements=fewest, max_elements=most))
    return frozenset(frozenset(members) for group in sets.values() for members in group)
