"""Re-runs of a real small campaign: what failed is mended, nothing is doubled, and all of it can be taken back."""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import replace

import pytest
from fireworks import LaunchPad
from pymongo.monitoring import CommandListener

from workflows.monitor.rerun.carry_out import carry_out
from workflows.monitor.rerun.plan import plan_rerun
from workflows.monitor.rerun.settings import parse_settings
from workflows.monitor.rerun.undo import undo
from workflows.monitor.selector import Selector
from workflows.records import Attempt, now

HOPELESS = {"maker": {"steps": 2, "relax_kwargs": {"fmax": 1e-12}, "unconverged_cause": 501}}
SMALL = {"samples": 6, "control": 0, "budget": {"verifications": 2}, "rounds": 1}
KILLED, SURVIVED = 9, 0


def sabotage(campaign, candidate, stage="relax", wanted=HOPELESS):
    """Ask a stage of a candidate to run so that it fails; not as a re-run does, so that it counts as none."""
    campaign.store.attempts.insert_one(
        Attempt(
            attempt=f"{candidate}-{stage}-sabotage",
            campaign="small",
            round=1,
            candidate=candidate,
            stage=stage,
            state="planned",
            planned_at=now(),
            overrides=wanted,
        ).model_dump()
    )


def chosen(campaign):
    return sorted(c["candidate"] for c in campaign.database.candidates.find({"select.selected": True, "round": 1}))


def failed(small, **changes):
    """Run a campaign of one round in which the relaxation of the first of two candidates fails."""
    campaign = small(**{**SMALL, **changes})
    campaign.run_until("select")
    bad, good = chosen(campaign)
    sabotage(campaign, bad)
    campaign.run()
    return campaign, bad, good


def plan(campaign, settings=(), **parts):
    over_budget = parts.pop("over_budget", False)
    return plan_rerun(campaign.database, Selector("small", **parts), parse_settings(settings), over_budget=over_budget)


def verdict(campaign, candidate):
    return campaign.database.verdicts.find_one({"candidate": candidate}, {"_id": 0})


def everything(campaign):
    """All that a re-run may change, as it is now; times of writing aside."""
    db = campaign.database
    fireworks = {fw["fw_id"]: fw for fw in db.fireworks.find({}, {"_id": 0, "updated_on": 0})}
    workflows = {min(wf["nodes"]): wf for wf in db.workflows.find({}, {"_id": 0, "updated_on": 0})}
    for fw in fireworks.values():
        fw["archived_launches"].sort()
    return deepcopy(
        {
            "fireworks": fireworks,
            "workflows": {
                key: {name: wf[name] for name in ("nodes", "links", "parent_links", "fw_states")}
                | {"locked": "locked" in wf}
                for key, wf in workflows.items()
            },
            "launches": {x["launch_id"]: x["state"] for x in db.launches.find()},
            "attempts": sorted(
                (a for a in db.attempts.find({}, {"_id": 0, "started_at": 0})), key=lambda a: a["attempt"]
            ),
        }
    )


def test_a_failed_relaxation_is_run_again_with_more_steps_and_its_verdict_replaced(small):
    campaign, bad, good = failed(small)
    assert verdict(campaign, bad)["cause"]["code"] == 501
    before = everything(campaign)
    found = plan(campaign)
    assert everything(campaign) == before  # a preview changes nothing
    (item,) = found.items
    assert found.skipped == []
    assert (item.candidate, item.stage, item.code, item.tries) == (bad, "relax", 501, 0)
    assert item.overrides["maker"]["steps"] == 4  # twice of what was in force
    assert item.words == "4 steps instead of 2, from the beginning"
    assert item.core_hours > 0
    stages = {campaign.launchpad.fireworks.find_one({"fw_id": i})["spec"]["nucleate"]["stage"] for i in item.after}
    assert stages == {"gate", "judge", "feedback"}

    # twice the steps are not enough for what was made impossible: the user says what else
    again = plan(campaign, ["steps=500"], causes=((500, 599),))
    assert again.items[0].overrides["maker"]["steps"] == 500
    mended = replace(again.items[0], overrides={"maker": {"steps": 500}})
    (outcome,) = carry_out(campaign.store.launchpad, replace(again, items=[mended]))
    assert outcome.done
    assert plan(campaign).skipped[0].why == "it is to run again already"
    campaign.run()
    late = verdict(campaign, bad)
    assert (late["verified"], late["late"], late["cause"]) == (True, True, None)
    assert set(campaign.states()) == {"COMPLETED"}
    assert verdict(campaign, good)["verified"]

    # history: the failed launch is archived, the re-run is a record, the attempt that followed says what it was asked
    fw = campaign.launchpad.fireworks.find_one({"fw_id": item.fw_id})
    assert len(fw["archived_launches"]) == len(fw["launches"]) == 1
    record = Attempt.model_validate(campaign.store.attempts.find_one({"rerun": {"$ne": None}}, {"_id": 0}))
    assert (record.state, record.cause.code, record.job_uuid) == ("begun", 501, item.job[0])
    newest = campaign.store.attempts.find_one({"launch_id": fw["launches"][0]})
    assert newest["overrides"] == {"maker": {"steps": 500}}
    assert plan(campaign).items == plan(campaign).skipped == []


