"""gate: reads the relaxation, measures the distance to the hull, and lets pass what is inside the cut."""

from __future__ import annotations

from typing import Any

from jobflow import job

from workflows import ledger
from workflows.causes import CausedError
from workflows.runtime.context import current_task


@job
def gate(campaign: str, document: Any) -> dict[str, Any]:
    """Read the relaxation and place it against the hull of the campaign's reference set.

    Parameters
    ----------
    campaign : str
    document : dict or pydantic document
        Output of the engine's relax Maker.

    Returns
    -------
    dict
        ``structure`` (relaxed), ``energy_ev_per_atom``, ``energy_above_hull_ev_per_atom``, ``hull`` (a HullReference),
        ``inside`` the cut or not, ``known_as`` the known crystal that it became (sought inside the cut only),
        ``detail`` of the relaxation.

    Raises
    ------
    CausedError
        As the engine's ``read``; 606 if the reference set does not span the chemistry.
    """
    from workflows.engines.registry import make_engine
    from workflows.known import known_structures_of
    from workflows.reference import energy_above_hull
    from workflows.reference_store import campaign_reference

    task = current_task()
    database = task.database
    spec = ledger.campaign_spec(database, campaign)
    engine = make_engine(spec.engine, spec.protocol)
    try:
        result = engine.read(document)
    except CausedError as error:
        error.stage = error.stage or "relax"
        raise
    reference = campaign_reference(database, task.files, campaign)
    above_hull, hull = energy_above_hull(
        result.structure, result.energy_ev_per_atom, reference, key=engine.reference_key
    )
    inside = spec.targets.energy_above_hull.holds(above_hull)
    # the engine may relax a novel proposal into a known crystal; what is outside the cut can't become a hit anyway
    known_as = known_structures_of(database, task.files, spec).match(result.structure) if inside else None
    return {
        "structure": result.structure,
        "energy_ev_per_atom": result.energy_ev_per_atom,
        "energy_above_hull_ev_per_atom": above_hull,
        "hull": hull.model_dump(),
        "inside": inside,
        "known_as": known_as,
        "detail": result.detail,
    }
