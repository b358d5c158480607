"""Re-runs of a real small campaign: what failed is mended, nothing is doubled, and all of it can be taken back."""

from __future__ import annotations

from dataclasses import replace

from rerun_state import everything

from workflows.monitor.rerun.carry_out import carry_out
from workflows.monitor.rerun.plan import plan_rerun
from workflows.monitor.rerun.settings import parse_settings
from workflows.monitor.rerun.undo import undo
from workflows.monitor.selector import Selector
from workflows.records import Attempt

SMALL = {"samples": 6, "control": 0, "budget": {"verifications": 2}, "rounds": 1}


def failed(small, **changes):
    """Run a campaign of one round in which the relaxation of the first of two candidates fails."""
    campaign = small(**{**SMALL, **changes})
    campaign.run_until("select")
    bad, good = campaign.selected()
    campaign.spoil(bad)
    campaign.run()
    return campaign, bad, good


def plan(campaign, settings=(), **parts):
    over_budget = parts.pop("over_budget", False)
    return plan_rerun(campaign.database, Selector("small", **parts), parse_settings(settings), over_budget=over_budget)


def test_a_failed_relaxation_is_run_again_with_more_steps_and_its_verdict_replaced(small):
    campaign, bad, good = failed(small)
    assert campaign.verdict(bad)["cause"]["code"] == 501
    before = everything(campaign.database)
    found = plan(campaign)
    assert everything(campaign.database) == before  # a preview changes nothing
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
    late = campaign.verdict(bad)
    assert (late["verified"], late["late"], late["cause"]) == (True, True, None)
    assert set(campaign.states()) == {"COMPLETED"}
    assert campaign.verdict(good)["verified"]

    # history: the failed launch is archived, the re-run is a record, the attempt that followed says what it was asked
    fw = campaign.launchpad.fireworks.find_one({"fw_id": item.fw_id})
    assert len(fw["archived_launches"]) == len(fw["launches"]) == 1
    record = Attempt.model_validate(campaign.store.attempts.find_one({"rerun": {"$ne": None}}, {"_id": 0}))
    assert (record.state, record.cause.code, record.job_uuid) == ("begun", 501, item.job[0])
    newest = campaign.store.attempts.find_one({"launch_id": fw["launches"][0]})
    assert newest["overrides"] == {"maker": {"steps": 500}}
    assert plan(campaign).items == plan(campaign).skipped == []


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
    (name,) = campaign.selected()
    before, count = everything(campaign.database), len(campaign.fw_ids(candidate=name))
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
    assert everything(campaign.database) == before

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
