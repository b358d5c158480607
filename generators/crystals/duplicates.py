"""Which crystals are the same: composition, cell and AMD sieve the pairs, pymatgen's StructureMatcher confirms.

Only StructureMatcher calls two crystals the same, at the tolerances of :class:`Tolerances`; what comes before merely
spares it pairs that it would refuse: other compositions, other numbers of atoms in the primitive cell, lattices that
can't be mapped onto each other, sites without a partner (:mod:`generators.crystals.lattices`), and average minimum
distances too far apart (:mod:`generators.crystals.fingerprint`). All but the last never refuse what the matcher
accepts. The AMD's tolerance is as wide as the matcher's own (see :class:`Tolerances`): at a tight one it would find
exact copies only, while the matcher also accepts sites that lie 0.3 of an atom's size apart.

StructureMatcher's relation is not transitive, so "the same" needs an order: a crystal belongs to the first earlier
crystal that it matches and that was itself new. That is what ``StructureMatcher.group_structures`` does, and
:func:`group` gives the same groups, save that it also knows supercells which StructureMatcher by itself may not (see
:func:`exact_primitive`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import cached_property, partial
from math import gcd
from typing import TYPE_CHECKING

import numpy as np
import spglib
from pymatgen.core import Element, Structure
from pymatgen.core.structure_matcher import StructureMatcher

from generators.crystals.fingerprint import amd
from generators.crystals.lattices import ReducedLattice, sites_may_match
from generators.crystals.spglib_calls import found_or_none
from generators.crystals.symmetry import Symmetry, symmetry
from generators.processes import worker_pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


@dataclass(frozen=True)
class Tolerances:
    """When two crystals are the same; pymatgen's defaults.

    Parameters
    ----------
    ltol : float
        Relative difference of cell lengths.
    stol : float
        Largest distance between matched sites, in units of the cube root of the volume per atom.
    angle_tol : float
        Difference of cell angles, degrees.
    amd : float
        Largest difference of any average minimum distance (same unit as ``stol``) of pairs that are shown to the
        matcher at all. Sites ``stol`` apart change the distances in a cell by at most ``2 * stol``, which is the
        default; of 104,000 pairs of perturbed prototypes and random crystals no match was further apart than 0.52.
    """

    ltol: float = 0.2
    stol: float = 0.3
    angle_tol: float = 5.0
    amd: float = 0.6

    def matcher(self) -> StructureMatcher:
        """Make the StructureMatcher: primitive cells, volumes scaled to be equal."""
        return StructureMatcher(
            ltol=self.ltol, stol=self.stol, angle_tol=self.angle_tol, primitive_cell=True, scale=True
        )


DEFAULT_TOLERANCES = Tolerances()

PRIMITIVE_SYMPREC = 0.01
"""Å; how far the cells of a supercell may differ to be taken for copies of one primitive cell."""


class Prepared:
    """A crystal with what is costly to compute of it, computed once and only when asked for.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Ordered. Don't change it afterwards.
    """

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self._lattice: tuple[Tolerances, ReducedLattice] | None = None

    @cached_property
    def formula(self) -> str:
        """Reduced formula: only crystals of one composition can be the same."""
        return str(self.structure.composition.reduced_formula)

    @cached_property
    def anonymous_formula(self) -> str:
        """Reduced formula without species (A1B2): only crystals that share it can be of one prototype."""
        return str(self.structure.composition.reduced_composition.anonymized_formula)

    @cached_property
    def fingerprint(self) -> NDArray[np.float64]:
        """AMD vector, shape (100,), dimensionless."""
        return amd(self.reduced)

    @cached_property
    def symmetry(self) -> Symmetry:
        """Space group and Wyckoff orbits; ValueError if spglib finds none."""
        return symmetry(self.structure)

    @cached_property
    def reduced(self) -> Structure:
        """Primitive, Niggli-reduced cell, as StructureMatcher makes it (of the exact primitive cell)."""
        primitive = exact_primitive(self.structure)
        return primitive.get_reduced_structure(reduction_algo="niggli").get_primitive_structure()

    def lattice(self, tolerances: Tolerances) -> ReducedLattice:
        """Give the reduced lattice, ready to be compared at some tolerances."""
        if self._lattice is None or self._lattice[0] != tolerances:
            matrix = self.reduced.lattice.matrix
            self._lattice = (tolerances, ReducedLattice(matrix, tolerances.ltol, tolerances.angle_tol))
        return self._lattice[1]

    @cached_property
    def numbers(self) -> NDArray[np.int64]:
        """Atomic numbers of the reduced cell's sites."""
        return np.array([site.specie.Z for site in self.reduced])

    @cached_property
    def frac_coords(self) -> NDArray[np.float64]:
        """Fractional coordinates of the reduced cell's sites."""
        return np.array(self.reduced.frac_coords)

    def may_match(self, other: Prepared, tolerances: Tolerances, anonymous: bool = False) -> bool:
        """Tell whether it is worth asking StructureMatcher about another crystal of the same (anonymous) formula.

        Refuses other numbers of atoms in the primitive cell, lattices that can't be mapped, sites without a partner
        (unless species are anonymous) and AMDs too far apart.
        """
        if len(self.reduced) != len(other.reduced):
            return False
        lattice, target = self.lattice(tolerances), other.lattice(tolerances)
        bases = lattice.mappings_onto(target)
        if not len(bases):
            return False
        if not anonymous:
            near = lattice.frac_tolerances(bases, target, len(self.reduced), tolerances.stol)
            if not sites_may_match(self.frac_coords, self.numbers, other.frac_coords, other.numbers, bases, near):
                return False
        return float(np.abs(self.fingerprint - other.fingerprint).max()) <= tolerances.amd


