"""Whether what a user names is there at all: that nothing of it failed would be true, and no help."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workflows.monitor.selector import SelectorError

if TYPE_CHECKING:
    from pymongo.database import Database

    from workflows.monitor.selector import Selector

_ID = {"_id": 0, "candidate": 1}
_FEW = 5


def refuse_unknown(database: Database[Any], selector: Selector) -> None:
    """Refuse a candidate that a campaign has not, and rounds of which it has none.

    Parameters
    ----------
    database : pymongo.database.Database
    selector : Selector

    Raises
    ------
    SelectorError
        With what there is.
    """
    campaign = {"campaign": selector.campaign}
    if selector.rounds:
        known = sorted(database.rounds.distinct("round", campaign))
        if not set(known) & set(selector.rounds):
            asked = ", ".join(map(str, selector.rounds[:_FEW]))
            there = (
                f"it has {known[0]} to {known[-1]}" if known[1:] else "it has round 1 alone" if known else "it has none"
            )
            raise SelectorError(f"--round: campaign {selector.campaign} has no round {asked}; {there} so far")
    if selector.candidates:
        named = {**campaign, "candidate": {"$in": list(selector.candidates)}}
        missing = set(selector.candidates) - {one["candidate"] for one in database.candidates.find(named, _ID)}
        if missing:
            ends = [database.candidates.find_one(campaign, _ID, sort=[("candidate", order)]) for order in (1, -1)]
            there = "it has none" if None in ends else f"it has {' to '.join(end['candidate'] for end in ends if end)}"
            asked = ", ".join(sorted(missing)[:_FEW])
            raise SelectorError(f"--candidate: campaign {selector.campaign} has no {asked}; {there} so far")
