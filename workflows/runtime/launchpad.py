"""A LaunchPad that signs what it holds: claims and workflow locks carry the name of the process that made them.

FireWorks' own are anonymous: RESERVED says nothing of who reserved, ``locked: True`` nothing of who locked, so nobody
can tell a crash from a slow worker. Documents stay FireWorks' own and mix with those of plain FireWorks and ``lpad``.
"""

from __future__ import annotations

import random
import time
import traceback
import uuid
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from fireworks import Firework, LaunchPad
from fireworks.core.launchpad import LockedWorkflowError
from pymongo import DESCENDING
from pymongo.errors import ConnectionFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fireworks import FWAction, Workflow

CLAIMED_BY = "claimed_by"
"""Field of a RESERVED firework: who is about to run it. FireWorks drops it when it writes the launch."""

_LOCK_PATIENCE_S = 300.0  # as FireWorks' WFLOCK_EXPIRATION_SECS
_CHOICES = 256
_LOOK_AGAIN_S = 1.0
_LOOKING_SHARE = 0.1
"""How much of a worker's time may go into looking for work: a look costs a server more, the more is READY."""


_TAKEN = "the lock of this workflow was taken from us"


@dataclass
class _Choices:
    """Fireworks that were READY when last looked."""

    query: dict[str, Any]
    fw_ids: list[int]
    until: float
    """Until when they need no second look, monotonic s."""


class NoWorkflowError(ValueError):
    """A firework that is to be changed has no workflow (any more)."""


class DatabaseAway(BaseException):
    """The database went away while FireWorks' documents were being written; the worker waits and repairs.

    Not an ``Exception``: ``Rocket.run`` makes a FIZZLED launch of every one.
    """


GOES_ON = "nucleate_goes_on"
"""Key in the details of an exception whose launch has no result, and whose firework is to run again."""


def goes_on(action: FWAction | None) -> bool:
    """Tell whether a launch that ended with an exception stopped only to go on in another one.

    FireWorks keeps what an exception's ``to_dict`` says beside its traceback.
    """
    details = ((action.stored_data if action else {}).get("_exception") or {}).get("_details")
    return isinstance(details, dict) and bool(details.get(GOES_ON))


