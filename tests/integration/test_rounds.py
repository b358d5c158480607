"""How a round executes, line by line, on FireWorks, jobflow and a database over TCP."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from generators.base import derive_seed
from workflows import ledger
from workflows.campaign import LaunchRefusedError, launch
from workflows.monitor.status import campaign_status
from workflows.rounds import LEASE, ensure_workflow, open_round, repair_claims, workflow_key
from workflows.stages.feedback import close_round


def test_a_whole_campaign(small):
    campaign = small()
    assert campaign.launched.created
    campaign.run()
    assert set(campaign.states()) == {"COMPLETED"}
    assert ledger.campaign_document(campaign.database, "small")["state"] == "finished"

    # one workflow a round, each with its own fireworks
    workflows = list(campaign.launchpad.workflows.find({}, {"name": 1, "nodes": 1}))
    assert sorted(w["name"] for w in workflows) == ["small/r01", "small/r02"]
    assert not set(workflows[0]["nodes"]) & set(workflows[1]["nodes"])

    # names and blocks
    for fw in campaign.launchpad.fireworks.find({}, {"name": 1, "spec": 1}):
        block = fw["spec"]["nucleate"]
        assert fw["name"].startswith(f"small/r{block['round']:02d}/{block['stage']}")
        assert (block["candidate"] is None) == (
            block["stage"] in {"reference", "sample", "screen", "prerelax", "select", "feedback"}
        )

    # candidates, controls, verdicts
    for number in (1, 2):
        ids = [c.candidate for c in ledger.read_candidates(campaign.database, "small", number, control=False)]
        assert ids == [f"small-r{number:02d}-{i:04d}" for i in range(10)]
    controls = list(ledger.read_candidates(campaign.database, "small", 2, control=True))
    assert [c.candidate for c in controls] == [f"small-r02-c{i:04d}" for i in range(4)]
    assert not list(ledger.read_candidates(campaign.database, "small", 1, control=True))
    first, second = (ledger.get_round(campaign.database, "small", n) for n in (1, 2))
    assert {c.generator_state for c in controls} == {first.generator_state}
    assert second.generator_state == first.learned["state"] != first.generator_state
    twins = {c.index: c for c in ledger.read_candidates(campaign.database, "small", 2, control=False)}
    assert all(c.seed == twins[c.index].seed for c in controls)
    assert not any(c.select.selected for c in controls if c.select)
    verdicts = ledger.read_verdicts(campaign.database, "small")
    selected = campaign.database.candidates.count_documents({"select.selected": True})
    assert len(verdicts) == selected >= 2

    # the stored summaries agree with the records, and the verdict says where it comes from
    for number, closed in ((1, first), (2, second)):
        mine = [v for v in verdicts if v.round == number]
        assert closed.state == "closed"
        assert closed.summary.sampled == 10
        assert closed.summary.verified + closed.summary.failures == closed.summary.selected == len(mine)
        assert all(v.counted_in == number and not v.late for v in mine)
    assert second.summary.control["sampled"] == 4
    assert first.summary.control is None
    good = next(v for v in verdicts if v.verified)
    assert good.reference_set.key.startswith("mlip:7net-0:fast")
    assert good.provenance["generator_state"]
    proposed = {c["candidate"]: c for c in campaign.database.candidates.find({"select.selected": True})}
    assert good.provenance["stream_seed"] == derive_seed(3, proposed[good.candidate]["round"])
    assert all(proposed[v.candidate]["select"]["round"] == v.round >= proposed[v.candidate]["round"] for v in verdicts)
    assert good.provenance["reproduce"] == f"nucleate reproduce {good.candidate}"
    assert {job["stage"] for job in good.provenance["parent_jobs"]} >= {"relax", "gate"}

    # plain FireWorks serves without us
    assert campaign.launchpad.get_fw_ids({"spec.nucleate.campaign": "small", "spec.nucleate.round": 2}, count_only=True)
    sizes = [len(str(d)) for d in campaign.store.jobstore.query({"metadata.nucleate.stage": "sample"})]
    assert max(sizes) < 2000  # ids and counts, not structures by the hundred


def test_what_waited_for_want_of_budget_is_verified_by_a_later_round(small):
    campaign = small(budget={"verifications": 1})
    campaign.run_until("feedback")
    (first,) = campaign.selected(1)
    waiting = [
        c.candidate
        for c in ledger.read_candidates(campaign.database, "small", 1, control=False)
        if c.select and c.select.novel and not c.select.selected
    ]
    assert waiting
    # all that round 2 proposes is far from the hull, so that what waited is better
    while not campaign.database.candidates.count_documents({"round": 2, "prerelax": {"$ne": None}}):
        assert campaign.runner.run_all(1) == 1
    prerelaxing = {"spec.nucleate.stage": "prerelax", "spec.nucleate.round": 2, "state": {"$ne": "COMPLETED"}}
    while campaign.launchpad.fireworks.count_documents(prerelaxing):
        assert campaign.runner.run_all(1) == 1
    far = {"round": 2, "prerelax.energy_ev_per_atom": {"$ne": None}}
    campaign.database.candidates.update_many(far, {"$inc": {"prerelax.energy_ev_per_atom": 5.0}})
    campaign.run()
    assert set(campaign.states()) == {"COMPLETED"}
    (second,) = [v for v in ledger.read_verdicts(campaign.database, "small") if v.round == 2]
    assert second.candidate in waiting
    called = ledger.get_candidate(campaign.database, second.candidate)
    assert (called.round, called.select.round, called.select.selected) == (1, 2, True)
    assert {job["stage"] for job in second.provenance["parent_jobs"]} >= {"relax", "gate"}
    summaries = [ledger.get_round(campaign.database, "small", n).summary for n in (1, 2)]
    assert [(s.selected, s.verified + s.failures) for s in summaries] == [(1, 1), (1, 1)]
    assert [r.summary.selected for r in campaign_status(campaign.database, "small").rounds] == [1, 1]

    # the first round's select, run again, takes nothing back
    before = snapshot(campaign)
    campaign.launchpad.rerun_fw(campaign.fw_ids(round=1, stage="select")[0])
    campaign.run()
    assert snapshot(campaign) == before
    assert campaign.verdict(first)["round"] == 1


def test_one_candidates_failure_never_stops_a_round_and_its_late_verdict_counts_once(small):
    campaign = small()
    campaign.run_until("select")
    chosen = campaign.selected()
    assert len(chosen) == 2
    campaign.spoil(chosen[0])
    campaign.run_until("feedback")

    bad, good = (campaign.verdict(name) for name in chosen)
    assert (bad["verified"], bad["cause"]["code"], bad["cause"]["stage"]) == (False, 501, "relax")
    assert good["verified"]
    first = ledger.get_round(campaign.database, "small", 1)
    assert (first.state, first.summary.failures, first.summary.verified) == ("closed", 1, 1)
    # the failure two levels up reached judge, each job in between named it
    codes = {
        a["stage"]: (a["cause"] or {}).get("code")
        for a in campaign.store.attempts.find({"candidate": chosen[0], "launch_id": {"$ne": None}})
    }
    assert codes == {"relax": 501, "gate": 901, "judge": None}

    # round 2 is open; the failed relaxation is re-run with enough steps
    assert ledger.get_round(campaign.database, "small", 2).state == "open"
    campaign.ask(chosen[0], {"maker": {"steps": 500}})
    campaign.launchpad.rerun_fw(campaign.fw_ids(candidate=chosen[0], stage="relax")[0])
    campaign.run()
    late = campaign.verdict(chosen[0])
    assert (late["verified"], late["late"], late["counted_in"]) == (True, True, 2)
    assert ledger.get_round(campaign.database, "small", 1).summary == first.summary  # never reopened
    second = ledger.get_round(campaign.database, "small", 2)
    assert second.summary.late == 1
    own = campaign.database.verdicts.count_documents({"round": 2})
    assert second.learned["verdicts"] == own + 1

    # once: closing again, or judging again, changes nothing
    before = campaign.facts()
    close_round(campaign.database, campaign.store.files, campaign.spec, 2)
    campaign.launchpad.rerun_fw(campaign.fw_ids(candidate=chosen[0], stage="judge")[0])
    campaign.run()
    assert campaign.facts() == before
    assert campaign.verdict(chosen[0])["counted_in"] == 2


def snapshot(campaign):
    """What a plain re-run must leave as it was."""
    return {
        "fireworks": campaign.fw_ids(),
        "facts": campaign.facts(),
        "rounds": list(campaign.database.rounds.find({}, {"_id": 0})),
        "candidates": list(campaign.database.candidates.find({}, {"_id": 0}).sort("candidate", 1)),
        "later": {fw["fw_id"]: fw["launches"] for fw in campaign.launchpad.fireworks.find({"spec.nucleate.round": 2})},
    }


def test_plain_rerun_of_any_job_of_a_finished_round(small):
    """Plain FireWorks re-runs add no firework, touch no later round, change no verdict; dynamic children included."""
    campaign = small(
        samples=6,
        control=0,
        budget={"verifications": 1},
        chemistry={"systems": ["Mg-O"], "max_atoms": 4},
        targets={
            "energy_above_hull": {"max": 5, "unit": "eV/atom"},
            "phonons": "stable",
            "bulk_modulus": {"min": 1, "unit": "GPa"},
        },
    )
    campaign.run()
    assert set(campaign.states()) == {"COMPLETED"}
    before = snapshot(campaign)
    stages = {}
    for fw in campaign.launchpad.fireworks.find({"spec.nucleate.round": 1}).sort("fw_id", 1):
        kind = (fw["spec"]["nucleate"]["stage"], "_nucleate_producer" in fw["spec"])
        stages.setdefault(kind, []).append(fw["fw_id"])
    assert ("phonon", True) in stages  # a job that atomate2's flow added at run time
    tried = {kind: ids[len(ids) // 2] for kind, ids in stages.items()}
    # from the end to the beginning, so that each re-run is of a round that is whole again
    for kind, fw_id in sorted(tried.items(), key=lambda item: -item[1]):
        attempts = campaign.store.attempts.count_documents({})
        campaign.launchpad.rerun_fw(fw_id)
        assert campaign_status(campaign.database, "small").state == "idle"  # finished, but asked again
        assert campaign.run() >= 1
        assert campaign_status(campaign.database, "small").state == "finished"
        assert snapshot(campaign) == before, kind
        assert set(campaign.states()) == {"COMPLETED"}, kind
        assert campaign.store.attempts.count_documents({}) > attempts  # history is kept, never overwritten


def test_two_feedbacks_racing_open_one_round(small):
    campaign = small()
    state = ledger.get_round(campaign.database, "small", 1).generator_state
    barrier = threading.Barrier(8)
    added = []

    def race():
        from workflows.runtime.store import open_store

        with open_store("embedded") as mine:
            barrier.wait()
            added.append(open_round(mine.launchpad, "small", 2, state, state))

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(added) == [False] * 7 + [True]
    assert campaign.database.rounds.count_documents({"round": 2}) == 1
    assert campaign.launchpad.workflows.count_documents({"name": workflow_key("small", 2)}) == 1
    assert len(campaign.fw_ids(round=2, stage="sample")) == 1


def test_a_sleeper_whose_lease_ran_out_adds_nothing(small, monkeypatch):
    """The lease may pass to another while its holder sleeps; the unique index then refuses the sleeper."""
    campaign = small()
    state = ledger.get_round(campaign.database, "small", 1).generator_state
    real = type(campaign.store.launchpad).add_wf
    woken = []

    def sleepy(launchpad, workflow, **options):
        if not woken:
            woken.append(1)
            campaign.database.rounds.update_one({"round": 2}, {"$set": {"builder_until": None}})
            assert ensure_workflow(launchpad, "small", 2)
        return real(launchpad, workflow, **options)

    monkeypatch.setattr(type(campaign.store.launchpad), "add_wf", sleepy)
    assert not open_round(campaign.store.launchpad, "small", 2, state, None)
    assert campaign.launchpad.workflows.count_documents({"name": workflow_key("small", 2)}) == 1
    nodes = campaign.launchpad.workflows.find_one({"name": workflow_key("small", 2)})["nodes"]
    assert campaign.fw_ids(round=2) == sorted(nodes)


@pytest.mark.parametrize("minutes", [None, -5, 5], ids=["no lease", "a clock behind ours", "a clock ahead of ours"])
def test_a_claim_left_without_its_workflow_is_repaired_once(small, minutes):
    campaign = small()
    launchpad = campaign.launchpad
    nodes = launchpad.workflows.find_one({})["nodes"]
    launchpad.workflows.delete_many({})
    launchpad.fireworks.delete_many({"fw_id": {"$in": nodes}})
    until = None if minutes is None else datetime.now(UTC) + LEASE + timedelta(minutes=minutes)
    campaign.database.rounds.update_one({}, {"$set": {"state": "claimed", "builder_until": until}})
    (repaired,) = repair_claims(launchpad)
    assert "small/r01" in repaired.done
    assert repair_claims(launchpad) == []
    assert launchpad.workflows.count_documents({}) == 1
    assert ledger.get_round(campaign.database, "small", 1).state == "open"


def test_sampling_streams_and_a_rerun_goes_on_where_it_was(small, monkeypatch):
    campaign = small(generator={"ion_exchange": 0.6, "random": 0.4})
    from generators import mixture

    real = mixture.Mixture.sample

    def interrupted(self, n, condition, seed, start=0):
        for k, drawn in enumerate(real(self, n, condition, seed, start)):
            if k == 4:
                raise OSError(28, "No space left on device")
            yield drawn

    monkeypatch.setattr(mixture.Mixture, "sample", interrupted)
    assert campaign.runner.run_all(1) == 1
    stored = list(ledger.read_candidates(campaign.database, "small", 1))
    assert [c.index for c in stored] == [0, 1, 2, 3]
    assert campaign.store.attempts.find_one({"stage": "sample"})["cause"]["code"] == 202
    monkeypatch.undo()
    import jobflow

    monkeypatch.setattr(jobflow.SETTINGS, "JOB_STORE", campaign.store.jobstore)
    campaign.launchpad.rerun_fw(campaign.fw_ids(stage="sample")[0])
    campaign.run_until("sample")
    resumed = list(ledger.read_candidates(campaign.database, "small", 1))
    assert [c.index for c in resumed] == list(range(10))
    assert resumed[:4] == stored
    whole = real(
        __import__("workflows.generator_states", fromlist=["initial_generator"]).initial_generator(campaign.spec),
        10,
        campaign.spec.condition(),
        derive_seed(3, 1),
    )
    assert [s.structure.formula for s in whole] == [_structure(c).formula for c in resumed]


def _structure(candidate):
    from pymatgen.core import Structure

    return Structure.from_dict(candidate.structure)


def test_prerelaxation_keeps_what_an_interrupted_batch_finished(small, monkeypatch):
    from generators import relaxer

    campaign = small(batch=10)
    campaign.run_until("screen")
    real = relaxer.relax

    def interrupted(structures, *, on_result, **options):
        def count(index, result):
            on_result(index, result)
            if done := campaign.database.candidates.count_documents({"prerelax": {"$ne": None}}) >= 2:
                raise MemoryError(f"{done}")

        return real(structures, on_result=count, **options)

    monkeypatch.setattr(relaxer, "relax", interrupted)
    campaign.runner.run_all(1)
    kept = {c["candidate"]: c["prerelax"] for c in campaign.database.candidates.find({"prerelax": {"$ne": None}})}
    assert len(kept) == 2
    monkeypatch.setattr(relaxer, "relax", real)
    campaign.launchpad.rerun_fw(campaign.fw_ids(stage="prerelax")[0])
    campaign.run_until("prerelax")
    after = {c["candidate"]: c["prerelax"] for c in campaign.database.candidates.find({"prerelax": {"$ne": None}})}
    assert {name: after[name] for name in kept} == kept
    assert len(after) == campaign.database.candidates.count_documents({"screen.passed": True})


def test_launching_again_is_a_no_op_and_another_spec_is_refused(small, store, tmp_path):
    campaign = small()
    fireworks = campaign.fw_ids()
    again = launch(campaign.spec, tmp_path / "small", store=store)
    assert not again.created
    assert campaign.fw_ids() == fireworks
    other = campaign.spec.model_copy(update={"samples": 11})
    with pytest.raises(LaunchRefusedError, match="already has a campaign 'small' with another spec"):
        launch(other, tmp_path / "elsewhere", store=store)
    assert not (tmp_path / "elsewhere").exists()
    assert campaign.fw_ids() == fireworks


def test_a_budget_of_hours_stops_the_campaign_between_rounds(small):
    campaign = small(budget={"verifications": 1, "hours": 1e-6}, samples=6, control=0)
    campaign.run()
    document = ledger.campaign_document(campaign.database, "small")
    assert document["state"] == "stopped"
    assert "core-hours" in document["why"]
    assert ledger.get_round(campaign.database, "small", 2) is None
