"""A scheduler that says what a test wants to hear, for the table of rules; the real one has tests of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workflows.runtime.scheduler.base import JobInfo, JobRequest, SchedulerAwayError

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass
class Told:
    """Answers with the jobs that it is given."""

    known: dict[str, JobInfo] = field(default_factory=dict)
    accounting: bool = True
    is_away: bool = False
    asked: list[list[str]] = field(default_factory=list)

    def say(self, job_id: str, phase: str, state: str, **more: object) -> None:
        source = "sacct" if phase == "ended" else "squeue"
        self.known[job_id] = JobInfo(job_id, f"name-{job_id}", state, phase, **{"source": source, **more})  # type: ignore[arg-type]

    def check(self, request: JobRequest) -> None:
        raise NotImplementedError

    def submit(self, request: JobRequest) -> str:
        raise NotImplementedError

    def cancel(self, job_ids: Sequence[str]) -> None:
        raise NotImplementedError

    def jobs(self, job_ids: Sequence[str]) -> dict[str, JobInfo]:
        self.asked.append(list(job_ids))
        if self.is_away:
            raise SchedulerAwayError("Unable to contact slurm controller (connect failure)")
        return {job_id: self.known[job_id] for job_id in job_ids if job_id in self.known}

    def named(self, names: Sequence[str]) -> dict[str, JobInfo]:
        if self.is_away:
            raise SchedulerAwayError("Unable to contact slurm controller (connect failure)")
        return {info.name: info for info in self.known.values() if info.name in names}
