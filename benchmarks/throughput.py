"""No-op tasks a second: our worker against FireWorks' ``rlaunch rapidfire``, on one store, taking turns.

Both sides get the same fireworks (one ``PyTask`` that calls ``math.fabs``), told apart by their campaign, and worker
processes of their own: ours run ``JobRunner``, theirs ``rapidfire``, which is what the command calls. Each turn a side
runs a share of its fireworks. A turn is cut after ``--seconds`` and the rest of its share is deleted, for it would take
hours otherwise: every turn begins with as many waiting on both sides, down to the last share.

    python benchmarks/throughput.py                     # 1,000 and 10,000 fireworks, about ten minutes
    python benchmarks/throughput.py --jobs 200          # short
    python benchmarks/throughput.py --workers 2         # two processes a side
    python benchmarks/throughput.py --layout one        # all fireworks of a side in one workflow

With ``--out FILE`` what was measured is kept there, turn by turn, and a second run goes on after the last whole size.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fireworks import Firework, FWorker, PyTask, Workflow
from fireworks.core.rocket_launcher import rapidfire

from workflows.campaign import ensure_campaign_indexes
from workflows.runtime import embedded
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.store import Store, open_store
from workflows.runtime.worker_process import JobRunner

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

SIDES = ("ours", "rapidfire")
WARM_UP = 3
"""Fireworks that each process runs before anything is measured."""

Turn = dict[str, Any]


def add(store: Store, side: str, jobs: int, layout: str) -> None:
    """Add no-op fireworks of a side."""
    block = {"campaign": side, "round": 1, "stage": "relax", "candidate": f"{side}-r01-0001", "engine": "mlip"}
    fireworks = [
        Firework(PyTask(func="math.fabs", args=[1.0]), spec={"nucleate": block}, name="no-op") for _ in range(jobs)
    ]
    if layout == "one":
        store.launchpad.add_wf(Workflow(fireworks))
    else:
        store.launchpad.bulk_add_wfs([Workflow([firework]) for firework in fireworks])


def serve(side: str, directory: Path, orders: Connection) -> None:
    """Be a worker of a side: run as many fireworks as ordered, for no longer than ordered, and say how many."""
    logging.disable(logging.INFO)
    directory.mkdir(parents=True, exist_ok=True)
    with open_store("embedded") as store:
        runner = JobRunner(
            CampaignLaunchPad.signed(store.launchpad, str(ProcessName.own())), directory, campaign="ours"
        )
        fworker = FWorker(str(ProcessName.own()), query={"spec.nucleate.campaign": "rapidfire"})
        while order := orders.recv():
            limit, seconds = order
            if side == "ours":
                orders.send(run_ours(runner, limit, seconds))
                continue
            mine = {"state": "COMPLETED", "fworker.name": fworker.name}
            before = store.launchpad.launches.count_documents(mine)
            rapidfire(
                store.launchpad,
                fworker,
                str(directory),
                nlaunches=limit,
                timeout=seconds,
                sleep_time=1,
                strm_lvl="ERROR",
            )
            orders.send(store.launchpad.launches.count_documents(mine) - before)


def run_ours(runner: JobRunner, limit: int, seconds: float) -> int:
    """Run fireworks as a worker does, until enough were run or the time is up."""
    ran, until = 0, time.monotonic() + seconds
    while ran < limit and time.monotonic() < until and runner.run_all(1):
        ran += 1
    return ran


class Side:
    """The worker processes of a side."""

    def __init__(self, name: str, workers: int, place: Path) -> None:
        self.name = name
        context = multiprocessing.get_context("spawn")
        self.ends: list[Connection] = []
        self.processes = []
        for number in range(workers):
            end, other = context.Pipe()
            process = context.Process(target=serve, args=(name, place / f"{name}{number}", other), daemon=True)
            process.start()
            other.close()  # so that it is told here when the process dies
            self.ends.append(end)
            self.processes.append(process)

    def run(self, jobs: int, seconds: float) -> Turn:
        """Run a share of the fireworks; gives how many were run, in how many seconds."""
        begin = time.perf_counter()
        for number, end in enumerate(self.ends):
            end.send((jobs // len(self.ends) + (number < jobs % len(self.ends)), seconds))
        ran = sum(end.recv() for end in self.ends)
        return {"side": self.name, "ran": ran, "seconds": time.perf_counter() - begin}

    def stop(self) -> None:
        """Let the processes end; one that is in the middle of a turn for longer is ended."""
        for end in self.ends:
            with contextlib.suppress(OSError):  # it died before
                end.send(None)
        for process in self.processes:
            process.join(10)
            process.terminate()
            process.join()


def leave(store: Store, side: str, waiting: int) -> None:
    """Delete READY fireworks of a side until so many are left."""
    ready = {"spec.nucleate.campaign": side, "state": "READY"}
    ids = sorted(fw["fw_id"] for fw in store.launchpad.fireworks.find(ready, {"fw_id": 1}))
    if doomed := ids[: len(ids) - waiting]:
        store.launchpad.fireworks.delete_many({**ready, "fw_id": {"$lte": doomed[-1]}})


def measure(jobs: int, options: argparse.Namespace) -> list[Turn]:
    """Measure one number of fireworks."""
    turns: list[Turn] = []
    with contextlib.ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nucleate-throughput-")))
        os.environ["NUCLEATE_DATA_DIR"] = str(place / "database")
        stack.callback(embedded.stop, place / "database")
        store = stack.enter_context(open_store("embedded"))
        ensure_campaign_indexes(store)
        sides = []
        for side in SIDES:
            sides.append(Side(side, options.workers, place))
            stack.callback(sides[-1].stop)
        for side in SIDES:
            add(store, side, jobs + WARM_UP * options.workers, options.layout)
        for side in sides:
            side.run(WARM_UP * options.workers, 600)
        for number in range(options.turns):
            left = jobs - jobs * (number + 1) // options.turns
            share = jobs - jobs * number // options.turns - left
            for side in sides if number % 2 == 0 else reversed(sides):
                turns.append({**side.run(share, options.seconds), "waiting": left + share})
                leave(store, side.name, left)
                print(f"  {turns[-1]['waiting']:6d} wait: {describe(turns[-1:])}", flush=True)
    return turns


def rate(turns: list[Turn], side: str) -> float:
    """Give tasks/s of a side: the mean over its turns of the s a task, each turn counting alike, inverted."""
    return 1 / statistics.mean(turn["seconds"] / max(1, turn["ran"]) for turn in turns if turn["side"] == side)


def describe(turns: list[Turn]) -> str:
    """Say what was measured of each side."""
    sides = [side for side in SIDES if any(turn["side"] == side for turn in turns)]
    parts = []
    for side in sides:
        ran = sum(turn["ran"] for turn in turns if turn["side"] == side)
        per_s = rate(turns, side)
        parts.append(f"{side} {per_s:.1f} tasks/s ({1000 / per_s:.0f} ms a task; {ran} measured)")
    if len(sides) == len(SIDES):
        parts.append(f"{rate(turns, 'ours') / rate(turns, 'rapidfire'):.1f} times")
    return ", ".join(parts)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1000, 10000], help="fireworks a side")
    parser.add_argument("--workers", type=int, default=1, help="processes a side")
    parser.add_argument("--turns", type=int, default=4, help="of each side, for each number of fireworks")
    parser.add_argument("--seconds", type=float, default=30.0, help="after which a turn is cut")
    parser.add_argument("--layout", choices=["small", "one"], default="small", help="workflows of one firework, or one")
    parser.add_argument("--out", type=Path, help="JSON file to keep what was measured in, and to go on from")
    options = parser.parse_args()
    logging.disable(logging.INFO)
    kept: dict[str, list[Turn]] = json.loads(options.out.read_text()) if options.out and options.out.exists() else {}
    measured = []
    for jobs in options.jobs:
        key = f"{jobs} {options.layout} {options.workers} {options.turns} {options.seconds:g}"
        if key not in kept:
            print(f"{jobs} fireworks a side, layout {options.layout}, {options.workers} process(es) a side", flush=True)
            kept[key] = measure(jobs, options)
            if options.out:
                options.out.write_text(json.dumps(kept, indent=1))
        measured.append((jobs, kept[key]))
    for jobs, turns in measured:
        print(f"{jobs} fireworks: {describe(turns)}")
    (few, first), (many, last) = measured[0], measured[-1]
    if few != many:
        for side in SIDES:
            print(f"{side}: a task of {many} costs {rate(first, side) / rate(last, side):.2f} times one of {few}")


if __name__ == "__main__":
    main()
