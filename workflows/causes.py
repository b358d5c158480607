"""Why there is no trustworthy result: the table of all causes, and those that no run directory can show.

Bands: 1xx the scheduler, 2xx the environment, 3xx the input, 4xx electronic convergence, 5xx ionic convergence, 6xx the
result is untrustworthy although the code said it was done, 9xx unknown. What the directory of a DFT run can show is
listed where it is recognised, in :mod:`dft_inputs.causes`; the force field's runs share those rows.
"""

from __future__ import annotations

import errno

from pymongo.errors import ConnectionFailure, OperationFailure

from dft_inputs.causes import DFT_CAUSES, CauseInfo, DftError

UPSTREAM = 901
"""The cause of whatever fails because a job before it did; it says nothing of its own."""

_MONGODB_OUT_OF_DISK_SPACE = 14031
"""OutOfDiskSpace in MongoDB's ``src/mongo/base/error_codes.yml``."""


_BEYOND_A_RUN = (
    CauseInfo(103, "node_failure", "scheduler state NODE_FAIL", True, "another node", retries=10),
    CauseInfo(104, "preempted", "scheduler state PREEMPTED", True, "the same again", retries=20),
    CauseInfo(204, "import_error", "ImportError in the task", True, "the package installed"),
    CauseInfo(205, "database_unreachable", "pymongo can't reach the server", True, "the same again"),
    CauseInfo(
        502, "phonon_relaxation_not_converged", "residual forces too large for phonons", True, "tighter relaxation"
    ),
    CauseInfo(
        603,
        "equation_of_state_failed",
        "no smooth curve with a minimum inside the sampled volumes",
        True,
        "other volumes: wider where the minimum lies outside, narrower where the crystal changes between them",
    ),
    CauseInfo(604, "phonon_failed", "force constants could not be made", True, "a larger supercell"),
    CauseInfo(605, "property_failed", "a property maker gave no trustworthy value", True, "the same again", retries=2),
    CauseInfo(606, "no_reference", "the reference set does not span the chemical system", True, "the set built"),
    CauseInfo(
        607,
        "not_comparable",
        "a correction changed what the energy means, so that it may not meet the reference set's",
        True,
        "the protocol's own settings, from the last geometry",
    ),
    CauseInfo(UPSTREAM, "upstream", "a parent job failed; its own cause is the root", False, retries=0),
    CauseInfo(999, "unknown", "an error that no rule recognises", True, "the same again", retries=2),
)

CAUSES: dict[int, CauseInfo] = dict(sorted({**DFT_CAUSES, **{info.code: info for info in _BEYOND_A_RUN}}.items()))
"""All causes by code."""


class CausedError(Exception):
    """An error that knows its cause; stages and engines raise it so that nobody has to guess from a traceback.

    :class:`dft_inputs.causes.DftError` is its like for what happens inside a DFT run.

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
            return code, error.evidence if isinstance(error, (CausedError, DftError)) else text
    return 999, text


def _says_itself(error: BaseException) -> int | None:
    return error.code if isinstance(error, (CausedError, DftError)) else None


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
