"""A real SLURM for the tests that ask for one: two nodes, accounting, on free ports, gone with the session."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil
import pytest

from benchmarks.faults.slurm import available, memory_limits, processes_on

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

T = TypeVar("T")

SCRIPTS = Path(__file__).parents[2] / "deploy" / "slurm"
PATH = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
"""Of this session, whatever a test makes of its own."""


@dataclass(frozen=True)
class LocalSlurm:
    """A local cluster, and what may befall it.

    Parameters
    ----------
    directory : pathlib.Path
        That of its state and logs.
    nodes : tuple of str
        Names of its two nodes.
    kills_by_memory : bool
        Whether jobs that take too much memory end as OUT_OF_MEMORY (cgroup v1 is there and we are root).
    """

    directory: Path
    nodes: tuple[str, str]
    kills_by_memory: bool

    @property
    def conf(self) -> Path:
        """SLURM_CONF."""
        return self.directory / "slurm.conf"

    def run(self, *command: str, check: bool = True) -> str:
        """Run one of SLURM's commands and give what it prints."""
        environ = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": PATH}
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
        if check and done.returncode:
            raise RuntimeError(f"{command}: {done.stderr or done.stdout}")
        return done.stdout.strip()

    def scontrol(self, *words: str) -> str:
        """Run scontrol."""
        return self.run("scontrol", *words)

    def sbatch(self, script: str, *options: str) -> str:
        """Submit lines of shell and give the job's id; its output goes into the cluster's directory."""
        output = f"--output={self.directory}/job-%j.out"
        return self.run("sbatch", "--parsable", output, f"--chdir={self.directory}", *options, "--wrap", script)

    def output(self, job: str) -> str:
        """Give what a job of :meth:`sbatch` printed so far."""
        path = self.directory / f"job-{job}.out"
        return path.read_text() if path.exists() else ""

    def state(self, job: str) -> str:
        """Give a job's state as slurmctld has it (its newest run's); empty if it has forgotten the job."""
        found = re.search(r"JobState=(\w+)", self.run("scontrol", "show", "job", job, check=False))
        return found[1] if found else ""

    def wait_for_state(self, job: str, states: Collection[str] | str, seconds: float = 30.0) -> str:
        """Wait until a job is in one of some states."""
        wanted = {states} if isinstance(states, str) else set(states)
        return wait_until(lambda: state if (state := self.state(job)) in wanted else "", f"{job} {wanted}", seconds)

    def start_now(self, job: str) -> None:
        """Let a job that was put back into the queue start at once: SLURM holds it for two minutes otherwise."""
        self.scontrol("update", f"JobId={job}", "StartTime=now")

    def wait_until_kept(self, job: str) -> None:
        """Wait until slurmctld has written down what it knows of a job: it does so seconds after a change.

        One that is killed before forgets what it had not written.
        """
        before = time.time_ns()
        self.scontrol("update", f"JobId={job}", "AdminComment=kept")
        written = self.directory / "state" / "job_state"
        wait_until(lambda: written.exists() and written.stat().st_mtime_ns > before, f"{written} to be written")

    def pid(self, daemon: str) -> int:
        """Give the pid of ``slurmctld``, ``slurmdbd``, ``mariadbd``, ``munged`` or ``slurmd.<node>``."""
        return int((self.directory / "run" / f"{daemon}.pid").read_text())

    def stop(self, daemon: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End a daemon and wait until it is gone; SIGKILL is how a machine dies."""
        try:
            pid = self.pid(daemon)
            os.kill(pid, number)
        except (FileNotFoundError, ProcessLookupError):
            return
        wait_until(lambda: not _is_daemon(pid, daemon), f"{daemon} to end", 30.0)

    def freeze(self, daemon: str) -> None:
        """Stop a daemon in its tracks: it takes connections and never answers."""
        os.kill(self.pid(daemon), signal.SIGSTOP)

    def thaw(self, daemon: str) -> None:
        """Let it go on."""
        os.kill(self.pid(daemon), signal.SIGCONT)

    def kill_node(self, node: str) -> None:
        """End a node as a power cut does: its slurmd and all processes of its jobs at once.

        SLURM finds out after SlurmdTimeout (30 s), or at once by :meth:`fail_node`.
        """
        self.stop(f"slurmd.{node}", signal.SIGKILL)
        for process in processes_on(self.directory, node):
            with suppress(psutil.Error):  # it ended meanwhile, or is somebody else's
                process.kill()

    def fail_node(self, node: str) -> None:
        """Tell slurmctld that a node is down: what SlurmdTimeout does, without waiting for it."""
        self.scontrol("update", f"NodeName={node}", "State=DOWN", "Reason=test")

    def start(self) -> None:
        """Start every daemon that doesn't run, and wait until both nodes take jobs again."""
        _up(self.directory, memory=self.kills_by_memory)

    def start_daemon(self, daemon: str) -> None:
        """Start one daemon by its name, nothing else."""
        name, _, node = daemon.partition(".")
        self.run(*{"slurmctld": ("slurmctld",), "slurmdbd": ("slurmdbd",), "slurmd": ("slurmd", "-N", node)}[name])

    def cancel_all(self) -> None:
        """Cancel every job and wait until none is left."""
        jobs = self.run("squeue", "--noheader", "--format=%A").split()
        if jobs:
            self.run("scancel", "--quiet", *jobs, check=False)
            wait_until(lambda: not self.run("squeue", "--noheader"), "the queue to be empty", 30.0)


def wait_until(ask: Callable[[], T], what: str, seconds: float = 30.0) -> T:
    """Wait until something is true, and give it."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:g} s for {what}")
        time.sleep(0.1)
    return answer


def _is_daemon(pid: int, daemon: str) -> bool:
    """Whether a process is that daemon and no zombie (nobody may be there to reap it in a container)."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        name = Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return False
    return state != "Z" and name == daemon.partition(".")[0]


def _up(directory: Path, *, memory: bool, **settings: str) -> None:
    done = subprocess.run(
        [str(SCRIPTS / "up.sh"), str(directory), "--base-port", "auto"],
        env={**os.environ, "PATH": PATH, "CG": str(int(memory)), **settings},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"up.sh: {done.stderr}")


def require_slurm() -> None:
    """Skip a test where there is no SLURM.

    On a machine with apt-get its absence is a failure of the set-up, not a reason to pass by.
    """
    missing = available()
    if missing and shutil.which("apt-get"):
        pytest.fail(f"{missing} missing: `make slurm` installs SLURM (as root)", pytrace=False)
    if missing:
        pytest.skip("no SLURM here, and no apt-get to install it with")


@pytest.fixture(scope="session")
def slurm_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSlurm]:
    """Start a cluster with the first test that wants it, and stop it with the session."""
    require_slurm()
    with running(tmp_path_factory.mktemp("slurm"), memory=memory_limits()) as slurm:
        yield slurm


