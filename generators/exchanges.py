"""Every charge-balanced substitution of some elements into the known prototypes, as a table to choose from.

A prototype's species are its slots; besides, one species on several orbits may be split in two, which turns a binary
prototype into ternary ones (an ordered decoration of the same sites).
"""

from __future__ import annotations

import json
from functools import lru_cache
from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import spglib
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Species, Structure
from pymatgen.core.structure_prediction import substitution_probability

from generators.compositions import is_neutral
from generators.crystals.neutrality import oxidation_states
from generators.crystals.spglib_calls import found_or_none
from generators.data import prototypes
from generators.volume import crowding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from generators.base import NeutralityRule

SYMPREC = 0.01
"""Å, for the orbits of a prototype."""
MAX_ORBITS = 5
"""A species on more orbits is not split: the ways to do it double with each."""
MAX_CROWDING = 2.5
"""Most volume that the closest atoms may ask for, in units of the additive estimate: above it a prototype has molecules
where ions would be."""
STAND_INS = ("Li", "F", "Na", "Cl", "K", "Br", "Rb", "I", "Cs", "S", "Mg", "O")
"""One element a slot, for comparing decorations; prototypes with more slots than this are left out."""
UNSEEN_LAMBDA = -3.0
"""Lowest weight function lambda used: the table's -5 for pairs never observed would never be proposed at all."""


class Decoration(NamedTuple):
    """A prototype with its sites sorted into slots that take one element each.

    Parameters
    ----------
    tag : str
        Of the prototype.
    label : str
        Empty for the prototype's own species, else which split it is.
    structure : pymatgen.core.Structure
        The prototype.
    spacegroup : int
        Of the prototype; a split may have less symmetry.
    slots : tuple of str
        Names: an element symbol, or ``O.1`` and ``O.2`` for a split species.
    sites : tuple of tuple of int
        Sites of each slot.
    """

    tag: str
    label: str
    structure: Structure
    spacegroup: int
    slots: tuple[str, ...]
    sites: tuple[tuple[int, ...], ...]

    @property
    def counts(self) -> tuple[int, ...]:
        """Atoms of each slot."""
        return tuple(len(sites) for sites in self.sites)

    def decorated(self, symbols: tuple[str, ...]) -> Structure:
        """Return the structure with one symbol a slot, volume unchanged."""
        species: list[Any] = [None] * len(self.structure)
        for symbol, sites in zip(symbols, self.sites, strict=True):
            for site in sites:
                species[site] = symbol
        return Structure(self.structure.lattice, species, self.structure.frac_coords).get_sorted_structure()


class Exchange(NamedTuple):
    """One substitution: a prototype's tag, how its sites are sorted into slots, and what each slot becomes."""

    tag: str
    label: str
    slots: tuple[str, ...]
    new: tuple[str, ...]

    @property
    def pairs(self) -> tuple[str, ...]:
        """Element-for-element pairs, e.g. ``("Cl>O", "Na>Mg")``; the parts of a split species are that species."""
        return tuple(f"{slot.partition('.')[0]}>{new}" for slot, new in zip(self.slots, self.new, strict=True))

    @property
    def key(self) -> str:
        """Name of the whole substitution."""
        what = ",".join(f"{slot}>{new}" for slot, new in zip(self.slots, self.new, strict=True))
        return f"{self.tag}|{self.label}|{what}"

    @property
    def info(self) -> dict[str, Any]:
        """JSON-compatible form for ``Sample.info``."""
        return {
            "prototype": self.tag,
            "split": self.label,
            "substitution": dict(zip(self.slots, self.new, strict=True)),
        }

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> Exchange:
        """Read what :attr:`info` wrote."""
        substitution = {str(a): str(b) for a, b in info["substitution"].items()}
        slots = tuple(sorted(substitution))
        return cls(
            str(info["prototype"]), str(info.get("split", "")), slots, tuple(substitution[slot] for slot in slots)
        )


class Option(NamedTuple):
    """A substitution to choose, and how plausible it is: the mean weight function lambda of its pairs."""

    exchange: Exchange
    plausibility: float


@lru_cache(maxsize=8)
def decorations(max_atoms: int) -> Mapping[tuple[str, str], Decoration]:
    """Give all decorations of the prototypes of at most ``max_atoms`` atoms, by tag and label, sorted."""
    found = {}
    for prototype in sorted(prototypes(max_atoms), key=lambda p: p.tag):
        symbols = [site.specie.symbol for site in prototype.structure]
        slots = tuple(sorted(set(symbols)))
        sites = tuple(tuple(i for i, s in enumerate(symbols) if s == slot) for slot in slots)
        whole = Decoration(prototype.tag, "", prototype.structure, prototype.spacegroup, slots, sites)
        for decoration in (whole, *splits(whole)):
            if len(decoration.slots) <= len(STAND_INS):
                found[decoration.tag, decoration.label] = decoration
    return found


