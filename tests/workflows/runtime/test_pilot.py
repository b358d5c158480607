"""Pilots as they run in batch jobs: real processes, a real database, fast stand-ins for tasks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fireworks import Firework, Workflow

from workflows.records import Pilot
from workflows.runtime.cluster import PilotKind
from workflows.runtime.identity import ProcessName
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
