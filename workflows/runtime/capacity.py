"""What a batch job has and what its tasks hold of it: books that its workers keep together, in files under locks.

A worker that looks for a task holds the right to look while it asks the database, so that nobody else takes what it
counts on; taking and giving back hold the books themselves, for a moment. Both are locks of the system's: a process
that is killed loses them. What it held stays in the books until its supervisor, who also ends whatever it had started,
gives it back.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_ROUNDING_GB = 1e-9
_SAME_MOMENT_NS = 50_000_000
"""Files' times have steps of some ms, and a number of a file that is gone is given to a new one."""


@dataclass(frozen=True)
class Capacity:
    """What a batch job has.

    Parameters
    ----------
    cores : tuple of int
        Of this node, where all tasks are started.
    memory_gb : float
        Of each node.
    nodes : int
    all_cores : int
        Of all nodes.
    bound : bool
        Whether the numbers of the cores are the system's, so that tasks can be bound to them.
    """

    cores: tuple[int, ...]
    memory_gb: float
    nodes: int = 1
    all_cores: int = 0
    bound: bool = False

    @property
    def widest(self) -> int:
        """Most cores that one task can have."""
        return max(len(self.cores), self.all_cores)


@dataclass(frozen=True)
class Grant:
    """What a task holds.

    Parameters
    ----------
    owner : str
        Name of the process that runs it.
    fw_id : int
    cores : tuple of int
        Of this node.
    memory_gb : float
        Of this node.
    whole : bool
        Whether it has the whole job, with all nodes, to itself.
    """

    owner: str
    fw_id: int
    cores: tuple[int, ...]
    memory_gb: float
    whole: bool = False


@dataclass(frozen=True)
class Books:
    """The books at a moment.

    Parameters
    ----------
    grants : tuple of Grant
    releases : int
        How often something was given back: it tells whether a look that found nothing is still true.
    notes : dict
        What those who looked tell those who look next; times are those of ``time.monotonic``, one for all processes of
        a host.
    """

    grants: tuple[Grant, ...] = ()
    releases: int = 0
    notes: dict[str, Any] = field(default_factory=dict)


