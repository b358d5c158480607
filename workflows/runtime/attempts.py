"""The attempts record: who ran what, where, with which overrides, and why it failed. History is never overwritten."""

from __future__ import annotations

import hashlib
import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import psutil
from monty.json import jsanitize
from pymatgen.core import Structure
from pymongo import DESCENDING
from pymongo.errors import DuplicateKeyError

from workflows.causes import UPSTREAM
from workflows.records import Attempt, Cause, now
from workflows.runtime.identity import CLUSTER, PILOT, TOOK

if TYPE_CHECKING:
    from jobflow import Job, JobStore
    from pymongo.database import Database

MAX_STANDSTILLS = 3
"""How often in a row a job may be stopped at the same geometry before it fails with the cause that stopped it."""

FAIR_TRY_S = 600.0
"""s; a shorter attempt says nothing of whether a job gets anywhere."""

MAX_INTERRUPTIONS = 20
"""How often a job may be stopped at all before it fails with the cause that stopped it."""

_SCHEDULER_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")


def attempt_id(fw_id: int, launch_id: int) -> str:
    """Name an attempt after the launch it is.

    Examples
    --------
    >>> attempt_id(12, 34)
    'fw12-l34'
    """
    return f"fw{fw_id}-l{launch_id}"


def begin(
    database: Database[Any], block: dict[str, Any], job: Job, fw_id: int, launch_id: int, wanted: dict[str, Any]
) -> str:
    """Record that this process has begun a task, with the overrides it was asked; return the attempt's id."""
    process = psutil.Process()
    attempt = Attempt(
        attempt=attempt_id(fw_id, launch_id),
        campaign=block["campaign"],
        round=block["round"],
        candidate=block.get("candidate"),
        stage=block["stage"],
        engine=block.get("engine"),
        name=job.name,
        job_uuid=job.uuid,
        job_index=job.index,
        fw_id=fw_id,
        launch_id=launch_id,
        directory=os.getcwd(),  # noqa: PTH109 - a string is stored
        host=socket.gethostname(),
        pid=process.pid,
        process_started=process.create_time(),
        scheduler_job=next((v for name in _SCHEDULER_VARIABLES if (v := os.environ.get(name))), None),
        cluster=os.environ.get(CLUSTER) or None,
        pilot=os.environ.get(PILOT) or None,
        took=json.loads(os.environ.get(TOOK) or "null"),
        started_at=now(),
        overrides=wanted,
    )
    # a duplicate is a retried write after the server came back: the first one did arrive
    with suppress(DuplicateKeyError):
        database.attempts.insert_one(attempt.model_dump())
    return attempt.attempt


def finish(
    database: Database[Any],
    attempt: str,
    cause: Cause | None = None,
    *,
    geometry: Structure | None = None,
    state: Literal["failed", "lost"] = "failed",
) -> None:
    """Record how an attempt ended; only one that is still running can end.

    Parameters
    ----------
    database : pymongo.database.Database
    attempt : str
    cause : Cause, optional
        Why it has no result; ``None`` if it has one.
    geometry : pymatgen.core.Structure, optional
        The last one that it reached.
    state : {"failed", "lost"}
        With a cause: whether it failed, or ended without a result and runs again.
    """
    ended = now()
    found = database.attempts.find_one({"attempt": attempt}, {"started_at": 1})
    started = found["started_at"].replace(tzinfo=ended.tzinfo) if found and found.get("started_at") else ended
    database.attempts.update_one(
        {"attempt": attempt, "state": "running"},
        {
            "$set": {
                "state": state if cause else "completed",
                "ended_at": ended,
                "seconds": round((ended - started).total_seconds(), 3),
                "cause": cause.model_dump() if cause else None,
                "last_geometry": geometry.as_dict() if geometry is not None else None,
            }
        },
    )


@dataclass(frozen=True)
class Wanted:
    """What the newest re-run asks of a job.

    Parameters
    ----------
    overrides : dict
        ``maker``, ``kwargs``, ``restart``.
    geometry : dict or None
        With ``restart``: the structure that the job starts from.
    directory : pathlib.Path or None
        With ``restart``: of the attempt that it goes on from, if it is on this machine.
    """

    overrides: dict[str, Any] = field(default_factory=dict)
    geometry: dict[str, Any] | None = None
    directory: Path | None = None


