"""Keeps the right number of pilots in a cluster's queue: records first, then sbatch, then the job's id.

A crash in between leaves a record in state ``submitting``; its job, if there is one, is found again by its name, which
is the record's. One process at a time submits to a cluster, under a lease.
"""

from __future__ import annotations

import logging
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workflows.records import Pilot, now
from workflows.runtime.cluster_file import fingerprint
from workflows.runtime.order import Order
from workflows.runtime.pilot_records import refresh
from workflows.runtime.planning import Plan, plan
from workflows.runtime.queues import Queues, Spending, bad_nodes, read_queues, room_on, spending, trust_nodes
from workflows.runtime.reservation import pin, plan_reservations, release
from workflows.runtime.scheduler.base import SchedulerAwayError, SchedulerError

if TYPE_CHECKING:
    from pymongo.database import Database

    from workflows.runtime.cluster import PilotKind
    from workflows.runtime.lease import Lease
    from workflows.runtime.place import Place
    from workflows.runtime.planning import Room
    from workflows.runtime.reservation import Reserved
    from workflows.runtime.scheduler.base import Scheduler
    from workflows.runtime.scheduler.inquiry import Inquiry

LOGGER = logging.getLogger(__name__)

REFUSALS = 3
"""So often in a row a scheduler may refuse a kind before it is set aside."""
REFUSED = "REFUSED"
"""Our word in ``scheduler_state`` for what the scheduler refused."""

LEASE_PATIENCE_S = 60.0
_CRASH_S = 30.0
"""s in which an sbatch that outlived its submitter must have reached the scheduler."""


@dataclass
class Turn:
    """What one turn found and did.

    Parameters
    ----------
    queues : Queues
        As they were before it.
    spending : Spending
    submitted : dict of str to str
        Names of new pilots and their kinds.
    refused : dict of str to str
        Kinds that the scheduler refused just now, and what it said.
    aside : dict of str to str
        Kinds that are set aside, and what was said of them last.
    cancelled : list of str
        Queued pilots for which there was no work.
    plan : Plan
    away : str
        What the scheduler said, if it does not answer.
    """

    queues: Queues = field(default_factory=Queues)
    spending: Spending = field(default_factory=lambda: Spending({}, None, None))
    submitted: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    aside: dict[str, str] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    plan: Plan = field(default_factory=Plan)
    away: str = ""

    @property
    def active(self) -> int:
        """How many pilots are in the queues after it."""
        return len(self.queues.pilots) - len(self.cancelled) + len(self.submitted)

    @property
    def needs_somebody(self) -> bool:
        """Whether work is left that this can't put right."""
        return bool(self.refused or self.aside or self.plan.unfit or self.plan.given_up or self.is_out_of_hours)

    @property
    def is_out_of_hours(self) -> bool:
        """Whether work is left, nothing is in the queues, and core-hours are all that is wanting."""
        held = self.plan.held.values()
        return bool(held) and self.active == 0 and all("core-hours" in why for why in held)


