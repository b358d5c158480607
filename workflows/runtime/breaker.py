"""Whether a node fails whatever it is given, so that its pilot should take no more."""

from __future__ import annotations

import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from pymongo import DESCENDING

from workflows.causes import CAUSES, UPSTREAM
from workflows.records import Cause

if TYPE_CHECKING:
    from pymongo.database import Database

LOGGER = logging.getLogger(__name__)

BAD_IN_A_ROW = 3
"""Tasks that may fail one after another for what a node is like."""

_KILLED = 106


@dataclass(frozen=True)
class _Failed:
    """A task that failed."""

    fw_id: int
    light: bool


@dataclass(frozen=True)
class _Bad(_Failed):
    """One that failed for what the node is like."""

    cause: Cause


_F = TypeVar("_F", bound=_Failed)


class Breaker:
    """Counts failures in a row whose cause is the environment (2xx), or that killed their worker at once.

    What a failed task leaves to those after it says nothing of the node. Light tasks that end well, or fail for a
    reason of their own, say nothing of what others need: one that judges a failed candidate ends well on any node.

    Parameters
    ----------
    database : pymongo.database.Database
    pilot : str
        Only its own attempts are set aside.
    """

    def __init__(self, database: Database[Any], pilot: str) -> None:
        self.database = database
        self.pilot = pilot
        self._bad: list[_Bad] = []
        self._failed: list[_Failed] = []

    def completed(self, *, light: bool) -> None:
        """Note that a task has come to its end: the node is good, at least for its like.

        Parameters
        ----------
        light : bool
            Whether it only read and wrote records.
        """
        self._failed = _beyond(self._failed, light=light)
        self._bad = _beyond(self._bad, light=light)

    def failed(self, fw_id: int, *, light: bool) -> None:
        """Note that a task has failed; why is asked later, for the database may be away."""
        self._failed.append(_Failed(fw_id, light))

    def died(self, fw_id: int, evidence: str, *, light: bool) -> None:
        """Note that a worker died as soon as it had begun a task."""
        self._bad.append(_Bad(fw_id, light, Cause(code=_KILLED, name=CAUSES[_KILLED].name, evidence=evidence)))

    def verdict(self) -> Cause | None:
        """Give what is wrong with the node, if it has failed too often; the attempts that show it are set aside."""
        while self._failed:
            newest = self._newest(self._failed[0].fw_id, state="failed")
            one = self._failed.pop(0)
            cause = Cause.model_validate(newest["cause"]) if newest and newest["cause"] else None
            if cause is not None and 200 <= cause.code < 300:
                self._bad.append(_Bad(one.fw_id, one.light, cause))
            elif cause is not None and cause.code != UPSTREAM:
                self._bad = _beyond(self._bad, light=one.light)
        if len(self._bad) < BAD_IN_A_ROW:
            return None
        for bad in self._bad:
            newest = self._newest(bad.fw_id)
            if newest is not None and newest.get("pilot") == self.pilot:
                self.database.attempts.update_one({"attempt": newest["attempt"]}, {"$set": {"set_aside": True}})
            LOGGER.warning("fw_id %s: set aside: %s", bad.fw_id, bad.cause)
        last = self._bad[-1].cause
        evidence = f"the last {len(self._bad)} tasks on {socket.gethostname()} failed; {last.evidence}"
        return Cause(code=last.code, name=last.name, evidence=evidence)

    def _newest(self, fw_id: int, **further: Any) -> dict[str, Any] | None:
        return self.database.attempts.find_one({"fw_id": fw_id, **further}, sort=[("launch_id", DESCENDING)])


def _beyond(failures: list[_F], *, light: bool) -> list[_F]:
    """Give the failures of which the good end of a task says nothing."""
    return [one for one in failures if light and not one.light]
