"""The hull that all generators are judged by: competing phases relaxed by the same model, to the same limits.

A hull of few phases flatters everybody, random structures most. So the competitors are: for each element its ground
state and the elemental prototypes; for each chemical subsystem of a sample the known crystals of exactly these elements
and every charge-neutral substitution into the library's prototypes; and for each sample's stoichiometry every prototype
of that stoichiometry with the sample's elements, neutral or not. Of each composition those of lowest energy as proposed
are relaxed. Hulls are pymatgen's PhaseDiagram (Ong et al., Chem. Mater. 20, 1798 (2008)).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations, permutations
from math import gcd
from typing import TYPE_CHECKING, NamedTuple

from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Structure

from generators.crystals.validity import check_structure
from generators.data.build import MAX_VOLUME_CHANGE
from generators.data.library import element_ground_states, elemental_prototypes, known_structures
from generators.evaluation.store import Outcome, relaxations, single_points
from generators.exchanges import MAX_CROWDING, decorations, exchanges
from generators.volume import crowding, rescaled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from generators.evaluation.store import Protocol, Store, Told

MAX_KNOWN_ATOMS = 24
"""Largest known crystal that competes."""


@dataclass(frozen=True)
class Reach:
    """How many competitors are looked at.

    Parameters
    ----------
    atoms : int
        Largest prototype cell.
    per_composition : int
        Most substitutions relaxed of a composition that no sample has.
    own : int
        Most relaxed of a sample's own composition, and of an element.
    """

    atoms: int = 8
    per_composition: int = 4
    own: int = 24


class Phase(NamedTuple):
    """A competing phase: label, relaxed structure, energy in eV/atom."""

    label: str
    structure: Structure
    energy_ev_per_atom: float

    @property
    def elements(self) -> frozenset[str]:
        """Symbols."""
        return frozenset(element.symbol for element in self.structure.composition.elements)


class Hull:
    """Distances to the hull of phases that are all of one model and protocol.

    Parameters
    ----------
    phases : iterable of Phase
    """

    def __init__(self, phases: Iterable[Phase]) -> None:
        self.phases = tuple(phases)
        self._diagrams: dict[frozenset[str], PhaseDiagram | None] = {}

    def inside(self, elements: Iterable[str]) -> list[Phase]:
        """List the phases of a chemical system and its subsystems."""
        system = frozenset(elements)
        return [phase for phase in self.phases if phase.elements <= system]

    def above(self, composition: Composition, energy_ev_per_atom: float) -> float | None:
        """Give the distance to the hull, eV/atom, negative below it; ``None`` where an element has no phase.

        Parameters
        ----------
        composition : pymatgen.core.Composition
        energy_ev_per_atom : float
        """
        diagram = self._diagram(composition)
        return None if diagram is None else float(energy_ev_per_atom - diagram.get_hull_energy_per_atom(composition))

    def formation(self, composition: Composition, energy_ev_per_atom: float) -> float | None:
        """Give the energy of formation from the hull's own elements, eV/atom; ``None`` where one has no phase."""
        diagram = self._diagram(composition)
        if diagram is None:
            return None
        shares = composition.fractional_composition
        pure = sum(share * diagram.el_refs[element].energy_per_atom for element, share in shares.items())
        return float(energy_ev_per_atom - pure)

    def ground_states(self, window_ev_per_atom: float = 0.002) -> list[tuple[str, Structure]]:
        """Phases on the hull of these phases, with their labels."""
        found = []
        for phase in self.phases:
            above = self.above(phase.structure.composition, phase.energy_ev_per_atom)
            if above is not None and above <= window_ev_per_atom:
                found.append((phase.label, phase.structure))
        return found

    def near(self, elements: Iterable[str], window_ev_per_atom: float) -> list[Phase]:
        """List the phases of a system that lie within a window of its hull."""
        found = []
        for phase in self.inside(elements):
            distance = self.above(phase.structure.composition, phase.energy_ev_per_atom)
            if distance is not None and distance <= window_ev_per_atom:
                found.append(phase)
        return found

    def _diagram(self, composition: Composition) -> PhaseDiagram | None:
        system = frozenset(element.symbol for element in composition.elements)
        if system not in self._diagrams:
            entries = [
                PDEntry(p.structure.composition, p.energy_ev_per_atom * len(p.structure), name=p.label)
                for p in self.inside(system)
            ]
            spanned = {e.composition.elements[0].symbol for e in entries if e.is_element}
            self._diagrams[system] = PhaseDiagram(entries) if spanned == system else None
        return self._diagrams[system]


def sound(outcome: Outcome) -> bool:
    """Tell whether a relaxation gave a crystal: converged, whole, and not fallen apart."""
    return (
        outcome.structure is not None
        and outcome.energy_ev_per_atom is not None
        and outcome.converged
        and outcome.volume_change is not None
        and outcome.volume_change <= MAX_VOLUME_CHANGE
        and not check_structure(outcome.structure)
    )


