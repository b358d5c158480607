"""What is known, and at which of three levels a crystal is new.

The levels: its composition is new; its decorated prototype is new (``StructureMatcher.fit_anonymous`` against one
representative of each known prototype); its skeleton (space group and Wyckoff letters) is new. Count them after
relaxation: an unrelaxed proposal says little about what it will become.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from generators.crystals.duplicates import DEFAULT_TOLERANCES, DuplicateIndex, Prepared, Tolerances, prepared

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pymatgen.core import Structure


class NoveltyLevels(NamedTuple):
    """Which of the three levels are new."""

    composition: bool
    prototype: bool
    skeleton: bool


class PrototypeIndex:
    """Representatives of decorated prototypes, in the order they came.

    A crystal is of a known prototype if it matches a representative with anonymous species. To be left out as a
    representative itself it must also have the other's symmetry (prototype key): the matcher's tolerances take CuAu
    for CsCl, which are two prototypes to start from.

    Parameters
    ----------
    tolerances : Tolerances
        When two crystals are of one prototype (species anonymous).
    """

    def __init__(self, tolerances: Tolerances = DEFAULT_TOLERANCES) -> None:
        self.tolerances = tolerances
        self._matcher = tolerances.matcher()
        self._entries: dict[str, list[tuple[str, Prepared]]] = defaultdict(list)

    def __len__(self) -> int:
        return sum(map(len, self._entries.values()))

    def find(self, structure: Structure | Prepared) -> str | None:
        """Give the label of the first representative that this crystal matches, or None."""
        return next((label for label, _ in self._matches(prepared(structure))), None)

    def add(self, label: str, structure: Structure | Prepared) -> str | None:
        """Add a crystal unless its prototype is there; give that representative's label, or None if it was new.

        Raises
        ------
        ValueError
            If spglib finds no symmetry: atoms on top of each other or a flat cell.
        """
        crystal = prepared(structure)
        key = crystal.symmetry.prototype_key
        for known, entry in self._matches(crystal):
            if entry.symmetry.prototype_key == key:
                return known
        self._entries[crystal.anonymous_formula].append((label, crystal))
        return None

    def _matches(self, crystal: Prepared) -> Iterator[tuple[str, Prepared]]:
        for label, entry in self._entries.get(crystal.anonymous_formula, ()):
            if entry.may_match(crystal, self.tolerances, anonymous=True) and self._matcher.fit_anonymous(
                entry.reduced, crystal.reduced, skip_structure_reduction=True
            ):
                yield label, entry


class KnownStructures:
    """Known crystals, by which others are called known or new.

    Parameters
    ----------
    structures : iterable of (str, pymatgen.core.Structure)
        Label and ordered structure; the first of equal crystals gives its label.
    tolerances : Tolerances
        When two crystals are the same.
    """

    def __init__(
        self, structures: Iterable[tuple[str, Structure]] = (), tolerances: Tolerances = DEFAULT_TOLERANCES
    ) -> None:
        self._duplicates = DuplicateIndex(tolerances)
        self._prototypes = PrototypeIndex(tolerances)
        self._compositions: set[str] = set()
        self._skeletons: set[str] = set()
        # For the costly indices, which only novelty() needs, and only of crystals that may be of one kind.
        self._waiting: dict[str, list[tuple[str, Prepared]]] = defaultdict(list)
        self._without_skeleton: list[Prepared] = []
        for label, structure in structures:
            self.add(label, structure)

    def __len__(self) -> int:
        return len(self._duplicates)

    def add(self, label: str, structure: Structure | Prepared) -> str | None:
        """Add a crystal unless it is known; give the label it is known by, or None if it was new.

        Raises
        ------
        ValueError
            If the crystal has no atoms or its cell no volume.
        """
        crystal = prepared(structure)
        found = self._duplicates.add(label, crystal)
        self._compositions.add(crystal.formula)
        self._waiting[crystal.anonymous_formula].append((label, crystal))
        self._without_skeleton.append(crystal)
        return found

    def match(self, structure: Structure | Prepared) -> str | None:
        """Give the label of the known crystal that this one equals (composition included), or None."""
        return self._duplicates.find(structure)

    def novelty(self, structure: Structure | Prepared) -> NoveltyLevels:
        """Tell at which levels a crystal is new.

        Raises
        ------
        ValueError
            If spglib finds no symmetry (of this crystal or of one that it is compared with): atoms on top of each other
            or a flat cell.
        """
        crystal = prepared(structure)
        waiting = self._waiting[crystal.anonymous_formula]
        while waiting:
            self._prototypes.add(*waiting[0])
            del waiting[0]
        return NoveltyLevels(
            composition=crystal.formula not in self._compositions,
            prototype=self._prototypes.find(crystal) is None,
            skeleton=self._is_new_skeleton(crystal),
        )

    def _is_new_skeleton(self, crystal: Prepared) -> bool:
        # A skeleton fixes the number of atoms in the primitive cell: cells that hold no multiple of it need no look.
        n_atoms = sum(count for _, count in crystal.symmetry.counts)
        near = [known for known in self._without_skeleton if len(known.structure) % n_atoms == 0]
        self._skeletons.update(known.symmetry.skeleton for known in near)
        self._without_skeleton = [known for known in self._without_skeleton if len(known.structure) % n_atoms]
        return crystal.symmetry.skeleton not in self._skeletons
