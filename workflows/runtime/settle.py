"""Finish what a workflow update left half done, from facts alone: stored launches, fireworks and links.

FireWorks writes an update one document after another, under a lock: first fireworks (new children, then the firework
itself, then changed ones), then the workflow document, which alone knows links. A crash in between leaves the lock
behind, so the lock marks exactly the workflows to look at. Writes that were lost are made again:

* a firework that is done while its workflow does not know it yet: what its launch decided is applied again, whole;
  children of the first try that no workflow links are orphans, which repair removes;
* a firework that was reset while its workflow still says done: a re-run broke off. If the one that was to run again
  may do so already, the re-run is finished, or its children would be taken for done; else it is undone.

Until then fireworks that the broken update made READY too early are held back, for FireWorks refuses a detour before
children that may run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pymongo import DESCENDING

from workflows.runtime import identity
from workflows.runtime.launchpad import CLAIMED_BY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from workflows.runtime.launchpad import CampaignLaunchPad

DONE = frozenset({"COMPLETED", "FIZZLED"})
RESTING = frozenset({"DEFUSED", "PAUSED", "ARCHIVED"})
_CLAIM_PATIENCE_S = 5.0


class NotNow(Exception):  # noqa: N818 - not an error
    """A live worker is between claiming a firework of this workflow and writing its launch; try again later."""


def span(fw_ids: Iterable[int]) -> dict[str, Any]:
    """Select fireworks by the range that holds their ids, others in between included.

    A workflow's ids lie close together, while a list of thousands costs a server minutes that compares them one by one.
    """
    ids = list(fw_ids)
    return {"fw_id": {"$gte": min(ids), "$lte": max(ids)}}


def settle(
    launchpad: CampaignLaunchPad,
    workflow: dict[str, Any],
    is_dead: Callable[[str | None], bool] = identity.is_dead,
) -> str:
    """Bring a workflow whose lock is held by the caller to the state that an undisturbed update would have left.

    Parameters
    ----------
    launchpad : CampaignLaunchPad
        Holding the lock, see ``taken_over``.
    workflow : dict
        The workflow document.
    is_dead : callable
        Tells by the name that it signs with whether a process is known to be gone.

    Returns
    -------
    str
        What was done, in words.

    Raises
    ------
    NotNow
        If a live worker is claiming one of its fireworks just now.
    """
    nodes: list[int] = workflow["nodes"]
    known = {int(fw_id): state for fw_id, state in workflow["fw_states"].items()}
    parents = {int(child): ids for child, ids in workflow["parent_links"].items()}
    _hold_back(launchpad, known, parents)
    facts = _claims_written(launchpad, nodes, is_dead)

    unapplied = [fw_id for fw_id in nodes if facts[fw_id] in DONE and known[fw_id] not in DONE]
    # FireWorks acts on a change of state: as if it were still running
    launchpad.fireworks.update_many(
        {"fw_id": {"$in": unapplied}, "state": {"$in": list(DONE)}, "launches": {"$ne": []}},
        {"$set": {"state": "RUNNING"}},
    )
    reset = [fw_id for fw_id in nodes if known[fw_id] in DONE and facts[fw_id] not in DONE | RESTING]
    # of what a re-run resets, only its root is written as anything but WAITING
    begun = any(facts[fw_id] != "WAITING" for fw_id in reset)
    if not begun:
        reset = [fw_id for fw_id in reset if not _put_back(launchpad, fw_id, known[fw_id])]
    unloadable = launchpad.fireworks.find({**span(nodes), "state": {"$in": list(DONE)}, "launches": []}, {"fw_id": 1})
    unbacked = {fw["fw_id"] for fw in unloadable}
    wf = launchpad.get_wf_by_fw_id_lzyfw(nodes[0])
    updated: set[int] = set()
    for fw_id in reset:
        wf.fw_states[fw_id] = facts[fw_id]  # or whatever is refreshed before it would take it for done
    for fw_id in reset:
        for child in wf.links[fw_id]:
            if wf.id_fw[child].state != "WAITING":
                updated |= set(wf.rerun_fw(child, updated))
    for fw_id in sorted(nodes):
        state = wf.id_fw[fw_id].state
        if state == "RESERVED" or fw_id in unbacked:
            # refresh would make READY what somebody has claimed, or what FireWorks could not even load
            wf.fw_states[fw_id] = state
        elif state not in DONE or wf.fw_states[fw_id] != state:
            updated |= set(wf.refresh(fw_id, updated))
    launchpad._update_wf(wf, list(updated))  # noqa: SLF001 - FireWorks has no public way
    parts = [f"re-applied {unapplied}"] * bool(unapplied) + [f"settled the re-run of {reset}"] * bool(reset)
    return "; ".join(parts) or "nothing was lost"


def _hold_back(launchpad: CampaignLaunchPad, known: dict[int, str], parents: dict[int, list[int]]) -> None:
    """Make READY fireworks WAITING whose parents the workflow does not know to be done."""
    early = {fw_id for fw_id, ids in parents.items() if any(known[parent] not in DONE for parent in ids)}
    for fw in list(launchpad.fireworks.find({**span(known), "state": "READY"}, {"fw_id": 1})):
        if fw["fw_id"] in early:
            launchpad.fireworks.update_one({"fw_id": fw["fw_id"], "state": "READY"}, {"$set": {"state": "WAITING"}})


def _put_back(launchpad: CampaignLaunchPad, fw_id: int, state: str) -> bool:
    """Undo the reset of a firework: its latest launch counts again."""
    firework = launchpad.fireworks.find_one({"fw_id": fw_id}, {"archived_launches": 1})
    launch = firework and launchpad.launches.find_one(
        {"launch_id": {"$in": firework["archived_launches"]}, "state": state}, sort=[("launch_id", DESCENDING)]
    )
    if not launch:
        return False
    launchpad.fireworks.update_one(
        {"fw_id": fw_id, "state": "WAITING"},
        {
            "$set": {"state": state, "launches": [launch["launch_id"]]},
            "$pull": {"archived_launches": launch["launch_id"]},
        },
    )
    return True


def _claims_written(
    launchpad: CampaignLaunchPad, nodes: list[int], is_dead: Callable[[str | None], bool]
) -> dict[int, str]:
    """Read the fireworks' states once nobody alive is between a claim and its launch, in which nobody may write."""
    fields = {"fw_id": 1, "state": 1, CLAIMED_BY: 1}
    own = set(nodes)
    deadline = time.monotonic() + _CLAIM_PATIENCE_S
    while True:
        found = [fw for fw in launchpad.fireworks.find(span(nodes), fields) if fw["fw_id"] in own]
        if not any(fw["state"] == "RESERVED" and CLAIMED_BY in fw and not is_dead(fw[CLAIMED_BY]) for fw in found):
            return {fw["fw_id"]: fw["state"] for fw in found}
        if time.monotonic() > deadline:
            raise NotNow
        time.sleep(0.05)
