"""What a store says of fireworks and attempts: before a re-run, after it, and when it was taken back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymongo.database import Database


def everything(database: Database[dict[str, Any]]) -> dict[str, Any]:
    """Read all that a re-run may change, as it is now; times of writing aside."""
    fireworks = {fw["fw_id"]: fw for fw in database.fireworks.find({}, {"_id": 0, "updated_on": 0})}
    workflows = {min(wf["nodes"]): wf for wf in database.workflows.find({}, {"_id": 0, "updated_on": 0})}
    for fw in fireworks.values():
        fw["archived_launches"].sort()
    return {
        "fireworks": fireworks,
        "workflows": {
            key: {
                "nodes": sorted(wf["nodes"]),
                "links": {name: sorted(children) for name, children in wf["links"].items()},
                "parents": {name: sorted(parents) for name, parents in wf["parent_links"].items()},
                "states": wf["fw_states"],
                "locked": "locked" in wf,
            }
            for key, wf in workflows.items()
        },
        "launches": {launch["launch_id"]: launch["state"] for launch in database.launches.find()},
        "attempts": sorted(database.attempts.find({}, {"_id": 0, "started_at": 0}), key=lambda a: a["attempt"]),
    }


def states(database: Database[dict[str, Any]]) -> dict[str, int]:
    """Count fireworks by state."""
    found: dict[str, int] = {}
    for fw in database.fireworks.find({}, {"state": 1}):
        found[fw["state"]] = found.get(fw["state"], 0) + 1
    return found