def test_undo_puts_everything_back_until_a_task_has_begun(small):
    campaign, bad, _ = failed(small)
    before = everything(campaign)
    found = plan(campaign, ["memory_gb=8"])
    carry_out(campaign.store.launchpad, found)
    fw = campaign.launchpad.fireworks.find_one({"fw_id": found.items[0].fw_id})
    assert (fw["state"], fw["spec"]["resources"]) == ("READY", {"memory_gb": 8.0})
    (outcome,) = undo(campaign.store.launchpad, Selector("small"))
    assert outcome.done
    assert everything(campaign) == before
    assert undo(campaign.store.launchpad, Selector("small")) == []

    carry_out(campaign.store.launchpad, plan(campaign))
    campaign.run(limit=1)  # the relaxation fails again
    begun = everything(campaign)
    (outcome,) = undo(campaign.store.launchpad, Selector("small", candidates=(bad,)))
    assert (outcome.done, "has begun" in outcome.why) == (False, True)
    assert everything(campaign) == begun


def test_two_reruns_taken_back_one_by_one(small):
    campaign = small(**SMALL)
    campaign.run_until("select")
    both = chosen(campaign)
    for name in both:
        sabotage(campaign, name)
    campaign.run()
    before = everything(campaign)
    carry_out(campaign.store.launchpad, plan(campaign))
    (first,) = undo(campaign.store.launchpad, Selector("small", candidates=(both[0],)))
    assert first.done
    feedback = campaign.launchpad.fireworks.find_one({"spec.nucleate.stage": "feedback"})
    assert feedback["state"] == "WAITING"  # for the other
    (second,) = undo(campaign.store.launchpad, Selector("small"))
    assert second.done
    assert everything(campaign) == before


def test_a_budget_of_reruns_is_spent_and_can_be_overdrawn(small):
    campaign, bad, _ = failed(small)
    for tries in range(3):
        (item,) = plan(campaign).items
        assert item.tries == tries
        hopeless = replace(item, overrides=HOPELESS)
        carry_out(campaign.store.launchpad, replace(plan(campaign), items=[hopeless]))
        campaign.run()
        assert verdict(campaign, bad)["cause"]["code"] == 501
    found = plan(campaign)
    assert found.items == []
    assert found.skipped[0].why.startswith("re-run 3 of 3 times for this cause")
    assert [item.tries for item in plan(campaign, over_budget=True).items] == [3]
    # what a bad node burnt does not count
    newest = campaign.store.attempts.find_one(
        {"stage": "relax", "candidate": bad, "launch_id": {"$ne": None}}, sort=[("launch_id", -1)]
    )
    campaign.store.attempts.update_one({"attempt": newest["attempt"]}, {"$set": {"set_aside": True}})
    assert [item.tries for item in plan(campaign).items] == [2]


def test_what_runs_is_left_alone(small):
    campaign, bad, _ = failed(small)
    found = plan(campaign)
    relax = found.items[0].fw_id
    gate = campaign.fw_ids(candidate=bad, stage="gate")[0]
    fireworks = campaign.launchpad.fireworks
    launch = fireworks.find_one({"fw_id": gate})["launches"][0]
    elsewhere = {"state": "RUNNING", "fworker.name": "nucleate-elsewhere-1-1"}
    campaign.launchpad.launches.update_one({"launch_id": launch}, {"$set": elsewhere})
    fireworks.update_one({"fw_id": gate}, {"$set": {"state": "RUNNING"}})
    before = everything(campaign)
    assert "depends on it and runs now" in plan(campaign).skipped[0].why
    (outcome,) = carry_out(campaign.store.launchpad, found)  # it began after the preview
    assert (outcome.done, "runs by now" in outcome.why) == (False, True)
    assert everything(campaign) == before
    fireworks.update_one({"fw_id": gate}, {"$set": {"state": "FIZZLED"}})
    fireworks.update_one({"fw_id": relax}, {"$set": {"state": "RUNNING"}})
    assert plan(campaign).skipped[0].why == "it runs now"


