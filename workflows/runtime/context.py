"""What a task may know of where it runs: set by the Firetask around each job, read by stages.

A context variable, not module state: nested or parallel tasks in one process can't see each other's.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workflows.runtime.blobs import Blobs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fireworks import LaunchPad
    from jobflow import JobStore
    from pymongo.database import Database


@dataclass(frozen=True)
class TaskContext:
    """The running task.

    Parameters
    ----------
    launchpad : LaunchPad
        Its database also holds the campaign's collections.
    jobstore : JobStore
        Connected; its additional store holds the content-addressed files.
    block : dict
        ``spec.nucleate`` of the firework: campaign, round, stage, candidate, engine.
    fw_id : int or None
    attempt : str or None
        Identifier of the attempt record, where one is kept.
    overrides : dict
        What a re-run asks of this task.
    """

    launchpad: LaunchPad
    jobstore: JobStore
    block: dict[str, Any]
    fw_id: int | None = None
    attempt: str | None = None
    overrides: dict[str, Any] = field(default_factory=dict)

    @property
    def database(self) -> Database[Any]:
        """The database that holds the campaign's collections beside FireWorks' own."""
        database: Database[Any] = self.launchpad.db
        return database

    @property
    def files(self) -> Blobs:
        """The content-addressed files."""
        return Blobs(self.jobstore.additional_stores["data"])


_TASK: ContextVar[TaskContext] = ContextVar("nucleate_task")


def current_task() -> TaskContext:
    """Give the context of the running task.

    Raises
    ------
    RuntimeError
        If the code does not run inside one of our Firetasks.
    """
    try:
        return _TASK.get()
    except LookupError:
        raise RuntimeError("this job needs a campaign's launchpad: run it with `nucleate work`") from None


@contextmanager
def task_context(context: TaskContext) -> Iterator[TaskContext]:
    """Make ``context`` the current one for the duration of a block."""
    token = _TASK.set(context)
    try:
        yield context
    finally:
        _TASK.reset(token)
