"""The crystals: what generators train on, what the judge of properties trains on, what samples are compared with."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, NamedTuple

from generators.base import Bounds, Condition
from generators.data.dataset import PROPERTY_UNITS, Dataset
from generators.data.gate import sift, tally
from generators.data.loaders import load

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ATOMS = 5
PROPERTIES = ("heat_of_formation", "band_gap")
HALVES = (0.5, 0.5, 0.0)
WITHOUT_TEST = (0.5, 0.25, 0.25)
SPLIT_SEED = 1
"""Another than that of fitting, which divides its part once more and would find all of it on one side."""


class Sets(NamedTuple):
    """Three sets without a chemical system in common, and how they came about.

    Parameters
    ----------
    training : Dataset
        For the generators.
    judging : Dataset
        For the surrogate of properties.
    reference : Dataset
        What samples are compared with, the whole test set if there is one; the surrogate's error is that on the
        crystals of it that ``judging`` has not.
    about : dict
    """

    training: Dataset
    judging: Dataset
    reference: Dataset
    about: dict[str, object]

    @property
    def unseen(self) -> Dataset:
        """Crystals that neither the generators nor the surrogate saw."""
        judged = {e.label for e in self.judging.entries}
        return Dataset("unseen", tuple(e for e in self.reference.entries if e.label not in judged))


def load_sets(data: Path, test: Path | None, place: Path) -> Sets:
    """Read the tables through the gate, once: the place keeps what was taken.

    Parameters
    ----------
    data : pathlib.Path
        Laid out as Perov-5's ``train.csv``, may be gzipped.
    test : pathlib.Path or None
        Its ``test.csv``. Without one a half of ``data`` is kept from the generators, by chemical system.
    place : pathlib.Path
    """
    place.mkdir(parents=True, exist_ok=True)
    training, rejected = _kept(data, place / "training.extxyz.gz")
    if test is None:
        parts = training.split("chemistry", WITHOUT_TEST, SPLIT_SEED)
        training, judging, reference = parts
    else:
        reference, more = _kept(test, place / "reference.extxyz.gz")
        judging = reference.split("chemistry", HALVES, SPLIT_SEED).training
        rejected = {key: rejected.get(key, 0) + more.get(key, 0) for key in {*rejected, *more}}
    about = {
        "training": len(training),
        "judging": len(judging),
        "reference": len(reference),
        "reference_is_the_test_set": test is not None,
        "rejected": rejected,
        "systems": len(systems_of(training)),
        "elements": len(training.elements()),
    }
    return Sets(training, judging, reference, about)


def condition_of(training: Dataset, properties: Mapping[str, Bounds] | None = None) -> Condition:
    """Ask for what the training set is: its chemical systems, five atoms, no rule of neutrality, stable or not."""
    sizes = [len(structure.composition) for structure in training]
    return Condition(
        chemical_systems=systems_of(training),
        min_elements=min(sizes),
        max_elements=max(sizes),
        max_atoms=ATOMS,
        neutrality="off",
        properties=dict(properties or {}),
        stable=False,
    )


def systems_of(training: Dataset) -> tuple[tuple[str, ...], ...]:
    """List the distinct chemical systems."""
    return tuple(sorted({tuple(sorted({e.symbol for e in s.composition})) for s in training}))


def window(name: str, centre: float, half: float) -> Bounds:
    """Make the bounds of a target."""
    return Bounds(round(centre - half, 6), round(centre + half, 6), PROPERTY_UNITS[name])


def _kept(table: Path, path: Path) -> tuple[Dataset, dict[str, int]]:
    note = path.with_name(path.name.partition(".")[0] + ".json")
    mark = {"bytes": table.stat().st_size, "name": table.name}
    if path.exists() and note.exists():
        stored = json.loads(note.read_text())
        if stored["source"] != mark:
            raise ValueError(f"{path.parent} was begun with another table than {table}; choose another place")
        return Dataset.read(path), stored["rejected"]
    loaded = load(table)
    dataset, more = sift(loaded.entries, path.name.partition(".")[0], ATOMS)
    if not len(dataset):
        raise ValueError(f"{table}: no crystal of it passes the gate")
    counts = tally([*loaded.rejected, *more])
    dataset.write(path)
    note.write_text(json.dumps({"source": mark, "rejected": counts}) + "\n")
    return Dataset.read(path), counts  # as a run that goes on will find it


def write_table(path: Path, dataset: Dataset) -> None:
    """Write a data set as such a table: how tests make a small one of their own."""
    import csv
    import io

    from pymatgen.io.cif import CifWriter

    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["", "material_id", "cif", "formula", "heat_all", "heat_ref", "dir_gap", "ind_gap"])
    for number, entry in enumerate(dataset.entries):
        heat, gap = (entry.properties.get(name, "") for name in PROPERTIES)
        writer.writerow([number, entry.label, str(CifWriter(entry.structure)), "", "", heat, gap, gap])
    data = text.getvalue().encode()
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
