"""The pilot: what runs in a batch job. A supervisor whose workers pack tasks into what the job has, until its end.

Usage: ``python -m workflows.runtime.pilot --directory DIR --pilot NAME``, with the pilot's order in ``DIR``.

A scheduler's SIGTERM is a warning that the wall-time nears its end, which the pilot has counted itself; or the job is
being cancelled: then all its processes get one, and what runs is given back at once, for seconds are left. SIGUSR1 and
Ctrl-C ask it to begin nothing more.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymongo.errors import PyMongoError

from workflows.records import now
from workflows.runtime import allotted
from workflows.runtime.breaker import Breaker
from workflows.runtime.capacity import Ledger
from workflows.runtime.claims import Terms
from workflows.runtime.crew import Post, Worker
from workflows.runtime.identity import CLUSTER, PILOT, ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad, DatabaseAway
from workflows.runtime.order import Order
from workflows.runtime.packing import GPU, LIGHT, Room, fitting, suiting
from workflows.runtime.queues import PINNED
from workflows.runtime.repair import Repairer
from workflows.runtime.store import open_store_from_files
from workflows.runtime.through import reached
from workflows.runtime.worker import Reason, Supervisor, WorkResult, handling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.database import Database

    from workflows.records import Cause

LOGGER = logging.getLogger(__name__)

BEAT_S = 20.0
_COUNT_S = 2.0
"""s after which the end of a task stands in the pilot's record at the latest."""
_WALLTIME, _CANCELLED = 101, 105
_AT_ONCE_S = 10.0
"""A worker that dies so soon after it began a task has died of where it is."""
_EARLY_WARNING_S = 75.0
"""s by which a scheduler may send its warning too early (SLURM: up to a minute)."""
_CORES_A_SPARE = 8
_ALL_ARE_TOLD_S = 0.3
_LEAST_IDLE_S = 2.0
_DRAINED_CHECK_S = 2.0
_GROW_CHECK_S = 1.0
_LEAST_CLOSING_S = 3.0
_LONGEST_CLOSING_S = 30.0


