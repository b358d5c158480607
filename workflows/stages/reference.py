"""reference: completes the reference set of a campaign's chemistry, a job per missing chemical system."""

from __future__ import annotations

from typing import Any

from jobflow import job

from workflows import ledger
from workflows.runtime.context import current_task


@job
def build_reference(campaign: str, elements: list[str]) -> dict[str, Any]:
    """Compute the competing phases of one exact chemical system with the campaign's engine and protocol.

    Every finished relaxation is a checkpoint, so that an interrupted build goes on where it was.

    Returns
    -------
    dict
        ``system``, ``file`` (sha256 of the stored result), ``entries``, ``failures``.
    """
    from workflows.engines.registry import make_engine
    from workflows.reference import ReferenceSet, system_name
    from workflows.reference_build import build_subsystem
    from workflows.reference_store import user_directory

    task = current_task()
    spec = ledger.campaign_spec(task.database, campaign)
    engine = make_engine(spec.engine, spec.protocol)
    part = build_subsystem(engine, elements, checkpoints=user_directory() / "unfinished")
    alone = ReferenceSet(key=engine.reference_key).with_subsystems([part])
    return {
        "system": system_name(elements),
        "file": task.files.put_bytes(alone.to_bytes()),
        "entries": len(part.entries),
        "failures": len(part.failures),
    }


@job
def collect_reference(campaign: str, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Put the newly built chemical systems into the campaign's reference set."""
    from workflows.reference import ReferenceSet
    from workflows.reference_store import complete_reference

    task = current_task()
    built = [
        subsystem
        for part in sorted(parts, key=lambda p: p["system"])
        for subsystem in ReferenceSet.from_bytes(task.files.get_bytes(part["file"])).subsystems.values()
    ]
    return {"entries": complete_reference(task.database, task.files, campaign, built)}
