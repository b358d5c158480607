"""Pilots' records: what the schedulers say is written down once, and never over what the job itself has said since."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from fake_scheduler import Told

from workflows.causes import CAUSES
from workflows.records import Attempt, Cause, Pilot
from workflows.runtime.pilot_records import FORGOTTEN_S, NEVER_SUBMITTED_S, Refreshed, refresh
from workflows.runtime.watch import Watch

if TYPE_CHECKING:
    from workflows.runtime.store import Store

BEGAN, ENDED = datetime(2026, 11, 25, 2, 0, tzinfo=UTC), datetime(2026, 11, 25, 3, 0, tzinfo=UTC)


class Desk:
    """One pilot's record, its scheduler, and a clock."""

    def __init__(self, database: Any) -> None:
        self.database = database
        self.scheduler = Told()
        self.now_s = 0.0
        self.watch = Watch(clock=lambda: self.now_s)

    def pilot(self, **more: Any) -> None:
        fields = {"pilot": "name-81", "campaign": "oxides", "cluster": "alps", "kind": "cpu", "job_id": "81"} | more
        self.database.pilots.insert_one(Pilot(**fields).model_dump())

    def refresh(self, **more: Any) -> Refreshed:
        return refresh(self.database, {"alps": self.scheduler}, watch=self.watch, **more)

    @property
    def record(self) -> dict[str, Any]:
        return self.database.pilots.find_one({"pilot": "name-81"})


@pytest.fixture
def desk(store: Store) -> Desk:
    return Desk(store.database)


def test_a_job_from_the_queue_to_its_end(desk: Desk):
    desk.pilot(state="queued")
    desk.scheduler.say("81", "queued", "PENDING", reason="Resources")
    assert [str(change) for change in desk.refresh().changed] == ["name-81: queued, PENDING (Resources)"]
    assert desk.record["message"] == "Resources"
    assert desk.refresh().changed == [], "nothing is new"

    desk.scheduler.say("81", "running", "RUNNING", started=BEGAN, core_seconds=20.0)
    desk.refresh()
    record = desk.record
    assert (record["state"], record["message"], record["started_at"]) == ("running", "", BEGAN.replace(tzinfo=None))
    desk.scheduler.say("81", "running", "RUNNING", started=BEGAN, core_seconds=40.0)
    assert desk.refresh().changed == []
    assert desk.record["core_seconds"] == 40.0, "what it costs counts while it runs"

    desk.scheduler.say(
        "81", "ended", "TIMEOUT", cause=101, evidence="TIMEOUT on c1", started=BEGAN, ended=ENDED, core_seconds=7200.0
    )
    assert [str(change) for change in desk.refresh().changed] == ["name-81: ended, TIMEOUT (walltime)"]
    record = desk.record
    assert (record["cause"]["code"], record["cause"]["evidence"]) == (101, "TIMEOUT on c1")
    assert (record["ended_at"], record["core_seconds"]) == (ENDED.replace(tzinfo=None), 7200.0)
    desk.scheduler.asked.clear()
    desk.refresh()
    assert desk.scheduler.asked in ([], [[]]), "who has ended and is accounted for is not asked for again"


def test_the_accounts_of_an_ended_job_are_fetched_when_they_come_in(desk: Desk):
    desk.pilot(state="running")
    desk.scheduler.say("81", "ended", "COMPLETED")
    desk.refresh()
    assert desk.record["core_seconds"] is None
    desk.scheduler.say("81", "ended", "COMPLETED", core_seconds=12.0)
    desk.refresh()
    assert desk.record["core_seconds"] == 12.0


def test_without_accounting_an_end_is_asked_for_once(desk: Desk):
    desk.scheduler.accounting = False
    desk.pilot(state="running")
    desk.scheduler.say("81", "ended", "COMPLETED")
    desk.refresh()
    asked = len(desk.scheduler.asked)
    desk.refresh()
    assert len(desk.scheduler.asked) == asked


