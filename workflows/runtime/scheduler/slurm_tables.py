"""What squeue and sacct are asked for, and their answers as :class:`JobInfo`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

from dft_inputs.walltime import parse_duration
from workflows.runtime.scheduler import states
from workflows.runtime.scheduler.base import JobInfo

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

UNIT = "\x1f"
"""ASCII's unit separator: no name of a job has one."""

_QUEUE_FIELDS = (
    "JobID", "State", "RestartCnt", "NumCPUs", "NodeList", "StartTime", "EndTime", "TimeUsed", "Reason", "exit_code",
    "SubmitTime", "Name",
)  # fmt: skip
QUEUE_FORMAT = ",".join(f"{field}:{UNIT}" for field in _QUEUE_FIELDS)

_ACCOUNT_FIELDS = (
    "JobID", "State", "ExitCode", "NodeList", "AllocCPUS", "ElapsedRaw", "Submit", "Start", "End", "Reason", "JobName",
)  # fmt: skip
ACCOUNT_FORMAT = ",".join(_ACCOUNT_FIELDS)

STAND_IN = "allocation"
"""What accounting calls a job before it has heard of its start."""

NOBODY_ANSWERS = "sacct, slurmctld does not answer"
"""Source of what accounting says while the controller is silent: it may be behind, and knows nothing of a requeue."""


@dataclass(frozen=True)
class QueueRow:
    """A job as slurmctld has it, and for how long its present run has been running."""

    info: JobInfo
    elapsed_s: float
    submitted: datetime | None


@dataclass(frozen=True)
class Run:
    """One run of a job, as accounting has it."""

    info: JobInfo
    submitted: datetime | None

    @property
    def closed(self) -> bool:
        """Whether all of its end has been written.

        slurmctld tells of a job's start only every 5 s. What else comes before makes a row with little in it.
        """
        return self.info.phase == "ended" and self.info.ended is not None and bool(self.info.name)


def parse_queue(text: str) -> dict[str, QueueRow]:
    """Read what squeue printed, by job id."""
    rows: dict[str, QueueRow] = {}
    for line in text.split("\n"):
        parts = line.split(UNIT)
        if len(parts) < len(_QUEUE_FIELDS):
            continue
        row = dict(zip(_QUEUE_FIELDS, parts, strict=False))
        state, by = states.split_state(row["State"])
        phase = states.phase_of(state)
        ended = phase == "ended"
        exit_code, number = states.parse_wait_status(row["exit_code"]) if ended else (None, None)
        nodes, reason = _said(row["NodeList"]), _said(row["Reason"])
        info = JobInfo(
            job_id=row["JobID"],
            name=row["Name"],
            state=state,
            phase=phase,
            cause=states.cause_of(state, exit_code, number),
            evidence=states.evidence_of(
                state, by=by, exit_code=exit_code, number=number, nodes=nodes, reason=reason if ended else ""
            ),
            exit_code=exit_code,
            signal=number,
            restarts=int(row["RestartCnt"] or 0) if row["RestartCnt"].isdigit() else 0,
            cores=int(row["NumCPUs"]) if row["NumCPUs"].isdigit() else 0,
            nodes=nodes,
            # of one that waits it is a guess, and of one that never had a node the time of its end
            started=states.parse_time(row["StartTime"]) if phase != "queued" and nodes else None,
            ended=states.parse_time(row["EndTime"]) if ended else None,
            reason=reason if phase == "queued" else "",
            source="squeue",
            ending=state in states.ENDING,
        )
        rows[info.job_id] = QueueRow(info, parse_duration(row["TimeUsed"]) or 0.0, states.parse_time(row["SubmitTime"]))
    return rows


def parse_accounts(text: str) -> dict[str, tuple[Run, ...]]:
    """Read what ``sacct --duplicates`` printed: the runs of each job, first to last.

    A job id that was given out again (a cluster set up anew) stands for its newest job alone.
    """
    blocks: list[list[dict[str, str]]] = []
    for line in text.split("\n"):
        parts = line.split(UNIT)
        if len(parts) < len(_ACCOUNT_FIELDS):
            continue
        row = dict(zip(_ACCOUNT_FIELDS, parts, strict=False))
        if "." not in row["JobID"]:
            blocks.append([row])
        elif blocks and blocks[-1][0]["JobID"] == row["JobID"].partition(".")[0]:
            blocks[-1].append(row)  # a step follows its run
    runs: dict[str, list[Run]] = {}
    for run in map(_run, blocks):
        runs.setdefault(run.info.job_id, []).append(run)
    return {job_id: _of_one_job(found) for job_id, found in runs.items()}


