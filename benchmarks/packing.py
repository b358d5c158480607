"""How much of what the scheduler allocates does tasks: pilots against one batch job a task, on a local SLURM.

Tasks sleep, each for a time drawn from a log-normal distribution, on the cores that they are bound to. Allocated are
cores x elapsed time of all batch jobs, as sacct has them: the start of Python, claims, records and the last tasks' tail
are all in it. With one batch job a task a sample of them runs, in the same cluster, by reservation mode.

    python -m benchmarks.packing --tasks 500 --median 4

What has been measured is kept in ``.cache/packing`` and not measured again.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.faults.scene import Conditions, Scene
from benchmarks.faults.sleepers import put_up_sleepers
from benchmarks.faults.slurm import ROOT, Slurm

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACE = ROOT / ".cache" / "packing"
CORES = 4
"""Of the cluster: two nodes of two."""


def durations(tasks: int, median: float, sigma: float, seed: int) -> list[float]:
    """Draw how long tasks take, s."""
    chance = random.Random(seed)
    return [round(median * chance.lognormvariate(0.0, sigma), 3) for _ in range(tasks)]


def measure(slurm: Slurm, lengths: Sequence[float], *, reserve: bool) -> dict[str, Any]:
    """Run tasks and ask accounting what they took.

    Parameters
    ----------
    slurm : Slurm
    lengths : sequence of float
        s.
    reserve : bool
        One batch job a task, instead of pilots.
    """
    # nobody waits in a queue here, so an idle job ends after about what it takes to start another
    pilot: dict[str, Any] = {"idle_s": 5, "memory_gb": 0.9 if reserve else 1.8, "cores": 1 if reserve else 2}
    pilot["max_jobs"] = 20 if reserve else 2
    conditions = Conditions(minutes=60, pilot=pilot)
    before = {allocation.job_id for allocation in slurm.allocations()}
    scene = Scene(
        Path(tempfile.mkdtemp(prefix="nucleate-packing-")),
        slurm,
        conditions,
        random.Random(0),
        lambda s: put_up_sleepers(s.campaign, lengths),
    )
    try:
        with scene.up():
            begun = time.monotonic()
            scene.submit(*(["--reserve"] if reserve else []))
            while scene.is_busy():
                if not scene.submit_lives():
                    raise RuntimeError((scene.directory / "submit.log").read_text()[-2000:])
                time.sleep(2.0)
            makespan = time.monotonic() - begun
            # the batch jobs end by themselves
            while slurm.active() and time.monotonic() - begun < makespan + 60:
                time.sleep(0.5)
            time.sleep(2.0)  # accounting lags
            jobs = [a for a in slurm.allocations() if a.job_id not in before and a.elapsed_s > 0]
            database = scene.truth.database
            done = database.fireworks.count_documents({"state": "COMPLETED"})
            spent = [a["seconds"] for a in database.attempts.find({"state": "completed"}, {"seconds": 1})]
    finally:
        shutil.rmtree(scene.directory, ignore_errors=True)
    allocated = sum(a.cores * a.elapsed_s for a in jobs)
    return {
        "tasks": len(lengths),
        "completed": done,
        "batch_jobs": len(jobs),
        "asleep_s": round(sum(lengths), 1),
        "median_s": round(statistics.median(lengths), 2),
        "in_tasks_s": round(sum(spent), 1),
        "allocated_core_s": allocated,
        "share": round(sum(lengths) / allocated, 4),
        "share_with_records": round(sum(spent) / allocated, 4),
        "makespan_s": round(makespan, 1),
        "least_makespan_s": round(sum(lengths) / CORES, 1),
    }


def main() -> int:
    """Measure what is not measured yet, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--single", type=int, default=60, help="tasks of those that get a batch job each")
    parser.add_argument("--median", type=float, default=4.0, help="s")
    parser.add_argument("--sigma", type=float, default=0.8, help="of the logarithm")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    lengths = durations(options.tasks, options.median, options.sigma, options.seed)
    name = f"{options.median:g}-{options.sigma:g}-{options.seed}"
    wanted = {
        f"pilots-{options.tasks}-{name}": (lengths, False),
        f"single-{options.single}-{name}": (lengths[: options.single], True),
    }
    PLACE.mkdir(parents=True, exist_ok=True)
    found = {}
    slurm: Slurm | None = None
    try:
        for key, (chosen, reserve) in wanted.items():
            file = PLACE / f"{key}.json"
            if not file.exists():
                if slurm is None:
                    slurm = Slurm(Path(tempfile.mkdtemp(prefix="nucleate-slurm-")))
                    slurm.start()
                file.write_text(json.dumps(measure(slurm, chosen, reserve=reserve), indent=1))
            found[key] = json.loads(file.read_text())
            print(key, json.dumps(found[key]), flush=True)
    finally:
        if slurm is not None:
            slurm.stop()
            shutil.rmtree(slurm.directory, ignore_errors=True)
    pilots, single = found.values()
    per_task = [one["allocated_core_s"] / one["asleep_s"] for one in (pilots, single)]
    spread = [one["makespan_s"] / one["least_makespan_s"] for one in (pilots, single)]
    print(
        f"share of allocated core-time doing tasks: pilots {pilots['share']:.1%}, one job a task {single['share']:.1%}"
    )
    print(f"allocated core-time for the same work: one job a task takes {per_task[1] / per_task[0]:.2f} times as much")
    print(f"makespan over the least possible: {spread[0]:.2f} against {spread[1]:.2f}")
    return 0 if pilots["share"] >= 0.95 and pilots["completed"] == pilots["tasks"] else 1


if __name__ == "__main__":
    sys.exit(main())
