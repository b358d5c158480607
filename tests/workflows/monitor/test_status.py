"""Status: the numbers of a campaign as it stands, and what is stuck and why."""

import json
import os
import socket
from datetime import timedelta

import psutil
import pytest

from workflows.ledger import NoSuchCampaignError
from workflows.monitor.status import Progress, campaign_status
from workflows.records import Pilot, RoundSummary, now
from workflows.summary import summarise

SCREENED = {"valid": True, "reasons": [], "unique": True, "passed": True}
REFUSED = {"valid": False, "reasons": ["too close"], "unique": False, "passed": False}
RELAXED = {"model": "chgnet", "batch": 0, "converged": True, "steps": 3, "energy_ev_per_atom": -5.0}
NOVEL = {"composition": False, "prototype": True, "skeleton": False}


def selected(*, chosen=True, novel=True):
    return {
        "unique": True,
        "novel": novel,
        "novelty": NOVEL if novel else None,
        "selected": chosen,
        "screening_e_hull_ev_per_atom": 0.05,
    }


def status(scene):
    return campaign_status(scene.database, scene.name)


def open_round(scene):
    """Four samples and two controls; two candidates selected, one of them verified."""
    scene.round(2)
    a = scene.candidate(2, 0, screen=SCREENED, prerelax=RELAXED, select=selected())
    b = scene.candidate(2, 1, screen=SCREENED, prerelax=RELAXED, select=selected())
    scene.candidate(2, 2, screen=SCREENED, prerelax=RELAXED, select=selected(chosen=False, novel=False))
    scene.candidate(2, 3, screen=REFUSED)
    for index in range(2):
        scene.candidate(2, index, control=True, screen=SCREENED, prerelax=RELAXED, select=selected(chosen=False))
    for stage in ("sample", "screen", "prerelax", "select"):
        scene.firework(2, stage, "COMPLETED")
    for candidate, relax, phonon in ((a, "COMPLETED", "COMPLETED"), (b, "COMPLETED", "RUNNING")):
        scene.firework(2, "relax", relax, candidate)
        scene.firework(2, "phonon", phonon, candidate)
    scene.verdict(2, a, hit=True)
    return a, b


def test_an_open_round_is_counted_as_feedback_will_count_it(scene):
    scene.campaign()
    scene.round(1, "closed", hours_ago=2.0, sampled=4, verified=2, stable=1, hits=1, failures=1)
    open_round(scene)
    found = status(scene)
    from workflows.ledger import campaign_spec

    assert found.rounds[1].summary == summarise(scene.database, campaign_spec(scene.database, scene.name), 2)
    assert found.rounds[1].summary.selected == 2
    assert found.rounds[1].summary.control["novel"] == 2
    assert found.rounds[1].stages["relax"] == {"COMPLETED": 2}
    assert found.rounds[1].stages["phonon"] == {"COMPLETED": 1, "RUNNING": 1}
    assert list(found.rounds[1].stages) == ["sample", "screen", "prerelax", "select", "relax", "phonon"]
    assert found.rounds[1].progress == {
        "sample": Progress(6, 6, control=2),
        "screen": Progress(6, 6, control=2),
        "prerelax": Progress(5, 5, control=2),
        "verify": Progress(1, 2),
    }
    assert [step.wanted for step in found.rounds[1].progress.values()] == [
        "6 (2 control)",
        "6 (2 control)",
        "5 (2 control)",
        "2",
    ]
    assert found.totals["verified"] == 3
    assert found.totals["hits"] == 2


def test_closed_rounds_are_never_scanned(scene):
    scene.campaign(state="finished", why="all rounds are done", rounds=1)
    scene.round(1, "closed", sampled=9, verified=4)
    scene.candidate(1, 0, screen=SCREENED)  # a scan would count one
    scene.firework(1, "relax", "COMPLETED", "x")
    found = status(scene)
    assert found.rounds[0].summary == RoundSummary(number=1, sampled=9, verified=4)
    assert found.rounds[0].stages == {}
    assert (found.state, found.why) == ("finished", "all rounds are done")


def test_a_campaign_without_candidates_yet(scene):
    scene.campaign()
    scene.round(1)
    scene.firework(1, "sample", "READY")
    found = status(scene)
    assert found.rounds[0].progress["sample"] == Progress(0, 4)
    assert found.rounds[0].progress["prerelax"] == Progress(0, None)
    assert found.state == "idle"
    (stuck,) = found.stuck
    assert "1 job is ready and no worker runs" in stuck.why
    assert stuck.remedy.endswith("nucleate submit --cluster NAME")
    assert not found.needs_somebody


