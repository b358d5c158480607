"""A campaign whose relaxation runs out of its allocation, with the real pw.x and the reference set that ships."""

from __future__ import annotations

import time

from dft_inputs.walltime import DEADLINE, Remaining
from workflows import ledger
from workflows.engines.espresso.engine import EspressoEngine
from workflows.runtime import claims

ASKED = {
    "engine": "espresso",
    "chemistry": {"systems": ["Al-P"], "max_atoms": 2},
    "targets": {"energy_above_hull": {"max": 5, "unit": "eV/atom"}, "band_gap": {"min": 0.1, "unit": "eV"}},
    "generator": "ion_exchange",
    "rounds": 1,
    "samples": 12,
    "control": 0,
    "batch": 12,
    "budget": {"verifications": 1},
}


def attempts_of(campaign, stage):
    found = campaign.database.attempts.find({"stage": stage, "launch_id": {"$ne": None}}).sort("launch_id", 1)
    return [(a["state"], (a["cause"] or {}).get("code")) for a in found]


def test_an_allocation_too_short_costs_a_launch_and_no_verdict(pw_x, family, small, monkeypatch):
    campaign = small(**ASKED)
    assert campaign.launched.missing_reference == (), "the reference set that ships is not of this protocol and family"
    campaign.run_until("select")

    monkeypatch.setattr(claims, "LEAST_TIME_S", 5.0)
    monkeypatch.setattr(campaign.runner.claims, "remaining", Remaining(every_s=0.0))
    monkeypatch.setenv(DEADLINE, str(time.time() + 12))
    assert campaign.runner.run_all(1) == 1
    assert attempts_of(campaign, "relax") == [("lost", 101)]
    assert campaign.launchpad.fireworks.count_documents({"spec.nucleate.stage": "relax", "state": "READY"}) == 1

    monkeypatch.delenv(DEADLINE)
    campaign.run()
    assert attempts_of(campaign, "relax") == [("lost", 101), ("completed", None)]
    assert set(campaign.states()) == {"COMPLETED"}
    assert ledger.campaign_document(campaign.database, "small")["state"] == "finished"

    (verdict,) = ledger.read_verdicts(campaign.database, "small")
    key = EspressoEngine("fast").reference_key
    assert verdict.verified
    assert verdict.reference_set.key == verdict.provenance["reference_key"] == key
    assert verdict.energy_above_hull_ev_per_atom > 0.01  # AlP itself, zinc blende, is known and in the set
    assert verdict.properties["band_gap"].unit == "eV"
    pseudos = verdict.provenance["relaxation"]["pseudopotentials"]
    assert pseudos["family"] == family.name
    assert {e: f["sha256"] for e, f in pseudos["files"].items()} == {e: family.files[e].sha256 for e in ("Al", "P")}
    text = str(list(campaign.launchpad.fireworks.find({}, {"spec": 1})))
    assert "pw.x" not in text
    assert str(family.directory) not in text
