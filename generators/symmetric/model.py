"""The trained networks with what belongs to them: scales, calibration, skeletons, and the crystals they were shown."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from generators.abilities import Abilities
from generators.base import derive_seed
from generators.symmetric.assignments import canonical
from generators.symmetric.forecast import WIDTH, Forecast, ForecastNetwork, Packed, Scale, forecast
from generators.symmetric.skeletons import LetterNetwork, Skeleton, draw_letters, group_shares, log_probability

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from generators.symmetric.geometry import GeometryNetwork
    from generators.symmetric.species import Species

ENERGY = "formation_energy"
"""The property that hulls are made of."""
NEW_SKELETONS, MAX_DRAWS = 250, 4000
"""Skeletons never seen that an arena may use, and draws at most to find them."""
LARGEST = 8
"""Atoms of the largest training crystals: probabilities of letters are taken for cells up to so many."""


@dataclass(frozen=True, eq=False)
class Model:
    """Networks and their surroundings; immutable.

    Parameters
    ----------
    letters : LetterNetwork
    geometry : GeometryNetwork
    networks : tuple of ForecastNetwork
        Of the properties and, last, the expansion.
    properties : tuple of str
        What the forecast networks predict, in order.
    scale : Scale
    calibration : tuple of (float, float)
    ranges : mapping of str to (float, float)
        Smallest and largest value of each property in training.
    skeletons : mapping of Skeleton to float
        Training skeletons that nature is known to build, and the evidence for each
        (:attr:`generators.data.dataset.Entry.evidence`).
    log_skeletons : mapping of Skeleton to float
        Log probability of these and of new ones, see :func:`weigh_skeletons`.
    species : mapping
        Evidence for each element on each site of these skeletons, see :mod:`generators.symmetric.species`.
    known_rows : frozenset of str
        Keys of the training crystals.
    training_energies : tuple of (dict, float)
        Atoms of each element and formation energy (eV/atom) of the stablest training crystal of each composition.
    elements : tuple of str
        Elements of the training set.
    fingerprint : str
        Names the weights; models of one fingerprint are equal.
    """

    letters: LetterNetwork
    geometry: GeometryNetwork
    networks: tuple[ForecastNetwork, ...]
    properties: tuple[str, ...]
    scale: Scale
    calibration: tuple[tuple[float, float], ...]
    ranges: Mapping[str, tuple[float, float]]
    skeletons: Mapping[Skeleton, float]
    log_skeletons: Mapping[Skeleton, float]
    species: Species
    known_rows: frozenset[str]
    training_energies: tuple[tuple[dict[str, int], float], ...]
    elements: tuple[str, ...]
    fingerprint: str
    width: int = WIDTH

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Model) and other.fingerprint == self.fingerprint

    @property
    def energy_column(self) -> int | None:
        """Column of the formation energy, None if the model was trained without."""
        return self.properties.index(ENERGY) if ENERGY in self.properties else None

    @property
    def abilities(self) -> Abilities:
        """What it was shown; new skeletons are no larger than those of training."""
        largest = max((s.atoms for s in self.log_skeletons), default=None)
        return Abilities(self.elements, self.properties, self.ranges, largest)

    def forecast(self, packed: Packed) -> Forecast:
        """Predict; see :func:`generators.symmetric.forecast.forecast`."""
        return forecast(self.networks, packed, self.scale, self.calibration)

    def nothing(self, n: int) -> Forecast:
        """Forecast of n rows that have no geometry."""
        none = np.full((n, len(self.properties)), np.nan)
        return Forecast(none, none.copy(), np.zeros((n, self.width)), np.full(n, np.nan))

    def seen_skeletons(self, max_atoms: int) -> list[Skeleton]:
        """Training skeletons of at most so many atoms, sorted."""
        return sorted(s for s in self.skeletons if s.atoms <= max_atoms)

    def new_skeletons(self, max_atoms: int) -> list[Skeleton]:
        """Skeletons that no training crystal has, drawn from the letter network, of at most so many atoms, sorted."""
        return sorted(s for s in self.log_skeletons if s.atoms <= max_atoms and s not in self.skeletons)


def weigh_skeletons(
    letters: LetterNetwork, skeletons: Mapping[Skeleton, float], others: Collection[Skeleton] = ()
) -> dict[Skeleton, float]:
    """Log probabilities of skeletons with evidence, and of new ones that the letter network draws.

    A skeleton with evidence has its share of it; a new one its space group's share, smoothed, times the probability of
    its letters. Computed once, when a model is trained: sampling only looks it up.

    Parameters
    ----------
    letters : LetterNetwork
    skeletons : mapping of Skeleton to float
        Evidence.
    others : collection of Skeleton
        Training skeletons without evidence, which are not new either.
    """
    shares = group_shares(skeletons)
    seen = {canonical(s) for s in (*skeletons, *others)}
    rng = np.random.default_rng(derive_seed("new skeletons"))
    groups, weights = list(shares), np.sqrt(list(shares.values()))
    new: dict[tuple[int, tuple[str, ...]], Skeleton] = {}
    for _ in range(MAX_DRAWS):
        number = int(rng.choice(groups, p=weights / weights.sum()))
        skeleton = draw_letters(letters, number, LARGEST, rng)
        if skeleton is not None and (key := canonical(skeleton)) not in seen:
            new.setdefault(key, skeleton)
        if len(new) == NEW_SKELETONS:
            break
    total = sum(skeletons.values())
    logs = {s: math.log(weight / total) for s, weight in skeletons.items()}
    logs |= {s: float(np.log(shares[s.number])) + log_probability(letters, s, LARGEST) for s in new.values()}
    return {s: round(logs[s], 5) for s in sorted(logs)}
