"""What became of each sample: sieve, relaxation, symmetry, distance moved, novelty, place above the hull, targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from generators.crystals.duplicates import DuplicateIndex, Prepared
from generators.data.labels import bulk_moduli_of
from generators.evaluation.hull import sound
from generators.evaluation.samples import refusals
from generators.evaluation.store import content_key, numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

    from generators.base import Bounds, Condition
    from generators.evaluation.hull import Hull
    from generators.evaluation.known import Familiar
    from generators.evaluation.samples import Drawn
    from generators.evaluation.store import Outcome, Protocol, Store

AT_HULL_EV_PER_ATOM = 0.002
"""Two relaxations of one crystal, from different starts, end so far apart at the limits of Protocol."""
MEASURED = frozenset({"bulk_modulus"})
"""Properties that an evaluation can measure itself."""


@dataclass
class Judged:
    """One sample and all that was found out about it, in the order of the sieve; ``None`` is not known.

    Parameters
    ----------
    index, seed : int
    structure : pymatgen.core.Structure
        As proposed.
    reasons : list of str
        Why it was refused; empty if it is valid.
    unique : bool
        Valid and not equal to another valid proposal of its seed that stands before it in the order of contents.
    relaxed : pymatgen.core.Structure or None
        Only if the relaxation gave a crystal.
    energy_ev_per_atom, formation_ev_per_atom, above_hull_ev_per_atom : float or None
    steps : int
    cpu_s : float
        Of its relaxation.
    moved_angstrom, volume_change : float or None
    spacegroup : int or None
        Of the relaxed crystal.
    prototype : str or None
        Key of the relaxed crystal.
    known_as : str or None
    new_crystal, new_composition, new_prototype, new_skeleton : bool
    first : bool
        No crystal of its seed of lower energy (or of equal, and before it in the order of contents) became the same.
    properties : dict of str to float
    """

    index: int
    seed: int
    structure: Structure
    reasons: list[str] = field(default_factory=list)
    unique: bool = False
    relaxed: Structure | None = None
    energy_ev_per_atom: float | None = None
    formation_ev_per_atom: float | None = None
    above_hull_ev_per_atom: float | None = None
    steps: int = 0
    cpu_s: float = 0.0
    moved_angstrom: float | None = None
    volume_change: float | None = None
    spacegroup: int | None = None
    prototype: str | None = None
    known_as: str | None = None
    new_crystal: bool = False
    new_composition: bool = False
    new_prototype: bool = False
    new_skeleton: bool = False
    first: bool = False
    properties: dict[str, float] = field(default_factory=dict)

    @property
    def valid(self) -> bool:
        """Whether it passed the sieve."""
        return not self.reasons

    def stable(self, cut_ev_per_atom: float) -> bool:
        """Whether it lies within a cut of the hull."""
        return self.above_hull_ev_per_atom is not None and self.above_hull_ev_per_atom <= cut_ev_per_atom

    def sun(self, cut_ev_per_atom: float) -> bool:
        """Whether it is stable, unique and novel, after relaxation."""
        return self.stable(cut_ev_per_atom) and self.first and self.new_crystal

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-compatible form, structures left out."""
        skipped = {"structure", "relaxed"}
        plain = {key: value for key, value in vars(self).items() if key not in skipped}
        return {**plain, "formula": self.structure.composition.reduced_formula, "valid": self.valid}


def sieve(drawn: Sequence[Drawn], seed: int, condition: Condition) -> list[Judged]:
    """Judge proposals as they are: valid, and which of equal ones counts as unique.

    StructureMatcher's relation is not transitive, so the number of unique crystals depends on the order in which they
    are compared; the order of contents makes it the same for any order of the samples.

    Parameters
    ----------
    drawn : sequence of Drawn
        Of one seed.
    seed : int
    condition : Condition
    """
    judged = [Judged(d.index, seed, d.structure, refusals(d.structure, condition)) for d in drawn]
    mark_first([j for j in judged if j.valid], [j.structure for j in judged if j.valid], "unique")
    return judged


