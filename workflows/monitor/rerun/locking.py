"""What a re-run and its undoing share: a workflow to themselves, in which no worker takes what is being changed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from fireworks.core.launchpad import LockedWorkflowError

from workflows.monitor.rerun.graph import Graph
from workflows.runtime.launchpad import NoWorkflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from pymongo.database import Database

    from workflows.runtime.launchpad import CampaignLaunchPad

_LOCK_PATIENCE_S = 60.0
_GONE = "its job isn't in the database any more"


class NotNowError(Exception):
    """A job can't be re-run, or put back, at the moment; the message says why."""


def attempt_one(launchpad: CampaignLaunchPad, fw_id: int, act: Callable[[], None]) -> str:
    """Do something under the lock of a firework's workflow.

    Parameters
    ----------
    launchpad : CampaignLaunchPad
    fw_id : int
    act : callable
        May raise :class:`NotNowError`.

    Returns
    -------
    str
        Why it was not done; empty if it was.
    """
    try:
        with launchpad.locked(fw_id, _LOCK_PATIENCE_S):
            act()
    except NotNowError as error:
        return str(error)
    except NoWorkflowError:
        return _GONE
    except LockedWorkflowError:
        return "its workflow is being written by somebody else"
    return ""


@contextmanager
def held_back(launchpad: CampaignLaunchPad, fw_ids: Iterable[int]) -> Iterator[list[int]]:
    """Make WAITING what is READY, so that no worker takes it meanwhile; yields what was.

    It is READY again if the block raises :class:`NotNowError`.
    """
    held = []
    ready = launchpad.fireworks.find({"fw_id": {"$in": list(fw_ids)}, "state": "READY"}, {"fw_id": 1})
    for fw_id in sorted(fw["fw_id"] for fw in ready):
        done = launchpad.fireworks.update_one({"fw_id": fw_id, "state": "READY"}, {"$set": {"state": "WAITING"}})
        if done.modified_count:
            held.append(fw_id)
    try:
        yield held
    except NotNowError:
        launchpad.fireworks.update_many({"fw_id": {"$in": held}, "state": "WAITING"}, {"$set": {"state": "READY"}})
        raise


def graph_of(database: Database[Any], fw_id: int) -> Graph:
    """Read the workflow of a firework; :class:`NotNowError` if either is gone."""
    graph = Graph.of(database, fw_id)
    if graph is None or fw_id not in graph.nodes:
        raise NotNowError(_GONE)
    return graph


def state_of(database: Database[Any], fw_id: int) -> str:
    """Read the state of a firework; :class:`NotNowError` if it is gone."""
    found = database.fireworks.find_one({"fw_id": fw_id}, {"_id": 0, "state": 1})
    if found is None:
        raise NotNowError(_GONE)
    return str(found["state"])