class CampaignLaunchPad(LaunchPad):  # type: ignore[misc]  # FireWorks ships no types
    """FireWorks' LaunchPad with signed claims and locks; make one with :meth:`signed`."""

    owner: str
    """Name of this process, see :class:`workflows.runtime.identity.ProcessName`."""
    _held: dict[str, Any] | None = None
    _claimed: Firework | None = None
    _choices: _Choices | None = None

    @classmethod
    def signed(cls, launchpad: LaunchPad, owner: str) -> CampaignLaunchPad:
        """Sign with ``owner`` what is done through the connection of another LaunchPad."""
        made = cls.__new__(cls)
        made.__dict__.update(launchpad.__dict__, owner=owner, backup_launch_data={}, backup_fw_data={})
        return made

    # -- claims -------------------------------------------------------------------------------------------------------

    def claim(self, query: dict[str, Any]) -> Firework | None:
        """Reserve a READY firework, signed; its run is then started by ``Rocket(launchpad, fworker, fw_id)``.

        One whose workflow document isn't there (yet, or any more) is passed over: FireWorks would reserve it, wait
        300 s for the workflow and then fizzle it.

        Parameters
        ----------
        query : dict
            As ``FWorker.query``.

        Returns
        -------
        Firework or None
            ``None`` if nothing is READY.
        """
        passed_over: list[int] = []
        while choices := self._look(query, passed_over):
            while choices.fw_ids:
                fw_id = choices.fw_ids.pop(0)
                if not self.workflows.find_one({"nodes": fw_id}, {"_id": 1}):
                    passed_over.append(fw_id)
                elif claimed := self._claim(fw_id):
                    self._claimed = claimed
                    return claimed
        return None

    def _look(self, query: dict[str, Any], passed_over: list[int]) -> _Choices | None:
        """Give what may be claimed, the most urgent first: as last seen, if that is recent enough."""
        kept = self._choices
        if kept is not None and kept.fw_ids and kept.query == query and time.monotonic() < kept.until:
            return kept
        begun = time.monotonic()
        wanted = {**query, "state": "READY"}
        if passed_over:
            wanted = {"$and": [wanted, {"fw_id": {"$nin": passed_over}}]}
        order = [("spec._priority", DESCENDING)]
        found = list(self.fireworks.find(wanted, {"fw_id": 1, "spec._priority": 1}, sort=order, limit=_CHOICES))
        # workers that look at the same time try them in different orders, so that few claims are lost
        random.shuffle(found)
        found.sort(key=lambda fw: -(fw.get("spec", {}).get("_priority") or 0))
        took_s = time.monotonic() - begun
        until = time.monotonic() + max(_LOOK_AGAIN_S, took_s / _LOOKING_SHARE)
        self._choices = _Choices(query, [fw["fw_id"] for fw in found], until)
        return self._choices if found else None

    def _get_a_fw_to_run(
        self, query: dict[str, Any] | None = None, fw_id: int | None = None, checkout: bool = True
    ) -> Firework | None:
        """Hand over what was claimed."""
        claimed, self._claimed = self._claimed, None
        if claimed is not None and claimed.fw_id == fw_id:
            return claimed
        return super()._get_a_fw_to_run(query, fw_id, checkout)

    def _claim(self, fw_id: int) -> Firework | None:
        mine = {"state": "RESERVED", "updated_on": datetime.now(UTC), CLAIMED_BY: self.owner}
        # not findAndModify: the embedded server scans for it, and is many times slower among thousands
        if not self.fireworks.update_one({"fw_id": fw_id, "state": "READY"}, {"$set": mine}).modified_count:
            return None
        try:
            firework = self._load(fw_id)
        except ConnectionFailure:
            raise
        except Exception:  # noqa: BLE001 - any code of any task may be imported here
            # as FireWorks: what can't be loaded fizzles, with the traceback, and does not stop the worker
            detail = {"_message": "FireWork failed to deserialize", "_stacktrace": traceback.format_exc()}
            self.fireworks.update_one(
                {"fw_id": fw_id, "state": "RESERVED"},
                {
                    "$set": {"state": "FIZZLED", "spec._exception_details": detail, "updated_on": datetime.now(UTC)},
                    "$unset": {CLAIMED_BY: ""},
                },
            )
            # no refresh: it would load the firework again
            self.workflows.update_one({"nodes": fw_id}, {"$set": {f"fw_states.{fw_id}": "FIZZLED"}})
            return None
        return firework if self._check_fw_for_uniqueness(firework) else None

    def _load(self, fw_id: int) -> Firework:
        """Load a firework; most have no launches to load with it."""
        document = self.fireworks.find_one({"fw_id": fw_id})
        if document is None or document["launches"] or document["archived_launches"]:
            return self.get_fw_by_id(fw_id)
        return Firework.from_dict(document)

    # -- locks --------------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self, fw_id: int, patience_s: float = _LOCK_PATIENCE_S) -> Iterator[None]:
        """Hold the signed lock of a firework's workflow.

        Raises
        ------
        LockedWorkflowError
            If somebody else kept it for ``patience_s``.
        NoWorkflowError
            If the firework has no workflow.
        """
        held = {"nodes": fw_id, "locked.token": uuid.uuid4().hex}
        deadline = time.monotonic() + patience_s
        pause = 0.02
        while not self.workflows.update_one(
            {"nodes": fw_id, "locked": {"$exists": False}}, {"$set": {"locked": self._signature(held)}}
        ).modified_count:
            if not self.workflows.find_one({"nodes": fw_id}, {"_id": 1}):
                raise NoWorkflowError(f"firework {fw_id} has no workflow")
            if time.monotonic() > deadline:
                raise LockedWorkflowError(f"the workflow of firework {fw_id} is locked by somebody else")
            time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no cryptography
            pause = min(1.0, pause * 1.5)
        with self._holding(held):
            yield

    @contextmanager
    def taken_over(self, workflow: dict[str, Any]) -> Iterator[bool]:
        """Hold a lock that somebody dead left, if it is still the one observed; yields whether we got it.

        Parameters
        ----------
        workflow : dict
            Its document, with ``_id``, ``locked`` and ``updated_on`` as observed.
        """
        held = {"_id": workflow["_id"], "locked.token": uuid.uuid4().hex}
        observed = {name: workflow[name] for name in ("_id", "locked", "updated_on")}
        if not self.workflows.update_one(observed, {"$set": {"locked": self._signature(held)}}).modified_count:
            yield False
            return
        with self._holding(held):
            yield True

    def _signature(self, held: dict[str, Any]) -> dict[str, str]:
        return {"by": self.owner, "token": held["locked.token"]}

    @contextmanager
    def _holding(self, held: dict[str, Any]) -> Iterator[None]:
        self._held = held
        try:
            yield
        except (ConnectionFailure, DatabaseAway):
            # the update is half done: the lock stays, and marks the workflow for repair
            self._held = None
            raise
        finally:
            if self._held is not None:
                self._held = None
                self.workflows.update_one(held, {"$unset": {"locked": ""}})

    def write_and_unlock(self, changes: dict[str, Any]) -> None:
        """Change fields of the workflow whose lock is held and give the lock back, in one write.

        Raises
        ------
        LockedWorkflowError
            If the lock was taken from us.
        """
        update = {"$set": {**changes, "updated_on": datetime.now(UTC)}, "$unset": {"locked": ""}}
        if not self.workflows.update_one(self._held or {}, update).matched_count:
            raise LockedWorkflowError(_TAKEN)
        self._held = None

    def _update_wf(self, wf: Workflow, updated_ids: list[int]) -> None:
        """Write changed fireworks and then the workflow document, the latter only while the lock is still ours.

        Raises
        ------
        LockedWorkflowError
            If the lock was taken from us; what we had to add is done again by repair, from the stored launch.
        """
        if self._held is None:
            super()._update_wf(wf, updated_ids)
            return
        old_new = self._upsert_fws([wf.id_fw[fw_id] for fw_id in updated_ids])
        wf._reassign_ids(old_new)  # noqa: SLF001 - FireWorks has no public way
        document = wf.to_db_dict()
        document["locked"] = self._signature(self._held)
        if not self.workflows.replace_one(self._held, document).matched_count:
            raise LockedWorkflowError(_TAKEN)

    def _upsert_fws(self, fws: list[Firework], reassign_all: bool = False) -> dict[int, int]:
        """Write fireworks, one after another by id; as FireWorks, but found by their index on any server."""
        if reassign_all:
            old_new: dict[int, int] = super()._upsert_fws(fws, reassign_all=True)
            return old_new
        old_new = {}
        for fw in sorted(fws, key=lambda fw: fw.fw_id):
            if fw.fw_id < 0:
                old_new[fw.fw_id] = fw.fw_id = self.get_new_fw_id()
            self.fireworks.replace_one({"fw_id": fw.fw_id}, fw.to_db_dict(), upsert=True)
        return old_new

    def _refresh_wf(self, fw_id: int) -> None:
        """Bring a firework's state into its workflow and act on it, under a signed lock."""
        self.refreshed(fw_id, self.refresh)

    def refreshed(self, fw_id: int, refresh: Callable[[int], None]) -> None:
        """Refresh a firework's workflow in a way of the caller's, and treat what goes wrong as FireWorks does.

        Raises
        ------
        DatabaseAway
            If the connection was lost: FireWorks would mark the firework FIZZLED.
        RuntimeError
            As FireWorks: if the stored action can't be applied, which fizzles the firework.
        """
        try:
            refresh(fw_id)
        except LockedWorkflowError:
            self.m_logger.warning("fw_id %s: its workflow is locked; repair will refresh it", fw_id)
        except ConnectionFailure as error:
            raise DatabaseAway(str(error)) from error
        except Exception as error:
            self.fireworks.update_one({"fw_id": fw_id}, {"$set": {"state": "FIZZLED"}})
            self.workflows.update_one({"nodes": fw_id}, {"$set": {"state": "FIZZLED", f"fw_states.{fw_id}": "FIZZLED"}})
            raise RuntimeError(f"can't refresh the workflow of firework {fw_id}: {error}") from error

    def refresh(self, fw_id: int, patience_s: float = _LOCK_PATIENCE_S) -> None:
        """Refresh a firework's workflow; like ``_refresh_wf``, but errors come as they are."""
        with self.locked(fw_id, patience_s):
            self.refresh_locked(fw_id)

    def refresh_locked(self, fw_id: int) -> None:
        """Refresh a firework's workflow, whose lock is held, as FireWorks does."""
        workflow = self.get_wf_by_fw_id_lzyfw(fw_id)
        self._update_wf(workflow, workflow.refresh(fw_id))

    # -- launches that are over without a result ----------------------------------------------------------------------

    def give_back(self, launch_id: int) -> None:
        """Archive a launch that has no result, so that its firework is READY again; history is kept.

        A crash between the writes leaves a RUNNING firework whose launch is archived, which repair finishes.
        """
        launch = self.launches.find_one({"launch_id": launch_id}, {"fw_id": 1})
        if launch is not None and self.archive_launch(launch_id):
            self.refresh_without(launch["fw_id"], launch_id)

    def archive_launch(self, launch_id: int) -> bool:
        """Archive a RUNNING launch; false if somebody else was quicker, or its result came in after all."""
        stamp = datetime.now(UTC).isoformat()
        entry = {"state": "ARCHIVED", "created_on": stamp, "updated_on": stamp}
        archived = self.launches.update_one(
            {"launch_id": launch_id, "state": "RUNNING"},
            {"$set": {"state": "ARCHIVED", "time_end": stamp}, "$push": {"state_history": entry}},
        )
        return bool(archived.modified_count)

    def refresh_without(self, fw_id: int, lost: int | None = None, patience_s: float = _LOCK_PATIENCE_S) -> bool:
        """Take archived launches from a firework and refresh its workflow; tell whether it was done.

        Parameters
        ----------
        fw_id : int
        lost : int, optional
            A launch that counts as archived, whatever is stored of it.
        patience_s : float
            How long to wait for the workflow's lock, s.
        """
        try:
            with self.locked(fw_id, patience_s):
                fw = self.fireworks.find_one({"fw_id": fw_id}, {"launches": 1, "state": 1}) or {"launches": []}
                over = self.launches.find({"launch_id": {"$in": fw["launches"]}, "state": "ARCHIVED"}, {"launch_id": 1})
                for launch_id in {launch["launch_id"] for launch in over} | ({lost} if lost else set()):
                    self.fireworks.update_one(
                        {"fw_id": fw_id},
                        {"$pull": {"launches": launch_id}, "$addToSet": {"archived_launches": launch_id}},
                    )
                if fw.get("state") == "RUNNING":  # refresh would make READY what somebody has claimed
                    self.refresh_locked(fw_id)
        except (LockedWorkflowError, ValueError):
            return False
        return True

    # -- a database that goes away ------------------------------------------------------------------------------------

    def ping_launch(self, launch_id: int, ptime: datetime | None = None, checkpoint: Any = None) -> None:
        """Say that a launch lives; a missed heartbeat is not worth a job."""
        try:
            super().ping_launch(launch_id, ptime, checkpoint)
        except ConnectionFailure as error:
            self.m_logger.warning("launch %s: no heartbeat (%s)", launch_id, error)

    def complete_launch(self, launch_id: int, action: Any = None, state: str = "COMPLETED") -> Any:
        """Store what a launch did and apply it; one that stopped only to go on later is given back.

        Raises
        ------
        DatabaseAway
            If the connection was lost: the launch is then either stored, and repair applies it, or it is run again.
        """
        try:
            if state == "FIZZLED" and goes_on(action):
                return self.give_back(launch_id)
            return super().complete_launch(launch_id, action, state)
        except ConnectionFailure as error:
            raise DatabaseAway(str(error)) from error
