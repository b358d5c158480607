"""Everything that goes wrong on clusters, one small function each."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks.faults.scene import Conditions
from benchmarks.faults.slurm import ROOT, memory_limits
from benchmarks.faults.tasks import EAT
from workflows.runtime.identity import ProcessName

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.faults.scene import Scene

MINUTE_S = 60.0

_TRIES = 20
"""How many programs may end by themselves before the fault has struck one."""


@dataclass(frozen=True)
class Struck:
    """What a fault did.

    Parameters
    ----------
    what : str
        In words.
    attempts : tuple of str
        Attempts that it must have ended, if they had not ended just before.
    heal : callable, optional
        Mends it.
    after_s : float
        When that is to be, after the strike.
    """

    what: str
    attempts: tuple[str, ...] = ()
    heal: Callable[[], None] | None = None
    after_s: float = 0.0


@dataclass(frozen=True)
class Fault:
    """A fault.

    Parameters
    ----------
    name, title : str
    codes : frozenset of int
        Causes that attempts which it ended may carry; empty if it should end none.
    strike : callable
        Strikes a scene in which at least one task runs.
    conditions : Conditions
    rerun : bool
        Whether what it ended has failed and is to be re-run by its cause.
    kinds : tuple of str
    spares : bool
        Whether no attempt at all may be ended by it.
    wants : callable
        Tells what is missing on this machine to play it; empty if nothing.
    """

    name: str
    title: str
    codes: frozenset[int]
    strike: Callable[[Scene], Struck]
    conditions: Conditions = field(default_factory=Conditions)
    rerun: bool = False
    kinds: tuple[str, ...] = ("fast", "pw")
    spares: bool = False
    wants: Callable[[], str] = lambda: ""


def _one(scene: Scene) -> dict[str, Any]:
    """Choose a running task by the round's seed."""
    return scene.chance.choice(scene.wait_for_victims())


def _all_of(scene: Scene, victim: dict[str, Any]) -> tuple[str, ...]:
    """Name the attempts that run in the same batch job."""
    return tuple(a["attempt"] for a in scene.victims() if a["pilot"] == victim["pilot"])


def kill_task(scene: Scene) -> Struck:
    """End the program that a task has started: sleep, or pw.x."""
    for _ in range(_TRIES):
        victim, program, name = _program(scene)
        with contextlib.suppress(psutil.NoSuchProcess):
            program.kill()
            return Struck(f"kill -9 of {name} {program.pid} of {victim['attempt']}", (victim["attempt"],))
    raise RuntimeError("each program had ended before it was killed")


def _program(scene: Scene) -> tuple[dict[str, Any], psutil.Process, str]:
    """Choose a running task, and the program that it has started, with its name."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        victim = _one(scene)
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(victim["pid"]).children(recursive=True)
            if programs := [(c, name) for c in children if (name := c.name()) in {"sleep", "pw.x"}]:
                return victim, *scene.chance.choice(programs)
        time.sleep(0.05)
    raise TimeoutError("no task has started a program")


def _pilot(victim: dict[str, Any]) -> psutil.Process:
    """Give the process that looks after a task's batch job."""
    process = ProcessName.parse(victim["of"]["process"])
    if process is None:
        raise ValueError(f"{victim['pilot']} does not say which process it is")
    return psutil.Process(process.pid)


def kill_worker(scene: Scene) -> Struck:
    """End the process that runs a task."""
    victim = _one(scene)
    psutil.Process(victim["pid"]).kill()
    return Struck(f"kill -9 of worker {victim['pid']}", (victim["attempt"],))


def kill_pilot(scene: Scene) -> Struck:
    """End the process that looks after the workers of a batch job."""
    victim = _one(scene)
    pilot = _pilot(victim)
    struck = _all_of(scene, victim)
    pilot.kill()
    return Struck(f"kill -9 of pilot {pilot.pid} of job {victim['of']['job_id']}", struck)


def scancel(scene: Scene) -> Struck:
    """Cancel a batch job, as a user would."""
    victim = _one(scene)
    struck = _all_of(scene, victim)
    scene.slurm.run("scancel", victim["of"]["job_id"])
    return Struck(f"scancel {victim['of']['job_id']}", struck)


def run_out_of_time(scene: Scene) -> Struck:
    """Let the wall-time end; every other time the batch job hangs and can't drain, so SLURM ends it."""
    victim = _one(scene)
    if scene.chance.random() < 0.5:
        return Struck("the allocation is too short")
    for each in [_pilot(victim), psutil.Process(victim["pid"])]:
        each.suspend()
    return Struck(f"job {victim['of']['job_id']} hangs until SLURM ends it", (victim["attempt"],))


def run_out_of_memory(scene: Scene) -> Struck:
    """Let a stand-in take more memory than its batch job has; a pw.x has none left when something beside it did."""
    _, _, name = _program(scene)
    return _starve(scene) if name == "pw.x" else _wish(scene)


def _wish(scene: Scene) -> Struck:
    wish = scene.wishes / EAT
    new = scene.wishes / f".{EAT}"
    new.write_text("6000")
    new.rename(wish)
    end = time.monotonic() + 60
    while not (taken := list(scene.wishes.glob(f"{EAT}.*"))):
        if time.monotonic() > end:
            raise TimeoutError("no task has taken the wish")
        time.sleep(0.05)
    pid = int(taken[0].suffix[1:])
    struck = [a["attempt"] for a in scene.truth.running() if a["pid"] == pid]
    return Struck(f"the task in process {pid} takes memory", tuple(struck))