class PilotSupervisor(Supervisor):
    """Keeps a batch job busy; see :func:`run`.

    Parameters
    ----------
    launchpad : CampaignLaunchPad
    posts : sequence of Post
        Those that are filled at once come first.
    at_once : int
        How many.
    spare : int
        How many more as soon as those are busy; the others when there is room and work for them.
    order : Order
    ledger : Ledger
    repairer : Repairer
    """

    def __init__(
        self,
        launchpad: CampaignLaunchPad,
        posts: Sequence[Post],
        *,
        at_once: int,
        spare: int,
        order: Order,
        ledger: Ledger,
        repairer: Repairer,
    ) -> None:
        super().__init__(launchpad, posts[:at_once], drain=True, grace_s=0.0, progress=_log, repairer=repairer)
        self.vacant = list(posts[at_once:])
        self.spare = spare
        self.order = order
        self.ledger = ledger
        self.terms = Terms.read(ledger.directory)
        self.cancelled = False
        self._terminated: float | None = None
        # nobody but who ends the whole job sends it anything
        self._canary = subprocess.Popen([sys.executable, "-S", "-c", "import signal; signal.pause()"])
        self.cause: Cause | None = None
        self.breaker = Breaker(launchpad.db, order.pilot)
        self._idle_since: float | None = None
        self._next_growth = 0.0

    @property
    def tasks(self) -> int:
        """How many tasks have ended."""
        return self.result.completed + self.result.failed

    def request_stop(self, number: int, _frame: Any = None) -> None:
        """Signal handler: only notes the wish."""
        if number == signal.SIGTERM:
            self._terminated = time.monotonic()
        else:
            super().request_stop(number)

    def _is_cancelled(self) -> bool:
        """Tell a warning from the end: by whether all processes of the job were told, and by the time that is left."""
        if self._terminated is not None and time.monotonic() - self._terminated >= _ALL_ARE_TOLD_S:
            self._terminated = None
            alone = self._canary.poll() is None
            warned = alone and self.terms.seconds_left() <= _EARLY_WARNING_S
            self.cancelled |= not warned
            LOGGER.info("told to end: %s", "a warning" if warned else "the job is being cancelled")
        return self.cancelled

    # -- what has ended -----------------------------------------------------------------------------------------------

    def _ended(self, event: dict[str, Any]) -> None:
        self._idle_since = None
        light = event["category"] == LIGHT
        if event["state"] == "FIZZLED":
            self.breaker.failed(event["fw_id"], light=light)
        else:
            self.breaker.completed(light=light)

    def _died(self, worker: Worker) -> None:
        self.ledger.give_back(worker.name)
        if worker.job is not None and time.monotonic() - worker.begun < _AT_ONCE_S:
            evidence = f"worker {worker.name} ended with {worker.process.returncode} as soon as it had begun"
            self.breaker.died(worker.job["fw_id"], evidence, light=worker.job["category"] == LIGHT)

    def _begin(self) -> None:
        """Start workers at once: what crashes have left is mended while they load."""
        for slot in self.posts:
            self._start(slot)

    # -- when to end --------------------------------------------------------------------------------------------------

    def _reason_to_end(self, busy: bool) -> Reason | None:
        moment = time.monotonic()
        if self._is_cancelled():
            return "stopped"
        if (cause := self.breaker.verdict()) is not None:
            self.cause = cause
            return "bad_state"
        if moment >= self.terms.end - self.terms.closing_s:
            return "out_of_time"
        if busy:
            self._idle_since = None
            self._grow(moment)
            return None
        if self.terms.seconds_left() <= 0:
            return "out_of_time"
        if self.order.fw_id is not None and self.tasks:
            return "drained"
        if self._idle_since is None and any(worker.greeted for worker in self.workers.values()):
            self._idle_since = moment
        if moment >= self._next_look:
            self._next_look = moment + _DRAINED_CHECK_S
            if self._is_drained():
                return "drained"
        idle_s = max(_LEAST_IDLE_S, self.order.kind.idle_s)
        if self._idle_since is not None and moment - self._idle_since >= idle_s:
            if self._is_there(self.terms.seconds_left()):
                self._idle_since = moment  # workers are about to take it, however slow the database is
            elif self._is_there():
                return "out_of_time"
            else:
                return "idle"
        return None

    def _is_there(self, seconds: float | None = None) -> bool:
        """Tell whether a task is READY that this job could begin if it were empty, with so much time left."""
        suits = suiting(self.order.kind, self.ledger.capacity, self.terms.partition, seconds)
        ready: dict[str, Any] = {"spec.nucleate.campaign": self.order.campaign, "state": "READY"}
        ready |= {PINNED: None} if self.order.fw_id is None else {"fw_id": self.order.fw_id}
        return self.launchpad.fireworks.find_one({**ready, **suits}, {"_id": 1}) is not None

    def _work_is_left(self) -> bool:
        if self.order.fw_id is None:
            return super()._work_is_left()
        # kept for this pilot, so no query for anybody's work finds it
        ours = {"fw_id": self.order.fw_id, "state": {"$in": ["READY", "RESERVED", "RUNNING"]}}
        return self.launchpad.fireworks.find_one(ours, {"_id": 1}) is not None

    def _grow(self, moment: float) -> None:
        """Fill another post, if all workers are busy: the spare ones, then where there is room and a task for it."""
        if not self.vacant or moment < self._next_growth or not all(w.job for w in self.workers.values()):
            return
        self._next_growth = moment + _GROW_CHECK_S
        if self.spare == 0 and not self._is_room_for(self.vacant[0]):
            return
        self.spare = max(0, self.spare - 1)
        slot = len(self.posts) + 1
        self.posts[slot] = self.vacant.pop(0)
        self._start(slot)

    def _is_room_for(self, post: Post) -> bool:
        books = self.ledger.books()
        if not self.ledger.free_cores(books):
            return False
        fits = fitting(self.order.kind, Room.left(self.ledger, books), self.terms.seconds_left(), self.terms.partition)
        ours = {"spec.nucleate.campaign": self.order.campaign, "spec._category": {"$in": list(post.categories)}}
        free = {"state": "READY", PINNED: None}
        return self.launchpad.fireworks.find_one({**ours, **free, **fits}, {"_id": 1}) is not None

    def _stop_grace(self) -> float:
        if self._is_cancelled():
            return 0.0
        return max(_LEAST_IDLE_S, self.terms.end - self.terms.closing_s - time.monotonic())

    def _cause_of_end(self) -> int:
        return _WALLTIME if self.terms.seconds_left() <= 0 and not self.cancelled else _CANCELLED

    def why(self) -> str:
        """Give the reason of the end, in the word that goes into the record."""
        if self.cancelled or self.requests:
            return "stopped"
        return {"workers_die": "bad_state"}.get(self.result.reason, self.result.reason)

    def close(self) -> None:
        """End what is not a worker."""
        self._canary.kill()
        self._canary.wait()


