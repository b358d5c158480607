"""What reconcile tells: repairs with their causes, what is unknown and why, and what can be known of each cluster."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from fake_scheduler import Told
from fireworks import Workflow

from workflows.monitor.reconcile import reconcile
from workflows.records import Pilot
from workflows.runtime.identity import BatchJob, ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.worker_process import JobRunner

if TYPE_CHECKING:
    from pathlib import Path

    from workflows.monitor.reconcile import Report
    from workflows.runtime.store import Store


class Yard:
    """Jobs of two clusters that each run a firework."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store = store
        self.directory = directory
        self.alps, self.rhine = Told(), Told(accounting=False)

    def job(self, cluster: str, job_id: str) -> int:
        import sample_jobs as jobs

        launchpad = CampaignLaunchPad.signed(
            self.store.launchpad, str(ProcessName("n7", 9, 1790000000, BatchJob(cluster, job_id)))
        )
        block = {"campaign": "oxides", "round": 1, "stage": "relax", "candidate": "x", "engine": "mlip"}
        firework = jobs.act("a", str(self.directory / "notes"), spec={"nucleate": block})
        launchpad.add_wf(Workflow([firework]))
        launchpad.claim({"fw_id": firework.fw_id})
        launchpad.checkout_fw(JobRunner(launchpad, self.directory).fworker, str(self.directory), firework.fw_id)
        pilot = Pilot(
            pilot=f"name-{job_id}",
            campaign="oxides",
            cluster=cluster,
            kind="cpu",
            job_id=job_id,
            state="running",
            reason="drained",
        )
        self.store.database.pilots.insert_one(pilot.model_dump())
        return firework.fw_id

    def reconcile(self, **more: Any) -> Report:
        schedulers = {"alps": self.alps, "rhine": self.rhine}
        return reconcile(self.store, "oxides", grace_s=0.1, **{"schedulers": schedulers, **more})


@pytest.fixture
def yard(store: Store, tmp_path: Path) -> Yard:
    return Yard(store, tmp_path)


def test_the_report(yard: Yard):
    over, away, foreign = yard.job("alps", "81"), yard.job("rhine", "5"), yard.job("danube", "7")
    yard.alps.say("81", "ended", "TIMEOUT", cause=101, evidence="TIMEOUT on n7")
    yard.rhine.is_away = True
    dry = yard.reconcile(dry_run=True)
    assert dry.lines()[-1] == "2 would be mended (1 walltime); 3 unknown"
    found = yard.reconcile()
    lines = found.lines()
    assert lines[0] == "cluster alps: by its queue and its accounts"
    assert lines[1].startswith("cluster rhine does not answer, so nothing there is called dead")
    assert lines[2].startswith(f"lost       fw {over}: launch ")
    assert "walltime: job 81 of alps: TIMEOUT on n7; it runs again" in lines[2]
    assert lines[3] == "pilot      name-81: ended, TIMEOUT (walltime)"
    unknown = "\n".join(lines[4:-1])
    assert "job 5 of rhine: its scheduler does not answer" in unknown
    assert "job 7 of danube: it is in no cluster of this machine's cluster file" in unknown
    assert lines[-1] == "2 mended (1 walltime); 3 unknown"
    told = json.loads(json.dumps(found.as_dict(), default=str))
    assert told["causes"] == {"walltime": 1}
    assert [(cluster["name"], bool(cluster["away"])) for cluster in told["clusters"]] == [
        ("alps", False),
        ("rhine", True),
    ]
    states = {fw["fw_id"]: fw["state"] for fw in yard.store.database.fireworks.find()}
    assert states == {over: "READY", away: "RUNNING", foreign: "RUNNING"}


def test_a_cluster_without_accounts_says_so(yard: Yard):
    fw_id = yard.job("rhine", "5")
    yard.rhine.say("5", "ended", "OUT_OF_MEMORY", cause=102, evidence="OUT_OF_MEMORY on n7", source="squeue")
    found = yard.reconcile()
    assert "rhine keeps no accounts" in found.lines()[0]
    assert [(r.kind, r.fw_id, r.code) for r in found.repairs] == [("failed", fw_id, 102)]


def test_without_a_cluster_file_other_hosts_are_left_alone(yard: Yard):
    yard.job("alps", "81")
    found = yard.reconcile(schedulers=None)
    assert (found.repairs, found.clusters) == ([], [])
    assert found.lines()[-1] == "nothing to mend; 2 unknown"
