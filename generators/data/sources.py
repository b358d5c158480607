"""Reads the known structures out of the packages that carry them, and finds the distinct prototypes among them.

Sources: the AFLOW prototype library in pymatgen (Mehl et al., Comput. Mater. Sci. 136, S1 (2017)), the elemental
ground states of the Δ test set in ASE (``ase.collections.dcdft``; Lejaeghere et al., Crit. Rev. Solid State Mater. Sci.
39, 1 (2014)) and the CIFs of pyxtal's test database. Structures that are disordered or broken in their source (atoms
half a bond apart) are left out. The order is that of the sources, always the same.

This takes a quarter of a minute, so ``known.json.gz`` holds what it gives with the versions of these packages that are
pinned; with others :mod:`generators.data.library` asks here. To write it again:
``python -c "from generators.data.sources import write; write()"``.
"""

from __future__ import annotations

import gzip
import json
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

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

SHIPPED = Path(__file__).with_name("known.json.gz")

_PACKAGES = ("ase", "pymatgen", "pymatgen-core", "pyxtal", "spglib")
"""What the known structures come from, and what finds their symmetry."""

_MAX_CIF_BYTES = 12_000


class Known(NamedTuple):
    """A known structure as it was read.

    Parameters
    ----------
    label, source, tag : str
        As in :class:`generators.data.library.KnownStructure`.
    structure : pymatgen.core.Structure
        Ordered, primitive.
    prototype : (int, str) or None
        Space group (1-230) and skeleton, if it represents a prototype: the first of its kind.
    """

    label: str
    source: str
    tag: str
    structure: Structure
    prototype: tuple[int, str] | None


def read() -> list[Known]:
    """Give the known structures: from the shipped file where it was written with the packages that are installed."""
    if SHIPPED.is_file():
        content = json.loads(gzip.decompress(SHIPPED.read_bytes()))
        if content["versions"] == versions():
            return [_from_row(row) for row in content["known"]]
    return gather()


def gather() -> list[Known]:
    """Read the known structures out of the packages."""
    index = PrototypeIndex()
    known: list[Known] = []
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
        crystal = Prepared(primitive.get_sorted_structure())
        first = index.add(label, crystal) is None
        prototype = (crystal.symmetry.number, crystal.symmetry.skeleton) if first else None
        known.append(Known(label, source, tag, crystal.structure, prototype))
    return known


def versions() -> dict[str, str]:
    """Give the versions of the packages that the known structures come from, of those that are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def write(path: Path = SHIPPED) -> int:
    """Write the file that ships; give the number of structures."""
    known = gather()
    rows = ",\n".join(json.dumps(_to_row(one), ensure_ascii=False) for one in known)
    text = f'{{"versions": {json.dumps(versions())}, "known": [\n{rows}\n]}}\n'
    path.write_bytes(gzip.compress(text.encode(), mtime=0))
    return len(known)


def _to_row(known: Known) -> dict[str, Any]:
    structure = known.structure
    return {
        "label": known.label,
        "source": known.source,
        "tag": known.tag,
        "lattice": structure.lattice.matrix.tolist(),
        "species": [site.specie.symbol for site in structure],
        "frac_coords": structure.frac_coords.tolist(),
        "prototype": known.prototype,
    }


def _from_row(row: dict[str, Any]) -> Known:
    structure = Structure(row["lattice"], row["species"], row["frac_coords"])
    prototype = (int(row["prototype"][0]), str(row["prototype"][1])) if row["prototype"] else None
    return Known(row["label"], row["source"], row["tag"], structure, prototype)


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
