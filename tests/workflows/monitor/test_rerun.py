"""Re-runs of stand-in jobs: previewed, carried out, taken back, and mended wherever a crash comes."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace

import jobflow
import pytest
from fireworks import LaunchPad
from jobflow import Flow, Maker, OnMissing, Response, job
from pymongo.monitoring import CommandListener
from rerun_state import everything, states

from workflows.causes import CausedError
from workflows.monitor.rerun.carry_out import carry_out
from workflows.monitor.rerun.plan import plan_rerun
from workflows.monitor.rerun.settings import SettingError, parse_settings
from workflows.monitor.rerun.undo import undo
from workflows.monitor.selector import Selector
from workflows.runtime.capacity import Capacity, Ledger
from workflows.runtime.claims import Terms
from workflows.runtime.cluster import Needs, PilotKind
from workflows.runtime.firetask import to_workflow
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.worker_process import JobRunner
from workflows.stages.dress import block_of, dress

KILLED, SURVIVED = 9, 0
ENOUGH = 100
ALL = Selector("c")


@dataclass
class Relaxer(Maker):
    """Fails unless it has enough steps."""

    name: str = "relax"
    steps: int = 10
    cause: int = 501

    @job
    def make(self, structure):
        if self.steps < ENOUGH:
            raise CausedError(self.cause, f"after {self.steps} steps")
        return structure


@job
def one(after):
    return after


@job
def spread(after):
    jobs = [one(after) for _ in range(2)]
    return Response(replace=Flow(jobs, output=[j.output for j in jobs]))


@job
def judge(*parts):
    return len(parts)


def candidate(name="c-r01-0001", **relaxer):
    """Give the chain of one candidate, and its last job."""

    def dressed(work, stage):
        return dress(work, block_of("c", 1, stage, name, "mlip"), "cpu")

    relax = dressed(Relaxer(**relaxer).make("x"), "relax")
    gate = dressed(one(relax.output), "gate")
    phonon = dressed(spread(gate.output), "phonon")
    last = dressed(judge(gate.output, phonon.output), "judge")
    last.config.on_missing_references = OnMissing.NONE
    return [relax, gate, phonon, last], last


class Site:
    def __init__(self, store, directory):
        self.store = store
        self.database = store.database
        self.launchpad = CampaignLaunchPad.signed(store.launchpad, str(ProcessName.own()))
        self.runner = JobRunner(self.launchpad, directory / "launches", campaign="c")

    def round(self, *chains, unjudged=()):
        """Add a round of candidates, and jobs that nothing depends on, and run it."""
        feedback = dress(judge(*[last.output for _, last in chains]), block_of("c", 1, "feedback"), "light")
        feedback.config.on_missing_references = OnMissing.NONE
        jobs = [*(j for jobs, _ in chains for j in jobs), *unjudged, feedback]
        self.launchpad.add_wf(to_workflow(Flow(jobs), name="c/r01"))
        self.runner.run_all()

    def plan(self, settings=(), *, over_budget=False, **parts):
        return plan_rerun(self.database, Selector("c", **parts), parse_settings(settings), over_budget=over_budget)

    def rerun(self, *settings, **parts):
        return carry_out(self.store.launchpad, self.plan(settings, **parts))

    def states(self):
        return states(self.database)

    def firework(self, stage):
        return self.database.fireworks.find_one({"spec.nucleate.stage": stage})


@pytest.fixture
def site(store, tmp_path, monkeypatch):
    monkeypatch.setattr(jobflow.SETTINGS, "JOB_STORE", store.jobstore)
    store.ensure_indexes()
    return Site(store, tmp_path)


def test_a_preview_changes_nothing_and_says_what_would_be_done(site):
    site.round(candidate(steps=60))
    before = everything(site.database)
    found = site.plan()
    assert everything(site.database) == before
    (item,) = found.items
    assert (item.candidate, item.stage, item.code, item.tries, item.retries) == ("c-r01-0001", "relax", 501, 0, 3)
    assert item.words == "120 steps instead of 60, from the beginning"
    assert item.overrides == {"maker": {"steps": 120}}
    assert found.skipped == []
    assert found.as_dict()["items"][0]["after"] == item.after
    stages = [site.database.fireworks.find_one({"fw_id": i})["spec"]["nucleate"]["stage"] for i in item.after]
    assert sorted(stages) == ["feedback", "gate", "judge", "phonon"]


def test_only_roots_are_run_again_and_what_depends_on_them_follows(site):
    site.round(candidate(steps=60), candidate("c-r01-0002", steps=ENOUGH))
    assert site.states() == {"COMPLETED": 9, "FIZZLED": 3}
    (outcome,) = site.rerun()
    assert outcome.done
    assert [one.why for one in site.plan().skipped] == ["it is to run again already"]
    site.runner.run_all()
    assert site.states() == {"COMPLETED": 15}  # the phonon stage has its children now
    assert site.plan().items == site.plan().skipped == []
    relax = site.database.fireworks.find_one({"spec.nucleate.candidate": "c-r01-0001", "spec.nucleate.stage": "relax"})
    assert len(relax["archived_launches"]) == len(relax["launches"]) == 1
    record = site.database.attempts.find_one({"rerun": {"$ne": None}})
    assert (record["state"], record["cause"]["code"], record["fw_id"]) == ("begun", 501, relax["fw_id"])


def test_undo_puts_everything_back_until_a_task_has_begun(site):
    site.round(candidate())
    before = everything(site.database)
    site.rerun("memory_gb=8")
    assert (site.firework("relax")["state"], site.firework("relax")["spec"]["resources"]) == (
        "READY",
        {"memory_gb": 8.0},
    )
    assert [outcome.done for outcome in undo(site.store.launchpad, ALL)] == [True]
    assert everything(site.database) == before
    assert undo(site.store.launchpad, ALL) == []

    site.rerun()
    site.runner.run_all(1)
    begun = everything(site.database)
    (outcome,) = undo(site.store.launchpad, Selector("c", candidates=("c-r01-0001",)))
    assert (outcome.done, "has begun" in outcome.why) == (False, True)
    assert everything(site.database) == begun


@pytest.mark.parametrize("first", ["c-r01-0001", "c-r01-0002"])
def test_two_reruns_are_taken_back_one_by_one(site, first):
    site.round(candidate(), candidate("c-r01-0002"))
    before = everything(site.database)
    site.rerun()
    assert undo(site.store.launchpad, Selector("c", candidates=(first,)))[0].done
    assert site.firework("feedback")["state"] == "WAITING"  # for the other
    assert undo(site.store.launchpad, ALL)[0].done
    assert everything(site.database) == before


def test_what_is_left_to_put_back_is_handed_to_those_that_it_waits_for_alone(site):
    (relax, *_), _ = candidate("c-r01-0003")
    site.round(candidate(), candidate("c-r01-0002"), unjudged=[relax])
    site.rerun()
    of_relax = {"candidate": "c-r01-0003", "rerun": {"$ne": None}}
    before = site.database.attempts.find_one(of_relax)
    for name in ("c-r01-0002", "c-r01-0001"):
        assert undo(site.store.launchpad, Selector("c", candidates=(name,)))[0].done
        assert site.database.attempts.find_one(of_relax) == before


def test_a_rerun_of_a_job_that_is_made_anew_is_not_taken_back(site):
    chosen = well(site)
    child = site.database.fireworks.find_one({"spec._nucleate_producer": {"$exists": True}})["fw_id"]
    cause = {"code": 501, "name": "ionic_steps", "evidence": "seen", "stage": "phonon"}
    site.database.attempts.update_one({"fw_id": child}, {"$set": {"state": "failed", "cause": cause}})
    before = everything(site.database)
    phonon = {**chosen, "stages": ("phonon",)}
    assert [item.fw_id for item in site.plan(**phonon).items] == [child]
    site.rerun(**phonon)
    site.rerun(**chosen)
    assert site.database.fireworks.find_one({"fw_id": child})["state"] == "ARCHIVED"
    assert [outcome.done for outcome in undo(site.store.launchpad, ALL)] == [True, True]
    assert everything(site.database) == before

    site.rerun(**phonon)
    site.rerun(**chosen)
    site.runner.run_all(1)
    begun = everything(site.database)
    (outcome,) = undo(site.store.launchpad, Selector("c", candidates=chosen["candidates"]))
    assert (outcome.stage, outcome.done, "has begun" in outcome.why) == ("relax", False, True)
    assert everything(site.database) == begun


def test_a_workflow_that_is_gone_keeps_nobody_from_the_others(site):
    site.round(candidate())
    (item,) = site.plan().items
    gone = "its job isn't in the database any more"
    outcomes = carry_out(site.store.launchpad, replace(site.plan(), items=[replace(item, fw_id=999), item]))
    assert [(outcome.done, outcome.why) for outcome in outcomes] == [(False, gone), (True, "")]
    site.launchpad.delete_wf(item.fw_id)
    assert [(outcome.done, outcome.why) for outcome in undo(site.store.launchpad, ALL)] == [(False, gone)]


def test_a_budget_of_reruns_is_spent_and_can_be_overdrawn(site):
    site.round(candidate(steps=1))
    for tries in range(3):
        (item,) = site.plan().items
        assert (item.tries, item.overrides["maker"]["steps"]) == (tries, 2 ** (tries + 1))
        site.rerun()
        site.runner.run_all()
    (skipped,) = site.plan().skipped
    assert skipped.why.startswith("re-run 3 of 3 times for this cause")
    assert [item.tries for item in site.plan(over_budget=True).items] == [3]
    # what a bad node burnt does not count
    launched = {"fw_id": skipped.fw_id, "launch_id": {"$ne": None}}
    newest = site.database.attempts.find_one(launched, sort=[("launch_id", -1)])
    site.database.attempts.update_one({"attempt": newest["attempt"]}, {"$set": {"set_aside": True}})
    assert [item.tries for item in site.plan().items] == [2]


@pytest.mark.parametrize(
    ("cause", "changed"),
    [(101, {"minutes": 20.0}), (102, {"memory_gb": 2.0}), (103, {}), (205, {})],
)
def test_resources_follow_from_the_cause(site, cause, changed):
    site.round(candidate(cause=cause))
    (item,) = site.plan().items
    assert (item.resources, item.overrides) == (changed, {})
    site.rerun()
    assert site.firework("relax")["spec"].get("resources", {}) == changed


@pytest.mark.parametrize(
    ("cause", "ran_min", "more"),
    [(101, 30, {"minutes": 120.0}), (101, 90, {"minutes": 180.0}), (102, 30, {"memory_gb": 48.0})],
)
def test_more_is_more_than_what_the_batch_job_had_for_it(site, tmp_path, cause, ran_min, more):
    took = Needs(cores=2, memory_gb=24.0, minutes=60.0)
    kind = PilotKind(categories=("cpu", "light"), cores=4, memory_gb=64.0, minutes=600, stages={"relax": took})
    ledger = Ledger.open_new(tmp_path, Capacity((0, 1, 2, 3), kind.memory_gb))
    Terms(kind=kind, end=time.monotonic() + 36_000, closing_s=60.0).write(tmp_path)
    site.runner = JobRunner(
        site.launchpad, tmp_path / "launches", campaign="c", categories=kind.categories, ledger=ledger
    )
    site.round(candidate(cause=cause))
    site.database.attempts.update_one({"stage": "relax"}, {"$set": {"seconds": 60.0 * ran_min}})
    (item,) = site.plan().items
    assert item.resources == more, "the rest is still the kind's to say"
    assert item.core_hours == pytest.approx(took.cores * ran_min / 60, abs=0.05)
    site.rerun()
    Ledger.open_new(tmp_path, ledger.capacity)  # forgets that the last look found nothing
    site.runner.run_all(1)
    newest = site.database.attempts.find_one({"launch_id": {"$ne": None}}, sort=[("launch_id", -1)])
    assert newest["took"] == {**took.model_dump(), **more}


def test_what_can_not_be_helped_is_left_out_unless_somebody_insists(site):
    site.round(candidate(cause=601))
    assert "can't help" in site.plan().skipped[0].why
    assert len(site.plan(over_budget=True).items) == 1


def test_what_runs_is_left_alone(site):
    site.round(candidate())
    found = site.plan()
    gate, relax = site.firework("gate"), site.firework("relax")
    running = {"state": "RUNNING", "fworker.name": "nucleate-elsewhere-1-1"}
    site.database.launches.update_one({"launch_id": gate["launches"][0]}, {"$set": running})
    site.database.fireworks.update_one({"fw_id": gate["fw_id"]}, {"$set": {"state": "RUNNING"}})
    before = everything(site.database)
    assert "depends on it and runs now" in site.plan().skipped[0].why
    (outcome,) = carry_out(site.store.launchpad, found)  # it began after the preview
    assert (outcome.done, "runs by now" in outcome.why) == (False, True)
    assert everything(site.database) == before
    site.database.fireworks.update_one({"fw_id": relax["fw_id"]}, {"$set": {"state": "RUNNING"}})
    assert site.plan().skipped[0].why == "it runs now"


def well(site):
    """Run a candidate with which nothing is wrong, and select its relaxation all the same."""
    site.round(candidate(steps=ENOUGH))
    site.database.verdicts.insert_one({"candidate": "c-r01-0001", "campaign": "c", "round": 1, "cause": None})
    return {"candidates": ("c-r01-0001",), "stages": ("relax",)}


def test_children_made_from_what_is_run_again_are_made_anew(site):
    chosen = well(site)
    assert site.plan(candidates=("c-r01-0001",)).items == []  # nothing failed, and no stage is named
    before = everything(site.database)
    (item,) = site.plan(**chosen).items
    assert (item.code, len(item.replaced)) == (None, 3)  # two jobs and what gathers their outputs
    site.rerun(**chosen)
    nodes = site.database.workflows.find_one()["nodes"]
    assert not set(nodes) & set(item.replaced)
    assert undo(site.store.launchpad, ALL)[0].done
    assert everything(site.database) == before

    site.rerun(**chosen)
    site.runner.run_all()
    assert site.states() == {"COMPLETED": 8, "ARCHIVED": 3}
    assert len(site.database.workflows.find_one()["nodes"]) == 8
    assert site.plan().items == []


class Guillotine(CommandListener):
    """End the process, as kill -9 does, when it is about to send its n-th write."""

    def __init__(self, n):
        self.left = n

    def started(self, event):
        if event.command_name in {"insert", "update", "delete", "findAndModify"}:
            self.left -= 1
            if self.left == 0:
                os._exit(KILLED)

    def succeeded(self, event):
        pass

    def failed(self, event):
        pass


def dying(site, writes, act):
    """Run ``act`` in a process of its own, which dies at its n-th write."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            options = {**site.store.address.client_options(), "event_listeners": [Guillotine(writes)]}
            document = site.store.address.launchpad_document()
            document.pop("nucleate")
            act(LaunchPad(**{**document, "mongoclient_kwargs": options}))
            code = SURVIVED
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def differing(one, other, path=""):
    """List where two nested dictionaries differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return [
            found
            for key in sorted({*one, *other}, key=str)
            for found in differing(one.get(key), other.get(key), f"{path}/{key}")
        ]
    return [] if one == other else [f"{path}: {one!r} and {other!r}"[:300]]


def without_times(state):
    return {**state, "attempts": [{**attempt, "planned_at": None} for attempt in state["attempts"]]}


@pytest.fixture(params=["failed", "well"])
def chosen(site, request):
    """Run a candidate that fails, or one with which nothing is wrong, and select what is to be run again."""
    if request.param == "well":
        return well(site)
    site.round(candidate(cause=101))
    return {}


def test_a_kill_at_any_write_is_mended_by_asking_again(site, chosen):
    before = everything(site.database)
    site.rerun(**chosen)
    wanted = without_times(everything(site.database))
    assert undo(site.store.launchpad, ALL)[0].done
    assert everything(site.database) == before

    code, n = KILLED, 0
    while code == KILLED:
        n += 1
        code = dying(site, n, lambda launchpad: carry_out(launchpad, site.plan(**chosen)))
        site.rerun(**chosen)
        got = without_times(everything(site.database))
        assert got == wanted, f"killed at write {n}: {differing(got, wanted)}"
        undo(site.store.launchpad, ALL)
        assert everything(site.database) == before, f"taken back after write {n}"
    assert n > 5


def test_a_kill_at_any_write_of_undo_is_mended_by_asking_again(site, chosen):
    before = everything(site.database)
    code, n = KILLED, 0
    while code == KILLED:
        n += 1
        site.rerun(**chosen)
        code = dying(site, n, lambda launchpad: undo(launchpad, ALL))
        undo(site.store.launchpad, ALL)
        assert everything(site.database) == before, f"killed at write {n}"
    assert n > 5


def test_settings_are_from_a_list():
    assert parse_settings(["cores=4", "partition=long"]).resources == {"cores": 4, "partition": "long"}
    assert parse_settings(["NELM=200", "ALGO=All"]).tags == {"vasp": {"NELM": 200, "ALGO": "All"}}
    for text, says in (
        ("memory=8", "did you mean memory_gb"),
        ("ENCUT=600", "can't be changed"),
        ("cores=1.5", "whole number"),
        ("minutes=-1", "above 0"),
        ("cores", "KEY=VALUE"),
        ('NELM={"$gt": 1}', "a number, a text"),
    ):
        with pytest.raises(SettingError, match=says):
            parse_settings([text])


def test_what_a_user_sets_goes_before_what_the_cause_asks(site):
    site.round(candidate(cause=102))
    (item,) = site.plan(["memory_gb=30", "NELM=5"]).items  # NELM says nothing to a force field
    assert (item.resources, item.overrides) == ({"memory_gb": 30.0}, {})
    assert "30" in item.words


def test_a_job_is_replaced_in_a_plan_without_touching_others(site):
    site.round(candidate(), candidate("c-r01-0002"))
    found = site.plan()
    assert len(found.items) == 2
    carry_out(site.store.launchpad, replace(found, items=found.items[:1]))
    assert [item.fw_id for item in site.plan().items] == [found.items[1].fw_id]
