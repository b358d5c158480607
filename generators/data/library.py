"""Known structures and prototypes that ship inside the packages we depend on; no download, nothing copied into ours.

Sources: the AFLOW prototype library in pymatgen (Mehl et al., Comput. Mater. Sci. 136, S1 (2017)), the elemental
ground states of the Δ test set in ASE (``ase.collections.dcdft``; Lejaeghere et al., Crit. Rev. Solid State Mater. Sci.
39, 1 (2014)) and the CIFs of pyxtal's test database. Structures that are disordered or broken in their source (atoms
half a bond apart) are left out. The order is that of the sources, always the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from ase.collections import dcdft
from pymatgen.core import Structure
from pymatgen.io.ase import AseAtomsAdaptor

from generators.crystals.duplicates import Prepared
from generators.crystals.novelty import PrototypeIndex
from generators.crystals.validity import check_structure, read_structure

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_KNOWN_ATOMS = 40
"""Larger primitive cells (molecular crystals, zeolites) are no use to campaigns of small cells and slow to load."""

_MAX_CIF_BYTES = 12_000


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
    """List the distinct prototypes .

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
        Prototype(p.tag, p.structure.copy(), p.source, p.n_elements, p.spacegroup, p.skeleton)
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
def _known() -> tuple[KnownStructure, ...]:
    known: list[KnownStructure] = []
    labels: dict[str, int] = {}
    for source, tag, structure in (*_aflow(), *_dcdft(), *_pyxtal()):
        if not structure.is_ordered:
            continue
        clean = Structure(structure.lattice, [site.specie.symbol for site in structure], structure.frac_coords)
        primitive = clean.get_primitive_structure()
        if len(primitive) > MAX_KNOWN_ATOMS or check_structure(primitive):
            continue
        formula = primitive.composition.reduced_formula
        label = f"{source}/{tag}" if source == "dcdft" else f"{source}/{tag}/{formula}"
        labels[label] = labels.get(label, 0) + 1
        if labels[label] > 1:
            label = f"{label}/{labels[label]}"
        known.append(KnownStructure(label, primitive.get_sorted_structure(), source, tag))
    return tuple(known)


@lru_cache(maxsize=1)
def _prototypes() -> tuple[Prototype, ...]:
    index = PrototypeIndex()
    found: list[Prototype] = []
    for known in _known():
        crystal = Prepared(known.structure)
        if index.add(known.label, crystal) is None:
            found.append(
                Prototype(
                    known.label,
                    known.structure,
                    known.source,
                    len(known.structure.composition.elements),
                    crystal.symmetry.number,
                    crystal.symmetry.skeleton,
                )
            )
    return tuple(found)


def _aflow() -> Iterator[tuple[str, str, Structure]]:
    # Importing the library builds its structures, which takes seconds: whoever asks for none must not wait.
    from pymatgen.analysis.prototypes import AFLOW_PROTOTYPE_LIBRARY  # noqa: PLC0415 - see above

    for entry in AFLOW_PROTOTYPE_LIBRARY:
        yield "aflow", entry["tags"]["aflow"], entry["snl"].structure


def _dcdft() -> Iterator[tuple[str, str, Structure]]:
    for symbol in dcdft.names:
        yield "dcdft", symbol, AseAtomsAdaptor.get_structure(dcdft[symbol])


def _pyxtal() -> Iterator[tuple[str, str, Structure]]:
    spec = find_spec("pyxtal")
    if spec is None or spec.origin is None:
        return
    for path in sorted((Path(spec.origin).parent / "database" / "cifs").glob("*.cif")):
        if path.stat().st_size > _MAX_CIF_BYTES:
            continue
        try:
            structure = read_structure(path)
        except ValueError:  # slabs in vacuum and broken cells: no crystals
            continue
        yield "pyxtal", path.stem, structure
