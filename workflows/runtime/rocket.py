"""Run a claimed firework with few writes; what is left in the database is what FireWorks' own Rocket leaves.

FireWorks writes each launch three times over and loads a workflow twice a firework, which with a no-op task is all the
time there is. Here a launch is written when it begins and when it ends, and of a workflow only what changes. The order
of the writes is FireWorks' own, and so is what a kill between any two of them leaves for repair: the launch, the
firework, its children, the workflow.

The short ways are taken where it is certain that FireWorks would do the same. Whatever is unusual goes its way: a spec
that asks for more than a run (:data:`UNUSUAL`) to its Rocket, an action that changes the workflow to its refresh.
"""

from __future__ import annotations

import logging
import threading
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fireworks import FWAction
from fireworks.core.firework import Launch
from fireworks.core.rocket import Rocket
from fireworks.fw_config import PING_TIME_SECS, FWData
from fireworks.utilities.dict_mods import apply_mod
from fireworks.utilities.fw_serializers import recursive_dict
from pymongo.errors import ConnectionFailure, DocumentTooLarge

from workflows.runtime.launchpad import CLAIMED_BY, DatabaseAway, goes_on
from workflows.runtime.settle import span

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from fireworks import FiretaskBase, Firework, FWorker

    from workflows.runtime.launchpad import CampaignLaunchPad

LOGGER = logging.getLogger(__name__)

UNUSUAL = ("_launch_dir", "_recovery", "_files_in", "_background_tasks", "_trackers", "_dupefinder")
"""Keys of a spec whose fireworks FireWorks' own Rocket runs."""

_FEW = 50
_PLAIN = frozenset({"READY", "RESERVED", "RUNNING"})
"""States of a workflow in which nothing is paused, defused, archived, or failed in a way that counts."""

Document = dict[str, Any]


def run_claimed(
    launchpad: CampaignLaunchPad, fworker: FWorker, firework: Firework, ended: Callable[[], None] | None = None
) -> str:
    """Run a firework that was just claimed, in the present directory.

    Parameters
    ----------
    launchpad : CampaignLaunchPad
        Which claimed it.
    fworker : FWorker
        What the launch is signed with.
    firework : Firework
    ended : callable, optional
        Called when its tasks have ended, and what they did is yet to be written.

    Returns
    -------
    str
        The state that it was left in; READY if it goes on later, ``DELETED`` if it is gone.

    Raises
    ------
    DatabaseAway, pymongo.errors.ConnectionFailure
        If the database went away; repair finds out what was stored.
    """
    if firework.launches or FWData().MULTIPROCESSING or any(key in firework.spec for key in UNUSUAL):
        Rocket(launchpad, fworker, firework.fw_id).run()
        return _state(launchpad, firework.fw_id)
    return _Run(launchpad, fworker, firework).run(ended or _nothing)


def _nothing() -> None:
    pass


def _state(launchpad: CampaignLaunchPad, fw_id: int) -> str:
    found = launchpad.fireworks.find_one({"fw_id": fw_id}, {"state": 1})
    return str(found["state"]) if found else "DELETED"


