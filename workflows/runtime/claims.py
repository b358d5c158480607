"""How a worker comes by its tasks: any that is READY, or, in a pilot, one for which there is room and time."""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pymongo import DESCENDING

from dft_inputs.walltime import DEADLINE, Remaining
from workflows.runtime.binding import bound
from workflows.runtime.capacity import Grant, Ledger, Looks
from workflows.runtime.cluster import Needs, PilotKind
from workflows.runtime.identity import TOOK
from workflows.runtime.launchpad import CLAIMED_BY
from workflows.runtime.packing import Query, Room, fitting, needs
from workflows.runtime.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from threading import Event

    from fireworks import Firework

    from workflows.runtime.capacity import Books
    from workflows.runtime.launchpad import CampaignLaunchPad

LOGGER = logging.getLogger(__name__)

LEAST_TIME_S = 90.0
"""Wall-time of an allocation below which no job is begun: DFT would be told to stop before its first step."""

_REST_S = 0.005
_LONGEST_REST_S = 2.0
_TIME_STEP_S = 10.0
_TIME_STEPS = 10
"""Where so many are left, the time left is rounded: what was found for a query serves the next claim with it, too."""
_AWAITED = "awaited"
_AWAITED_LOOKS = 12
"""How often in its patience a pilot looks for a task that finds no room."""


def out_of_time(remaining: Remaining) -> bool:
    """Tell whether too little wall-time is left to this process for a job to make sense."""
    left = remaining.seconds()
    return left is not None and left < LEAST_TIME_S


class Claims:
    """Claims whatever is READY.

    Parameters
    ----------
    launchpad : CampaignLaunchPad
    query : dict
        As ``FWorker.query``.
    """

    def __init__(self, launchpad: CampaignLaunchPad, query: Query) -> None:
        self.launchpad = launchpad
        self.query = query
        self.remaining = Remaining()

    def claim(self) -> Firework | None:
        """Reserve the next firework, if there is one."""
        return None if out_of_time(self.remaining) else self.launchpad.claim(self.query)

    def rest(self, stop: Event, seconds: float) -> None:
        """Wait for ``seconds``, or until there is reason to look again, or to stop."""
        stop.wait(seconds)

    @contextmanager
    def holding(self, firework: Firework) -> Iterator[Callable[[], None]]:  # noqa: ARG002 - every job takes what it likes
        """Run what was claimed inside this block; yields what to call when its tasks have ended, if before."""
        yield lambda: None


