"""What the schedulers say of the batch jobs that campaigns have submitted, written into their ``pilots`` records.

A record that is ``settled`` stays true when the scheduler has forgotten the job. Writes
are made only where the record still looks as it did before the scheduler was asked: the job itself writes there, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workflows.causes import CAUSES
from workflows.records import Cause, now
from workflows.runtime.scheduler.base import SchedulerAwayError
from workflows.runtime.scheduler.inquiry import Inquiry

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.database import Database

    from workflows.runtime.scheduler.base import JobInfo, Scheduler
    from workflows.runtime.watch import Watch

FORGOTTEN_S = 60.0
"""s, by this process' clock, for which a job that its scheduler does not know must not have moved to count as ended."""

NEVER_SUBMITTED_S = 120.0
"""s after which a job that was about to be submitted, and that the scheduler does not know, counts as not submitted."""

FORGOTTEN = "FORGOTTEN"
"""Our word in ``scheduler_state`` for a job that its scheduler knows no more."""

_NODE_FAILURE, _PREEMPTED, _CANCELLED, _KILLED = 103, 104, 105, 106
_FIELDS = {
    "_id": 0, "pilot": 1, "campaign": 1, "cluster": 1, "state": 1, "job_id": 1, "beat": 1, "restarts": 1, "settled": 1,
    "scheduler_state": 1, "started_at": 1, "ended_at": 1, "core_seconds": 1, "cause": 1, "message": 1,
}  # fmt: skip


@dataclass(frozen=True)
class PilotChange:
    """A batch job whose record was brought up to date, and what it says now; ``cause`` is that one's name."""

    pilot: str
    state: str
    scheduler_state: str
    cause: str | None = None
    message: str = ""

    def __str__(self) -> str:
        why = f" ({self.cause or self.message})" if self.cause or self.message else ""
        return f"{self.pilot}: {self.state}, {self.scheduler_state or 'not known to its scheduler'}{why}"


@dataclass
class Refreshed:
    """What a refresh found.

    Parameters
    ----------
    changed : list of PilotChange
        Pilots whose record was brought up to date in more than its core-seconds.
    away : dict of str to str
        Clusters whose scheduler does not answer, and what it said.
    unknown : dict of str to str
        Pilots of which nothing can be said, and why.
    """

    changed: list[PilotChange] = field(default_factory=list)
    away: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, str] = field(default_factory=dict)


def refresh(
    database: Database[Any],
    schedulers: Mapping[str, Scheduler] | Inquiry,
    *,
    campaign: str | None = None,
    watch: Watch | None = None,
    dry_run: bool = False,
) -> Refreshed:
    """Bring the records of all pilots that have not ended, or whose accounts are still open, up to date.

    Parameters
    ----------
    database : pymongo.database.Database
    schedulers : mapping of str to Scheduler, or Inquiry
        By the cluster's name, as in the cluster file.
    campaign : str, optional
        Only its pilots.
    watch : Watch, optional
        Kept by the caller from call to call; without it a job that its scheduler has forgotten never counts as ended.
    dry_run : bool
        Only say what would change.
    """
    inquiry = schedulers if isinstance(schedulers, Inquiry) else Inquiry(schedulers)
    found = Refreshed()
    # the records first: what the scheduler says is then newer than they are
    open_ones: dict[str, list[dict[str, Any]]] = {}
    unsettled = [{"settled": {"$ne": True}}, {"core_seconds": None}]
    wanted: dict[str, Any] = {"state": {"$ne": "refused"}, "$or": unsettled}
    if campaign is not None:
        wanted["campaign"] = campaign
    for record in database.pilots.find(wanted, _FIELDS).sort("pilot", 1):
        open_ones.setdefault(record["cluster"], []).append(record)
    for cluster, records in open_ones.items():
        if cluster not in inquiry.schedulers:
            found.unknown |= {
                r["pilot"]: f"cluster {cluster} is not in this machine's cluster file"
                for r in records
                if r["state"] != "ended"
            }
            continue
        try:
            # of one that has ended only the accounts are wanted, where there are any
            accounts = inquiry.accounting(cluster)
            records = [r for r in records if not _is_settled(r, accounts=accounts)]  # noqa: PLW2901
            infos = inquiry.jobs(cluster, [r["job_id"] for r in records if r["job_id"]])
            by_name = inquiry.named(cluster, [r["pilot"] for r in records if not r["job_id"]])
        except SchedulerAwayError as error:
            found.away[cluster] = str(error)
            continue
        for record in records:
            info = infos.get(record["job_id"]) if record["job_id"] else by_name.get(record["pilot"])
            if info and info.is_hearsay:
                found.away[cluster] = info.evidence
                continue
            changes = _told(record, info) if info else _missed(record, watch, found)
            why = _why_it_was_stopped(record, info) if info else None
            _write(database, record, changes, found, why, dry_run=dry_run)
    return found


def _is_settled(record: dict[str, Any], *, accounts: bool) -> bool:
    """Tell whether the scheduler has nothing to add to a record."""
    return bool(record.get("settled")) and (not accounts or record["scheduler_state"] == FORGOTTEN)


