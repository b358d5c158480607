"""How much wall-time is left, asked on the worker at the moment of asking.

A limit fixed when a job was made is wrong by the time that it waited in the queue, or that an earlier task of the same
allocation took. So every start of a code asks here first.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

DEADLINE = "NUCLEATE_DEADLINE"
"""Environment variable with the time (seconds since the epoch) at which this process must be done."""

QUERY_TIMEOUT = 20.0
"""s; a scheduler's controller that is slower than this is treated as one that does not answer."""


def seconds_left(environ: Mapping[str, str] | None = None) -> float | None:
    """Give the wall-time left to this process.

    Sources, each optional: ``NUCLEATE_DEADLINE``; ``SLURM_JOB_END_TIME`` (newer SLURMs set it, 22.05.8 does not), else
    ``squeue``; for PBS ``qstat -f``. Where several know, the earliest end counts.

    Parameters
    ----------
    environ : mapping of str to str, optional
        The process' environment if not given.

    Returns
    -------
    float or None
        s, negative if the end has passed; ``None`` if nobody knows of a limit.

    Raises
    ------
    ValueError
        If ``NUCLEATE_DEADLINE`` is no number: a limit that somebody set must not be lost by a slip of the pen.
    """
    environ = os.environ if environ is None else environ
    known = [left for left in (_own(environ), _slurm(environ), _pbs(environ)) if left is not None]
    return min(known, default=None)


class Remaining:
    """The wall-time left, for who wants to know all the time: a scheduler is asked now and then, a clock in between.

    Parameters
    ----------
    every_s : float
        s between two questions.
    """

    def __init__(self, every_s: float = 30.0) -> None:
        self.every_s = every_s
        self._asked = float("-inf")
        self._left: float | None = None

    def seconds(self) -> float | None:
        """Give what :func:`seconds_left` does."""
        since = time.monotonic() - self._asked
        if since >= self.every_s:
            self._left, self._asked, since = seconds_left(), time.monotonic(), 0.0
        return None if self._left is None else self._left - since


def _own(environ: Mapping[str, str]) -> float | None:
    text = environ.get(DEADLINE, "").strip()
    if not text:
        return None
    try:
        return float(text) - time.time()
    except ValueError:
        raise ValueError(f"{DEADLINE}={text!r}: seconds since the epoch are wanted") from None


def _slurm(environ: Mapping[str, str]) -> float | None:
    job = environ.get("SLURM_JOB_ID", "")
    if not job:
        return None
    end = environ.get("SLURM_JOB_END_TIME", "")
    if end.isdigit():
        return int(end) - time.time()
    return parse_duration(_ask("squeue", "--noheader", "--jobs", job, "--format", "%L"))


def _pbs(environ: Mapping[str, str]) -> float | None:
    job = environ.get("PBS_JOBID", "")
    if not job:
        return None
    answer = _ask("qstat", "-f", job)
    if remaining := re.search(r"Walltime\.Remaining\s*=\s*(\d+)", answer):
        return float(remaining[1])
    limit = re.search(r"Resource_List\.walltime\s*=\s*(\S+)", answer)
    used = re.search(r"resources_used\.walltime\s*=\s*(\S+)", answer)
    whole = parse_duration(limit[1]) if limit else None
    if whole is None:
        return None
    return whole - ((parse_duration(used[1]) if used else None) or 0.0)


def parse_duration(text: str) -> float | None:
    """Read ``[days-]hours:minutes:seconds``, ``minutes:seconds`` or seconds, as schedulers print them.

    Returns
    -------
    float or None
        s; ``None`` for ``UNLIMITED``, ``INVALID``, ``NOT_SET`` and everything else that is no duration.
    """
    match = re.fullmatch(r"(?:(?P<days>\d+)-)?(?P<clock>\d+(?::\d+){0,2})", text.strip())
    if match is None:
        return None
    numbers = [int(number) for number in match["clock"].split(":")]
    if match["days"]:  # after days, SLURM's clock begins with hours
        numbers += [0] * (3 - len(numbers))
    hours, minutes, seconds = [0] * (3 - len(numbers)) + numbers
    return timedelta(days=int(match["days"] or 0), hours=hours, minutes=minutes, seconds=seconds).total_seconds()


def _ask(*command: str) -> str:
    """Give what a scheduler's command prints; nothing if there is none or it doesn't answer."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603  # arguments are ours, no shell
            [program, *command[1:]], capture_output=True, text=True, timeout=QUERY_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""
