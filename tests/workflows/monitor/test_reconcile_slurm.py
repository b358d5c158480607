"""Reconcile against a real SLURM: whoever is dead is known dead, and of what; whoever lives is never called dead.

Everything runs on one host here, where pids tell most. So each job holds two fireworks, of two campaigns: one is
reconciled as on this host, the other as by somebody on a login node, who has nothing but the scheduler's word and the
beat. All times that hosts have written are five minutes off, in both directions: nothing may depend on them.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fireworks import Workflow
from slurm_fixtures import wait_until

from workflows.records import Attempt, Pilot, now
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.reconciling import Reconciler
from workflows.runtime.scheduler.slurm import SlurmScheduler
from workflows.runtime.worker_process import JobRunner

if TYPE_CHECKING:
    from slurm_fixtures import LocalSlurm

    from workflows.runtime.repair import Repair
    from workflows.runtime.store import Store

pytestmark = pytest.mark.xdist_group("slurm")

HERE, LOGIN = "here", "login"
HOLDER = Path(__file__).parents[2] / "support" / "holder.py"
SKEW = timedelta(minutes=5)
PASS_S = 1.0


class Site:
    """Jobs on the local cluster that hold fireworks, and two reconcilers."""

    def __init__(self, store: Store, slurm: LocalSlurm, directory: Path) -> None:
        self.database = store.database
        self.store = store
        self.slurm = slurm
        self.directory = directory
        self.skew = SKEW
        own = str(ProcessName.own())
        self.launchpad = CampaignLaunchPad.signed(store.launchpad, own)
        self.reconcilers = {}
        for view in (HERE, LOGIN):
            launchpad = CampaignLaunchPad.signed(store.launchpad, own)
            scheduler = SlurmScheduler(slurm.conf, timeout_s=10.0)
            self.reconcilers[view] = Reconciler(launchpad, {"local": scheduler}, campaign=view)
        self.reconcilers[LOGIN].repairer.liveness.host = "login1"
        self.held: dict[str, dict[str, int]] = {}

    def job(self, name: str, *options: str) -> str:
        """Submit a job of one core whose process holds a firework of each campaign once it runs; gives its id."""
        record = Pilot(pilot=name, campaign=HERE, cluster="local", kind="cpu", submitted_at=now() + self.skew)
        self.database.pilots.insert_one(record.model_dump())
        command = f"exec {sys.executable} {HOLDER} {name}"
        job_id = self.slurm.sbatch(command, f"--job-name={name}", "--ntasks=1", "--mem=300", *options)
        self.database.pilots.update_one({"pilot": name}, {"$set": {"job_id": job_id, "state": "queued"}})
        return job_id

    def process(self, name: str) -> str:
        """Wait until a job's process has said its name."""
        return str(wait_until(lambda: self.pilot(name)["process"], f"{name} to begin", 60.0))

    def pilot(self, name: str) -> dict[str, Any]:
        return self.database.pilots.find_one({"pilot": name}) or {}

    def take(self, name: str) -> None:
        """Let a job's process run a firework of each campaign."""
        import sample_jobs as jobs

        launchpad = CampaignLaunchPad.signed(self.store.launchpad, self.process(name))
        for view in (HERE, LOGIN):
            block = {"campaign": view, "round": 1, "stage": "relax", "candidate": name, "engine": "mlip"}
            firework = jobs.act(name, str(self.directory / "notes"), spec={"nucleate": block})
            self.launchpad.add_wf(Workflow([firework]))
            assert launchpad.claim({"fw_id": firework.fw_id})
            runner = JobRunner(launchpad, self.directory)
            _, launch_id = launchpad.checkout_fw(runner.fworker, str(self.directory), firework.fw_id)
            self.skew = -self.skew
            attempt = Attempt(
                attempt=f"fw{firework.fw_id}-l{launch_id}",
                fw_id=firework.fw_id,
                launch_id=launch_id,
                started_at=now() + self.skew,
                **block,
            )
            self.database.attempts.insert_one(attempt.model_dump())
            skewed = (now() + self.skew).isoformat()
            self.database.launches.update_one(
                {"launch_id": launch_id}, {"$set": {"time_start": skewed, "state_history.0.created_on": skewed}}
            )
            self.database.fireworks.update_one({"fw_id": firework.fw_id}, {"$set": {"updated_on": now() - self.skew}})
            self.held.setdefault(name, {})[view] = firework.fw_id

    def run(self) -> dict[str, list[Repair]]:
        """Make a pass of each reconciler."""
        return {view: reconciler.run().repairs for view, reconciler in self.reconcilers.items()}

    def until_known(self, names: list[str], seconds: float) -> dict[tuple[str, str], tuple[int, str, float]]:
        """Make passes until all that some jobs held is given back; gives cause, evidence and when, by (view, job)."""
        found: dict[tuple[str, str], tuple[int, str, float]] = {}
        by_id = {fw_id: (view, name) for name in names for view, fw_id in self.held[name].items()}
        began = time.monotonic()
        while len(found) < len(by_id):
            assert time.monotonic() - began < seconds, f"known by then: {found}"
            for repairs in self.run().values():
                for repair in repairs:
                    assert repair.fw_id in by_id, f"a living one was called dead: {repair}"
                    found[by_id[repair.fw_id]] = (repair.code or 0, repair.done, time.monotonic() - began)
            time.sleep(PASS_S)
        return found

    def states(self, name: str) -> set[str]:
        ids = list(self.held[name].values())
        return {fw["state"] for fw in self.database.fireworks.find({"fw_id": {"$in": ids}}, {"state": 1})}


