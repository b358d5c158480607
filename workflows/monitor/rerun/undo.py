"""Take a re-run back that no task has begun: states, launches and resources are put back as they were.

The workflow document is written before the fireworks: if a crash comes between, repair sees fireworks that are behind
their workflow, none of which may run, and puts their last launches back, which is what was to be done.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from workflows.monitor.rerun.carry_out import Outcome
from workflows.monitor.rerun.locking import NotNowError, attempt_one, graph_of, held_back
from workflows.monitor.rerun.replaced import give_back_room
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.repair import repair
from workflows.runtime.settle import DONE

if TYPE_CHECKING:
    from fireworks import LaunchPad

    from workflows.monitor.rerun.graph import Graph
    from workflows.monitor.selector import Selector

_BEGUN = "it has begun: what it asks can't be taken back any more"


def undo(launchpad: LaunchPad, selector: Selector) -> list[Outcome]:
    """Take back the re-runs that a selector means, the last one first.

    Parameters
    ----------
    launchpad : LaunchPad
        Of the store.
    selector : Selector
        ``states`` and ``query`` say nothing here: a re-run knows its candidate, stage and cause.

    Returns
    -------
    list of Outcome
        One a re-run; one that has begun is not done, and says so.
    """
    signed = CampaignLaunchPad.signed(launchpad, str(ProcessName.own()))
    repair(signed, campaign=selector.campaign, wait=False)
    outcomes = []
    for record in reversed(_records(signed, selector)):
        if _is_replaced(signed, record):
            continue  # a re-run of what its job depends on has the job made anew: nothing is left to take back
        act = partial(_put_back, signed, record["attempt"])
        why = _BEGUN if record["state"] == "begun" else attempt_one(signed, record["fw_id"], act)
        outcomes.append(Outcome(record["fw_id"], record["candidate"], record["stage"], done=not why, why=why))
    return outcomes


def _is_replaced(launchpad: CampaignLaunchPad, record: dict[str, Any]) -> bool:
    """Tell whether the job has left its workflow; asked when its turn comes, for undoing may have brought it back."""
    wanted = {"attempt": record["attempt"], "replaced": True}
    return launchpad.db.attempts.find_one(wanted, {"_id": 1}) is not None


def _records(launchpad: CampaignLaunchPad, selector: Selector) -> list[dict[str, Any]]:
    """List the re-runs that are planned, and those that have begun and not ended (or whose candidate was named)."""
    wanted = {**selector.attempts(), "planned_at": {"$ne": None}}
    planned = list(launchpad.db.attempts.find({**wanted, "state": "planned"}, {"_id": 0}))
    begun = list(launchpad.db.attempts.find({**wanted, "state": "begun"}, {"_id": 0}))
    newest = {record["fw_id"]: record for record in sorted(begun, key=lambda r: r["planned_at"])}
    taken = {record["fw_id"] for record in planned}
    told = [
        record
        for fw_id, record in newest.items()
        if fw_id is not None and fw_id not in taken and (selector.candidates or not _ended(launchpad, fw_id))
    ]
    known = [record for record in planned if record["fw_id"] is not None and record.get("rerun")]
    return sorted([*known, *told], key=lambda r: (r["planned_at"], r["fw_id"]))


def _ended(launchpad: CampaignLaunchPad, fw_id: int) -> bool:
    return launchpad.fireworks.find_one({"fw_id": fw_id, "state": {"$in": sorted(DONE)}}, {"_id": 1}) is not None


def _put_back(launchpad: CampaignLaunchPad, attempt: str) -> None:
    """Take one re-run back; the caller holds the lock of its workflow."""
    planned = {"attempt": attempt, "state": "planned"}
    record = launchpad.db.attempts.find_one(planned, {"_id": 0})  # as those that were taken back before it left it
    if record is None:
        raise NotNowError(_BEGUN)
    fw_id, before = record["fw_id"], {one["fw_id"]: one for one in record["rerun"]["before"]}
    with held_back(launchpad, before):
        graph = graph_of(launchpad.db, fw_id)
        begun = launchpad.db.attempts.find_one(planned, {"_id": 1}) is None
        begun = begun or graph.nodes[fw_id].launches not in {(), tuple(before[fw_id]["launches"])}
        if begun or graph.busy(i for i in before if i in graph.nodes):
            raise NotNowError(_BEGUN)
    if room := record["rerun"]["replaced"]:
        give_back_room(launchpad, fw_id, room)
        graph = graph_of(launchpad.db, fw_id)
    restored = _restorable(graph, before)
    states = {f"fw_states.{i}": before[i]["state"] for i in restored}
    launchpad.workflows.update_one({"nodes": fw_id}, {"$set": states})
    for i in sorted(restored, reverse=True):  # the root last: whatever depends on it is whole by then
        _restore(launchpad, before[i])
    _hand_over(launchpad, graph, record, [one for i, one in before.items() if i not in restored])
    launchpad.db.attempts.delete_one(planned)


def _restorable(graph: Graph, before: dict[int, dict[str, Any]]) -> set[int]:
    """Choose what can be as it was: what waits for another re-run goes on waiting."""
    chosen = {i for i in before if i in graph.nodes}

    def done(fw_id: int) -> bool:
        return (before[fw_id]["state"] if fw_id in chosen else graph.nodes[fw_id].state) in DONE

    while True:
        waits = {
            i
            for i in chosen
            if before[i]["state"] != "WAITING"
            and not all(done(p) for p in graph.parents.get(i, []) if p in graph.nodes)
        }
        if not waits:
            return chosen
        chosen -= waits


def _restore(launchpad: CampaignLaunchPad, before: dict[str, Any]) -> None:
    put: dict[str, Any] = {"state": before["state"], "launches": before["launches"]}
    gone: dict[str, str] = {}
    for name, value in (("spec.resources", before["resources"]), ("spec._exception_details", before["details"])):
        if value is None:
            gone[name] = ""
        else:
            put[name] = value
    change: dict[str, Any] = {"$set": put, "$pullAll": {"archived_launches": before["launches"]}}
    if gone:
        change["$unset"] = gone
    launchpad.fireworks.update_one({"fw_id": before["fw_id"]}, change)


def _hand_over(launchpad: CampaignLaunchPad, graph: Graph, record: dict[str, Any], left: list[dict[str, Any]]) -> None:
    """Let the other re-runs that these fireworks wait for put them back.

    One that was asked for later found them reset already, without launches: how they were before is known here alone.
    """
    mine = {"campaign": record["campaign"], "round": record["round"], "state": "planned"}
    above = {one["fw_id"]: set(graph.before(one["fw_id"])) for one in left}
    for other in launchpad.db.attempts.find({**mine, "attempt": {"$ne": record["attempt"]}}, {"_id": 0}):
        known = {one["fw_id"]: one for one in (other.get("rerun") or {}).get("before", ())}
        waiting = [one for one in left if other["fw_id"] in above[one["fw_id"]]]
        handed = {one["fw_id"]: one for one in waiting if not known.get(one["fw_id"], {}).get("launches")}
        if known and handed:
            launchpad.db.attempts.update_one(
                {"attempt": other["attempt"], "state": "planned"},
                {"$set": {"rerun.before": list({**known, **handed}.values())}},
            )
