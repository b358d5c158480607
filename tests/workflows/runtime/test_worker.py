"""The worker as people meet it: real processes, real signals, a real database."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from fireworks import Workflow

from workflows.runtime.embedded import status
from workflows.runtime.identity import ProcessName
from workflows.runtime.worker import work

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflows.runtime.store import Store

SUPPORT = Path(__file__).parents[2] / "support"
PATIENCE_S = 60.0
WORK = """
import dataclasses, json, sys
from pathlib import Path
from workflows.runtime.worker import work
options = json.loads(sys.argv[2])
result = work(Path(sys.argv[1]), progress=lambda event: print(json.dumps(event), flush=True), **options)
print(json.dumps({"event": "result", **dataclasses.asdict(result)}), flush=True)
"""


class Site:
    """A campaign's directory and the processes that work in it."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store = store
        self.directory = directory / "campaign"
        self.notes = directory / "notes"
        self.notes.write_text("")
        store.write_configs(self.directory)
        self.started: list[subprocess.Popen[str]] = []

    def start(self, **options: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", WORK, str(self.directory), json.dumps({"repair_grace_s": 1.0, **options})]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.started.append(process)
        return process

    @staticmethod
    def until(process: subprocess.Popen[str], event: str) -> dict[str, Any]:
        """Read what a worker reports until an event comes."""
        for line in process.stdout:
            found = json.loads(line)
            if found["event"] == event:
                return found
        raise AssertionError(f"ended without {event}")

    def result(self, process: subprocess.Popen[str]) -> dict[str, Any]:
        found = self.until(process, "result")
        assert process.wait(PATIENCE_S) == 0
        return found

    def add(self, *fireworks: Any) -> None:
        self.store.launchpad.add_wf(Workflow(list(fireworks)))

    def states(self) -> dict[str, int]:
        return Counter(fw["state"] for fw in self.store.database.fireworks.find({}, {"state": 1}))

    def noted(self) -> Counter[str]:
        return Counter(self.notes.read_text().split("\n")[:-1])


@pytest.fixture
def site(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SUPPORT))
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    made = Site(store, tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()
        process.stdout.close()


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def campaign_job(site: Site, name: str, campaign: str = "c", seconds: float = 0.0, **spec: Any):
    import sample_jobs as jobs

    block = {"campaign": campaign, "round": 1, "stage": "relax", "candidate": f"{campaign}-r01-0001", "engine": "mlip"}
    return jobs.act(name, str(site.notes), seconds=seconds, spec={"nucleate": block, **spec})


def slow_job(site: Site, seconds: float) -> None:
    """Add a jobflow job of a campaign that starts a process of its own and waits for it."""
    import sample_jobs as jobs

    from workflows.runtime.firetask import to_workflow

    job = jobs.spawn_and_wait(str(site.notes), seconds)
    block = {"campaign": "c", "round": 1, "stage": "relax", "candidate": "c-r01-0001", "engine": "espresso"}
    job.update_metadata({"nucleate": block})
    site.store.launchpad.add_wf(to_workflow(job))


def spawned(site: Site) -> int:
    """Wait until the slow job has begun; gives the pid of what it started."""
    eventually(lambda: "spawned" in site.notes.read_text())
    return int(site.notes.read_text().split()[1])


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_takes_every_job_once_and_signs_it(site: Site):
    site.add(*(campaign_job(site, f"j{i}") for i in range(8)))
    site.add(campaign_job(site, "other", campaign="another"))
    events: list[dict[str, Any]] = []
    result = work(site.directory, processes=2, campaign="c", progress=events.append)
    assert (result.reason, result.completed, result.failed, result.repairs) == ("drained", 8, 0, [])
    assert site.noted() == {f"j{i} []": 1 for i in range(8)}
    launches = list(site.store.database.launches.find())
    workers = {event["worker"] for event in events if event["event"] == "hello"}
    assert len(workers) == 2
    assert {launch["fworker"]["name"] for launch in launches} <= workers
    for launch in launches:
        named = Path(launch["launch_dir"]).relative_to(site.directory / "launches")
        assert named.parts[:3] == ("c", "r01", "c-r01-0001")
        assert named.name.startswith(f"relax-fw{launch['fw_id']}-")
    assert site.states() == {"COMPLETED": 8, "READY": 1}
    assert (site.directory / "logs" / "worker-2.log").exists()
    assert all(ProcessName.parse(worker).is_dead() for worker in workers), "nobody is left behind"


def test_takes_only_its_categories(site: Site):
    site.add(campaign_job(site, "gpu", _category="gpu"), campaign_job(site, "cpu", _category="cpu"))
    result = work(site.directory, categories=["cpu"])
    assert (result.reason, result.completed) == ("drained", 1)
    assert site.noted() == {"cpu []": 1}


def test_a_failing_job_stops_nobody(site: Site):
    import sample_jobs as jobs

    site.add(jobs.act("bad", str(site.notes), fail=True), jobs.act("good", str(site.notes)))
    result = work(site.directory)
    assert (result.reason, result.completed, result.failed) == ("drained", 1, 1)


def test_sigterm_gives_the_job_back_after_the_grace(site: Site):
    slow_job(site, 600)
    process = site.start(grace_s=0.5)
    child = spawned(site)
    process.send_signal(signal.SIGTERM)
    result = site.result(process)
    assert (result["reason"], result["given_back"]) == ("aborted", 1)
    assert site.states() == {"READY": 1}
    attempt = site.store.attempts.find_one()
    assert (attempt["state"], attempt["cause"]["code"]) == ("lost", 105)
    eventually(lambda: is_gone(child))


def test_ctrl_c_lets_the_job_end_and_a_second_one_does_not(site: Site):
    site.add(campaign_job(site, "first", seconds=1.5, _priority=1), campaign_job(site, "second", seconds=600))
    process = site.start()
    site.until(process, "begin")
    process.send_signal(signal.SIGINT)
    assert site.until(process, "stopping")["jobs"] == ["first"]
    result = site.result(process)
    assert (result["reason"], result["completed"], result["given_back"]) == ("stopped", 1, 0)
    assert site.states() == {"COMPLETED": 1, "READY": 1}

    process = site.start()
    site.until(process, "begin")
    eventually(lambda: "second []" in site.noted())
    process.send_signal(signal.SIGINT)
    site.until(process, "stopping")
    process.send_signal(signal.SIGINT)
    result = site.result(process)
    assert (result["reason"], result["given_back"]) == ("aborted", 1)
    assert site.states() == {"COMPLETED": 1, "READY": 1}


def test_a_killed_worker_is_replaced_and_its_job_runs_again(site: Site):
    slow_job(site, 1.5)
    process = site.start()
    hello = site.until(process, "hello")
    spawned(site)
    os.kill(ProcessName.parse(hello["worker"]).pid, signal.SIGKILL)
    site.until(process, "died")
    assert site.until(process, "repaired")["kind"] == "lost"
    result = site.result(process)
    assert (result["reason"], result["completed"]) == ("drained", 1)
    assert sorted((a["state"], a["cause"] and a["cause"]["code"]) for a in site.store.attempts.find()) == [
        ("completed", None),
        ("lost", 106),
    ]


def test_workers_whose_supervisor_was_killed_end(site: Site):
    site.add(campaign_job(site, "first", seconds=1.5, _priority=1), campaign_job(site, "second"))
    process = site.start()
    hello = site.until(process, "hello")
    eventually(lambda: "first []" in site.noted())
    process.kill()
    eventually(ProcessName.parse(hello["worker"]).is_dead)
    assert site.states() == {"COMPLETED": 1, "READY": 1}, "the current job ended, no other began"
    assert work(site.directory).completed == 1


def test_goes_on_when_the_server_is_killed(site: Site, embedded_data_dir: Path):
    site.add(*(campaign_job(site, f"j{i}", seconds=0.3) for i in range(6)))
    process = site.start(processes=2)
    eventually(lambda: bool(site.noted()))
    server = status(embedded_data_dir)
    os.kill(server.server, signal.SIGKILL)
    result = site.result(process)
    assert (result["reason"], result["failed"]) == ("drained", 0)
    assert site.states() == {"COMPLETED": 6}
    assert set(site.noted()) == {f"j{i} []" for i in range(6)}


def test_a_worker_that_cannot_start_is_not_started_for_ever(site: Site, monkeypatch: pytest.MonkeyPatch):
    site.add(campaign_job(site, "never"))
    monkeypatch.setenv("PYTHONPATH", str(site.directory / "broken"))
    (site.directory / "broken").mkdir()
    (site.directory / "broken" / "fireworks.py").write_text("raise ImportError('broken installation')")
    result = work(site.directory)
    assert (result.reason, result.completed) == ("workers_die", 0)
    assert "broken installation" in (site.directory / "logs" / "worker-1.log").read_text()
    assert site.states() == {"READY": 1}


def test_nothing_is_begun_in_the_last_seconds_of_an_allocation(site, monkeypatch):
    site.add(campaign_job(site, "late"))
    monkeypatch.setenv("NUCLEATE_DEADLINE", str(time.time() + 30))
    assert site.result(site.start())["reason"] == "out_of_time"
    assert (site.states(), site.noted()) == ({"READY": 1}, {})
    monkeypatch.setenv("NUCLEATE_DEADLINE", str(time.time() + 3600))
    assert site.result(site.start())["reason"] == "drained"
    assert site.states() == {"COMPLETED": 1}
