"""prerelax: a batch of candidates through the screening force field; every finished one is a checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import job

from workflows import ledger
from workflows.records import Prerelaxed
from workflows.runtime.context import current_task

if TYPE_CHECKING:
    from generators.relaxer import Relaxed

SCREENING_MODEL = "chgnet-0.3.0"
"""Pre-relaxes and ranks; an engine that verifies must not be this model."""

FMAX_EV_PER_ANGSTROM = 0.03
MAX_STEPS = 200


@job
def prerelax(
    campaign: str, round_number: int, batch: int, indices: list[int], control: bool, after: Any
) -> dict[str, int]:
    """Relax positions and cell of those candidates of a batch that passed the screen.

    Parameters
    ----------
    batch : int
        Number of the batch.
    indices : list of int
        Candidate indices of the batch: fixed by index when the round was made, whatever passes.
    control : bool
        Whether these are controls.
    after : any
        What has to be done before; only orders the graph.

    Returns
    -------
    dict
        ``relaxed``, ``converged``, ``failed``, and ``kept`` from an earlier, interrupted run.
    """
    from pymatgen.core import Structure

    from generators.relaxer import relax

    del after
    database = current_task().launchpad.db
    members = [
        c
        for c in ledger.read_candidates(database, campaign, round_number, control=control, indices=indices)
        if c.screen and c.screen.passed
    ]
    todo = [c for c in members if c.prerelax is None]
    counts = {"relaxed": 0, "converged": 0, "failed": 0, "kept": len(members) - len(todo)}

    def checkpoint(position: int, result: Relaxed) -> None:
        counts["relaxed"] += 1
        counts["converged"] += int(result.converged)
        counts["failed"] += int(result.error is not None)
        ledger.write_block(database, todo[position].candidate, "prerelax", block_of(result, batch))

    relax(
        [Structure.from_dict(c.structure) for c in todo],
        model=SCREENING_MODEL,
        fmax_ev_per_angstrom=FMAX_EV_PER_ANGSTROM,
        max_steps=MAX_STEPS,
        on_result=checkpoint,
    )
    return counts


def block_of(result: Relaxed, batch: int) -> Prerelaxed:
    """Turn the relaxer's result into the candidate's block."""
    return Prerelaxed(
        model=SCREENING_MODEL,
        batch=batch,
        converged=result.converged,
        steps=result.steps,
        energy_ev_per_atom=result.energy_ev_per_atom,
        structure=result.structure.as_dict() if result.structure is not None and result.error is None else None,
        max_force_ev_per_angstrom=result.max_force_ev_per_angstrom,
        max_stress_gpa=result.max_stress_gpa,
        volume_change=result.volume_change,
        error=result.error,
    )