def _starve(scene: Scene) -> Struck:
    for _ in range(_TRIES):
        victim, program, _ = _program(scene)
        with contextlib.suppress(psutil.NoSuchProcess):
            program.suspend()  # it must not end while memory is taken, which takes seconds on a busy machine
        hog = subprocess.run([sys.executable, "-m", "benchmarks.faults.hog", str(program.pid)], cwd=ROOT, check=False)
        with contextlib.suppress(psutil.NoSuchProcess):
            program.resume()
        if hog.returncode == 0:
            what = f"no memory is left for pw.x {program.pid} of {victim['attempt']}"
            return Struck(what, (victim["attempt"],))
    raise RuntimeError("each pw.x had ended before its job was out of memory")


def kill_node(scene: Scene) -> Struck:
    """Let a node die; every other time only its slurmd does, and what runs there goes on."""
    victim = _one(scene)
    node = scene.slurm.active()[victim["of"]["job_id"]]
    whole = scene.chance.random() < 0.5
    struck = _all_of(scene, victim)
    scene.slurm.kill_node(node, with_jobs=whole)

    def heal() -> None:
        scene.slurm.start_node(node)
        scene.slurm.resume(node)

    what = f"node {node} dies" if whole else f"slurmd of {node} is killed, its jobs go on"
    return Struck(what, struck if whole else (), heal, scene.chance.uniform(70, 110))


def requeue(scene: Scene) -> Struck:
    """Put a batch job back into the queue, or let an urgent one take its node."""
    victim = _one(scene)
    job = victim["of"]["job_id"]
    struck = _all_of(scene, victim)
    if scene.chance.random() < 0.5:
        try:
            scene.slurm.run("scontrol", "requeue", job)
        except RuntimeError as error:
            refused = str(error).rpartition(":")[2].strip()
        else:
            return Struck(f"scontrol requeue {job}", struck)
    else:
        refused = ""
    node = scene.slurm.active()[job]
    command = ["sbatch", "-p", "urgent", "-w", node, "-n", "2", "--mem=3900", "-t", "2", "-o", "/dev/null"]
    scene.slurm.run(*command, "--wrap", "sleep 8")
    return Struck(f"an urgent job preempts {job}{f' (requeue: {refused})' if refused else ''}", struck)


def kill_controller(scene: Scene) -> Struck:
    """Take slurmctld away for a minute."""
    _one(scene)
    scene.slurm.kill_controller()
    return Struck("slurmctld is killed", (), scene.slurm.start, MINUTE_S)


def kill_database(scene: Scene) -> Struck:
    """End the database's process, which is started again some seconds later."""
    _one(scene)
    scene.database.kill()
    return Struck("the database is killed", (), scene.database.start, scene.chance.uniform(2, 20))


def cut_network(scene: Scene) -> Struck:
    """Cut the nodes' way to the database for a minute: silence, or broken connections."""
    _one(scene)
    how = "silence" if scene.chance.random() < 0.5 else "reset"
    scene.proxy.cut(how)
    return Struck(f"the nodes' network to the database is cut ({how})", (), scene.proxy.mend, MINUTE_S)


def fill_scratch(scene: Scene) -> Struck:
    """Fill the file system that tasks run on."""
    _one(scene)
    filler = scene.launches / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"\0" * 2**20)
    with contextlib.suppress(OSError), filler.open("ab", buffering=0) as file:
        while True:
            file.write(b"\0" * 512)
    # heal() is called when everything that runs has met it
    return Struck("scratch is full", (), filler.unlink, 25.0)


def _memory_missing() -> str:
    return "" if memory_limits() else "root and cgroup v1 with its controllers memory and freezer"


def _mount_missing() -> str:
    return "" if os.geteuid() == 0 else "root, to mount a small file system"


_SHORT = Conditions(size="cut", minutes=1, pilot={"task": {"cores": 1, "memory_gb": 0.8, "minutes": 0.03}})
"""Tasks take longer than they say: what can go on elsewhere is begun all the same, and cut by the end."""

FAULTS: dict[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("task", "kill -9 of a task", frozenset({106}), kill_task, rerun=True),
        Fault("worker", "kill -9 of a worker", frozenset({106}), kill_worker),
        Fault("pilot", "kill -9 of a pilot", frozenset({106}), kill_pilot),
        Fault("scancel", "scancel", frozenset({105}), scancel),
        Fault("timeout", "TIMEOUT", frozenset({101}), run_out_of_time, _SHORT),
        Fault(
            "oom",
            "OUT_OF_MEMORY",
            frozenset({102}),
            run_out_of_memory,
            Conditions(pilot={"memory_gb": 3.6}),  # room for a re-run that is given more
            rerun=True,
            wants=_memory_missing,
        ),
        Fault("node", "node down and back", frozenset({103}), kill_node, Conditions(size="long")),
        Fault("requeue", "requeue, preemption", frozenset({104}), requeue),
        Fault(
            "controller",
            "slurmctld down for a minute",
            frozenset(),
            kill_controller,
            Conditions(size="long"),
            spares=True,
        ),
        Fault("database", "database kill -9 and back", frozenset(), kill_database),
        Fault("network", "network to the database cut for a minute", frozenset(), cut_network, Conditions(size="long")),
        Fault(
            "scratch",
            "scratch full",
            frozenset({202}),
            fill_scratch,
            Conditions(scratch_mb=400),
            rerun=True,
            wants=_mount_missing,
        ),
        Fault(
            "clock",
            "clock skew of five minutes",
            frozenset({106}),
            kill_worker,
            Conditions(skew_s=300),
            wants=lambda: "" if shutil.which("cc") else "a C compiler",
        ),
    )
}
"""By name, in the order of the table."""