def test_where_it_is_submitted_to_is_where_it_was_submitted_last(scene):
    scene.campaign()
    scene.round(1)
    scene.firework(1, "sample", "READY")
    for minutes, cluster in ((9, "jura"), (3, "alps")):
        at = now() - timedelta(minutes=minutes)
        gone = Pilot(pilot=f"p-{cluster}", campaign=scene.name, cluster=cluster, kind="dft", state="ended")
        scene.database.pilots.insert_one(gone.model_dump() | {"submitted_at": at})
    (stuck,) = status(scene).stuck
    assert stuck.remedy.endswith("nucleate submit --cluster alps")


def test_a_live_worker_makes_it_running_and_a_dead_one_does_not(scene):
    scene.campaign()
    scene.round(1)
    scene.firework(1, "sample", "RUNNING")
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "process_started": psutil.Process().create_time()}
    scene.attempt(1, "sample", **mine)
    found = status(scene)
    assert found.state == "running"
    assert found.running[0].alive
    assert 20 < found.running[0].seconds < 120

    gone = mine | {"process_started": mine["process_started"] - 1000}  # the pid was given to another process
    scene.database.attempts.update_many({}, {"$set": gone})
    found = status(scene)
    assert (found.state, found.running[0].alive) == ("idle", False)
    assert any("is gone" in item.why and "reconcile" in item.remedy for item in found.stuck)

    scene.database.attempts.update_many({}, {"$set": {"host": "elsewhere"}})
    assert status(scene).running[0].alive is None


def test_a_failed_job_that_the_round_waits_for_needs_somebody(scene):
    scene.campaign()
    scene.round(1)
    job = scene.firework(1, "screen", "FIZZLED")
    scene.firework(1, "select", "WAITING")
    found = status(scene)
    assert found.state == "stuck"
    assert found.needs_somebody
    assert f"(job {job})" in found.stuck[0].what
    assert found.stuck[0].remedy.endswith("nucleate rerun --round 1 --stage screen --yes")


def test_a_failed_candidate_stops_nothing(scene):
    scene.campaign()
    scene.round(1)
    scene.firework(1, "relax", "FIZZLED", "c1")
    scene.firework(1, "feedback", "READY")
    assert not status(scene).needs_somebody


@pytest.mark.parametrize(("minutes", "stuck"), [(0.1, False), (10, True)])
def test_a_claim_without_a_workflow_is_told_after_a_while(scene, minutes, stuck):
    scene.campaign()
    scene.round(1, "claimed", hours_ago=minutes / 60)
    assert any("never added" in item.why for item in status(scene).stuck) == stuck


def test_a_next_round_that_nobody_opened_needs_somebody(scene):
    scene.campaign(rounds=2)
    scene.round(1, "closed")
    assert status(scene).needs_somebody


def test_a_campaign_that_spent_its_hours_is_stopped_not_stuck(scene):
    scene.campaign(state="stopped", why="3.00 of 2 core-hours are spent")
    scene.round(1, "closed")
    found = status(scene)
    assert (found.state, found.needs_somebody) == ("stopped", False)


def test_the_expected_end_follows_from_the_rounds_that_closed(scene):
    scene.campaign(rounds=3)
    scene.round(1, "closed", hours_ago=2.0, sampled=4, verified=2)  # took half an hour
    open_round(scene)
    scene.attempt(2, "phonon", host="elsewhere", pid=1)
    found = status(scene)
    left = found.expected_end - now()
    assert timedelta(minutes=30) < left < timedelta(minutes=60)
    assert found.candidates_per_hour == pytest.approx((4 + 4) / 1.5, rel=0.01)


def test_an_unknown_campaign_is_refused_with_those_that_there_are(scene):
    scene.campaign()
    with pytest.raises(NoSuchCampaignError, match="oxides"):
        campaign_status(scene.database, "nitrides")


def test_it_is_json(scene):
    scene.campaign()
    scene.round(1, "closed", hours_ago=2.0)
    open_round(scene)
    scene.attempt(2, "phonon", host="elsewhere", pid=1)
    found = json.loads(json.dumps(status(scene).as_dict()))
    assert found["rounds"][1]["progress"]["verify"] == {"done": 1, "total": 2, "control": 0}
    assert found["rounds"][0]["summary"]["number"] == 1
    assert found["running"][0]["stage"] == "phonon"


def test_what_feedback_taught_is_told_of_closed_rounds(scene):
    update = {"generator": "symmetric", "taken": True, "lessons": 9, "good": 1, "bad": 4, "trust": 0.5}
    scene.campaign()
    scene.round(1, state="closed")
    scene.database.rounds.update_one({"round": 1}, {"$set": {"learned": {"updates": [update]}}})
    scene.round(2)
    first, second = status(scene).rounds
    assert first.updates == [update]
    assert second.updates == []
