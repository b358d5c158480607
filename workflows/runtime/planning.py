"""How many pilots there should be: from the work that is there, what the jobs in the queue will take, and the limits.

Everything here is a function of its arguments: no database, no scheduler, no clock.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from workflows.runtime.packing import GPU, LEAST_TRY_S, needs, resources

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from workflows.runtime.cluster import Limits, PilotKind

WORTHWHILE_MINUTES = 5.0
"""Work that each core of a new job should find, min, where tasks are short: a job takes time to begin and to end."""

_ROUNDING = 1e-9


@dataclass(frozen=True)
class Demand:
    """Fireworks that take the same and may run in the same jobs.

    Parameters
    ----------
    category : str or None
        ``_category``.
    stage : str or None
    resources : dict
        ``spec.resources``.
    count : int
    """

    category: str | None
    stage: str | None
    resources: dict[str, Any]
    count: int

    @property
    def shown(self) -> str:
        """What messages call them."""
        said = ", ".join(f"{name} {value}" for name, value in sorted(self.resources.items()) if name != "resumable")
        return f"{self.count} {self.stage or 'other'} ({self.category or 'no category'}{f'; {said}' if said else ''})"


@dataclass(frozen=True)
class Berth:
    """A job in the queue as the plan sees it.

    Parameters
    ----------
    pilot : str
    kind : PilotKind or None
        ``None`` if the cluster file knows its kind no more: it takes up room, and nothing is expected of it.
    queued : bool
    minutes : float
        Of its wall-time that are left.
    busy : tuple of Demand
        What it runs.
    """

    pilot: str
    kind: PilotKind | None
    queued: bool
    minutes: float
    busy: tuple[Demand, ...] = ()


@dataclass
class Room:
    """What may be submitted at most.

    Parameters
    ----------
    jobs, cores : int or None
        On the cluster; ``None``: not limited.
    core_hours : float or None
        Of the campaign, with all that jobs in the queue may still take set aside.
    kinds : dict of str to int
        Jobs by kind.
    """

    jobs: int | None = None
    cores: int | None = None
    core_hours: float | None = None
    kinds: dict[str, int] = field(default_factory=dict)

    @classmethod
    def within(
        cls,
        limits: Limits,
        kinds: Mapping[str, PilotKind],
        *,
        jobs: Mapping[str, int],
        cores: int,
        core_hours: float | None,
    ) -> Room:
        """Give what a cluster's limits leave.

        Parameters
        ----------
        limits : Limits
        kinds : mapping of str to PilotKind
        jobs : mapping of str to int
            Jobs in the queue by kind, of all campaigns, those of kinds that are gone included.
        cores : int
            Theirs.
        core_hours : float or None
        """
        return cls(
            jobs=None if limits.jobs is None else limits.jobs - sum(jobs.values()),
            cores=None if limits.cores is None else limits.cores - cores,
            core_hours=core_hours,
            kinds={name: kind.max_jobs - jobs.get(name, 0) for name, kind in kinds.items()},
        )

    def refusal(self, name: str, kind: PilotKind, minutes: int) -> str:
        """Say what stands against one more job; empty if nothing does."""
        if self.kinds[name] < 1:
            return f"all jobs of kind {name} are in the queue (max_jobs {kind.max_jobs})"
        if self.jobs is not None and self.jobs < 1:
            return "the cluster's limit of jobs is reached (limits.jobs)"
        if self.cores is not None and self.cores < kind.cores:
            return "the cluster's limit of cores is reached (limits.cores)"
        if minutes < 1:
            return "the core-hours are spent, or promised to jobs in the queue"
        return ""

    def minutes(self, kind: PilotKind) -> int:
        """Give the wall-time that a job may have: that of its kind, or what the core-hours allow."""
        if self.core_hours is None:
            return kind.minutes
        return min(kind.minutes, math.floor(max(0.0, self.core_hours) * 60 / kind.cores + _ROUNDING))

    def take(self, name: str, kind: PilotKind, minutes: int) -> None:
        """Count one more job."""
        self.kinds[name] -= 1
        self.jobs = None if self.jobs is None else self.jobs - 1
        self.cores = None if self.cores is None else self.cores - kind.cores
        self.core_hours = None if self.core_hours is None else self.core_hours - kind.cores * minutes / 60


@dataclass(frozen=True)
class New:
    """A job to submit.

    Parameters
    ----------
    kind : str
    minutes : int
        Wall-time: that of its kind, or less where core-hours run out.
    """

    kind: str
    minutes: int


@dataclass
class Plan:
    """What to submit and what to cancel.

    Parameters
    ----------
    submit : list of New
    surplus : list of str
        Queued pilots for which there is no work.
    held : dict of str to str
        Work that waits for room: what, and for which limit.
    unfit : dict of str to str
        Work that no kind of pilot of any cluster takes: what, and why.
    given_up : dict of str to str
        Work for which jobs were submitted often enough, and what became of the last.
    """

    submit: list[New] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)
    unfit: dict[str, str] = field(default_factory=dict)
    given_up: dict[str, str] = field(default_factory=dict)


def tasks_in(kind: PilotKind, demand: Demand, minutes: float | None = None) -> int:
    """Tell how many such tasks one job is worth: side by side, and one after another where they are short.

    Parameters
    ----------
    kind : PilotKind
    demand : Demand
    minutes : float, optional
        Wall-time that is left; default: all of it.

    Returns
    -------
    int
        0 if the job can't take any.

    Examples
    --------
    >>> from workflows.runtime.cluster import Needs, PilotKind
    >>> kind = PilotKind(categories=("cpu",), cores=4, memory_gb=8, task=Needs(cores=1, memory_gb=2.0, minutes=30))
    >>> tasks_in(kind, Demand("cpu", "relax", {}, 10)), tasks_in(kind, Demand("cpu", "relax", {"minutes": 1}, 10))
    (4, 20)
    """
    return min(_worth(kind, demand, minutes))


def _worth(kind: PilotKind, demand: Demand, minutes: float | None = None) -> tuple[int, int]:
    """Tell the same by cores and memory, and by GPUs."""
    if demand.category not in kind.categories:
        return 0, 0
    if demand.resources.get("partition") not in {None, kind.partition}:
        return 0, 0
    spec = {"nucleate": {"stage": demand.stage}, "resources": demand.resources}
    try:
        taken = needs(kind, spec)
    except ValidationError:
        taken = kind.task  # as the pilot itself does
    usable = (kind.minutes if minutes is None else minutes) - kind.drain_s / 60
    least = min(taken.minutes, LEAST_TRY_S / 60) if demand.resources.get("resumable") else taken.minutes
    if usable < least - _ROUNDING:
        return 0, 0
    here = max(1, kind.cores // kind.nodes)
    if taken.cores > here:
        alone = int(taken.cores <= kind.cores and taken.memory_gb <= kind.memory_gb * kind.nodes + _ROUNDING)
        return alone, alone
    beside = min(here // taken.cores, math.floor(kind.memory_gb / taken.memory_gb + _ROUNDING))
    gpus = kind.gpus if demand.category == GPU and kind.gpus else beside
    after = max(1, math.floor(min(WORTHWHILE_MINUTES, usable) / taken.minutes + _ROUNDING))
    return beside * after, gpus * after


@dataclass
class _Free:
    """What is free of a job, as shares of the whole."""

    kind: PilotKind
    minutes: float
    room: float = 1.0
    gpus: float = 1.0

    def take(self, demand: Demand, most: int) -> int:
        """Take tasks aboard, as many as fit."""
        by_room, by_gpus = _worth(self.kind, demand, self.minutes)
        fits = min(math.floor(free * n + _ROUNDING) for free, n in ((self.room, by_room), (self.gpus, by_gpus)))
        number = max(0, min(most, fits))
        self._hold(demand, number, by_room, by_gpus)
        return number

    def hold(self, demand: Demand) -> None:
        """Set aside what running tasks take."""
        self._hold(demand, demand.count, *_worth(self.kind, demand))

    def _hold(self, demand: Demand, number: int, by_room: int, by_gpus: int) -> None:
        self.room -= number / max(1, by_room)
        if demand.category == GPU and self.kind.gpus:
            self.gpus -= number / max(1, by_gpus)


def plan(
    demands: Sequence[Demand],
    berths: Sequence[Berth],
    kinds: Mapping[str, PilotKind],
    room: Room,
    *,
    elsewhere: Sequence[PilotKind] = (),
    later: int = 0,
) -> Plan:
    """Plan a turn: no more jobs than there is work, never above a limit.

    Parameters
    ----------
    demands : sequence of Demand
        READY work of the campaign.
    berths : sequence of Berth
        Its jobs in the queues of all clusters, oldest first.
    kinds : mapping of str to PilotKind
        Those of this cluster that may be submitted now.
    room : Room
        Counted down.
    elsewhere : sequence of PilotKind
        Other kinds that there are; work that they take is not unfit.
    later : int
        Fireworks that wait or run: work may come of them, so as many queued jobs are kept.
    """
    made = Plan()
    left = {index: demand.count for index, demand in enumerate(demands)}
    # what few kinds can take is placed first, what goes anywhere fills the rest
    every = [*kinds.values(), *elsewhere]
    order = sorted(left, key=lambda i: (sum(tasks_in(kind, demands[i]) > 0 for kind in every), i))
    spare = later
    for berth in sorted(berths, key=lambda b: b.queued):
        if berth.kind is None:
            continue
        free = _Free(berth.kind, berth.minutes)
        for running in berth.busy:
            free.hold(running)
        if _board(free, demands, left, order) or not berth.queued:
            continue
        if spare > 0:
            spare -= 1
        else:
            made.surplus.append(berth.pilot)
    opened: list[_Free] = []
    for index in order:
        demand = demands[index]
        for job in opened:
            left[index] -= job.take(demand, left[index])
        while left[index] > 0:
            chosen, why = _choose(demand, kinds, room)
            if chosen is None:
                if why:
                    made.held[demand.shown] = why
                elif not any(tasks_in(kind, demand) for kind in every):
                    made.unfit[demand.shown] = reason_unfit(demand, every)
                break
            kind, minutes = kinds[chosen], room.minutes(kinds[chosen])
            room.take(chosen, kind, minutes)
            made.submit.append(New(chosen, minutes))
            opened.append(_Free(kind, minutes))
            left[index] -= opened[-1].take(demand, left[index])
    return made


def _board(free: _Free, demands: Sequence[Demand], left: dict[int, int], order: Sequence[int]) -> int:
    """Let a job take what it will, and tell how many tasks that is."""
    taken = 0
    for index in order:
        number = free.take(demands[index], left[index])
        left[index] -= number
        taken += number
    return taken


def _choose(demand: Demand, kinds: Mapping[str, PilotKind], room: Room) -> tuple[str | None, str]:
    """Choose the kind for work: the one made for it first; or say which limit stands against the last that fits."""
    why = ""
    special = sorted(
        kinds, key=lambda name: (demand.category != GPU and kinds[name].gpus > 0, len(kinds[name].categories))
    )
    for name in special:
        kind = kinds[name]
        if not tasks_in(kind, demand):
            continue
        minutes = room.minutes(kind)
        refusal = room.refusal(name, kind, minutes)
        if not refusal and not tasks_in(kind, demand, minutes):
            refusal = "what is left of the core-hours is too little for one of them"
        if not refusal:
            return name, ""
        why = why or refusal
    return None, why


def reason_unfit(demand: Demand, kinds: Sequence[PilotKind]) -> str:
    """Say why no kind of pilot takes some work."""
    takers = [kind for kind in kinds if demand.category in kind.categories]
    if not takers:
        return f"no kind of pilot takes category {demand.category}"
    partition = demand.resources.get("partition")
    if partition is not None and all(kind.partition != partition for kind in takers):
        return f"no kind of pilot is in partition {partition}"
    said = resources({"resources": demand.resources})
    asks = {name: said.get(name) for name in ("cores", "memory_gb", "minutes") if said.get(name) is not None}
    asked = ", ".join(f"{name} {value:g}" for name, value in asks.items()) or "what its stage needs"
    return f"no kind of pilot has room or time for it ({asked}); `nucleate submit --reserve` sizes a job for each"
