"""Several worker processes side by side, watched: restarted when they die, stopped cleanly, repaired after.

The supervisor runs no job itself. It reads what its workers report, repairs what crashes left (its own workers' at
once), and decides when no work is left.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import threading
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from fireworks import FWorker
from pymongo.errors import ConnectionFailure

from dft_inputs.memory import oom_kills
from dft_inputs.walltime import Remaining
from workflows.runtime.claims import out_of_time
from workflows.runtime.crew import Post, Worker
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad, DatabaseAway
from workflows.runtime.repair import GRACE_S, Repair, Repairer
from workflows.runtime.store import open_store_from_files
from workflows.runtime.worker_process import campaign_query

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

LOGGER = logging.getLogger(__name__)

_OUT_OF_MEMORY, _CANCELLED = 102, 105
_TICK_S = 0.2
_REPAIR_IDLE_S = 5.0
_REPAIR_BUSY_S = 30.0
_LEFT_CHECK_S = 0.5
_DEATHS_BEFORE_GIVING_UP = 5
_DYING_S = 10.0
"""s that a process may take to end after the kernel has killed it for its memory."""
_STEADY_S = 120.0
"""A worker that has lived so long is not one that can't start."""
_PATIENCE_S = 600.0

Reason = Literal["drained", "stopped", "aborted", "workers_die", "database_lost", "out_of_time", "idle", "bad_state"]


@dataclass
class WorkResult:
    """How a session of work ended.

    Parameters
    ----------
    reason : {"drained", "stopped", "aborted", "workers_die", "database_lost", "out_of_time"}
        No work was left; asked to stop, and the current jobs ended; asked twice, and jobs were given back; worker
        processes died again and again; the database did not come back; too little wall-time is left to begin anything.
    completed, failed : int
        Jobs that ended COMPLETED and FIZZLED.
    given_back : int
        Jobs that were interrupted and are READY again.
    repairs : list of Repair
    """

    reason: Reason = "drained"
    completed: int = 0
    failed: int = 0
    given_back: int = 0
    repairs: list[Repair] = field(default_factory=list)


