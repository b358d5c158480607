"""Pilots in jobs of a real SLURM."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from workflows.records import Pilot
from workflows.runtime.cluster import PilotKind
from workflows.runtime.order import Order
from workflows.runtime.scheduler.base import JobRequest
from workflows.runtime.scheduler.slurm import SlurmScheduler

if TYPE_CHECKING:
    from slurm_fixtures import LocalSlurm

    from workflows.runtime.store import Store

SUPPORT = Path(__file__).parents[2] / "support"
ROOT = Path(__file__).parents[3]
PATIENCE_S = 120.0

pytestmark = pytest.mark.xdist_group("slurm")


class Site:
    """A campaign's directory, and pilots submitted from there."""

    def __init__(self, store: Store, directory: Path, slurm: LocalSlurm) -> None:
        self.store = store
        self.slurm = slurm
        self.directory = directory / "campaign"
        self.notes = directory / "notes"
        self.notes.write_text("")
        store.write_configs(self.directory)

    def add(self, job: Any, tag: str, **resources: Any) -> None:
        from workflows.runtime.firetask import to_workflow

        block = {"campaign": "c", "round": 1, "stage": "relax", "candidate": f"c-r01-{tag}", "engine": "espresso"}
        job.name = tag
        job.update_metadata({"nucleate": block})
        job.config.manager_config = {"_category": "cpu", "resources": resources}
        self.store.launchpad.add_wf(to_workflow(job))

    def submit(self, name: str, **kind: Any) -> str:
        options = {"categories": ("cpu",), "cores": 2, "memory_gb": 1.5, "minutes": 20, "idle_s": 2, "drain_s": 10}
        chosen = PilotKind(**{**options, **kind})
        Order(pilot=name, cluster="alps", campaign="c", kind=chosen).write(self.directory)
        record = Pilot(pilot=name, campaign="c", cluster="alps", kind="dft")
        self.store.database.pilots.insert_one(record.model_dump())
        command = ("-m", "workflows.runtime.pilot", "--directory", str(self.directory), "--pilot", name)
        own = {key: value for key, value in os.environ.items() if key.startswith(("NUCLEATE_", "XDG_", "SLURM_CONF"))}
        request = JobRequest(
            name=name,
            command=(sys.executable, *command),
            directory=self.directory,
            output=self.directory / f"{name}.out",
            cores=chosen.cores,
            memory_gb=chosen.memory_gb,
            minutes=chosen.minutes,
            warn_s=chosen.drain_s,
            environment={**own, "PYTHONPATH": f"{SUPPORT}{os.pathsep}{ROOT}"},
        )
        return SlurmScheduler(self.slurm.conf).submit(request)

    def record(self, name: str) -> Pilot:
        return Pilot.model_validate(self.store.database.pilots.find_one({"pilot": name}, {"_id": 0}))

    def ended(self, name: str) -> Pilot:
        deadline = time.monotonic() + PATIENCE_S
        while (record := self.record(name)).state != "ended":
            assert time.monotonic() < deadline, (self.directory / f"{name}.out").read_text()
            time.sleep(0.2)
        return record

    def attempts(self) -> list[tuple[str, int | None]]:
        found = self.store.attempts.find().sort("launch_id", 1)
        return [(attempt["state"], (attempt["cause"] or {}).get("code")) for attempt in found]

    def spawned(self, times: int = 1) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while self.notes.read_text().count("spawned") < times:
            assert time.monotonic() < deadline
            time.sleep(0.1)


@pytest.fixture
def site(store: Store, tmp_path: Path, slurm: LocalSlurm, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SUPPORT))
    store.ensure_indexes()
    return Site(store, tmp_path, slurm)


def test_two_nodes_share_the_work(site: Site):
    import sample_jobs as jobs

    for i in range(8):
        site.add(jobs.leaf(i, str(site.notes), 2.0), f"t{i}")
    ids = [site.submit(f"p{i}") for i in range(2)]
    records = [site.ended(f"p{i}") for i in range(2)]
    assert [record.job_id for record in records] == ids
    assert all(record.reason == "drained" for record in records)
    assert sum(record.tasks for record in records) == 8
    assert all(record.tasks for record in records)
    attempts = list(site.store.attempts.find())
    assert {attempt["scheduler_job"] for attempt in attempts} == set(ids)
    assert {(attempt["cluster"], attempt["pilot"]) for attempt in attempts} == {("alps", "p0"), ("alps", "p1")}
    for job in ids:
        site.slurm.wait_for_state(job, "COMPLETED")


def test_scancel_gives_back_what_runs(site: Site):
    import sample_jobs as jobs

    site.add(jobs.spawn_and_wait(str(site.notes), 300, session=True), "slow")
    job = site.submit("p")
    site.spawned()
    site.slurm.run("scancel", job)
    record = site.ended("p")
    assert record.reason == "stopped"
    assert site.attempts() == [("lost", 105)]
    assert site.store.database.fireworks.find_one()["state"] == "READY"


def test_a_job_gives_back_what_runs_before_its_walltime_ends_whatever_it_is_warned_of(site: Site):
    """SLURM warns up to a minute early: in a job of one minute, nearly at once."""
    import sample_jobs as jobs

    site.add(jobs.spawn_and_wait(str(site.notes), 300, session=True), "slow", minutes=0.1)
    begun = time.monotonic()
    job = site.submit("p", minutes=1)
    record = site.ended("p")
    assert record.reason == "out_of_time"
    assert time.monotonic() - begun > 45.0, "the time was used"
    assert site.attempts() == [("lost", 101)]
    assert site.store.database.fireworks.find_one()["state"] == "READY"
    assert site.slurm.wait_for_state(job, {"COMPLETED", "TIMEOUT"}) == "COMPLETED", "it ended by itself"
    assert "a warning" in (site.directory / "p.out").read_text()


@pytest.mark.parametrize("child", [True, False], ids=["its code", "its worker"])
def test_a_task_that_takes_more_memory_than_there_is_says_so_while_the_job_goes_on(site: Site, child: bool):
    if not site.slurm.kills_by_memory:
        pytest.skip("no memory cgroups here")
    import sample_jobs as jobs

    site.add(jobs.eat(str(site.notes), 3000, child), "greedy")
    site.submit("p", cores=1, idle_s=5)
    record = site.ended("p")
    assert site.attempts() == [("failed", 102)], (site.directory / "p.out").read_text()
    assert site.store.database.fireworks.find_one()["state"] == "FIZZLED"
    assert record.reason in {"drained", "idle"}
