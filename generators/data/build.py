"""Build the training set: propose, relax and label in processes, keep every label as it comes, then assemble.

A build is a folder. ``labels.jsonl`` gets a line for every finished proposal, so a build that was interrupted goes on;
``elements.json`` holds the reference energies; ``crystals.extxyz.gz`` and ``crystals.card.json`` are the result.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from pymatgen.core import Structure

from generators.crystals.symmetry import prototype_key, skeleton
from generators.data.dataset import Dataset, Entry
from generators.data.gate import Rejected, sift, tally
from generators.data.labelling import labelled
from generators.data.labels import (
    FMAX_EV_PER_ANGSTROM,
    MAX_STEPS,
    MAX_STRESS_GPA,
    VOLUME_STRAIN,
    Label,
    element_energies,
    formation_energy,
)
from generators.data.proposals import MAX_ATOMS, Amounts, Proposal, proposals
from generators.relaxer import DEFAULT_MODEL, relaxer_version

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAX_VOLUME_CHANGE = 1.5
"""A crystal whose volume grew by more than this has fallen apart."""


@dataclass(frozen=True)
class Progress:
    """Where a build stands."""

    labelled: int
    total: int
    seconds: float


def build(
    folder: Path,
    amounts: Amounts,
    *,
    seed: int = 0,
    processes: int = 1,
    model: str = DEFAULT_MODEL,
    limit: int | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[Dataset, list[Rejected]]:
    """Build the training set in a folder, going on where an earlier run stopped.

    Parameters
    ----------
    folder : pathlib.Path
        Made if missing; belongs to one set of options, which ``build.json`` keeps.
    amounts : Amounts
    seed : int
    processes : int
    model : str
        Relaxes and labels.
    limit : int, optional
        Take only the first so many proposals (known crystals come first): for trials.
    on_progress : callable, optional
        Called after each label, and once before the first.

    Returns
    -------
    dataset : Dataset
    rejected : list of Rejected

    Raises
    ------
    ValueError
        If the folder holds a build with other options.
    """
    folder.mkdir(parents=True, exist_ok=True)
    options: dict[str, Any] = {"amounts": asdict(amounts), "seed": seed, "model": model, "format": 1}
    if limit is not None:
        options["limit"] = limit
    _claim(folder, options)
    begin = time.perf_counter()
    wanted = _proposals(folder, amounts, seed, limit)
    energies = _elements(folder, sorted({e.symbol for p in wanted for e in p.structure.composition}), model)
    done = labelled(
        {p.label: p.structure for p in wanted},
        folder / "labels.jsonl",
        processes=processes,
        model=model,
        on_progress=None if on_progress is None else partial(_tell, on_progress, begin),
    )
    dataset, rejected = assemble(wanted, done, energies)
    dataset.write(folder / "crystals.extxyz.gz")
    card = card_of(dataset, rejected, options, model)
    (folder / "crystals.card.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n")
    return dataset, rejected


def _tell(on_progress: Callable[[Progress], None], begin: float, done: int, total: int) -> None:
    on_progress(Progress(done, total, time.perf_counter() - begin))


def assemble(
    wanted: list[Proposal], done: dict[str, Label], energies: dict[str, float]
) -> tuple[Dataset, list[Rejected]]:
    """Turn labels into a data set: what relaxed, stayed whole, and is no duplicate."""
    made = [entry_of(done[proposal.label], proposal.label, energies) for proposal in wanted]
    dataset, more = sift((one for one in made if isinstance(one, Entry)), "nucleate", MAX_ATOMS)
    return dataset, [one for one in made if isinstance(one, Rejected)] + more


def entry_of(
    label: Label, source: str, energies: dict[str, float], properties: dict[str, float] | None = None
) -> Entry | Rejected:
    """Turn one label into an entry of a data set, if it relaxed and stayed whole.

    Parameters
    ----------
    label : Label
    source : str
    energies : dict of str to float
        Of the elements, eV/atom, by the same model.
    properties : dict of str to float, optional
        Others that the entry keeps beside those of the label.

    Returns
    -------
    Entry or Rejected
    """
    reason = _unfit(label)
    if reason is not None or label.structure is None or label.energy_ev_per_atom is None:
        return Rejected(label.label, reason or "it has no energy")
    structure = Structure.from_dict(label.structure).get_primitive_structure()
    found = {k: v for k, v in (properties or {}).items() if k not in {"formation_energy", "bulk_modulus"}}
    formation = formation_energy(structure, label.energy_ev_per_atom, energies)
    if formation is not None:
        found["formation_energy"] = formation
    if label.bulk_modulus_gpa is not None:
        found["bulk_modulus"] = label.bulk_modulus_gpa
    try:
        key = prototype_key(structure)
    except ValueError as error:
        return Rejected(label.label, str(error))
    return Entry(label.label, structure, key, source, label.energy_ev_per_atom, found)


def card_of(dataset: Dataset, rejected: list[Rejected], options: dict[str, Any], model: str) -> dict[str, Any]:
    """Describe a data set: counts, protocol, what it does not hold."""
    kinds = Counter(e.source.partition(" ")[0] for e in dataset.entries)
    sizes = Counter(len(e.structure.composition.elements) for e in dataset.entries)
    atoms = Counter(len(e.structure) for e in dataset.entries)
    return {
        "name": dataset.name,
        "crystals": len(dataset),
        "by_kind": dict(sorted(kinds.items())),
        "by_elements": {str(k): v for k, v in sorted(sizes.items())},
        "by_atoms": {str(k): v for k, v in sorted(atoms.items())},
        "elements": list(dataset.elements()),
        "prototypes": len({e.prototype for e in dataset.entries}),
        "skeletons": len({skeleton(e.structure) for e in dataset.entries}),
        "bulk_moduli": sum("bulk_modulus" in e.properties for e in dataset.entries),
        "rejected": tally(rejected),
        "options": options,
        "relaxer": relaxer_version(model),
        "protocol": {
            "fmax_ev_per_angstrom": FMAX_EV_PER_ANGSTROM,
            "max_stress_gpa": MAX_STRESS_GPA,
            "max_steps": MAX_STEPS,
            "volume_strain": VOLUME_STRAIN,
        },
        "known_failings": [
            "energies and structures are a force field's (CHGNet), not DFT's",
            "elemental references are one structure an element, sulfur's has one atom: sulfides look too stable",
            "bulk moduli are taken with clamped ions: an upper bound where symmetry does not hold the atoms",
            "no magnetism, no molecules beyond those of the prototypes, at most 8 atoms",
        ],
    }


def _unfit(label: Label) -> str | None:
    if label.error is not None:
        return label.error
    if not label.converged:
        return "did not converge"
    if label.volume_change is not None and label.volume_change > MAX_VOLUME_CHANGE:
        return f"fell apart: its volume grew by {100 * label.volume_change:.0f} %"
    return None


def _claim(folder: Path, options: dict[str, Any]) -> None:
    path = folder / "build.json"
    if path.exists():
        stored = json.loads(path.read_text())
        if stored != options:
            raise ValueError(f"{folder} holds a build with other options ({path.name}); choose another folder")
    path.write_text(json.dumps(options, indent=1, sort_keys=True) + "\n")


def _proposals(folder: Path, amounts: Amounts, seed: int, limit: int | None) -> list[Proposal]:
    """Make the proposals once: judging which substitutions are neutral and fit takes minutes."""
    path = folder / "proposals.json"
    if path.exists():
        return [Proposal(label, kind, Structure.from_dict(s)) for label, kind, s in json.loads(path.read_text())]
    made = list(islice(proposals(amounts, seed), limit))
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps([[p.label, p.kind, p.structure.as_dict()] for p in made]))
    part.replace(path)
    return made


def _elements(folder: Path, needed: list[str], model: str) -> dict[str, float]:
    """Relax the elements that occur, for reference energies that are kept like the labels."""
    path = folder / "elements.json"
    energies = {str(k): float(v) for k, v in json.loads(path.read_text()).items()} if path.exists() else {}
    if missing := [symbol for symbol in needed if symbol not in energies]:
        energies |= {k: round(v, 6) for k, v in element_energies(missing, model).items()}
        part = path.with_name(path.name + ".part")
        part.write_text(json.dumps(energies, indent=1, sort_keys=True) + "\n")
        part.replace(path)
    return energies
