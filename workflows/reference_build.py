"""Building reference sets: known crystals and prototype substitutions, screened in batches, relaxed by the engine.

Everything is sorted and deterministic, and every finished relaxation is checkpointed, so that an interrupted build
goes on where it stopped.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from concurrent.futures import as_completed
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import torch
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition

from generators.crystals.symmetry import spacegroup_symbol
from generators.data import element_ground_states
from generators.processes import worker_pool
from generators.relaxer import Relaxed, evaluate, relax
from workflows.causes import CausedError
from workflows.reference import (
    Crystal,
    ReferenceEntry,
    ReferenceSet,
    Subsystem,
    load_reference,
    system_name,
)
from workflows.reference_proposals import Limits, Proposal, covers, enumerate_subsystem, is_balanced

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from pymatgen.core import Structure

    from workflows.engines.base import Result

    Progress = Callable[[str, int, int], None]
    """Told (what, done, total)."""


class RelaxingEngine(Protocol):
    """What a build needs of an engine: one that can relax inside this process."""

    @property
    def reference_key(self) -> str:
        """Key of its energies."""
        ...

    @property
    def reference_limits(self) -> dict[str, Any]:
        """Fields of :class:`Limits` that shall differ from their defaults."""
        ...

    def settings(self) -> dict[str, Any]:
        """Everything that decides its numbers."""
        ...

    def relax_now(self, structure: Structure) -> Result:
        """Relax in this process."""
        ...


def build_subsystem(
    engine: RelaxingEngine,
    elements: Iterable[str],
    *,
    limits: Limits | None = None,
    checkpoints: Path | None = None,
    progress: Progress | None = None,
) -> Subsystem:
    """Build one subsystem: enumerate, screen, keep the lowest, relax them with the engine.

    Parameters
    ----------
    engine : RelaxingEngine
    elements : iterable of str
    limits : Limits, optional
    checkpoints : pathlib.Path, optional
        Directory for this subsystem's checkpoint; finished relaxations in it are not repeated.
    progress : callable, optional
        Told (what, done, total).

    Returns
    -------
    Subsystem
        JSON-compatible by ``model_dump(mode="json")``.
    """
    limits = limits or Limits(**engine.reference_limits)
    name = system_name(elements)
    memory = _Checkpoint(
        checkpoints / f"{engine.reference_key.replace(':', '_')}_{name}.jsonl" if checkpoints else None
    )
    proposals = enumerate_subsystem(elements, limits)
    looked_at = _first_look(proposals, limits)
    screened = _screen(looked_at, memory, lambda done, total: progress and progress(f"{name} screening", done, total))
    kept = _keep(screened, limits)
    entries, failures = [], []
    for number, (proposal, crystal, screening_energy) in enumerate(kept):
        stored = memory.get("relaxed", proposal.id)
        if stored is None:
            stored = _relax(engine, crystal.structure())
            memory.put("relaxed", proposal.id, stored)
        if progress:
            progress(f"{name} relaxing", number + 1, len(kept))
        if "failure" in stored:
            failures.append(f"{proposal.id}: {stored['failure']}")
            continue
        final = Crystal.model_validate(stored["crystal"])
        structure = final.structure()
        entries.append(
            ReferenceEntry(
                id=proposal.id,
                formula=structure.composition.reduced_formula,
                energy_ev_per_atom=stored["energy_ev_per_atom"],
                crystal=final,
                spacegroup=spacegroup_symbol(structure),
                source=proposal.source,
                screening_ev_per_atom=screening_energy,
            )
        )
    return Subsystem(
        elements=tuple(sorted(set(elements))),
        entries=tuple(sorted(entries, key=lambda entry: entry.id)),
        covers=covers(limits, engine.reference_key),
        enumerated=len(proposals),
        relaxed=len(kept),
        failures=tuple(failures),
    )


def _relax(engine: RelaxingEngine, structure: Structure) -> dict[str, Any]:
    try:
        result = engine.relax_now(structure)
    except CausedError as error:
        if error.code in _NOT_THE_CRYSTALS:
            raise
        return {"failure": str(error)}
    return {
        "crystal": Crystal.of(result.structure).model_dump(mode="json"),
        "energy_ev_per_atom": round(result.energy_ev_per_atom, 6),
    }


def _first_look(proposals: Sequence[Proposal], limits: Limits) -> list[Proposal]:
    """Choose what is worth relaxing from single points: all known crystals, the lowest of each composition."""
    torch.set_num_threads(1)
    order = sorted(proposals, key=lambda p: (len(p.structure), p.id))  # batches of like sizes waste least
    points = evaluate([p.structure for p in order])
    by_formula: dict[str, list[tuple[float, str, Proposal]]] = defaultdict(list)
    for proposal, point in zip(order, points, strict=True):
        if point.evaluation is not None:
            energy = round(point.evaluation.energy_ev_per_atom, 5)
            by_formula[proposal.structure.composition.reduced_formula].append((energy, proposal.id, proposal))
    near = _near_hull(
        {formula: min(items, key=lambda i: i[:2])[0] for formula, items in by_formula.items()}, limits.first_window
    )
    chosen = {p.id: p for p in proposals if p.source.kind == "known"}
    for items in by_formula.values():
        if items[0][2].structure.composition.reduced_formula in near or is_balanced(items[0][2].structure):
            chosen.update({name: p for _, name, p in sorted(items, key=lambda i: i[:2])[: limits.first_look]})
    return [chosen[name] for name in sorted(chosen)]


_NOT_THE_CRYSTALS = frozenset({101, 103, 104, 105, 106, 201, 202, 203, 204, 205, 206, 208})
"""Causes that say nothing of the crystal (scheduler, environment): the build stops, and goes on later. What crashes
the code or takes too much memory is a failure of its own, or one crystal could stop every build."""

_Screened = tuple[Proposal, Crystal, float]


def _screen(proposals: Sequence[Proposal], memory: _Checkpoint, progress: Callable[[int, int], Any]) -> list[_Screened]:
    """Relax all proposals with the screening model, in batches; those without an energy are left out."""
    todo = [p for p in proposals if memory.get("screened", p.id) is None]
    todo.sort(key=lambda p: (len(p.structure), p.id))  # batches of like sizes waste least
    done = len(proposals) - len(todo)

    def store(index: int, relaxed: Relaxed) -> None:
        nonlocal done
        done += 1
        record: dict[str, Any] = {"failure": relaxed.error or "no energy"}
        if relaxed.structure is not None and relaxed.energy_ev_per_atom is not None:
            record = {
                "crystal": Crystal.of(relaxed.structure).model_dump(mode="json"),
                "energy_ev_per_atom": round(relaxed.energy_ev_per_atom, 6),
            }
        memory.put("screened", todo[index].id, record)
        progress(done, len(proposals))

    torch.set_num_threads(1)
    if todo:
        relax([p.structure for p in todo], fmax_ev_per_angstrom=0.1, max_steps=100, on_result=store)
    records = [(p, memory.get("screened", p.id)) for p in proposals]
    return [
        (p, Crystal.model_validate(r["crystal"]), r["energy_ev_per_atom"]) for p, r in records if r and "crystal" in r
    ]


def _keep(screened: Sequence[_Screened], limits: Limits) -> list[_Screened]:
    """Keep the lowest distinct structures of each composition that is known or comes near the subsystem's own hull."""
    by_formula: dict[str, list[_Screened]] = defaultdict(list)
    for item in screened:
        by_formula[Composition(Counter(item[1].species)).reduced_formula].append(item)
    lowest = {formula: min(e for _, _, e in items) for formula, items in by_formula.items()}
    near = _near_hull(lowest, limits.hull_window) | {
        formula for formula, items in by_formula.items() if any(p.source.kind == "known" for p, _, _ in items)
    }
    matcher = StructureMatcher()
    kept: list[_Screened] = []
    for formula in sorted(near):
        room = limits.per_composition + (1 if len(Composition(formula).elements) == 1 else 0)
        chosen: list[tuple[_Screened, Structure]] = []
        for item in sorted(by_formula[formula], key=lambda item: (item[2], item[0].id)):
            if len(chosen) == room or item[2] > lowest[formula] + limits.window:
                break
            structure = item[1].structure()
            if not any(matcher.fit(structure, other) for _, other in chosen):
                chosen.append((item, structure))
        kept.extend(item for item, _ in chosen)
    return sorted(kept, key=lambda item: item[0].id)


