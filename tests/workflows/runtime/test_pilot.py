"""Pilots as they run in batch jobs: real processes, a real database, fast stand-ins for tasks."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from fireworks import Firework, Workflow

from workflows.records import Pilot
from workflows.runtime.cluster import PilotKind
from workflows.runtime.embedded import status
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CLAIMED_BY
from workflows.runtime.order import Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflows.runtime.store import Store

SUPPORT = Path(__file__).parents[2] / "support"
PATIENCE_S = 90.0
CORES = sorted(os.sched_getaffinity(0))[:2]
ON_TWO_CORES = (
    f"import os, sys; os.sched_setaffinity(0, {CORES}); "
    "os.execv(sys.executable, [sys.executable, '-m', 'workflows.runtime.pilot', *sys.argv[1:]])"
)

pytestmark = pytest.mark.skipif(len(CORES) < 2, reason="two cores are shared out")


class Site:
    """A campaign's directory and the pilots that work in it."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store = store
        self.directory = directory / "campaign"
        self.notes = directory / "notes"
        self.notes.write_text("")
        store.write_configs(self.directory)
        self.started: list[subprocess.Popen[bytes]] = []

    def add(self, tag: str, seconds: float = 0.0, *, stage: str = "relax", category: str = "cpu", **spec: Any) -> int:
        import sample_jobs as jobs

        block = {"campaign": "c", "round": 1, "stage": stage, "candidate": f"c-r01-{tag}", "engine": "mlip"}
        spec = {"nucleate": block, "_category": category, **spec}
        firework = Firework([jobs.Occupy(tag=tag, notes=str(self.notes), seconds=seconds)], name=tag, spec=spec)
        return next(iter(self.store.launchpad.add_wf(Workflow([firework])).values()))

    def add_job(self, job: Any, tag: str, **resources: Any) -> int:
        from workflows.runtime.firetask import to_workflow

        block = {"campaign": "c", "round": 1, "stage": "relax", "candidate": f"c-r01-{tag}", "engine": "espresso"}
        job.name = tag
        job.update_metadata({"nucleate": block})
        job.config.manager_config = {"_category": "cpu", "resources": resources}
        return next(iter(self.store.launchpad.add_wf(to_workflow(job)).values()))

    def start(
        self, name: str = "p", fw_id: int | None = None, patience_s: float = 60.0, **kind: Any
    ) -> subprocess.Popen:
        options = {"categories": ("cpu",), "cores": 2, "memory_gb": 4.0, "minutes": 30, "idle_s": 5, "drain_s": 20}
        order = Order(
            pilot=name,
            cluster="alps",
            campaign="c",
            kind=PilotKind(**{**options, **kind}),
            fw_id=fw_id,
            patience_s=patience_s,
        )
        order.write(self.directory)
        record = Pilot(pilot=name, campaign="c", cluster="alps", kind="dft")
        self.store.database.pilots.insert_one(record.model_dump())
        command = [sys.executable, "-c", ON_TWO_CORES, "--directory", str(self.directory), "--pilot", name]
        with (self.directory / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.started.append(process)
        return process

    def ended(self, process: subprocess.Popen, name: str = "p") -> Pilot:
        code = process.wait(PATIENCE_S)
        assert code == 0, (self.directory / f"{name}.log").read_text()
        return self.record(name)

    def record(self, name: str = "p") -> Pilot:
        return Pilot.model_validate(self.store.database.pilots.find_one({"pilot": name}, {"_id": 0}))

    def noted(self) -> dict[str, dict[str, Any]]:
        return {line["tag"]: line for line in map(json.loads, self.notes.read_text().splitlines())}

    def states(self) -> dict[str, str]:
        return {fw["name"]: fw["state"] for fw in self.store.database.fireworks.find({}, {"name": 1, "state": 1})}


@pytest.fixture
def site(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SUPPORT))
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    store.ensure_indexes()
    made = Site(store, tmp_path)
    yield made
    for process in made.started:
        process.kill()
        process.wait()


