"""Reference sets: competing phases of one engine, model and protocol, and the hulls made of them.

A set is stored by exact chemical subsystem ("Al-O" holds what consists of Al *and* O), so that chemical systems share
their parts. Energies of different reference keys never meet. pymatgen's ``PhaseDiagram`` does the geometry.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import tempfile
from importlib.resources import files
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Structure

from workflows.causes import CausedError
from workflows.records import HullReference

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

FORMAT: Literal[1] = 1
"""Version of the file format."""

PACKAGED = "data/references"
"""Where sets that ship with the package lie."""


class ReferenceSetError(ValueError):
    """Energies of two reference keys were about to meet, or a file is not a reference set."""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Crystal(_Stored):
    """A crystal in few bytes.

    ``lattice`` holds the vectors as rows in Å, ``coords`` fractions of them.
    """

    lattice: tuple[tuple[float, float, float], ...]
    species: tuple[str, ...]
    coords: tuple[tuple[float, float, float], ...]

    @classmethod
    def of(cls, structure: Structure) -> Crystal:
        """Round a structure to 1e-6 Å and 1e-6 of a cell vector."""
        ordered = structure.get_sorted_structure()
        return cls(
            lattice=tuple(tuple(round(float(x), 6) for x in row) for row in ordered.lattice.matrix),
            species=tuple(site.specie.symbol for site in ordered),
            coords=tuple(tuple(round(float(x) % 1.0, 6) for x in row) for row in ordered.frac_coords),
        )

    def structure(self) -> Structure:
        """Give the pymatgen structure."""
        return Structure(self.lattice, self.species, self.coords)


class Source(_Stored):
    """Where a competing phase comes from."""

    kind: Literal["known", "substituted"]
    prototype: str = Field(description="label of the known structure")
    substitution: tuple[tuple[str, str], ...] = Field((), description="(old, new) elements; empty if known")


class ReferenceEntry(_Stored):
    """A competing phase, relaxed by the set's engine."""

    id: str = Field(description="'<subsystem>/<prototype label>[/old>new,...]'; unique in a set")
    formula: str = Field(description="reduced")
    energy_ev_per_atom: float
    crystal: Crystal
    spacegroup: str
    source: Source
    screening_ev_per_atom: float | None = Field(None, description="of the screening model; never part of a hull")


class Subsystem(_Stored):
    """All competing phases whose elements are exactly those of one subsystem."""

    elements: tuple[str, ...]
    entries: tuple[ReferenceEntry, ...]
    covers: str = Field(description="in words: prototypes, substitutions, size limits")
    enumerated: int = Field(description="structures proposed")
    relaxed: int = Field(description="structures relaxed by the engine")
    failures: tuple[str, ...] = Field((), description="id and cause of what the engine could not relax")