@pytest.fixture(scope="session")
def plain_slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSlurm]:
    """Start a cluster that keeps no accounts, and forgets jobs soon."""
    require_slurm()
    with running(tmp_path_factory.mktemp("plain"), ACCOUNTING="0", MINJOBAGE="2") as slurm:
        yield slurm


@contextmanager
def running(directory: Path, *, memory: bool = False, **settings: str) -> Iterator[LocalSlurm]:
    """Run a cluster in a directory that exists; the settings are what ``up.sh`` takes from its environment."""
    try:
        _up(directory, memory=memory, **settings)
        first, second = re.findall(
            r"^NodeName=(\S+) NodeHostname", (directory / "slurm.conf").read_text(), re.MULTILINE
        )
        yield LocalSlurm(directory, (first, second), memory)
    finally:
        subprocess.run([str(SCRIPTS / "down.sh"), str(directory)], timeout=120, check=False)


@pytest.fixture
def slurm(slurm_cluster: LocalSlurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalSlurm]:
    """Give the session's cluster with an empty queue, all daemons up, and SLURM_CONF set.

    Tests that take it want ``@pytest.mark.xdist_group("slurm")``, or each process of pytest-xdist starts a cluster.
    """
    monkeypatch.setenv("SLURM_CONF", str(slurm_cluster.conf))
    yield slurm_cluster
    slurm_cluster.start()
    slurm_cluster.cancel_all()
