"""A hull of the screening model's own energies: for ranking candidates only, never for a verdict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

if TYPE_CHECKING:
    from workflows.reference import ReferenceEntry, ReferenceSet


@dataclass(frozen=True)
class ScreeningHull:
    """Competing phases by the screening model's energies.

    Parameters
    ----------
    entries : tuple of ReferenceEntry
        Those that the screening model pre-relaxed; the engine's energies of the same entries are not used.
    """

    entries: tuple[ReferenceEntry, ...]

    def above(self, composition: Composition, energy_ev_per_atom: float) -> float | None:
        """Give the distance to the hull in eV/atom (negative below it), ``None`` where the elements are not spanned."""
        system = {element.symbol for element in composition.elements}
        entries = [
            PDEntry(inside := Composition(entry.formula), entry.screening_ev_per_atom * inside.num_atoms)
            for entry in self.entries
            if entry.screening_ev_per_atom is not None and set(Composition(entry.formula).as_dict()) <= system
        ]
        if {e.composition.elements[0].symbol for e in entries if e.is_element} != system:
            return None
        hull = PhaseDiagram(entries)
        return float(energy_ev_per_atom - hull.get_hull_energy_per_atom(composition))


def screening_hull(reference: ReferenceSet) -> ScreeningHull:
    """Make the screening hull of a campaign's reference set."""
    return ScreeningHull(tuple(entry for part in reference.subsystems.values() for entry in part.entries))
