"""sample: the generator proposes crystals; each is stored as it comes, a re-run continues from what is stored."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jobflow import job

from generators.base import derive_seed
from workflows import ledger
from workflows.records import Candidate, candidate_id
from workflows.runtime.context import current_task

if TYPE_CHECKING:
    from pymongo.database import Database

    from workflows.spec import CampaignSpec


@job
def sample(campaign: str, round_number: int, after: Any) -> dict[str, int]:
    """Draw the round's candidates, and its controls from the previous round's generator with the same seeds.

    Parameters
    ----------
    after : any
        What has to be done before; only orders the graph.

    Returns
    -------
    dict
        ``sampled`` and ``controls``: how many are stored, how many of them this run added as ``added``.
    """
    del after
    task = current_task()
    database = task.launchpad.db
    spec = ledger.campaign_spec(database, campaign)
    this_round = ledger.get_round(database, campaign, round_number)
    if this_round is None:
        raise RuntimeError(f"round {round_number} of {campaign} was never claimed")
    added = _draw(database, spec, round_number, spec.samples, this_round.generator_state, control=False)
    controls = spec.control if this_round.control_state else 0
    if this_round.control_state:
        added += _draw(database, spec, round_number, controls, this_round.control_state, control=True)
    return {"sampled": spec.samples, "controls": controls, "added": added}


def _draw(database: Database[Any], spec: CampaignSpec, round_number: int, n: int, state: str, *, control: bool) -> int:
    """Upsert samples one by one, from the first index that is missing; return how many were added."""
    from workflows.generator_states import load_state

    stored = {
        c["index"]
        for c in database.candidates.find(
            {"campaign": spec.name, "round": round_number, "control": control}, {"index": 1}
        )
    }
    start = next((i for i in range(n) if i not in stored), n)
    if start == n:
        return 0
    generator = load_state(current_task().files, state)
    condition = spec.condition()
    stream_seed = derive_seed(spec.seed, round_number)
    added = 0
    for drawn in generator.sample(n, condition, stream_seed, start=start):
        candidate = Candidate(
            candidate=candidate_id(spec.name, round_number, drawn.index, control),
            campaign=spec.name,
            round=round_number,
            index=drawn.index,
            control=control,
            generator=drawn.generator,
            generator_version=drawn.version,
            generator_state=state,
            seed=drawn.seed,
            condition=_plain(asdict(condition)),
            info=drawn.info,
            structure=drawn.structure.as_dict(),
            formula=drawn.structure.composition.reduced_formula,
            n_atoms=len(drawn.structure),
        )
        result = database.candidates.update_one(
            {"candidate": candidate.candidate}, {"$setOnInsert": candidate.model_dump()}, upsert=True
        )
        added += result.upserted_id is not None
    return added


def _plain(value: Any) -> Any:
    """Turn tuples into lists, as the database gives them back."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value
