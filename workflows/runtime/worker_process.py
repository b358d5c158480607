"""One worker process: keeps models loaded and takes job after job until it is told to stop.

It is started by :mod:`workflows.runtime.worker`, which watches it, and tells it what happens over a pipe, one JSON
object a line. A signal only asks it to stop after the current job; whoever wants more kills it, and repair gives its
job back.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fireworks import FWorker
from pymongo.errors import ConnectionFailure

from workflows.runtime.capacity import Ledger
from workflows.runtime.claims import Claims, PackedClaims
from workflows.runtime.crew import STARTED_BY, kill_started
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad, DatabaseAway
from workflows.runtime.repair import Repairer
from workflows.runtime.rocket import run_claimed
from workflows.runtime.store import open_store_from_files

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fireworks import Firework

LOGGER = logging.getLogger(__name__)

Emit = "Callable[..., None]"

_SHORTEST_SLEEP_S = 0.2
_LONGEST_SLEEP_S = 2.0
_PATIENCE_S = 600.0
"""How long a worker outlasts a database that is away."""
_ORPHAN_CHECK_S = 0.5
_ORPHAN_GRACE_S = 30.0

DATABASE_LOST_EXIT = 75


def campaign_query(campaign: str | None) -> dict[str, Any]:
    """Select the fireworks of a campaign, or all."""
    return {"spec.nucleate.campaign": campaign} if campaign else {}


class JobRunner:
    """Claims fireworks and runs them in this process.

    Parameters
    ----------
    launchpad : CampaignLaunchPad
    launches : pathlib.Path
        Absolute; every launch gets a directory of its own below it.
    campaign : str, optional
        Take only its fireworks.
    categories : sequence of str
        Take only these ``_category``; empty takes everything.
    ledger : Ledger, optional
        Take only what finds room in a batch job.
    """

    def __init__(
        self,
        launchpad: CampaignLaunchPad,
        launches: Path,
        *,
        campaign: str | None = None,
        categories: Sequence[str] = (),
        ledger: Ledger | None = None,
    ) -> None:
        self.launchpad = launchpad
        self.launches = launches.absolute()
        self.fworker = FWorker(launchpad.owner, category=list(categories), query=campaign_query(campaign))
        query = self.fworker.query
        self.claims = Claims(launchpad, query) if ledger is None else PackedClaims(launchpad, query, ledger)

    def claim(self) -> Firework | None:
        """Reserve the next firework, if there is one."""
        return self.claims.claim()

    def run(self, firework: Firework) -> str:
        """Run what was claimed; returns the state that it ended in.

        Raises
        ------
        DatabaseAway
            If the database went away; repair finds out what was stored.
        """
        directory = self._directory(firework)
        # a launch lives in a directory of its own, which FireWorks takes from the process; nothing else runs in it
        with contextlib.chdir(directory), self.claims.holding(firework) as release:
            state = run_claimed(self.launchpad, self.fworker, firework, release)
        with contextlib.suppress(OSError):
            directory.rmdir()  # only if the job left nothing in it
        return state

    def _directory(self, firework: Firework) -> Path:
        block = firework.spec.get("nucleate") or {}
        parent = self.launches
        if block:
            parent = parent / block["campaign"] / f"r{block['round']:02d}" / (block.get("candidate") or "round")
        name = f"{block.get('stage', 'job')}-fw{firework.fw_id}-{time.strftime('%Y%m%dT%H%M%S')}"
        for suffix in ("", *(f"-{n}" for n in range(2, 100))):
            directory = parent / (name + suffix)
            try:
                directory.mkdir(parents=True)
            except FileExistsError:
                continue
            return directory
        raise FileExistsError(parent / name)

    def run_all(self, limit: int | None = None) -> int:
        """Run until nothing is READY; returns how many were run."""
        done = 0
        while (limit is None or done < limit) and (firework := self.claim()):
            self.run(firework)
            done += 1
        return done


class WorkerLoop:
    """Takes job after job, sleeping longer and longer while there is none.

    Parameters
    ----------
    runner : JobRunner
    emit : callable
        ``emit(event, **detail)``.
    """

    def __init__(self, runner: JobRunner, emit: Callable[..., None]) -> None:
        self.runner = runner
        self.emit = emit
        self.stop = threading.Event()

    def run(self) -> int:
        """Work until asked to stop; returns the exit code."""
        sleep_s = _SHORTEST_SLEEP_S
        away_since: float | None = None
        idle = False
        while not self.stop.is_set():
            try:
                if away_since is not None:
                    # what this process held when the database went away: applied or run again, as far as it got
                    Repairer(self.runner.launchpad).run()
                    self.emit("back", away_s=round(time.monotonic() - away_since, 1))
                    away_since = None
                firework = self.runner.claim()
                if firework is None:
                    if not idle:
                        self.emit("idle")
                    idle = True
                    self.runner.claims.rest(self.stop, sleep_s)
                    sleep_s = min(_LONGEST_SLEEP_S, sleep_s * 1.5)
                    continue
                idle, sleep_s = False, _SHORTEST_SLEEP_S
                self._run(firework)
            except (ConnectionFailure, DatabaseAway) as error:
                if away_since is None:
                    away_since = time.monotonic()
                    self.emit("away", error=str(error))
                if time.monotonic() - away_since > _PATIENCE_S:
                    LOGGER.exception("the database did not come back")
                    return DATABASE_LOST_EXIT
                self.stop.wait(_LONGEST_SLEEP_S)
        return 0

    def _run(self, firework: Firework) -> None:
        block = firework.spec.get("nucleate") or {}
        detail = {
            "fw_id": firework.fw_id,
            "name": firework.name,
            "round": block.get("round"),
            "stage": block.get("stage"),
            "candidate": block.get("candidate"),
            "category": firework.spec.get("_category"),
        }
        self.emit("begin", **detail)
        started = time.monotonic()
        state = self.runner.run(firework)
        self.emit("end", **detail, state=state, seconds=round(time.monotonic() - started, 3))


def _watch_parent(parent: int, stop: threading.Event) -> None:
    """Without its supervisor nobody could stop this process: end with the current job, or soon."""
    while os.getppid() == parent:
        time.sleep(_ORPHAN_CHECK_S)
    stop.set()
    time.sleep(_ORPHAN_GRACE_S)
    kill_started(os.environ.get(STARTED_BY, "-"))
    os.killpg(0, signal.SIGKILL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one worker; used by :func:`workflows.runtime.worker.work`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--campaign")
    parser.add_argument("--category", action="append", default=[])
    parser.add_argument("--ledger", type=Path, help="directory with the books of a batch job")
    parser.add_argument("--store", type=Path, help="directory with the store's files (default: the campaign's)")
    parser.add_argument("--events", type=int, required=True, help="file descriptor to write events to")
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)

    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    events = os.fdopen(options.events, "w", buffering=1)
    owner = str(ProcessName.own())

    def emit(event: str, **detail: Any) -> None:
        with contextlib.suppress(BrokenPipeError):
            events.write(json.dumps({"event": event, "worker": owner, **detail}) + "\n")

    with open_store_from_files(options.store or options.directory) as store:
        launchpad = CampaignLaunchPad.signed(store.launchpad, owner)
        launches = options.directory.absolute() / "launches"
        ledger = Ledger(options.ledger) if options.ledger else None
        runner = JobRunner(launchpad, launches, campaign=options.campaign, categories=options.category, ledger=ledger)
        loop = WorkerLoop(runner, emit)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: loop.stop.set())
        threading.Thread(target=_watch_parent, args=(options.parent, loop.stop), daemon=True).start()
        emit("hello")
        return loop.run()


if __name__ == "__main__":
    exit_code = main()
    logging.shutdown()
    sys.stdout.flush()
    # FireWorks' heartbeat thread of a launch that broke off sleeps for an hour, and Python would wait for it
    os._exit(exit_code)
