"""Core-hours: what batch jobs were allocated, by cluster, and what ran outside of any."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from fireworks import Firework, PyTask, Workflow

from workflows.records import Attempt, Pilot, now
from workflows.runtime.accounting import OUTSIDE, balance, core_hours, total_core_hours

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def pilot(store, name, **fields):
    record = Pilot(pilot=name, campaign="c", kind="cpu", **{"cluster": "alps", "state": "ended", **fields})
    store.database.pilots.insert_one(record.model_dump())


def attempt(store, name, **fields):
    record = Attempt(
        attempt=name, round=1, candidate=None, stage="relax", **{"campaign": "c", "state": "completed", **fields}
    )
    store.attempts.insert_one(record.model_dump())


def test_nothing_spent_is_nothing(store):
    assert core_hours(store.database, "c") == {}
    assert total_core_hours(store.database, "c") == 0


def test_each_cluster_has_its_own_account(store):
    pilot(store, "a", core_seconds=7200.0)
    pilot(store, "b", core_seconds=3600.0)
    pilot(store, "d", cluster="jura", core_seconds=1800.0)
    assert core_hours(store.database, "c") == pytest.approx({"alps": 3.0, "jura": 0.5})
    assert total_core_hours(store.database, "c") == pytest.approx(3.5)


def test_an_idle_core_of_a_job_is_spent_and_its_tasks_are_not_counted_again(store):
    pilot(store, "a", core_seconds=7200.0)
    attempt(store, "t", pilot="a", cluster="alps", seconds=3600.0)
    assert core_hours(store.database, "c") == pytest.approx({"alps": 2.0})


def test_without_accounts_a_job_counts_from_its_beginning_to_its_end(store):
    pilot(store, "a", cores=4, started_at=NOON, ended_at=NOON + timedelta(hours=1))
    assert core_hours(store.database, "c") == pytest.approx({"alps": 4.0})


def test_a_running_job_without_accounts_counts_so_far_and_a_queued_one_not_at_all(store):
    pilot(store, "a", state="running", cores=2, started_at=now() - timedelta(hours=1))
    pilot(store, "b", state="queued", cores=100)
    assert core_hours(store.database, "c") == pytest.approx({"alps": 2.0}, rel=0.01)


def test_what_ran_outside_of_any_job_counts_with_its_cores(store):
    wide = Firework(
        [PyTask(func="time.time")], spec={"nucleate": {"campaign": "c", "round": 1}, "resources": {"cores": 4}}
    )
    fw_id = next(iter(store.launchpad.add_wf(Workflow([wide])).values()))
    attempt(store, "wide", fw_id=fw_id, launch_id=1, seconds=3600.0)
    attempt(store, "narrow", fw_id=fw_id + 1, launch_id=2, seconds=1800.0)
    attempt(store, "running", fw_id=fw_id + 2, launch_id=3, state="running")
    attempt(store, "another's", campaign="d", launch_id=4, seconds=3600.0)
    assert core_hours(store.database, "c") == pytest.approx({OUTSIDE: 4.5})


def test_a_balance_changes_no_sum_and_leaves_what_runs_for_the_next(store):
    store.database.campaigns.insert_one({"name": "c"})
    attempt(store, "first", launch_id=1, seconds=3600.0)
    attempt(store, "slow", launch_id=2, state="running")
    attempt(store, "third", launch_id=3, seconds=3600.0)
    for _ in range(2):
        balance(store.database, "c")
        assert store.database.campaigns.find_one()["spent"] == {"launch_id": 1, "core_seconds": 3600.0}
        assert core_hours(store.database, "c") == pytest.approx({OUTSIDE: 2.0})
    store.database.attempts.update_one({"launch_id": 2}, {"$set": {"state": "completed", "seconds": 1800.0}})
    assert core_hours(store.database, "c") == pytest.approx({OUTSIDE: 2.5})
    balance(store.database, "c")
    assert store.database.campaigns.find_one()["spent"] == {"launch_id": 3, "core_seconds": 9000.0}
    assert core_hours(store.database, "c") == pytest.approx({OUTSIDE: 2.5})


def test_while_the_first_of_all_runs_nothing_is_balanced_and_later_it_is(store):
    store.database.campaigns.insert_one({"name": "c"})
    attempt(store, "slow", launch_id=1, state="running")
    attempt(store, "second", launch_id=2, seconds=3600.0)
    balance(store.database, "c")
    assert "spent" not in store.database.campaigns.find_one()
    store.database.attempts.update_one({"launch_id": 1}, {"$set": {"state": "completed", "seconds": 1800.0}})
    balance(store.database, "c")
    assert store.database.campaigns.find_one()["spent"] == {"launch_id": 2, "core_seconds": 5400.0}
