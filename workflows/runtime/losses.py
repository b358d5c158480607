"""How often a task that is lost again and again, result and all, may run again before it counts as failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pymongo import DESCENDING

from workflows.causes import CAUSES
from workflows.runtime.attempts import MAX_INTERRUPTIONS

if TYPE_CHECKING:
    from pymongo.database import Database

MAX_LOSSES = 5
"""How often in a row a candidate's task may be lost to wall-time, a failing node or a kill without getting anywhere."""

OUT_OF_MEMORY = 102
_SUSPECT = frozenset({101, 103, 106})
"""What a task may bring about itself; whoever is preempted or cancelled has done nothing."""


def why_not_again(database: Database[Any], fw_id: int, launch_id: int, code: int, *, alone: bool) -> str | None:
    """Tell why a lost launch is the last one of its firework; ``None`` if it may run again.

    Out of memory it would run out again; of several tasks in one job, though, nobody knows which one took it all, and
    each gets a second try. A loss counts against nobody whom an earlier one has since brought a new geometry, and none
    counts that came before a failure which somebody has re-run. Jobs of a round store what they have as they go.

    Parameters
    ----------
    database : pymongo.database.Database
    fw_id, launch_id : int
        The launch that was lost.
    code : int
        Its cause.
    alone : bool
        Whether it was the only one that its batch job was running.
    """
    firework = database.fireworks.find_one({"fw_id": fw_id}, {"spec.nucleate": 1, "archived_launches": 1}) or {}
    block = firework.get("spec", {}).get("nucleate") or {}
    lost = _killed_before(database, fw_id, launch_id, firework.get("archived_launches", []))
    codes = [code, *lost]
    if code == OUT_OF_MEMORY and (alone or OUT_OF_MEMORY in lost):
        return "with the same memory it would run out of it again"
    if len(codes) >= MAX_INTERRUPTIONS:
        return f"it was lost {len(codes)} times"
    suspect = [c for c in codes if c in _SUSPECT]
    if code in _SUSPECT and len(suspect) >= MAX_LOSSES and not (block and block.get("candidate") is None):
        names = ", ".join(sorted({CAUSES[c].name for c in suspect}))
        return f"it was lost {len(suspect)} times in a row ({names}) and got nowhere"
    return None


def _killed_before(database: Database[Any], fw_id: int, launch_id: int, archived: list[int]) -> list[int]:
    """List the causes of the losses that led to this one, newest first."""
    fields = {"launch_id": 1, "state": 1, "cause.code": 1, "last_geometry": 1, "seconds": 1, "set_aside": 1}
    attempts = {
        attempt["launch_id"]: attempt
        for attempt in database.attempts.find({"fw_id": fw_id, "launch_id": {"$lt": launch_id}}, fields)
    }
    # a launch that was lost before its task could record an attempt; what a re-run archives keeps its state
    unrecorded = database.launches.find(
        {"launch_id": {"$in": archived}, "state": "ARCHIVED"}, {"launch_id": 1}, sort=[("launch_id", DESCENDING)]
    )
    ids = attempts.keys() | {launch["launch_id"] for launch in unrecorded if launch["launch_id"] < launch_id}
    codes = []
    in_order = [attempts.get(i) for i in sorted(ids, reverse=True)]
    for position, attempt in enumerate(in_order):
        if attempt is None:
            codes.append(106)
            continue
        if attempt["state"] != "lost":
            break
        geometry = attempt["last_geometry"]
        if geometry is not None and all(a is None or a["last_geometry"] != geometry for a in in_order[position + 1 :]):
            break
        # one that stopped by itself, to go on, has judged by itself whether that makes sense
        if attempt["seconds"] is None and not attempt.get("set_aside"):
            codes.append((attempt["cause"] or {}).get("code", 106))
    return codes