class Supervisor:
    """Keeps a crew at work; see :func:`work`.

    Parameters
    ----------
    launchpad : CampaignLaunchPad
    posts : sequence of Post
        One a worker.
    drain : bool
        End when no work is left.
    grace_s : float
        What jobs get to end after SIGTERM, s.
    progress : callable
    repairer : Repairer
    """

    def __init__(
        self,
        launchpad: CampaignLaunchPad,
        posts: Sequence[Post],
        *,
        drain: bool,
        grace_s: float,
        progress: Callable[[dict[str, Any]], None],
        repairer: Repairer,
    ) -> None:
        self.launchpad = launchpad
        self.posts = dict(enumerate(posts, start=1))
        self.drain = drain
        self.grace_s = grace_s
        self.progress = progress
        self.repairer = repairer
        self.result = WorkResult()
        self.workers: dict[int, Worker] = {}
        self.deaths: list[float] = []
        self.requests: list[int] = []
        self._oom_kills = oom_kills()
        self._oom_at: float | None = None
        self.remaining = Remaining()
        self._next_look = 0.0
        self._selector = selectors.DefaultSelector()

    def request_stop(self, number: int, _frame: Any = None) -> None:
        """Signal handler: only notes the wish."""
        self.requests.append(number)

    # -- processes ----------------------------------------------------------------------------------------------------

    def _start(self, slot: int) -> None:
        worker = Worker.start(slot, self.posts[slot])
        self.workers[slot] = worker
        self._selector.register(worker.events, selectors.EVENT_READ, worker)

    def _read(self, worker: Worker) -> None:
        """Take in what a worker has reported."""
        for event in worker.read():
            worker.name, worker.greeted = event["worker"], True
            if event["event"] == "begin":
                worker.job, worker.begun = event, time.monotonic()
            elif event["event"] == "end":
                worker.job = None
                self.result.completed += event["state"] == "COMPLETED"
                self.result.failed += event["state"] == "FIZZLED"
                self._ended(event)
            self.progress({**event, "slot": worker.slot})

    def _bury(self, worker: Worker) -> None:
        self._read(worker)
        self._selector.unregister(worker.events)
        os.close(worker.events)
        worker.kill()  # what its jobs may have left running
        del self.workers[worker.slot]

    def _reap(self) -> None:
        """Start dead workers again, and give their jobs back first."""
        dead = [w for w in self.workers.values() if w.process.poll() is not None]
        of_memory = self._memory_ran_out()
        for worker in dead:
            self._bury(worker)
            code = worker.process.returncode
            if code == 0 and self.requests:
                continue
            self.progress({"event": "died", "slot": worker.slot, "code": code, "job": worker.job})
            LOGGER.warning("worker %s ended with %s; its log: logs/*worker-%s.log", worker.name, code, worker.slot)
            self._died(worker)
            self._repair({worker.name: _OUT_OF_MEMORY} if of_memory and code == -signal.SIGKILL else None)
            now = time.monotonic()
            if now - worker.since > _STEADY_S:
                self.deaths.clear()
            self.deaths.append(now)
            if not self.requests and len(self.deaths) <= _DEATHS_BEFORE_GIVING_UP * len(self.posts):
                self._start(worker.slot)

    def _memory_ran_out(self) -> bool:
        """Tell whether the kernel has killed something of this job for its memory just now."""
        kills, before = oom_kills(), self._oom_kills
        if kills != before:
            self._oom_kills, self._oom_at = kills, time.monotonic()
        return self._oom_at is not None and time.monotonic() - self._oom_at < _DYING_S

    # -- what the database says ---------------------------------------------------------------------------------------

    def _repair(self, causes: dict[str, int] | None = None) -> bool:
        """Make a pass; tell whether all is well."""
        repairs = self.repairer.run(causes)
        for repair in repairs:
            LOGGER.info("repaired: %s", repair)
            self.progress({"event": "repaired", "kind": repair.kind, "fw_id": repair.fw_id, "done": repair.done})
        self.result.repairs += repairs
        self.result.given_back += sum(repair.kind == "lost" for repair in repairs)
        return not repairs and not self.repairer.pending

    def _work_is_left(self) -> bool:
        """Tell whether something is READY for us, or anybody runs something that could make it so."""
        campaign = campaign_query(next(iter(self.posts.values())).campaign)
        categories = {category for post in self.posts.values() for category in post.categories}
        ours = FWorker(category=sorted(categories), query=campaign).query
        find_one = self.launchpad.fireworks.find_one
        return bool(
            find_one({**ours, "state": "READY"}, {"_id": 1})
            or find_one({**campaign, "state": {"$in": ["RESERVED", "RUNNING"]}}, {"_id": 1})
        )

    # -- what a pilot does otherwise ----------------------------------------------------------------------------------

    def _ended(self, event: dict[str, Any]) -> None:
        """Take note of a task that has ended."""

    def _died(self, worker: Worker) -> None:
        """Take note of a worker that has died, with all that it had started."""

    def _reason_to_end(self, busy: bool) -> Reason | None:
        """Tell whether it is over, and why."""
        now = time.monotonic()
        if self.drain and not busy and now >= self._next_look:
            self._next_look = now + _LEFT_CHECK_S
            if self._is_drained():
                return "drained"
        return "out_of_time" if not busy and out_of_time(self.remaining) else None

    def _is_drained(self) -> bool:
        # repair last: what it mends may be work
        return not self._work_is_left() and self._repair() and not self._work_is_left()

    def _stop_grace(self) -> float:
        """Give the s that current jobs have to end by themselves."""
        return self.grace_s if signal.SIGTERM in self.requests or not self.requests else float("inf")

    def _cause_of_end(self) -> int:
        """Name the cause of jobs that don't."""
        return _CANCELLED

    # -- the loop -----------------------------------------------------------------------------------------------------

    def run(self) -> WorkResult:
        """Work until there is a reason to end."""
        try:
            self._begin()
            self._until_the_end()
        finally:
            self._end_all()
        return self.result

    def _begin(self) -> None:
        self._repair()
        for slot in self.posts:
            self._start(slot)

    def _until_the_end(self) -> None:
        next_repair = time.monotonic()
        away_since: float | None = None
        while not self.requests:
            for key, _ in self._selector.select(_TICK_S):
                self._read(key.data)
            now = time.monotonic()
            try:
                self._reap()
                if not self.workers:
                    self.result.reason = "workers_die"
                    return
                busy = any(worker.job for worker in self.workers.values())
                if now >= next_repair:
                    self._repair()
                    next_repair = now + (_REPAIR_BUSY_S if busy else _REPAIR_IDLE_S)
                if (reason := self._reason_to_end(busy)) is not None:
                    self.result.reason = reason
                    return
                away_since = None
            except (ConnectionFailure, DatabaseAway) as error:
                self.repairer.forget()
                if away_since is None:
                    away_since = now
                    LOGGER.warning("the database is away: %s", error)
                    self.progress({"event": "away", "error": str(error)})
                elif now - away_since > _PATIENCE_S:
                    self.result.reason = "database_lost"
                    return
                time.sleep(1.0)

    def _end_all(self) -> None:
        """Let current jobs end: after SIGTERM for a grace, after Ctrl-C until asked again; then give them back."""
        asked = len(self.requests)
        if asked:
            self.result.reason = "stopped"
            jobs = [worker.job["name"] for worker in self.workers.values() if worker.job]
            self.progress({"event": "stopping", "jobs": jobs, "grace_s": self._stop_grace()})
        for worker in self.workers.values():
            with suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGTERM)
        since = time.monotonic()
        while self.workers and len(self.requests) <= max(asked, 1):
            if time.monotonic() - since > self._stop_grace():
                break
            for key, _ in self._selector.select(_TICK_S):
                self._read(key.data)
            for worker in [w for w in self.workers.values() if w.process.poll() is not None]:
                self._bury(worker)
        if self.workers and asked:
            self.result.reason = "aborted"
        causes = {}
        for worker in list(self.workers.values()):
            causes[worker.name] = self._cause_of_end()
            worker.kill()
            self._bury(worker)
        with suppress(ConnectionFailure, DatabaseAway):  # whoever works next repairs it
            self._repair(causes)
        self._selector.close()


