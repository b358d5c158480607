"""How a job of a round is named, marked and routed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from jobflow import Flow, Job

from workflows.runtime.firetask import firework_name

if TYPE_CHECKING:
    from collections.abc import Iterator

SAMPLING = "gpu"
"""``_category`` of sampling and batched pre-relaxation."""
LIGHT = "light"
"""``_category`` of jobs that only read and write records."""

Work = TypeVar("Work", Job, Flow)


def dress(work: Work, block: dict[str, Any], category: str) -> Work:
    """Give a job, or every job of a flow, its ``spec.nucleate`` block, firework name and category.

    A candidate's jobs hand the block on to whatever they create at run time, and let failures of their parents cascade;
    per-round jobs do not, or their block would overwrite that of the candidates' jobs which they add.

    Parameters
    ----------
    work : Job or Flow
        Changed in place, and returned.
    block : dict
        campaign, round, stage, candidate (``None`` for per-round jobs), engine.
    category : str
        ``_category`` of the kind of worker.
    """
    of_candidate = block["candidate"] is not None
    name = firework_name(block)
    single = isinstance(work, Job)
    for job in _jobs(work):
        job.name = name if single else f"{name} {job.name}"
        job.update_metadata({"nucleate": block}, dynamic=of_candidate)
        job.config.manager_config = {"_category": category}
        if of_candidate:
            job.config.manager_config["_allow_fizzled_parents"] = True
        job.config.pass_manager_config = of_candidate
    return work


def block_of(
    campaign: str, round_number: int, stage: str, candidate: str | None = None, engine: str | None = None
) -> dict[str, Any]:
    """Make a ``spec.nucleate`` block."""
    return {"campaign": campaign, "round": round_number, "stage": stage, "candidate": candidate, "engine": engine}


def _jobs(work: Job | Flow) -> Iterator[Job]:
    if isinstance(work, Job):
        yield work
    else:
        for part in work.jobs:
            yield from _jobs(part)