class Pulse(threading.Thread):
    """Tells the pilot's record that it lives, for as long as it does.

    Parameters
    ----------
    database : pymongo.database.Database
    supervisor : PilotSupervisor
    every_s : float
    """

    def __init__(self, database: Database[Any], supervisor: PilotSupervisor, every_s: float = BEAT_S) -> None:
        super().__init__(name="pulse", daemon=True)
        self.database = database
        self.supervisor = supervisor
        self.every_s = every_s
        self.over = threading.Event()

    def run(self) -> None:
        """Beat until it is over, and tell of tasks soon after they end; a database that is away misses that alone."""
        told, beaten = 0, time.monotonic()
        while not self.over.wait(min(self.every_s, _COUNT_S)):
            tasks, is_due = self.supervisor.tasks, time.monotonic() - beaten >= self.every_s
            if tasks == told and not is_due:
                continue
            told, beaten = tasks, time.monotonic() if is_due else beaten
            beat = {"$inc": {"beat": 1}} if is_due else {}
            try:
                self.database.pilots.update_one(
                    {"pilot": self.supervisor.order.pilot}, {"$set": {"tasks": tasks}, **beat}
                )
            except PyMongoError as error:
                LOGGER.warning("no beat: %s", error)


def posts_for(order: Order, directory: Path, store: Path | None, books: Path) -> tuple[list[Post], int, int]:
    """Lay out a crew: a worker for each GPU, which takes no other work, and for others as many as can run, and a spare.

    Returns
    -------
    tuple
        All posts, how many of them are filled at once, and how many more as soon as those are busy: one more takes the
        cores of a task that has ended while its worker still writes down what it did.
    """
    kind = order.kind
    cores, memory_gb = len(Ledger(books).capacity.cores), Ledger(books).capacity.memory_gb

    def post(categories: Sequence[str], **environment: str) -> Post:
        named = () if order.fw_id is not None else tuple(categories)
        return Post(directory, order.campaign, named, store=store, ledger=books, environment=environment)

    if order.fw_id is not None:
        return [post(())], 1, 0
    on_gpu = GPU in kind.categories and kind.gpus > 0
    first = [post((GPU,), CUDA_VISIBLE_DEVICES=name) for name in allotted.gpus(kind)] if on_gpu else []
    rest = [category for category in kind.categories if not on_gpu or category != GPU]
    if not rest:
        return first, len(first), 0
    least = (kind.task, *kind.stages.values())
    at_once = min(cores // min(n.cores for n in least), int(memory_gb / min(n.memory_gb for n in least)))
    hidden = {"CUDA_VISIBLE_DEVICES": ""} if on_gpu else {}
    spare = max(1, cores // _CORES_A_SPARE)
    others = [post(rest, **hidden) for _ in range(cores + spare)]
    return [*first, *others], len(first) + max(1, min(at_once, cores)), spare


def run(directory: Path, order: Order) -> str:
    """Run a pilot until there is no work, no time, or a reason to stop; returns the word for it.

    Parameters
    ----------
    directory : pathlib.Path
        Of the campaign.
    order : Order

    Raises
    ------
    StoreError
        If the store can't be opened.
    """
    directory = directory.absolute()
    os.environ[CLUSTER], os.environ[PILOT] = order.cluster, order.pilot
    capacity, end = allotted.capacity(order.kind), allotted.end(order.kind)
    closing_s = min(_LONGEST_CLOSING_S, max(_LEAST_CLOSING_S, order.kind.drain_s / 4))
    place = Order.path(directory, order.pilot).parent
    with (
        tempfile.TemporaryDirectory(prefix="nucleate-") as scratch,
        reached(directory, order.database, place) as files,
        open_store_from_files(files) as store,
    ):
        books = Path(scratch) / order.pilot
        books.mkdir()
        ledger = Ledger.open_new(books, capacity)
        Terms(
            kind=order.kind,
            end=end,
            closing_s=closing_s,
            partition=allotted.partition(order.kind),
            fw_id=order.fw_id,
            patience_s=order.patience_s,
        ).write(books)
        LOGGER.info("%s: %s, %.0f s", order.pilot, capacity, end - time.monotonic())
        launchpad = CampaignLaunchPad.signed(store.launchpad, str(ProcessName.own()))
        posts, at_once, spare = posts_for(order, directory, None if files == directory else files, books)
        repairer = Repairer(launchpad, campaign=order.campaign)
        supervisor = PilotSupervisor(
            launchpad, posts, at_once=at_once, spare=spare, order=order, ledger=ledger, repairer=repairer
        )
        begin(store.database, order, launchpad.owner)
        pulse = Pulse(store.database, supervisor)
        pulse.start()
        with handling(supervisor.request_stop, (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)):
            try:
                result = supervisor.run()
            finally:
                pulse.over.set()
                supervisor.close()
                pulse.join(_COUNT_S)  # so that what it counted is not written over the final count
            end_record(store.database, supervisor, result)
        return supervisor.why()


def begin(database: Database[Any], order: Order, process: str) -> None:
    """Tell the pilot's record that the job has begun, once more if the scheduler had put it back."""
    told = {
        "state": "running",
        "started_at": now(),
        "ended_at": None,
        "host": socket.gethostname(),
        "node": os.environ.get("SLURMD_NODENAME"),
        "process": process,
        "reason": "",
    }
    if job := os.environ.get("SLURM_JOB_ID"):
        told["job_id"] = job  # whoever submitted it may have died before writing it down
    found = database.pilots.update_one({"pilot": order.pilot}, {"$set": told, "$inc": {"beat": 1}})
    if not found.matched_count:
        LOGGER.warning("pilot %s has no record: nobody will know of it", order.pilot)


def end_record(database: Database[Any], supervisor: PilotSupervisor, result: WorkResult) -> None:
    """Tell the pilot's record that the job has ended by itself, and why."""
    told: dict[str, Any] = {
        "state": "ended",
        "ended_at": now(),
        "reason": supervisor.why(),
        "tasks": result.completed + result.failed,
    }
    with suppress(PyMongoError, DatabaseAway):
        if supervisor.cause is not None:  # what failed after that counts, too
            told["cause"] = (supervisor.breaker.verdict() or supervisor.cause).model_dump()
    LOGGER.info("%s: %s", supervisor.order.pilot, told)
    with suppress(PyMongoError, DatabaseAway):  # the scheduler will say that it has ended
        database.pilots.update_one({"pilot": supervisor.order.pilot}, {"$set": told})


def _log(event: dict[str, Any]) -> None:
    LOGGER.info("%s", event)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the pilot of a batch job."""
    parser = argparse.ArgumentParser(prog="nucleate pilot", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--pilot", required=True)
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    reason = run(options.directory, Order.read(options.directory, options.pilot))
    return 1 if reason == "database_lost" else 0


if __name__ == "__main__":
    raise SystemExit(main())