def is_behind(row: QueueRow, runs: tuple[Run, ...]) -> bool:
    """Tell whether accounting has yet to write the end that squeue tells of: by whom, and what became of the steps."""
    return row.info.phase == "ended" and not (runs and runs[-1].closed and runs[-1].info.state == row.info.state)


def told_by_queue(row: QueueRow, runs: tuple[Run, ...], *, away: str) -> JobInfo:
    """Give what is known of a job that squeue lists.

    Parameters
    ----------
    row : QueueRow
    runs : tuple of Run
        Its runs by accounting; none if it was not asked or knows none.
    away : str
        Why accounting did not answer; empty if it did or was not asked.
    """
    info = row.info
    if info.phase == "ended":
        if not is_behind(row, runs):
            return replace(told_by_accounts(runs), restarts=info.restarts)
        silence = f"; accounting does not answer ({away})" if away else ""
        return replace(info, evidence=info.evidence + silence)
    if not runs or not info.restarts:
        return info
    # as far as accounting has heard of their ends; the index of a run is how often the job had been put back before it
    earlier = tuple(takewhile(lambda run: run.phase == "ended", (_closed(run.info) for run in runs[: info.restarts])))
    spent = sum(run.core_seconds or 0.0 for run in earlier) + row.elapsed_s * info.cores * (info.phase != "queued")
    return replace(info, earlier=earlier, core_seconds=spent)


def told_by_accounts(runs: tuple[Run, ...]) -> JobInfo:
    """Give what accounting knows of a job: its newest run, and the core-time of all."""
    last = runs[-1].info
    return replace(
        last,
        restarts=len(runs) - 1,
        earlier=tuple(_closed(run.info) for run in runs[:-1]),
        core_seconds=sum(run.info.core_seconds or 0.0 for run in runs),
    )


def _closed(run: JobInfo) -> JobInfo:
    """Say of an earlier run that it ended, where its state is only that the job was put back."""
    return replace(run, phase="ended") if run.state == "REQUEUED" else run


def _run(block: list[dict[str, str]]) -> Run:
    head, steps = block[0], block[1:]
    state, by = states.split_state(head["State"])
    phase = states.phase_of(state)
    exit_code, number = states.parse_exit(head["ExitCode"])
    memory = any(states.split_state(step["State"])[0] == "OUT_OF_MEMORY" for step in steps)
    nodes, reason = _said(head["NodeList"]), _said(head["Reason"])
    started = states.parse_time(head["Start"]) if nodes else None
    elapsed_s = _seconds(head)
    if started is None and steps:  # it was put back before accounting had heard that it began
        elapsed_s = max(elapsed_s, *(_seconds(step) for step in steps))
        started = min((at for step in steps if (at := states.parse_time(step["Start"]))), default=None)
    cores = int(head["AllocCPUS"]) if head["AllocCPUS"].isdigit() else 0
    ended = phase == "ended" or state in states.QUEUED
    info = JobInfo(
        job_id=head["JobID"],
        name="" if head["JobName"] == STAND_IN else head["JobName"],
        state=state,
        phase=phase,
        cause=states.cause_of(state, exit_code, number, memory=memory),
        evidence=states.evidence_of(
            state,
            by=by,
            exit_code=exit_code,
            number=number,
            nodes=nodes,
            reason=reason if state == "FAILED" else "",
            memory=memory,
        ),
        exit_code=exit_code if phase == "ended" else None,
        signal=number if phase == "ended" else None,
        cores=cores,
        nodes=nodes,
        started=started,
        ended=states.parse_time(head["End"]) if ended else None,
        core_seconds=elapsed_s * cores,
        source="sacct",
    )
    return Run(info, states.parse_time(head["Submit"]))


def _of_one_job(runs: Iterable[Run]) -> tuple[Run, ...]:
    ordered = sorted(runs, key=lambda run: run.submitted.timestamp() if run.submitted else 0.0)
    name = next((run.info.name for run in reversed(ordered) if run.info.name), "")
    return tuple(run for run in ordered if run.info.name in {name, ""})


def _seconds(row: dict[str, str]) -> float:
    return float(row["ElapsedRaw"]) if row["ElapsedRaw"].isdigit() else 0.0


def _said(text: str) -> str:
    """Give a word unless it is one of SLURM's for nothing."""
    return "" if text.strip() in {"None", "None assigned", "(null)", "N/A", "Unknown"} else text.strip()
