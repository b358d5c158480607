"""The quality gate: what may enter a data set, and for each row that may not the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from generators.crystals.duplicates import DuplicateIndex, Prepared
from generators.crystals.validity import check_structure
from generators.data.dataset import Dataset, Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMATION_ENERGY_RANGE_EV_PER_ATOM = (-6.0, 6.0)
"""Formation energies outside it are no physics: the most negative known are near -4.5 (LaF3, ThF4: -4.4)."""
ENERGY_RANGE_EV_PER_ATOM = (-20.0, 30.0)
"""Total energies per atom; pseudopotential energies (pw.x: hundreds of eV) belong to no set of this kind."""
MAX_ATOMS = 20
"""Most atoms in a cell: what the trained models can be asked for."""


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
    for name in ("formation_energy", "heat_of_formation"):
        low, high = FORMATION_ENERGY_RANGE_EV_PER_ATOM
        value = entry.properties.get(name)
        if value is not None and not low <= value <= high:
            reasons.append(f"{name} {value:g} eV/atom is absurd; between {low:g} and {high:g} is allowed")
    return reasons


def sift(entries: Iterable[Entry], name: str, max_atoms: int = MAX_ATOMS) -> tuple[Dataset, list[Rejected]]:
    """Keep what passes the gate; report every row that does not.

    Parameters
    ----------
    entries : iterable of Entry
        The first of equal crystals stays.
    name : str
        Of the data set.
    max_atoms : int

    Returns
    -------
    dataset : Dataset
    rejected : list of Rejected
    """
    kept: list[Entry] = []
    rejected: list[Rejected] = []
    index = DuplicateIndex()
    labels: set[str] = set()
    for entry in entries:
        if entry.label in labels:
            rejected.append(Rejected(entry.label, "its label occurs twice; labels must be unique"))
            continue
        if reasons := problems(entry, max_atoms):
            rejected.append(Rejected(entry.label, "; ".join(reasons)))
            continue
        try:
            twin = index.add(entry.label, Prepared(entry.structure))
        except ValueError as error:
            rejected.append(Rejected(entry.label, str(error)))
            continue
        if twin is not None:
            rejected.append(Rejected(entry.label, f"is the same crystal as {twin}"))
            continue
        labels.add(entry.label)
        kept.append(entry)
    return Dataset(name, tuple(kept)), rejected