def _told(record: dict[str, Any], info: JobInfo) -> dict[str, Any]:
    """Give what a record should say after its job's scheduler has spoken."""
    back = info.phase != "ended" and info.restarts > record["restarts"]
    if record["state"] == "ended" and info.phase == "running" and not back:
        return {}  # the job has said so itself, and the scheduler is about to
    told: dict[str, Any] = {
        "job_id": info.job_id,
        "state": info.phase,
        "scheduler_state": info.state,
        "restarts": info.restarts,
        "message": info.reason if info.phase == "queued" else "",
    }
    if info.core_seconds is not None:
        told["core_seconds"] = info.core_seconds
    if info.started is not None:
        told["started_at"] = info.started
    if info.phase == "ended":
        told["ended_at"] = info.ended or record["ended_at"] or now()
        told["settled"] = True
        if info.cause is not None:
            cause = Cause(code=info.cause, name=CAUSES[info.cause].name, evidence=info.evidence)
            told["cause"] = cause.model_dump()
        elif info.exit_code:
            told["message"] = info.evidence
    elif back or record["state"] == "ended":  # put back into the queue: it begins anew
        told |= {"ended_at": None, "cause": None, "reason": "", "settled": False}
    return told


def _why_it_was_stopped(record: dict[str, Any], info: JobInfo) -> Cause | None:
    """Give why a run of a job that was told to stop ended, by its scheduler; the job itself can't know."""
    code, evidence = info.cause, info.evidence or info.state
    if info.restarts and (info.phase != "ended" or info.restarts > record["restarts"]):
        # it had to make way, if nothing worse; accounts of the earlier run may be about to come in
        code, evidence = _PREEMPTED, "put back into the queue"
        if info.earlier:
            before = info.earlier[-1]
            code, evidence = before.cause or code, f"{evidence}; {before.evidence or before.state}"
    if code not in {_NODE_FAILURE, _PREEMPTED, _CANCELLED}:
        return None
    return Cause(code=code, name=CAUSES[code].name, evidence=evidence)


def _tell_attempts(database: Database[Any], pilot: str, why: Cause) -> None:
    """Correct the attempts that a job gave back when it was told to stop: it took itself to be cancelled."""
    # one that was told to have made way may have lost its node, as accounts show later; whoever cancels a later run
    # changes nothing of that
    mistaken = [_CANCELLED] if why.code == _CANCELLED else [_PREEMPTED, _CANCELLED]
    given_back = {"pilot": pilot, "state": "lost", "cause.code": {"$in": mistaken}}
    told = {"cause.code": why.code, "cause.name": why.name, "cause.evidence": why.evidence}
    database.attempts.update_many(given_back, {"$set": told})


def _missed(record: dict[str, Any], watch: Watch | None, found: Refreshed) -> dict[str, Any]:
    """Give what a record should say of a job that its scheduler does not know."""
    pilot = record["pilot"]
    looks = (record["state"], record["job_id"], record["beat"])
    age_s = watch.age_s(("pilot", pilot), looks) if watch is not None else 0.0
    if record["state"] == "ended":
        return {"scheduler_state": FORGOTTEN, "settled": True} if age_s >= FORGOTTEN_S else {}
    if not record["job_id"]:
        if age_s >= NEVER_SUBMITTED_S:
            return {"state": "refused", "message": "it was never submitted: whoever was about to died before"}
        found.unknown[pilot] = "it is about to be submitted, or whoever was about to has died"
        return {}
    if age_s < FORGOTTEN_S:
        found.unknown[pilot] = f"its scheduler knows no job {record['job_id']} (any more)"
        return {}
    evidence = f"the scheduler knows no job {record['job_id']} any more, and the job gives no sign of life"
    cause = Cause(code=_KILLED, name=CAUSES[_KILLED].name, evidence=evidence)
    told = {"state": "ended", "scheduler_state": FORGOTTEN, "settled": True}
    return told | {"ended_at": now(), "cause": cause.model_dump()}


def _write(
    database: Database[Any],
    record: dict[str, Any],
    changes: dict[str, Any],
    found: Refreshed,
    why: Cause | None = None,
    *,
    dry_run: bool,
) -> None:
    # times come back from the database without a zone
    news = {name: value for name, value in changes.items() if not _same(record.get(name), value)}
    if not news:
        return
    if not dry_run:
        if why is not None:  # first: nobody asks again of a record that is settled
            _tell_attempts(database, record["pilot"], why)
        observed = {"pilot": record["pilot"], "state": record["state"], "job_id": record["job_id"]}
        if not database.pilots.update_one(observed, {"$set": news}).modified_count:
            return  # the job, or another refresh, was quicker
    if news.keys() - {"core_seconds"}:
        now_told = record | news
        told = {name: now_told[name] for name in ("pilot", "state", "scheduler_state", "message")}
        found.changed.append(PilotChange(**told, cause=(now_told["cause"] or {}).get("name")))


def _same(stored: Any, value: Any) -> bool:
    if hasattr(stored, "tzinfo") and hasattr(value, "tzinfo"):
        return bool(stored.replace(tzinfo=None) == value.replace(tzinfo=None))
    return bool(stored == value)
