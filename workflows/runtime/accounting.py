"""Core-hours of a campaign: what its batch jobs were allocated, by the accounts, and what ran outside of any."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflows.records import now

if TYPE_CHECKING:
    from datetime import datetime

    from pymongo.database import Database

OUTSIDE = "outside"
"""Stands for a cluster's name: attempts that ran in no batch job of ours, on whatever machine ``nucleate work`` ran."""


def core_hours(database: Database[Any], campaign: str) -> dict[str, float]:
    """Sum what a campaign has spent, by cluster.

    A batch job counts with all cores that it held, busy or not, for as long as it held them: by its scheduler's
    accounts where there are any, else by when it began and ended. An attempt outside of any job counts with its
    wall-clock time and the cores that its firework asks for (one, if it asks for none).

    Parameters
    ----------
    database : pymongo.database.Database
    campaign : str

    Returns
    -------
    dict of str to float
        Core-hours by the cluster's name; :data:`OUTSIDE` for attempts in no batch job of ours.
    """
    seconds: dict[str, float] = {}
    fields = {"_id": 0, "cluster": 1, "cores": 1, "core_seconds": 1, "state": 1, "started_at": 1, "ended_at": 1}
    for pilot in database.pilots.find({"campaign": campaign}, fields):
        seconds[pilot["cluster"]] = seconds.get(pilot["cluster"], 0.0) + spent_core_seconds(pilot)
    outside = _outside(database, campaign)
    if outside:
        seconds[OUTSIDE] = outside
    return {cluster: spent / 3600 for cluster, spent in sorted(seconds.items())}


def total_core_hours(database: Database[Any], campaign: str) -> float:
    """Sum what a campaign has spent, wherever; it counts against ``budget.hours``."""
    return sum(core_hours(database, campaign).values())


def spent_core_seconds(pilot: dict[str, Any]) -> float:
    """Give the core-seconds that a batch job has been allocated so far.

    Parameters
    ----------
    pilot : dict
        Its record, or those fields of it: cores, core_seconds, state, started_at, ended_at.
    """
    accounted = pilot.get("core_seconds")
    if accounted is not None:
        return float(accounted)
    started: datetime | None = pilot.get("started_at")
    if started is None:
        return 0.0
    # the scheduler's clock or the job's began it; on a host whose clock is off, this is off until the accounts are in
    ended = pilot.get("ended_at") or now()
    elapsed = (ended.replace(tzinfo=None) - started.replace(tzinfo=None)).total_seconds()
    return float(pilot["cores"]) * max(0.0, elapsed)


def balance(database: Database[Any], campaign: str) -> None:
    """Store what was spent outside of batch jobs so far, so that nobody sums all attempts of a campaign again.

    Whatever runs now, and what began after it, is left for the next balance.
    """
    stored = _balance(database, campaign)
    since = _attempts_after(database, campaign, stored["launch_id"])
    running = [one["launch_id"] for one in since if one["state"] == "running"]
    until = min(running) - 1 if running else max((one["launch_id"] for one in since), default=0)
    if until <= stored["launch_id"]:
        return
    settled = [one for one in since if one["launch_id"] <= until]
    spent = stored["core_seconds"] + _core_seconds(database, campaign, settled)
    before = stored if stored["launch_id"] else None
    # somebody else's balance counts: ours would count the same again
    database.campaigns.update_one(
        {"name": campaign, "spent": before}, {"$set": {"spent": {"launch_id": until, "core_seconds": spent}}}
    )


def _balance(database: Database[Any], campaign: str) -> dict[str, Any]:
    found = database.campaigns.find_one({"name": campaign}, {"spent": 1}) or {}
    return found.get("spent") or {"launch_id": 0, "core_seconds": 0.0}


def _outside(database: Database[Any], campaign: str) -> float:
    """Sum core-seconds of attempts outside of batch jobs: the last balance, and what came since."""
    stored = _balance(database, campaign)
    since = _attempts_after(database, campaign, stored["launch_id"])
    return float(stored["core_seconds"]) + _core_seconds(database, campaign, since)


def _attempts_after(database: Database[Any], campaign: str, launch_id: int) -> list[dict[str, Any]]:
    # with the pilot in the filter, the embedded server looks at all of the campaign's attempts
    later = {"campaign": campaign, "launch_id": {"$gt": launch_id}}
    fields = {"_id": 0, "fw_id": 1, "launch_id": 1, "round": 1, "state": 1, "seconds": 1, "pilot": 1}
    return list(database.attempts.find(later, fields))


def _core_seconds(database: Database[Any], campaign: str, attempts: list[dict[str, Any]]) -> float:
    """Sum what those of the attempts took that ran in no batch job."""
    outside = [one for one in attempts if one["seconds"] and one.get("pilot") is None]
    fields = {"_id": 0, "fw_id": 1, "spec.resources.cores": 1}
    cores: dict[int, int] = {}
    for number in sorted({one["round"] for one in outside}):
        # by equality: with a list of rounds, or cores in the filter, the embedded server scans all fireworks
        mine = {"spec.nucleate.campaign": campaign, "spec.nucleate.round": number}
        for fw in database.fireworks.find(mine, fields):
            cores[fw["fw_id"]] = (fw["spec"].get("resources") or {}).get("cores") or 1
    return sum(float(cores.get(one["fw_id"], 1) * one["seconds"]) for one in outside)
