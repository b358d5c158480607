"""Whether the process that signed something still lives, and if not, what ended it.

On this host the pid tells, together with the time the process started. Anywhere else its batch job does: it is dead if
the scheduler says that this run of the job has ended, or knows nothing of the job, and the job has given no sign of
life since. The sign is the ``beat`` that a pilot counts up in its record; how long it has stood still is told by this
process' own clock, so the hosts' clocks are never compared. A scheduler that does not answer proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from workflows.runtime.identity import BatchJob, ProcessName
from workflows.runtime.scheduler.base import SchedulerAwayError
from workflows.runtime.scheduler.inquiry import Inquiry
from workflows.runtime.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymongo.database import Database

    from workflows.runtime.scheduler.base import JobInfo

STILL_S = 25.0
"""s without a beat after which a job that has ended by its scheduler's word is over; a pilot beats every 20 s."""

FORGOTTEN_S = 60.0
"""The same where that word alone proves little: the node failed, or the scheduler knows no such job (any more)."""

SETTLE_S = 10.0
"""s to wait after a process of this host is gone, for its job to end, too: the scheduler is about to say why."""

ASK_S = 60.0
"""The same while the scheduler does not answer."""

OTHERS_ASK_S = 120.0
"""The same where we can't ask the scheduler, and somebody else may."""

NODE_FAILURE, PREEMPTED, KILLED = 103, 104, 106


@dataclass(frozen=True)
class Fate:
    """What became of a process.

    Parameters
    ----------
    state : {"alive", "dead", "unknown"}
    evidence : str
        What says so, in words.
    code : int or None
        Cause of death, see :mod:`workflows.causes`; of one that is unknown, what it is going to be unless more is said.
    wait_s : float
        s after which more may be known, if something is being waited for.
    whole_job : bool
        Whether all processes of its batch job ended with it.
    """

    state: Literal["alive", "dead", "unknown"]
    evidence: str = ""
    code: int | None = None
    wait_s: float = 0.0
    whole_job: bool = False


def _dead(evidence: str, code: int | None = None, *, whole_job: bool = False) -> Fate:
    return Fate("dead", evidence, KILLED if code is None else code, whole_job=whole_job)


