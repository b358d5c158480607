"""How a campaign stands: rounds, stages and states, the funnel, the pace, and what is stuck and why.

Closed rounds are read from their stored summaries; only open rounds are scanned, with projections, because counting in
the database is what costs time there (a ``$group`` over ten thousand small documents takes most of a second on the
embedded server).
"""

from __future__ import annotations

import socket
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil

from workflows.ledger import campaign_document
from workflows.monitor.clusters import pilot_status, pilots_of, stuck_pilots, unfit
from workflows.monitor.standing import Progress, RoundStatus, Running, State, Status, Stuck
from workflows.records import ACTIVE, STAGES, RoundSummary, now
from workflows.runtime.accounting import core_hours
from workflows.summary import funnel, selected_in

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymongo.database import Database

__all__ = ["DONE", "Progress", "RoundStatus", "Running", "State", "Status", "Stuck", "campaign_status"]

DONE = ("COMPLETED", "FIZZLED", "DEFUSED", "ARCHIVED")
"""States of a firework that nobody will run again by itself."""

_CLAIM_PATIENCE_SECONDS = 60.0
_FIREWORK = {
    "_id": 0, "fw_id": 1, "state": 1, "spec.nucleate.stage": 1, "spec.nucleate.candidate": 1, "spec.resources": 1,
}  # fmt: skip
_CANDIDATE = {
    "_id": 0, "control": 1, "screen.valid": 1, "screen.unique": 1, "screen.passed": 1, "prerelax.energy_ev_per_atom": 1,
    "select.unique": 1, "select.novel": 1, "select.selected": 1, "select.novelty": 1,
    "select.screening_e_hull_ev_per_atom": 1,
}  # fmt: skip
_VERDICT = {"_id": 0, "candidate": 1, "verified": 1, "stable": 1, "hit": 1, "cause.code": 1}
_ATTEMPT = {
    "_id": 0, "fw_id": 1, "round": 1, "candidate": 1, "stage": 1, "host": 1, "pid": 1, "process_started": 1,
    "started_at": 1, "cluster": 1, "scheduler_job": 1,
}  # fmt: skip
_ROUND = {
    "_id": 0, "round": 1, "state": 1, "summary": 1, "learned.updates": 1, "control_state": 1, "claimed_at": 1,
    "closed_at": 1,
}  # fmt: skip


def campaign_status(database: Database[Any], campaign: str) -> Status:
    """Tell how a campaign stands.

    Parameters
    ----------
    database : pymongo.database.Database
        The store's: FireWorks' collections and ours.
    campaign : str

    Returns
    -------
    Status

    Raises
    ------
    workflows.ledger.NoSuchCampaignError
        If there is no such campaign.
    """
    stored = campaign_document(database, campaign)
    spec = stored["spec"]
    documents = sorted(database.rounds.find({"campaign": campaign}, _ROUND), key=lambda r: r["round"])
    running = _running(database, campaign)
    pilots = pilots_of(database, campaign)
    ready: list[dict[str, Any]] = []
    rounds: list[RoundStatus] = []
    stuck: list[Stuck] = []
    for document in documents:
        if document["state"] == "closed" and document["summary"] is not None:
            rounds.append(_closed(document))
            continue
        fireworks = list(database.fireworks.find(_in_round(campaign, document["round"]), _FIREWORK))
        opened = _open(database, campaign, document, fireworks, spec)
        rounds.append(opened)
        stuck += _stuck_round(document, fireworks, running, pilots)
        ready += [firework for firework in fireworks if firework["state"] == "READY"]
    spent, budget = core_hours(database, campaign), spec["budget"]["hours"]
    stuck += [*_dead(running), *stuck_pilots(pilots, work_is_ready=bool(ready)), *unfit(pilots, ready)]
    if budget is not None and sum(spent.values()) >= budget and ready:
        stuck.append(_budget_is_spent(sum(spent.values()), budget))
    alive = any(task.alive is not False for task in running)
    ended: dict[str, State] = {"finished": "finished", "stopped": "stopped"}
    open_still = any(r.state != "closed" for r in rounds)
    state: State = "running" if alive else "idle"
    if not alive and not open_still and not _asked_again(database, campaign):
        state = ended.get(stored["state"], state)
        if state == "idle" and len(rounds) < spec["rounds"]:
            stuck.append(_next_round_missing(rounds))
    elif not alive and any(item.needs_somebody for item in stuck):
        state = "stuck"
    return Status(
        campaign=campaign,
        state=state,
        why=stored["why"],
        engine=spec["engine"],
        protocol=spec["protocol"],
        rounds_wanted=spec["rounds"],
        rounds=rounds,
        totals=_totals(rounds),
        running=running,
        stuck=stuck,
        verdicts_per_hour=_pace(rounds, "verified"),
        candidates_per_hour=_pace(rounds, "sampled"),
        expected_end=_expected_end(rounds, spec["rounds"]) if alive and open_still else None,
        pilots=pilot_status(pilots),
        core_hours={cluster: round(hours, 4) for cluster, hours in spent.items()},
        budget_hours=budget,
    )


