"""Whether a node fails whatever it is given, so that its pilot should take no more."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any

from pymongo import DESCENDING

from workflows.causes import CAUSES
from workflows.records import Cause

if TYPE_CHECKING:
    from pymongo.database import Database

LOGGER = logging.getLogger(__name__)

BAD_IN_A_ROW = 3
"""Tasks that may fail one after another for what a node is like."""

_KILLED = 106


class Breaker:
    """Counts failures in a row whose cause is the environment (2xx), or that killed their worker at once.

    Parameters
    ----------
    database : pymongo.database.Database
    pilot : str
        Only its own attempts are set aside.
    """

    def __init__(self, database: Database[Any], pilot: str) -> None:
        self.database = database
        self.pilot = pilot
        self._bad: list[tuple[int, Cause]] = []
        self._failed: list[int] = []

    def completed(self) -> None:
        """Note that a task has come to its end: the node is good."""
        self._failed.clear()
        self._bad.clear()

    def failed(self, fw_id: int) -> None:
        """Note that a task has failed; why is asked later, for the database may be away."""
        self._failed.append(fw_id)

    def died(self, fw_id: int, evidence: str) -> None:
        """Note that a worker died as soon as it had begun a task."""
        self._bad.append((fw_id, Cause(code=_KILLED, name=CAUSES[_KILLED].name, evidence=evidence)))

    def verdict(self) -> Cause | None:
        """Give what is wrong with the node, if it has failed too often; the attempts that show it are set aside."""
        while self._failed:
            newest = self._newest(self._failed[0], state="failed")
            fw_id = self._failed.pop(0)
            cause = Cause.model_validate(newest["cause"]) if newest and newest["cause"] else None
            if cause is not None and 200 <= cause.code < 300:
                self._bad.append((fw_id, cause))
            else:
                self._bad.clear()
        if len(self._bad) < BAD_IN_A_ROW:
            return None
        for fw_id, cause in self._bad:
            newest = self._newest(fw_id)
            if newest is not None and newest.get("pilot") == self.pilot:
                self.database.attempts.update_one({"attempt": newest["attempt"]}, {"$set": {"set_aside": True}})
            LOGGER.warning("fw_id %s: set aside: %s", fw_id, cause)
        last = self._bad[-1][1]
        evidence = f"the last {len(self._bad)} tasks on {socket.gethostname()} failed; {last.evidence}"
        return Cause(code=last.code, name=last.name, evidence=evidence)

    def _newest(self, fw_id: int, **further: Any) -> dict[str, Any] | None:
        return self.database.attempts.find_one({"fw_id": fw_id, **further}, sort=[("launch_id", DESCENDING)])