class Ledger:
    """The books of one batch job, in a directory on a disk of its first node.

    Parameters
    ----------
    directory : pathlib.Path
        Made by :meth:`open_new`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        found = json.loads((directory / "capacity.json").read_text(encoding="utf-8"))
        self.capacity = Capacity(**{**found, "cores": tuple(found["cores"])})
        self._books = directory / "books.json"

    @classmethod
    def open_new(cls, directory: Path, capacity: Capacity) -> Ledger:
        """Begin books in a directory that exists."""
        (directory / "capacity.json").write_text(json.dumps(asdict(capacity)), encoding="utf-8")
        ledger = cls(directory)
        ledger._write(Books())
        return ledger

    # -- reading ------------------------------------------------------------------------------------------------------

    def books(self) -> Books:
        """Read the books; they are whole at any time."""
        found = json.loads(self._books.read_bytes())
        grants = tuple(Grant(**{**grant, "cores": tuple(grant["cores"])}) for grant in found["grants"])
        return Books(grants, found["releases"], found["notes"])

    def version(self) -> tuple[int, int] | None:
        """Give what is another one after each writing; ``None`` so soon after one that the next may look the same."""
        found = self._books.stat()
        settled = time.time_ns() - found.st_mtime_ns > _SAME_MOMENT_NS
        return (found.st_ino, found.st_mtime_ns) if settled else None

    def free_cores(self, books: Books) -> tuple[int, ...]:
        """Give the cores that nobody holds."""
        held = {core for grant in books.grants for core in grant.cores}
        return tuple(core for core in self.capacity.cores if core not in held)

    def free_memory_gb(self, books: Books) -> float:
        """Give the memory of this node that nobody holds, GB."""
        return max(0.0, self.capacity.memory_gb - sum(grant.memory_gb for grant in books.grants))

    # -- writing ------------------------------------------------------------------------------------------------------

    @contextmanager
    def looking(self) -> Iterator[bool]:
        """Hold the right to look for a task; yields whether we got it: if not, somebody else is looking."""
        with self._locked("looking.lock", wait=False) as mine:
            yield mine

    def take(self, owner: str, fw_id: int, cores: int, memory_gb: float) -> Grant | None:
        """Take cores and memory for a task.

        Parameters
        ----------
        owner : str
        fw_id : int
        cores : int
            More than this node has means the whole job.
        memory_gb : float

        Returns
        -------
        Grant or None
            ``None`` if it does not fit.

        Raises
        ------
        ValueError
            If no core is asked for, or the owner holds something already.
        """
        if cores < 1:
            raise ValueError("a task takes one core at least")
        with self._locked("books.lock"):
            books = self.books()
            if any(grant.owner == owner for grant in books.grants):
                raise ValueError(f"{owner} holds something already")
            grant = self._fitting(books, owner, fw_id, cores, memory_gb)
            if grant is not None:
                self._write(Books((*books.grants, grant), books.releases, books.notes))
            return grant

    def take_all(self, owner: str, fw_id: int) -> Grant | None:
        """Take the whole job for one task; ``None`` if anybody holds a part of it."""
        with self._locked("books.lock"):
            books = self.books()
            if books.grants:
                return None
            grant = Grant(owner, fw_id, self.capacity.cores, self.capacity.memory_gb, whole=True)
            self._write(Books((grant,), books.releases, books.notes))
            return grant

    def give_back(self, owner: str) -> bool:
        """Give back what a process holds; tells whether it held anything."""
        with self._locked("books.lock"):
            books = self.books()
            kept = tuple(grant for grant in books.grants if grant.owner != owner)
            self._write(Books(kept, books.releases + 1, books.notes))
            return len(kept) < len(books.grants)

    def note(self, name: str, value: Any) -> None:
        """Leave a note for those who look next; ``None`` removes it."""
        with self._locked("books.lock"):
            books = self.books()
            notes = {key: kept for key, kept in books.notes.items() if key != name}
            self._write(Books(books.grants, books.releases, notes if value is None else {**notes, name: value}))

    def _fitting(self, books: Books, owner: str, fw_id: int, cores: int, memory_gb: float) -> Grant | None:
        if cores > len(self.capacity.cores):
            fits = not books.grants and cores <= self.capacity.widest
            fits = fits and memory_gb <= self.capacity.memory_gb * self.capacity.nodes + _ROUNDING_GB
            return Grant(owner, fw_id, self.capacity.cores, self.capacity.memory_gb, whole=True) if fits else None
        free = self.free_cores(books)
        if cores > len(free) or memory_gb > self.free_memory_gb(books) + _ROUNDING_GB:
            return None
        return Grant(owner, fw_id, free[:cores], memory_gb)

    def _write(self, books: Books) -> None:
        """Replace the books at once: a process that is killed in between leaves the old ones."""
        new = self._books.with_suffix(".new")
        new.write_text(json.dumps(asdict(books)), encoding="utf-8")
        new.replace(self._books)

    @contextmanager
    def _locked(self, name: str, *, wait: bool = True) -> Iterator[bool]:
        descriptor = os.open(self.directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(descriptor)


class Looks:
    """When to look for a task: who finds nothing says so to the others, and nobody asks again for a while.

    Parameters
    ----------
    ledger : Ledger
    group : str
        Those who look for the same.
    """

    SHORTEST_S = 0.2
    LONGEST_S = 2.0

    def __init__(self, ledger: Ledger, group: str) -> None:
        self.ledger = ledger
        self.name = f"nothing for {group}"
        self._version: object = None
        self._books = Books()

    def are_due(self) -> bool:
        """Tell whether there is room for a task, and reason to think that there is one."""
        books = self._newest()
        if not self.ledger.free_cores(books):
            return False
        seen = books.notes.get(self.name)
        return seen is None or seen["releases"] != books.releases or time.monotonic() >= seen["again"]

    def _newest(self) -> Books:
        """Read the books if they have been written since: whoever waits asks many times a second."""
        version = self.ledger.version()
        if version is None or version != self._version:
            self._books, self._version = self.ledger.books(), version
        return self._books

    def found_nothing(self, before: Books) -> None:
        """Note that a look, begun with ``before``, found nothing."""
        seen = before.notes.get(self.name)
        pause = self.SHORTEST_S
        if seen is not None and seen["releases"] == before.releases:
            pause = min(self.LONGEST_S, 1.5 * seen["pause"])
        again = time.monotonic() + pause
        self.ledger.note(self.name, {"releases": before.releases, "again": again, "pause": pause})