class _Run:
    """One launch of one firework."""

    def __init__(self, launchpad: CampaignLaunchPad, fworker: FWorker, firework: Firework) -> None:
        self.launchpad = launchpad
        self.fworker = fworker
        self.firework = firework
        self.fw_id: int = firework.fw_id
        self.directory = str(Path.cwd())
        self.spec: Document = {**firework.spec, "_fw_env": fworker.env}
        self.rocket = Rocket(launchpad, fworker, self.fw_id)
        self.launch: Launch

    def run(self, ended: Callable[[], None]) -> str:
        if not self._begin():
            return _state(self.launchpad, self.fw_id)
        LOGGER.info("firework %s runs in %s", self.fw_id, self.directory)
        over = threading.Event()
        threading.Thread(target=self._beat, args=(over,), daemon=True).start()
        try:
            action, state = self._tasks()
            over.set()
            ended()
            return self._end(self._decorated(action), state)
        except ConnectionFailure as error:
            raise DatabaseAway(str(error)) from error
        except Exception:
            LOGGER.exception("what firework %s gave can't be applied", self.fw_id)
            self._discard()
        finally:
            over.set()
        return _state(self.launchpad, self.fw_id)

    # -- the beginning ------------------------------------------------------------------------------------------------

    def _begin(self) -> bool:
        """Write the launch; false if the claim was taken from us."""
        launch_id = self.launchpad.get_new_launch_id()
        self.launch = Launch("RUNNING", self.directory, self.fworker, launch_id=launch_id, fw_id=self.fw_id)
        self.begun = self.launch.to_db_dict()
        # FireWorks writes this when the first task begins, which is now
        self.launch.touch_history(checkpoint=_checkpoint(0, {}, {}, []))
        self.launchpad.launches.insert_one(self.launch.to_db_dict())
        now = datetime.now(UTC).isoformat()
        launched = self.launchpad.fireworks.update_one(
            {"fw_id": self.fw_id, "state": "RESERVED", CLAIMED_BY: self.launchpad.owner},
            {
                "$set": {"state": "RUNNING", "updated_on": now},
                "$push": {"launches": launch_id},
                "$unset": {CLAIMED_BY: ""},
            },
        )
        if not launched.modified_count:
            LOGGER.warning("firework %s: the claim was taken from us", self.fw_id)
            self.launchpad.launches.delete_one({"launch_id": launch_id})
            return False
        self.firework.state = "RUNNING"
        # one write that needs no lock: nobody who holds it may be between reading and writing this workflow
        known = self.launchpad.workflows.update_one(
            {"nodes": self.fw_id, "locked": {"$exists": False}, "state": {"$in": list(_PLAIN)}},
            {"$set": {f"fw_states.{self.fw_id}": "RUNNING", "state": "RUNNING", "updated_on": datetime.now(UTC)}},
        )
        if not known.modified_count:
            self.launchpad.refreshed(self.fw_id, lambda _: self._refresh("RUNNING", None))
        return True

    def _beat(self, over: threading.Event) -> None:
        """Say from time to time that the launch lives."""
        while not over.wait(PING_TIME_SECS):
            self.launchpad.ping_launch(self.launch.launch_id)

    # -- the tasks ----------------------------------------------------------------------------------------------------

    def _tasks(self) -> tuple[FWAction, str]:
        """Run the tasks one after the other; give what they decided together, and the state of the launch."""
        stored: Document = {}
        update: Document = {}
        mods: list[Document] = []
        action = FWAction()
        for number, task in enumerate(self.firework.tasks):
            if number:
                self._checkpoint(_checkpoint(number, stored, update, mods))
            try:
                action = self._task(task)
            except BaseException as error:
                LOGGER.exception("task %s of firework %s failed", task.fw_name, self.fw_id)
                return _failure(error, task), "FIZZLED"
            stored.update(action.stored_data)
            update.update(action.update_spec)
            mods.extend(action.mod_spec)
            self.spec.update(action.update_spec)
            for mod in action.mod_spec:
                apply_mod(mod, self.spec)
            if action.skip_remaining_tasks:
                break
        action.stored_data, action.update_spec, action.mod_spec = stored, update, mods
        return action, "COMPLETED"

    def _task(self, task: FiretaskBase) -> FWAction:
        if self.spec.get("_add_launchpad_and_fw_id"):
            task.fw_id, task.launchpad = self.fw_id, self.launchpad
        if self.spec.get("_add_fworker"):
            task.fworker = self.fworker
        action = task.run_task(self.spec)
        for name in ("FWAction.json", "FWAction.yaml"):
            if Path(name).exists():  # of a task that isn't Python
                return FWAction.from_file(name)
        return action or FWAction()

    def _checkpoint(self, checkpoint: Document) -> None:
        self.launch.touch_history(checkpoint=checkpoint)
        self.launchpad.ping_launch(self.launch.launch_id, checkpoint=checkpoint)

    def _decorated(self, action: FWAction) -> FWAction:
        return self.rocket.decorate_fwaction(action, self.spec, self.firework, self.directory)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _end(self, action: FWAction, state: str) -> str:
        """Store what the launch did and bring it into the workflow."""
        launch_id = self.launch.launch_id
        if (state == "FIZZLED" and goes_on(action)) or not self._store(action, state):
            self.launchpad.complete_launch(launch_id, action, state)
            return _state(self.launchpad, self.fw_id)
        sharing = {fw["fw_id"] for fw in self.launchpad.fireworks.find({"launches": launch_id}, {"fw_id": 1})}
        if self.fw_id in sharing:
            self.launchpad.refreshed(self.fw_id, lambda _: self._refresh(state, action))
        for fw_id in sharing - {self.fw_id}:  # duplicates, which wait for this launch
            self.launchpad._refresh_wf(fw_id)  # noqa: SLF001 - FireWorks has no public way
        return state if self.settled else _state(self.launchpad, self.fw_id)

    def _store(self, action: FWAction, state: str) -> bool:
        """Write the launch; false if that is not for us to do: it is too large, or was taken from us."""
        self.launch.touch_history()
        self.launch.state = state
        self.launch.action = action
        document = self.launch.to_db_dict()
        changed = ("state", "state_history", "action", "time_end", "runtime_secs")
        try:
            found = self.launchpad.launches.update_one(
                {"launch_id": self.launch.launch_id, "state": "RUNNING"},
                {"$set": {name: document[name] for name in changed}},
            )
        except DocumentTooLarge:
            return False
        return bool(found.matched_count)

    def _discard(self) -> None:
        """Let the launch fail because of what its tasks gave, as FireWorks does."""
        failure = {"_stacktrace": traceback.format_exc(), "_details": None}
        action = FWAction({"_message": "runtime error during task", "_task": None, "_exception": failure}, exit=True)
        self.launchpad.launches.replace_one({"launch_id": self.launch.launch_id}, dict(self.begun))
        self.launchpad.fireworks.update_one({"fw_id": self.fw_id}, {"$set": {"state": "RUNNING"}})
        try:
            action = self._decorated(action)
        except Exception:
            LOGGER.exception("firework %s", self.fw_id)
        self.launchpad.complete_launch(self.launch.launch_id, action, "FIZZLED")

    # -- the workflow -------------------------------------------------------------------------------------------------

    settled = False
    """Whether the state that the launch ended in has become its firework's."""

    def _refresh(self, state: str, action: FWAction | None) -> None:
        """Bring the launch's state into the workflow, under its lock."""
        with self.launchpad.locked(self.fw_id):
            found = self.launchpad.workflows.find_one({"nodes": self.fw_id})
            children = self._children(found, state, action)
            if children is None or not self._settle(state):
                self.launchpad.refresh_locked(self.fw_id)
                return
            now = datetime.now(UTC).isoformat()
            for fw_id in sorted(children):
                self.launchpad.fireworks.update_one(
                    {"fw_id": fw_id, "state": "WAITING"}, {"$set": {"state": "READY", "updated_on": now}}
                )
            changed = {str(fw_id): "READY" for fw_id in children} | {str(self.fw_id): state}
            whole = workflow_state(found["links"], found["fw_states"] | changed, self._tolerate)
            self.launchpad.write_and_unlock({f"fw_states.{k}": v for k, v in changed.items()} | {"state": whole})

    def _settle(self, state: str) -> bool:
        """Give the firework its state; false if somebody changed it meanwhile."""
        if state == "RUNNING":
            found = self.launchpad.fireworks.find_one({"fw_id": self.fw_id, "state": state}, {"_id": 1})
            return found is not None
        settled = self.launchpad.fireworks.update_one(
            {"fw_id": self.fw_id, "state": "RUNNING", "launches": [self.launch.launch_id]},
            {"$set": {"state": state, "updated_on": datetime.now(UTC).isoformat()}},
        )
        self.settled = bool(settled.modified_count)
        return self.settled

    def _children(self, workflow: Document, state: str, action: FWAction | None) -> set[int] | None:
        """Find the children that become READY; ``None`` if there is more to do than that."""
        states, parents = workflow["fw_states"], workflow["parent_links"]
        above = {states[str(parent)] for parent in parents.get(str(self.fw_id), [])}
        told = self.firework.spec.get("_allow_fizzled_parents") and "_fizzled_parents" in self.firework.spec
        if not above <= ({"COMPLETED", "FIZZLED"} if told else {"COMPLETED"}):
            return None
        below = workflow["links"].get(str(self.fw_id), [])
        if state == "RUNNING" or not below:
            return None if action is not None and _acts(action, among=()) else set()
        if len(below) > _FEW or (state == "COMPLETED" and action is not None and _acts(action, among=below)):
            return None
        fields = {"fw_id": 1, "state": 1, "launches": 1, "spec._allow_fizzled_parents": 1}
        found = list(self.launchpad.fireworks.find({"fw_id": {"$in": below}}, fields))
        if len(found) < len(set(below)) or any(fw["state"] != "WAITING" or fw["launches"] for fw in found):
            return None
        ready = set()
        for child in found:
            above = {state if p == self.fw_id else states[str(p)] for p in parents[str(child["fw_id"])]}
            if above <= {"COMPLETED"}:
                ready.add(child["fw_id"])
            elif above <= {"COMPLETED", "FIZZLED"} and child.get("spec", {}).get("_allow_fizzled_parents"):
                return None  # it is told of its failed parents
        return ready

    def _tolerate(self, fw_ids: Collection[int]) -> bool:
        """Tell whether all of some fireworks may go on without a parent."""
        among = {"fw_id": {"$in": list(fw_ids)}} if len(fw_ids) <= _FEW else span(fw_ids)
        tolerant = self.launchpad.fireworks.find({**among, "spec._allow_fizzled_parents": True}, {"fw_id": 1})
        return set(fw_ids) <= {fw["fw_id"] for fw in tolerant}