def _asked_again(database: Database[Any], campaign: str) -> bool:
    """Tell whether somebody re-ran jobs of a campaign whose rounds are all closed, and no worker has taken them yet."""
    waiting = {"state": {"$in": ["READY", "RESERVED"]}, "spec.nucleate.campaign": campaign}
    return database.fireworks.find_one(waiting, {"fw_id": 1}) is not None


def _in_round(campaign: str, number: int) -> dict[str, Any]:
    return {"spec.nucleate.campaign": campaign, "spec.nucleate.round": number}


def _closed(document: dict[str, Any]) -> RoundStatus:
    return RoundStatus(
        number=document["round"],
        state="closed",
        summary=RoundSummary.model_validate(document["summary"]),
        updates=(document.get("learned") or {}).get("updates") or [],
        opened=_utc(document["claimed_at"]),
        closed=_utc(document["closed_at"]),
    )


def _open(
    database: Database[Any],
    campaign: str,
    document: dict[str, Any],
    fireworks: list[dict[str, Any]],
    spec: dict[str, Any],
) -> RoundStatus:
    number = document["round"]
    where = {"campaign": campaign, "round": number}
    candidates = list(database.candidates.find(where, _CANDIDATE))
    verdicts = list(database.verdicts.find(where, _VERDICT))
    cut = spec["targets"]["energy_above_hull"]["max"]
    summary = _summary_so_far(number, candidates, selected_in(database, campaign, number), verdicts, cut)
    states: dict[str, Counter[str]] = defaultdict(Counter)
    for firework in fireworks:
        states[_block(firework).get("stage") or "?"][firework["state"]] += 1
    control = spec["control"] if document["control_state"] is not None else 0
    drawn = spec["samples"] + control
    screened = [candidate for candidate in candidates if candidate.get("screen")]
    passed = [candidate["control"] for candidate in screened if candidate["screen"]["passed"]]
    decided = any(candidate.get("select") for candidate in candidates)
    building = {"reference": _jobs(states["reference"])} if "reference" in states else {}
    return RoundStatus(
        number=number,
        state=document["state"],
        summary=summary,
        stages={stage: dict(states[stage]) for stage in (*STAGES, "?") if stage in states},
        progress=building
        | {
            "sample": Progress(len(candidates), drawn, control),
            "screen": Progress(len(screened), drawn, control),
            "prerelax": Progress(
                sum(1 for candidate in candidates if candidate.get("prerelax")),
                len(passed) if screened else None,
                sum(passed),
            ),
            "verify": Progress(len(verdicts), summary.selected if decided else None),
        },
        opened=_utc(document["claimed_at"]),
    )


def _jobs(states: Counter[str]) -> Progress:
    return Progress(states["COMPLETED"], states.total())


def _summary_so_far(
    number: int,
    candidates: list[dict[str, Any]],
    selected: int,
    verdicts: list[dict[str, Any]],
    cut_ev_per_atom: float,
) -> RoundSummary:
    controls = [c for c in candidates if c["control"]]
    return RoundSummary(
        number=number,
        **funnel((c for c in candidates if not c["control"]), cut_ev_per_atom),
        selected=selected,
        verified=sum(v["verified"] for v in verdicts),
        stable=sum(v["stable"] for v in verdicts),
        hits=sum(v["hit"] for v in verdicts),
        failures=sum(not v["verified"] for v in verdicts),
        control=funnel(controls, cut_ev_per_atom) if controls else None,
    )


def _running(database: Database[Any], campaign: str) -> list[Running]:
    here = socket.gethostname()
    tasks = []
    for attempt in database.attempts.find({"campaign": campaign, "state": "running"}, _ATTEMPT):
        begun = _utc(attempt["started_at"]) or now()
        alive = _lives(attempt["pid"], attempt["process_started"]) if attempt["host"] == here else None
        tasks.append(
            Running(
                fw_id=attempt["fw_id"],
                round=attempt["round"],
                stage=attempt["stage"],
                candidate=attempt["candidate"],
                host=attempt["host"],
                pid=attempt["pid"],
                seconds=round((now() - begun).total_seconds(), 1),
                alive=alive,
                cluster=attempt.get("cluster"),
                job=attempt.get("scheduler_job"),
            )
        )
    return sorted(tasks, key=lambda task: -task.seconds)


def _lives(pid: int | None, started: float | None) -> bool:
    if pid is None:
        return False
    try:
        return started is None or abs(psutil.Process(pid).create_time() - started) < 1.0
    except psutil.Error:
        return False


