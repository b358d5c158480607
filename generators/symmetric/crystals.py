"""Crystals of a data set with their descriptions, and what these tell of skeletons and sites."""

from __future__ import annotations

from typing import TYPE_CHECKING

from generators.symmetric.assignments import row_of
from generators.symmetric.skeletons import gather_evidence
from generators.symmetric.species import gather_species
from generators.symmetric.tables import MAX_ORBITS
from generators.symmetric.wyckoff import describe

if TYPE_CHECKING:
    from generators.data.dataset import Dataset, Entry
    from generators.symmetric.skeletons import Skeleton
    from generators.symmetric.wyckoff import Description

    Rows = list[tuple[Entry, Description]]


def rows_of(dataset: Dataset) -> Rows:
    """Describe the crystals of a data set; those without symmetry and those too large are left out."""
    rows: Rows = []
    for entry in dataset.entries:
        try:
            description = describe(entry.structure)
        except ValueError:
            continue
        if len(description.orbits) <= MAX_ORBITS and sum(description.counts) <= MAX_ORBITS:
            rows.append((entry, description))
    return rows


def evidence_of(rows: Rows) -> dict[Skeleton, float]:
    """Gather the evidence for the skeletons of crystals."""
    return gather_evidence((row_of(description).skeleton, entry.evidence) for entry, description in rows)


def species_of(rows: Rows) -> dict[Skeleton, dict[str, dict[str, float]]]:
    """Gather the evidence for the elements on the sites of crystals."""
    return gather_species((row_of(description), entry.evidence) for entry, description in rows)