def wanted_of(database: Database[Any], block: dict[str, Any], job: Job) -> Wanted:
    """Read what the newest re-run asks of this job, and mark it begun.

    A re-run is of one job, or of a whole stage of a candidate (a phonon flow has many jobs), whose first task to begin
    ends the time in which it can be undone.
    """
    key = {name: block.get(name) for name in ("campaign", "round", "candidate", "stage")}
    mine = {"$or": [{"job_uuid": job.uuid, "job_index": job.index}, {"job_uuid": ""}]}
    planned = database.attempts.find_one(
        {**key, "planned_at": {"$ne": None}, **mine}, sort=[("planned_at", DESCENDING)]
    )
    if planned is None:
        return Wanted()
    if planned["state"] == "planned":
        database.attempts.update_one(
            {"attempt": planned["attempt"], "state": "planned"}, {"$set": {"state": "begun", "started_at": now()}}
        )
    overrides: dict[str, Any] = planned["overrides"]
    if not overrides.get("restart"):
        return Wanted(overrides)
    there = Path(planned["directory"]) if planned.get("directory") else None
    return Wanted(overrides, planned["last_geometry"], there if there is not None and there.is_dir() else None)


def fingerprint(job: Job, store: JobStore) -> str:
    """Hash what a job is asked to do: its Maker, overrides included, and its arguments with references resolved.

    A job that an upstream re-run hands another structure is asked something else, and must not go on from what it
    left before.
    """
    asked = job.resolve_args(store=store, inplace=False)
    content = jsanitize([asked.maker, asked.function_args, asked.function_kwargs], strict=True, enum_values=True)
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def earlier_directories(database: Database[Any], job: Job, attempt: str, asked: str) -> list[Path]:
    """List the directories that earlier attempts at the same job left on this machine, newest first.

    Only those that were asked the very same count, and none from before a completed one: whoever runs that again wants
    it computed again. What this attempt is asked is recorded for those to come.
    """
    database.attempts.update_one({"attempt": attempt}, {"$set": {"asked": asked}})
    found = database.attempts.find(
        {"job_uuid": job.uuid, "job_index": job.index, "attempt": {"$ne": attempt}, "directory": {"$ne": None}},
        {"directory": 1, "launch_id": 1, "state": 1, "asked": 1},
    )
    newest_first = sorted(found, key=lambda a: -(a["launch_id"] or 0))
    unfinished = takewhile(lambda a: a["state"] != "completed", newest_first)
    return [where for a in unfinished if a.get("asked") == asked and (where := Path(a["directory"])).is_dir()]


def may_go_on(database: Database[Any], job: Job, geometry: Structure | None) -> bool:
    """Tell whether an interrupted job is likely to get somewhere in another attempt.

    Parameters
    ----------
    database : pymongo.database.Database
    job : jobflow.Job
    geometry : pymatgen.core.Structure or None
        What it reached: it must not have been there several times before. Without one only the number of attempts is
        bounded.
    """
    before = list(
        database.attempts.find(
            {"job_uuid": job.uuid, "job_index": job.index, "state": "lost", "set_aside": {"$ne": True}},
            {"last_geometry": 1, "launch_id": 1, "seconds": 1},
        ).sort("launch_id", DESCENDING)
    )
    if len(before) >= MAX_INTERRUPTIONS:
        return False
    # the tail of an allocation is no fair try
    tried = [a["last_geometry"] for a in before if (a["seconds"] or 0.0) >= FAIR_TRY_S][:MAX_STANDSTILLS]
    if geometry is None or len(tried) < MAX_STANDSTILLS:
        return True
    return any(g is None or Structure.from_dict(g) != geometry for g in tried)


def root_cause(database: Database[Any], campaign: str, round_number: int, candidate: str) -> dict[str, Cause]:
    """Give, per stage of a candidate, the cause of its newest attempt if that one failed for a reason of its own.

    A child of a failed job fizzles with 901 (upstream); only the root says why.
    """
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    fields = {"stage": 1, "job_uuid": 1, "job_index": 1, "state": 1, "cause": 1, "started_at": 1, "launch_id": 1}
    query = {"campaign": campaign, "round": round_number, "candidate": candidate, "launch_id": {"$ne": None}}
    query["replaced"] = {"$ne": True}
    for attempt in sorted(database.attempts.find(query, fields), key=lambda a: a["launch_id"]):
        newest[attempt["job_uuid"], str(attempt["job_index"])] = attempt
    causes: dict[str, Cause] = {}
    for attempt in sorted(newest.values(), key=lambda a: a["launch_id"]):
        cause = attempt["cause"]
        if attempt["state"] == "failed" and cause and cause["code"] != UPSTREAM and attempt["stage"] not in causes:
            causes[attempt["stage"]] = Cause.model_validate(cause)
    return causes