class Submitter:
    """Submits, and takes back, pilots of one campaign on one cluster.

    Parameters
    ----------
    database : pymongo.database.Database
    campaign : str
    place : Place
        May be replaced when the cluster file changes.
    scheduler : Scheduler
        Of that cluster.
    lease : Lease
        Of that cluster: whoever submits there, for whatever campaign, holds it.
    inquiry : Inquiry
        All clusters' schedulers.
    """

    def __init__(
        self,
        database: Database[Any],
        campaign: str,
        place: Place,
        scheduler: Scheduler,
        lease: Lease,
        inquiry: Inquiry,
    ) -> None:
        self.database = database
        self.campaign = campaign
        self.place = place
        self.scheduler = scheduler
        self.lease = lease
        self.inquiry = inquiry

    # -- turns --------------------------------------------------------------------------------------------------------

    def turn(self, *, dry_run: bool = False, retry: bool = False, reserve: bool = False) -> Turn:
        """Look, plan, submit and cancel.

        Parameters
        ----------
        dry_run : bool
            Only plan.
        retry : bool
            Try kinds and nodes again that are set aside.
        reserve : bool
            One job for each READY firework, of its size.

        Raises
        ------
        LeaseError
            If another process is submitting there, or took over.
        """
        if dry_run:
            made, room = self._look(retry=retry)
            self._plan(made, room, reserve=reserve, retry=retry)
            return made
        with self.lease.held(LEASE_PATIENCE_S):
            away = self._mend()
            release(self.database, self.campaign)
            if retry:
                trust_nodes(self.database, self.place.name)
            made, room = self._look(retry=retry)
            if away:
                made.away = away
                return made
            for reserved in self._plan(made, room, reserve=reserve, retry=retry):
                self._submit_reserved(made, reserved)
            for new in [] if reserve else made.plan.submit:
                if new.kind not in made.refused and not made.away:
                    kind = self.place.cluster.pilots[new.kind].model_copy(update={"minutes": new.minutes})
                    self._hand_over(made, self._new_record(new.kind, kind), kind)
            self._cancel_surplus(made)
        return made

    def _look(self, *, retry: bool) -> tuple[Turn, Room]:
        """See what there is; nothing is planned yet."""
        place = self.place
        queues = read_queues(self.database, self.campaign, place.clusters)
        money = spending(self.database, self.campaign, place.name, place.cluster, queues.pilots)
        aside = {} if retry else {name: why for name in place.chosen if (why := self._refusals(name))}
        usable = {name: kind for name, kind in place.chosen.items() if name not in aside}
        room = room_on(self.database, place.name, place.cluster, usable, money.left)
        return Turn(queues, money, aside=aside), room

    def _plan(self, made: Turn, room: Room, *, reserve: bool, retry: bool) -> list[Reserved]:
        """Plan a turn; gives the reservations, if that is what is wanted."""
        place = self.place
        usable = {name: kind for name, kind in place.chosen.items() if name not in made.aside}
        over = not self._is_running()
        if reserve and not over:
            made.plan, reserved = plan_reservations(self.database, self.campaign, usable, room, retry=retry)
            return reserved
        elsewhere = [
            kind
            for name, cluster in place.clusters.clusters.items()
            for kind_name, kind in cluster.pilots.items()
            if name != place.name or kind_name not in usable
        ]
        demands, later = ([], 0) if over else (made.queues.demands, made.queues.later)
        made.plan = plan(demands, made.queues.berths, usable, room, elsewhere=elsewhere, later=later)
        return []

    def _is_running(self) -> bool:
        document = self.database.campaigns.find_one({"name": self.campaign}, {"state": 1})
        return document is None or document.get("state", "running") == "running"

    def _refusals(self, kind_name: str) -> str:
        """Say why a kind is set aside, if it is: the newest jobs that asked for the very same were all refused."""
        same = {
            "cluster": self.place.name,
            "kind": kind_name,
            "asked": fingerprint(self.place.cluster, kind_name),
            "state": {"$ne": "submitting"},
        }
        newest = list(
            self.database.pilots.find(same, {"_id": 0, "scheduler_state": 1, "message": 1})
            .sort([("submitted_at", -1), ("pilot", -1)])
            .limit(REFUSALS)
        )
        if len(newest) < REFUSALS or any(record["scheduler_state"] != REFUSED for record in newest):
            return ""
        return f"refused {REFUSALS} times in a row: {newest[0]['message']}"

    def _mend(self) -> str:
        """Bring records up to date, those first whose submission broke off; gives what a silent scheduler said.

        While the lease is ours, nobody else is submitting here: a record in state ``submitting`` is what a crash left.
        """
        deadline = time.monotonic() + _CRASH_S
        while True:
            self.lease.renew()
            found = refresh(self.database, self.inquiry)
            broken = self._broken_off()
            if away := found.away.get(self.place.name):
                return away
            if not broken:
                return ""
            if time.monotonic() > deadline:
                break
            LOGGER.info("looking for %s, whose submission broke off", ", ".join(broken))
            time.sleep(1.0)
        message = "its submission broke off, and the scheduler knows no job of this name"
        self.database.pilots.update_many(
            {"pilot": {"$in": broken}, "state": "submitting"},
            {"$set": {"state": "refused", "message": message, "ended_at": now()}},
        )
        return ""

    def _broken_off(self) -> list[str]:
        broken = {"cluster": self.place.name, "state": "submitting"}
        return [record["pilot"] for record in self.database.pilots.find(broken, {"_id": 0, "pilot": 1})]

    # -- jobs ---------------------------------------------------------------------------------------------------------

    def _new_record(self, kind_name: str, kind: PilotKind, fw_id: int | None = None) -> Pilot:
        """Store the record of a pilot that is about to be submitted, and write its order."""
        name = f"{self.campaign}-{self.place.name}-{kind_name}-{secrets.token_hex(3)}"
        record = Pilot(
            pilot=name,
            campaign=self.campaign,
            cluster=self.place.name,
            kind=kind_name,
            fw_id=fw_id,
            nodes=kind.nodes,
            cores=kind.cores,
            gpus=kind.gpus,
            memory_gb=kind.memory_gb,
            minutes=kind.minutes,
            asked=fingerprint(self.place.cluster, kind_name),
        )
        self.database.pilots.insert_one(record.model_dump())
        Order(
            pilot=name,
            cluster=self.place.name,
            campaign=self.campaign,
            kind=kind,
            fw_id=fw_id,
            database=self.place.cluster.database,
        ).write(self.place.home)
        return record

    def _hand_over(self, made: Turn, record: Pilot, kind: PilotKind) -> None:
        """Hand a recorded pilot to the scheduler and note what it says."""
        submitting = {"pilot": record.pilot, "state": "submitting"}
        excluded = bad_nodes(self.database, self.place.name)
        request = self.place.request(record.pilot, kind, excluded)
        self.lease.renew()
        try:
            job_id = self.scheduler.submit(request)
        except SchedulerAwayError as error:
            made.away = str(error)  # it may have got through: the record stays, and the job is found by its name
            return
        except SchedulerError as error:
            why = str(error)
            if excluded:
                why += f" (without {', '.join(excluded)}, where task after task failed; --retry uses them again)"
            made.refused[record.kind] = why
            said = {"state": "refused", "scheduler_state": REFUSED, "message": why, "ended_at": now()}
            self.database.pilots.update_one(submitting, {"$set": said})
            return
        self.database.pilots.update_one(submitting, {"$set": {"state": "queued", "job_id": job_id}})
        made.submitted[record.pilot] = record.kind

    def _submit_reserved(self, made: Turn, reserved: Reserved) -> None:
        if made.away or reserved.name in made.refused:
            return
        record = self._new_record(reserved.name, reserved.kind, reserved.fw_id)
        if not pin(self.database, reserved.fw_id, record.pilot):
            self.database.pilots.delete_one({"pilot": record.pilot, "state": "submitting"})
            return
        self._hand_over(made, record, reserved.kind)
        release(self.database, self.campaign)

    def _cancel_surplus(self, made: Turn) -> None:
        """Take back queued jobs for which there is no work; one that has begun meanwhile is left to end by itself."""
        surplus = set(made.plan.surplus)
        jobs = {
            record["job_id"]: record["pilot"]
            for record in made.queues.pilots
            if record["pilot"] in surplus and record["cluster"] == self.place.name and record["job_id"]
        }
        try:
            known = self.scheduler.jobs(list(jobs))
            waiting = [job_id for job_id in jobs if job_id in known and known[job_id].phase == "queued"]
            if waiting:
                self.scheduler.cancel(waiting)
        except SchedulerError as error:
            LOGGER.warning("jobs without work could not be cancelled: %s", error)
            return
        made.cancelled = [jobs[job_id] for job_id in waiting]

    def cancel(self, *, now_too: bool = False) -> tuple[list[str], list[str]]:
        """Take the campaign's pilots from this cluster's queue.

        Parameters
        ----------
        now_too : bool
            End running ones at once; their tasks are READY again. Else they are asked to begin nothing more.

        Returns
        -------
        tuple of list of str
            Pilots that were cancelled, and those that were asked to end.

        Raises
        ------
        SchedulerError
            If the scheduler refuses, or does not answer.
        """
        with self.lease.held(LEASE_PATIENCE_S):
            if away := self._mend():
                raise SchedulerAwayError(away)
            active = {"campaign": self.campaign, "cluster": self.place.name, "state": {"$in": ["queued", "running"]}}
            records = list(self.database.pilots.find(active, {"_id": 0}).sort("pilot", 1))
            ending = [record for record in records if now_too or record["state"] == "queued"]
            draining = [record for record in records if record not in ending]
            if ending:
                self.scheduler.cancel([record["job_id"] for record in ending])
            if draining:
                self.scheduler.drain([record["job_id"] for record in draining])
        return [record["pilot"] for record in ending], [record["pilot"] for record in draining]