class Terms(BaseModel):
    """What holds for all tasks of a pilot; kept beside its books."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: PilotKind
    end: float = Field(description="when the batch job is over, s of time.monotonic on its first node")
    closing_s: float = Field(description="s before the end at which the last task must have ended")
    partition: str | None = None
    fw_id: int | None = Field(None, description="the one firework that it takes")
    patience_s: float = 60.0

    def write(self, directory: Path) -> None:
        """Write them into the directory of the books."""
        (directory / "terms.json").write_text(self.model_dump_json(), encoding="utf-8")

    @classmethod
    def read(cls, directory: Path) -> Terms:
        """Read them from there."""
        return cls.model_validate_json((directory / "terms.json").read_text(encoding="utf-8"))

    def seconds_left(self) -> float:
        """Give the s in which a task begun now must end, unless it can go on elsewhere."""
        return self.end - self.kind.drain_s - time.monotonic()

    def deadline(self) -> float:
        """Give the time, s since the epoch, at which tasks must have ended; they stop themselves before it."""
        return time.time() + self.end - self.closing_s - time.monotonic()


class PackedClaims(Claims):
    """Claims what finds room in a batch job, and runs it bound to the cores that it takes.

    A task that would fit the empty job, and that smaller ones have kept out for longer than the pilot's patience, is
    waited for: nothing else begins until it has.

    Parameters
    ----------
    launchpad : CampaignLaunchPad
    query : dict
        As ``FWorker.query``: campaign and categories.
    ledger : Ledger
    """

    def __init__(self, launchpad: CampaignLaunchPad, query: Query, ledger: Ledger) -> None:
        super().__init__(launchpad, query)
        self.ledger = ledger
        self.terms = Terms.read(ledger.directory)
        self.looks = Looks(ledger, str(sorted(map(str, query.get("spec._category", {}).get("$in", [])))))
        self._grant: Grant | None = None
        self._needs = self.terms.kind.task

    def claim(self) -> Firework | None:
        """Reserve a firework and take what it needs, if there is one for which there is room and time."""
        if not self.looks.are_due():
            return None
        with self.ledger.looking() as alone:
            if not alone:
                return None
            books = self.ledger.books()
            firework = self._one() if self.terms.fw_id is not None else self._next(books)
            if firework is None:
                self.looks.found_nothing(books)
                return None
            self._grant = self._take(firework)
            if self._grant is None:
                self._release(firework)
                self.looks.found_nothing(books)
                return None
            return firework

    def rest(self, stop: Event, seconds: float) -> None:  # noqa: ARG002 - when to look is agreed upon
        """Wait until there is reason to look again, or to stop."""
        until = time.monotonic() + _LONGEST_REST_S
        while not stop.wait(_REST_S) and time.monotonic() < until and not self.looks.are_due():
            pass

    @contextmanager
    def holding(self, firework: Firework) -> Iterator[Callable[[], None]]:
        """Run what was claimed inside this block, bound to its cores; they are given back when its tasks have ended."""
        grant = self._grant
        if grant is None or grant.fw_id != firework.fw_id:
            raise RuntimeError(f"nothing was taken for firework {firework.fw_id}")
        deadline = f"{self.terms.deadline():.0f}"
        environment = {DEADLINE: deadline, "SLURM_JOB_END_TIME": deadline, TOOK: self._needs.model_dump_json()}
        cores = grant.cores if self.ledger.capacity.bound and not grant.whole else ()
        with ExitStack() as held:
            held.callback(self._give_back)
            held.enter_context(bound(cores, _threads(firework.spec, grant), environment))
            yield held.close

    def _give_back(self) -> None:
        self._grant = None
        self.ledger.give_back(self.launchpad.owner)

    # -- which --------------------------------------------------------------------------------------------------------

    def _one(self) -> Firework | None:
        """Claim the one firework that this pilot is for."""
        return self.launchpad.claim({"$and": [{"fw_id": self.terms.fw_id}]})

    def _next(self, books: Books) -> Firework | None:
        left = self.terms.seconds_left()
        if left <= 0:
            return None
        if left > _TIME_STEPS * _TIME_STEP_S:
            left = left // _TIME_STEP_S * _TIME_STEP_S
        room = Room.left(self.ledger, books)
        fits = fitting(self.terms.kind, room, left, self.terms.partition)
        awaited = self._awaited(books, fits, left)
        chosen = [fits] if awaited is None else [{"fw_id": awaited}, fits]
        return self.launchpad.claim({**self.query, "$and": chosen})

    def _awaited(self, books: Books, fits: Query, left: float) -> int | None:
        """Give the firework that has been kept out for too long, if there is one."""
        now = time.monotonic()
        seen: dict[str, Any] = books.notes.get(_AWAITED) or {}
        overdue = bool(seen.get("fw_id")) and now - seen["since"] >= self.terms.patience_s
        if not overdue and now - seen.get("looked", -1e9) < self.terms.patience_s / _AWAITED_LOOKS:
            return None
        whole = fitting(self.terms.kind, Room.of_empty(self.ledger.capacity), left, self.terms.partition)
        wanted = {**self.query, "state": "READY", "$and": [whole]}
        if overdue:  # until it begins, here or elsewhere, or can't any more
            if self.launchpad.fireworks.find_one({**wanted, "fw_id": seen["fw_id"]}, {"_id": 1}):
                return int(seen["fw_id"])
            seen = {}
        found = None
        if books.grants:
            order = [("spec._priority", DESCENDING), ("fw_id", 1)]
            found = self.launchpad.fireworks.find_one({**wanted, "$nor": [fits]}, {"fw_id": 1}, sort=order)
        fw_id = found["fw_id"] if found else None
        since = seen["since"] if fw_id is not None and fw_id == seen.get("fw_id") else now
        self.ledger.note(_AWAITED, {"fw_id": fw_id, "since": since, "looked": now})
        return None

    # -- taking -------------------------------------------------------------------------------------------------------

    def _take(self, firework: Firework) -> Grant | None:
        owner, fw_id = self.launchpad.owner, firework.fw_id
        self._needs = self._needs_of(firework)
        if self.terms.fw_id is not None:
            return self.ledger.take_all(owner, fw_id)
        return self.ledger.take(owner, fw_id, self._needs.cores, self._needs.memory_gb)

    def _needs_of(self, firework: Firework) -> Needs:
        """Tell what a firework takes, in whatever job: one of just its size has a little more."""
        try:
            return needs(self.terms.kind, firework.spec)
        except ValidationError as error:
            LOGGER.warning("fw_id %s: resources that can't be: %s", firework.fw_id, error)
            return self.terms.kind.task

    def _release(self, firework: Firework) -> None:
        """Make READY again what was changed between the look and the claim, so that it finds no room."""
        self.launchpad.fireworks.update_one(
            {"fw_id": firework.fw_id, "state": "RESERVED", CLAIMED_BY: self.launchpad.owner},
            {"$set": {"state": "READY"}, "$unset": {CLAIMED_BY: ""}},
        )


def _threads(spec: dict[str, Any], grant: Grant) -> int:
    """Give the threads that a task's libraries may use: DFT shares its cores out by MPI first."""
    block = spec.get("nucleate") or {}
    engine = block.get("engine") if block.get("candidate") else None
    if engine not in {"vasp", "espresso"}:
        return len(grant.cores)
    if engine == "vasp" or grant.whole:
        return 1
    return max(1, len(grant.cores) // load_settings().espresso.processes)