@contextmanager
def handling(
    handler: Callable[[int, Any], None], numbers: Sequence[int] = (signal.SIGINT, signal.SIGTERM)
) -> Iterator[None]:
    """Handle Ctrl-C and SIGTERM, or others, for the duration of a block, where signals can be handled at all."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def work(
    directory: Path,
    *,
    processes: int = 1,
    campaign: str | None = None,
    categories: Sequence[str] = (),
    drain: bool = True,
    threads: int = 1,
    grace_s: float = 30.0,
    repair_grace_s: float = GRACE_S,
    progress: Callable[[dict[str, Any]], None] | None = None,
    extra: Sequence[Callable[[CampaignLaunchPad], Sequence[Repair]]] = (),
) -> WorkResult:
    """Run jobs in worker processes until none is left, or until asked to stop.

    The first Ctrl-C lets current jobs end; the first SIGTERM does, for ``grace_s``; the second of either aborts:
    interrupted jobs are READY again, their attempts lost with cause 105.

    Parameters
    ----------
    directory : pathlib.Path
        Of the campaign: ``my_launchpad.yaml`` and ``jobflow.yaml`` are in it; ``launches/`` and ``logs/`` go there.
    processes : int
        Workers side by side.
    campaign : str, optional
        Take only jobs of this one.
    categories : sequence of str
        Take only jobs of these categories; empty takes everything.
    drain : bool
        End when no work is left, else wait for more.
    threads : int
        Threads of each worker.
    grace_s : float
        See above.
    repair_grace_s : float
        See :data:`workflows.runtime.repair.GRACE_S`.
    progress : callable, optional
        Called with what happens: dicts with ``event`` (hello, begin, end, idle, died, repaired, away, back, stopping)
        and detail.
    extra : sequence of callables
        Further repairs, see :class:`workflows.runtime.repair.Repairer`.

    Raises
    ------
    StoreError
        If the store can't be opened.
    """
    with open_store_from_files(directory) as store:
        launchpad = CampaignLaunchPad.signed(store.launchpad, str(ProcessName.own()))
        post = Post(directory.absolute(), campaign, tuple(categories), threads)
        supervisor = Supervisor(
            launchpad,
            [post] * processes,
            drain=drain,
            grace_s=grace_s,
            progress=progress or (lambda event: LOGGER.info("%s", event)),
            repairer=Repairer(launchpad, grace_s=repair_grace_s, extra=extra),
        )
        with handling(supervisor.request_stop):
            return supervisor.run()