def test_the_job_has_the_last_word_on_its_own_end(desk: Desk):
    desk.pilot(state="ended", reason="drained")
    desk.scheduler.say("81", "running", "COMPLETING", ending=True)
    assert desk.refresh().changed == []
    assert desk.record["state"] == "ended"
    desk.scheduler.say("81", "ended", "COMPLETED", core_seconds=1.0)
    desk.refresh()
    record = desk.record
    assert (record["reason"], record["scheduler_state"], record["settled"]) == ("drained", "COMPLETED", True)


def test_what_the_job_says_meanwhile_is_not_written_over(desk: Desk):
    desk.pilot(state="running")
    desk.scheduler.say("81", "running", "RUNNING")
    jobs = desk.scheduler.jobs

    def slow(job_ids: Any) -> Any:
        desk.database.pilots.update_one({}, {"$set": {"state": "ended", "reason": "idle"}})
        return jobs(job_ids)

    desk.scheduler.jobs = slow  # type: ignore[method-assign]
    assert desk.refresh().changed == []
    assert desk.record["state"] == "ended"


def test_a_job_that_is_put_back_begins_anew(desk: Desk):
    desk.pilot(state="running")
    desk.scheduler.say("81", "ended", "NODE_FAIL", cause=103)
    desk.refresh()
    assert desk.record["settled"]
    desk.database.pilots.update_one({}, {"$set": {"core_seconds": None}})
    desk.scheduler.say("81", "queued", "PENDING", restarts=1)
    desk.refresh()
    record = desk.record
    assert (record["state"], record["cause"], record["ended_at"], record["settled"]) == ("queued", None, None, False)


def test_a_crash_between_submission_and_record(desk: Desk):
    desk.pilot(state="submitting", job_id=None)
    desk.scheduler.say("81", "queued", "PENDING")
    desk.refresh()
    assert (desk.record["state"], desk.record["job_id"]) == ("queued", "81")


def test_a_crash_before_submission(desk: Desk):
    desk.pilot(state="submitting", job_id=None)
    assert "about to be submitted" in desk.refresh().unknown["name-81"]
    desk.now_s += NEVER_SUBMITTED_S - 1
    desk.refresh()
    assert desk.record["state"] == "submitting"
    desk.now_s += 1
    desk.refresh()
    assert (desk.record["state"], "never submitted" in desk.record["message"]) == ("refused", True)


def test_a_forgotten_job_has_ended_once_it_no_longer_beats(desk: Desk):
    desk.pilot(state="running")
    for _ in range(20):
        assert "knows no job 81" in desk.refresh().unknown["name-81"]
        desk.now_s += FORGOTTEN_S / 3
        desk.database.pilots.update_one({}, {"$inc": {"beat": 1}})
    desk.refresh()
    desk.now_s += FORGOTTEN_S
    assert desk.refresh().changed
    assert (desk.record["state"], desk.record["cause"]["code"]) == ("ended", 106)
    assert desk.refresh().changed == []


def test_what_can_not_be_asked_is_left_alone_and_said(desk: Desk):
    desk.pilot(state="running")
    desk.pilot(state="running", pilot="far", cluster="rhine")
    desk.scheduler.is_away = True
    desk.now_s += 1e6
    found = desk.refresh()
    assert list(found.away) == ["alps"]
    assert "cluster file" in found.unknown["far"]
    assert {p["state"] for p in desk.database.pilots.find()} == {"running"}


def test_a_dry_run_writes_nothing(desk: Desk):
    desk.pilot(state="running")
    desk.scheduler.say("81", "ended", "TIMEOUT", cause=101)
    assert desk.refresh(dry_run=True).changed[0].cause == "walltime"
    assert desk.record["state"] == "running"
    assert desk.refresh(campaign="another").changed == []


def test_a_job_that_exits_badly_says_so(desk: Desk):
    desk.pilot(state="running")
    desk.scheduler.say("81", "ended", "FAILED", exit_code=1, evidence="FAILED 1:0 on c1")
    desk.refresh()
    assert (desk.record["cause"], desk.record["message"]) == (None, "FAILED 1:0 on c1")


