"""Worker processes end with their parent, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

CODE = """
import os, sys, time
from generators.processes import worker_pool
if __name__ == "__main__":
    with worker_pool(2) as pool:
        print(*{pool.submit(os.getpid).result() for _ in range(4)}, flush=True)
        {then}
"""


def started(tmp_path, then):
    script = tmp_path / "script.py"
    script.write_text(CODE.replace("{then}", then))
    return subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},  # noqa: PTH109 - the variable wants a text
    )


@pytest.mark.parametrize("then", ["time.sleep(600)", "pool.submit(time.sleep, 600).result()"], ids=["idle", "at work"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_when_their_parent_is_killed(tmp_path, then, number):
    with started(tmp_path, then) as parent:
        workers = [psutil.Process(int(pid)) for pid in parent.stdout.readline().split()]
        assert workers
        parent.send_signal(number)
        parent.wait()
    deadline = time.monotonic() + 30
    while any(worker.is_running() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_work_is_done_and_the_end_is_an_ordinary_one(tmp_path):
    with started(tmp_path, "print(list(pool.map(abs, range(-3, 0))))") as parent:
        said, _ = parent.communicate(timeout=60)
    assert said.splitlines()[1] == "[3, 2, 1]"
    assert parent.returncode == 0
