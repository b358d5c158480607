"""One question to each scheduler for all jobs of a pass: a controller that serves a whole centre is asked seldom."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from workflows.runtime.scheduler.base import JobInfo, SchedulerAwayError, SchedulerError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from workflows.runtime.scheduler.base import Scheduler

FRESH_S = 3.0
"""s for which an answer is used again."""


@dataclass
class _Answer:
    at: float
    jobs: dict[str, JobInfo | None] = field(default_factory=dict)
    away: str = ""


class Inquiry:
    """What the schedulers of several clusters answered lately.

    Parameters
    ----------
    schedulers : mapping of str to Scheduler
        By the cluster's name.
    fresh_s : float
        See :data:`FRESH_S`.
    """

    def __init__(self, schedulers: Mapping[str, Scheduler], *, fresh_s: float = FRESH_S) -> None:
        self.schedulers = schedulers
        self.fresh_s = fresh_s
        self._answers: dict[str, _Answer] = {}

    def jobs(self, cluster: str, job_ids: Iterable[str]) -> dict[str, JobInfo]:
        """Tell what is known of jobs; those that the scheduler knows nothing of are left out.

        Raises
        ------
        SchedulerAwayError
            If the scheduler does not answer; it is not asked again before ``fresh_s`` have passed.
        KeyError
            If there is no such cluster.
        """
        wanted = set(job_ids)
        if not wanted:
            return {}
        self._raise_if_away(cluster)
        answer = self._answers.get(cluster)
        if answer is None or time.monotonic() - answer.at > self.fresh_s:
            answer = self._answers[cluster] = _Answer(time.monotonic())
        missing = sorted(wanted - answer.jobs.keys())
        if missing:
            try:
                found = self.schedulers[cluster].jobs(missing)
            except SchedulerError as error:
                raise self._now_away(cluster, error) from error
            if not answer.jobs:
                answer.at = time.monotonic()  # it is as fresh as when it came: a scheduler may take long over it
            answer.jobs |= {job_id: found.get(job_id) for job_id in missing}
        return {job_id: info for job_id in wanted if (info := answer.jobs[job_id]) is not None}

    def named(self, cluster: str, names: Iterable[str]) -> dict[str, JobInfo]:
        """Find jobs by name, anew each time.

        Raises
        ------
        SchedulerAwayError
            If the scheduler does not answer.
        KeyError
            If there is no such cluster.
        """
        wanted = sorted(set(names))
        self._raise_if_away(cluster)
        if not wanted:
            return {}
        self._answers.setdefault(cluster, _Answer(float("-inf")))
        try:
            return self.schedulers[cluster].named(wanted)
        except SchedulerError as error:
            raise self._now_away(cluster, error) from error

    @property
    def asked(self) -> set[str]:
        """The clusters that had to be asked for anything so far."""
        return set(self._answers)

    def accounting(self, cluster: str) -> bool:
        """Tell whether a cluster keeps accounts.

        Raises
        ------
        SchedulerAwayError
            If it was never asked before, and does not answer.
        KeyError
            If there is no such cluster.
        """
        self._raise_if_away(cluster)
        try:
            return self.schedulers[cluster].accounting
        except SchedulerError as error:
            raise self._now_away(cluster, error) from error

    def _raise_if_away(self, cluster: str) -> None:
        answer = self._answers.get(cluster)
        if answer is not None and answer.away and time.monotonic() - answer.at <= self.fresh_s:
            raise SchedulerAwayError(answer.away)

    def _now_away(self, cluster: str, error: SchedulerError) -> SchedulerAwayError:
        # refused is as good as silent: nothing may be concluded
        said = str(error) or "it does not answer"
        self._answers[cluster] = _Answer(time.monotonic(), away=said)
        return SchedulerAwayError(said)
