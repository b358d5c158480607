"""A campaign with the real pw.x on a real SLURM: pilots on two nodes, in allocations that are too short on purpose."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from workflows import ledger
from workflows.campaign import launch
from workflows.runtime.store import open_store
from workflows.spec import CampaignSpec

NUCLEATE = Path(sys.executable).with_name("nucleate")

ASKED = {
    "engine": "espresso",
    "chemistry": {"systems": ["Al-P"], "max_atoms": 2},
    "targets": {"energy_above_hull": {"max": 5, "unit": "eV/atom"}, "phonons": "any"},
    "generator": "ion_exchange",
    "store": "cluster",
    "rounds": 1,
    "samples": 12,
    "control": 0,
    "batch": 12,
    "seed": 3,
}

TRIES = ((2, 2), (1, 3))
"""Minutes of a pilot for DFT, and verifications. What is left of two minutes after the start and before the drain is
too little for a busy machine to relax, but enough for a step. A fast one may get through: it gets half, and all three
crystals of two atoms that are novel."""


@pytest.fixture
def clusters(slurm, uri_profile, tmp_path, monkeypatch):
    """Give what writes a cluster file: one kind of pilot for what surrounds DFT, and a short one for DFT."""
    around = {"categories": ["gpu", "light"], "memory_gb": 2.5, "minutes": 8, "max_jobs": 1, "drain_s": 10}
    around["task"] = {"memory_gb": 2.4, "minutes": 1.0}
    dft = {"categories": ["cpu"], "memory_gb": 1.7, "max_jobs": 2, "drain_s": 14, "idle_s": 2}
    dft["task"] = {"memory_gb": 1.6, "minutes": 0.25}
    environment = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1"}
    environment |= {name: os.environ[name] for name in ("NUCLEATE_CONFIG", "NUCLEATE_DATA_DIR")}
    path = tmp_path / "clusters.yaml"
    monkeypatch.setenv("NUCLEATE_CLUSTERS", str(path))

    def write(minutes):
        pilots = {"around": around, "dft": dft | {"minutes": minutes}}
        cluster = {"slurm_conf": str(slurm.conf), "environment": environment, "pilots": pilots}
        path.write_text(yaml.safe_dump({"clusters": {"local": cluster}}))

    return write


def played(name, verifications, uri_profile, store, tmp_path):
    """Launch and submit a campaign, and wait for its end; gives the attempts that were lost."""
    directory = tmp_path / name
    asked = {**ASKED, "name": name, "store": uri_profile, "budget": {"verifications": verifications}}
    assert launch(CampaignSpec.model_validate(asked), directory, store=store).missing_reference == ()
    command = [NUCLEATE, "submit", "--cluster", "local", "--watch", "--every", "3", "-C", directory]
    with (tmp_path / f"{name}.log").open("wb") as log:
        submit = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        code = submit.wait(timeout=1200)
    finally:
        submit.kill()
    assert code == 0, (tmp_path / f"{name}.log").read_text()
    return list(store.database.attempts.find({"campaign": name, "state": "lost"}))


@pytest.mark.xdist_group("slurm")
@pytest.mark.usefixtures("pw_x")
def test_allocations_too_short_cost_launches_and_no_verdict(slurm, clusters, uri_profile, family, tmp_path):
    with open_store(uri_profile) as store:
        for minutes, verifications in TRIES:
            clusters(minutes)
            name = f"slurm{minutes}"
            lost = played(name, verifications, uri_profile, store, tmp_path)
            if lost:
                break
        database, mine = store.database, {"campaign": name}
        assert ledger.campaign_document(database, name)["state"] == "finished"
        verdicts = ledger.read_verdicts(database, name)
        selected = database.candidates.count_documents({**mine, "select.selected": True})
        assert len(verdicts) == selected == verifications
        assert all(v.verified and v.reference_set.key == v.provenance["reference_key"] for v in verdicts)
        assert {v.provenance["relaxation"]["pseudopotentials"]["family"] for v in verdicts} == {family.name}

        # relaxations were cut by the end of their allocations, and went on in others
        assert {(a["stage"], a["cause"]["code"]) for a in lost} == {("relax", 101)}
        done = list(database.attempts.find({**mine, "state": "completed"}))
        assert len({a["fw_id"] for a in done}) == len(done)
        assert {a["fw_id"] for a in lost} <= {a["fw_id"] for a in done}
        assert set(database.fireworks.distinct("state")) == {"COMPLETED"}
        pilots = list(database.pilots.find(mine))
        assert {a["pilot"] for a in [*lost, *done]} <= {p["pilot"] for p in pilots}
        nodes = set(slurm.run("sacct", "-X", "-n", "-P", "-S", "now-1hour", "-o", "NodeList").split())
        assert set(slurm.nodes) <= nodes
        short = [p for p in pilots if p["kind"] == "dft"]
        assert len(short) > 1
        assert {p["minutes"] for p in short} == {minutes}
