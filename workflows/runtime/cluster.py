"""The cluster file: which clusters there are, how a batch job starts there, and how much of each may be used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,19}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Needs(_Part):
    """What one task takes; a firework's own ``spec.resources`` go before these."""

    cores: int = Field(1, ge=1, le=100_000, description="cores that it is bound to")
    memory_gb: float = Field(1.0, gt=0, description="GB")
    minutes: float = Field(
        10.0, gt=0, description="min that it takes; a task that can go on elsewhere may be begun later"
    )


class PilotKind(_Part):
    """One kind of batch job: what it asks of the scheduler and which tasks it takes."""

    categories: tuple[str, ...] = Field(..., min_length=1, description="tasks that it takes: gpu, cpu, light")
    partition: str | None = Field(None, description="default: the scheduler's")
    nodes: int = Field(
        1, ge=1, description="nodes of one job; tasks are started on the first, and use the others by MPI"
    )
    cores: int = Field(1, ge=1, description="cores of one job, over all nodes")
    gpus: int = Field(0, ge=0, description="GPUs of one job")
    memory_gb: float = Field(2.0, gt=0, description="GB of each node")
    minutes: int = Field(60, ge=1, description="wall-time of one job, min")
    max_jobs: int = Field(4, ge=1, description="most jobs of this kind in the queue at a time")
    account: str | None = Field(None, description="default: the cluster's")
    qos: str | None = None
    reservation: str | None = None
    constraint: str | None = None
    extra: tuple[str, ...] = Field((), description="further options of sbatch, word by word")
    task: Needs = Field(Needs(), description="what a task takes unless its stage or its firework says otherwise")
    stages: dict[str, Needs] = Field(default_factory=dict, description="the same by stage: relax, phonon, ...")
    drain_s: int = Field(
        120, ge=10, description="s before the wall-time at which no task is begun and running ones stop"
    )
    idle_s: int = Field(60, ge=0, description="s without work after which the job ends")


class Limits(_Part):
    """How much of a cluster campaigns may use; what is left out is not limited."""

    jobs: int | None = Field(None, ge=1, description="jobs in its queue, of all kinds")
    cores: int | None = Field(None, ge=1, description="cores of all jobs in its queue")
    core_hours: float | None = Field(
        None, gt=0, description="core-hours of one campaign on this cluster, by its accounts"
    )


class Through(_Part):
    """How compute nodes that can't reach the database reach it: exactly one of the two."""

    relay: str | None = Field(None, description="HOST:PORT where `nucleate relay` listens on a login node")
    tunnel: tuple[str, ...] = Field(
        (),
        description="command that a job starts, with {port}, {host} and {host_port} to be filled in, e.g. "
        "[ssh, -N, -L, '{port}:{host}:{host_port}', login1]",
    )
    certificate_name: Literal["checked", "any"] = Field(
        "checked",
        description="any: a TLS certificate of the right authority will do whatever host it is made out to, because "
        "the database is dialled under another name; safer: the relay's name in the certificate",
    )


class Cluster(_Part):
    """One cluster, or one account on it."""

    scheduler: Literal["slurm"] = "slurm"
    account: str | None = None
    slurm_conf: Path | None = Field(None, description="SLURM_CONF, where it is not the default one")
    python: Path | None = Field(None, description="python of the environment with nucleate (default: this one's)")
    directory: Path | None = Field(
        None, description="where campaigns live there (default: the campaign's own directory, on a shared file system)"
    )
    setup: tuple[str, ...] = Field((), description="lines of shell before a job begins: module load qe/7.3")
    environment: dict[str, str] = Field(default_factory=dict, description="e.g. NUCLEATE_ESPRESSO__COMMAND: pw.x")
    database: Through | None = Field(None, description="only for nodes that can't reach the database themselves")
    limits: Limits = Limits()
    pilots: dict[Name, PilotKind] = Field(..., min_length=1, description="kinds of batch jobs")


class ClusterFile(_Part):
    """All clusters that a user has."""

    clusters: dict[Name, Cluster] = Field(..., min_length=1)