def exact_primitive(structure: Structure) -> Structure:
    """Give the primitive cell of a supercell, or the structure itself if it is primitive to within 0.01 Å.

    StructureMatcher's own reduction tolerates 0.25 Å and depends on the cell that it is given: of one in thousands of
    slightly distorted crystals it makes another cell than of its supercell, and then says that the two differ.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Ordered.
    """
    numbers = [site.specie.Z for site in structure]
    if gcd(*Counter(numbers).values()) == 1:
        return structure
    cell = (structure.lattice.matrix, structure.frac_coords, numbers)
    found = found_or_none(spglib.find_primitive, cell, symprec=PRIMITIVE_SYMPREC)
    if found is None or len(found[2]) == len(numbers):
        return structure
    lattice, frac_coords, kept = found
    return Structure(lattice, [Element.from_Z(int(z)) for z in kept], frac_coords)


def prepared(structure: Structure | Prepared) -> Prepared:
    """Wrap a structure unless it is wrapped: pass the same one to several questions to compute things once."""
    return structure if isinstance(structure, Prepared) else Prepared(structure)


class DuplicateIndex:
    """Crystals that were new, in the order they came; tells of another which of them it equals.

    Parameters
    ----------
    tolerances : Tolerances
        When two crystals are the same.
    """

    def __init__(self, tolerances: Tolerances = DEFAULT_TOLERANCES) -> None:
        self.tolerances = tolerances
        self._matcher = tolerances.matcher()
        self._entries: dict[str, list[tuple[str, Prepared]]] = defaultdict(list)

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def find(self, structure: Structure | Prepared) -> str | None:
        """Give the label of the first crystal that this one equals, or None.

        Parameters
        ----------
        structure : pymatgen.core.Structure or Prepared
            Ordered.
        """
        crystal = prepared(structure)
        for label, entry in self._entries.get(crystal.formula, ()):
            if entry.may_match(crystal, self.tolerances) and self._matcher.fit(
                entry.reduced, crystal.reduced, skip_structure_reduction=True
            ):
                return label
        return None

    def add(self, label: str, structure: Structure | Prepared) -> str | None:
        """Add a crystal unless it equals an earlier one; give that one's label, or None if it was new.

        Parameters
        ----------
        label : str
            Names the crystal in later answers.
        structure : pymatgen.core.Structure or Prepared
            Ordered.
        """
        crystal = prepared(structure)
        found = self.find(crystal)
        if found is None:
            self._entries[crystal.formula].append((label, crystal))
        return found


def same(a: Structure, b: Structure, tolerances: Tolerances = DEFAULT_TOLERANCES) -> bool:
    """Tell whether two ordered crystals are the same at the given tolerances; ``a`` is the one that came first."""
    index = DuplicateIndex(tolerances)
    index.add("a", a)
    return index.find(b) is not None


def group(
    structures: Sequence[Structure], tolerances: Tolerances = DEFAULT_TOLERANCES, processes: int = 1
) -> list[list[int]]:
    """Group crystals as ``StructureMatcher.group_structures`` does.

    Parameters
    ----------
    structures : sequence of pymatgen.core.Structure
        Ordered.
    tolerances : Tolerances
        When two crystals are the same.
    processes : int
        Compositions are shared out to so many processes; the result does not depend on it. More than one needs an
        importable main module (``if __name__ == "__main__"`` in scripts).

    Returns
    -------
    list of list of int
        Positions, ascending in each group; the first of a group is the one that the others equal. Groups are in the
        order of their first.
    """
    buckets: dict[str, list[int]] = defaultdict(list)
    for position, structure in enumerate(structures):
        buckets[structure.composition.reduced_formula].append(position)
    groups = [positions for positions in buckets.values() if len(positions) == 1]
    crowded = [positions for positions in buckets.values() if len(positions) > 1]
    work = [[structures[i] for i in positions] for positions in crowded]
    if processes == 1:
        results = [_group_bucket(tolerances, bucket) for bucket in work]
    else:
        # Many small parcels: no process is left alone with a large one at the end.
        parcel = max(1, len(work) // (processes * 64))
        with worker_pool(processes) as pool:
            results = list(pool.map(partial(_group_bucket, tolerances), work, chunksize=parcel))
    for positions, result in zip(crowded, results, strict=True):
        groups += [[positions[i] for i in members] for members in result]
    return sorted(groups)


def _group_bucket(tolerances: Tolerances, structures: list[Structure]) -> list[list[int]]:
    index = DuplicateIndex(tolerances)
    members: dict[str, list[int]] = {}
    for position, structure in enumerate(structures):
        first = index.add(str(position), structure)
        members.setdefault(str(position) if first is None else first, []).append(position)
    return list(members.values())
