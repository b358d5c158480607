"""Reads and writes of the campaign's own collections that more than one room needs.

Everything read for a decision is sorted by id, so that an interrupted campaign decides as an undisturbed one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflows.records import Candidate, Round, Verdict
from workflows.spec import CampaignSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import BaseModel
    from pymongo.database import Database

_NO_ID = {"_id": 0}


class NoSuchCampaignError(LookupError):
    """No campaign of that name is in the store."""


def campaign_document(database: Database[Any], name: str) -> dict[str, Any]:
    """Give the stored campaign.

    Raises
    ------
    NoSuchCampaignError
        With the names that there are.
    """
    found = database.campaigns.find_one({"name": name}, _NO_ID)
    if found is None:
        known = sorted(c["name"] for c in database.campaigns.find({}, {"name": 1}))
        raise NoSuchCampaignError(f"no campaign {name!r} in this store; there are: {', '.join(known) or 'none'}")
    return dict(found)


def campaign_spec(database: Database[Any], name: str) -> CampaignSpec:
    """Give the spec of a stored campaign."""
    return CampaignSpec.model_validate(campaign_document(database, name)["spec"])


def get_round(database: Database[Any], campaign: str, number: int) -> Round | None:
    """Give a round's record, or ``None`` if nobody has claimed it."""
    found = database.rounds.find_one({"campaign": campaign, "round": number}, _NO_ID)
    return Round.model_validate(found) if found else None


def read_candidates(
    database: Database[Any],
    campaign: str,
    number: int | dict[str, Any],
    *,
    control: bool | None = None,
    indices: Iterable[int] | None = None,
) -> Iterator[Candidate]:
    """Yield candidates of a round (or of rounds, by a query such as ``{"$lt": 3}``), sorted by round and index.

    Parameters
    ----------
    control : bool, optional
        Only controls, or only candidates that count; both if not given.
    indices : iterable of int, optional
        Only these indices.
    """
    query: dict[str, Any] = {"campaign": campaign, "round": number}
    if control is not None:
        query["control"] = control
    if indices is not None:
        query["index"] = {"$in": sorted(indices)}
    cursor = database.candidates.find(query, _NO_ID).sort([("round", 1), ("control", 1), ("index", 1)])
    for document in cursor:
        yield Candidate.model_validate(document)


def write_block(database: Database[Any], candidate: str, name: str, block: BaseModel) -> None:
    """Write one stage's block of a candidate; writing the same again changes nothing."""
    database.candidates.update_one({"candidate": candidate}, {"$set": {name: block.model_dump()}})


def read_verdicts(database: Database[Any], campaign: str, **query: Any) -> list[Verdict]:
    """Read verdicts, sorted by candidate."""
    cursor = database.verdicts.find({"campaign": campaign, **query}, _NO_ID).sort("candidate", 1)
    return [Verdict.model_validate(document) for document in cursor]


def get_candidate(database: Database[Any], candidate: str) -> Candidate:
    """Give one candidate by its id.

    Raises
    ------
    LookupError
        If there is none.
    """
    found = database.candidates.find_one({"candidate": candidate}, _NO_ID)
    if found is None:
        raise LookupError(f"no candidate {candidate!r} in this store")
    return Candidate.model_validate(found)
