"""A whole campaign through the VASP branch: atomate2's Makers, custodian and pymatgen for real, VASP itself a stand-in.

The stand-in reads the real inputs and takes its numbers from a force field: what is shown here is the way through, and
the recovery, not physics.
"""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from dft_inputs.walltime import DEADLINE
from workflows import ledger
from workflows.engines.vasp import VaspEngine
from workflows.engines.vasp_protocols import PROTOCOLS
from workflows.reference_build import build
from workflows.reference_proposals import Limits
from workflows.reference_store import user_directory

ASKED = {
    "engine": "vasp",
    "protocol": "fast",
    "chemistry": {"systems": ["Mg-O"], "max_atoms": 4},
    "targets": {
        "energy_above_hull": {"max": 5, "unit": "eV/atom"},
        "phonons": "stable",
        "band_gap": {"min": 1, "unit": "eV"},
    },
    "samples": 8,
    "control": 0,
    "rounds": 1,
    "budget": {"verifications": 1},
}


@pytest.fixture
def with_vasp(small, vasp_stand_in, tmp_path, monkeypatch):
    """Launch a campaign on a machine where the stand-in is VASP; its reference set has been computed beforehand."""
    monkeypatch.setenv("NUCLEATE_DATA_DIR", str(tmp_path / "data"))
    # the way through counts here, not the phonons: small supercells
    monkeypatch.setitem(PROTOCOLS, "fast", replace(PROTOCOLS["fast"], phonon_max_atoms=16))
    tiny = Limits(any_atoms=2, neutral_atoms=2, known_atoms=4, first_look=2, per_composition=1, window=0.01)
    reference = build(VaspEngine("fast"), [["Mg", "O"]], user_directory(), limits=tiny)
    assert {e.formula for e in reference.entries(("Mg", "O"))} >= {"Mg", "O2", "MgO"}
    assert reference.key == VaspEngine("fast").reference_key
    return small(**ASKED)


def attempts_of(campaign, stage):
    return [
        (a["state"], (a["cause"] or {}).get("code"))
        for a in campaign.database.attempts.find({"stage": stage, "launch_id": {"$ne": None}}).sort("launch_id", 1)
    ]


def test_a_campaign_with_every_kind_of_trouble(with_vasp, vasp_stand_in, monkeypatch):
    campaign = with_vasp
    assert campaign.launched.missing_reference == ()
    campaign.run_until("select")
    (chosen,) = campaign.selected()

    # the allocation ends in the first relaxation: the launch is given back, and the next one goes on from there
    vasp_stand_in.plan({"fault": "slow", "seconds": 0.3, "min_steps": 60, "relaxation": True})
    monkeypatch.setenv(DEADLINE, str(time.time() + 60 + 6))  # 60 s are kept back for the end
    assert campaign.runner.run_all(1) == 1
    assert attempts_of(campaign, "relax") == [("lost", 101)]
    lost = campaign.database.attempts.find_one({"stage": "relax", "state": "lost"})
    assert lost["last_geometry"] is not None

    # VASP fails in its own words (custodian recovers), then the process is killed mid-write (a cause, and a re-run)
    monkeypatch.delenv(DEADLINE)
    vasp_stand_in.plan({"fault": "edddav", "relaxation": True}, {"fault": "killed", "relaxation": False})
    campaign.run_until("feedback")
    assert vasp_stand_in.left() == 0
    assert attempts_of(campaign, "relax") == [("lost", 101), ("completed", None), ("failed", 106)]
    verdict = campaign.database.verdicts.find_one({"candidate": chosen})
    assert (verdict["verified"], verdict["cause"]["code"], verdict["cause"]["stage"]) == (False, 106, "relax")
    assert ledger.get_round(campaign.database, "small", 1).state == "closed"  # one failure stops no round

    (static,) = [
        fw["fw_id"]
        for fw in campaign.launchpad.fireworks.find({"spec.nucleate.stage": "relax", "state": "FIZZLED"}, {"fw_id": 1})
    ]
    campaign.launchpad.rerun_fw(static)
    campaign.run()
    assert set(campaign.states()) == {"COMPLETED"}
    assert ledger.campaign_document(campaign.database, "small")["state"] == "finished"
    late = campaign.database.verdicts.find_one({"candidate": chosen})
    assert (late["verified"], late["late"]) == (True, True)

    # the verdict: whose energy it is, which hull, what was measured
    key = VaspEngine("fast").reference_key
    assert late["reference_set"]["key"] == late["provenance"]["reference_key"] == key
    assert late["provenance"]["settings"]["corrections"] == "none"
    assert late["properties"]["band_gap"]["unit"] == "eV"
    assert late["phonon"]["judgement"] in {"stable", "unstable", "not_converged"}
    assert late["phonon"]["how"].count("VASP fast, finite displacements") == 1
    gap = [fw["name"] for fw in campaign.launchpad.fireworks.find({"spec.nucleate.stage": "properties"})]
    assert any("band gap" in name for name in gap)

    # nothing of the machine is in the database
    for fw in campaign.launchpad.fireworks.find({}, {"spec": 1}):
        text = str(fw["spec"])
        assert "vasp_std" not in text
        assert str(vasp_stand_in.potcars) not in text