@pytest.fixture
def site(store: Store, slurm: LocalSlurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("HOLDER_DATABASE", json.dumps(store.address.launchpad_document(), default=str))
    monkeypatch.setenv("NUCLEATE_CLUSTER", "local")
    monkeypatch.delenv("NUCLEATE_PILOT", raising=False)
    monkeypatch.setattr("workflows.runtime.liveness.STILL_S", 4.0)  # the holder beats every 0.5 s, not every 20
    monkeypatch.setattr("workflows.runtime.liveness.FORGOTTEN_S", 8.0)
    monkeypatch.setattr("workflows.runtime.scheduler.inquiry.FRESH_S", 0.2)
    return Site(store, slurm, tmp_path)


def test_each_end_has_its_cause_and_the_living_live_on(site: Site):
    """Wall-time, scancel, kill -9, memory and a requeue; one job is left alone all the while."""
    memory = site.slurm.kills_by_memory
    jobs = {
        "slow": site.job("slow", "--time=1", "--no-requeue"),
        "cancelled": site.job("cancelled", "--time=10"),
        "killed": site.job("killed", "--time=10"),
        "left-alone": site.job("left-alone", "--time=10"),
    }
    for name in jobs:
        site.take(name)
    assert site.run() == {HERE: [], LOGIN: []}

    os.kill(ProcessName.parse(site.process("killed")).pid, signal.SIGKILL)
    site.slurm.run("scancel", jobs["cancelled"])
    found = site.until_known(["killed", "cancelled"], 60.0)
    for view in (HERE, LOGIN):
        assert found[view, "killed"][0] == 106
        assert found[view, "cancelled"][0] == 105
        assert "CANCELLED by root" in found[view, "cancelled"][1], found[view, "cancelled"][1]

    names = ["put-back", "greedy"] if memory else ["put-back"]
    for name in names:
        jobs[name] = site.job(name, "--time=10", *([] if name == "put-back" else ["--no-requeue"]))
        site.take(name)
    site.slurm.scontrol("requeue", jobs["put-back"])
    site.database.pilots.update_one({"pilot": "greedy"}, {"$set": {"greedy": True}})
    found = site.until_known([*names, "slow"], 150.0)
    for view in (HERE, LOGIN):
        assert found[view, "put-back"][0] == 104
        assert "put back into the queue" in found[view, "put-back"][1]
        assert found[view, "slow"][0] == 101
        if memory:
            assert found[view, "greedy"][0] == 102
    assert site.states("slow") == {"READY"}
    if memory:
        assert site.states("greedy") == {"FIZZLED"}, "it would run out of it again"
    assert site.states("left-alone") == {"RUNNING"}
    records = {name: site.pilot(name) for name in jobs}
    assert {name: records[name]["scheduler_state"] for name in ("slow", "cancelled", "killed")} == {
        "slow": "TIMEOUT",
        "cancelled": "CANCELLED",
        "killed": "FAILED",
    }
    assert records["slow"]["core_seconds"] >= 60
    assert records["slow"]["cause"]["code"] == 101
    assert records["left-alone"]["state"] == "running"
    assert site.run() == {HERE: [], LOGIN: []}


def test_a_controller_that_is_down_makes_nobody_dead_and_hides_nobody_for_good(site: Site):
    living, dying = site.job("living", "--time=10"), site.job("dying", "--time=10", "--no-requeue")
    for name in ("living", "dying"):
        site.take(name)
    site.run()
    site.slurm.stop("slurmctld")  # after a kill -9 it may not know jobs of the last seconds, and has them killed
    os.kill(ProcessName.parse(site.process("dying")).pid, signal.SIGKILL)
    until = time.monotonic() + 15.0
    while time.monotonic() < until:
        assert site.run() == {HERE: [], LOGIN: []}, "not even who is dead, as long as nobody can say of what"
        time.sleep(PASS_S)
    unknown = site.reconcilers[LOGIN].repairer.unknown
    assert set(unknown) == {site.process("living"), site.process("dying")}
    site.slurm.start()
    found = site.until_known(["dying"], 90.0)
    assert {code for code, _, _ in found.values()} == {106}
    assert site.states("living") == {"RUNNING"}
    assert site.slurm.state(living) == "RUNNING"
    assert site.pilot("dying")["job_id"] == dying


def test_a_controller_that_has_lost_its_memory_makes_nobody_dead_who_beats(site: Site):
    site.job("forgotten", "--time=10")
    site.take("forgotten")
    site.run()
    # its node is silent, too, or slurmctld would learn of the job from there and have it killed
    for daemon in ("slurmctld", *(f"slurmd.{node}" for node in site.slurm.nodes)):
        site.slurm.stop(daemon, signal.SIGKILL)
    site.slurm.run("slurmctld", "-c")
    wait_until(lambda: not site.slurm.run("squeue", "--noheader", check=False), "slurmctld", 30.0)
    process = ProcessName.parse(site.process("forgotten"))
    until = time.monotonic() + 15.0
    while time.monotonic() < until:
        assert site.run() == {HERE: [], LOGIN: []}
        time.sleep(PASS_S)
    os.kill(process.pid, signal.SIGKILL)
    found = site.until_known(["forgotten"], 60.0)
    assert site.states("forgotten") == {"READY"}
    assert {code for code, _, _ in found.values()} <= {105, 106}


def test_a_node_that_fails(site: Site):
    """Its processes are gone at once, SLURM notices after SlurmdTimeout; then it is known, and of what."""
    node, other = site.slurm.nodes
    for name, options in {"stays": ("--no-requeue",), "goes": ("--requeue",)}.items():
        site.job(name, "--time=10", f"--nodelist={node}", *options)
    site.job("elsewhere", "--time=10", f"--nodelist={other}")
    for name in ("stays", "goes", "elsewhere"):
        site.take(name)
    site.run()
    site.slurm.kill_node(node)
    began = time.monotonic()
    site.slurm.fail_node(node)
    found = site.until_known(["stays", "goes"], 90.0)
    assert {code for code, _, _ in found.values()} == {103}, found
    assert time.monotonic() - began < 120
    assert site.states("elsewhere") == {"RUNNING"}