def _stuck_round(
    document: dict[str, Any], fireworks: list[dict[str, Any]], running: list[Running], pilots: list[dict[str, Any]]
) -> list[Stuck]:
    number = document["round"]
    name = f"round {number}"
    if not fireworks:
        if (now() - (_utc(document["claimed_at"]) or now())).total_seconds() < _CLAIM_PATIENCE_SECONDS:
            return []
        remedy = "any worker mends it, or nucleate reconcile"
        return [Stuck(name, "it was claimed, but its workflow was never added", remedy, needs_somebody=False)]
    found = []
    for firework in fireworks:
        block = _block(firework)
        if firework["state"] == "FIZZLED" and block.get("candidate") is None:
            found.append(
                Stuck(
                    f"{name}, {block.get('stage')} (job {firework['fw_id']})",
                    "it failed, and the whole round waits for it; nucleate failures tells the cause",
                    f"mend the cause, then: nucleate rerun --round {number} --stage {block.get('stage')} --yes",
                    needs_somebody=True,
                )
            )
        elif firework["state"] in {"PAUSED", "DEFUSED"}:
            verb = "resume_fws" if firework["state"] == "PAUSED" else "reignite_fws"
            found.append(
                Stuck(
                    f"{name}, {block.get('stage')} (job {firework['fw_id']})",
                    f"somebody has set it to {firework['state']}",
                    f"lpad -l my_launchpad.yaml {verb} -i {firework['fw_id']}",
                    needs_somebody=True,
                )
            )
    left = Counter(f["state"] for f in fireworks)
    if left["RESERVED"] and not running:
        why = f"{_jobs_are(left['RESERVED'])} reserved and nobody has begun them"
        found.append(Stuck(name, why, "nucleate work, or nucleate reconcile", needs_somebody=False))
    queued = any(pilot["state"] in ACTIVE for pilot in pilots)
    if left["READY"] and not running and not queued:
        cluster = pilots[0]["cluster"] if pilots else "NAME"
        remedy = f"nucleate work, or nucleate submit --cluster {cluster}"
        found.append(Stuck(name, f"{_jobs_are(left['READY'])} ready and no worker runs", remedy, needs_somebody=False))
    return found


def _budget_is_spent(spent: float, budget: float) -> Stuck:
    why = f"{spent:.2f} of {budget:g} core-hours are spent: nothing more is submitted, and no further round is opened"
    return Stuck("the budget", why, "nucleate work goes on with what is ready, on this machine", needs_somebody=True)


def _jobs_are(count: int) -> str:
    return "1 job is" if count == 1 else f"{count} jobs are"


def _next_round_missing(rounds: list[RoundStatus]) -> Stuck:
    number = len(rounds) + 1
    why = (
        "the round before it is closed and it was never opened"
        if rounds
        else "the campaign was never launched to its end"
    )
    return Stuck(f"round {number}", why, "nucleate launch FILE again", needs_somebody=True)


def _dead(running: Iterable[Running]) -> list[Stuck]:
    return [
        Stuck(
            f"round {task.round}, {task.stage} of {task.candidate or 'the round'} (job {task.fw_id})",
            f"its worker (process {task.pid} on {task.host}) is gone",
            "any worker takes it up again when it starts, or nucleate reconcile now",
            needs_somebody=False,
        )
        for task in running
        if task.alive is False
    ]


def _totals(rounds: list[RoundStatus]) -> dict[str, int]:
    names = ("sampled", "valid", "unique", "novel", "selected", "verified", "stable", "hits", "failures")
    return {name: sum(getattr(r.summary, name) for r in rounds) for name in names}


def _pace(rounds: list[RoundStatus], name: str) -> float | None:
    """Give a count per hour over the time in which rounds were open; ``None`` in the first minute: it is noise."""
    seconds = sum(((r.closed or now()) - r.opened).total_seconds() for r in rounds if r.opened)
    count = sum(getattr(r.summary, name) for r in rounds)
    return round(3600 * count / seconds, 2) if seconds > 60 and count else None


_WEIGHTS = {"sample": 0.05, "screen": 0.05, "prerelax": 0.2, "verify": 0.7}
"""Shares of a round's time, roughly; used before a round has closed and told how long one takes."""


def _expected_end(rounds: list[RoundStatus], wanted: int) -> datetime | None:
    closed = [(r.closed - r.opened).total_seconds() for r in rounds if r.closed and r.opened]
    unfinished = [r for r in rounds if r.state != "closed" and r.opened]
    if closed:
        whole = median(closed)
    elif unfinished and (done := _share_done(unfinished[0])) > 0.1:
        whole = (now() - unfinished[0].opened).total_seconds() / done  # type: ignore[operator]  # opened was asked for
    else:
        return None
    left = whole * max(0, wanted - len(rounds))
    left += sum(max(0.0, whole * (1 - _share_done(r))) for r in unfinished)
    return (now() + timedelta(seconds=left)).replace(microsecond=0)


def _share_done(status: RoundStatus) -> float:
    share = 0.0
    for step, weight in _WEIGHTS.items():
        progress = status.progress.get(step)
        if progress and progress.total:
            share += weight * min(1.0, progress.done / progress.total)
    return share


def _block(firework: dict[str, Any]) -> dict[str, Any]:
    block: dict[str, Any] = firework.get("spec", {}).get("nucleate", {})
    return block


def _utc(moment: datetime | None) -> datetime | None:
    """Make a time from the database (UTC, but naive) aware."""
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
