"""Train, sample, and measure samples: what a run keeps, a later one goes on from."""

from __future__ import annotations

import inspect
import json
import time
import warnings
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.core import Structure

from benchmarks.perov5.coverage import coverage, distance
from benchmarks.perov5.environment import fingerprint
from benchmarks.perov5.validity import composition_valid, structure_valid
from generators import json_lines
from generators.base import derive_seed
from generators.crystals.duplicates import DuplicateIndex, prepared
from generators.registry import ENTRIES, load_generator, make_generator

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from benchmarks.perov5.environment import Fingerprints
    from benchmarks.perov5.surrogate import Surrogate
    from generators.base import Condition, Generator
    from generators.data.dataset import Dataset

STATISTICS_OF = 1000
"""Valid samples that property statistics are taken of, at most (``compute_metrics.py`` line 143)."""
ENERGY = "heat_of_formation"
ITSELF = "training set"
"""Name of the row that takes crystals of the training set for samples: how good a perfect copy looks."""


def trained(
    name: str, training: Dataset, folder: Path, epochs: int | None, properties: Sequence[str]
) -> tuple[Generator, dict[str, Any]]:
    """Give a generator fitted to the training set, from the folder if it is there, and what its training took."""
    entry = next((e for e in ENTRIES if e.name == name), None)
    if entry is None:
        raise ValueError(f"no generator is called {name}; known are {', '.join(e.name for e in ENTRIES)}")
    module, _, attribute = entry.target.partition(":")
    cls: Any = getattr(import_module(module), attribute)
    if not hasattr(cls, "blank"):
        return make_generator(name), {"trained": False}
    note = folder / "fit.json"
    if note.exists():
        return load_generator(folder / "model"), json.loads(note.read_text())
    generator = cls.blank()
    begin = time.process_time()
    # by chemistry, as all crystals are of a dozen prototypes: most would be one group
    fitted = generator.fit(
        training,
        epochs=epochs,
        properties=tuple(properties),
        split_by="chemistry",
        folder=folder / "training",
    )
    about = {
        "trained": True,
        "epochs": epochs,
        "seconds": round(fitted.seconds, 1),
        "cpu_seconds_of_this_run": round(time.process_time() - begin, 1),
        "metrics": fitted.metrics,
        "version": generator.version,
    }
    generator.save(folder / "model")
    note.write_text(json.dumps(about, indent=1) + "\n")
    return generator, about


def retargeted(name: str, folder: Path, k: int) -> Generator | None:
    """Give the trained generator as it meets targets by the best of ``k``, if it can do so."""
    model = folder / "model"
    parameters = inspect.signature(type(load_generator(model))).parameters if model.exists() else {}
    if not {"checkpoint", "targeting", "k"} <= set(parameters):
        return None
    return make_generator(name, checkpoint=str(model), targeting="best_of_k", k=k)


def sampled(generator: Generator, n: int, condition: Condition, seed: int, path: Path) -> list[Structure]:
    """Draw ``n`` crystals, kept as they come; a run that was interrupted goes on at the next one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    json_lines.mend(path)
    made = [Structure.from_dict(record) for record in islice(json_lines.read(path), n)]
    if len(made) < n:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a target that a generator does not know is stated in the results
            for sample in generator.sample(n, condition, seed, start=len(made)):
                json_lines.append(path, sample.structure.as_dict())
                made.append(sample.structure)
    return made


def copies(training: Dataset, n: int, seed: int) -> list[Structure]:
    """Draw ``n`` crystals of the training set without replacement (all, if there are fewer)."""
    rng = np.random.default_rng(derive_seed(seed, ITSELF))
    chosen = rng.choice(len(training), min(n, len(training)), replace=False)
    return [training.entries[i].structure for i in sorted(chosen)]


def measured(
    samples: Sequence[Structure],
    reference: Dataset,
    training: Dataset,
    fingerprints: Fingerprints,
    surrogate: Surrogate,
    seed: int = 0,
) -> dict[str, Any]:
    """Measure samples against a reference.

    Returns
    -------
    dict
        Shares (0 to 1): ``structures`` and ``compositions`` valid, ``valid`` (both, and with a fingerprint),
        ``coverage_recall``, ``coverage_precision``, ``unique`` and ``known`` (a crystal of the training set).
        Wasserstein distances: ``density`` (g/cm³), ``elements``, ``energy`` (eV/atom, of the surrogate's heats of
        formation on both sides). ``n`` and ``statistics_of``: sizes.
    """
    rows = fingerprints.of(samples)
    geometry = np.array([structure_valid(s) for s in samples])
    charges = np.array([composition_valid(s) for s in samples])
    valid = geometry & charges & np.array([row["sites"] is not None for row in rows])
    ours = [fingerprint(row) for row in rows]
    theirs = [fingerprint(row) for row in fingerprints.of(list(reference))]
    found: dict[str, Any] = {
        "n": len(samples),
        "structures": float(geometry.mean()),
        "compositions": float(charges.mean()),
        "valid": float(valid.mean()),
        **_sameness(samples, training),
    }
    try:
        covered = coverage(ours, theirs)
        found |= {
            f"coverage_{key}" if key in {"recall", "precision"} else key: x for key, x in covered._asdict().items()
        }
    except ValueError as error:
        found |= {"coverage_recall": 0.0, "coverage_precision": 0.0, "coverage_note": str(error)}
    places = np.flatnonzero(valid)
    if len(places) > STATISTICS_OF:
        rng = np.random.default_rng(derive_seed(seed, "statistics"))
        places = np.sort(rng.choice(places, STATISTICS_OF, replace=False))
    found["statistics_of"] = len(places)
    if len(places):
        chosen, real = [samples[i] for i in places], list(reference)
        found["density"] = distance([s.density for s in chosen], [s.density for s in real])
        found["elements"] = distance([len(s.composition) for s in chosen], [len(s.composition) for s in real])
        heats = [h[np.isfinite(h)] for h in (surrogate.predict(ENERGY, chosen), surrogate.predict(ENERGY, real))]
        if all(len(h) for h in heats):
            found["energy"] = distance(*heats)
    return found


def _sameness(samples: Sequence[Structure], training: Dataset) -> dict[str, float]:
    """Count samples that are no copy of an earlier one, and those that are crystals of the training set."""
    known, seen = DuplicateIndex(), DuplicateIndex()
    for entry in training.entries:
        known.add(entry.label, entry.structure)
    unique = copied = 0
    for number, structure in enumerate(samples):
        crystal = prepared(structure)
        try:
            unique += seen.add(str(number), crystal) is None
            copied += known.find(crystal) is not None
        except ValueError:  # no cell to speak of
            continue
    return {"unique": unique / len(samples), "known": copied / len(samples)}