def attempts(desk: Desk, *told: tuple[str, str, int | None]) -> None:
    for number, (pilot, state, code) in enumerate(told, 1):
        cause = None if code is None else Cause(code=code, name=CAUSES[code].name, evidence="as the job saw it")
        attempt = Attempt(
            attempt=f"fw{number}-l{number}",
            campaign="oxides",
            round=1,
            candidate=None,
            stage="relax",
            state=state,
            pilot=pilot,
            cause=cause,
        )
        desk.database.attempts.insert_one(attempt.model_dump())


def causes(desk: Desk) -> list[int | None]:
    return [(a["cause"] or {}).get("code") for a in desk.database.attempts.find({}).sort("attempt", 1)]


@pytest.mark.parametrize("code", [103, 104, 105])
def test_what_a_job_gave_back_when_it_was_told_to_stop_gets_its_schedulers_cause(desk: Desk, code: int):
    desk.pilot(state="running")
    given = ("name-81", "lost", 105)
    attempts(desk, given, ("name-81", "lost", 101), ("name-81", "failed", 105), ("name-82", "lost", 105))
    attempts_done = {"attempt": "fw9-l9", "pilot": "name-81", "state": "completed", "cause": None}
    desk.database.attempts.insert_one(attempts_done)
    desk.scheduler.say("81", "ended", "PREEMPTED", cause=code, evidence="told by ada")
    desk.refresh(dry_run=True)
    assert causes(desk)[0] == 105
    desk.refresh()
    assert causes(desk) == [code, 101, 105, 105, None]
    first = desk.database.attempts.find_one({"attempt": "fw1-l1"})
    assert (first["cause"]["name"], first["cause"]["evidence"]) == (CAUSES[code].name, "told by ada")


def test_what_a_job_gave_back_before_it_was_put_into_the_queue_again(desk: Desk):
    desk.pilot(state="running")
    attempts(desk, ("name-81", "lost", 105))
    desk.scheduler.say("81", "running", "COMPLETING", restarts=1, ending=True)
    desk.refresh()
    assert causes(desk) == [104], "its accounts have not come in yet"
    assert desk.record["restarts"] == 1
    desk.database.pilots.update_one({}, {"$set": {"state": "ended", "reason": "stopped"}})  # so the job itself

    desk.scheduler.say("81", "ended", "NODE_FAIL", cause=103, evidence="NODE_FAIL on c1")
    ended = desk.scheduler.known["81"]
    desk.scheduler.say("81", "queued", "PENDING", restarts=1, earlier=(ended,))
    desk.refresh()
    assert causes(desk) == [103]
    assert desk.database.attempts.find_one({})["cause"]["evidence"] == "put back into the queue; NODE_FAIL on c1"
    record = desk.record
    assert (record["state"], record["reason"], record["settled"]) == ("queued", "", False)


def test_a_job_that_ends_by_itself_corrects_nothing(desk: Desk):
    desk.pilot(state="running")
    attempts(desk, ("name-81", "lost", 105))
    desk.scheduler.say("81", "ended", "COMPLETED")
    desk.refresh()
    assert causes(desk) == [105]


def test_who_cancels_a_later_run_changes_nothing_of_the_earlier(desk: Desk):
    desk.pilot(state="running", restarts=1)
    attempts(desk, ("name-81", "lost", 104), ("name-81", "lost", 105))
    desk.scheduler.say("81", "ended", "CANCELLED", cause=105, evidence="CANCELLED by ada", restarts=1)
    desk.refresh()
    assert causes(desk) == [104, 105]
    told = [a["cause"]["evidence"] for a in desk.database.attempts.find({}).sort("attempt", 1)]
    assert told == ["as the job saw it", "CANCELLED by ada"]


def test_who_dies_before_it_has_told_the_attempts_has_settled_nothing(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    desk.pilot(state="running")
    attempts(desk, ("name-81", "lost", 105))
    desk.scheduler.say("81", "ended", "NODE_FAIL", cause=103, evidence="NODE_FAIL on c1", core_seconds=1.0)
    with monkeypatch.context() as patched:

        def dies(*_: Any) -> None:
            raise KeyboardInterrupt

        patched.setattr("pymongo.collection.Collection.update_many", dies)
        with pytest.raises(KeyboardInterrupt):
            desk.refresh()
    desk.refresh()
    assert causes(desk) == [103]
    assert desk.record["settled"]