def splits(whole: Decoration) -> Iterator[Decoration]:
    """Yield the decorations with one slot split over its orbits in two, equivalent ones once."""
    if len(whole.slots) >= len(STAND_INS):
        return
    structure = whole.structure
    cell = (structure.lattice.matrix, structure.frac_coords, [site.specie.Z for site in structure])
    data = found_or_none(spglib.get_symmetry_dataset, cell, symprec=SYMPREC)
    if data is None:
        return
    orbit = [int(i) for i in data.equivalent_atoms]
    matcher = _matcher()
    for number, slot in enumerate(whole.slots):
        orbits = sorted({orbit[i] for i in whole.sites[number]})
        if not 2 <= len(orbits) <= MAX_ORBITS:
            continue
        seen: list[Structure] = []
        # The first orbit stays in the first part, so each way to split in two comes once.
        for mask in range(1, 2 ** (len(orbits) - 1)):
            second = {o for bit, o in enumerate(orbits[1:]) if mask >> bit & 1}
            parts = (
                tuple(i for i in whole.sites[number] if orbit[i] not in second),
                tuple(i for i in whole.sites[number] if orbit[i] in second),
            )
            split = whole._replace(
                label=f"{whole.label};{slot}:{mask}".removeprefix(";"),
                slots=(*whole.slots[:number], f"{slot}.1", f"{slot}.2", *whole.slots[number + 1 :]),
                sites=(*whole.sites[:number], *parts, *whole.sites[number + 1 :]),
            )
            dummies = _dummies(split, tuple(range(len(split.slots))))
            if not any(matcher.fit(dummies, other) for other in seen):
                seen.append(dummies)
                yield split


@lru_cache(maxsize=16)
def exchanges(sets: tuple[tuple[str, ...], ...], max_atoms: int, rule: NeutralityRule) -> tuple[Option, ...]:
    """List every neutral substitution of element sets into the known prototypes, equivalent ones once.

    Left out is what would not be a crystal: with atoms too close at the volume their sizes ask for.

    Parameters
    ----------
    sets : tuple of tuple of str
        Element sets; a decoration takes a set of as many elements as it has slots.
    max_atoms : int
        Atoms in the primitive cell.
    rule : {"strict", "permissive", "off"}

    Returns
    -------
    tuple of Option
        Sorted by tag and label, then in the order of ``sets``.
    """
    table = []
    for key, decoration in decorations(max_atoms).items():
        for elements in sets:
            if len(elements) != len(decoration.slots):
                continue
            taken: set[tuple[str, ...]] = set()
            for new in permutations(elements):
                if new in taken or not is_neutral(new, decoration.counts, rule):
                    continue
                taken.update(tuple(new[i] for i in swap) for swap in slot_symmetry(*key, max_atoms))
                if crowding(decoration.decorated(new)) <= MAX_CROWDING:
                    exchange = Exchange(*key, decoration.slots, new)
                    table.append(Option(exchange, plausibility(exchange, decoration.counts)))
    return tuple(table)


@lru_cache(maxsize=8192)
def slot_symmetry(tag: str, label: str, max_atoms: int) -> tuple[tuple[int, ...], ...]:
    """Find the permutations of a decoration's slots that give the same crystal (Na and Cl in rocksalt).

    Returns
    -------
    tuple of tuple of int
        Slot ``i`` takes what slot ``swap[i]`` had; the identity is always among them.
    """
    decoration = decorations(max_atoms)[tag, label]
    counts = decoration.counts
    identity = tuple(range(len(counts)))
    matcher = _matcher()
    original = _dummies(decoration, identity)
    return tuple(
        swap
        for swap in permutations(identity)
        if all(counts[i] == counts[j] for i, j in enumerate(swap))
        and (swap == identity or matcher.fit(original, _dummies(decoration, swap)))
    )


def _matcher() -> StructureMatcher:
    return StructureMatcher(primitive_cell=False, scale=True, attempt_supercell=False)


def _dummies(decoration: Decoration, swap: tuple[int, ...]) -> Structure:
    """Decorate with the same stand-ins whatever the prototype: which elements it had must not matter."""
    return decoration.decorated(tuple(STAND_INS[i] for i in swap))


def plausibility(exchange: Exchange, counts: tuple[int, ...]) -> float:
    """Return the mean weight function lambda of a substitution's pairs.

    Parameters
    ----------
    exchange : Exchange
    counts : tuple of int
        Atoms of each slot: they decide the charges that the new elements have (nitrogen is no anion in a nitrate).
    """
    charges = _charges(exchange.new, counts)
    pairs = (pair.split(">") for pair in exchange.pairs)
    return float(np.mean([exchange_lambda(old, new, charges.get(new)) for old, new in pairs]))


@lru_cache(maxsize=100_000)
def _charges(elements: tuple[str, ...], counts: tuple[int, ...]) -> Mapping[str, int]:
    """Charge of each element in the strict assignment; the commonest where it is of mixed valence."""
    states = oxidation_states(Composition(dict(zip(elements, counts, strict=True)))) or {}
    return {symbol: max(sorted(held), key=lambda state: held[state]) for symbol, held in states.items()}


def exchange_lambda(old: str, new: str, charge: int | None = None) -> float:
    """Return the weight function lambda of putting ``new`` with some charge where ``old`` was.

    Parameters
    ----------
    old, new : str
        Element symbols.
    charge : int or None
        Of ``new``; None takes the best of its charges.

    Returns
    -------
    float
        The best over the charges of ``old``; UNSEEN_LAMBDA where it was never observed. From the table of Hautier et
        al., Inorg. Chem. 50, 656 (2011), as pymatgen ships it.
    """
    return _lambdas().get((old, new, charge), UNSEEN_LAMBDA)


@lru_cache(maxsize=1)
def _lambdas() -> Mapping[tuple[str, str, int | None], float]:
    # pymatgen's class also sums a partition function over all pairs, which takes seconds: only its table is read
    table = Path(str(substitution_probability.__file__)).with_name("data") / "lambda.json"
    best: dict[tuple[str, str, int | None], float] = {}
    for row in json.loads(table.read_text(encoding="utf-8")):
        if "D1+" in row:  # deuterium, which pymatgen leaves out too
            continue
        one, other = (Species.from_str(name) for name in row[:2])
        for old, new in ((one, other), (other, one)):
            for charge in (None, int(new.oxi_state)):
                key = (old.symbol, new.symbol, charge)
                best[key] = max(best.get(key, UNSEEN_LAMBDA), float(row[2]))
    return best