def mark_first(judged: Sequence[Judged], structures: Sequence[Structure], what: str) -> None:
    """Set a flag of those that equal none before them, by energy if it is known, then by content."""
    order = sorted(
        range(len(judged)),
        key=lambda i: (round(judged[i].energy_ev_per_atom or 0.0, 6), content_key(structures[i]), judged[i].index),
    )
    index = DuplicateIndex()
    for i in order:
        setattr(judged[i], what, index.add(str(i), Prepared(structures[i])) is None)


def take_in(judged: Judged, outcome: Outcome) -> None:
    """Note what the relaxation of a valid proposal gave."""
    judged.steps, judged.cpu_s = outcome.steps, outcome.cpu_s
    if sound(outcome) and outcome.structure is not None:
        judged.relaxed = outcome.structure
        judged.energy_ev_per_atom = outcome.energy_ev_per_atom
        judged.volume_change = outcome.volume_change
        judged.moved_angstrom = displacement(judged.structure, outcome.structure)


def place(judged: Sequence[Judged], known: Familiar, hull: Hull) -> None:
    """Judge the relaxed crystals of one seed: symmetry, novelty, duplicates, distance to the hull."""
    relaxed = [(j, j.relaxed) for j in judged if j.relaxed is not None]
    for j, structure in relaxed:
        crystal = Prepared(structure)
        if j.energy_ev_per_atom is not None:
            j.above_hull_ev_per_atom = hull.above(structure.composition, j.energy_ev_per_atom)
            j.formation_ev_per_atom = hull.formation(structure.composition, j.energy_ev_per_atom)
        try:
            novelty = known.novelty(crystal)
        except ValueError:  # spglib finds no symmetry: nothing is claimed to be new
            continue
        j.spacegroup, j.prototype = crystal.symmetry.number, crystal.symmetry.prototype_key
        j.known_as, j.new_crystal = novelty.known_as, novelty.crystal
        j.new_composition, j.new_prototype, j.new_skeleton = novelty.composition, novelty.prototype, novelty.skeleton
    mark_first([j for j, _ in relaxed], [s for _, s in relaxed], "first")


def measure(
    judged: Sequence[Judged], condition: Condition, cut_ev_per_atom: float, store: Store, protocol: Protocol
) -> None:
    """Measure what the condition asks of stable crystals, where it can be measured."""
    if "bulk_modulus" not in condition.properties:
        return
    stable = [(j, j.relaxed) for j in judged if j.relaxed is not None and j.stable(cut_ev_per_atom)]
    values = numbers(
        [s for _, s in stable],
        store,
        f"bulk_modulus/{protocol.model}",
        lambda missing: bulk_moduli_of(missing, protocol.model),
    )
    for (j, _), value in zip(stable, values, strict=True):
        if value is not None:
            j.properties["bulk_modulus"] = round(value, 2)


def hit(judged: Judged, condition: Condition, cut_ev_per_atom: float) -> bool:
    """Tell whether a stable crystal meets every property target; one that was not measured is not met."""
    return judged.stable(cut_ev_per_atom) and all(
        name in judged.properties and _inside(judged.properties[name], bounds)
        for name, bounds in condition.properties.items()
    )


def displacement(given: Structure, relaxed: Structure) -> float:
    """Root mean square displacement of the atoms in Å, the change of the cell and any common shift taken out.

    Differences of fractional coordinates (nearest images), minus their mean, are turned into Å with the relaxed cell:
    a crystal that only swells has not moved.

    Parameters
    ----------
    given, relaxed : pymatgen.core.Structure
        Sites in the same order.
    """
    delta = np.asarray(relaxed.frac_coords) - np.asarray(given.frac_coords)
    delta -= np.round(delta)
    # The shift is taken from the first atom before the mean, so that no atom lies near half a cell from the others.
    delta -= delta[0]
    delta -= np.round(delta)
    delta -= delta.mean(axis=0)
    return float(np.sqrt((np.linalg.norm(delta @ relaxed.lattice.matrix, axis=1) ** 2).mean()))


def _inside(value: float, bounds: Bounds) -> bool:
    return (bounds.minimum is None or value >= bounds.minimum) and (bounds.maximum is None or value <= bounds.maximum)
