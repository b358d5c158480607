"""The chain that verifies one candidate: relax, gate, phonon and properties side by side, judge."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import Job, OnMissing

from workflows.stages.dress import LIGHT, block_of, dress
from workflows.stages.gate import gate
from workflows.stages.judge import judge
from workflows.stages.phonon import phonon
from workflows.stages.properties import measure

if TYPE_CHECKING:
    from jobflow import Flow
    from pymatgen.core import Structure

    from workflows.engines.base import Engine
    from workflows.spec import CampaignSpec


def verify(
    spec: CampaignSpec, engine: Engine, round_number: int, candidate: str, structure: Structure
) -> tuple[list[Job | Flow], Job]:
    """Build the chain of one candidate.

    Returns
    -------
    list of Job or Flow
        The chain.
    Job
        Its last job, judge, which runs whatever became of the others.
    """

    def dressed(work: Any, stage: str, category: str) -> Any:
        return dress(work, block_of(spec.name, round_number, stage, candidate, spec.engine), category)

    relaxed = dressed(engine.relax_maker().make(structure), "relax", engine.category)
    gated = dressed(gate(spec.name, relaxed.output), "gate", LIGHT)
    chain: list[Job | Flow] = [relaxed, gated]
    phonons = None
    if spec.targets.phonons != "any":
        phonons = dressed(phonon(spec.name, gated.output), "phonon", engine.category)
        chain.append(phonons)
    measured = {}
    for name in spec.targets.properties:
        measured[name] = dressed(measure(spec.name, name, gated.output), "properties", engine.category)
        chain.append(measured[name])
    for job in chain[2:]:
        # these hand a reference to the relaxed structure on, instead of a copy that a re-run would leave stale
        job.config.resolve_references = "both"
    last = dressed(
        judge(
            spec.name,
            round_number,
            candidate,
            gated.output,
            phonons.output if phonons is not None else None,
            {name: job.output for name, job in measured.items()},
        ),
        "judge",
        LIGHT,
    )
    last.config.on_missing_references = OnMissing.NONE
    chain.append(last)
    return chain, last
