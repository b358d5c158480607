"""What a plan is made of, read from the database: work that is there, jobs in the queues, and what may be spent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workflows import nodes
from workflows.records import ACTIVE, now
from workflows.runtime.accounting import core_hours
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CLAIMED_BY
from workflows.runtime.planning import Berth, Demand, Room

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.database import Database

    from workflows.runtime.cluster import Cluster, ClusterFile, PilotKind

PINNED = "spec._fworker"
"""FireWorks' own way to keep a firework for one worker: the pilot that a firework is reserved for."""

_WORK = {
    "_id": 0,
    "fw_id": 1,
    "spec._category": 1,
    "spec.nucleate.stage": 1,
    "spec.resources": 1,
    CLAIMED_BY: 1,
    "launches": 1,
}
_ENDED = {
    "_id": 0, "cluster": 1, "node": 1, "host": 1, "state": 1, "reason": 1, "cause": 1, "tasks": 1, "started_at": 1,
    "ended_at": 1,
}  # fmt: skip


@dataclass
class Queues:
    """The state of a campaign's queues.

    Parameters
    ----------
    demands : list of Demand
        READY work that no pilot is reserved for.
    later : int
        Fireworks that wait, or run.
    running : int
        Those of them that run, or are about to.
    pilots : list of dict
        Records of the campaign's pilots that have not ended, oldest first.
    berths : list of Berth
        Theirs.
    """

    demands: list[Demand] = field(default_factory=list)
    later: int = 0
    running: int = 0
    pilots: list[dict[str, Any]] = field(default_factory=list)
    berths: list[Berth] = field(default_factory=list)

    @property
    def ready(self) -> int:
        """How many fireworks are READY."""
        return sum(demand.count for demand in self.demands)


def read_queues(database: Database[Any], campaign: str, clusters: ClusterFile) -> Queues:
    """Read a campaign's queues."""
    pilots = list(
        database.pilots.find({"campaign": campaign, "state": {"$in": list(ACTIVE)}}, {"_id": 0}).sort(
            [("submitted_at", 1), ("pilot", 1)]
        )
    )
    busy = _busy(database, campaign, pilots)

    def count(*states: str) -> int:
        return database.fireworks.count_documents({"spec.nucleate.campaign": campaign, "state": {"$in": states}})

    demands = ready_work(database, campaign)  # first: what is taken meanwhile then counts twice, and never not at all
    running = count("RESERVED", "RUNNING")
    return Queues(
        demands=demands,
        later=count("WAITING") + running,
        running=running,
        pilots=pilots,
        berths=[_berth(record, clusters, busy.get(record["pilot"], [])) for record in pilots],
    )


def ready_work(database: Database[Any], campaign: str) -> list[Demand]:
    """Count READY work by what it takes."""
    kinds = {"category": "$spec._category", "stage": "$spec.nucleate.stage", "resources": "$spec.resources"}
    rows = database.fireworks.aggregate(
        [
            {"$match": {"spec.nucleate.campaign": campaign, "state": "READY", PINNED: None}},
            {"$group": {"_id": kinds, "count": {"$sum": 1}, "first": {"$min": "$fw_id"}}},
        ]
    )
    return [
        Demand(row["_id"].get("category"), row["_id"].get("stage"), row["_id"].get("resources") or {}, row["count"])
        for row in sorted(rows, key=lambda row: row["first"])
    ]


def _busy(database: Database[Any], campaign: str, pilots: list[dict[str, Any]]) -> dict[str, list[Demand]]:
    """Tell what each pilot runs, by the names that their workers sign with."""
    by_job = {(record["cluster"], record["job_id"]): record["pilot"] for record in pilots if record["job_id"]}
    held = {"spec.nucleate.campaign": campaign, "state": {"$in": ["RESERVED", "RUNNING"]}}
    fireworks = list(database.fireworks.find(held, _WORK)) if by_job else []
    last = {fw["launches"][-1]: fw["fw_id"] for fw in fireworks if fw["launches"]}
    launches = database.launches.find({"launch_id": {"$in": list(last)}}, {"launch_id": 1, "fworker.name": 1})
    signed = {last[launch["launch_id"]]: launch["fworker"]["name"] for launch in launches} if last else {}
    found: dict[str, list[Demand]] = {}
    for fw in fireworks:
        process = ProcessName.parse(fw.get(CLAIMED_BY) or signed.get(fw["fw_id"]))
        pilot = by_job.get((process.job.cluster, process.job.job_id)) if process and process.job else None
        if pilot is not None:
            found.setdefault(pilot, []).append(demand_of(fw["spec"]))
    return found


