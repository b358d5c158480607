"""What a condition leaves the diffusion model to draw: a composition, and values for the properties it knows."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

from generators.compositions import anonymous, asked, complexity_shares, element_sets, neutral_stoichiometries

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymatgen.core import Structure

    from generators.base import Bounds, Condition

LOGARITHMIC = frozenset({"bulk_modulus"})
"""Properties that are learned as their logarithm: they are positive and spread over orders of magnitude."""
MARGIN_STD = 0.5
"""A one-sided target is asked this many standard deviations of the training set inside its bound: at the bound itself
half of what comes would miss it."""
UNSEEN = 0.5
"""Weight of a cell composition that the training set never held, times how common its number of atoms is there."""


@dataclass(frozen=True)
class PropertyScale:
    """How one property is standardised, and the range that the training set held.

    Parameters
    ----------
    name : str
    mean, std : float
        Of the value, or of its logarithm where ``name`` is in LOGARITHMIC.
    low, high : float
        Least and largest value of the training set, in the property's unit.
    """

    name: str
    mean: float
    std: float
    low: float
    high: float

    @classmethod
    def of(cls, name: str, values: Sequence[float]) -> Self:
        """Measure a scale.

        Raises
        ------
        ValueError
            If there are fewer than two values, or one that has no logarithm needs one.
        """
        if len(values) < 2:
            raise ValueError(
                f"diffusion: {len(values)} crystals of the training part have {name!r}; two or more are needed, or "
                "leave it out of `properties`"
            )
        if name in LOGARITHMIC and min(values) <= 0:
            raise ValueError(f"diffusion: {name!r} must be positive, the training part holds {min(values):g}")
        raw = np.log(values) if name in LOGARITHMIC else np.array(values, dtype=float)
        return cls(name, float(raw.mean()), max(float(raw.std()), 1e-6), float(np.min(values)), float(np.max(values)))

    def standardised(self, value: float | None) -> float:
        """Standardise a value; NaN for None, or for what has no logarithm where one is needed."""
        if value is None or not math.isfinite(value) or (self.name in LOGARITHMIC and value <= 0):
            return math.nan
        return ((math.log(value) if self.name in LOGARITHMIC else value) - self.mean) / self.std

    def target(self, bounds: Bounds) -> float:
        """Turn an interval into the standardised value to ask for: its middle, or MARGIN_STD inside its one bound."""
        low, high = self.standardised(bounds.minimum), self.standardised(bounds.maximum)
        if math.isnan(low):
            return high - MARGIN_STD
        return low + MARGIN_STD if math.isnan(high) else (low + high) / 2

    def value(self, standardised: float) -> float:
        """Undo :meth:`standardised`."""
        raw = standardised * self.std + self.mean
        return math.exp(raw) if self.name in LOGARITHMIC else raw


@dataclass(frozen=True)
class Compositions:
    """Which compositions are drawn how often, after the training set.

    Parameters
    ----------
    cells : mapping of str to int
        How many crystals of the training set have which anonymous cell composition, ``A2B4`` say.
    """

    cells: Mapping[str, int]

    @classmethod
    def of(cls, structures: Sequence[Structure]) -> Self:
        """Count a training set."""
        names = Counter(anonymous(tuple(Counter(site.specie.symbol for site in s).values())) for s in structures)
        return cls(dict(sorted(names.items())))

    @property
    def max_atoms(self) -> int:
        """Atoms of the largest cell."""
        return max((_atoms(name) for name in self.cells), default=0)

    def size_share(self, atoms: int) -> float:
        """Share of the training set's crystals with a number of atoms; a little for numbers never seen."""
        total = sum(self.cells.values())
        same = sum(count for name, count in self.cells.items() if _atoms(name) == atoms)
        return (same + 1) / (total + 1)

    def weights(self, cells: Sequence[tuple[int, ...]]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        """Give the probability of each of some cells (counts by element)."""
        raw = np.array([self.cells.get(anonymous(c), 0) + UNSEEN * self.size_share(sum(c)) for c in cells])
        shares: np.ndarray[tuple[int], np.dtype[np.float64]] = raw / raw.sum()
        return shares

    def draw(
        self, sets: Mapping[int, Sequence[tuple[str, ...]]], condition: Condition, rng: np.random.Generator
    ) -> list[str]:
        """Draw a neutral composition: the number of elements, which, and how many atoms of each.

        Parameters
        ----------
        sets : mapping
            From :func:`usable_sets`.
        condition : Condition
        rng : numpy.random.Generator

        Returns
        -------
        list of str
            Element symbol of every atom.
        """
        elements: tuple[str, ...] = ()
        units: tuple[tuple[int, ...], ...] = ()
        members = sets[_draw_size(sets, rng)]
        for place in rng.permutation(len(members)):
            elements = members[place]
            units = neutral_stoichiometries(elements, condition.max_atoms, condition.neutrality)
            if units:
                break
        cells = [
            tuple(z * count for count in unit) for unit in units for z in range(1, condition.max_atoms // sum(unit) + 1)
        ]
        chosen = cells[int(rng.choice(len(cells), p=self.weights(cells)))]
        return [symbol for symbol, count in zip(elements, chosen, strict=True) for _ in range(count)]

    def draw_size(
        self, sets: Mapping[int, Sequence[tuple[str, ...]]], condition: Condition, rng: np.random.Generator
    ) -> tuple[tuple[str, ...], int]:
        """Draw an element set and a number of atoms, for species that diffuse."""
        members = sets[_draw_size(sets, rng)]
        elements = members[int(rng.integers(len(members)))]
        numbers = list(range(len(elements), condition.max_atoms + 1))
        raw = np.array([self.size_share(number) for number in numbers])
        return elements, int(rng.choice(numbers, p=raw / raw.sum()))


def usable_sets(condition: Condition, *, free: bool) -> dict[int, list[tuple[str, ...]]]:
    """List the element sets of a condition by size, without sizes that have no composition.

    Raises
    ------
    ValueError
        If none is left.
    """
    sets = {
        size: members
        for size, members in element_sets(condition).items()
        if size <= condition.max_atoms
        and (free or any(neutral_stoichiometries(s, condition.max_atoms, condition.neutrality) for s in members))
    }
    if not sets:
        raise ValueError(f"diffusion: no composition of {asked(condition)}")
    return sets


def _draw_size(sets: Mapping[int, Sequence[tuple[str, ...]]], rng: np.random.Generator) -> int:
    shares = complexity_shares(list(sets))
    return int(rng.choice(list(shares), p=list(shares.values())))


def _atoms(name: str) -> int:
    """Count the atoms of an anonymous composition such as ``A2B4``."""
    total, digits = 0, ""
    for character in name[1:] + "Z":
        if character.isdigit():
            digits += character
        else:
            total += int(digits or 1)
            digits = ""
    return total
