"""properties: for what is inside the hull cut, the engine's property flow takes this job's place."""

from __future__ import annotations

from typing import Any

from jobflow import Response, job

from workflows import ledger
from workflows.runtime.context import current_task


@job
def measure(campaign: str, name: str, gated: Any) -> Response:
    """Replace itself by the engine's flow for one property, or finish at once outside the cut.

    Parameters
    ----------
    campaign : str
    name : str
        Property, as in the targets.
    gated : ResolvedReference
        Output of gate, with its reference (see :mod:`workflows.stages.phonon`).
    """
    from workflows.engines.registry import make_engine

    spec = ledger.campaign_spec(current_task().launchpad.db, campaign)
    if not gated.value["inside"]:
        return Response(output=None)
    engine = make_engine(spec.engine, spec.protocol)
    return Response(replace=engine.property_maker(name).make(gated.reference["structure"]))
