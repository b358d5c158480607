"""phonon: for what is inside the hull cut, the engine's phonon flow takes this job's place."""

from __future__ import annotations

from typing import Any

from jobflow import Response, job

from workflows import ledger
from workflows.runtime.context import current_task


@job
def phonon(campaign: str, gated: Any) -> Response:
    """Replace itself by the engine's phonon flow, or finish at once where there is nothing to do.

    Parameters
    ----------
    campaign : str
    gated : ResolvedReference
        Output of gate, with its reference: the flow refers to the relaxed structure instead of holding a copy, so that
        a re-run of the relaxation reaches it.
    """
    from workflows.engines.registry import make_engine

    spec = ledger.campaign_spec(current_task().launchpad.db, campaign)
    if not gated.value["inside"] or spec.targets.phonons == "any":
        return Response(output=None)
    engine = make_engine(spec.engine, spec.protocol)
    return Response(replace=engine.phonon_maker().make(gated.reference["structure"]))
