"""What was computed once, by content: an append-only file of JSON lines that survives being killed at any moment."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pymatgen.core import Lattice, Structure

from generators import json_lines
from generators.relaxer import DEFAULT_MODEL, evaluate, relax, relaxer_version

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from generators.relaxer import Relaxed

    Told = Callable[[int, int], None]


@dataclass(frozen=True)
class Protocol:
    """How everything in a comparison is relaxed: samples and competitors alike.

    Parameters
    ----------
    model : str
        A name in :data:`generators.relaxer.MODELS`.
    fmax_ev_per_angstrom, max_stress_gpa : float
        Where a relaxation ends.
    max_steps : int
        What has not converged by then does not count as relaxed.
    batch_size : int
        Does not change any number.
    """

    model: str = DEFAULT_MODEL
    fmax_ev_per_angstrom: float = 0.05
    max_stress_gpa: float = 0.5
    max_steps: int = 200
    batch_size: int = 16

    @property
    def key(self) -> str:
        """Name model, its version and the limits: relaxations under another key are others."""
        limits = f"{self.fmax_ev_per_angstrom:g} eV/Å, {self.max_stress_gpa:g} GPa, {self.max_steps} steps"
        return f"{relaxer_version(self.model)}, {limits}"


@dataclass(frozen=True)
class Outcome:
    """What became of a structure that was relaxed.

    Parameters
    ----------
    structure : pymatgen.core.Structure or None
        Sites in the order of the given one.
    energy_ev_per_atom : float or None
    converged : bool
    steps : int
    volume_change : float or None
        V_relaxed / V_given - 1.
    cpu_s : float
        Processor time since the relaxation before it ended; summed over a run it is that of the run. Time on an
        accelerator is not in it.
    error : str or None
    """

    structure: Structure | None
    energy_ev_per_atom: float | None
    converged: bool
    steps: int
    volume_change: float | None
    cpu_s: float
    error: str | None = None


class Store:
    """A folder's ``results.jsonl``: key to a JSON record; the last line of a key counts.

    Parameters
    ----------
    folder : pathlib.Path
        Made if missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._path = folder / "results.jsonl"
        json_lines.mend(self._path)
        self._records = {record["key"]: record for record in json_lines.read(self._path) if "key" in record}

    def __len__(self) -> int:
        return len(self._records)

    def get(self, key: str) -> dict[str, Any] | None:
        """Give the record of a key, or None."""
        return self._records.get(key)

    def put(self, key: str, record: dict[str, Any]) -> None:
        """Keep a record; it is on disk when this returns."""
        kept = {"key": key, **record}
        self._records[key] = kept
        json_lines.append(self._path, kept)


def relaxations(
    structures: Sequence[Structure], store: Store, protocol: Protocol, told: Told | None = None
) -> list[Outcome]:
    """Relax what the store does not know yet; every relaxation is kept as soon as it has ended.

    Parameters
    ----------
    structures : sequence of pymatgen.core.Structure
    store : Store
    protocol : Protocol
    told : callable, optional
        ``told(done, of)``.

    Returns
    -------
    list of Outcome
        In the order of the input.
    """
    keys = [f"relax/{_digest(protocol.key)}/{content_key(s)}" for s in structures]
    missing = {key: s for key, s in zip(keys, structures, strict=True) if store.get(key) is None}
    names = list(missing)
    before = time.process_time()
    done = len(set(keys)) - len(names)

    def finished(index: int, result: Relaxed) -> None:
        nonlocal before, done
        now = time.process_time()
        store.put(
            names[index],
            {
                "structure": None if result.structure is None else compact(result.structure, 8),
                "energy_ev_per_atom": result.energy_ev_per_atom,
                "converged": result.converged,
                "steps": result.steps,
                "volume_change": result.volume_change,
                "cpu_s": round(now - before, 4),
                "error": result.error,
            },
        )
        before = now
        done += 1
        if told is not None:
            told(done, len(set(keys)))

    relax(
        list(missing.values()),
        model=protocol.model,
        fmax_ev_per_angstrom=protocol.fmax_ev_per_angstrom,
        max_stress_gpa=protocol.max_stress_gpa,
        max_steps=protocol.max_steps,
        batch_size=protocol.batch_size,
        on_result=finished,
    )
    return [_outcome(store, key) for key in keys]


def single_points(structures: Sequence[Structure], store: Store, protocol: Protocol) -> list[float | None]:
    """Energies in eV/atom of structures as they are, from the store where it knows them; ``None`` where there is none.

    Parameters
    ----------
    structures : sequence of pymatgen.core.Structure
    store : Store
    protocol : Protocol
        Only its model matters.
    """

    def ask(missing: list[Structure]) -> list[float | None]:
        points = evaluate(missing, model=protocol.model)
        return [None if p.evaluation is None else p.evaluation.energy_ev_per_atom for p in points]

    return numbers(structures, store, f"point/{_digest(relaxer_version(protocol.model))}", ask)


def numbers(
    structures: Sequence[Structure],
    store: Store,
    kind: str,
    ask: Callable[[list[Structure]], list[float | None]],
) -> list[float | None]:
    """Give one number for each structure, asking only for those that the store does not know.

    Parameters
    ----------
    structures : sequence of pymatgen.core.Structure
    store : Store
    kind : str
        What number it is, and of which model.
    ask : callable
        Gives the numbers of a list of structures.
    """
    keys = [f"{kind}/{content_key(s)}" for s in structures]
    missing = {key: s for key, s in zip(keys, structures, strict=True) if store.get(key) is None}
    for key, value in zip(missing, ask(list(missing.values())) if missing else [], strict=True):
        store.put(key, {"value": value})
    return [None if (record := store.get(key)) is None else record["value"] for key in keys]


def content_key(structure: Structure) -> str:
    """Name a structure by its numbers: lattice (Å) and fractional coordinates to 6 digits, species in their order."""
    return _digest(json.dumps(compact(structure, 6), sort_keys=True))


def compact(structure: Structure, digits: int) -> dict[str, Any]:
    """Write an ordered structure as plain numbers, rounded."""
    return {
        "lattice": [[round(float(x), digits) + 0.0 for x in row] for row in structure.lattice.matrix],
        "species": [site.specie.symbol for site in structure],
        "frac_coords": [[round(float(x), digits) + 0.0 for x in row] for row in structure.frac_coords],
    }


def expanded(document: dict[str, Any]) -> Structure:
    """Read what :func:`compact` wrote."""
    return Structure(Lattice(document["lattice"]), document["species"], document["frac_coords"])


def _outcome(store: Store, key: str) -> Outcome:
    record = store.get(key)
    if record is None:
        raise KeyError(key)
    return Outcome(
        structure=None if record["structure"] is None else expanded(record["structure"]),
        energy_ev_per_atom=record["energy_ev_per_atom"],
        converged=record["converged"],
        steps=record["steps"],
        volume_change=record["volume_change"],
        cpu_s=record["cpu_s"],
        error=record["error"],
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
