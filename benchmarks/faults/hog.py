"""Take all memory of the batch job that a process belongs to, until the kernel ends that process for want of it.

    python -m benchmarks.faults.hog PID

Wants root, and cgroup version 1. Exit code 0 if the kernel killed the process for memory, 1 if it ended before that.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from benchmarks.faults.slurm import MEMORY_CGROUP
from dft_inputs.memory import killed_since, oom_kills

STEP_BYTES = 16 * 2**20
MOST_BYTES = 16 * 2**30
"""No batch job here has so much; a machine that has no limit is left alone."""


def starve(pid: int) -> bool:
    """Do it; what was taken is given back with the end of this process."""
    process = Path("/proc") / str(pid)
    try:
        found = re.search(r"^\d+:memory:(.+)$", (process / "cgroup").read_text(), re.MULTILINE)
        if found is None:
            raise ValueError(f"process {pid} is in no memory cgroup")
        (MEMORY_CGROUP / found[1].lstrip("/") / "cgroup.procs").write_text("0")  # this process joins
        (process / "oom_score_adj").write_text("1000")  # it is the first that the kernel chooses
        before = oom_kills(process)
    except (FileNotFoundError, ProcessLookupError):
        return False
    taken = bytearray()
    while _lives(process) and len(taken) < MOST_BYTES:
        taken += b"\1" * STEP_BYTES
    time.sleep(0.1)
    return killed_since(before)


def _lives(process: Path) -> bool:
    try:
        return "\nState:\tZ" not in (process / "status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


if __name__ == "__main__":
    sys.exit(0 if starve(int(sys.argv[1])) else 1)
