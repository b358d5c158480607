"""Compares what the database says with what is: which processes live, and what they are at.

It looks with the eyes of somebody who stands beside the machine: all nodes' processes are on this host, so whether one
lives, and in which launch directory it works, is known without asking anybody who could be wrong.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from pymongo.errors import PyMongoError

from workflows.runtime.identity import ProcessName

if TYPE_CHECKING:
    from pymongo.database import Database

LIMIT_S = 120.0
"""For longer nothing may be said that isn't so."""

_START_TOLERANCE_S = 2.0
_ATTEMPT = {
    "_id": 0, "attempt": 1, "state": 1, "pid": 1, "process_started": 1, "directory": 1, "fw_id": 1, "launch_id": 1,
    "pilot": 1, "scheduler_job": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Falsehood:
    """Something that the database said and that was not so.

    Parameters
    ----------
    what : str
    seconds : float
        For how long, while the database could be asked.
    """

    what: str
    seconds: float


@dataclass
class Truth:
    """Looks again and again; remembers for how long each falsehood lasted.

    Parameters
    ----------
    database : pymongo.database.Database
        Reached directly, whatever happens to the nodes' network.
    """

    database: Database[Any]
    ended: list[Falsehood] = field(default_factory=list)
    launches: set[int] = field(default_factory=set)
    blind_s: float = 0.0
    _since: dict[str, tuple[str, float]] = field(default_factory=dict)
    _last: float = field(default_factory=time.monotonic)

    def look(self) -> bool:
        """Look once; false if the database could not be asked."""
        now = time.monotonic()
        passed, self._last = now - self._last, now
        try:
            false = self._false()
        except PyMongoError:
            # nobody can be told anything now; what was false goes on being so, and doesn't age
            self.blind_s += passed
            self._since = {key: (what, since + passed) for key, (what, since) in self._since.items()}
            return False
        for key in self._since.keys() - false.keys():
            what, since = self._since.pop(key)
            self.ended.append(Falsehood(what, round(now - since, 1)))
        for key, what in false.items():
            self._since.setdefault(key, (what, now))
        return True

    def all(self) -> list[Falsehood]:
        """Give all falsehoods, those that last still among them, the longest first."""
        now = time.monotonic()
        lasting = [Falsehood(what, round(now - since, 1)) for what, since in self._since.values()]
        return sorted([*self.ended, *lasting], key=lambda f: -f.seconds)

    def lasting(self) -> bool:
        """Tell whether something was false at the last look."""
        return bool(self._since)

    def running(self) -> list[dict[str, Any]]:
        """Give the attempts that are running in fact, as far as the database knows of them."""
        attempts = self.database.attempts.find({"state": "running"}, _ATTEMPT)
        return [a for a in attempts if _works_in(a)]

    def _false(self) -> dict[str, str]:
        found: dict[str, str] = {}
        processes: dict[int, bool] = {}
        for attempt in self.database.attempts.find({"launch_id": {"$ne": None}}, _ATTEMPT):
            works = _works_in(attempt)
            processes[attempt["launch_id"]] = works
            if attempt["state"] == "running" and not works:
                found[f"attempt {attempt['attempt']}"] = f"{attempt['attempt']} is running, and no process is at it"
            elif attempt["state"] in {"lost", "failed"} and works:
                what = f"{attempt['attempt']} is called {attempt['state']}, and its process is at it"
                found[f"attempt {attempt['attempt']}"] = what
        states = {fw["fw_id"]: fw for fw in self.database.fireworks.find({}, {"fw_id": 1, "state": 1, "claimed_by": 1})}
        fields = {"_id": 0, "launch_id": 1, "fw_id": 1, "state": 1, "fworker.name": 1}
        for launch in self.database.launches.find({}, fields):
            self.launches.add(launch["launch_id"])
            if launch["state"] != "RUNNING":
                continue
            # between the launch and its attempt lie moments: then its process has to live, at least
            works = processes.get(launch["launch_id"], _lives(launch["fworker"]["name"]))
            if not works:
                found[f"launch {launch['launch_id']}"] = f"launch {launch['launch_id']} is RUNNING, and no process is"
        for fw in states.values():
            if fw["state"] == "RESERVED" and not _lives(fw.get("claimed_by")):
                found[f"claim {fw['fw_id']}"] = f"firework {fw['fw_id']} is RESERVED by a process that is gone"
        for workflow in self.database.workflows.find({"locked": {"$exists": True}}, {"locked": 1, "name": 1}):
            lock = workflow["locked"]
            if not isinstance(lock, dict) or not _lives(lock.get("by")):
                found[f"lock {workflow['_id']}"] = f"workflow {workflow['name']} is locked by a process that is gone"
        for pilot in self.database.pilots.find({}, {"pilot": 1, "state": 1, "process": 1}):
            lives = _lives(pilot.get("process"))
            if pilot["state"] == "running" and pilot.get("process") and not lives:
                found[f"pilot {pilot['pilot']}"] = f"pilot {pilot['pilot']} is running, and its process is gone"
            elif pilot["state"] == "ended" and lives:
                found[f"pilot {pilot['pilot']}"] = f"pilot {pilot['pilot']} is called ended, and its process lives"
        return found


def _process(pid: int, started: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) <= _START_TOLERANCE_S
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _works_in(attempt: dict[str, Any]) -> bool:
    """Tell whether an attempt's process lives and is at it: a worker stays in a launch's directory for as long."""
    process = _process(attempt["pid"], attempt["process_started"])
    if process is None:
        return False
    try:
        return Path(process.cwd()) == Path(attempt["directory"])
    except psutil.Error:
        return False


def _lives(name: str | None) -> bool:
    process = ProcessName.parse(name)
    return process is not None and _process(process.pid, process.started) is not None
