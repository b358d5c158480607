"""What counts as known in a comparison, asked of many crystals at once: the costly indices hold what they must."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

from generators.crystals.duplicates import prepared
from generators.crystals.novelty import KnownStructures
from generators.crystals.symmetry import skeleton
from generators.data.dataset import Dataset, shipped
from generators.data.library import known_structures

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pymatgen.core import Structure

    from generators.crystals.duplicates import Prepared


class Novelty(NamedTuple):
    """What is new about a relaxed crystal.

    Parameters
    ----------
    known_as : str or None
        Label of the known crystal that it equals.
    composition, prototype, skeleton : bool
        The levels of :mod:`generators.crystals.novelty`.
    """

    known_as: str | None
    composition: bool
    prototype: bool
    skeleton: bool

    @property
    def crystal(self) -> bool:
        """Whether no known crystal equals it."""
        return self.known_as is None


class Familiar:
    """Known crystals of a library and of training sets.

    Only crystals of one anonymous formula can be of one composition or prototype, so just those that are asked about
    are compared; skeletons, which formulas share, are listed once for all.

    Parameters
    ----------
    crystals : iterable of (str, pymatgen.core.Structure)
    name : str
        What is known, in words.
    """

    def __init__(self, crystals: Iterable[tuple[str, Structure]], name: str) -> None:
        self.name = name
        self._by_formula: dict[str, list[tuple[str, Structure]]] = defaultdict(list)
        self._skeletons: set[str] | None = None
        self._indices: dict[str, KnownStructures] = {}
        self._count = 0
        for label, structure in crystals:
            self._by_formula[structure.composition.reduced_composition.anonymized_formula].append((label, structure))
            self._count += 1

    def __len__(self) -> int:
        return self._count

    def novelty(self, structure: Structure | Prepared) -> Novelty:
        """Tell what is new about a crystal.

        Raises
        ------
        ValueError
            If spglib finds no symmetry: atoms on top of each other or a flat cell.
        """
        crystal = prepared(structure)
        formula = crystal.anonymous_formula
        if formula not in self._indices:
            self._indices[formula] = KnownStructures(self._by_formula.get(formula, ()))
        index = self._indices[formula]
        levels = index.novelty(crystal)
        return Novelty(
            known_as=index.match(crystal),
            composition=levels.composition,
            prototype=levels.prototype,
            skeleton=crystal.symmetry.skeleton not in self._all_skeletons(),
        )

    def _all_skeletons(self) -> set[str]:
        if self._skeletons is None:
            self._skeletons = set()
            for crystals in self._by_formula.values():
                for _, structure in crystals:
                    try:
                        self._skeletons.add(skeleton(structure))
                    except ValueError:  # no symmetry is found: it makes nothing known
                        continue
        return self._skeletons


def familiar(
    datasets: Sequence[Dataset] = (),
    more: Sequence[tuple[str, Structure]] = (),
    ground_states: Sequence[tuple[str, Structure]] = (),
) -> Familiar:
    """Give the library that ships in the dependencies, and data sets beside it.

    Parameters
    ----------
    datasets : sequence of Dataset
        Training sets; a crystal of the training set is not novel.
    more : sequence of (str, pymatgen.core.Structure)
        Known crystals from elsewhere.
    ground_states : sequence of (str, pymatgen.core.Structure)
        Competing phases on the hull. What a plain substitution into a library prototype finds as ground state (rocksalt
        MgO is in no list here) is no discovery; campaigns count their reference sets in the same way.
    """
    crystals = [(known.label, known.structure) for known in known_structures()] + list(more) + list(ground_states)
    for dataset in datasets:
        crystals += [(entry.label, entry.structure) for entry in dataset.entries]
    names = ["the library (AFLOW prototypes in pymatgen, ASE's dcdft, pyxtal)"]
    names += [f"{len(more)} crystals from elsewhere"] if more else []
    names += [f"data set {dataset.name}" for dataset in datasets]
    names += [f"{len(ground_states)} competing phases on the hull"] if ground_states else []
    return Familiar(crystals, " and ".join(names))


def shipped_if_there() -> Dataset | None:
    """Load the training set of this package, or None where it does not ship."""
    try:
        return shipped()
    except FileNotFoundError:
        return None
