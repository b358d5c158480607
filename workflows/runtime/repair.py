"""Find and mend what a crash leaves in FireWorks; FireWorks' own detectors see none of it.

Everything is decided from facts in the database and from whether processes live (see :mod:`.liveness`), never from
what was meant. So repair may run at any time, twice, or in two processes at once, and may itself be killed.
What nobody signed (plain FireWorks, ``lpad``) is left alone until it has been seen unchanged for a grace.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from fireworks import FWAction
from fireworks.core.launchpad import LockedWorkflowError

from workflows.causes import CAUSES
from workflows.records import Cause, now
from workflows.runtime.identity import BatchJob, ProcessName
from workflows.runtime.launchpad import CLAIMED_BY
from workflows.runtime.liveness import KILLED, Fate, Liveness
from workflows.runtime.losses import why_not_again
from workflows.runtime.settle import NotNow, settle
from workflows.runtime.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from workflows.runtime.launchpad import CampaignLaunchPad

T = TypeVar("T")

GRACE_S = 15.0
"""How long something unsigned must be seen unchanged before it counts as left behind, s."""

_OPEN = ("WAITING", "READY", "RESERVED", "RUNNING", "FIZZLED")
_LOCK_PATIENCE_S = 2.0
_FOREIGN_GRACES = 20
_FEW = 100
_LONGEST_WAIT_S = 130.0
"""How long :func:`until_certain` goes on at most, s: until what can't be judged yet is certain."""
_LEAST_PASSES = 4
_SIGNED = {"$regex": "^nucleate-"}
_RUNNING = {"state": "RUNNING", "fworker.name": _SIGNED}

Kind = Literal["unlaunched", "locked", "orphan", "unapplied", "lost", "failed", "campaign"]


