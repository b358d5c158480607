"""One process at a time, on whatever host: a lease in the database, which the dead and the stuck lose.

No clocks are compared: who waits watches with a clock of its own whether the holder moves.
"""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pymongo import ReturnDocument
from pymongo.errors import DuplicateKeyError

from workflows.runtime.identity import is_dead
from workflows.runtime.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pymongo.database import Database

STALE_S = 90.0
"""s without a move after which a holder on another host counts as gone; longer than any one order to a scheduler."""

_PAUSE_S = 0.2


class LeaseError(Exception):
    """Somebody else holds the lease, or has taken it; the message says who."""


class Lease:
    """The right to do something, held by one at a time.

    Parameters
    ----------
    database : pymongo.database.Database
    name : str
    owner : str
        Name of this process, see :class:`workflows.runtime.identity.ProcessName`.
    stale_s : float
        See :data:`STALE_S`.
    """

    def __init__(self, database: Database[Any], name: str, owner: str, stale_s: float = STALE_S) -> None:
        self.collection = database["leases"]
        self.name = name
        self.owner = owner
        self.stale_s = stale_s
        self._token = ""

    @contextmanager
    def held(self, patience_s: float) -> Iterator[None]:
        """Hold it inside this block; wait for it if need be.

        Raises
        ------
        LeaseError
            If somebody else kept it for ``patience_s``.
        """
        watch = Watch()
        deadline = time.monotonic() + patience_s
        while (holder := self._take(watch)) is not None:
            if time.monotonic() > deadline:
                raise LeaseError(f"{holder} is at it; try again when it has ended")
            time.sleep(_PAUSE_S)
        try:
            yield
        finally:
            self.collection.update_one({"_id": self.name, "token": self._token}, {"$set": {"by": None, "token": None}})

    def renew(self) -> None:
        """Show that we move; to be called before each deed that nobody else may do.

        Raises
        ------
        LeaseError
            If it was taken from us.
        """
        mine = {"_id": self.name, "token": self._token}
        if not self.collection.find_one_and_update(mine, {"$inc": {"turn": 1}}, projection={"_id": 1}):
            raise LeaseError("somebody took over, because this process did not move for long")

    def _take(self, watch: Watch) -> str | None:
        """Try to take it; gives who holds it instead."""
        token = uuid.uuid4().hex
        mine = {"$set": {"by": self.owner, "token": token}, "$inc": {"turn": 1}}
        free = {"_id": self.name, "token": None}
        try:
            found = self.collection.find_one_and_update(free, mine, upsert=True, return_document=ReturnDocument.AFTER)
        except DuplicateKeyError:  # it is there, and held
            found = None
        if found is None:
            held = self.collection.find_one({"_id": self.name})
            if held is None or held["token"] is None:
                return "another process"  # which has just let go
            still_s = watch.age_s(("lease", self.name), (held["token"], held["turn"]))
            if not is_dead(held["by"]) and still_s < self.stale_s:
                return str(held["by"])
            seen = {"_id": self.name, "token": held["token"], "turn": held["turn"]}
            found = self.collection.find_one_and_update(seen, mine, return_document=ReturnDocument.AFTER)
        if found is None or found["token"] != token:
            return "another process"
        self._token = token
        return None