def _acts(action: FWAction, among: Collection[int]) -> bool:
    """Tell whether an action changes a workflow in which its firework has some children."""
    changes = action.detours or action.additions or action.append_wfs or action.defuse_workflow
    return bool(changes or (among and (action.update_spec or action.mod_spec or action.defuse_children)))


def workflow_state(
    links: Mapping[str, list[int]], states: Mapping[str, str], tolerate: Callable[[set[int]], bool]
) -> str:
    """Give the state of a workflow from those of its fireworks, as ``Workflow.state`` does.

    Parameters
    ----------
    links : mapping of str to list of int
        Children by firework.
    states : mapping of str to str
        States by firework.
    tolerate : callable
        ``tolerate(fw_ids)`` tells whether all of these children may go on without a parent.

    Examples
    --------
    >>> workflow_state({"1": [2], "2": []}, {"1": "COMPLETED", "2": "READY"}, all)
    'RUNNING'
    >>> workflow_state({"1": [2], "2": []}, {"1": "COMPLETED", "2": "FIZZLED"}, all)
    'FIZZLED'
    """
    leaves = [fw_id for fw_id, children in links.items() if not children]
    present = set(states.values())
    if all(states[fw_id] == "COMPLETED" for fw_id in leaves):
        return "COMPLETED"
    if present == {"ARCHIVED"}:
        return "ARCHIVED"
    for resting in ("DEFUSED", "PAUSED"):
        if resting in present:
            return resting
    failed = [fw_id for fw_id, state in states.items() if state == "FIZZLED"]
    if failed:
        go_on = all(links[fw_id] for fw_id in failed) and tolerate({c for fw_id in failed for c in links[fw_id]})
        return "RUNNING" if go_on else "FIZZLED"
    if present & {"COMPLETED", "RUNNING"}:
        return "RUNNING"
    return "RESERVED" if "RESERVED" in present else "READY"


def _checkpoint(number: int, stored: Document, update: Document, mods: list[Document]) -> Document:
    checkpoint = {"_task_n": number, "_all_stored_data": stored, "_all_update_spec": update, "_all_mod_spec": mods}
    copied: Document = recursive_dict(checkpoint)  # what later tasks add is not of this moment
    return copied


def _failure(error: BaseException, task: FiretaskBase) -> FWAction:
    """Put an error into an action, as FireWorks does; call it where the error was caught."""
    try:
        details = error.to_dict()  # type: ignore[attr-defined]  # exceptions may have one
    except AttributeError:
        details = None
    except BaseException as worse:  # noqa: BLE001 - whatever the error's own code raises
        LOGGER.warning("an exception can't be serialized: %s", worse)
        details = None
    try:
        described = task.to_dict()
    except Exception:  # noqa: BLE001 - whatever the task's own code raises
        described = None
    return FWAction(
        stored_data={
            "_message": "runtime error during task",
            "_task": described,
            "_exception": {"_stacktrace": traceback.format_exc(), "_details": details},
        },
        exit=True,
    )