@dataclass(frozen=True)
class Repair:
    """One thing mended.

    Parameters
    ----------
    kind : {"unlaunched", "locked", "orphan", "unapplied", "lost", "failed", "campaign"}
        Reserved without a launch; a lock left behind; a firework without a workflow; a launch whose action was not
        applied; a launch whose process is gone, and its firework runs again; the same, but it makes no sense that it
        does; something of the campaign's own.
    fw_id : int or None
    done : str
        What was found and done, in words.
    code : int or None
        Cause, where a process is gone.
    """

    kind: Kind
    fw_id: int | None
    done: str
    code: int | None = None


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
    liveness : Liveness, optional
        Who tells which processes live; by default one that knows this host's.
    """

    def __init__(
        self,
        launchpad: CampaignLaunchPad,
        *,
        grace_s: float = GRACE_S,
        extra: Sequence[Callable[[CampaignLaunchPad], Sequence[Repair]]] = (),
        campaign: str | None = None,
        dry_run: bool = False,
        liveness: Liveness | None = None,
    ) -> None:
        self.launchpad = launchpad
        self.liveness = liveness or Liveness(launchpad.db)
        self.grace_s = grace_s
        self.extra = extra
        self.campaign = campaign
        self.dry_run = dry_run
        self.watch = Watch()
        self.unknown: dict[str, Fate] = {}
        """Processes that hold something, by name, of which the last pass could not tell whether they live."""
        self._placed: set[int] = set()

    @property
    def pending(self) -> bool:
        """Whether the last pass saw something that may be left behind and whose grace is not over."""
        return bool(self.watch.seen) or self.wait_s > 0

    @property
    def wait_s(self) -> float:
        """How long until the last of the processes that can be judged after a wait is, s."""
        return max((fate.wait_s for fate in self.unknown.values()), default=0.0)

    def forget(self) -> None:
        """Start all graces anew, after the database was away: nobody could have made progress."""
        self.watch.clear()
        self.liveness.forget()

    def run(self, causes: Mapping[str, int] | None = None) -> list[Repair]:
        """Make one pass.

        Parameters
        ----------
        causes : mapping of str to int, optional
            Cause by process name, where somebody knows why this host's process ended.
        """
        self.unknown = {}
        self.liveness.look(self._names())
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

    def _names(self) -> set[str]:
        """List the processes that hold anything."""
        database = self.launchpad.db
        names = {launch["fworker"]["name"] for launch in database.launches.find(_RUNNING, {"fworker.name": 1})}
        names |= {
            fw[CLAIMED_BY]
            for fw in database.fireworks.find({"state": "RESERVED", CLAIMED_BY: _SIGNED}, {CLAIMED_BY: 1})
        }
        locked = database.workflows.find({"locked.by": {"$exists": True}}, {"locked.by": 1})
        return names | {workflow["locked"]["by"] for workflow in locked}

    def _is_dead(self, name: str | None, fw_id: int) -> bool:
        """Tell whether a process is known to be gone; note it if nobody knows."""
        fate = self.liveness.fate(name)
        if name and fate.state == "unknown" and ProcessName.parse(name) and self._wanted(fw_id):
            self.unknown[name] = fate
        return fate.state == "dead"

    def _is_over(self, owner: str | None, fw_id: int, key: tuple[str, Any], looks: Any) -> bool:
        """Tell whether nobody works on something of a firework any more."""
        if owner == self.launchpad.owner or self._is_dead(owner, fw_id):
            return True
        if owner is not None and owner.startswith("nucleate-"):
            return False  # alive, or nobody knows
        return self.watch.age_s(key, looks) >= self.grace_s

    def _locks(self) -> list[Repair]:
        """Settle workflows whose lock was left behind."""
        repairs = []
        for workflow in self.launchpad.workflows.find({"locked": {"$exists": True}}):
            lock = workflow["locked"]
            owner = lock.get("by") if isinstance(lock, dict) else None
            key, looks = ("lock", workflow["_id"]), (lock, workflow["updated_on"])
            # a lock may be taken even from the living of another host, who then can't write the workflow any more
            fw_id, what = workflow["nodes"][0], f"lock left by {owner or 'an unnamed process'}"
            is_over = self._is_over(owner, fw_id, key, looks)
            if not is_over and self.watch.age_s(key, looks) < _FOREIGN_GRACES * self.grace_s:
                continue
            if not self._wanted(fw_id):
                continue
            if self.dry_run:
                repairs.append(Repair("locked", fw_id, what))
                continue
            try:
                with self.launchpad.taken_over(workflow) as taken:
                    if taken:
                        repairs.append(
                            Repair(
                                "locked", fw_id, f"{what}: {settle(self.launchpad, workflow, self.liveness.is_dead)}"
                            )
                        )
            except (NotNow, LockedWorkflowError):
                self.watch.age_s(key, looks)
        return repairs

    def _lost_launches(self, causes: Mapping[str, int]) -> list[Repair]:
        """Archive RUNNING launches whose process is gone and let their fireworks run again, if that makes sense."""
        fields = {"launch_id": 1, "fw_id": 1, "fworker.name": 1, "launch_dir": 1}
        lost = []
        for launch in self.launchpad.launches.find(_RUNNING, fields).sort("launch_id", 1):
            name = launch["fworker"]["name"]
            # what we hold ourselves counts as left behind
            if (name == self.launchpad.owner or self._is_dead(name, launch["fw_id"])) and self._wanted(launch["fw_id"]):
                lost.append((launch, name, self._fate(name, causes)))
        jobs = Counter(_job(name) for _, name, fate in lost if fate.whole_job)
        return [
            repair
            for launch, name, fate in lost
            for repair in self._lose(launch, fate, alone=not fate.whole_job or jobs[_job(name)] == 1)
        ]

    def _fate(self, name: str, causes: Mapping[str, int]) -> Fate:
        fate = self.liveness.fate(name)
        if fate.state != "dead":
            fate = Fate("dead", f"process {name} has left it without a result", KILLED)
        return replace(fate, code=causes[name], whole_job=False) if name in causes else fate

    def _lose(self, launch: dict[str, Any], fate: Fate, *, alone: bool) -> list[Repair]:
        launch_id, fw_id = launch["launch_id"], launch["fw_id"]
        code = fate.code or KILLED
        enough = why_not_again(self.launchpad.db, fw_id, launch_id, code, alone=alone)
        evidence = f"{fate.evidence}; {enough}" if enough else fate.evidence
        what = f"launch {launch_id} in {launch['launch_dir']}: {CAUSES[code].name}: {evidence}"
        repair = (
            Repair("failed", fw_id, what, code) if enough else Repair("lost", fw_id, f"{what}; it runs again", code)
        )
        if self.dry_run:
            return [repair]
        # each write is harmless alone and the last one is found again by _unfinished, so a crash in between is, too
        cause = Cause(code=code, name=CAUSES[code].name, evidence=evidence).model_dump()
        attempt = f"fw{fw_id}-l{launch_id}"
        ended = {"$set": {"state": "failed" if enough else "lost", "ended_at": now(), "cause": cause}}
        self.launchpad.db.attempts.update_one({"attempt": attempt, "state": "running"}, ended)
        if enough:
            done = self._fizzle(launch_id, cause)
            lost = None
        else:
            done = self.launchpad.archive_launch(launch_id)
            lost = launch_id
        if not done:
            return []  # somebody else was quicker, or the result came in after all
        # a task that ended moments before its process did: nobody has got what it found, so it has not completed
        self.launchpad.db.attempts.update_one({"attempt": attempt, "state": "completed"}, ended)
        self.launchpad.refresh_without(fw_id, lost, _LOCK_PATIENCE_S)
        return [repair]

    def _fizzle(self, launch_id: int, cause: dict[str, Any]) -> bool:
        """Let a RUNNING launch end as one whose task has raised; false if somebody else was quicker."""
        stamp = now().isoformat()
        told = f"[{cause['code']} {cause['name']}] {cause['evidence']}"
        action = FWAction(
            stored_data={"_message": told, "_exception": {"_stacktrace": told, "_details": cause}}, exit=True
        )
        fizzled = self.launchpad.launches.update_one(
            {"launch_id": launch_id, "state": "RUNNING"},
            {
                "$set": {"state": "FIZZLED", "time_end": stamp, "action": action.to_dict()},
                "$push": {"state_history": {"state": "FIZZLED", "created_on": stamp, "updated_on": stamp}},
            },
        )
        return bool(fizzled.modified_count)

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
        if not self._is_over(owner, fw["fw_id"], ("reserved", fw["fw_id"]), fw["updated_on"]):
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
        over = owner == self.launchpad.owner or self._is_dead(owner, fw_id)
        if not over and self.watch.age_s(key, looks) < self.grace_s:
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


def _job(name: str) -> BatchJob | None:
    process = ProcessName.parse(name)
    return process.job if process else None


def until_certain(repairer: Repairer, one_pass: Callable[[], T]) -> Iterator[T]:
    """Make passes until none of a repairer's graces and waits is left, or about two minutes have passed.

    Parameters
    ----------
    repairer : Repairer
    one_pass : callable
        Calls the repairer's ``run``, and whatever else belongs to a pass.

    Yields
    ------
    Whatever ``one_pass`` gives.
    """
    started = time.monotonic()
    yield one_pass()
    passes = 1
    while repairer.pending:
        longest_s = 2 * repairer.grace_s + _LOCK_PATIENCE_S
        over = time.monotonic() - started > max(longest_s, _LONGEST_WAIT_S if repairer.wait_s else 0.0)
        if over and passes >= _LEAST_PASSES:  # on a busy machine one alone may take as long
            return
        passes += 1
        # what is unsigned is looked at often, for somebody may be at it; what beats every 20 s is not
        time.sleep(min(1.0, repairer.grace_s / 4) if repairer.watch.seen else min(5.0, repairer.wait_s + 0.1))
        yield one_pass()


def repair(
    launchpad: CampaignLaunchPad,
    *,
    grace_s: float = GRACE_S,
    extra: Sequence[Callable[[CampaignLaunchPad], Sequence[Repair]]] = (),
    campaign: str | None = None,
    dry_run: bool = False,
    wait: bool = True,
) -> list[Repair]:
    """Mend what a crash has left; with ``wait``, stay until all graces are over.

    Parameters are those of :class:`Repairer`.

    Returns
    -------
    list of Repair
        In the order they were done; empty if all was well.
    """
    repairer = Repairer(launchpad, grace_s=grace_s, extra=extra, campaign=campaign, dry_run=dry_run)
    if not wait:
        return repairer.run()
    *earlier, last = until_certain(repairer, repairer.run)
    return last if dry_run else [repair for found in (*earlier, last) for repair in found]