class ReferenceSet(_Stored):
    """Competing phases of one reference key.

    Parameters
    ----------
    key : str
        ``Engine.reference_key``.
    settings : dict
        ``Engine.settings()`` of the engine that made it.
    subsystems : dict of str to Subsystem
        By name: sorted elements joined by ``-``.
    """

    format: Literal[1] = FORMAT
    key: str
    settings: dict[str, Any] = Field(default_factory=dict)
    subsystems: dict[str, Subsystem] = Field(default_factory=dict)

    def missing(self, chemical_systems: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
        """List the subsystems that hulls of these chemical systems still need, smallest first."""
        return [s for s in required_subsystems(chemical_systems) if system_name(s) not in self.subsystems]

    def entries(self, chemical_system: Iterable[str]) -> list[ReferenceEntry]:
        """List the entries inside a chemical system, sorted by id."""
        wanted = {system_name(s) for s in required_subsystems([tuple(chemical_system)])}
        found = [e for name, part in self.subsystems.items() if name in wanted for e in part.entries]
        return sorted(found, key=lambda entry: entry.id)

    def merged(self, other: ReferenceSet) -> ReferenceSet:
        """Return a set with both sets' subsystems; what both have is kept from this one.

        Raises
        ------
        ReferenceSetError
            If the keys differ.
        """
        if other.key != self.key:
            raise ReferenceSetError(f"reference sets of {self.key} and {other.key} must not be mixed")
        return self.model_copy(update={"subsystems": {**other.subsystems, **self.subsystems}})

    def with_subsystems(self, subsystems: Iterable[Subsystem]) -> ReferenceSet:
        """Return a set with further subsystems; what is there already is kept."""
        further = {system_name(part.elements): part for part in subsystems}
        return self.model_copy(update={"subsystems": {**further, **self.subsystems}})

    def sha256(self, chemical_system: Iterable[str] | None = None) -> str:
        """Hash the key and the entries (of one chemical system, or all)."""
        elements = {e for part in self.subsystems.values() for e in part.elements}
        entries = self.entries(elements if chemical_system is None else chemical_system)
        content = {"key": self.key, "entries": [entry.model_dump(mode="json") for entry in entries]}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_bytes(self) -> bytes:
        """Give the file: gzipped JSON, the same bytes for the same content."""
        content = self.model_dump(mode="json")
        content["subsystems"] = dict(sorted(content["subsystems"].items()))
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return gzip.compress(text.encode(), compresslevel=9, mtime=0)

    @classmethod
    def from_bytes(cls, content: bytes) -> ReferenceSet:
        """Read what :meth:`to_bytes` wrote.

        Raises
        ------
        ReferenceSetError
            If it is not such a file.
        """
        try:
            return cls.model_validate_json(gzip.decompress(content))
        except (OSError, EOFError, ValueError) as error:
            raise ReferenceSetError(f"not a reference set: {str(error).splitlines()[0]}") from error

    def save(self, directory: Path) -> Path:
        """Write the file into a directory, whole or not at all.

        Returns
        -------
        pathlib.Path
        """
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / file_name(self.key)
        handle, temporary = tempfile.mkstemp(dir=directory, prefix=".reference-")
        with os.fdopen(handle, "wb") as stream:
            stream.write(self.to_bytes())
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # noqa: PTH101 - mkstemp's 0600 would hide a shared set from others
        os.replace(temporary, path)  # noqa: PTH105 - a name in the same directory
        return path


def system_name(elements: Iterable[str]) -> str:
    """Name a chemical system: sorted symbols joined by ``-``."""
    return "-".join(sorted(set(elements)))


def file_name(key: str) -> str:
    """Name the file of a reference key."""
    return key.replace(":", "_") + ".json.gz"


def required_subsystems(chemical_systems: Iterable[Sequence[str]]) -> list[tuple[str, ...]]:
    """List all non-empty element subsets of chemical systems, smallest first, without repeats.

    Examples
    --------
    >>> required_subsystems([("Mg", "O")])
    [('Mg',), ('O',), ('Mg', 'O')]
    """
    subsets = {
        subset
        for system in chemical_systems
        for size in range(1, len(set(system)) + 1)
        for subset in combinations(sorted(set(system)), size)
    }
    return sorted(subsets, key=lambda subset: (len(subset), subset))


def load_reference(key: str, directories: Iterable[Path] = ()) -> ReferenceSet:
    """Load what is known of a reference key: files of these directories, first ones first, then the packaged set.

    Parameters
    ----------
    key : str
    directories : iterable of pathlib.Path
        Those that don't exist, or hold no file of this key, are passed over.

    Returns
    -------
    ReferenceSet
        Empty if nothing is known.

    Raises
    ------
    ReferenceSetError
        If a file is damaged or of another key than its name says.
    """
    found = ReferenceSet(key=key)
    packaged = files("workflows").joinpath(PACKAGED)
    for place in (*directories, packaged):
        path = place.joinpath(file_name(key))
        if path.is_file():
            try:
                other = ReferenceSet.from_bytes(path.read_bytes())
            except ReferenceSetError as error:
                raise ReferenceSetError(f"{path}: {error}") from error
            found = found.merged(other).model_copy(update={"settings": found.settings or other.settings})
    return found


def hull(reference: ReferenceSet, chemical_system: Iterable[str]) -> PhaseDiagram:
    """Make the phase diagram of a chemical system.

    Raises
    ------
    CausedError
        606 if the set does not hold every subsystem, or no entry of an element.
    """
    system = tuple(sorted(set(chemical_system)))
    missing = reference.missing([system])
    if missing:
        names = ", ".join(system_name(s) for s in missing)
        raise CausedError(606, f"reference set {reference.key} lacks {names}")
    entries = [
        PDEntry(composition := Composition(e.formula), e.energy_ev_per_atom * composition.num_atoms, name=e.id)
        for e in reference.entries(system)
    ]
    absent = set(system) - {entry.composition.elements[0].symbol for entry in entries if entry.is_element}
    if absent:
        raise CausedError(606, f"reference set {reference.key} has no elemental phase of {', '.join(sorted(absent))}")
    return PhaseDiagram(entries)


def energy_above_hull(
    structure: Structure | Composition, energy_ev_per_atom: float, reference: ReferenceSet, *, key: str | None = None
) -> tuple[float, HullReference]:
    """Measure the distance to the hull of the reference set, the crystal itself not being part of it.

    Parameters
    ----------
    structure : pymatgen.core.Structure or Composition
    energy_ev_per_atom : float
    reference : ReferenceSet
    key : str, optional
        Reference key that the energy belongs to.

    Returns
    -------
    distance : float
        eV/atom; negative if it lies below: the reference set lacks it, and it would move the hull by so much.
    hull : HullReference
        Which hull.

    Raises
    ------
    CausedError
        606 as in :func:`hull`.
    ReferenceSetError
        If ``key`` is not the set's.
    """
    if key is not None and key != reference.key:
        raise ReferenceSetError(f"an energy of {key} must not be compared with the reference set of {reference.key}")
    composition = structure if isinstance(structure, Composition) else structure.composition
    system = tuple(sorted(element.symbol for element in composition.elements))
    diagram = hull(reference, system)
    distance = float(energy_ev_per_atom) - float(diagram.get_hull_energy_per_atom(composition))
    parts = [reference.subsystems[system_name(s)] for s in required_subsystems([system])]
    record = HullReference(
        key=reference.key,
        chemical_system=system_name(system),
        sha256=reference.sha256(system),
        n_entries=len(reference.entries(system)),
        covers=" | ".join(sorted({part.covers for part in parts})),
    )
    return distance, record
