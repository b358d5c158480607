"""One campaign on two real clusters, one of which keeps no accounts."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fireworks import Firework, Workflow
from slurm_fixtures import wait_until

from workflows.records import Pilot
from workflows.runtime.accounting import core_hours
from workflows.runtime.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    from slurm_fixtures import LocalSlurm

SUPPORT = Path(__file__).parents[2] / "support"
TASKS = 8


def cluster(slurm: LocalSlurm) -> dict[str, Any]:
    kind = {
        "categories": ["cpu"],
        "cores": 1,
        "memory_gb": 0.5,
        "minutes": 5,
        "drain_s": 10,
        "idle_s": 2,
        "max_jobs": 1,
    }
    kind["task"] = {"cores": 1, "memory_gb": 0.2, "minutes": 1.0}
    return {"slurm_conf": str(slurm.conf), "environment": {"PYTHONPATH": str(SUPPORT)}, "pilots": {"cpu": kind}}


@pytest.mark.xdist_group("slurm")
def test_two_clusters_share_the_work_of_one_launchpad(
    slurm: LocalSlurm, plain_slurm: LocalSlurm, uri_profile: str, nucleate: Callable[..., Any], tmp_path: Path
):
    import sample_jobs as jobs

    directory, file, notes = tmp_path / "campaign", tmp_path / "clusters.yaml", tmp_path / "notes"
    directory.mkdir()
    notes.touch()
    (directory / "campaign.yaml").write_text("name: c\n")
    file.write_text(json.dumps({"clusters": {"alps": cluster(slurm), "plain": cluster(plain_slurm)}}))
    with open_store(uri_profile) as store:
        store.ensure_indexes()
        store.write_configs(directory)
        store.campaigns.insert_one({"name": "c", "state": "running", "directory": str(directory), "spec": {}})
        for index in range(TASKS):
            block = {"campaign": "c", "round": 1, "stage": "relax", "candidate": f"c-r01-{index}", "engine": "mlip"}
            task = jobs.Occupy(tag=str(index), notes=str(notes), seconds=2.0)
            store.launchpad.add_wf(Workflow([Firework([task], spec={"nucleate": block, "_category": "cpu"})]))

        def submit() -> None:
            for name in ("alps", "plain"):
                ran = nucleate("submit", "--cluster", name, "--clusters", file, "-C", directory)
                assert ran.code == 0, ran.err

        def over() -> bool:
            return store.database.fireworks.count_documents({"state": {"$ne": "COMPLETED"}}) == 0

        def settled() -> bool:
            submit()
            return not store.database.pilots.count_documents({"$or": [{"state": {"$ne": "ended"}}, {"settled": False}]})

        submit()
        told = json.loads(nucleate("reconcile", "--clusters", file, "-C", directory, "--json").out)
        assert {one["name"]: one["accounting"] for one in told["clusters"]} == {"alps": True, "plain": False}
        wait_until(over, "the work to be done", 120.0)
        wait_until(settled, "the pilots' ends to be known", 60.0)
        pilots = [Pilot.model_validate(one) for one in store.database.pilots.find({}, {"_id": 0})]
        tasks = Counter({pilot.cluster: pilot.tasks for pilot in pilots})
        assert len(pilots) == 2
        assert min(tasks["alps"], tasks["plain"]) > 0
        assert tasks.total() == TASKS
        assert sorted(json.loads(line)["tag"] for line in notes.read_text().splitlines()) == list("01234567")
        spent = core_hours(store.database, "c")
        assert 0 < spent["alps"] < 0.1
        assert 0 < spent["plain"] < 0.1, "without accounts, what the pilot itself says"