def eventually(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one["begun"] < other["ended"] and other["begun"] < one["ended"]


def test_tasks_run_side_by_side_each_on_its_own_core(site: Site):
    for i in range(4):
        site.add(f"t{i}", 1.0)
    record = site.ended(site.start())
    assert (record.state, record.reason, record.tasks, record.beat) == ("ended", "drained", 4, 1)
    noted = list(site.noted().values())
    assert len(noted) == 4
    assert all(len(task["cores"]) == 1 and task["OMP_NUM_THREADS"] == "1" for task in noted)
    together = [(a, b) for a in noted for b in noted if a["tag"] < b["tag"] and overlap(a, b)]
    assert together, "two run at a time"
    assert all(a["cores"] != b["cores"] for a, b in together)
    assert {core for task in noted for core in task["cores"]} == set(CORES)
    process = ProcessName.parse(record.process)
    assert process is not None
    assert process.is_dead()
    assert all(attempt["pilot"] == "p" for attempt in site.store.attempts.find())


def test_tasks_that_have_ended_are_counted_while_the_pilot_runs(site: Site):
    site.add("first", _priority=9)
    site.add("second", 60.0)
    pilot = site.start(cores=1, idle_s=60)
    eventually(lambda: site.states()["first"] == "COMPLETED")
    begun = time.monotonic()
    eventually(lambda: site.record().tasks == 1)
    assert time.monotonic() - begun < 10, "sooner than with a beat"
    assert (pilot.poll(), site.record().state) == (None, "running")


def test_mixed_tasks_never_take_more_than_there_is(site: Site):
    sizes = [(1, 1.0), (2, 1.0), (1, 3.5), (1, 0.5), (2, 3.9), (1, 2.0), (1, 1.0), (1, 3.0)]
    for i, (cores, memory_gb) in enumerate(sizes):
        site.add(f"t{i}", 0.4, resources={"cores": cores, "memory_gb": memory_gb})
    assert site.ended(site.start()).tasks == len(sizes)
    noted = site.noted()
    for tag, task in noted.items():
        cores, memory_gb = sizes[int(tag[1:])]
        assert len(task["cores"]) == cores
        assert task["OMP_NUM_THREADS"] == str(cores)
        beside = [other for other in noted.values() if other is not task and overlap(task, other)]
        assert not any(set(other["cores"]) & set(task["cores"]) for other in beside)
        assert all(memory_gb + sizes[int(other["tag"][1:])][1] <= 4.0 for other in beside)


def test_a_large_task_is_not_kept_out_for_ever_by_small_ones(site: Site):
    for i in range(16):
        site.add(f"small{i:02d}", 0.5 + 0.2 * (i % 3), _priority=1)
    site.add("large", 0.1, resources={"cores": 2})
    assert site.ended(site.start(patience_s=1.0)).tasks == 17
    noted = site.noted()
    later = [tag for tag, task in noted.items() if task["begun"] > noted["large"]["begun"]]
    assert len(later) >= 4, "small ones were left when it began"
    assert len(noted["large"]["cores"]) == 2


def test_what_can_not_end_in_time_is_not_begun_unless_it_goes_on_elsewhere(site: Site):
    site.add("long", resources={"minutes": 29.9})
    site.add("usual")
    site.add("goes on", resources={"minutes": 600, "resumable": True})
    record = site.ended(site.start(drain_s=60, idle_s=2))
    assert (record.reason, record.tasks) == ("idle", 2), "what fits no pilot of this kind is no reason for another"
    assert site.states() == {"long": "READY", "usual": "COMPLETED", "goes on": "COMPLETED"}
    left_s = float(site.noted()["usual"]["NUCLEATE_DEADLINE"]) - time.time()
    assert 29 * 60 < left_s < 30 * 60 - 15, "tasks stop before the job ends"


def test_what_is_kept_for_another_is_no_reason_to_stay(site: Site):
    held = site.add("runs elsewhere")
    running = {"state": "RESERVED", CLAIMED_BY: str(ProcessName.own())}
    site.store.database.fireworks.update_one({"fw_id": held}, {"$set": running})
    site.add("kept", _fworker="another")
    record = site.ended(site.start(idle_s=2))
    assert (record.reason, record.tasks) == ("idle", 0)
    assert site.states() == {"runs elsewhere": "RESERVED", "kept": "READY"}

    site.add("anybody's")
    record = site.ended(site.start("q", fw_id=held, idle_s=2), "q")
    assert (record.reason, record.tasks) == ("idle", 0), "work for others is no reason for a reserved one to stay"


def test_a_pilot_ends_when_too_little_time_is_left_for_what_is_there(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NUCLEATE_DEADLINE", str(time.time() + 300))
    site.add("usual")
    record = site.ended(site.start(idle_s=2))
    assert (record.reason, record.tasks) == ("out_of_time", 0)
    assert site.states() == {"usual": "READY"}


def is_gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def spawned(site: Site) -> int:
    eventually(lambda: "spawned" in site.notes.read_text())
    return int(site.notes.read_text().split()[1])


def slow(site: Site, **resources: Any) -> int:
    """Add a task whose process leads a session of its own, as those of DFT codes do."""
    import sample_jobs as jobs

    return site.add_job(jobs.spawn_and_wait(str(site.notes), 600, session=True), "slow", **resources)


def attempts(site: Site) -> list[tuple[str, int | None]]:
    found = site.store.attempts.find().sort("launch_id", 1)
    return [(attempt["state"], (attempt["cause"] or {}).get("code")) for attempt in found]


def test_what_still_runs_at_the_very_end_is_given_back(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NUCLEATE_DEADLINE", str(time.time() + 25))
    slow(site, minutes=0.01)
    process = site.start(drain_s=10)
    child = spawned(site)
    record = site.ended(process)
    assert (record.state, record.reason, record.tasks) == ("ended", "out_of_time", 0)
    assert attempts(site) == [("lost", 101)]
    assert site.states() == {"slow": "READY"}
    assert is_gone(child)


def test_a_cancelled_pilot_gives_back_what_runs_at_once(site: Site):
    slow(site)
    process = site.start()
    child = spawned(site)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    record = site.ended(process)
    assert time.monotonic() - begun < 10.0
    assert (record.state, record.reason) == ("ended", "stopped")
    assert attempts(site) == [("lost", 105)]
    assert site.states() == {"slow": "READY"}
    assert is_gone(child)


def test_a_warned_pilot_begins_nothing_more(site: Site):
    for i in range(4):
        site.add(f"t{i}", 2.0)
    process = site.start()
    eventually(lambda: len(site.store.database.launches.distinct("fw_id")) >= 2)
    process.send_signal(signal.SIGUSR1)
    record = site.ended(process)
    assert (record.reason, record.tasks) == ("stopped", 2)
    assert sorted(site.states().values()) == ["COMPLETED", "COMPLETED", "READY", "READY"]


def test_a_node_on_which_everything_fails_is_not_let_burn_the_rest(site: Site):
    import sample_jobs as jobs

    for i in range(16):
        site.add_job(jobs.miss_a_module(str(site.notes)), f"t{i}")
    record = site.ended(site.start())
    assert (record.reason, record.cause.code) == ("bad_state", 204)
    assert "no module of that name on this node" in record.cause.evidence
    failed = list(site.store.attempts.find())
    assert 3 <= len(failed) <= 10, "some more may begin before the third has been looked at"
    assert all(attempt["set_aside"] for attempt in failed)
    assert list(site.states().values()).count("READY") == 16 - len(failed)


def test_failures_that_are_the_tasks_own_stop_nobody(site: Site):
    import sample_jobs as jobs

    for i in range(5):
        site.store.launchpad.add_wf(
            Workflow([jobs.act(f"t{i}", str(site.notes), spec={"_category": "cpu", "nucleate": BLOCK}, fail=True)])
        )
    record = site.ended(site.start())
    assert (record.reason, record.tasks, record.cause) == ("drained", 5, None)


BLOCK = {"campaign": "c", "round": 1, "stage": "relax", "candidate": "c-r01-0001", "engine": "mlip"}


def test_reservation_runs_one_firework_whatever_it_is_and_ends(site: Site):
    other = site.add("other")
    wanted = site.add("wanted", category="gpu", resources={"cores": 64, "memory_gb": 999})
    assert other < wanted
    record = site.ended(site.start(fw_id=wanted))
    assert (record.reason, record.tasks) == ("drained", 1)
    assert site.states() == {"other": "READY", "wanted": "COMPLETED"}
    assert site.noted()["wanted"]["cores"] == CORES


def test_every_gpu_task_sees_one_gpu_and_the_others_none(site: Site, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-7")
    for i in range(4):
        site.add(f"gpu{i}", 0.5, category="gpu", resources={"memory_gb": 0.1})
    for i in range(2):
        site.add(f"light{i}", 0.2, category="light", resources={"memory_gb": 0.1})
    site.add("cpu", category="cpu")
    record = site.ended(site.start(categories=("gpu", "light"), gpus=2, idle_s=2))
    assert record.tasks == 6
    noted = site.noted()
    assert {noted[f"gpu{i}"]["CUDA_VISIBLE_DEVICES"] for i in range(4)} == {"3", "GPU-7"}
    assert {noted[f"light{i}"]["CUDA_VISIBLE_DEVICES"] for i in range(2)} == {""}
    together = [(i, j) for i in range(4) for j in range(i) if overlap(noted[f"gpu{i}"], noted[f"gpu{j}"])]
    assert all(noted[f"gpu{i}"]["cores"] != noted[f"gpu{j}"]["cores"] for i, j in together)


def test_small_tasks_fill_a_job_that_was_laid_out_for_large_ones(site: Site):
    for i in range(4):
        site.add(f"t{i}", 2.5, resources={"cores": 1})
    record = site.ended(site.start(task={"cores": 2}))
    assert record.tasks == 4
    noted = list(site.noted().values())
    assert any(overlap(a, b) for a in noted for b in noted if a["tag"] < b["tag"])


def test_a_killed_worker_takes_what_it_started_with_it_and_its_cores_come_back(site: Site):
    fw_id = slow(site, cores=2)
    process = site.start()
    child = spawned(site)
    launch = site.store.database.launches.find_one({"fw_id": fw_id})
    os.kill(ProcessName.parse(launch["fworker"]["name"]).pid, signal.SIGKILL)
    eventually(lambda: is_gone(child))
    eventually(lambda: site.notes.read_text().count("spawned") == 2)  # both cores are free again
    assert attempts(site) == [("lost", 106), ("running", None)]
    process.send_signal(signal.SIGTERM)
    site.ended(process)


def test_goes_on_when_the_server_is_killed(site: Site, embedded_data_dir: Path):
    for i in range(6):
        site.add(f"t{i}", 0.5)
    process = site.start()
    eventually(site.noted)
    os.kill(status(embedded_data_dir).server, signal.SIGKILL)
    record = site.ended(process)
    assert record.reason == "drained"
    assert set(site.states().values()) == {"COMPLETED"}
    assert set(site.noted()) == {f"t{i}" for i in range(6)}
