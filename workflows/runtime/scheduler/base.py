"""The words in which schedulers are spoken of: a request for a job, what is known of one, and what can go wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

Phase = Literal["queued", "running", "ended"]


class SchedulerError(Exception):
    """The scheduler refuses something, and the message says what and why."""


class SchedulerAwayError(SchedulerError):
    """The scheduler does not answer (down, slow, not installed): nothing may be concluded from that."""


@dataclass(frozen=True)
class JobRequest:
    """One batch job.

    Parameters
    ----------
    name : str
        Unique: a job is found again by it where a crash came between submission and its record.
    command : tuple of str
        What runs, word by word; it replaces the batch script's shell, so that signals reach it.
    directory : pathlib.Path
        Working directory, absolute.
    output : pathlib.Path
        Where stdout and stderr go.
    cores, nodes, gpus : int
        Cores are of the whole job.
    memory_gb : float
        Of each node.
    minutes : int
        Wall-time.
    partition, account, qos, reservation, constraint : str or None
    exclude : tuple of str
        Nodes that must not be used.
    setup : tuple of str
        Lines of shell before the command: modules, environments. Written by the user in the cluster file.
    environment : dict
    warn_s : int
        s before the wall-time at which the command gets SIGTERM; 0: not at all.
    requeue : bool
        Whether the scheduler may put the job back into the queue by itself.
    extra : tuple of str
        Further options of the scheduler's own.
    """

    name: str
    command: tuple[str, ...]
    directory: Path
    output: Path
    cores: int = 1
    nodes: int = 1
    gpus: int = 0
    memory_gb: float = 1.0
    minutes: int = 60
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    constraint: str | None = None
    exclude: tuple[str, ...] = ()
    setup: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)
    warn_s: int = 0
    requeue: bool = False
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class JobInfo:
    """What the scheduler knows of a job (of its newest run, where it was put back into the queue).

    Parameters
    ----------
    job_id, name : str
    state : str
        In the scheduler's own word.
    phase : {"queued", "running", "ended"}
    cause : int or None
        Of an ended job that did not end well: 101 wall-time, 102 out of memory, 103 node failure, 104 preempted, 105
        cancelled, 106 killed by a signal; ``None`` if it ended with an exit code of its own, or has not ended.
    evidence : str
        State, exit code, signal, node and by whom, in one line for people.
    exit_code, signal : int or None
    restarts : int
        How often it was put back into the queue.
    cores : int
    nodes : str
    started, ended : datetime or None
        In UTC, by the scheduler's clock.
    core_seconds : float or None
        Cores x elapsed time of all its runs, as accounting has it.
    reason : str
        Why it waits.
    source : str
        Which command said so: ``squeue``, or ``sacct``, with ", slurmctld does not answer" after it where that was so.
    ending : bool
        Whether its processes are being ended: they may still live, and it has not ended yet.
    earlier : tuple of JobInfo
        What accounting knows of its earlier runs, first to last; each ended, and was put back into the queue.
    """

    job_id: str
    name: str
    state: str
    phase: Phase
    cause: int | None = None
    evidence: str = ""
    exit_code: int | None = None
    signal: int | None = None
    restarts: int = 0
    cores: int = 0
    nodes: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    core_seconds: float | None = None
    reason: str = ""
    source: str = ""
    ending: bool = False
    earlier: tuple[JobInfo, ...] = ()

    @property
    def is_hearsay(self) -> bool:
        """Whether nobody vouches for it now: it had not ended when last heard of, and its controller is silent."""
        return self.phase != "ended" and self.source not in {"squeue", "sacct", "scontrol"}


class Scheduler(Protocol):
    """A scheduler; every method raises :class:`SchedulerAwayError` if it does not answer in time."""

    def check(self, request: JobRequest) -> None:
        """Ask whether a job would be accepted; raises :class:`SchedulerError` with the scheduler's reason."""

    def submit(self, request: JobRequest) -> str:
        """Submit a job and give its id; raises :class:`SchedulerError` if it is refused."""

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel jobs; those that have ended are passed over."""

    def drain(self, job_ids: Sequence[str]) -> None:
        """Ask running jobs to begin nothing more (SIGUSR1 to their command); those that have ended are passed over."""

    def jobs(self, job_ids: Sequence[str]) -> dict[str, JobInfo]:
        """Tell what is known of jobs, by id; those that it knows nothing of (any more) are left out."""

    def named(self, names: Sequence[str]) -> dict[str, JobInfo]:
        """Find jobs by name: of several of one name the newest."""

    @property
    def accounting(self) -> bool:
        """Whether it keeps accounts (causes, core-hours) of jobs that have ended."""