def build_hull(
    compositions: Iterable[Composition],
    store: Store,
    protocol: Protocol,
    *,
    more: Iterable[tuple[str, Structure]] = (),
    reach: Reach | None = None,
    told: Told | None = None,
) -> Hull:
    """Relax the competitors of some compositions, those of the store not again.

    Parameters
    ----------
    compositions : iterable of pymatgen.core.Composition
        Of the samples of all generators: one hull for all.
    store : Store
    protocol : Protocol
    more : iterable of (str, pymatgen.core.Structure)
        Further known crystals (a data set); those inside the chemical systems compete.
    reach : Reach, optional
    told : callable, optional
        ``told(done, of)``, of the relaxations.
    """
    reach = reach or Reach()
    formulas = sorted({composition.reduced_formula for composition in compositions})
    systems = sorted({tuple(sorted(e.symbol for e in Composition(f).elements)) for f in formulas})
    subsystems = sorted({part for s in systems for size in range(1, len(s) + 1) for part in combinations(s, size)})
    sure: list[tuple[str, Structure]] = []
    asked: list[tuple[str, Structure]] = []
    extra = list(more)
    for part in subsystems:
        sure += known_of(part, extra)
        asked += list(elemental(part[0]) if len(part) == 1 else neutral_substitutions(part, reach.atoms))
    for formula in formulas:
        asked += list(of_stoichiometry(Composition(formula), reach.atoms))
    own = {*formulas, *(part[0] for part in subsystems if len(part) == 1)}
    chosen = sure + first_look(asked, own, store, protocol, reach)
    outcomes = relaxations([s for _, s in chosen], store, protocol, told)
    return Hull(
        Phase(label, outcome.structure, outcome.energy_ev_per_atom)
        for (label, _), outcome in zip(chosen, outcomes, strict=True)
        if sound(outcome) and outcome.structure is not None and outcome.energy_ev_per_atom is not None
    )


def known_of(elements: Sequence[str], more: Iterable[tuple[str, Structure]]) -> list[tuple[str, Structure]]:
    """List the known crystals of exactly these elements, and an element's ground state."""
    wanted = set(elements)
    found = [(known.label, known.structure) for known in known_structures()] + list(more)
    if len(wanted) == 1 and elements[0] in (ground := element_ground_states()):
        found.append((f"dcdft/{elements[0]}", ground[elements[0]]))
    inside = {
        label: structure
        for label, structure in found
        if len(structure) <= MAX_KNOWN_ATOMS and {e.symbol for e in structure.composition.elements} == wanted
    }
    return list(inside.items())


def elemental(symbol: str) -> Iterator[tuple[str, Structure]]:
    """Yield an element in the elemental prototypes, volumes estimated."""
    for prototype in elemental_prototypes():
        structure = prototype.structure
        structure.replace_species({e.symbol: symbol for e in structure.composition.elements})
        yield f"{prototype.tag}|{symbol}", rescaled(structure)


def neutral_substitutions(elements: Sequence[str], max_atoms: int) -> Iterator[tuple[str, Structure]]:
    """Yield every charge-neutral substitution of exactly these elements into the library's prototypes."""
    known = decorations(max_atoms)
    for option in exchanges((tuple(elements),), max_atoms, "strict"):
        exchange = option.exchange
        yield exchange.key, rescaled(known[exchange.tag, exchange.label].decorated(exchange.new))


def of_stoichiometry(composition: Composition, max_atoms: int) -> Iterator[tuple[str, Structure]]:
    """Yield every prototype of a stoichiometry with the composition's own elements, whatever their charges.

    Parameters
    ----------
    composition : pymatgen.core.Composition
    max_atoms : int
        Largest prototype cell.
    """
    symbols = sorted(element.symbol for element in composition.elements)
    amounts = composition.reduced_composition
    wanted = sorted(round(amounts[symbol]) for symbol in symbols)
    for (tag, label), decoration in decorations(max_atoms).items():
        divisor = gcd(*decoration.counts)
        if sorted(count // divisor for count in decoration.counts) != wanted:
            continue
        for new in permutations(symbols):
            if any(amounts[s] * divisor != n for s, n in zip(new, decoration.counts, strict=True)):
                continue
            structure = decoration.decorated(new)
            if crowding(structure) <= MAX_CROWDING:
                yield f"{tag}|{label}|{','.join(new)}", rescaled(structure)


def first_look(
    asked: Sequence[tuple[str, Structure]], own: set[str], store: Store, protocol: Protocol, reach: Reach
) -> list[tuple[str, Structure]]:
    """Choose those of lowest energy as proposed of each composition; equal energies are equal crystals."""
    energies = single_points([structure for _, structure in asked], store, protocol)
    groups: dict[str, dict[tuple[float, float], tuple[str, Structure]]] = defaultdict(dict)
    for (label, structure), energy in zip(asked, energies, strict=True):
        if energy is not None:
            look = (round(energy, 5), round(structure.volume / len(structure), 4))
            groups[structure.composition.reduced_formula].setdefault(look, (label, structure))
    chosen: list[tuple[str, Structure]] = []
    for formula in sorted(groups):
        lowest = sorted(groups[formula])
        chosen += [groups[formula][look] for look in lowest[: reach.own if formula in own else reach.per_composition]]
    return chosen
