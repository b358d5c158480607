"""feedback: closes the round, lets the generator learn from every verdict, opens the next round."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import job

from workflows import ledger
from workflows.records import Candidate, Round, Verdict, now
from workflows.runtime.accounting import balance, total_core_hours
from workflows.runtime.context import current_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from fireworks import LaunchPad
    from pymongo.database import Database

    from generators.base import Labelled
    from workflows.runtime.blobs import Blobs
    from workflows.spec import CampaignSpec


@job
def feedback(campaign: str, round_number: int, judged: list[Any], open_next: Callable[..., bool]) -> dict[str, Any]:
    """Close the round and open the next one; running it again changes nothing.

    Parameters
    ----------
    judged : list
        Outputs of the round's judges; they only order the graph.
    open_next : callable
        ``open_next(launchpad, campaign, number, generator_state, control_state)`` claims a round and adds its workflow.

    Returns
    -------
    dict
        The round's summary, and what became of the campaign: ``next``.
    """
    del judged
    task = current_task()
    launchpad = task.launchpad
    spec = ledger.campaign_spec(launchpad.db, campaign)
    closed = close_round(launchpad.db, task.files, spec, round_number)
    return {
        "summary": closed.summary.model_dump() if closed.summary else None,
        "next": _go_on(launchpad, spec, closed, open_next),
    }


def close_round(database: Database[Any], files: Blobs, spec: CampaignSpec, number: int) -> Round:
    """Learn from the round's verdicts and the late ones of earlier rounds, and store the summary, once.

    A round that is closed already is returned as it is: it is never reopened.
    """
    from workflows.generator_states import load_state, save_state, updates_of
    from workflows.summary import summarise

    current = ledger.get_round(database, spec.name, number)
    if current is None:
        raise RuntimeError(f"round {number} of {spec.name} was never claimed")
    if current.state == "closed":
        return current
    # what an interrupted run of this very feedback counted already is counted again, nothing else twice
    countable = {"counted_in": {"$in": [None, number]}}
    own = ledger.read_verdicts(database, spec.name, round=number, **countable)
    late = ledger.read_verdicts(database, spec.name, round={"$lt": number}, late=True, **countable)
    verdicts = own + late
    database.verdicts.update_many(
        {"candidate": {"$in": [v.candidate for v in verdicts]}, "counted_in": None}, {"$set": {"counted_in": number}}
    )
    proposed = list(ledger.read_candidates(database, spec.name, number, control=False))
    labelled = labelled_from(database, proposed, verdicts)
    generator = load_state(files, current.generator_state).update(labelled)
    state = save_state(files, generator)
    summary = summarise(database, spec, number, late=len(late))
    database.rounds.update_one(
        {"campaign": spec.name, "round": number, "state": {"$ne": "closed"}},
        {
            "$set": {
                "state": "closed",
                "closed_at": now(),
                "summary": summary.model_dump(),
                "learned": {
                    "state": state,
                    "verdicts": len(verdicts),
                    "good": sum(v.stable for v in verdicts),
                    "failed": sum(not v.verified for v in verdicts),
                    "updates": updates_of(generator),
                },
            }
        },
    )
    balance(database, spec.name)
    closed = ledger.get_round(database, spec.name, number)
    assert closed is not None  # noqa: S101 - it was read above
    return closed


def labelled_from(database: Database[Any], proposed: list[Candidate], verdicts: list[Verdict]) -> list[Labelled]:
    """Translate records into what generators learn from: generators know nothing of workflows.

    Parameters
    ----------
    proposed : list of Candidate
        All of the round's; what was never verified teaches not to propose it again.
    verdicts : list of Verdict
        The round's, and late ones of earlier rounds.
    """
    from pymatgen.core import Structure

    from generators.base import Labelled

    judged = {v.candidate for v in verdicts}
    labelled = [
        Labelled(
            candidate=c.candidate,
            structure=Structure.from_dict(c.structure),
            generator=c.generator,
            info=c.info,
            novel=c.select.novel if c.select else None,
            screened_above_hull_ev_per_atom=c.select.screening_e_hull_ev_per_atom if c.select else None,
        )
        for c in proposed
        if c.candidate not in judged
    ]
    for verdict in verdicts:
        candidate = ledger.get_candidate(database, verdict.candidate)
        labelled.append(
            Labelled(
                candidate=verdict.candidate,
                structure=Structure.from_dict(verdict.structure or candidate.structure),
                generator=candidate.generator,
                info=candidate.info,
                energy_above_hull_ev_per_atom=verdict.energy_above_hull_ev_per_atom,
                stable=verdict.stable if verdict.verified else None,
                novel=candidate.select.novel and verdict.known_as is None if candidate.select else None,
                hit=verdict.hit if verdict.verified else None,
                properties={name: found.value for name, found in verdict.properties.items()},
                cause=verdict.cause.code if verdict.cause else None,
                screened_above_hull_ev_per_atom=candidate.select.screening_e_hull_ev_per_atom
                if candidate.select
                else None,
            )
        )
    return sorted(labelled, key=lambda one: one.candidate)


def _go_on(launchpad: LaunchPad, spec: CampaignSpec, closed: Round, open_next: Callable[..., bool]) -> str:
    """Open the next round, or say why the campaign ends here."""
    campaigns = launchpad.db.campaigns
    if closed.round >= spec.rounds:
        campaigns.update_one({"name": spec.name}, {"$set": {"state": "finished", "why": "all rounds are done"}})
        return "finished"
    if spec.budget.hours is not None:
        spent = total_core_hours(launchpad.db, spec.name)
        if spent >= spec.budget.hours:
            why = f"{spent:.2f} of {spec.budget.hours:g} core-hours are spent"
            campaigns.update_one({"name": spec.name}, {"$set": {"state": "stopped", "why": why}})
            return f"stopped: {why}"
    added = open_next(launchpad, spec.name, closed.round + 1, closed.learned["state"], closed.generator_state)
    return f"round {closed.round + 1} {'opened' if added else 'was open already'}"
