"""A pilot on a real SLURM, through a relay, submitted under a umask that hides nothing: what others can see of it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import yaml
from fireworks import Firework, Workflow
from modes import open_to_others
from slurm_fixtures import wait_until

from benchmarks.faults.proxy import free_port
from workflows.runtime.store import open_store

SUPPORT = Path(__file__).parents[1] / "support"
CLI = [sys.executable, "-m", "workflows.cli"]


@pytest.mark.xdist_group("slurm")
def test_a_pilot_through_a_relay_leaves_nothing_for_others_to_read(slurm, uri_profile, daemon, tmp_path):
    from sample_jobs import Occupy

    campaign = tmp_path / "campaign"
    campaign.mkdir(mode=0o700)
    (campaign / "campaign.yaml").write_text("name: c\n")
    (campaign / "campaign.yaml").chmod(0o600)
    notes = tmp_path / "notes"
    notes.write_text("")
    port = free_port()
    kind = {"categories": ["cpu"], "cores": 1, "memory_gb": 0.5, "minutes": 5, "drain_s": 10, "idle_s": 2}
    kind["task"] = {"cores": 1, "memory_gb": 0.2, "minutes": 1.0}
    cluster = {"environment": {"PYTHONPATH": str(SUPPORT)}, "pilots": {"cpu": kind}}
    cluster["database"] = {"relay": f"127.0.0.1:{port}"}
    (tmp_path / "clusters.yaml").write_text(yaml.safe_dump({"clusters": {"local": cluster}}))

    with (tmp_path / "relay.log").open("wb") as log:
        relay = subprocess.Popen(
            [*CLI, "relay", "--store", uri_profile, "--listen", f"127.0.0.1:{port}"], stdout=log, stderr=log
        )
    try:
        with open_store(uri_profile) as store:
            store.write_configs(campaign)
            store.campaigns.insert_one({"name": "c", "state": "running", "directory": str(campaign), "spec": {}})
            block = {"campaign": "c", "round": 1, "stage": "relax", "candidate": "c-r01-0001", "engine": "mlip"}
            task = Occupy(tag="a", notes=str(notes), seconds=30.0)
            store.launchpad.add_wf(Workflow([Firework([task], spec={"nucleate": block, "_category": "cpu"})]))
            submit = [
                *CLI,
                "submit",
                "--cluster",
                "local",
                "--clusters",
                str(tmp_path / "clusters.yaml"),
                "-C",
                campaign,
            ]
            done = subprocess.run(submit, umask=0o000, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            (pilot,) = store.database.pilots.find()

            def running() -> list[psutil.Process]:
                found = psutil.process_iter(["cmdline"])
                return [p for p in found if {"workflows.runtime.pilot", pilot["pilot"]} <= set(p.info["cmdline"] or [])]

            def jobs_words() -> str:
                return "\n".join(path.read_text(errors="replace") for path in campaign.rglob("*.out")) + "\n"

            wait_until(lambda: "a" in notes.read_text() and running(), f"the task to run: {jobs_words()}", 90)
            (process,) = running()
            # the process list, and what the job was given by its submitter
            lines = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
            assert not [line for line in lines if daemon.password in line]
            assert daemon.password not in str(process.environ())
            # it came through the relay, and nothing of it listens
            connections = process.net_connections()
            for child in process.children(recursive=True):
                with suppress(psutil.NoSuchProcess):  # the pilot asks what is over in a moment
                    connections += child.net_connections()
            remote = {c.raddr.port for c in connections if c.raddr}
            assert port in remote
            assert daemon.port not in remote
            assert not [c for c in connections if c.status == psutil.CONN_LISTEN]
            # the job's script, as anybody may ask the scheduler for it
            script = slurm.run("scontrol", "write", "batch_script", pilot["job_id"], "-")
            assert "workflows.runtime.pilot" in script
            assert daemon.password not in script

            wait_until(lambda: store.database.fireworks.find_one()["state"] == "COMPLETED", "the task's end", 90)
            wait_until(lambda: not running(), "the pilot's end", 90)
            documents = [str(d) for name in store.database.list_collection_names() for d in store.database[name].find()]
            assert not [document for document in documents if daemon.password in document]
    finally:
        relay.terminate()
        relay.wait(30)
    assert open_to_others(campaign) == {}
    files = [path for path in campaign.rglob("*") if path.is_file() and daemon.password.encode() in path.read_bytes()]
    assert sorted(files) == [campaign / "jobflow.yaml", campaign / "my_launchpad.yaml"]  # the job's own are gone
    assert os.environ["CLUSTER_PASSWORD"] == daemon.password  # the submitter had it all the time
