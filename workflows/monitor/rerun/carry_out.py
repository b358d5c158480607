"""Carry a planned re-run out, so that a crash between any two writes is mended by asking for the same again.

Under the lock of the workflow: what is planned is written down with how everything was, then what the job takes, and
then FireWorks resets the job and all that depends on it. A lock that a crash leaves marks the workflow for repair,
which finishes the reset or takes it back; the record of what was planned stays, and is picked up by the next call.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fireworks.core.launchpad import LockedWorkflowError

from workflows.causes import CAUSES
from workflows.monitor.rerun.graph import Graph
from workflows.monitor.rerun.replaced import make_room, room_of
from workflows.records import Attempt, Before, Cause, Rerun, now
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.repair import repair

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from fireworks import LaunchPad
    from pymongo.database import Database

    from workflows.monitor.rerun.graph import Node
    from workflows.monitor.rerun.plan import Item, Plan

_LOCK_PATIENCE_S = 60.0


class NotNowError(Exception):
    """A job can't be re-run, or put back, at the moment; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """What became of one item; ``why`` says why it was not done."""

    fw_id: int
    candidate: str | None
    stage: str
    done: bool
    why: str = ""


def carry_out(launchpad: LaunchPad, plan: Plan) -> list[Outcome]:
    """Do what is planned.

    Parameters
    ----------
    launchpad : LaunchPad
        Of the store.
    plan : Plan

    Returns
    -------
    list of Outcome
        One an item. What has begun to run since it was planned is left alone.
    """
    signed = CampaignLaunchPad.signed(launchpad, str(ProcessName.own()))
    repair(signed, campaign=plan.campaign, wait=False)  # a lock that an earlier call has left would only be waited for
    asked_at = now()
    outcomes = []
    for item in plan.items:
        try:
            with signed.locked(item.fw_id, _LOCK_PATIENCE_S):
                _rerun(signed, item, asked_at)
            outcomes.append(Outcome(item.fw_id, item.candidate, item.stage, done=True))
        except NotNowError as error:
            outcomes.append(Outcome(item.fw_id, item.candidate, item.stage, done=False, why=str(error)))
        except LockedWorkflowError:
            why = "its workflow is being written by somebody else"
            outcomes.append(Outcome(item.fw_id, item.candidate, item.stage, done=False, why=why))
    return outcomes


def _rerun(launchpad: CampaignLaunchPad, item: Item, asked_at: datetime) -> None:
    """Re-run one job; the caller holds the lock of its workflow."""
    database = launchpad.db
    graph = _graph(database, item.fw_id)
    affected = [item.fw_id, *graph.after(item.fw_id)]
    if not graph.done(item.fw_id):
        raise NotNowError(f"it is {graph.nodes[item.fw_id].state} by now")
    held = hold_back(launchpad, affected)
    graph = _graph(database, item.fw_id)
    if busy := graph.busy(affected):
        database.fireworks.update_many({"fw_id": {"$in": held}, "state": "WAITING"}, {"$set": {"state": "READY"}})
        raise NotNowError(f"{busy[0].name} runs by now: try again when that has ended")
    record = _write_down(database, item, graph, affected, held, asked_at)
    if item.resources != (graph.nodes[item.fw_id].resources or {}):
        database.fireworks.update_one({"fw_id": item.fw_id}, {"$set": {"spec.resources": item.resources}})
    if record.rerun is not None and record.rerun.replaced is not None:
        make_room(launchpad, item.fw_id, record.rerun.replaced)
    workflow = launchpad.get_wf_by_fw_id_lzyfw(item.fw_id)
    for fw_id in held:
        if fw_id in workflow.fw_states:
            workflow.fw_states[fw_id] = "WAITING"
    changed = workflow.rerun_fw(item.fw_id)
    launchpad._update_wf(workflow, list(changed))  # noqa: SLF001 - FireWorks has no public way


def hold_back(launchpad: CampaignLaunchPad, fw_ids: Iterable[int]) -> list[int]:
    """Make WAITING what is READY, so that no worker takes it meanwhile; give what was."""
    held = []
    ready = launchpad.fireworks.find({"fw_id": {"$in": list(fw_ids)}, "state": "READY"}, {"fw_id": 1})
    for fw_id in sorted(fw["fw_id"] for fw in ready):
        done = launchpad.fireworks.update_one({"fw_id": fw_id, "state": "READY"}, {"$set": {"state": "WAITING"}})
        if done.modified_count:
            held.append(fw_id)
    return held


def _graph(database: Database[Any], fw_id: int) -> Graph:
    graph = Graph.of(database, fw_id)
    if graph is None or fw_id not in graph.nodes:
        raise NotNowError("its job isn't in the database any more")
    return graph


def _write_down(
    database: Database[Any], item: Item, graph: Graph, affected: list[int], held: list[int], asked_at: datetime
) -> Attempt:
    """Record what is planned and how things were; a record that a crash has left is written anew."""
    mine = {"campaign": item.campaign, "round": item.round, "candidate": item.candidate, "stage": item.stage}
    plans = list(database.attempts.find({**mine, "fw_id": item.fw_id, "planned_at": {"$ne": None}}))
    left = next((p for p in plans if p["state"] == "planned" and p["rerun"]["after_launch"] == item.after_launch), None)
    replaced = left["rerun"]["replaced"] if left is not None else None
    if replaced is None:
        replaced = room_of(database, graph, item.replaced, held)
    before = [_before(graph.nodes[i], ready=i in held) for i in affected if i not in item.replaced]
    if left is not None:  # what the job takes may be changed already
        of_then = {one["fw_id"]: one["resources"] for one in left["rerun"]["before"]}
        before = [one.model_copy(update={"resources": of_then.get(one.fw_id, one.resources)}) for one in before]
    number = len(plans) + (left is None)
    owner = item.candidate or f"{item.campaign}-r{item.round:02d}"
    record = Attempt(
        attempt=left["attempt"] if left else f"{owner}-{item.stage}-fw{item.fw_id}-p{number}",
        campaign=item.campaign,
        round=item.round,
        candidate=item.candidate,
        stage=item.stage,
        engine=item.engine,
        name=item.name,
        job_uuid=item.job[0],
        job_index=item.job[1],
        fw_id=item.fw_id,
        state="planned",
        planned_at=left["planned_at"] if left else asked_at,
        overrides=item.overrides,
        directory=item.start.get("directory"),
        last_geometry=item.start.get("last_geometry"),
        cause=_cause(item),
        rerun=Rerun(
            after_launch=item.after_launch,
            resources=item.resources,
            before=before,
            replaced=replaced,
        ),
    )
    database.attempts.replace_one({"attempt": record.attempt}, record.model_dump(), upsert=True)
    return record


def _cause(item: Item) -> Cause | None:
    if item.code is None:
        return None
    name = CAUSES[item.code].name if item.code in CAUSES else "unlisted"
    return Cause(code=item.code, name=name, evidence=item.evidence, stage=item.blamed)


def _before(node: Node, *, ready: bool) -> Before:
    return Before(
        fw_id=node.fw_id,
        state="READY" if ready else node.state,
        launches=list(node.launches),
        resources=node.resources,
        details=node.details,
    )
