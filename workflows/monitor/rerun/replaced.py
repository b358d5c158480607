"""Children that a job adds anew: the old ones leave the workflow, with their launches kept, and can come back.

A job whose children exist adds none (see :mod:`workflows.runtime.firetask`), so a re-run whose inputs have changed
would run children that were made from the old ones. They are archived and unlinked: nothing waits for them, and they
are not deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from pymongo.database import Database

    from workflows.monitor.rerun.graph import Graph
    from workflows.runtime.launchpad import CampaignLaunchPad


def room_of(
    database: Database[Any], graph: Graph, replaced: Collection[int], held: Collection[int]
) -> dict[str, Any] | None:
    """Describe what leaves a workflow, so that it can come back.

    Parameters
    ----------
    database : pymongo.database.Database
    graph : Graph
    replaced : collection of int
        Fireworks that leave.
    held : collection of int
        Those of them that were READY and are held back.

    Returns
    -------
    dict or None
        ``states``, ``known`` (by the workflow), ``links`` that touch them, ``attempts`` that no longer count.
    """
    gone = sorted(fw_id for fw_id in replaced if fw_id in graph.nodes)
    if not gone:
        return None
    workflow = database.workflows.find_one({"nodes": gone[0]}, {"links": 1, "fw_states": 1}) or {}
    attempts = database.attempts.find({"fw_id": {"$in": gone}, "replaced": {"$ne": True}}, {"attempt": 1})
    return {
        "states": {str(i): "READY" if i in held else graph.nodes[i].state for i in gone},
        "known": {str(i): workflow["fw_states"][str(i)] for i in gone},
        "links": {
            parent: [child for child in children if int(parent) in replaced or child in replaced]
            for parent, children in workflow["links"].items()
            if int(parent) in replaced or set(children) & set(replaced)
        },
        "attempts": sorted(a["attempt"] for a in attempts),
    }


def make_room(launchpad: CampaignLaunchPad, fw_id: int, room: dict[str, Any]) -> None:
    """Take children out of a workflow whose lock is held; doing it again changes nothing."""
    gone = {int(name) for name in room["states"]}
    launchpad.fireworks.update_many({"fw_id": {"$in": sorted(gone)}}, {"$set": {"state": "ARCHIVED"}})
    launchpad.db.attempts.update_many({"attempt": {"$in": room["attempts"]}}, {"$set": {"replaced": True}})
    workflow = _workflow(launchpad, fw_id)
    links = {
        parent: [child for child in children if child not in gone]
        for parent, children in workflow["links"].items()
        if int(parent) not in gone
    }
    states = {name: state for name, state in workflow["fw_states"].items() if int(name) not in gone}
    _write(launchpad, fw_id, [node for node in workflow["nodes"] if node not in gone], links, states)


def give_back_room(launchpad: CampaignLaunchPad, fw_id: int, room: dict[str, Any]) -> None:
    """Put children back into a workflow whose lock is held; doing it again changes nothing."""
    workflow = _workflow(launchpad, fw_id)
    nodes = sorted({*workflow["nodes"], *(int(name) for name in room["states"])})
    links: dict[str, list[int]] = {name: list(children) for name, children in workflow["links"].items()}
    for parent, children in room["links"].items():
        known = links.setdefault(parent, [])
        known += [child for child in children if child not in known]
    _write(launchpad, fw_id, nodes, links, {**workflow["fw_states"], **room["known"]})
    launchpad.db.attempts.update_many({"attempt": {"$in": room["attempts"]}}, {"$set": {"replaced": False}})
    for name, state in room["states"].items():
        launchpad.fireworks.update_one({"fw_id": int(name), "state": "ARCHIVED"}, {"$set": {"state": state}})


def _workflow(launchpad: CampaignLaunchPad, fw_id: int) -> dict[str, Any]:
    found: dict[str, Any] = launchpad.workflows.find_one({"nodes": fw_id}, {"nodes": 1, "links": 1, "fw_states": 1})
    return found


def _write(
    launchpad: CampaignLaunchPad, fw_id: int, nodes: Iterable[int], links: dict[str, list[int]], states: dict[str, str]
) -> None:
    parents: dict[str, list[int]] = {}
    for parent, children in links.items():
        for child in children:
            parents.setdefault(str(child), []).append(int(parent))
    launchpad.workflows.update_one(
        {"nodes": fw_id},
        {"$set": {"nodes": list(nodes), "links": links, "parent_links": parents, "fw_states": states}},
    )
