"""Rounds: claiming one, building its graph, adding its workflow exactly once.

One FireWorks workflow a round: ``reference* -> sample -> screen -> prerelax* -> select``; select replaces itself by the
verification of what it chose, and a feedback that opens the next round through :func:`open_round`, handed down as an
argument: so rounds know the stages, and no stage knows rounds.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Job
from pymongo.errors import DuplicateKeyError

from workflows import ledger
from workflows.engines.registry import make_engine
from workflows.records import Round
from workflows.runtime.firetask import to_workflow
from workflows.runtime.repair import Repair
from workflows.stages.dress import LIGHT, SAMPLING, block_of, dress
from workflows.stages.prerelax import prerelax
from workflows.stages.reference import build_reference, collect_reference
from workflows.stages.sample import sample
from workflows.stages.screen import screen
from workflows.stages.select import select

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fireworks import LaunchPad
    from pymongo.database import Database

    from workflows.spec import CampaignSpec

LEASE = timedelta(seconds=60)
"""How long one process has the right to add a claimed round's workflow before another may."""

WORKFLOW_KEY = "metadata.nucleate_round"
"""Unique (sparse) index of the workflows collection: a round has one workflow, whoever races."""


def workflow_key(campaign: str, number: int) -> str:
    """Name a round's workflow in :data:`WORKFLOW_KEY`."""
    return f"{campaign}/r{number:02d}"


def batches(n: int, size: int) -> list[list[int]]:
    """Fix batches by index, whatever passes the screen.

    Examples
    --------
    >>> batches(5, 2)
    [[0, 1], [2, 3], [4]]
    """
    return [list(range(start, min(start + size, n))) for start in range(0, n, size)]


def round_flow(spec: CampaignSpec, number: int, *, with_control: bool, missing: Sequence[Sequence[str]] = ()) -> Flow:
    """Build a round's graph up to select.

    Parameters
    ----------
    spec : CampaignSpec
    number : int
    with_control : bool
        Whether the round has a control draw.
    missing : sequence of chemical systems
        Exact chemical systems that the reference set lacks, each completed by a job of its own before sampling.
    """

    def dressed(job: Job, stage: str, category: str) -> Job:
        return dress(job, block_of(spec.name, number, stage, engine=spec.engine), category)

    jobs: list[Job] = []
    before: list[Any] = []
    if missing:
        category = make_engine(spec.engine, spec.protocol).category
        parts = [dressed(build_reference(spec.name, list(system)), "reference", category) for system in missing]
        collected = dressed(collect_reference(spec.name, [part.output for part in parts]), "reference", LIGHT)
        jobs += [*parts, collected]
        before = [collected.output]
    sampled = dressed(sample(spec.name, number, before), "sample", SAMPLING)
    screened = dressed(screen(spec.name, number, sampled.output), "screen", LIGHT)
    relaxed = [
        dressed(prerelax(spec.name, number, i, indices, control, screened.output), "prerelax", SAMPLING)
        for control, n in ((False, spec.samples), (True, spec.control if with_control else 0))
        for i, indices in enumerate(batches(n, spec.batch))
    ]
    selected = dressed(select(spec.name, number, [job.output for job in relaxed], open_round), "select", LIGHT)
    return Flow([*jobs, sampled, screened, *relaxed, selected], name=workflow_key(spec.name, number))


def open_round(
    launchpad: LaunchPad,
    campaign: str,
    number: int,
    generator_state: str,
    control_state: str | None,
) -> bool:
    """Claim a round and add its workflow; whoever comes second finds it done.

    Returns
    -------
    bool
        Whether this call added the workflow.
    """
    record = Round(campaign=campaign, round=number, generator_state=generator_state, control_state=control_state)
    with suppress(DuplicateKeyError):
        launchpad.db.rounds.insert_one(record.model_dump())
    return ensure_workflow(launchpad, campaign, number)


def ensure_workflow(launchpad: LaunchPad, campaign: str, number: int) -> bool:
    """Add the workflow of a claimed round unless it is there; a claim left without one is repaired by calling this.

    One process at a time has the right to (a lease in the round's record); should one sleep through its lease, or two
    hosts not agree on the time, the unique index on the workflows refuses the second, whose fireworks are then removed.

    Returns
    -------
    bool
        Whether this call added it.
    """
    database = launchpad.db
    key = workflow_key(campaign, number)
    if _mark_open(launchpad, campaign, number):
        return False
    now = datetime.now(UTC)
    leased = database.rounds.find_one_and_update(
        {
            "campaign": campaign,
            "round": number,
            "state": "claimed",
            # one that ends later than any given out now was given by a clock that is ahead of ours, and proves nothing
            "$or": [
                {"builder_until": None},
                {"builder_until": {"$lt": now}},
                {"builder_until": {"$gt": now + LEASE}},
            ],
        },
        {"$set": {"builder_until": now + LEASE}},
    )
    if leased is None:
        return False
    document = ledger.campaign_document(database, campaign)
    spec = ledger.campaign_spec(database, campaign)
    missing = document["reference"]["missing"] if number == 1 else []
    flow = round_flow(spec, number, with_control=leased["control_state"] is not None, missing=missing)
    workflow = to_workflow(flow, name=key, metadata={"nucleate_round": key})
    try:
        launchpad.add_wf(workflow)
    except DuplicateKeyError:
        launchpad.fireworks.delete_many({"fw_id": {"$in": [fw.fw_id for fw in workflow.fws]}})
        _mark_open(launchpad, campaign, number)
        return False
    _mark_open(launchpad, campaign, number)
    return True


def _mark_open(launchpad: LaunchPad, campaign: str, number: int) -> bool:
    """Mark a claimed round open if its workflow exists; tell whether it does."""
    found = launchpad.workflows.find_one({WORKFLOW_KEY: workflow_key(campaign, number)}, {"nodes": 1})
    if found is None:
        return False
    launchpad.db.rounds.update_one(
        {"campaign": campaign, "round": number, "state": "claimed"},
        {"$set": {"state": "open", "workflow_fw_id": min(found["nodes"])}},
    )
    return True


def repair_claims(launchpad: LaunchPad) -> list[Repair]:
    """Add the workflows of claims that were left without one: a hook of the workers' repair."""
    claims: Database[Any] = launchpad.db
    return [
        Repair(
            "campaign", None, f"{workflow_key(claim['campaign'], claim['round'])}: claimed, its workflow was missing"
        )
        for claim in claims.rounds.find({"state": "claimed"}, {"campaign": 1, "round": 1}).sort(
            [("campaign", 1), ("round", 1)]
        )
        if ensure_workflow(launchpad, claim["campaign"], claim["round"])
    ]