def demand_of(spec: Mapping[str, Any]) -> Demand:
    """Give what one firework takes."""
    return Demand(
        spec.get("_category"), (spec.get("nucleate") or {}).get("stage"), dict(spec.get("resources") or {}), 1
    )


def _berth(record: dict[str, Any], clusters: ClusterFile, busy: list[Demand]) -> Berth:
    cluster = clusters.clusters.get(record["cluster"])
    kind = cluster.pilots.get(record["kind"]) if cluster is not None and record["fw_id"] is None else None
    return Berth(record["pilot"], kind, record["state"] != "running", minutes_left(record), tuple(busy))


def minutes_left(record: Mapping[str, Any]) -> float:
    """Give what is left of a job's wall-time, min.

    By the clock of this host and that of whoever wrote when it began: where they differ, a plan is a little off, and
    nothing else.
    """
    if record["state"] != "running" or record["started_at"] is None:
        return float(record["minutes"])
    elapsed = now().replace(tzinfo=None) - record["started_at"].replace(tzinfo=None)
    whole = float(record["minutes"])
    return min(whole, max(0.0, whole - float(elapsed.total_seconds()) / 60))


@dataclass(frozen=True)
class Spending:
    """What a campaign has spent and may spend, core-hours.

    Parameters
    ----------
    spent : dict of str to float
        By cluster, see :func:`workflows.runtime.accounting.core_hours`.
    budget : float or None
        ``budget.hours`` of the campaign.
    left : float or None
        For new jobs on one cluster, with all that jobs in the queues may still take set aside; ``None``: no limit.
    """

    spent: dict[str, float]
    budget: float | None
    left: float | None

    @property
    def is_over(self) -> bool:
        """Whether the campaign's whole budget is spent."""
        return self.budget is not None and sum(self.spent.values()) >= self.budget


def spending(
    database: Database[Any], campaign: str, name: str, cluster: Cluster, pilots: list[dict[str, Any]]
) -> Spending:
    """Reckon what may be spent on a cluster.

    Parameters
    ----------
    database : pymongo.database.Database
    campaign : str
    name : str
        The cluster's.
    cluster : Cluster
    pilots : list of dict
        Records of the campaign's pilots that have not ended.
    """
    spent = core_hours(database, campaign)
    document = database.campaigns.find_one({"name": campaign}, {"spec.budget": 1}) or {}
    budget = (document.get("spec", {}).get("budget") or {}).get("hours")

    def promised(records: list[dict[str, Any]]) -> float:
        return sum(float(record["cores"] * minutes_left(record) / 60) for record in records)

    left = []
    if budget is not None:
        left.append(budget - sum(spent.values()) - promised(pilots))
    if cluster.limits.core_hours is not None:
        here = [record for record in pilots if record["cluster"] == name]
        left.append(cluster.limits.core_hours - spent.get(name, 0.0) - promised(here))
    return Spending(spent, budget, min(left) if left else None)


def room_on(
    database: Database[Any], name: str, cluster: Cluster, kinds: Mapping[str, PilotKind], left: float | None
) -> Room:
    """Give what a cluster's limits leave, beside the jobs of all campaigns of this store."""
    active = list(
        database.pilots.find({"cluster": name, "state": {"$in": list(ACTIVE)}}, {"_id": 0, "kind": 1, "cores": 1})
    )
    jobs: dict[str, int] = {}
    for record in active:
        jobs[record["kind"]] = jobs.get(record["kind"], 0) + 1
    cores = sum(record["cores"] for record in active)
    return Room.within(cluster.limits, kinds, jobs=jobs, cores=cores, core_hours=left)


def bad_nodes(database: Database[Any], name: str) -> tuple[str, ...]:
    """List nodes of a cluster on which a pilot has given up lately because everything failed."""
    given_up = nodes.bad_nodes(database.pilots.find({"cluster": name, "reason": nodes.BAD_STATE}, _ENDED)).values()
    if not given_up:
        return ()
    first = min(record["ended_at"] for record in given_up)
    since = database.pilots.find({"cluster": name, "state": "ended", "started_at": {"$gte": first}}, _ENDED)
    return tuple(sorted(node for _, node in nodes.bad_nodes([*given_up, *since])))


def trust_nodes(database: Database[Any], name: str) -> None:
    """Use the bad nodes of a cluster again: somebody says that they are mended."""
    bad = {"cluster": name, "reason": nodes.BAD_STATE}
    database.pilots.update_many(bad, {"$set": {"reason": f"{nodes.BAD_STATE}, tried again since"}})
