"""Find and mend what a crash leaves in FireWorks; FireWorks' own detectors see none of it.

Everything is decided from facts in the database and from whether processes live (by host, pid and start time), never
from what was meant. So repair may run at any time, twice, or in two processes at once, and may itself be killed.
What nobody signed (plain FireWorks, ``lpad``) is left alone until it has been seen unchanged for a grace.
"""

from __future__ import annotations

import re
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from fireworks.core.launchpad import LockedWorkflowError

from workflows.causes import CAUSES
from workflows.records import Cause, now
from workflows.runtime.identity import is_dead
from workflows.runtime.launchpad import CLAIMED_BY
from workflows.runtime.settle import NotNow, settle
from workflows.runtime.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from workflows.runtime.launchpad import CampaignLaunchPad

GRACE_S = 15.0
"""How long something unsigned must be seen unchanged before it counts as left behind, s."""

_KILLED = 106
_OPEN = ("WAITING", "READY", "RESERVED", "RUNNING", "FIZZLED")
_LOCK_PATIENCE_S = 2.0
_FOREIGN_GRACES = 20
_FEW = 100

Kind = Literal["unlaunched", "locked", "orphan", "unapplied", "lost", "campaign"]


@dataclass(frozen=True)
class Repair:
    """One thing mended.

    Parameters
    ----------
    kind : {"unlaunched", "locked", "orphan", "unapplied", "lost", "campaign"}
        Reserved without a launch; a lock left behind; a firework without a workflow; a launch whose action was not
        applied; a launch whose process is gone; something of the campaign's own.
    fw_id : int or None
    done : str
        What was found and done, in words.
    """

    kind: Kind
    fw_id: int | None
    done: str


