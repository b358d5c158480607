"""Which fireworks get a job of their own, and which have had enough of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fireworks import Firework, PyTask, Workflow
from pymongo.collection import Collection

from workflows.causes import CAUSES
from workflows.records import Attempt, Cause, Pilot, now
from workflows.runtime.cluster import Limits, PilotKind
from workflows.runtime.planning import Room
from workflows.runtime.reservation import MOST_IN_VAIN, plan_reservations

if TYPE_CHECKING:
    from workflows.runtime.store import Store

KINDS = {"cpu": PilotKind(categories=("cpu",))}
BEGUN = now()


class Site:
    """A campaign's READY fireworks and the jobs that were submitted for them."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.jobs = 0

    def add(self) -> int:
        spec = {"nucleate": {"campaign": "c", "round": 1, "stage": "relax"}, "_category": "cpu"}
        return next(
            iter(self.store.launchpad.add_wf(Workflow([Firework([PyTask(func="time.time")], spec=spec)])).values())
        )

    def ended(self, fw_id: int, code: int | None = None, **fields: Any) -> str:
        self.jobs += 1
        cause = None if code is None else Cause(code=code, name=CAUSES[code].name, evidence=f"end {self.jobs}")
        record = Pilot(
            pilot=f"p{self.jobs}",
            campaign="c",
            cluster="alps",
            kind="cpu",
            fw_id=fw_id,
            submitted_at=BEGUN + timedelta(minutes=self.jobs),
            cause=cause,
            **{"state": "ended", "reason": "idle", **fields},
        )
        self.store.database.pilots.insert_one(record.model_dump())
        return record.pilot

    def began(self, fw_id: int, pilot: str) -> None:
        attempt = Attempt(attempt=pilot, campaign="c", round=1, candidate=None, stage="relax", fw_id=fw_id, pilot=pilot)
        self.store.attempts.insert_one(attempt.model_dump())

    def plan(self, **more: Any) -> tuple[list[int], dict[str, str]]:
        room = Room.within(Limits(), KINDS, jobs={}, cores=0, core_hours=None)
        made, reserved = plan_reservations(self.store.database, "c", KINDS, room, **more)
        return [one.fw_id for one in reserved], made.given_up


@pytest.fixture
def site(store: Store) -> Site:
    return Site(store)


def test_a_firework_that_no_job_begins_is_given_up(site: Site):
    first, second = site.add(), site.add()
    for code in (103, None, 101):
        assert site.plan() == ([first, second], {})
        site.ended(first, code)
    chosen, given_up = site.plan()
    assert chosen == [second]
    assert given_up == {f"fw {first} (relax)": "3 jobs ended without beginning it, the last: end 3"}
    assert site.plan(retry=True) == ([first, second], {})


def test_what_was_begun_or_taken_back_was_not_in_vain(site: Site):
    begun, taken_back = site.add(), site.add()
    for _ in range(MOST_IN_VAIN):
        site.ended(taken_back, 105)
        site.began(begun, site.ended(begun))
    for fw_id in (begun, taken_back):
        for _ in range(MOST_IN_VAIN - 1):
            site.ended(fw_id)
    assert site.plan() == ([begun, taken_back], {})


def test_attempts_are_asked_for_only_where_jobs_ended_again_and_again(site: Site, monkeypatch: pytest.MonkeyPatch):
    fireworks = [site.add() for _ in range(4)]
    for fw_id in fireworks:
        site.ended(fw_id)
    for _ in range(MOST_IN_VAIN):
        site.ended(fireworks[0])
    asked = []
    find = Collection.find

    def counted(collection: Any, *args: Any, **options: Any) -> Any:
        asked.append(collection.name)
        return find(collection, *args, **options)

    monkeypatch.setattr(Collection, "find", counted)
    site.plan()
    assert asked.count("attempts") == 1
