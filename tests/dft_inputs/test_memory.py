"""The kernel's count of kills for memory: read from either version of cgroups, and counting in a real job."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from slurm_fixtures import wait_until

from dft_inputs.memory import oom_kills

if TYPE_CHECKING:
    from pathlib import Path

    from slurm_fixtures import LocalSlurm


def process(directory: Path, groups: str, *mounts: str) -> Path:
    directory.joinpath("cgroup").write_text(groups)
    directory.joinpath("mountinfo").write_text("\n".join(mounts) + "\n")
    return directory


def test_version_two(tmp_path: Path):
    (tmp_path / "fs/job_7").mkdir(parents=True)
    (tmp_path / "fs/job_7/memory.events").write_text("low 0\nhigh 0\nmax 31\noom 4\noom_kill 3\noom_group_kill 0\n")
    mount = f"35 24 0:30 / {tmp_path}/fs rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate"
    assert oom_kills(process(tmp_path, "0::/job_7\n", mount)) == 3


def test_version_one_in_a_container_that_sees_a_part_of_the_tree(tmp_path: Path):
    (tmp_path / "fs/job_7").mkdir(parents=True)
    (tmp_path / "fs/job_7/memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    cpu = f"31 23 0:28 / {tmp_path}/cpu rw - cgroup cgroup rw,cpu"
    memory = f"32 23 0:29 /box {tmp_path}/fs rw - cgroup cgroup rw,memory"
    assert oom_kills(process(tmp_path, "5:cpu:/box/job_7\n4:memory:/box/job_7\n0::/\n", cpu, memory)) == 2


def test_where_nobody_counts(tmp_path: Path):
    assert oom_kills(tmp_path) is None
    assert oom_kills(process(tmp_path, "0::/\n", f"31 23 0:28 / {tmp_path} rw - tmpfs tmpfs rw")) is None


GREEDY = "b'x' * (400 << 20)"
SCRIPT = f"""
import signal, subprocess, sys
from dft_inputs.memory import oom_kills
before = oom_kills()
code = subprocess.run([sys.executable, "-c", {GREEDY!r}], check=False).returncode
print("told", code == -signal.SIGKILL, oom_kills() - before, flush=True)
"""


@pytest.mark.xdist_group("slurm")
def test_a_job_that_goes_on_without_the_process_that_took_too_much(slurm: LocalSlurm, tmp_path: Path):
    if not slurm.kills_by_memory:
        pytest.skip("no memory cgroups here")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    job = slurm.sbatch(f"{sys.executable} {script}", "--mem=150", "--ntasks=1")
    wait_until(lambda: "told" in slurm.output(job), "the job's word", 60.0)
    assert "told True 1" in slurm.output(job)
