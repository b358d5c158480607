"""Reservation mode: one firework, one batch job, of just its size.

The firework is kept for its pilot in FireWorks' own way (``spec._fworker``), which every worker heeds, also plain
``rlaunch``. Its pilot takes it by its id. Whatever becomes of the pilot, a firework that it has not begun is free again
as soon as its record says that it has ended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from workflows.records import ACTIVE
from workflows.runtime.packing import needs
from workflows.runtime.planning import New, Plan
from workflows.runtime.queues import PINNED, demand_of
from workflows.runtime.repair import Repair

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymongo.database import Database

    from workflows.runtime.cluster import PilotKind
    from workflows.runtime.launchpad import CampaignLaunchPad
    from workflows.runtime.planning import Room

_WORK = {"_id": 0, "fw_id": 1, "spec._category": 1, "spec.nucleate.stage": 1, "spec.resources": 1}

OWN_GB = 0.5
"""GB that the pilot itself, and the worker that loads the task, take beside it."""


def sized(kind: PilotKind, spec: Mapping[str, Any]) -> PilotKind:
    """Give a kind of just the size that one firework needs; partition, account and the like are its kind's.

    Parameters
    ----------
    kind : PilotKind
    spec : mapping
        Of the firework.
    """
    try:
        taken = needs(kind, spec)
    except ValidationError:
        taken = kind.task  # as the pilot itself does
    a_node = max(1, kind.cores // kind.nodes)
    nodes = math.ceil(taken.cores / a_node) if kind.nodes > 1 else 1
    said = spec.get("resources") or {}
    return kind.model_copy(
        update={
            "cores": taken.cores,
            "nodes": nodes,
            "memory_gb": round(taken.memory_gb / nodes + OWN_GB, 3),
            "minutes": math.ceil(taken.minutes + kind.drain_s / 60),
            "partition": said.get("partition") or kind.partition,
            "gpus": kind.gpus if spec.get("_category") == "gpu" else 0,
        }
    )


MOST_IN_VAIN = 3
"""Jobs that may end without beginning the firework that they were submitted for."""
_CANCELLED = 105


@dataclass(frozen=True)
class Reserved:
    """A firework and the job for it."""

    fw_id: int
    name: str
    kind: PilotKind


def _in_vain(database: Database[Any], campaign: str) -> dict[int, list[str]]:
    """Tell, by firework, how the jobs ended that did not begin it, the newest last, if several did not.

    What somebody cancelled was not in vain.
    """
    fields = {"_id": 0, "pilot": 1, "fw_id": 1, "cause.evidence": 1, "reason": 1, "scheduler_state": 1}
    idle = {"campaign": campaign, "fw_id": {"$ne": None}, "state": "ended", "tasks": 0}
    idle["cause.code"] = {"$ne": _CANCELLED}
    ended: dict[int, list[dict[str, Any]]] = {}
    for pilot in database.pilots.find(idle, fields).sort([("submitted_at", 1), ("pilot", 1)]):
        ended.setdefault(pilot["fw_id"], []).append(pilot)
    found: dict[int, list[str]] = {}
    for fw_id, pilots in ended.items():
        if len(pilots) >= MOST_IN_VAIN:
            begun = {a["pilot"] for a in database.attempts.find({"fw_id": fw_id}, {"pilot": 1})}
            found[fw_id] = [_end_of(pilot) for pilot in pilots if pilot["pilot"] not in begun]
    return found


def _end_of(pilot: Mapping[str, Any]) -> str:
    return str((pilot.get("cause") or {}).get("evidence") or pilot["reason"] or pilot["scheduler_state"])


def plan_reservations(
    database: Database[Any], campaign: str, kinds: Mapping[str, PilotKind], room: Room, *, retry: bool = False
) -> tuple[Plan, list[Reserved]]:
    """Plan one job for each READY firework that has none yet, up to the limits.

    A firework for which several jobs were submitted in vain is not tried for ever.

    Parameters
    ----------
    database : pymongo.database.Database
    campaign : str
    kinds : mapping of str to PilotKind
    room : Room
        Counted down.
    retry : bool
        Try those again, too.
    """
    made, chosen = Plan(), []
    in_vain = {} if retry else _in_vain(database, campaign)
    ready = {"spec.nucleate.campaign": campaign, "state": "READY", PINNED: None}
    for fw in database.fireworks.find(ready, _WORK).sort("fw_id", 1):
        fw_id, spec = fw["fw_id"], fw["spec"]
        demand = demand_of(spec)
        shown = f"fw {fw_id} ({demand.stage})"
        fitting = {name: kind for name, kind in kinds.items() if demand.category in kind.categories}
        if not fitting:
            made.unfit[shown] = f"no kind of pilot takes category {demand.category}"
            continue
        if len(vain := in_vain.get(fw_id, [])) >= MOST_IN_VAIN:
            made.given_up[shown] = f"{len(vain)} jobs ended without beginning it, the last: {vain[-1]}"
            continue
        partition = demand.resources.get("partition")
        name = min(fitting, key=lambda n: (fitting[n].partition != partition, len(fitting[n].categories)))
        kind = sized(fitting[name], spec)
        minutes = room.minutes(kind)
        refusal = room.refusal(name, kind, minutes)
        if not refusal and minutes < kind.minutes:
            refusal = "what is left of the core-hours is too little for it"
        if refusal:
            made.held[shown] = refusal
            continue
        room.take(name, kind, kind.minutes)
        made.submit.append(New(name, kind.minutes))
        chosen.append(Reserved(fw_id, name, kind))
    return made, chosen


def pin(database: Database[Any], fw_id: int, pilot: str) -> bool:
    """Keep a READY firework for a pilot; false if somebody took it meanwhile."""
    free = {"fw_id": fw_id, "state": "READY", PINNED: None}
    return bool(database.fireworks.update_one(free, {"$set": {PINNED: pilot}}).modified_count)


def release(database: Database[Any], campaign: str | None = None) -> list[int]:
    """Free fireworks whose pilot has ended, was refused or is not known; gives those that were freed."""
    kept: dict[str, Any] = {PINNED: {"$nin": [None]}}
    if campaign is not None:
        kept["spec.nucleate.campaign"] = campaign
    held = {fw["fw_id"]: fw["spec"]["_fworker"] for fw in database.fireworks.find(kept, {"fw_id": 1, PINNED: 1})}
    if not held:
        return []
    names = sorted(set(held.values()))
    ours = {pilot["pilot"]: pilot["state"] for pilot in database.pilots.find({"pilot": {"$in": names}})}
    freed = []
    for fw_id, name in held.items():
        # what others keep for workers of their own is none of our business
        if name in ours and ours[name] not in ACTIVE:
            database.fireworks.update_one({"fw_id": fw_id, PINNED: name}, {"$unset": {PINNED: ""}})
            freed.append(fw_id)
    return freed


def repair_reservations(launchpad: CampaignLaunchPad) -> Sequence[Repair]:
    """Free what is kept for pilots that have ended; a hook of :class:`workflows.runtime.repair.Repairer`."""
    freed = release(launchpad.db)
    return [Repair("unlaunched", fw_id, "its pilot ended without beginning it: free for any again") for fw_id in freed]
