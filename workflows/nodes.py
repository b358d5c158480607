"""Nodes of clusters on which everything failed: jobs gave up there lately, and none has come to a good end there since.

They get no more pilots, and a status tells of them.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from workflows.records import now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

BAD_STATE = "bad_state"
"""The word of a pilot, in ``reason``, that gave up because of its node."""

BAD_NODE_HOURS = 6.0
"""h after which such a node is tried again."""


def bad_nodes(pilots: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Give the bad nodes among those that pilots ran on.

    Parameters
    ----------
    pilots : iterable of mapping
        Records: cluster, node, host, state, reason, cause, tasks, started_at and ended_at of each.

    Returns
    -------
    dict
        By cluster and node, the record of the last pilot that gave up there.
    """
    lately = _plain(now() - timedelta(hours=BAD_NODE_HOURS))
    ended = [pilot for pilot in pilots if pilot["state"] == "ended" and pilot["ended_at"] is not None]
    bad: dict[tuple[str, str], Mapping[str, Any]] = {}
    for pilot in sorted(ended, key=lambda one: _plain(one["ended_at"])):
        name = pilot.get("node") or pilot["host"]
        if not name:
            continue
        where = (pilot["cluster"], name)
        if pilot["reason"] == BAD_STATE:
            if _plain(pilot["ended_at"]) >= lately:
                bad[where] = pilot
        elif where in bad and _came_to_good(pilot) and _plain(pilot["started_at"]) >= _plain(bad[where]["ended_at"]):
            del bad[where]
    return bad


def _came_to_good(pilot: Mapping[str, Any]) -> bool:
    return bool(pilot["tasks"]) and not pilot["cause"] and pilot["started_at"] is not None


def _plain(moment: datetime) -> datetime:
    """Leave out the zone: times come back from the database without one."""
    return moment.replace(tzinfo=None)
