"""The quality gate: what may enter a data set, and for each row that may not the reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from itertools import count
from math import isfinite
from typing import TYPE_CHECKING

from generators.crystals.duplicates import DuplicateIndex, Prepared
from generators.crystals.validity import check_structure
from generators.data.dataset import PROPERTY_UNITS, Dataset, Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

PROPERTY_RANGES = {
    "formation_energy": (-6.0, 6.0),
    "heat_of_formation": (-6.0, 6.0),
    "energy_above_hull": (-6.0, 6.0),
    "band_gap": (0.0, 25.0),
    "direct_band_gap": (0.0, 25.0),
    "bulk_modulus": (0.0, 700.0),
}
"""Values outside are no physics, in the units of PROPERTY_UNITS: the most negative formation energies known are near
-4.5 eV/atom (LaF3, ThF4: -4.4), the largest gap is that of solid neon (21.6 eV), the largest bulk modulus diamond's
(442 GPa)."""
ENERGY_RANGE_EV_PER_ATOM = (-20.0, 30.0)
"""Total energies per atom; pseudopotential energies (pw.x: hundreds of eV) belong to no set of this kind."""
MAX_ATOMS = 20
"""Most atoms in a cell: what the trained models can be asked for."""

_SORTS = (
    ("same crystal", "duplicate"),
    ("did not converge", "not converged"),
    ("fell apart", "fell apart"),
    ("partially occupied", "partial occupancy"),
    ("is no element", "species"),
    ("is an isotope", "species"),
    ("beyond curium", "species"),
    ("beyond plutonium", "species"),
    ("not a finite number", "not a number"),
    ("is no number", "not a number"),
    ("thickness", "cell"),  # pymatgen's word for a flat cell
    ("can't be read", "unreadable"),
    ("property", "property"),
    ("an energy of", "energy"),
    ("Å apart", "atoms too close"),
    ("isolated atoms", "isolated atoms"),
    ("no symmetry", "no symmetry"),
    ("are allowed", "size"),
    ("cell", "cell"),
    ("volume", "cell"),
    ("row", "unreadable"),
)
"""What a reason says and the sort it is counted under; the first that fits."""


@dataclass(frozen=True)
class Rejected:
    """A row that was refused.

    Parameters
    ----------
    label : str
    reason : str
        What is wrong and what would be right.
    """

    label: str
    reason: str


def problems(entry: Entry, max_atoms: int = MAX_ATOMS) -> list[str]:
    """List what keeps one crystal out of a data set, duplicates apart."""
    reasons = check_structure(entry.structure, max_atoms=max_atoms)
    energy = entry.energy_ev_per_atom
    low, high = ENERGY_RANGE_EV_PER_ATOM
    if energy is not None and not low <= energy <= high:
        reasons.append(f"an energy of {energy:g} eV/atom is absurd; between {low:g} and {high:g} is allowed")
    for name, value in sorted(entry.properties.items()):
        unit = PROPERTY_UNITS.get(name)
        if unit is None:
            reasons.append(f"property {name} is not known; known are {', '.join(sorted(PROPERTY_UNITS))}")
            continue
        low, high = PROPERTY_RANGES[name]
        if not isfinite(value):
            reasons.append(f"property {name} is {value:g}, not a finite number; leave out what is not known")
        elif not low <= value <= high:
            reasons.append(f"property {name} of {value:g} {unit} is absurd; between {low:g} and {high:g} is allowed")
    return reasons


def sort_of(reason: str) -> str:
    """Give the sort of a reason in a few words, so that rejections can be counted.

    Examples
    --------
    >>> sort_of("is the same crystal as known aflow/AB_cF8_225_a_b/NaCl")
    'duplicate'
    """
    return next((sort for sign, sort in _SORTS if sign in reason), "other")


def tally(rejected: Iterable[Rejected]) -> dict[str, int]:
    """Count rejections by their sort, the commonest first."""
    counts = Counter(sort_of(r.reason) for r in rejected)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def rejection_rows(rejected: Iterable[Rejected]) -> list[dict[str, str]]:
    """List rejected rows as dictionaries with ``label``, ``sort`` and ``reason``."""
    return [{"label": r.label, "sort": sort_of(r.reason), "reason": r.reason} for r in rejected]


def sift(entries: Iterable[Entry], name: str, max_atoms: int = MAX_ATOMS) -> tuple[Dataset, list[Rejected]]:
    """Keep what passes the gate; report every row that does not.

    A label says nothing about a crystal, so that one is no reason to refuse another crystal: a label that is taken
    already gets the first free number (``MgO-2``), and none that is given to any row. Whoever wants to tell of it finds
    such entries by that: their labels are none of those that came in.

    Parameters
    ----------
    entries : iterable of Entry
        The first of equal crystals stays, and so does its label.
    name : str
        Of the data set.
    max_atoms : int

    Returns
    -------
    dataset : Dataset
        Labels are unique in it.
    rejected : list of Rejected
        Under the labels they came with.
    """
    entries = list(entries)
    given = {entry.label for entry in entries}
    kept: list[Entry] = []
    rejected: list[Rejected] = []
    index = DuplicateIndex()
    labels: set[str] = set()
    for entry in entries:
        if reasons := problems(entry, max_atoms):
            rejected.append(Rejected(entry.label, "; ".join(reasons)))
            continue
        label = _free(entry.label, labels, given) if entry.label in labels else entry.label
        try:
            twin = index.add(label, Prepared(entry.structure))
        except ValueError as error:
            rejected.append(Rejected(entry.label, str(error)))
            continue
        if twin is not None:
            rejected.append(Rejected(entry.label, f"is the same crystal as {twin}"))
            continue
        labels.add(label)
        kept.append(entry if label == entry.label else replace(entry, label=label))
    return Dataset(name, tuple(kept)), rejected


def _free(label: str, *taken: set[str]) -> str:
    numbered = (f"{label}-{number}" for number in count(2))
    return next(one for one in numbered if not any(one in labels for labels in taken))
