"""Known structures and prototypes that ship inside the packages we depend on; no download.

Where they come from and how they are read: :mod:`generators.data.sources`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from generators.data import sources

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass(frozen=True)
class KnownStructure:
    """A known crystal.

    Parameters
    ----------
    label : str
        Unique, e.g. ``aflow/AB_cF8_225_a_b/NaCl``.
    structure : pymatgen.core.Structure
        Ordered, primitive; a copy of one's own.
    source : str
        ``aflow``, ``dcdft`` or ``pyxtal``.
    tag : str
        AFLOW prototype label, or the name in the source.
    """

    label: str
    structure: Structure
    source: str
    tag: str


@dataclass(frozen=True)
class Prototype:
    """A representative of one decorated prototype.

    Parameters
    ----------
    tag : str
        Label of the known structure that represents it.
    structure : pymatgen.core.Structure
        Ordered, primitive, with the species and volume of its representative; a copy of one's own.
    source : str
        As in :class:`KnownStructure`.
    n_elements : int
        Number of distinct elements.
    spacegroup : int
        1-230.
    skeleton : str
        As :func:`generators.crystals.symmetry.skeleton` gives it.
    """

    tag: str
    structure: Structure
    source: str
    n_elements: int
    spacegroup: int
    skeleton: str


def known_structures() -> list[KnownStructure]:
    """List the known structures, primitive and ordered."""
    return [KnownStructure(k.label, k.structure.copy(), k.source, k.tag) for k in _known()]


def prototypes(max_atoms: int = 8, n_elements: int | None = None) -> list[Prototype]:
    """List the distinct prototypes.

    Two are one prototype if ``StructureMatcher.fit_anonymous`` matches them and their symmetry is the same
    (:func:`generators.crystals.symmetry.prototype_key`).

    Parameters
    ----------
    max_atoms : int
        Most atoms in the primitive cell.
    n_elements : int or None
        Only prototypes of so many elements.
    """
    return [
        replace(p, structure=p.structure.copy())
        for p in _prototypes()
        if len(p.structure) <= max_atoms and n_elements in (None, p.n_elements)
    ]


def elemental_prototypes(max_atoms: int = 8) -> list[Prototype]:
    """List the distinct prototypes of elements: fcc, bcc, hcp, diamond, graphite, molecular N2 and O2, and others."""
    return prototypes(max_atoms, n_elements=1)


def element_ground_states() -> dict[str, Structure]:
    """Give the ground-state structure of 71 elements at the volume of PBE (ASE's ``dcdft``), primitive, by symbol."""
    return {k.tag: k.structure.copy() for k in _known() if k.source == "dcdft"}


@lru_cache(maxsize=1)
def _known() -> tuple[sources.Known, ...]:
    return tuple(sources.read())


@lru_cache(maxsize=1)
def _prototypes() -> tuple[Prototype, ...]:
    return tuple(
        Prototype(k.label, k.structure, k.source, len(k.structure.composition.elements), *k.prototype)
        for k in _known()
        if k.prototype is not None
    )