def _near_hull(lowest: dict[str, float], window: float) -> set[str]:
    """List the formulas within ``window`` of the hull that they span with the elements, by the screening model."""
    elements = sorted({e.symbol for formula in lowest for e in Composition(formula).elements})
    if len(elements) < 2:
        return set(lowest)
    entries = [PDEntry(c := Composition(f), e * c.num_atoms, name=f) for f, e in lowest.items()]
    entries += [PDEntry(Composition(symbol), _element_energy(symbol), name="") for symbol in elements]
    diagram = PhaseDiagram(entries)
    return {
        entry.name
        for entry in entries
        if entry.name and entry.energy_per_atom - diagram.get_hull_energy_per_atom(entry.composition) <= window
    }


@lru_cache(maxsize=128)
def _element_energy(symbol: str) -> float:
    """Energy of an element by the screening model, eV/atom: its ground state as it stands, or its best prototype."""
    ground_states = element_ground_states()
    structures = (
        [ground_states[symbol]]
        if symbol in ground_states
        else [p.structure for p in enumerate_subsystem((symbol,), Limits(neutral_atoms=4))]
    )
    points = evaluate(structures)
    return min(point.evaluation.energy_ev_per_atom for point in points if point.evaluation is not None)


class _Checkpoint:
    """Finished relaxations of one subsystem, one JSON line each; a line cut short by a crash is ignored."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._records: dict[tuple[str, str], dict[str, Any]] = {}
        if path is None or not path.is_file():
            return
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
            except json.JSONDecodeError:
                continue
            self._records[record["stage"], record["id"]] = record["result"]

    def get(self, stage: str, name: str) -> dict[str, Any] | None:
        return self._records.get((stage, name))

    def put(self, stage: str, name: str, result: dict[str, Any]) -> None:
        self._records[stage, name] = result
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as stream:
            # a newline first: a line that a crash cut short must not swallow this one
            stream.write("\n" + json.dumps({"stage": stage, "id": name, "result": result}, sort_keys=True) + "\n")


def build(
    engine: RelaxingEngine,
    chemical_systems: Iterable[Sequence[str]],
    directory: Path,
    *,
    processes: int = 1,
    fresh: bool = False,
    limits: Limits | None = None,
    progress: Progress | None = None,
) -> ReferenceSet:
    """Complete the reference set of an engine for chemical systems; what exists already is kept.

    Parameters
    ----------
    engine : RelaxingEngine
    chemical_systems : iterable of sequence of str
    directory : pathlib.Path
        Where the set is stored; it is written after every subsystem, with checkpoints beside it.
    processes : int
        Subsystems built side by side, one thread each.
    fresh : bool
        Build all of it anew: neither the packaged set nor a file in the directory counts (checkpoints do).
    limits : Limits, optional
    progress : callable, optional
        Told (what, done, total).

    Returns
    -------
    ReferenceSet
        Spans all the chemical systems, as far as elements have any phase.
    """
    known = ReferenceSet(key=engine.reference_key) if fresh else load_reference(engine.reference_key, [directory])
    reference = known.model_copy(update={"settings": known.settings or engine.settings()})
    todo = reference.missing(chemical_systems)
    checkpoints = directory / "checkpoints"

    def finish(done: int, subsystem: Subsystem) -> None:
        nonlocal reference
        reference = reference.with_subsystems([subsystem])
        reference.save(directory)
        if progress:
            progress(f"{system_name(subsystem.elements)} done", done, len(todo))

    if processes == 1:
        for number, elements in enumerate(todo):
            part = build_subsystem(engine, elements, limits=limits, checkpoints=checkpoints, progress=progress)
            finish(number + 1, part)
        return reference
    with worker_pool(processes) as pool:
        futures = [
            pool.submit(build_subsystem, engine, elements, limits=limits, checkpoints=checkpoints) for elements in todo
        ]
        for number, future in enumerate(as_completed(futures)):
            finish(number + 1, future.result())
    return reference
