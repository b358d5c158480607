"""A local SLURM whose daemons can be killed, and a python whose processes think that their node is a host of its own.

With all nodes on one host, whoever asks whether a process lives could simply look. A host name of its own (in a UTS
namespace, which wants root) makes what runs on a node as foreign as on a real cluster.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]
UP, DOWN = ROOT / "deploy" / "slurm" / "up.sh", ROOT / "deploy" / "slurm" / "down.sh"
MEMORY_CGROUP = Path("/sys/fs/cgroup/memory")


@dataclass(frozen=True)
class Allocation:
    """What accounting says of a batch job.

    Parameters
    ----------
    job_id, name, state, nodes : str
    cores : int
    elapsed_s : float
    """

    job_id: str
    name: str
    state: str
    nodes: str
    cores: int
    elapsed_s: float


class Slurm:
    """A cluster of two nodes.

    Parameters
    ----------
    directory : pathlib.Path
        Its own; kept short, sockets lie in it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.conf = directory / "slurm.conf"
        self.nodes: list[str] = []

    @property
    def environment(self) -> dict[str, str]:
        """What commands of this cluster need."""
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def start(self) -> None:
        """Start it, or bring back what has died."""
        environment = {**os.environ, "CG": str(int(memory_limits())), "MINJOBAGE": "60"}
        command = ["bash", str(UP), str(self.directory), "--base-port", "auto"]
        with (self.directory / "up.log").open("ab") as log:
            subprocess.run(command, env=environment, check=True, stdout=log, stderr=log)
        self.nodes = self.run("sinfo", "-h", "-N", "-p", "debug", "-o", "%N").split()

    def stop(self) -> None:
        """Stop it, and what runs in it."""
        with (self.directory / "up.log").open("ab") as log:
            subprocess.run(["bash", str(DOWN), str(self.directory)], check=False, stdout=log, stderr=log)

    def run(self, *command: str, timeout: float = 30.0) -> str:
        """Run a command of SLURM's and give what it prints.

        Raises
        ------
        RuntimeError
            With what it said, if it failed.
        """
        done = subprocess.run(
            list(command), env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def active(self) -> dict[str, str]:
        """Give the node of each job that runs."""
        lines = self.run("squeue", "-h", "-t", "RUNNING", "-o", "%A %N").splitlines()
        return {job: node for job, _, node in (line.partition(" ") for line in lines)}

    def allocations(self) -> list[Allocation]:
        """Ask accounting for all jobs, those that were put back into the queue several times."""
        fields = "JobIDRaw,JobName,State,NodeList,AllocCPUS,ElapsedRaw"
        text = self.run("sacct", "-X", "-n", "-P", "-D", "-S", "now-1day", "-o", fields)
        rows = (line.split("|") for line in text.splitlines())
        return [Allocation(i, name, state, nodes, int(n), float(s)) for i, name, state, nodes, n, s in rows]

    def cancel_all(self) -> None:
        """End all jobs and wait until they are gone."""
        ids = self.run("squeue", "-h", "-o", "%A").split()
        if ids:
            with contextlib.suppress(RuntimeError):
                self.run("scancel", *ids)
        end = time.monotonic() + 30
        while time.monotonic() < end and self.run("squeue", "-h", "-o", "%A").split():
            time.sleep(0.3)

    # -- faults -------------------------------------------------------------------------------------------------------

    def kill_controller(self) -> None:
        """End slurmctld with SIGKILL."""
        self._kill("slurmctld")

    def kill_node(self, node: str, *, with_jobs: bool) -> None:
        """End the daemon of a node with SIGKILL; with ``with_jobs`` all that runs there, too: the power fails."""
        self._kill(f"slurmd.{node}")
        if with_jobs:
            for process in processes_on(self.directory, node):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        subprocess.run(["slurmd", "-N", node, "-f", str(self.conf)], env=_with_sbin(self.environment), check=True)

    def resume(self, node: str) -> None:
        """Take a node that was set down into use again."""
        with contextlib.suppress(RuntimeError):
            self.run("scontrol", "update", f"NodeName={node}", "State=RESUME")

    def _pid(self, daemon: str) -> int:
        return int((self.directory / "run" / f"{daemon}.pid").read_text())

    def _kill(self, daemon: str) -> None:
        pid = self._pid(daemon)
        os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(psutil.Error):
            psutil.Process(pid).wait(timeout=10)


def processes_on(directory: Path, node: str) -> list[psutil.Process]:
    """Find the daemons that look after jobs on a node of a cluster's directory, first, and what these jobs run."""
    conf, log = str(directory / "slurm.conf"), directory / "log" / f"slurmd.{node}.log"
    daemons, jobs = [], []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.name() == "slurmstepd":  # it says of itself which job it is of, but not which node
                open_files = Path(f"/proc/{process.pid}/fd").iterdir()
                daemons += [process] if any(file.readlink() == log for file in open_files) else []
                continue
            own = process.environ()
            if own.get("SLURMD_NODENAME") == node and own.get("SLURM_CONF", conf) == conf:
                jobs.append(process)
    return [*daemons, *jobs]


def memory_limits() -> bool:
    """Whether a cluster that is started here can end jobs that take too much memory."""
    controllers = (MEMORY_CGROUP, MEMORY_CGROUP.with_name("freezer"))  # up.sh wants both
    return os.geteuid() == 0 and all(controller.is_dir() for controller in controllers)


def foreign_python(path: Path) -> Path:
    """Write a program that is our python on a host with the node's name; our python itself where that can't be."""
    if os.geteuid() != 0:
        return Path(sys.executable)
    path.write_text(
        "#!/bin/sh\n"
        f'exec unshare --uts -- /bin/sh -c \'hostname "$SLURMD_NODENAME"; exec "$0" "$@"\' {sys.executable} "$@"\n'
    )
    path.chmod(0o755)
    return path


def available() -> str:
    """Tell what is missing for a local cluster; empty if nothing is."""
    path = _with_sbin(dict(os.environ))["PATH"]
    wanted = ("munged", "mariadbd", "slurmdbd", "slurmctld", "slurmd", "sbatch", "sacct")
    return ", ".join(name for name in wanted if not shutil.which(name, path=path))


def _with_sbin(environment: dict[str, str]) -> dict[str, str]:
    return {**environment, "PATH": f"{environment.get('PATH', '')}:/usr/sbin:/sbin"}
