"""What the batch job that this process runs in was given: cores and which, GPUs, and until when."""

from __future__ import annotations

import math
import os
import re
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import psutil

from dft_inputs.walltime import QUERY_TIMEOUT, seconds_left
from workflows.runtime.capacity import Capacity

if TYPE_CHECKING:
    from workflows.runtime.cluster import PilotKind


def capacity(kind: PilotKind) -> Capacity:
    """Tell what there is to pack tasks into, on this node and in all.

    Tasks can be bound where it is certain which cores are ours: all that this process may use, or those that the
    scheduler names. On a node that confines nobody, two jobs that count from the first core on would share it.
    """
    visible = sorted(os.sched_getaffinity(0))
    here = _number("SLURM_CPUS_ON_NODE") or math.ceil(kind.cores / kind.nodes)
    nodes = _number("SLURM_JOB_NUM_NODES") or kind.nodes
    own = visible if here == len(visible) else [core for core in _named_cores() if core in visible]
    bound = len(own) == here
    cores = tuple(own) if bound else tuple(range(here))
    return Capacity(cores, kind.memory_gb, nodes, max(kind.cores, here) if nodes > 1 else here, bound)


def gpus(kind: PilotKind) -> tuple[str, ...]:
    """Name the GPUs of this job, as CUDA does."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    named = [name.strip() for name in listed.split(",") if name.strip()]
    return tuple(named or map(str, range(kind.gpus)))[: kind.gpus]


def end(kind: PilotKind) -> float:
    """Tell when the job ends, s of ``time.monotonic``.

    By its own wall-time and by how much of it the scheduler says is left; times of day are not used, for the clocks of
    nodes and of the scheduler may differ by more than a job lasts.
    """
    # the first process of a batch job begins with it
    began: float = psutil.Process().create_time()
    left = [60.0 * kind.minutes - max(0.0, time.time() - began)]
    said = seconds_left({name: value for name, value in os.environ.items() if name != "SLURM_JOB_END_TIME"})
    if said is not None:
        left.append(said)
    return time.monotonic() + min(left)


def partition(kind: PilotKind) -> str | None:
    """Name the partition that the job runs in."""
    return os.environ.get("SLURM_JOB_PARTITION") or kind.partition


def _number(name: str) -> int | None:
    text = os.environ.get(name, "")
    return int(text) if text.isdigit() else None


def _named_cores() -> list[int]:
    """Ask the scheduler which cores of this node are the job's."""
    job, node = os.environ.get("SLURM_JOB_ID", ""), os.environ.get("SLURMD_NODENAME", "")
    program = shutil.which("scontrol")
    if not job or not node or program is None:
        return []
    try:
        told = subprocess.run(  # noqa: S603 - arguments are ours, no shell
            [program, "--details", "show", "job", job],
            capture_output=True,
            text=True,
            timeout=QUERY_TIMEOUT,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return cores_of(told, node)


def cores_of(told: str, node: str) -> list[int]:
    """Read the numbers of a job's cores on a node from ``scontrol --details show job``.

    Where several nodes have the same numbers, they are written together; then the node's name is one of a range.

    Examples
    --------
    >>> cores_of("     Nodes=c1 CPU_IDs=0-1,4 Mem=1000 GRES=", "c1")
    [0, 1, 4]
    >>> cores_of("     Nodes=c[1-2] CPU_IDs=3 Mem=1000 GRES=", "c2")
    [3]
    >>> cores_of("JobId=1 JobName=x", "c1")
    []
    """
    lines = re.findall(r"\bNodes=(\S+) CPU_IDs=(\S+)", told)
    own = [ids for nodes, ids in lines if nodes == node] or [ids for nodes, ids in lines if "[" in nodes][:1]
    cores: list[int] = []
    for part in own[0].split(",") if own else []:
        first, _, last = part.partition("-")
        if first.isdigit():
            cores += range(int(first), int(last or first) + 1)
    return cores