class Repairer:
    """Repairs again and again, remembering between passes what looked left behind.

    Parameters
    ----------
    launchpad : CampaignLaunchPad
        Its owner must not be in the middle of a launch: what it holds counts as left behind.
    grace_s : float
        See :data:`GRACE_S`.
    extra : sequence of callables
        ``hook(launchpad) -> repairs``, called last in each pass.
    campaign : str, optional
        Mend only what belongs to it.
    dry_run : bool
        Only say what would be done; hooks are not called.
    """

    def __init__(
        self,
        launchpad: CampaignLaunchPad,
        *,
        grace_s: float = GRACE_S,
        extra: Sequence[Callable[[CampaignLaunchPad], Sequence[Repair]]] = (),
        campaign: str | None = None,
        dry_run: bool = False,
    ) -> None:
        self.launchpad = launchpad
        self.grace_s = grace_s
        self.extra = extra
        self.campaign = campaign
        self.dry_run = dry_run
        self.watch = Watch()
        self._placed: set[int] = set()

    @property
    def pending(self) -> bool:
        """Whether the last pass saw something that may be left behind and whose grace is not over."""
        return bool(self.watch.seen)

    def forget(self) -> None:
        """Start all graces anew, after the database was away: nobody could have made progress."""
        self.watch = Watch()

    def run(self, causes: Mapping[str, int] | None = None) -> list[Repair]:
        """Make one pass.

        Parameters
        ----------
        causes : mapping of str to int, optional
            Cause by process name, where it is known why a process ended; 106 (killed) otherwise.
        """
        repairs = [
            *self._locks(),
            *self._lost_launches(causes or {}),
            *self._unfinished(),
            *self._orphans(),
        ]
        for hook in () if self.dry_run else self.extra:
            repairs.extend(hook(self.launchpad))
        self.watch.forget_others()
        return repairs

    def _wanted(self, fw_id: int) -> bool:
        query = {"fw_id": fw_id, "spec.nucleate.campaign": self.campaign}
        return self.campaign is None or self.launchpad.fireworks.find_one(query, {"_id": 1}) is not None

    def _is_over(self, owner: str | None, key: tuple[str, Any], looks: Any) -> bool:
        """Tell whether nobody works on something any more."""
        if owner == self.launchpad.owner or is_dead(owner):
            return True
        if owner is not None and owner.startswith("nucleate-"):
            return False  # alive here, or on a host that we can't look into
        return self.watch.age_s(key, looks) >= self.grace_s

    def _locks(self) -> list[Repair]:
        """Settle workflows whose lock was left behind."""
        repairs = []
        for workflow in self.launchpad.workflows.find({"locked": {"$exists": True}}):
            lock = workflow["locked"]
            owner = lock.get("by") if isinstance(lock, dict) else None
            key, looks = ("lock", workflow["_id"]), (lock, workflow["updated_on"])
            # a lock may be taken even from the living of another host, who then can't write the workflow any more
            if not self._is_over(owner, key, looks) and self.watch.age_s(key, looks) < _FOREIGN_GRACES * self.grace_s:
                continue
            fw_id, what = workflow["nodes"][0], f"lock left by {owner or 'an unnamed process'}"
            if not self._wanted(fw_id):
                continue
            if self.dry_run:
                repairs.append(Repair("locked", fw_id, what))
                continue
            try:
                with self.launchpad.taken_over(workflow) as taken:
                    if taken:
                        repairs.append(Repair("locked", fw_id, f"{what}: {settle(self.launchpad, workflow)}"))
            except (NotNow, LockedWorkflowError):
                self.watch.age_s(key, looks)
        return repairs

    def _lost_launches(self, causes: Mapping[str, int]) -> list[Repair]:
        """Archive RUNNING launches whose process is gone and let their fireworks run again."""
        mine = f"^nucleate-{re.escape(socket.gethostname())}-"
        repairs = []
        for launch in self.launchpad.launches.find(
            {"state": "RUNNING", "fworker.name": {"$regex": mine}},
            {"launch_id": 1, "fw_id": 1, "fworker.name": 1, "launch_dir": 1},
        ):
            name = launch["fworker"]["name"]
            if (name != self.launchpad.owner and not is_dead(name)) or not self._wanted(launch["fw_id"]):
                continue
            repairs.extend(self._lose(launch, name, causes.get(name, _KILLED)))
        return repairs

    def _lose(self, launch: dict[str, Any], name: str, code: int) -> list[Repair]:
        launch_id, fw_id = launch["launch_id"], launch["fw_id"]
        # each write is harmless alone and the last one is found again by _unfinished, so a crash in between is, too
        evidence = f"process {name} is gone and left no result"
        repair = Repair("lost", fw_id, f"launch {launch_id} in {launch['launch_dir']}: {evidence}; it runs again")
        if self.dry_run:
            return [repair]
        self.launchpad.db.attempts.update_one(
            {"attempt": f"fw{fw_id}-l{launch_id}", "state": "running"},
            {
                "$set": {
                    "state": "lost",
                    "ended_at": now(),
                    "cause": Cause(code=code, name=CAUSES[code].name, evidence=evidence).model_dump(),
                }
            },
        )
        if not self.launchpad.archive_launch(launch_id):
            return []  # somebody else was quicker, or the result came in after all
        self.launchpad.refresh_without(fw_id, launch_id, _LOCK_PATIENCE_S)
        return [repair]

    def _unfinished(self) -> list[Repair]:
        """Mend fireworks that are RESERVED without a launch, or RUNNING with none that runs."""
        fields = {"fw_id": 1, "state": 1, "launches": 1, "updated_on": 1, CLAIMED_BY: 1}
        fireworks = list(self.launchpad.fireworks.find({"state": {"$in": ["RESERVED", "RUNNING"]}}, fields))
        ids = [launch_id for fw in fireworks for launch_id in fw["launches"]]
        launches = {
            launch["launch_id"]: launch
            for launch in self.launchpad.launches.find(
                {"launch_id": {"$in": ids}}, {"launch_id": 1, "state": 1, "fworker.name": 1}
            )
        }
        repairs = []
        for fw in fireworks:
            own = [launches[i] for i in fw["launches"] if i in launches]
            if any(launch["state"] in {"RUNNING", "RESERVED"} for launch in own):
                continue  # runs, or waits in a queue
            if not self._wanted(fw["fw_id"]):
                continue
            if fw["state"] == "RESERVED":
                repairs.extend(self._release(fw))
            else:
                repairs.extend(self._apply(fw, own))
        return repairs

    def _release(self, fw: dict[str, Any]) -> list[Repair]:
        owner = fw.get(CLAIMED_BY)
        if not self._is_over(owner, ("reserved", fw["fw_id"]), fw["updated_on"]):
            return []
        repair = Repair("unlaunched", fw["fw_id"], "reserved but never launched: READY again")
        if self.dry_run:
            return [repair]
        released = self.launchpad.fireworks.update_one(
            {"fw_id": fw["fw_id"], "state": "RESERVED", "updated_on": fw["updated_on"]},
            {"$set": {"state": "READY"}, "$unset": {CLAIMED_BY: ""}},
        )
        return [repair] if released.modified_count else []

    def _apply(self, fw: dict[str, Any], launches: list[dict[str, Any]]) -> list[Repair]:
        fw_id = fw["fw_id"]
        owner = launches[-1]["fworker"]["name"] if launches else None
        states = [launch["state"] for launch in launches]
        # its process may be just about to do the same, which is harmless: let it, unless it takes too long
        key, looks = ("running", fw_id), (fw["updated_on"], states)
        if not is_dead(owner) and owner != self.launchpad.owner and self.watch.age_s(key, looks) < self.grace_s:
            return []
        if not self.dry_run and not self.launchpad.refresh_without(fw_id, patience_s=_LOCK_PATIENCE_S):
            self.watch.age_s(key, looks)
            return []
        what = "its result was stored but not applied" if set(states) & {"COMPLETED", "FIZZLED"} else "nobody runs it"
        return [Repair("unapplied", fw_id, f"RUNNING, {what}: refreshed")]

    def _orphans(self) -> list[Repair]:
        """Remove fireworks that no workflow links: nobody could ever run them."""
        found = self.launchpad.fireworks.find({"state": {"$in": list(_OPEN)}}, {"fw_id": 1})
        loose = []
        for fw_id in sorted(fw["fw_id"] for fw in found):
            if fw_id not in self._placed:
                # one look-up a workflow, not a list of thousands of ids: see settle.span
                nodes = self._nodes(fw_id)
                self._placed |= nodes
                loose += [] if nodes else [fw_id]
        old = [fw_id for fw_id in loose if self.watch.age_s(("orphan", fw_id), fw_id) >= self.grace_s]
        doomed = [fw_id for fw_id in old if not self._nodes(fw_id) and self._wanted(fw_id)]
        if not self.dry_run:
            for start in range(0, len(doomed), _FEW):
                ids = {"fw_id": {"$in": doomed[start : start + _FEW]}}
                self.launchpad.launches.delete_many(ids)
                self.launchpad.fireworks.delete_many(ids)
        return [Repair("orphan", fw_id, "no workflow knows it: removed") for fw_id in doomed]

    def _nodes(self, fw_id: int) -> set[int]:
        """Give all fireworks of a firework's workflow; none if it has no workflow."""
        workflow = self.launchpad.workflows.find_one({"nodes": fw_id}, {"nodes": 1})
        return set(workflow["nodes"]) if workflow else set()


def repair(
    launchpad: CampaignLaunchPad,
    *,
    grace_s: float = GRACE_S,
    extra: Sequence[Callable[[CampaignLaunchPad], Sequence[Repair]]] = (),
    campaign: str | None = None,
    dry_run: bool = False,
    wait: bool = True,
) -> list[Repair]:
    """Mend what a crash has left; with ``wait``, stay until the graces of what is unsigned are over.

    Parameters are those of :class:`Repairer`.

    Returns
    -------
    list of Repair
        In the order they were done; empty if all was well.
    """
    repairer = Repairer(launchpad, grace_s=grace_s, extra=extra, campaign=campaign, dry_run=dry_run)
    repairs = repairer.run()
    deadline = time.monotonic() + 2 * grace_s + _LOCK_PATIENCE_S
    while wait and repairer.pending and time.monotonic() < deadline:
        time.sleep(min(1.0, grace_s / 4))
        found = repairer.run()
        repairs = [*(() if dry_run else repairs), *found]
    return repairs