def test_a_candidate_that_is_well_is_run_again_from_the_stage_that_is_named(small):
    """The children of its phonon flow are made anew, the old ones kept aside; undo brings them back."""
    campaign = small(
        samples=6,
        control=0,
        rounds=1,
        budget={"verifications": 1},
        chemistry={"systems": ["Mg-O"], "max_atoms": 4},
        targets={"energy_above_hull": {"max": 5, "unit": "eV/atom"}, "phonons": "stable"},
    )
    campaign.run()
    (name,) = chosen(campaign)
    before, count = everything(campaign), len(campaign.fw_ids(candidate=name))
    found = plan(campaign, candidates=(name,), stages=("relax",))
    (item,) = found.items
    assert (item.code, item.stage) == (None, "relax")
    assert item.replaced
    assert plan(campaign, candidates=(name,)).items == []
    (outcome,) = carry_out(campaign.store.launchpad, found)
    assert outcome.done
    nodes = campaign.launchpad.workflows.find_one({"nodes": item.fw_id})["nodes"]
    assert not set(nodes) & set(item.replaced)
    assert undo(campaign.store.launchpad, Selector("small"))[0].done
    assert everything(campaign) == before

    facts = campaign.facts()
    carry_out(campaign.store.launchpad, plan(campaign, candidates=(name,), stages=("relax",)))
    campaign.run()
    assert campaign.facts() == facts
    nodes = campaign.launchpad.workflows.find_one({"nodes": item.fw_id})["nodes"]
    mine = [i for i in campaign.fw_ids(candidate=name) if i in nodes]
    assert len(mine) == count  # as many as before: none doubled, none orphaned
    assert {campaign.launchpad.fireworks.find_one({"fw_id": i})["state"] for i in nodes} == {"COMPLETED"}
    assert set(campaign.states()) == {"COMPLETED", "ARCHIVED"}
    assert plan(campaign).items == []


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


def dying(campaign, writes, act):
    """Run ``act`` in a process of its own, which dies at its n-th write."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            options = {**campaign.store.address.client_options(), "event_listeners": [Guillotine(writes)]}
            document = campaign.store.address.launchpad_document()
            document.pop("nucleate")
            act(LaunchPad(**{**document, "mongoclient_kwargs": options}))
            code = SURVIVED
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def without_times(state):
    state["attempts"] = [{**attempt, "planned_at": None} for attempt in state["attempts"]]
    return {name: part for name, part in state.items() if name != "x"}


MORE = ["memory_gb=8"]


@pytest.mark.parametrize("changes", [{}, {"stages": ("relax",)}], ids=["failed", "well, with children"])
def test_a_kill_at_any_write_is_mended_by_asking_again(small, changes):
    if changes:
        campaign = small(
            samples=6,
            control=0,
            rounds=1,
            budget={"verifications": 1},
            chemistry={"systems": ["Mg-O"], "max_atoms": 4},
            targets={"energy_above_hull": {"max": 5, "unit": "eV/atom"}, "phonons": "stable"},
        )
        campaign.run()
        changes = {**changes, "candidates": tuple(chosen(campaign))}
    else:
        campaign, *_ = failed(small)
    before = everything(campaign)
    carry_out(campaign.store.launchpad, plan(campaign, MORE, **changes))
    wanted = without_times(everything(campaign))
    assert undo(campaign.store.launchpad, Selector("small"))[0].done
    assert everything(campaign) == before

    code, n = KILLED, 0
    while code == KILLED:
        n += 1
        code = dying(campaign, n, lambda launchpad: carry_out(launchpad, plan(campaign, MORE, **changes)))
        carry_out(campaign.store.launchpad, plan(campaign, MORE, **changes))
        assert without_times(everything(campaign)) == wanted, f"killed at write {n}"
        undoing, m = KILLED, 0
        while undoing == KILLED and n == 1:  # every write of an undo, once
            m += 1
            undoing = dying(campaign, m, lambda launchpad: undo(launchpad, Selector("small")))
            undo(campaign.store.launchpad, Selector("small"))
            assert everything(campaign) == before, f"undo killed at write {m}"
            carry_out(campaign.store.launchpad, plan(campaign, MORE, **changes))
        undo(campaign.store.launchpad, Selector("small"))
        assert everything(campaign) == before, f"taken back after write {n}"
    assert n > 5
