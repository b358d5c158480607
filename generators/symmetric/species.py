"""Which elements sit on which sites in training: what tells them apart where no energy does."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from generators.symmetric.assignments import Row
    from generators.symmetric.skeletons import Skeleton

    Floats = NDArray[np.float64]
    Species = Mapping[Skeleton, Mapping[str, Mapping[str, float]]]
    """Evidence for each element on each letter of each skeleton."""

SMOOTHING = 1.0
"""Evidence that is spread evenly over all elements of a site beside what training has."""


def gather_species(crystals: Iterable[tuple[Row, float]]) -> dict[Skeleton, dict[str, dict[str, float]]]:
    """Sum the evidence for each element on each site.

    Parameters
    ----------
    crystals : iterable of (Row, float)
        With the evidence of each (:attr:`generators.data.dataset.Entry.evidence`); those without any are left out.
    """
    sums: dict[Skeleton, dict[str, dict[str, float]]] = {}
    for row, evidence in crystals:
        if evidence > 0:
            sites = sums.setdefault(row.skeleton, {})
            for letter, element in zip(row.skeleton.letters, row.elements, strict=True):
                held = sites.setdefault(letter, defaultdict(float))
                held[element] += evidence
    return {skeleton: {letter: dict(held) for letter, held in sites.items()} for skeleton, sites in sums.items()}


def site_shares(species: Species, skeleton: Skeleton, elements: Sequence[str]) -> Floats:
    """Probability of each element on each orbit, smoothed, among some elements.

    Returns
    -------
    ndarray, shape (orbits, len(elements))
        Rows add up to one; even where training has none of the elements on the site.
    """
    sites = species.get(skeleton, {})
    held = np.array([[sites.get(letter, {}).get(e, 0.0) for e in elements] for letter in skeleton.letters])
    smoothed = held + SMOOTHING / len(elements)
    shares: Floats = smoothed / smoothed.sum(axis=1, keepdims=True)
    return shares


def log_probability(species: Species, rows: Sequence[Row], elements: Sequence[str]) -> Floats:
    """Log probability of the elements of rows of one skeleton, each on its site, shape (n,)."""
    logs = np.log(site_shares(species, rows[0].skeleton, elements))
    place = {element: i for i, element in enumerate(elements)}
    chosen = np.array([[place[e] for e in row.elements] for row in rows])
    found: Floats = logs[np.arange(logs.shape[0]), chosen].sum(axis=1)
    return found
