"""Which process runs a launch: the name that a worker signs with, and whether that process still lives.

The name goes into FireWorks' own documents (the launch's fworker, the claim, the workflow's lock), so a crash can be
told from a slow job without heartbeats: by host, pid and the time the process started.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass

import psutil

CLUSTER = "NUCLEATE_CLUSTER"
"""Environment variable: name of the cluster, as in the cluster file, that a batch job runs on."""
PILOT = "NUCLEATE_PILOT"
"""Environment variable: name of the batch job's record in ``pilots``."""
TOOK = "NUCLEATE_TOOK"
"""Environment variable: what the task that runs has of the batch job (cores, memory_gb, minutes), as JSON."""

_NAME = re.compile(
    r"^nucleate-(?P<host>[^@]+)-(?P<pid>\d+)-(?P<started>\d+)"
    r"(?:@(?P<cluster>[^:@]*):(?P<job>[^:@.]+)\.(?P<restart>\d+))?$"
)
_START_TOLERANCE_S = 2.0  # Linux derives start times from a boot time that clock corrections move by a second


@dataclass(frozen=True)
class BatchJob:
    """A run of a scheduler's job.

    Parameters
    ----------
    cluster : str
        Name in the cluster file; empty for a job that somebody submitted by hand.
    job_id : str
    restart : int
        How often the scheduler had put it back into the queue.
    """

    cluster: str
    job_id: str
    restart: int = 0

    @classmethod
    def own(cls) -> BatchJob | None:
        """Name the job that this process runs in, if any."""
        job = os.environ.get("SLURM_JOB_ID", "")
        if not job:
            return None
        return cls(os.environ.get(CLUSTER, ""), job, int(os.environ.get("SLURM_RESTART_COUNT", "0") or 0))

    def __str__(self) -> str:
        return f"{self.cluster}:{self.job_id}.{self.restart}"


@dataclass(frozen=True)
class ProcessName:
    """A process, told apart from any other that has had its pid.

    Parameters
    ----------
    host : str
    pid : int
    started : int
        Epoch s.
    job : BatchJob or None
        The scheduler's job that it runs in.
    """

    host: str
    pid: int
    started: int
    job: BatchJob | None = None

    def __str__(self) -> str:
        return f"nucleate-{self.host}-{self.pid}-{self.started}{f'@{self.job}' if self.job else ''}"

    @classmethod
    def own(cls) -> ProcessName:
        """Name this process."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> ProcessName:
        """Name a running process of this host; raises ``psutil.NoSuchProcess``."""
        # a process that we have started runs in the job that we run in
        return cls(socket.gethostname(), pid, int(psutil.Process(pid).create_time()), BatchJob.own())

    @classmethod
    def parse(cls, name: str | None) -> ProcessName | None:
        """Read a name; ``None`` if it is not one of ours.

        Examples
        --------
        >>> ProcessName.parse("nucleate-node-3-4711-1790000000")
        ProcessName(host='node-3', pid=4711, started=1790000000, job=None)
        >>> ProcessName.parse("nucleate-node-3-4711-1790000000@alps:81.0").job
        BatchJob(cluster='alps', job_id='81', restart=0)
        >>> ProcessName.parse("Automatically generated Worker") is None
        True
        """
        found = _NAME.match(name or "")
        if not found:
            return None
        job = BatchJob(found["cluster"], found["job"], int(found["restart"])) if found["job"] else None
        return cls(found["host"], int(found["pid"]), int(found["started"]), job)

    def is_here(self, host: str | None = None) -> bool:
        """Tell whether it runs (or ran) on this host."""
        return self.host == (host or socket.gethostname())

    def is_dead(self) -> bool:
        """Tell whether it is known to be gone: it ran here and its pid is free, a zombie's, or another process's."""
        if not self.is_here():
            return False
        try:
            process = psutil.Process(self.pid)
            moved_s: float = abs(process.create_time() - self.started)
            return bool(process.status() == psutil.STATUS_ZOMBIE) or moved_s > _START_TOLERANCE_S
        except psutil.NoSuchProcess:
            return True


def is_dead(name: str | None) -> bool:
    """Tell whether a name is one of ours, of this host, and its process is gone."""
    process = ProcessName.parse(name)
    return process is not None and process.is_dead()
