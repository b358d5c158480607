"""Carry a planned re-run out, so that a crash between any two writes is mended by asking for the same again.

Under the lock of the workflow: what is planned is written down with how everything was, then what the job takes, and
then FireWorks resets the job and all that depends on it. A lock that a crash leaves marks the workflow for repair,
which finishes the reset or takes it back; the record of what was planned stays, and is picked up by the next call.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from workflows.causes import CAUSES
from workflows.monitor.rerun.graph import dependents
from workflows.monitor.rerun.locking import NotNowError, attempt_one, graph_of, held_back, state_of
from workflows.monitor.rerun.replaced import make_room, room_of
from workflows.records import Attempt, Before, Cause, Rerun, now
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.repair import repair
from workflows.runtime.settle import DONE

if TYPE_CHECKING:
    from datetime import datetime

    from fireworks import LaunchPad
    from pymongo.database import Database

    from workflows.monitor.rerun.graph import Graph, Node
    from workflows.monitor.rerun.plan import Item, Plan


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
        why = attempt_one(signed, item.fw_id, partial(_rerun, signed, item, asked_at))
        outcomes.append(Outcome(item.fw_id, item.candidate, item.stage, done=not why, why=why))
    return outcomes


def _rerun(launchpad: CampaignLaunchPad, item: Item, asked_at: datetime) -> None:
    """Re-run one job; the caller holds the lock of its workflow."""
    database = launchpad.db
    if (state := state_of(database, item.fw_id)) not in DONE:
        raise NotNowError(f"it is {state} by now")
    # a workflow is large, and is read once it stands still
    with held_back(launchpad, [item.fw_id, *dependents(database, item.fw_id)]) as held:
        graph = graph_of(database, item.fw_id)
        affected = [item.fw_id, *graph.after(item.fw_id)]
        if busy := graph.busy(affected):
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
