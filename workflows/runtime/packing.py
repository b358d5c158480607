"""Which tasks a pilot may begin: what each takes, and the query that finds those for which there is room and time.

What a firework says of itself (``spec.resources``) goes before what the pilot's kind says of its stage, and that before
what the kind says of all tasks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workflows.runtime.cluster import Needs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from workflows.runtime.capacity import Books, Capacity, Ledger
    from workflows.runtime.cluster import PilotKind

GPU = "gpu"
"""Category of tasks that take a GPU, in a pilot that has any."""
LIGHT = "light"
"""Category of tasks that only read and write records."""

LEAST_TRY_S = 90.0
"""s that must be left for a task that can go on elsewhere to be begun, unless it takes less."""

Query = dict[str, Any]


@dataclass(frozen=True)
class Room:
    """What there is for a task.

    Parameters
    ----------
    cores : int
        On one node.
    memory_gb : float
        On that node.
    all_cores : int
        More than ``cores`` where a task may have several nodes to itself.
    all_memory_gb : float
        The same of memory.
    """

    cores: int
    memory_gb: float
    all_cores: int = 0
    all_memory_gb: float = 0.0

    @classmethod
    def of_empty(cls, capacity: Capacity) -> Room:
        """Give what a job has before it has begun anything."""
        whole = capacity.memory_gb * capacity.nodes
        return cls(len(capacity.cores), capacity.memory_gb, capacity.widest, whole)

    @classmethod
    def left(cls, ledger: Ledger, books: Books) -> Room:
        """Give what a job has left."""
        if not books.grants:
            return cls.of_empty(ledger.capacity)
        return cls(len(ledger.free_cores(books)), ledger.free_memory_gb(books))


def resources(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a firework says of itself; ``None`` says nothing."""
    return {name: value for name, value in (spec.get("resources") or {}).items() if value is not None}


def needs(kind: PilotKind, spec: Mapping[str, Any]) -> Needs:
    """Tell what a firework takes.

    Parameters
    ----------
    kind : PilotKind
    spec : mapping
        Of the firework.

    Raises
    ------
    pydantic.ValidationError
        If the firework says something of itself that can't be.

    Examples
    --------
    >>> from workflows.runtime.cluster import PilotKind
    >>> kind = PilotKind(categories=("cpu",), stages={"relax": Needs(cores=4)})
    >>> needs(kind, {"nucleate": {"stage": "relax"}, "resources": {"memory_gb": 6.0}})
    Needs(cores=4, memory_gb=6.0, minutes=10.0)
    """
    stage = (spec.get("nucleate") or {}).get("stage")
    default = kind.stages.get(stage, kind.task) if stage else kind.task
    said = resources(spec)
    return Needs(**{**default.model_dump(), **{name: said[name] for name in Needs.model_fields if name in said}})


def fitting(kind: PilotKind, room: Room, seconds: float | None = None, partition: str | None = None) -> Query:
    """Select fireworks that find room, and time to end.

    One that can go on elsewhere needs time for a fair beginning only.

    Parameters
    ----------
    kind : PilotKind
    room : Room
    seconds : float, optional
        s in which a task must have ended; ``None``: no limit.
    partition : str, optional
        Where the pilot runs: a firework that asks for another one is passed over.
    """
    branches: list[Query] = []
    for stage, default in kind.stages.items():
        branches.append({"$and": [{"spec.nucleate.stage": stage}, *_fits(default, room, seconds)]})
    others: Query = {"spec.nucleate.stage": {"$nin": list(kind.stages)}} if kind.stages else {}
    branches.append({"$and": [others, *_fits(kind.task, room, seconds)]})
    where = [None] if partition is None else [None, partition]
    return {"$and": [{"$or": branches}, {"spec.resources.partition": {"$in": where}}]}


def suiting(kind: PilotKind, capacity: Capacity, partition: str | None = None, seconds: float | None = None) -> Query:
    """Select fireworks of its categories that an empty pilot of a kind could run.

    Parameters
    ----------
    kind : PilotKind
    capacity : Capacity
    partition : str, optional
        Where the pilot runs.
    seconds : float, optional
        s that are left to it; a new one's if not given.
    """
    left = 60.0 * kind.minutes - kind.drain_s if seconds is None else seconds
    query = fitting(kind, Room.of_empty(capacity), left, partition)
    return {"spec._category": {"$in": list(kind.categories)}, **query}


def _fits(default: Needs, room: Room, seconds: float | None) -> list[Query]:
    """Give the conditions on a firework that says nothing of itself but takes ``default``."""
    here: Query = {
        "$and": [
            _at_most("cores", room.cores, default.cores),
            _at_most("memory_gb", room.memory_gb, default.memory_gb),
        ]
    }
    conditions = [here]
    if room.all_cores > room.cores:
        over_all: list[Query] = [
            _at_most("cores", room.all_cores, default.cores),
            # what fits one node gets one node's memory
            {"$nor": [_at_most("cores", room.cores, default.cores)]},
            _at_most("memory_gb", room.all_memory_gb, default.memory_gb),
        ]
        conditions = [{"$or": [here, {"$and": over_all}]}]
    if seconds is not None:
        in_time = _at_most("minutes", seconds / 60.0, default.minutes)
        fair_s = min(LEAST_TRY_S, 60.0 * default.minutes)
        goes_on: list[Query] = [{"spec.resources.resumable": True}] if seconds >= fair_s else []
        conditions.append({"$or": [in_time, *goes_on]})
    return conditions


def _at_most(name: str, limit: float, default: float) -> Query:
    field = f"spec.resources.{name}"
    said = {field: {"$lte": limit}}
    return {"$or": [said, {field: None}]} if default <= limit else said
