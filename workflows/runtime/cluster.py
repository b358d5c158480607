"""The cluster file: which clusters there are, how a batch job starts there, and how much of each may be used."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from workflows.records import STAGES

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,19}$")]
Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.:,+&|*-]*$", max_length=200)]
"""What may stand after an option of the scheduler: no blank, no second line, nothing that looks like an option."""
Category = Literal["gpu", "cpu", "light"]


def _stage(name: str) -> str:
    if name not in STAGES:
        close = get_close_matches(name, STAGES, n=1)
        raise ValueError(f"is no stage; {f'did you mean {close[0]}? ' if close else ''}stages: {', '.join(STAGES)}")
    return name


Stage = Annotated[str, AfterValidator(_stage)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Needs(_Part):
    """What one task takes; a firework's own ``spec.resources`` go before these."""

    cores: int = Field(1, ge=1, le=100_000, strict=True, description="cores that it is bound to")
    memory_gb: float = Field(1.0, gt=0, strict=True, description="GB")
    minutes: float = Field(
        10.0, gt=0, strict=True, description="min that it takes; a task that can go on elsewhere may be begun later"
    )


class PilotKind(_Part):
    """One kind of batch job: what it asks of the scheduler and which tasks it takes."""

    categories: tuple[Category, ...] = Field(
        ..., min_length=1, description="tasks that it takes: gpu, cpu, light", examples=[["cpu", "light"]]
    )
    partition: Word | None = Field(None, description="default: the scheduler's")
    nodes: int = Field(
        1, ge=1, strict=True, description="nodes of one job; tasks are started on the first, and use the others by MPI"
    )
    cores: int = Field(1, ge=1, strict=True, description="cores of one job, over all nodes")
    gpus: int = Field(0, ge=0, strict=True, description="GPUs of one job")
    memory_gb: float = Field(2.0, gt=0, strict=True, description="GB of each node")
    minutes: int = Field(60, ge=1, strict=True, description="wall-time of one job, min")
    max_jobs: int = Field(4, ge=1, strict=True, description="most jobs of this kind in the queue at a time")
    account: Word | None = Field(None, description="default: the cluster's")
    qos: Word | None = None
    reservation: Word | None = None
    constraint: Word | None = None
    extra: tuple[str, ...] = Field(
        (), description="further options of sbatch, word by word", examples=[["--exclusive", "--mail-type=FAIL"]]
    )
    task: Needs = Field(Needs(), description="what a task takes unless its stage or its firework says otherwise")
    stages: dict[Stage, Needs] = Field(default_factory=dict, description="the same by stage: relax, phonon, ...")
    drain_s: int = Field(
        120, ge=10, strict=True, description="s before the wall-time at which no task is begun and running ones stop"
    )
    idle_s: int = Field(60, ge=0, strict=True, description="s without work after which the job ends")

    @field_validator("task")
    @classmethod
    def _fits(cls, needs: Needs, info: ValidationInfo) -> Needs:
        """Refuse a task that its own job could never take."""
        if {"cores", "memory_gb", "nodes"} <= info.data.keys():
            if needs.cores > info.data["cores"]:
                raise ValueError(f"a task of {needs.cores} cores does not fit a job of {info.data['cores']}")
            if needs.memory_gb > info.data["memory_gb"] * info.data["nodes"]:
                raise ValueError(f"a task of {needs.memory_gb:g} GB does not fit {info.data['memory_gb']:g} GB a node")
        return needs

    @field_validator("stages")
    @classmethod
    def _all_fit(cls, stages: dict[str, Needs], info: ValidationInfo) -> dict[str, Needs]:
        for stage, needs in stages.items():
            try:
                cls._fits(needs, info)
            except ValueError as error:
                raise ValueError(f"{stage}: {error}") from None
        return stages

    @field_validator("drain_s")
    @classmethod
    def _leaves_time(cls, drain_s: int, info: ValidationInfo) -> int:
        if "minutes" in info.data and drain_s >= 60 * info.data["minutes"]:
            raise ValueError(f"{drain_s} s leave nothing of a wall-time of {info.data['minutes']} min")
        return drain_s

    @property
    def usable_minutes(self) -> float:
        """Minutes of a job in which tasks run."""
        return max(0.0, self.minutes - self.drain_s / 60)


class Limits(_Part):
    """How much of a cluster campaigns may use; what is left out is not limited."""

    jobs: int | None = Field(None, ge=1, strict=True, description="jobs in its queue, of all kinds")
    cores: int | None = Field(None, ge=1, strict=True, description="cores of all jobs in its queue")
    core_hours: float | None = Field(
        None, gt=0, strict=True, description="core-hours of one campaign on this cluster, by its accounts"
    )


class Through(_Part):
    """How compute nodes that can't reach the database reach it: exactly one of the two."""

    relay: str | None = Field(None, description="HOST:PORT where `nucleate relay` listens on a login node")
    tunnel: tuple[str, ...] = Field(
        (),
        description="command that a job starts, with {port}, {host} and {host_port} to be filled in",
        examples=[["ssh", "-N", "-L", "'{port}:{host}:{host_port}'", "login1"]],
        validate_default=True,
    )
    certificate_name: Literal["checked", "any"] = Field(
        "checked",
        description="any: a TLS certificate of the right authority will do whatever host it is made out to, because "
        "the database is dialled under another name; safer: the relay's name in the certificate",
    )

    @field_validator("tunnel")
    @classmethod
    def _one_way(cls, tunnel: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if "relay" in info.data and (info.data["relay"] is None) == (not tunnel):
            raise ValueError("give relay or tunnel, exactly one of the two")
        return tunnel


class Cluster(_Part):
    """One cluster, or one account on it."""

    scheduler: Literal["slurm"] = "slurm"
    account: Word | None = Field(None, description="default: the scheduler's")
    slurm_conf: Path | None = Field(None, description="SLURM_CONF, where it is not the default one")
    python: Path | None = Field(None, description="python of the environment with nucleate (default: this one's)")
    directory: Path | None = Field(
        None, description="where campaigns live there (default: the campaign's own directory, on a shared file system)"
    )
    same_host: bool = Field(
        default=False,
        description="its nodes are this very host (a local SLURM to try things with): the embedded store will do",
    )
    setup: tuple[str, ...] = Field(
        (), description="lines of shell before a job begins", examples=[["module load qe/7.3"]]
    )
    environment: dict[str, str] = Field(default_factory=dict, description="e.g. NUCLEATE_ESPRESSO__COMMAND: pw.x")
    database: Through | None = Field(None, description="only for nodes that can't reach the database themselves")
    limits: Limits = Limits()
    pilots: dict[Name, PilotKind] = Field(..., min_length=1, description="kinds of batch jobs")

    @field_validator("pilots")
    @classmethod
    def _within_limits(cls, pilots: dict[str, PilotKind], info: ValidationInfo) -> dict[str, PilotKind]:
        """Refuse a kind of which the cluster's own limits allow not one."""
        limits: Limits = info.data.get("limits", Limits())
        for name, kind in pilots.items():
            if limits.cores is not None and kind.cores > limits.cores:
                raise ValueError(f"{name}: one job takes {kind.cores} cores, and limits.cores allows {limits.cores}")
        return pilots


class ClusterFile(_Part):
    """All clusters that a user has."""

    clusters: dict[Name, Cluster] = Field(..., min_length=1)
