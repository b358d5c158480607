"""Evaluate generators on the same condition, samples, sieve, relaxer and hull; killed at any moment, it goes on.

Everything costly is kept in a folder as it comes (:class:`generators.evaluation.store.Store`): samples, relaxations,
single points. A second call with the same folder draws and relaxes nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from generators.evaluation.hull import Hull, Reach, build_hull
from generators.evaluation.judge import Judged, measure, place, sieve, take_in
from generators.evaluation.known import familiar
from generators.evaluation.metrics import (
    Row,
    costs_of,
    means_of,
    recovered,
    shares_of,
    spacegroups_of,
    training_minutes,
)
from generators.evaluation.opinion import Opinion, Second, second_opinion
from generators.evaluation.samples import digest_of, draw
from generators.evaluation.store import Protocol, Store, relaxations

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pymatgen.core import Structure

    from generators.base import Condition, Generator
    from generators.data.dataset import Dataset
    from generators.evaluation.known import Familiar

CUT_EV_PER_ATOM = 0.1


class Contender(NamedTuple):
    """A generator under the name that people know it by."""

    label: str
    generator: Generator


class Told(NamedTuple):
    """Where an evaluation stands: what it does, for whom, and how far that is."""

    step: str
    who: str
    done: int
    of: int


@dataclass(frozen=True)
class Task:
    """What every generator is asked, and how the answers are judged.

    Parameters
    ----------
    condition : Condition
    n : int
        Samples a seed.
    seeds : tuple of int
    cut_ev_per_atom : float
        Distance to the hull within which a crystal is called stable.
    protocol : Protocol
    reach : Reach or None
        Competitors of the hull; by default in cells as large as the condition allows, at least of 8 atoms.
    known : Familiar or None
        What is not novel; by default the library and ``training``.
    training : Dataset or None
        Training set: not novel, and its crystals compete.
    held_out : Dataset or None
        A part that no generator was trained on; its prototypes may come back.
    more_known : tuple of (str, Structure)
        Crystals from elsewhere (the literature): not novel, and they compete.
    hull : Hull or None
        To judge by a hull that was built before; by default one is built from the samples of all contenders.
    """

    condition: Condition
    n: int
    seeds: tuple[int, ...] = (0,)
    cut_ev_per_atom: float = CUT_EV_PER_ATOM
    protocol: Protocol = field(default_factory=Protocol)
    reach: Reach | None = None
    known: Familiar | None = None
    training: Dataset | None = None
    held_out: Dataset | None = None
    more_known: tuple[tuple[str, Structure], ...] = ()
    hull: Hull | None = None

    def __post_init__(self) -> None:
        if self.n < 1 or not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError("an evaluation needs at least one sample and at least one seed, each seed once")


class Evaluation(NamedTuple):
    """Rows in the order of the contenders, opinions by label, the hull and what was known."""

    rows: list[Row]
    opinions: dict[str, Opinion]
    hull: Hull
    known: str
    structures: dict[str, list[Judged]]


@dataclass
class _Standing:
    """What is collected of one contender."""

    contender: Contender
    digest: str
    judged: list[Judged] = field(default_factory=list)
    walls: list[float] = field(default_factory=list)
    start_s: float | None = None
    sampling_cpu_s: float = 0.0
    sieve_cpu_s: float = 0.0
    error: str | None = None


def evaluate(
    contenders: Sequence[Contender],
    task: Task,
    store: Store,
    *,
    second: Second | None = None,
    told: Callable[[Told], None] | None = None,
) -> Evaluation:
    """Draw, sieve, relax, judge.

    Every valid sample is relaxed, duplicates and known crystals too: shares are of samples, and novelty counts after
    relaxation. A generator that can't meet the condition gets a row that says so.

    Parameters
    ----------
    contenders : sequence of Contender
        Labels must differ.
    task : Task
    store : Store
    second : Second, optional
        Asked about what is called stable.
    told : callable, optional

    Raises
    ------
    ValueError
        If labels are not unique.
    """
    if len({c.label for c in contenders}) != len(contenders):
        raise ValueError(f"two generators have one label: {', '.join(sorted(c.label for c in contenders))}")
    tell = told or (lambda _: None)
    standings = [_sample(contender, task, store, tell) for contender in contenders]
    for standing in standings:
        _relax(standing, task, store, tell)
    hull = task.hull or _hull(standings, task, store, tell)
    datasets = [task.training] if task.training is not None else []
    known = task.known or familiar(datasets, task.more_known, hull.ground_states())
    rows: list[Row] = []
    opinions: dict[str, Opinion] = {}
    for standing in standings:
        label = standing.contender.label
        tell(Told("judge", label, len(rows), len(standings)))
        rows.append(_row(standing, task, store, known, hull))
        if second is not None and standing.error is None:
            tell(Told("second opinion", label, len(opinions), len(standings)))
            opinions[label] = second_opinion(standing.judged, hull, second, store, task.cut_ev_per_atom)
    return Evaluation(rows, opinions, hull, known.name, {s.contender.label: s.judged for s in standings})


def held_out_prototypes(task: Task) -> frozenset[str]:
    """Keys of held-out prototypes that a sample could have: as many atoms and elements as the condition allows."""
    if task.held_out is None:
        return frozenset()
    condition = task.condition
    trained = {entry.prototype for entry in task.training.entries} if task.training is not None else set()
    held = {
        entry.prototype
        for entry in task.held_out.entries
        if len(entry.structure) <= condition.max_atoms
        and condition.min_elements <= len(entry.structure.composition.elements) <= condition.max_elements
    }
    return frozenset(held - trained)


def _sample(contender: Contender, task: Task, store: Store, tell: Callable[[Told], None]) -> _Standing:
    standing = _Standing(contender, digest_of(contender.generator))

    def drew(done: int, of: int) -> None:
        tell(Told("sample", contender.label, done, of))

    for seed in task.seeds:
        try:
            stream = draw(contender.generator, task.n, task.condition, seed, store, standing.digest, drew)
        except (ValueError, RuntimeError) as error:  # it can't meet the condition; the others go on
            standing.error = str(error)
            break
        standing.walls += [d.wall_s for d in stream.drawn]
        standing.sampling_cpu_s += sum(d.cpu_s for d in stream.drawn)
        if standing.start_s is None:  # of the first seed: libraries are loaded for the next
            standing.start_s = stream.start_s
        begin = time.process_time()
        standing.judged += sieve(stream.drawn, seed, task.condition)
        standing.sieve_cpu_s += time.process_time() - begin
    return standing


def _relax(standing: _Standing, task: Task, store: Store, tell: Callable[[Told], None]) -> None:
    valid = [j for j in standing.judged if j.valid]

    def relaxed(done: int, of: int) -> None:
        tell(Told("relax", standing.contender.label, done, of))

    outcomes = relaxations([j.structure for j in valid], store, task.protocol, relaxed)
    for judged, outcome in zip(valid, outcomes, strict=True):
        take_in(judged, outcome)


def _hull(standings: Sequence[_Standing], task: Task, store: Store, tell: Callable[[Told], None]) -> Hull:
    structures = [j.relaxed for s in standings for j in s.judged if j.relaxed is not None]
    more: list[tuple[str, Structure]] = list(task.more_known)
    for dataset in (task.training, task.held_out):
        if dataset is not None:
            more += [(entry.label, entry.structure) for entry in dataset.entries]
    return build_hull(
        [s.composition for s in structures],
        store,
        task.protocol,
        more=more,
        reach=task.reach or Reach(atoms=max(8, task.condition.max_atoms)),
        told=lambda done, of: tell(Told("competitors", "the hull", done, of)),
    )


def _row(standing: _Standing, task: Task, store: Store, known: Familiar, hull: Hull) -> Row:
    contender, judged = standing.contender, standing.judged
    asked = task.n * len(task.seeds)
    head: dict[str, Any] = {
        "label": contender.label,
        "name": contender.generator.name,
        "version": contender.generator.version,
        "digest": standing.digest,
        "asked": asked,
        "seeds": task.seeds,
    }
    if standing.error is not None:
        return Row(**head, error=standing.error)
    for seed in task.seeds:
        place([j for j in judged if j.seed == seed], known, hull)
    measure(judged, task.condition, task.cut_ev_per_atom, store, task.protocol)
    shares = shares_of(judged, task.n, task.seeds, task.condition, task.cut_ev_per_atom)
    return Row(
        **head,
        shares=shares,
        means=means_of(judged),
        costs=costs_of(
            judged,
            standing.walls,
            standing.start_s,
            standing.sampling_cpu_s,
            standing.sieve_cpu_s,
            shares["sun"],
            training_minutes(contender.generator),
        ),
        held_out=recovered(judged, held_out_prototypes(task)) if task.held_out is not None else None,
        spacegroups=spacegroups_of(judged),
        samples=[j.as_dict() for j in judged],
    )
