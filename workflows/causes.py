"""Why there is no trustworthy result: the table of all causes, and the bands 1xx and 9xx.

Bands: 1xx the scheduler, 2xx the environment, 3xx the input, 4xx electronic convergence, 5xx ionic convergence, 6xx the
result is untrustworthy although the code said it was done, 9xx unknown. DFT codes add theirs to 2xx-6xx.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass

from pymongo.errors import ConnectionFailure, OperationFailure

_MONGODB_OUT_OF_DISK_SPACE = 14031
"""OutOfDiskSpace in MongoDB's ``src/mongo/base/error_codes.yml``."""


@dataclass(frozen=True)
class CauseInfo:
    """One row of the table.

    Parameters
    ----------
    code : int
    name : str
        snake_case.
    recognised_by : str
        How it is recognised, in words.
    recoverable : bool
        Whether a re-run can help.
    rerun_changes : str
        What a re-run changes; empty if nothing.
    """

    code: int
    name: str
    recognised_by: str
    recoverable: bool
    rerun_changes: str = ""


CAUSES: dict[int, CauseInfo] = {
    info.code: info
    for info in (
        CauseInfo(101, "walltime", "scheduler state TIMEOUT", True, "more wall-time, restart from the last geometry"),
        CauseInfo(102, "out_of_memory", "scheduler state OUT_OF_MEMORY, or MemoryError", True, "more memory"),
        CauseInfo(103, "node_failure", "scheduler state NODE_FAIL", True, "another node"),
        CauseInfo(104, "preempted", "scheduler state PREEMPTED", True, "the same again"),
        CauseInfo(105, "cancelled", "scheduler state CANCELLED, or a worker told to stop", True, "the same again"),
        CauseInfo(106, "killed", "the process is gone and left no result", True, "the same again"),
        CauseInfo(201, "missing_pseudopotential", "no pseudopotential for an element", True, "the family installed"),
        CauseInfo(202, "disk_full", "OSError ENOSPC or EDQUOT", True, "space made"),
        CauseInfo(203, "binary_missing", "the executable is not on PATH", True, "the executable installed"),
        CauseInfo(204, "import_error", "ImportError in the task", True, "the package installed"),
        CauseInfo(205, "database_unreachable", "pymongo can't reach the server", True, "the same again"),
        CauseInfo(206, "permission_denied", "OSError EACCES or EPERM", True, "permission given"),
        CauseInfo(301, "bad_structure", "partial occupancy, atoms on top of each other, a broken cell", False),
        CauseInfo(302, "unsupported_element", "the engine does not know an element", False),
        CauseInfo(303, "bad_input", "the engine refused its input", False),
        CauseInfo(
            501,
            "ionic_steps_exhausted",
            "relaxation not converged within the step limit",
            True,
            "more steps from the last geometry",
        ),
        CauseInfo(
            502, "phonon_relaxation_not_converged", "residual forces too large for phonons", True, "tighter relaxation"
        ),
        CauseInfo(601, "structure_exploded", "volume or distances left the sane range", False),
        CauseInfo(602, "not_finite", "energy, force or stress is not a finite number", False),
        CauseInfo(
            603,
            "equation_of_state_failed",
            "no smooth curve with a minimum inside the sampled volumes",
            True,
            "other volumes: wider where the minimum lies outside, narrower where the crystal changes between them",
        ),
        CauseInfo(604, "phonon_failed", "force constants could not be made", True, "a larger supercell"),
        CauseInfo(605, "property_failed", "a property maker gave no trustworthy value", True, "the same again"),
        CauseInfo(606, "no_reference", "the reference set does not span the chemical system", True, "the set built"),
        CauseInfo(901, "upstream", "a parent job failed; its own cause is the root", False),
        CauseInfo(999, "unknown", "an error that no rule recognises", True, "the same again"),
    )
}
"""All causes by code."""


class CausedError(Exception):
    """An error that knows its cause; stages and engines raise it so that nobody has to guess from a traceback.

    Parameters
    ----------
    code : int
        A key of :data:`CAUSES`.
    evidence : str
        The line or number that shows it.
    stage : str, optional
        The stage that is to blame, where it is not the one that noticed (gate reads what relax wrote).
    """

    def __init__(self, code: int, evidence: str, stage: str | None = None) -> None:
        self.code = code
        self.stage = stage
        self.evidence = evidence
        super().__init__(f"[{code} {CAUSES[code].name}] {evidence}")


def cause_of(error: BaseException) -> tuple[int, str]:
    """Name the cause of an error that a task raised: small rules, tried in the order of their priority.

    Returns
    -------
    tuple of int and str
        Code and evidence (the message, one line, at most 500 characters).
    """
    text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
    for rule in _RULES:
        code = rule(error)
        if code is not None:
            return code, error.evidence if isinstance(error, CausedError) else text
    return 999, text


def _says_itself(error: BaseException) -> int | None:
    return error.code if isinstance(error, CausedError) else None


def _is_stopped(error: BaseException) -> int | None:
    return 105 if isinstance(error, (KeyboardInterrupt, SystemExit)) else None


def _is_out_of_memory(error: BaseException) -> int | None:
    return 102 if isinstance(error, MemoryError) else None


def _is_import(error: BaseException) -> int | None:
    return 204 if isinstance(error, ImportError) else None


def _is_file_system(error: BaseException) -> int | None:
    if not isinstance(error, OSError):
        return None
    return {
        errno.ENOSPC: 202,
        errno.EDQUOT: 202,
        errno.EACCES: 206,
        errno.EPERM: 206,
    }.get(error.errno or 0)


def _is_database(error: BaseException) -> int | None:
    if isinstance(error, OperationFailure) and error.code == _MONGODB_OUT_OF_DISK_SPACE:
        return 202
    return 205 if isinstance(error, ConnectionFailure) else None


_RULES = (_says_itself, _is_stopped, _is_out_of_memory, _is_import, _is_database, _is_file_system)
