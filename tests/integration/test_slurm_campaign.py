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
    "name": "slurm",
    "engine": "espresso",
    "chemistry": {"systems": ["Al-P"], "max_atoms": 2},
    "targets": {"energy_above_hull": {"max": 5, "unit": "eV/atom"}, "phonons": "any"},
    "generator": "ion_exchange",
    "store": "cluster",
    "rounds": 1,
    "samples": 12,
    "control": 0,
    "batch": 12,
    "budget": {"verifications": 2},
    "seed": 3,
}

MINUTES = 2
"""Wall-time of a pilot for DFT: what is left of it after the start and before the drain is too little to relax, but
enough for one step on a busy machine."""


@pytest.fixture
def clusters(slurm, uri_profile, tmp_path, monkeypatch):
    """Write a cluster file: one kind of pilot for what surrounds DFT, and a short one for DFT."""
    around = {"categories": ["gpu", "light"], "memory_gb": 2.5, "minutes": 8, "max_jobs": 1, "drain_s": 10}
    around["task"] = {"memory_gb": 2.4, "minutes": 1.0}
    dft = {"categories": ["cpu"], "memory_gb": 1.7, "minutes": MINUTES, "max_jobs": 2, "drain_s": 14, "idle_s": 2}
    dft["task"] = {"memory_gb": 1.6, "minutes": 0.25}
    environment = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1", "OMP_NUM_THREADS": "1"}
    environment |= {name: os.environ[name] for name in ("NUCLEATE_CONFIG", "NUCLEATE_DATA_DIR")}
    cluster = {"slurm_conf": str(slurm.conf), "environment": environment, "pilots": {"around": around, "dft": dft}}
    path = tmp_path / "clusters.yaml"
    path.write_text(yaml.safe_dump({"clusters": {"local": cluster}}))
    monkeypatch.setenv("NUCLEATE_CLUSTERS", str(path))
    return path


@pytest.mark.xdist_group("slurm")
@pytest.mark.usefixtures("pw_x", "clusters")
def test_allocations_too_short_cost_launches_and_no_verdict(slurm, uri_profile, family, tmp_path):
    directory = tmp_path / "campaign"
    spec = CampaignSpec.model_validate({**ASKED, "store": uri_profile})
    with open_store(uri_profile) as store:
        assert launch(spec, directory, store=store).missing_reference == ()
        command = [NUCLEATE, "submit", "--cluster", "local", "--watch", "--every", "3", "-C", directory]
        with (tmp_path / "submit.log").open("wb") as log:
            submit = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            code = submit.wait(timeout=1200)
        finally:
            submit.kill()
        said = (tmp_path / "submit.log").read_text()
        assert code == 0, said
        database = store.database
        assert ledger.campaign_document(database, "slurm")["state"] == "finished"
        verdicts = ledger.read_verdicts(database, "slurm")
        assert len(verdicts) == database.candidates.count_documents({"select.selected": True}) == 2
        assert all(v.verified and v.reference_set.key == v.provenance["reference_key"] for v in verdicts)
        assert {v.provenance["relaxation"]["pseudopotentials"]["family"] for v in verdicts} == {family.name}

        # relaxations were cut by the end of their allocations, and went on in others
        lost = list(database.attempts.find({"state": "lost"}))
        assert {(a["stage"], a["cause"]["code"]) for a in lost} == {("relax", 101)}
        done = list(database.attempts.find({"state": "completed"}))
        assert len({a["fw_id"] for a in done}) == len(done)
        assert set(database.fireworks.distinct("state")) == {"COMPLETED"}
        pilots = list(database.pilots.find({}))
        assert {a["pilot"] for a in [*lost, *done]} <= {p["pilot"] for p in pilots}
        nodes = set(slurm.run("sacct", "-X", "-n", "-P", "-S", "now-1hour", "-o", "NodeList").split())
        assert set(slurm.nodes) <= nodes
        short = [p for p in pilots if p["kind"] == "dft"]
        assert len(short) > 2
        assert {p["minutes"] for p in short} == {MINUTES}
