"""A data set: labelled crystals in one extxyz file, with splits that never part relatives.

A crystal's relatives are those of its prototype (:func:`generators.crystals.symmetry.prototype_key`) or of its chemical
system. A split by rows would put the same prototype with a neighbouring element on both sides and flatter every model.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from generators.base import derive_seed
from generators.data.extxyz import Frame, read_frames, write_frame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from pymatgen.core import Structure

PROPERTY_UNITS = {
    "formation_energy": "eV/atom",
    "bulk_modulus": "GPa",
    "band_gap": "eV",
    "direct_band_gap": "eV",
    "heat_of_formation": "eV/atom",
    "energy_above_hull": "eV/atom",
}
"""Properties a data set may carry, and the one unit each is kept in."""

EVIDENCE = {"exchange": 0.02, "alloy": 0.02, "blind": 0.0, "blind_alloy": 0.0, "random": 0.0, "random_alloy": 0.0}
"""How much crystals of our own making tell of what nature builds, by the first word of their source."""

SplitBy = Literal["prototype", "chemistry"]
SHARES = (0.9, 0.05, 0.05)
"""Shares of training, validation and test part, counted in crystals; a group of relatives stays whole."""


@dataclass(frozen=True)
class Entry:
    """One crystal of a data set.

    Parameters
    ----------
    label : str
        Unique in its data set.
    structure : pymatgen.core.Structure
        Ordered, primitive; relaxed where the data set says so.
    prototype : str
        Groups crystals of one prototype.
    source : str
        Where it comes from, e.g. ``exchange aflow/...``.
    energy_ev_per_atom : float or None
        Total energy by the model that labelled it.
    properties : dict of str to float
        In the units of :data:`PROPERTY_UNITS`.
    """

    label: str
    structure: Structure
    prototype: str
    source: str = ""
    energy_ev_per_atom: float | None = None
    properties: dict[str, float] = field(default_factory=dict)

    @property
    def chemistry(self) -> str:
        """Chemical system, e.g. ``Al-Mg-O``."""
        return str(self.structure.composition.chemical_system)

    @property
    def evidence(self) -> float:
        """How much it tells of which prototypes nature builds: 1, but for crystals made to train forecasts.

        A substitution that was never made says little, and a crystal made to show what does not hold says nothing.
        """
        return EVIDENCE.get(self.source.partition(" ")[0], 1.0)


class Splits(NamedTuple):
    """Three parts without relatives in common."""

    training: Dataset
    validation: Dataset
    test: Dataset


@dataclass(frozen=True)
class Dataset:
    """Labelled crystals; iterating gives the bare structures, so that every generator can be fitted to it.

    Parameters
    ----------
    name : str
    entries : tuple of Entry
    """

    name: str
    entries: tuple[Entry, ...]

    def __iter__(self) -> Iterator[Structure]:
        return (entry.structure for entry in self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    @classmethod
    def of(cls, structures: Iterable[Structure], name: str = "structures") -> Dataset:
        """Wrap bare structures, which have no labels; a data set is returned as it is."""
        if isinstance(structures, Dataset):
            return structures
        # spglib is asked here and not by whoever only reads a data set
        from generators.crystals.symmetry import prototype_key  # noqa: PLC0415 - see above

        return cls(
            name,
            tuple(
                Entry(f"{name}-{i:05d}", structure, prototype_key(structure)) for i, structure in enumerate(structures)
            ),
        )

    def elements(self) -> tuple[str, ...]:
        """List the elements that occur, sorted."""
        return tuple(sorted({e.symbol for s in self for e in s.composition.elements}))

    def split(self, by: SplitBy = "prototype", shares: Sequence[float] = SHARES, seed: int = 0) -> Splits:
        """Divide into training, validation and test part; relatives stay together.

        Parameters
        ----------
        by : {"prototype", "chemistry"}
        shares : sequence of three floats
            Of crystals; they need not add up to one.
        seed : int
            A group's place depends on its name and this alone: crystals added later don't move the others.

        Returns
        -------
        Splits
        """
        total = float(sum(shares))
        edges = np.cumsum([share / total for share in shares])
        parts: tuple[list[Entry], ...] = ([], [], [])
        for entry in self.entries:
            group = entry.prototype if by == "prototype" else entry.chemistry
            place = derive_seed(seed, by, group) / 2**63
            parts[min(2, int(np.searchsorted(edges, place, side="right")))].append(entry)
        names = ("training", "validation", "test")
        return Splits(
            *(Dataset(f"{self.name}/{by}/{name}", tuple(part)) for name, part in zip(names, parts, strict=True))
        )

    def write(self, path: Path) -> None:
        """Write extended XYZ, gzipped if the name ends in ``.gz``; the same data set gives the same bytes."""
        data = "".join(_written(entry) for entry in self.entries).encode()
        if path.suffix == ".gz":
            data = gzip.compress(data, compresslevel=9, mtime=0)
        temporary = path.with_name(path.name + ".part")
        temporary.write_bytes(data)
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path, name: str | None = None) -> Dataset:
        """Read what :meth:`write` wrote.

        Raises
        ------
        ValueError
            If the file is no such data set; the message names the file and what is wrong.
        FileNotFoundError
        """
        if path.is_dir():
            built = path / "crystals.extxyz.gz"
            raise ValueError(
                f"{path} is a folder; name the data set in it{f', {built}' if built.is_file() else ''}, or read it "
                "with `nucleate data add`"
            )
        raw = path.read_bytes()
        try:
            text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
            frames = list(read_frames(text))
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise ValueError(f"{path}: can't be read as a data set in extended XYZ: {error}") from error
        return cls(name or path.name.partition(".")[0], tuple(_entry(path, i, f) for i, f in enumerate(frames)))


def shipped() -> Dataset:
    """Load the data set that ships with this package; a process reads it once."""
    return _shipped()


def shipped_card() -> dict[str, Any]:
    """Give the card of the data set that ships: counts, protocol, known failings."""
    card: dict[str, Any] = json.loads(files("generators.data").joinpath("crystals.card.json").read_text())
    return card


@lru_cache(maxsize=1)
def _shipped() -> Dataset:
    return Dataset.read(Path(str(files("generators.data").joinpath("crystals.extxyz.gz"))), "nucleate")


def _written(entry: Entry) -> str:
    strings = {"label": entry.label, "prototype": entry.prototype, "source": entry.source}
    numbers = {name: round(entry.properties[name], 5) for name in sorted(entry.properties)}
    if entry.energy_ev_per_atom is not None:
        numbers = {"energy_per_atom": round(entry.energy_ev_per_atom, 6), **numbers}
    return write_frame(entry.structure, strings, numbers)


def _entry(path: Path, number: int, frame: Frame) -> Entry:
    values = frame.values
    if "label" not in values or "prototype" not in values:
        raise ValueError(
            f"{path}: frame {number + 1} has no label and prototype; `nucleate data add` reads other files"
        )
    try:
        properties = {name: float(values[name]) for name in PROPERTY_UNITS if name in values}
        energy = float(values["energy_per_atom"]) if "energy_per_atom" in values else None
    except ValueError as error:
        raise ValueError(f"{path}: frame {number + 1} holds a property that is no number: {error}") from error
    return Entry(
        label=values["label"],
        structure=frame.structure,
        prototype=values["prototype"],
        source=values.get("source", ""),
        energy_ev_per_atom=energy,
        properties={name: value for name, value in properties.items() if isfinite(value)},
    )
