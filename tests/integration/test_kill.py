"""Kill -9 at random moments, of the supervisor alone or of everything, and start again: nothing twice, nothing lost."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from workflows.monitor.reconcile import reconcile
from workflows.runtime.firetask import to_workflow

if TYPE_CHECKING:
    import pytest

    from workflows.runtime.store import Store

SUPPORT = Path(__file__).parents[1] / "support"
WORK = """
import json, sys
from pathlib import Path
from workflows.runtime.worker import work
result = work(Path(sys.argv[1]), processes=2, campaign="c", repair_grace_s=1.0)
print(json.dumps({"reason": result.reason, "failed": result.failed}), flush=True)
"""


def add_flow(store: Store, notes: Path, name: str) -> None:
    """Add a job that replaces itself by four leaves and their sum, and one that waits for them."""
    import sample_jobs as jobs
    from jobflow import Flow

    first = jobs.plan(4, str(notes), 0.15)
    after = jobs.collect([first.output], str(notes))
    after.name = "after"
    flow = Flow([first, after], name=name)
    block = {"campaign": "c", "round": 1, "stage": "relax", "candidate": f"c-r01-{name}", "engine": "mlip"}
    flow.update_metadata({"nucleate": block}, dynamic=True)
    store.launchpad.add_wf(to_workflow(flow))


def ended(store: Store) -> Counter[Any]:
    """Give the end as (candidate, job, state, parents, output); each firework in one workflow, no false state."""
    db = store.database
    fireworks = {fw["fw_id"]: fw for fw in db.fireworks.find()}
    linked: Counter[int] = Counter()
    seen: Counter[Any] = Counter()
    for workflow in db.workflows.find():
        assert "locked" not in workflow
        linked.update(workflow["nodes"])
        for fw_id in workflow["nodes"]:
            fw = fireworks[fw_id]
            assert workflow["fw_states"][str(fw_id)] == fw["state"]
            parents = sorted(fireworks[p]["name"] for p in workflow["parent_links"].get(str(fw_id), []))
            job = fw["spec"]["_tasks"][0]["job"]
            found = store.jobstore.query_one({"uuid": job["uuid"], "index": job["index"]}, ["output"])
            output = found["output"] if isinstance(found["output"], int) else None
            candidate = fw["spec"]["nucleate"]["candidate"]
            seen[candidate, fw["name"].split()[-1], fw["state"], tuple(parents), output] += 1
    assert linked == Counter(fireworks.keys())
    assert db.launches.find_one({"state": {"$in": ["RUNNING", "RESERVED"]}}) is None
    assert db.attempts.find_one({"state": {"$nin": ["completed", "lost"]}}) is None
    return seen


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a supervisor and its workers at once, as a power cut does."""
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    for worker in workers:
        try:
            os.kill(worker.pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait()


def test_killed_again_and_again_the_work_ends_as_if_nothing_had_happened(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(str(SUPPORT))
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    directory, notes = tmp_path / "campaign", tmp_path / "notes"
    store.write_configs(directory)

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", WORK, str(directory)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def finish() -> None:
        with start() as process:
            result = json.loads(process.stdout.read().split("\n")[-2])
        assert result == {"reason": "drained", "failed": 0}

    def begin() -> None:
        notes.write_text("")
        for i in range(2):
            add_flow(store, notes, f"{i:04d}")

    def noted() -> int:
        return len(notes.read_text().split("\n"))

    begin()
    finish()
    undisturbed = ended(store)
    assert (
        sum(undisturbed.values()) == 2 * 8
    )  # plan, four leaves, their sum, the job that carries the output, and after
    for name in ("fireworks", "workflows", "launches", "attempts", "outputs"):
        store.database[name].delete_many({})

    begin()
    chance = random.Random(7)
    for n in range(3):
        process, before = start(), noted()
        while noted() < before + 2:
            assert process.poll() is None
            time.sleep(0.02)
        time.sleep(chance.uniform(0.0, 0.8))
        if n == 1:
            process.kill()  # its workers notice, end their jobs and go
            process.wait()
        else:
            kill_all(process)
        process.stdout.close()
    finish()
    assert reconcile(store, grace_s=0.2).repairs == []
    assert ended(store) == undisturbed