class Liveness:
    """Tells the fate of processes by the names that they sign with.

    Parameters
    ----------
    database : pymongo.database.Database
        With the ``pilots`` records.
    inquiry : Inquiry, optional
        Schedulers that may be asked; without any only this host's processes are known, and jobs whose end is recorded.
    host : str, optional
        Name of this host.
    watch : Watch, optional
        A fresh one if not given.
    """

    def __init__(
        self,
        database: Database[Any],
        inquiry: Inquiry | None = None,
        *,
        host: str | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.database = database
        self.inquiry = inquiry or Inquiry({})
        self.host = host
        self.watch = watch or Watch()
        self._fates: dict[str, Fate] = {}
        self._records: dict[tuple[str, str], dict[str, Any] | None] = {}
        self._infos: dict[str, dict[str, JobInfo | None] | SchedulerAwayError] = {}

    def look(self, names: Iterable[str | None]) -> None:
        """Begin a pass: forget what was known, and ask at once for all the processes that are to be judged."""
        self.watch.forget_others()
        self._fates, self._records, self._infos = {}, {}, {}
        self._ask(process.job for name in names if (process := ProcessName.parse(name)) and process.job)

    def forget(self) -> None:
        """Start all waits anew, after the database was away: no beat could be written."""
        self.watch.clear()

    def fate(self, name: str | None) -> Fate:
        """Tell what became of a process; the same throughout a pass."""
        if name not in self._fates:
            process = ProcessName.parse(name)
            fate = Fate("unknown", "not signed by one of ours") if process is None else self._judge(process)
            self._fates[name or ""] = fate
            return fate
        return self._fates[name]

    def is_dead(self, name: str | None) -> bool:
        """Tell whether a name is one of ours and its process is known to be gone."""
        return self.fate(name).state == "dead"

    @property
    def unknown(self) -> dict[str, Fate]:
        """The processes of this pass of which nobody knows whether they live."""
        return {name: fate for name, fate in self._fates.items() if fate.state == "unknown" and name}

    @property
    def away(self) -> dict[str, str]:
        """The clusters whose scheduler did not answer in this pass, and what was the matter."""
        return {cluster: str(infos) for cluster, infos in self._infos.items() if isinstance(infos, SchedulerAwayError)}

    # -- what is known of jobs ----------------------------------------------------------------------------------------

    def _ask(self, jobs: Iterable[BatchJob]) -> None:
        """Read records and ask schedulers, once for many jobs; the beat is read first, and watched."""
        by_cluster: dict[str, set[str]] = {}
        for job in jobs:
            by_cluster.setdefault(job.cluster, set()).add(job.job_id)
        named = ("job_id", "pilot", "beat", "reason", "restarts", "scheduler_state", "settled", "cause")
        fields = {"_id": 0} | dict.fromkeys(named, 1)
        for cluster, ids in by_cluster.items():
            found = self.database.pilots.find({"cluster": cluster, "job_id": {"$in": sorted(ids)}}, fields)
            records = {record["job_id"]: record for record in found}
            for job_id in ids:
                record = self._records[cluster, job_id] = records.get(job_id)
                if record is not None:
                    self._still_s(cluster, job_id, record)
            if cluster not in self.inquiry.schedulers:
                continue
            known = self._infos.setdefault(cluster, {})
            if isinstance(known, SchedulerAwayError):
                continue
            try:
                answer = self.inquiry.jobs(cluster, ids)
            except SchedulerAwayError as error:
                self._infos[cluster] = error
                continue
            known.update({job_id: answer.get(job_id) for job_id in ids})

    def _still_s(self, cluster: str, job_id: str, record: dict[str, Any]) -> float:
        return self.watch.age_s(("beat", (cluster, job_id)), record["beat"])

    # -- judging ------------------------------------------------------------------------------------------------------

    def _judge(self, process: ProcessName) -> Fate:
        here = process.is_here(self.host)
        if here and not process.is_dead():
            return Fate("alive", f"process {process.pid} runs on this host")
        if process.job is None:
            if here:
                return _dead(f"process {process.pid} of this host is gone and left no result")
            return Fate("unknown", f"it runs outside of any batch job: only {process.host} itself can tell")
        if (process.job.cluster, process.job.job_id) not in self._records:
            self._ask([process.job])
        fate = self._of_run(process.job, gone=here)
        return self._of_the_gone(process, process.job, fate) if here else fate

    def _of_the_gone(self, process: ProcessName, job: BatchJob, fate: Fate) -> Fate:
        """Judge a process of this host that is gone for certain: its job tells why, or it went alone."""
        if fate.state == "dead":
            return fate
        gone = f"process {process.pid} of this host is gone and left no result"
        if job == BatchJob.own():
            return _dead(f"{gone}; job {job.job_id} goes on")
        patience_s = SETTLE_S
        if fate.state == "unknown" and fate.code is None:
            patience_s = ASK_S if job.cluster in self.inquiry.schedulers else OTHERS_ASK_S
        left_s = patience_s - self.watch.age_s(("gone", str(process)), (fate.state, fate.code))
        if left_s > 0:
            return Fate("unknown", f"{gone}; what became of its job is not known yet", wait_s=left_s)
        return _dead(f"{gone}; {fate.evidence}") if fate.code is None else replace(fate, state="dead", wait_s=0.0)

    def _of_run(self, job: BatchJob, *, gone: bool = False) -> Fate:
        """Judge a run of a batch job; ``gone`` if its process is known to have ended."""
        record = self._records[job.cluster, job.job_id]
        what = f"job {job.job_id} of {job.cluster or 'no named cluster'}"
        infos = self._infos.get(job.cluster)
        if infos is None or isinstance(infos, SchedulerAwayError):
            if told := self._recorded(job, record, what, gone=gone):
                return told
            if infos is None:
                return Fate("unknown", f"{what}: it is in no cluster of this machine's cluster file")
            return Fate("unknown", f"{what}: its scheduler does not answer ({infos})")
        info = infos.get(job.job_id)
        if info is not None and info.is_hearsay:
            if told := self._recorded(job, record, what, gone=gone):
                return told
            return Fate("unknown", f"{what}: {info.state} when last heard of, and its scheduler does not answer")
        if info is None or (info.phase != "ended" and info.source == "sacct"):
            # accounts that were never closed say that a job runs which the controller has forgotten
            if told := self._recorded(job, record, what, gone=gone):
                return told
            said = "knows nothing of it (any more)" if info is None else "has forgotten it, and its accounts are open"
            lost = _dead(f"{what}: its scheduler {said}, and it gives no sign of life", whole_job=True)
            return self._when_still(job, record, lost, FORGOTTEN_S, gone=gone)
        if info.ending:
            return Fate("unknown" if gone else "alive", f"{what} is being ended ({info.state})")
        if info.restarts > job.restart:
            return self._put_back(job, record, info, what, gone=gone)
        if info.phase != "ended":
            return Fate("alive", f"{what} is {info.phase} ({info.state})")
        left = "" if info.cause else ", and this launch had left no result"
        ended = _dead(f"{what}: {info.evidence or info.state}{left}", info.cause, whole_job=True)
        if gone and not info.source.startswith("sacct") and self._accounts(job.cluster):
            return replace(ended, state="unknown")  # who cancelled it, say, is about to come in
        return self._when_still(job, record, ended, FORGOTTEN_S if info.cause == NODE_FAILURE else STILL_S, gone=gone)

    def _recorded(self, job: BatchJob, record: dict[str, Any] | None, what: str, *, gone: bool) -> Fate | None:
        """Judge a run by what its scheduler has said before, as its pilot's record keeps it."""
        if record is None or not record.get("settled") or record["restarts"] < job.restart:
            return None
        if record["restarts"] > job.restart:
            return _dead(f"{what}, run {job.restart}: put back into the queue", PREEMPTED, whole_job=True)
        if cause := record["cause"]:
            ended = _dead(cause["evidence"], cause["code"], whole_job=True)
        else:
            ended = _dead(f"{what}: {record['scheduler_state']}, and this launch had left no result", whole_job=True)
        return self._when_still(job, record, ended, STILL_S, gone=gone)

    def _accounts(self, cluster: str) -> bool:
        try:
            return self.inquiry.accounting(cluster)
        except SchedulerAwayError:
            return False

    def _put_back(self, job: BatchJob, record: dict[str, Any] | None, info: JobInfo, what: str, *, gone: bool) -> Fate:
        """Judge a run after which its job was put back into the queue."""
        run = info.earlier[job.restart] if job.restart < len(info.earlier) else None
        why = run.evidence or run.state if run else "its scheduler does not tell why"
        code = (run and run.cause) or PREEMPTED  # it had to make way, if nothing worse
        ended = _dead(f"{what}, run {job.restart}: put back into the queue; {why}", code, whole_job=True)
        if gone and run is None and self._accounts(job.cluster):
            return replace(ended, state="unknown")  # about to come in
        # the next run begins only when nothing is left of this one; until then the beat is this one's
        return self._when_still(job, record, ended, STILL_S, gone=gone or info.phase == "running")

    def _when_still(
        self, job: BatchJob, record: dict[str, Any] | None, ended: Fate, still_s: float, *, gone: bool
    ) -> Fate:
        """Call a job dead once it has given no sign of life for long enough."""
        if gone or (record is not None and record["reason"]):  # it has said itself that it ended
            return ended
        if record is None:
            # nothing beats for it: the scheduler's word must do, and its silence does not
            if still_s < FORGOTTEN_S or ended.code == NODE_FAILURE:
                return ended
            return Fate("unknown", f"{ended.evidence}; no pilot's record tells whether it lives")
        left_s = still_s - self._still_s(job.cluster, job.job_id, record)
        if left_s <= 0:
            return ended
        return Fate("unknown", f"{ended.evidence}; it may still live: waiting for its beat", wait_s=left_s)
