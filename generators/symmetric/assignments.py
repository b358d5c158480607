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
from generators.symmetric.species import site_shares

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet

    from numpy.typing import NDArray

    from generators.base import NeutralityRule
    from generators.symmetric.species import Species
    from generators.symmetric.wyckoff import Description

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]

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


def assignments(
    skeleton: Skeleton,
    condition: Condition,
    limit: int,
    seed: int = 0,
    *,
    distinct: bool = True,
    species: Species | None = None,
) -> list[Row]:
    """List assignments of elements to orbits that keep the condition: system, element count, size, neutrality.

    Parameters
    ----------
    skeleton : Skeleton
    condition : Condition
    limit : int
        Most rows given; more are thinned out at random, always in the same way.
    seed : int
    distinct : bool
        Give equal crystals, whose letters another setting of the space group calls differently, once.
    species : Species, optional
        Where there are too many assignments to look at, draw those that training has the like of.

    Returns
    -------
    list of Row
    """
    if skeleton.atoms > condition.max_atoms:
        return []
    allowed = allowed_sets(condition.chemical_systems, condition.min_elements, condition.max_elements)
    elements = sorted({e for members in allowed for e in members})
    rng = np.random.default_rng(derive_seed(seed, skeleton.key, *elements))
    shares = None if species is None else site_shares(species, skeleton, elements)
    chosen = _candidates(len(elements), len(skeleton.letters), rng, shares)
    chosen = chosen[_fitting(chosen, skeleton.counts, elements, allowed, condition.neutrality)]
    if distinct:
        chosen = chosen[_distinct(chosen, skeleton, len(elements))]
    if len(chosen) > limit:
        chosen = chosen[np.sort(rng.choice(len(chosen), limit, replace=False))]
    return [Row(skeleton, tuple(elements[i] for i in indices)) for indices in chosen]


def _distinct(chosen: Ints, skeleton: Skeleton, n_elements: int) -> Ints:
    """Give one of the rows that are the same crystal, as their keys would be: first ones of equal smallest numbers.

    Only settings of the space group that give the same letters again can make two assignments equal; a row's number in
    one has its elements as digits, those of one letter sorted.
    """
    if not len(chosen):
        return np.zeros(0, dtype=np.int64)
    letters = skeleton.letters
    places = n_elements ** np.arange(len(letters), dtype=np.int64)[::-1]
    smallest: Ints | None = None
    for table in relabellings(skeleton.number):
        moved = [table[letter] for letter in letters]
        if sorted(moved) != sorted(letters):
            continue
        columns = [[i for i, m in enumerate(moved) if m == letter] for letter in sorted(set(moved))]
        digits = np.hstack([np.sort(chosen[:, same], axis=1) for same in columns])
        number = digits @ places
        smallest = number if smallest is None else np.minimum(smallest, number)
    _, first = np.unique(chosen @ places if smallest is None else smallest, return_index=True)
    return np.sort(first)


def _fitting(
    chosen: Ints,
    counts: tuple[int, ...],
    elements: Sequence[str],
    allowed: AbstractSet[frozenset[str]],
    rule: NeutralityRule,
) -> NDArray[np.bool_]:
    """Tell which assignments are of an allowed system and neutral; each composition is judged once."""
    one_hot = chosen[:, :, None] == np.arange(len(elements))
    amounts = (one_hot * np.array(counts)[None, :, None]).sum(axis=1)
    compositions, of_row = np.unique(amounts, axis=0, return_inverse=True)
    fits = np.zeros(len(compositions), dtype=bool)
    for k, composition in enumerate(compositions):
        there = [int(i) for i in np.flatnonzero(composition)]
        names = tuple(elements[i] for i in there)
        fits[k] = frozenset(names) in allowed and is_neutral(names, tuple(int(composition[i]) for i in there), rule)
    found: NDArray[np.bool_] = fits[of_row.ravel()]
    return found


def _candidates(n_elements: int, n: int, rng: np.random.Generator, shares: Floats | None) -> Ints:
    """Element of each orbit, all there are or MAX_TRIED drawn, sorted, shape (m, n)."""
    if n_elements**n <= MAX_TRIED:
        return np.array(list(product(range(n_elements), repeat=n)), dtype=np.int64)
    if shares is not None:
        drawn = np.stack([rng.choice(n_elements, size=MAX_TRIED, p=share) for share in shares], axis=1)
        likely: Ints = np.unique(drawn, axis=0)
        return likely
    drawn = rng.integers(n_elements, size=(MAX_TRIED, n))
    if n > 3:  # half of them with few elements: drawn freely, orbits hardly ever share one
        few = rng.random((MAX_TRIED // 2, n_elements)).argsort(axis=1)[:, : min(3, n_elements)]
        places = rng.integers(few.shape[1], size=(MAX_TRIED // 2, n))
        drawn[: MAX_TRIED // 2] = np.take_along_axis(few, places, axis=1)
    unique: Ints = np.unique(drawn, axis=0)
    return unique


@lru_cache(maxsize=32)
def allowed_sets(systems: tuple[tuple[str, ...], ...], fewest: int, most: int) -> frozenset[frozenset[str]]:
    """Give the element sets that some chemical systems and numbers of elements allow."""
    sets = element_sets(Condition(systems, min_elements=fewest, max_elements=most))
    return frozenset(frozenset(members) for group in sets.values() for members in group)
