"""What our layer costs per firework above plain jobflow on FireWorks, on the same store, in one run.

Both sides run the same trivial jobs one after the other in one process: plain ``JobFiretask`` through FireWorks'
``launch_rocket``, and ours (guard, attempts, overrides, claims that name their process) through the worker's runner.
The sides take turns, so that a noisy machine hits both.

    python benchmarks/overhead.py --jobs 100
"""

from __future__ import annotations

import argparse
import logging
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import jobflow
from fireworks import FWorker, Workflow
from fireworks.core.rocket_launcher import launch_rocket
from jobflow import Flow
from jobflow.core.job import store_inputs
from jobflow.managers.fireworks import flow_to_workflow

from workflows.campaign import ensure_campaign_indexes
from workflows.runtime.firetask import to_workflow
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.store import Store, open_store
from workflows.runtime.worker_process import JobRunner
from workflows.stages.dress import block_of, dress


def plain_jobs(n: int) -> Workflow:
    """Make n independent jobs as jobflow converts them."""
    workflow = flow_to_workflow(Flow([store_inputs({"value": k}) for k in range(n)]))
    for firework in workflow.fws:
        firework.spec["side"] = "plain"
    return workflow


def our_jobs(n: int) -> Workflow:
    """Make n independent jobs of a campaign."""
    block = block_of("overhead", 1, "relax", "overhead-r01-0001", "mlip")
    return to_workflow(Flow([dress(store_inputs({"value": k}), block, "cpu") for k in range(n)]))


def measure(store: Store, jobs: int, blocks: int, directory: Path) -> dict[str, list[float]]:
    """Time both sides in alternating blocks; return seconds per firework of each block."""
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    runner = JobRunner(
        CampaignLaunchPad.signed(store.launchpad, str(ProcessName.own())), directory / "ours", campaign="overhead"
    )
    plain_worker = FWorker("plain", query={"spec.side": "plain"})
    (directory / "plain").mkdir()
    os.chdir(directory / "plain")  # launch_rocket runs where it stands

    def run_plain() -> None:
        while launch_rocket(store.launchpad, plain_worker, strm_lvl="CRITICAL"):
            pass

    sides: list[tuple[str, Any, Any]] = [("plain", plain_jobs, run_plain), ("ours", our_jobs, runner.run_all)]
    for block in range(blocks):
        for name, make, run in sides if block % 2 == 0 else reversed(sides):
            store.launchpad.add_wf(make(jobs))
            begin = time.perf_counter()
            run()
            seconds[name].append((time.perf_counter() - begin) / jobs)
    return seconds


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=100, help="fireworks a block")
    parser.add_argument("--blocks", type=int, default=4, help="blocks of each side")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory(prefix="nucleate-overhead-") as place:
        os.environ["NUCLEATE_DATA_DIR"] = place
        with open_store("embedded") as store:
            ensure_campaign_indexes(store)
            jobflow.SETTINGS.JOB_STORE = store.jobstore
            seconds = measure(store, options.jobs, options.blocks, Path(place))
        from workflows.runtime import embedded

        embedded.stop(Path(place))
        os.chdir("/")
    plain, ours = (statistics.median(seconds[name]) * 1000 for name in ("plain", "ours"))
    print(f"{options.blocks} blocks of {options.jobs} fireworks a side, medians")
    print(f"plain jobflow on FireWorks: {plain:6.1f} ms a firework")
    print(f"nucleate's layer:           {ours:6.1f} ms a firework")
    print(f"above plain:                {ours - plain:6.1f} ms a firework ({ours / plain:.2f} times)")


if __name__ == "__main__":
    main()
