"""What may compete: known crystals and prototype substitutions of one exact chemical subsystem, in a fixed order."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib.resources import files
from itertools import permutations
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Composition, Lattice, Structure

from generators.compositions import is_neutral
from generators.data import known_structures, prototypes
from generators.relaxer import DEFAULT_MODEL
from generators.volume import rescaled
from workflows.reference import Source, system_name

if TYPE_CHECKING:
    from collections.abc import Iterable


MAX_GAP = 8.0
"""Å between planes of atoms; layers of van der Waals crystals lie 3 to 4 Å apart, layers of slab models 10 and more."""


@dataclass(frozen=True)
class Limits:
    """What is enumerated and kept.

    Parameters
    ----------
    any_atoms : int
        Largest prototype cell for substitutions of whatever charge.
    neutral_atoms : int
        Largest prototype cell for charge-neutral substitutions.
    known_atoms : int
        Largest cell of a crystal that is known with these very elements.
    first_look : int
        Most substitutions a composition that are relaxed with the screening model: those of lowest energy as proposed.
    first_window : float
        eV/atom above the hull, before any relaxation, within which a composition is looked at (neutral ones always).
    window : float
        eV/atom above the lowest of its composition (screening model) within which a structure is kept.
    per_composition : int
        Most structures kept of a composition (elements: one more).
    hull_window : float
        eV/atom above the screening model's hull of the subsystem within which a composition that nobody has made is
        kept.
    """

    any_atoms: int = 8
    neutral_atoms: int = 16
    known_atoms: int = 40
    first_look: int = 12
    first_window: float = 0.4
    window: float = 0.05
    per_composition: int = 2
    hull_window: float = 0.05

    def up_to(self, atoms: int | None) -> Limits:
        """Give the same limits with no primitive cell larger than ``atoms``; ``None`` changes nothing."""
        if atoms is None:
            return self
        sizes = ("any_atoms", "neutral_atoms", "known_atoms")
        return replace(self, **{name: min(atoms, getattr(self, name)) for name in sizes})


@dataclass(frozen=True)
class Proposal:
    """A structure that may compete."""

    id: str
    structure: Structure
    source: Source


def widest_gap(structure: Structure) -> float:
    """Give the widest empty space (Å) between planes of atoms that are parallel to a face of the cell."""
    gaps = []
    for axis in range(3):
        heights = np.sort(structure.frac_coords[:, axis] % 1.0)
        empty = np.diff(np.append(heights, heights[0] + 1.0)).max()
        gaps.append(float(empty / structure.lattice.reciprocal_lattice_crystallographic.abc[axis]))
    return max(gaps)


def covers(limits: Limits, engine_key: str) -> str:
    """Say in words what a subsystem built within these limits covers."""
    return (
        f"known crystals of these elements up to {limits.known_atoms} atoms a primitive cell (AFLOW prototypes in "
        f"pymatgen, ASE's dcdft, pyxtal, the literature), charge-neutral substitutions into prototypes up to "
        f"{limits.neutral_atoms} atoms, any substitution up to {limits.any_atoms} atoms; per composition the "
        f"{limits.first_look} of lowest energy relaxed with {DEFAULT_MODEL}, and the lowest {limits.per_composition} "
        f"within {limits.window:g} eV/atom of those with {engine_key}; "
        "elements in their lowest prototype (O2 and N2 as molecular crystals), energies uncorrected"
    )


def enumerate_subsystem(elements: Iterable[str], limits: Limits | None = None) -> list[Proposal]:
    """List the structures that consist of exactly these elements, sorted by id.

    Parameters
    ----------
    elements : iterable of str
    limits : Limits, optional

    Returns
    -------
    list of Proposal
        Known crystals at their own volume, substitutions at an estimated one.
    """
    limits = limits or Limits()
    wanted = tuple(sorted(set(elements)))
    found: dict[str, Proposal] = {}
    for known in known_structures():
        if len(known.structure) <= limits.known_atoms and _symbols(known.structure) == wanted:
            if widest_gap(known.structure) > MAX_GAP:
                continue  # a layer in vacuum is no bulk phase
            label = f"{system_name(wanted)}/{known.label}"
            found[label] = Proposal(label, known.structure, Source(kind="known", prototype=known.label))
    for phase, structure in literature():
        if len(structure) <= limits.known_atoms and _symbols(structure) == wanted:
            label = f"{system_name(wanted)}/{phase}"
            found[label] = Proposal(label, structure.copy(), Source(kind="known", prototype=phase))
    for prototype in prototypes(limits.neutral_atoms, n_elements=len(wanted)):
        old = _symbols(prototype.structure)
        for new in permutations(wanted):
            if old == new:
                continue
            pairs = tuple(zip(old, new, strict=True))
            structure = prototype.structure.copy()
            structure.replace_species(dict(pairs))
            if len(structure) > limits.any_atoms and not is_balanced(structure):
                continue
            label = f"{system_name(wanted)}/{prototype.tag}/" + ",".join(f"{a}>{b}" for a, b in pairs)
            source = Source(kind="substituted", prototype=prototype.tag, substitution=pairs)
            found[label] = Proposal(label, rescaled(structure), source)
    return [found[label] for label in sorted(found)]


@lru_cache(maxsize=1)
def literature() -> tuple[tuple[str, Structure], ...]:
    """Read the phases that matter and that no dependency ships; parameters are starting points, the engine relaxes."""
    return _phases_of("known_phases.json")


@lru_cache(maxsize=1)
def polymorphs() -> tuple[tuple[str, Structure], ...]:
    """Read metastable phases that somebody has made: they are not novel, and need not compete."""
    return _phases_of("known_polymorphs.json")


def _phases_of(file: str) -> tuple[tuple[str, Structure], ...]:
    phases = json.loads(files("workflows").joinpath(f"data/{file}").read_text(encoding="utf-8"))
    return tuple(
        (
            f"literature/{phase['name']}",
            Structure.from_spacegroup(
                phase["spacegroup"],
                Lattice.from_parameters(*phase["cell"]),
                [site[0] for site in phase["sites"]],
                [site[1:] for site in phase["sites"]],
            ).get_primitive_structure(),
        )
        for phase in phases
    )


def _symbols(structure: Structure) -> tuple[str, ...]:
    return tuple(sorted({site.specie.symbol for site in structure}))


def is_balanced(structure: Structure) -> bool:
    """Tell whether a compound is charge-neutral in common oxidation states; elements are not asked."""
    reduced = Composition(structure.composition.reduced_formula)
    symbols = tuple(sorted(e.symbol for e in reduced.elements))
    return len(symbols) > 1 and is_neutral(symbols, tuple(int(reduced[s]) for s in symbols), "strict")
