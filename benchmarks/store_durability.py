"""What the embedded store loses or doubles under load: concurrent add_wf, a race for jobs, and kill -9 of the server.

    python benchmarks/store_durability.py --jobs 1000 --processes 8 --adds 100 --kills 10

Every job makes a directory of its own and fails if it is there already, so a job that ran twice fizzles. Exit code 1 if
anything was lost, doubled or left in a false state.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from fireworks import Firework, FWorker, Workflow
from fireworks.core.rocket_launcher import launch_rocket
from fireworks.user_objects.firetasks.script_task import PyTask

from workflows.runtime import embedded
from workflows.runtime.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.queues import Queue
    from multiprocessing.sharedctypes import Synchronized

    Progress = Synchronized[int]

Numbers = dict[str, list[int]]


def add(adds: int, progress: Progress, queue: Queue[Numbers]) -> None:
    """Add workflows of two fireworks, draw a counter after each, and tell which ids were acknowledged."""
    acknowledged: Numbers = {"fireworks": [], "counters": []}
    with open_store("embedded") as store:
        for _ in range(adds):
            first = Firework(PyTask(func="math.sqrt", args=[4]), name="add")
            second = Firework(PyTask(func="math.sqrt", args=[4]), name="add", parents=[first])
            acknowledged["fireworks"] += store.launchpad.add_wf(Workflow([first, second])).values()
            acknowledged["counters"].append(store.launchpad.get_new_launch_id())
            one_more(progress)
    queue.put(acknowledged)


def race(directory: Path, progress: Progress, queue: Queue[Numbers]) -> None:
    """Run job after job until none is left."""
    ran = 0
    launches = directory / f"worker-{os.getpid()}"
    launches.mkdir()
    os.chdir(launches)
    worker = FWorker("bench", query={"name": "race"})
    # FireWorks' loggers write to whatever stdout is when the first rocket starts.
    with Path(os.devnull).open("w") as quiet, contextlib.redirect_stdout(quiet), open_store("embedded") as store:
        while launch_rocket(store.launchpad, worker, strm_lvl="CRITICAL"):
            ran += 1
            one_more(progress)
    queue.put({"ran": [ran]})


def one_more(progress: Progress) -> None:
    """Count what was done."""
    with progress:
        progress.value += 1


@contextlib.contextmanager
def killing(kills: int, total: int, data_dir: Path) -> Iterator[tuple[Progress, list[int]]]:
    """Kill the server with SIGKILL, each third time its supervisor too, whenever a random share of the work is done.

    By the clock, a fast machine would be through before the first kill.
    """
    over = threading.Event()
    progress: Progress = multiprocessing.get_context("spawn").Value("q", 0)
    killed: list[int] = []
    early = range(max(total * 3 // 4, kills))  # so that work is left after the last
    due = sorted(random.sample(early, kills))

    def run() -> None:
        while len(killed) < len(due) and not over.is_set():
            state = embedded.status(data_dir)
            if progress.value < due[len(killed)] or state.server is None or state.server in killed:
                over.wait(random.uniform(0.001, 0.02))  # not yet, or it is just coming back
                continue
            if len(killed) % 3 == 2 and state.supervisor:
                os.kill(state.supervisor, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.server, signal.SIGKILL)
                killed.append(state.server)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield progress, killed
    finally:
        over.set()
        thread.join()


def in_parallel(target: object, processes: int, argument: object, progress: Progress) -> list[Numbers]:
    """Run a function in processes of their own and collect what each of them tells."""
    context = multiprocessing.get_context("spawn")
    queue: Queue[Numbers] = context.Queue()
    running = [context.Process(target=target, args=(argument, progress, queue)) for _ in range(processes)]  # type: ignore[arg-type]
    for process in running:
        process.start()
    for process in running:
        process.join()
    told = [queue.get() for p in running if p.exitcode == 0]
    if len(told) < processes:
        print(f"  {processes - len(told)} of {processes} processes died")
    return told


def check(what: str, found: object, wanted: object) -> bool:
    """Print one line and tell whether it is as it should be."""
    print(
        f"  {'ok   ' if found == wanted else 'WRONG'} {what}: {found}" + ("" if found == wanted else f", not {wanted}")
    )
    return found == wanted


def adding(options: argparse.Namespace, data_dir: Path) -> bool:
    """Add from all processes at once."""
    print(f"{options.processes} processes x {options.adds} add_wf, {options.kills} kills")
    total = options.processes * options.adds
    with killing(options.kills, total, data_dir) as (progress, killed):
        begin = time.perf_counter()
        told = in_parallel(add, options.processes, options.adds, progress)
        seconds = time.perf_counter() - begin
    fireworks = [i for t in told for i in t["fireworks"]]
    counters = [i for t in told for i in t["counters"]]
    with open_store("embedded") as store:
        stored = store.launchpad.get_fw_ids({"name": "add"})
        nodes = [n for w in store.launchpad.workflows.find({}, {"nodes": 1}) for n in w["nodes"]]
    print(f"  {total / seconds:.0f} add_wf/s, processes' start included; the server was killed {len(killed)} times")
    good = check("processes that finished", len(told), options.processes)
    good &= check("fireworks acknowledged", len(fireworks), 2 * total)
    good &= check("different ids among them", len(set(fireworks)), 2 * total)
    good &= check("counters drawn twice", len(counters) - len(set(counters)), 0)
    good &= check("acknowledged but lost", len(set(fireworks) - set(stored)), 0)
    good &= check("stored but never acknowledged", len(set(stored) - set(fireworks)), 0)
    good &= check("stored twice", len(stored) - len(set(stored)), 0)
    return good & check("fireworks without their workflow", len(set(stored) ^ set(nodes)), 0)


def racing(options: argparse.Namespace, data_dir: Path) -> bool:
    """Let all processes race for the same jobs."""
    print(f"{options.processes} processes race for {options.jobs} jobs, {options.kills} kills")
    with tempfile.TemporaryDirectory(prefix="nucleate-race-") as name:
        directory = Path(name)
        (directory / "done").mkdir()
        with open_store("embedded") as store:
            for number in range(options.jobs):
                task = PyTask(func="os.mkdir", args=[str(directory / "done" / str(number))])
                store.launchpad.add_wf(Workflow([Firework(task, name="race")]))
        with killing(options.kills, options.jobs, data_dir) as (progress, killed):
            begin = time.perf_counter()
            told = in_parallel(race, options.processes, directory, progress)
            seconds = time.perf_counter() - begin
        done = len(list((directory / "done").iterdir()))
    with open_store("embedded") as store:
        states = Counter(d["state"] for d in store.launchpad.fireworks.find({"name": "race"}, {"state": 1}))
        launches = Counter(d["state"] for d in store.launchpad.launches.find({}, {"state": 1}))
        locked = store.launchpad.workflows.count_documents({"locked": {"$exists": True}})
    print(
        f"  {options.jobs / seconds:.1f} jobs/s, processes' start included; the server was killed {len(killed)} times"
    )
    good = check("processes that finished", len(told), options.processes)
    good &= check("jobs that ran", done, options.jobs)
    good &= check("launches counted by workers", sum(t["ran"][0] for t in told), options.jobs)
    good &= check("states of fireworks", dict(states), {"COMPLETED": options.jobs})
    good &= check("states of launches", dict(launches), {"COMPLETED": options.jobs})
    return good & check("workflows left locked", locked, 0)


def main() -> int:
    """Run both and say what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--adds", type=int, default=100, help="add_wf in each process")
    parser.add_argument("--kills", type=int, default=0, help="kill -9 of the server in each of the two parts")
    parser.add_argument("--data-dir", type=Path, help="kept afterwards; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nucleate-durability-") as name:
        data_dir = options.data_dir or Path(name)
        os.environ["NUCLEATE_DATA_DIR"] = str(data_dir)
        try:
            good = True
            if options.adds:
                good &= adding(options, data_dir)
            if options.jobs:
                good &= racing(options, data_dir)
        finally:
            embedded.stop(data_dir)
    print("nothing lost, nothing doubled" if good else "NOT durable")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
