"""What SLURM's words mean: times, exit codes, states, and which cause of ours stands behind an end."""

from __future__ import annotations

import os
import pwd
import re
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from workflows.runtime.scheduler.base import Phase

QUEUED = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"})
ENDED = frozenset({
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT",
})  # fmt: skip
ENDING = frozenset({"COMPLETING", "STAGE_OUT"})
"""Its processes or its files are being cleared away; only then it has ended."""

WALLTIME, OUT_OF_MEMORY, NODE_FAILURE, PREEMPTED, CANCELLED, KILLED = 101, 102, 103, 104, 105, 106
_CAUSES = {
    "TIMEOUT": WALLTIME,
    "DEADLINE": WALLTIME,
    "OUT_OF_MEMORY": OUT_OF_MEMORY,
    "NODE_FAIL": NODE_FAILURE,
    "BOOT_FAIL": NODE_FAILURE,
    "LAUNCH_FAILED": NODE_FAILURE,
    "PREEMPTED": PREEMPTED,
    "CANCELLED": CANCELLED,
    "REVOKED": CANCELLED,
}

_OOM_SIGNAL = 125
"""What SLURM gives for a signal where cgroups ended something for its memory."""

_NO_OUTPUT_SIGNAL = 53
"""What SLURM gives for a signal where it could not open the job's output file or directory."""


def phase_of(state: str) -> Phase:
    """Give the phase of a state; a word that is not known (of a newer SLURM) does not mean that the job has ended."""
    if state in ENDED:
        return "ended"
    return "queued" if state in QUEUED else "running"


def split_state(text: str) -> tuple[str, int | None]:
    """Take ``CANCELLED by 1000`` apart.

    Returns
    -------
    state : str
    by : int or None
        The uid.
    """
    match = re.fullmatch(r"(\w+)\+?(?: by (\d+))?", text.strip())
    if match is None:
        return text.strip(), None
    return match[1], int(match[2]) if match[2] else None


def parse_time(text: str) -> datetime | None:
    """Read a time as ``SLURM_TIME_FORMAT=%s`` prints it, or in ISO format as older versions do (our TZ is UTC there).

    Returns
    -------
    datetime.datetime or None
        In UTC; ``None`` for ``None``, ``Unknown``, ``N/A`` and everything else that is no time.
    """
    text = text.strip()
    if re.fullmatch(r"\d{1,11}", text):
        return datetime.fromtimestamp(int(text), UTC) if int(text) else None
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError:
        return None


def parse_exit(text: str) -> tuple[int | None, int | None]:
    """Read ``exit code:signal``.

    Returns
    -------
    exit_code, signal : int or None
        No signal: ``None``; both ``None`` if it is no exit code.
    """
    match = re.fullmatch(r"(\d+):(\d+)", text.strip())
    if match is None:
        return None, None
    return int(match[1]), int(match[2]) or None


def parse_wait_status(text: str) -> tuple[int | None, int | None]:
    """Read a status as ``wait(2)`` gives it: what squeue prints for an exit code."""
    if not re.fullmatch(r"\d{1,10}", text.strip()):
        return None, None
    status = int(text)
    return (status >> 8) & 0xFF, (status & 0x7F) or None


def cause_of(state: str, exit_code: int | None, number: int | None, *, memory: bool = False) -> int | None:
    """Tell which cause of ours an end has.

    Parameters
    ----------
    state : str
        In SLURM's word.
    exit_code, number : int or None
        Exit code and signal.
    memory : bool
        Whether a step of it ended for its memory.

    Returns
    -------
    int or None
        ``None`` for jobs that have not ended, or ended with an exit code of their own: those know better themselves.
    """
    if state in _CAUSES:
        return _CAUSES[state]
    if state not in ENDED or state == "COMPLETED":
        return None
    if number == _OOM_SIGNAL or (memory and (exit_code or number)):
        return OUT_OF_MEMORY
    return KILLED if number and number != _NO_OUTPUT_SIGNAL else None


def evidence_of(
    state: str,
    *,
    by: int | None = None,
    exit_code: int | None = None,
    number: int | None = None,
    nodes: str = "",
    reason: str = "",
    memory: bool = False,
) -> str:
    """Put an end into one line for people."""
    words = [f"{state} by {user_name(by)}" if by is not None else state]
    if memory and state != "OUT_OF_MEMORY":
        words.append("a step ran out of memory")
    if exit_code:
        words.append(f"exit code {exit_code}")
    if number == _NO_OUTPUT_SIGNAL:
        words.append("its output file could not be opened")
    elif number and number != _OOM_SIGNAL:
        words.append(f"signal {number}{signal_name(number)}")
    if nodes:
        words.append(f"on {nodes}")
    if reason:
        words.append(f"reason {reason}")
    return ", ".join(words)


def signal_name(number: int) -> str:
    """Give a signal's name in brackets; nothing if it has none here."""
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:
        return ""


def user_name(uid: int) -> str:
    """Give the name of a user, and whether it is the one that asks."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = "uid"
    return f"{name} ({uid}{', yourself' if uid == os.getuid() else ''})"
