"""SLURM, by its own commands: sbatch, scancel, squeue, sacct, sinfo and scontrol."""

from __future__ import annotations

import os
import re
import time
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from dft_inputs.walltime import parse_duration
from workflows.runtime.scheduler import slurm_script
from workflows.runtime.scheduler.base import JobInfo, JobRequest, SchedulerAwayError, SchedulerError
from workflows.runtime.scheduler.slurm_commands import SlurmCommands
from workflows.runtime.scheduler.slurm_tables import (
    ACCOUNT_FORMAT,
    NOBODY_ANSWERS,
    QUEUE_FORMAT,
    UNIT,
    QueueRow,
    Run,
    is_behind,
    parse_accounts,
    parse_queue,
    told_by_accounts,
    told_by_queue,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

_REMEMBERED = "now-60days"
"""How far back accounting is searched for jobs by name. By id it is asked for all times."""

_BEHIND_S = 8.0
"""s for which accounting is waited for where it has yet to write an end that slurmctld tells of; a second, mostly."""

_AGAIN_S = 0.5
"""s between two questions meanwhile."""

_AT_ONCE = 500
"""Job ids on one command line."""

_ENDED_ALREADY = re.compile(r"already complet|invalid job id|no job id specified", re.IGNORECASE)
_NO_ACCOUNTS = re.compile(r"accounting storage is disabled|no sacct on the PATH", re.IGNORECASE)


class SlurmScheduler:
    """One SLURM cluster.

    slurmctld is asked first (squeue lists what waits, runs, and what ended a few minutes ago); accounting is asked for
    what has ended or was put back into the queue. Where one of the two is silent, the other's word is given; from
    silence nothing is concluded. ``scontrol show job`` would add nothing: it prints the same memory as squeue does.

    Parameters
    ----------
    slurm_conf : pathlib.Path, optional
        SLURM_CONF, where it is not the default one.
    timeout_s : float, optional
        s after which a command that has not answered is given up.
    """

    def __init__(self, slurm_conf: Path | None = None, timeout_s: float = 20.0) -> None:
        self.commands = SlurmCommands(slurm_conf, timeout_s)

    @property
    def accounting(self) -> bool:
        """Whether it keeps accounts (causes, core-hours) of jobs that have ended; while it is silent, that it may."""
        try:
            return self._keeps_accounts
        except SchedulerAwayError:
            return True

    @cached_property
    def _keeps_accounts(self) -> bool:
        config = self.commands.ask("scontrol", "show", "config")
        kind = re.search(r"^AccountingStorageType\s*=\s*(\S+)", config, re.MULTILINE)
        return kind is not None and not kind[1].endswith("/none")

    # -- orders -------------------------------------------------------------------------------------------------------

    def check(self, request: JobRequest) -> None:
        """Ask whether a job would be accepted, and could ever start.

        Raises
        ------
        SchedulerError
            With the scheduler's reason, and what there is instead.
        SchedulerAwayError
        """
        try:
            self._sbatch(request, "--test-only")
        except SchedulerAwayError:
            raise
        except SchedulerError as error:
            raise SchedulerError(f"{error}{self._instead(request, str(error))}") from None
        self._check_limits(request)

    def submit(self, request: JobRequest) -> str:
        """Submit a job and give its id.

        Raises
        ------
        SchedulerError
            If it is refused.
        SchedulerAwayError
            If no answer came: it may have been submitted all the same, and :meth:`named` finds it then.
        """
        answer = self._sbatch(request, "--parsable")
        job_id = answer.strip().partition(";")[0]  # ";cluster" follows in a federation
        if not job_id.isdigit():
            raise SchedulerAwayError(f"sbatch gave no job id but {answer.strip()[:200]!r}")
        return job_id

    def cancel(self, job_ids: Sequence[str]) -> None:
        """Cancel jobs; those that have ended are passed over.

        Raises
        ------
        SchedulerError
            If it is refused: somebody else's job.
        SchedulerAwayError
        """
        self._signal(job_ids)

    def drain(self, job_ids: Sequence[str]) -> None:
        """Ask running jobs to begin nothing more; those that have ended are passed over.

        Raises
        ------
        SchedulerError
            If it is refused: somebody else's job.
        SchedulerAwayError
        """
        self._signal(job_ids, "--signal=USR1", "--batch")

    # -- questions ----------------------------------------------------------------------------------------------------

    def jobs(self, job_ids: Sequence[str]) -> dict[str, JobInfo]:
        """Tell what is known of jobs, by id; those that it knows nothing of (any more) are left out.

        Of a job that only accounting lists as not ended, although slurmctld answers, the source is ``sacct``: its
        accounts were never closed.

        Raises
        ------
        SchedulerAwayError
            If neither slurmctld nor accounting answers.
        """
        wanted = list(dict.fromkeys(job_ids))
        if not wanted:
            return {}
        queue_away = accounts_away = ""
        queue: dict[str, QueueRow] = {}
        runs: dict[str, tuple[Run, ...]] = {}
        try:
            queue = self._queue(wanted)
        except SchedulerAwayError as error:
            queue_away = str(error)
        plain = {job_id for job_id, row in queue.items() if row.info.phase != "ended" and not row.info.restarts}
        try:
            runs = self._accounts([job_id for job_id in wanted if job_id not in plain], queue)
        except SchedulerAwayError as error:
            if queue_away:
                raise SchedulerAwayError(queue_away) from error
            accounts_away = "" if _NO_ACCOUNTS.search(str(error)) else str(error)
        known: dict[str, JobInfo] = {}
        for job_id in wanted:
            if job_id in queue:
                known[job_id] = told_by_queue(queue[job_id], runs.get(job_id, ()), away=accounts_away)
            elif job_id in runs and (runs[job_id][-1].closed or runs[job_id][-1].info.phase != "ended"):
                known[job_id] = told_by_accounts(runs[job_id])
                if queue_away and known[job_id].phase != "ended":
                    known[job_id] = replace(known[job_id], source=NOBODY_ANSWERS)
            elif queue_away:
                known[job_id] = JobInfo(job_id, "", "UNKNOWN", "queued", evidence=queue_away, source="")
        return known

    def named(self, names: Sequence[str]) -> dict[str, JobInfo]:
        """Find this user's jobs by name: of several of one name the newest.

        Whoever finds nothing may submit again, so both slurmctld and accounting (where there is any) have to answer.

        Raises
        ------
        SchedulerAwayError
        """
        wanted = set(names)
        if not wanted:
            return {}
        who = f"--user={os.getuid()}"
        text = self.commands.ask("squeue", "--noheader", "--states=all", who, f"--Format={QUEUE_FORMAT}")
        found = {row.info.job_id: row.info.name for row in parse_queue(text).values() if row.info.name in wanted}
        missing = wanted - set(found.values())
        if missing and self._keeps_accounts:
            only = [f"--name={','.join(sorted(missing))}"] if not any("," in name for name in missing) else []
            runs = self._sacct("--allocations", who, f"--starttime={_REMEMBERED}", *only)
            found |= {job_id: job[-1].info.name for job_id, job in runs.items() if job[-1].info.name in missing}
        newest = {found[job_id]: job_id for job_id in sorted(found, key=_number)}
        infos = self.jobs(list(newest.values()))
        return {name: infos[job_id] for name, job_id in newest.items() if job_id in infos}

    # -- inside -------------------------------------------------------------------------------------------------------

    def _signal(self, job_ids: Sequence[str], *words: str) -> None:
        for batch in _batches(job_ids):
            answer = self.commands.run("scancel", *words, *batch)
            complaints = [
                line for line in answer.stderr.splitlines() if "error" in line and not _ENDED_ALREADY.search(line)
            ]
            if complaints:
                raise SchedulerError(f"scancel: {'; '.join(complaints)}")

    def _sbatch(self, request: JobRequest, mode: str) -> str:
        words = slurm_script.options(request)
        surroundings = slurm_script.environment(request)
        answer = self.commands.order(
            "sbatch", mode, *words, script=slurm_script.script(request), environment=surroundings
        )
        return answer.stdout

    def _queue(self, job_ids: list[str]) -> dict[str, QueueRow]:
        rows: dict[str, QueueRow] = {}
        for batch in _batches(job_ids):
            only = f"--jobs={','.join(batch)}"
            answer = self.commands.run("squeue", "--noheader", "--states=all", only, f"--Format={QUEUE_FORMAT}")
            if answer.code and "Invalid job id" not in answer.stderr:  # what it says of a single one that it forgot
                raise SchedulerAwayError(f"squeue: {answer.complaint}")
            rows |= parse_queue(answer.stdout)
        return rows

    def _accounts(self, job_ids: list[str], queue: dict[str, QueueRow]) -> dict[str, tuple[Run, ...]]:
        """Ask accounting for the runs of jobs, and again for a while where it is behind what squeue says."""
        runs: dict[str, tuple[Run, ...]] = {}
        until = time.monotonic() + _BEHIND_S
        while job_ids:
            for batch in _batches(job_ids):
                # without a start, sacct shows what ran since midnight; older versions also where ids are given
                runs |= self._sacct("--duplicates", f"--jobs={','.join(batch)}", "--starttime=1970-01-02")
            job_ids = [
                job_id for job_id in job_ids if job_id in queue and is_behind(queue[job_id], runs.get(job_id, ()))
            ]
            if time.monotonic() > until:
                break
            if job_ids:
                time.sleep(_AGAIN_S)
        return runs

    def _sacct(self, *words: str) -> dict[str, tuple[Run, ...]]:
        shape = ("--noheader", "--parsable2", f"--delimiter={UNIT}", f"--format={ACCOUNT_FORMAT}")
        return parse_accounts(self.commands.ask("sacct", *shape, *words))

    def _check_limits(self, request: JobRequest) -> None:
        """Refuse what SLURM would take and never start: by default it looks at a partition's limits only then."""
        table = self._partitions()
        name = request.partition or next((name for name, row in table.items() if row["default"]), None)
        if name is None or "," in name or name not in table:
            return
        row = table[name]
        limit = parse_duration(str(row["limit"]))
        if limit is not None and request.minutes * 60 > limit:
            raise SchedulerError(
                f"{request.minutes} min: partition {name} gives {limit / 60:g} min at most, so it would wait for ever"
            )
        if row["state"] in {"down", "inact", "drain"}:
            raise SchedulerError(f"partition {name} is {row['state']}: nothing starts there now")

    def _partitions(self) -> dict[str, dict[str, str | bool]]:
        text = self.commands.ask("sinfo", "--noheader", f"--format=%P{UNIT}%l{UNIT}%a")
        table: dict[str, dict[str, str | bool]] = {}
        for line in text.split("\n"):
            name, *rest = line.strip().split(UNIT)
            if len(rest) == 2:
                table[name.rstrip("*")] = {"limit": rest[0], "state": rest[1], "default": name.endswith("*")}
        return table

    def _instead(self, request: JobRequest, said: str) -> str:
        """Tell what there is, where a job asks for what there is not."""
        try:
            if "partition" in said:
                return f" (partitions that there are: {', '.join(sorted(self._partitions()))})"
            if "reservation" in said and request.reservation:
                text = self.commands.ask("scontrol", "--oneliner", "show", "reservation")
                there = re.findall(r"ReservationName=(\S+)", text)
                return f": {request.reservation} is none, or has expired (there are: {', '.join(there) or 'none'})"
        except SchedulerAwayError:
            return ""
        return ""


def _number(job_id: str) -> int:
    return int(re.sub(r"\D.*", "", job_id))


def _batches(job_ids: Iterable[str]) -> Iterable[list[str]]:
    ids = list(dict.fromkeys(job_ids))
    return (ids[start : start + _AT_ONCE] for start in range(0, len(ids), _AT_ONCE))
