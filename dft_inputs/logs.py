"""What schedulers, shells, MPI and run-time libraries say when a run ends before its time, whichever code it was.

Words as printed by SLURM 22 (``slurmstepd``, ``srun``), PBS and LSF, bash, Open MPI and MPICH, glibc and libgfortran.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dft_inputs.diagnosis import Evidence
    from dft_inputs.texts import Text


@dataclass(frozen=True)
class LogRule:
    """Words in a log and the cause that they show.

    Parameters
    ----------
    code : int
        A key of :data:`dft_inputs.causes.DFT_CAUSES`.
    pattern : re.Pattern
    """

    code: int
    pattern: re.Pattern[str]


def _rule(code: int, *patterns: str) -> LogRule:
    return LogRule(code, re.compile("|".join(patterns), re.MULTILINE))


LOG_RULES: tuple[LogRule, ...] = (
    _rule(
        102,
        r"oom[-_]kill",
        r"OUT_OF_MEMORY",
        r"[Oo]ut [Oo]f [Mm]emory",
        r"Exceeded (job|step) memory limit",
        r"TERM_MEMLIMIT",
        r"mem \d+\S* exceeded limit",
        r"std::bad_alloc",
        r"Cannot allocate memory",
        r"insufficient virtual memory",
        r"Error allocating \d+ bytes",
        r"Allocation would exceed memory limit",
        r"memory allocation failed",
    ),
    _rule(
        101,
        r"DUE TO TIME LIMIT",
        r"job killed: walltime",
        r"walltime \d+ exceeded limit",
        r"TERM_RUNLIMIT",
        r"exceeded (its )?(hard )?wall ?(clock )?(time|limit)",
    ),
    _rule(
        202,
        r"No space left on device",
        r"[Dd]isk quota exceeded",
        r"Not enough space on disk",
        r"SIGXFSZ|[Ff]ile size limit exceeded",
    ),
    _rule(
        203,
        r"command not found",
        r"error while loading shared libraries",
        r"unable to find the specified executable",
        r"^(\S+: )?(line \d+: )?\S*/?(pw\.x|vasp\w*|mpirun|mpiexec|srun)\S*: (not found|No such file or directory)",
        r"execve\(\): .*: No such file or directory",
        r"cannot execute( binary file)?",
        r"HYDU_create_process.*No such file or directory",
    ),
    _rule(206, r"Permission denied", r"Operation not permitted"),
    _rule(209, r"There are not enough slots available", r"There are no allocated resources"),
    _rule(105, r"CANCELLED AT \S+( \*\*\*|$)", r"TERM_OWNER", r"job deleted .* by user"),
    _rule(
        106,
        r"DUE TO (NODE FAILURE|PREEMPTION)",
        r"CANCELLED AT",
        r"[Ss]ignal 9\b",
        r"\bKilled\b",
        r"TERM_\w+",
        r"exited on signal (9|15)",
    ),
    _rule(
        210,
        r"SIGSEGV|[Ss]egmentation fault",
        r"SIGBUS|[Bb]us error",
        r"SIGFPE|SIGILL|SIGABRT",
        r"forrtl: severe",
        r"Fortran runtime error",
        r"MPI_ABORT was invoked|application called MPI_Abort",
    ),
)
"""In the order in which they are tried: a kill for want of memory is also a cancellation, and so on."""


def speaks_of_trouble(text: str) -> bool:
    """Whether a text holds any of the words."""
    return any(rule.pattern.search(text) for rule in LOG_RULES)


def trouble_in(texts: Iterable[Text], codes: frozenset[int] | None = None) -> tuple[int, Evidence] | None:
    """Find what logs say about the end of a run.

    Parameters
    ----------
    texts : iterable of Text
        The newest first: one that says nothing leaves it to the next.
    codes : frozenset of int, optional
        Only these.

    Returns
    -------
    tuple of int and Evidence, or None
    """
    for text in texts:
        for rule in LOG_RULES:
            if (codes is None or rule.code in codes) and (seen := text.first(rule.pattern)) is not None:
                return rule.code, seen
    return None
