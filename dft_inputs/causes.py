"""Why a DFT run has no trustworthy result: the causes that its directory can show.

Bands: 1xx the scheduler (those that a run directory shows), 2xx the environment, 3xx the input, 4xx electronic
convergence, 5xx ionic convergence, 6xx the result is untrustworthy although the code said it was done. Code 0 is
success. The table of all causes, with those that only a scheduler, a database or a campaign can show, is
:data:`workflows.causes.CAUSES`.
"""

from __future__ import annotations

from dataclasses import dataclass

SUCCESS = 0
"""Code of a run that ended with a result to be trusted."""


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
    retries : int
        How often a job is worth being run again for it; more has to be insisted on. 0 where a re-run can't help.
    """

    code: int
    name: str
    recognised_by: str
    recoverable: bool
    rerun_changes: str = ""
    retries: int = 3


DFT_CAUSES: dict[int, CauseInfo] = {
    info.code: info
    for info in (
        CauseInfo(
            101,
            "walltime",
            "scheduler state TIMEOUT, or the code stopped itself before its allocation ended",
            True,
            "more wall-time, restart from the last geometry",
            retries=4,
        ),
        CauseInfo(102, "out_of_memory", "scheduler state OUT_OF_MEMORY, or MemoryError", True, "more memory"),
        CauseInfo(105, "cancelled", "scheduler state CANCELLED, or told to stop", True, "the same again", retries=10),
        CauseInfo(106, "killed", "the process is gone and left no result", True, "the same again", retries=5),
        CauseInfo(201, "missing_pseudopotential", "no pseudopotential for an element", True, "the family installed"),
        CauseInfo(202, "disk_full", "OSError ENOSPC or EDQUOT, or a write that failed", True, "space made"),
        CauseInfo(203, "binary_missing", "the executable is not on PATH", True, "the executable installed"),
        CauseInfo(206, "permission_denied", "OSError EACCES or EPERM", True, "permission given"),
        CauseInfo(
            207,
            "wrong_pseudopotential",
            "a pseudopotential of another functional, family or element than asked",
            True,
            "the right family installed",
        ),
        CauseInfo(
            208, "damaged_pseudopotential", "a file differs from the family's sha256", True, "the family installed anew"
        ),
        CauseInfo(
            209, "parallelisation", "more pools or processes than the work can be divided by", True, "fewer pools"
        ),
        CauseInfo(210, "code_crashed", "the code aborted without saying why", True, "the same again", retries=2),
        CauseInfo(
            211,
            "scratch_unusable",
            "files of an earlier run that this one starts from are missing or damaged",
            True,
            "from scratch, at the last geometry",
        ),
        CauseInfo(
            301, "bad_structure", "partial occupancy, atoms on top of each other, a broken cell", False, retries=0
        ),
        CauseInfo(302, "unsupported_element", "the engine does not know an element", False, retries=0),
        CauseInfo(303, "bad_input", "the engine refused its input", False, retries=0),
        CauseInfo(304, "too_large", "estimated memory is above what this machine has", False, retries=0),
        CauseInfo(305, "too_few_bands", "fewer bands than electrons need", True, "more bands"),
        CauseInfo(306, "smearing_needed", "a metal with fixed occupations", True, "smearing"),
        CauseInfo(
            307,
            "symmetry_failed",
            "the code's analysis of symmetry, or of k-points under it, broke down",
            True,
            "another symmetry tolerance, then no symmetry",
        ),
        CauseInfo(
            401, "diagonalisation_failed", "the eigensolver broke down", True, "another algorithm of diagonalisation"
        ),
        CauseInfo(
            410,
            "scf_not_converged",
            "the electronic cycle reached its limit",
            True,
            "smaller mixing, more iterations, from the last charge density",
        ),
        CauseInfo(411, "charge_mixing_failed", "the charge mixer broke down", True, "another scheme of mixing"),
        CauseInfo(
            501,
            "ionic_steps_exhausted",
            "relaxation not converged within the step limit",
            True,
            "more steps from the last geometry",
        ),
        CauseInfo(
            510,
            "ionic_minimiser_failed",
            "the minimiser lost its way (BFGS history, line search)",
            True,
            "a fresh minimiser from the last geometry, then another algorithm",
        ),
        CauseInfo(
            511,
            "cell_changed_too_much",
            "the cell left the range that grids and tables were made for",
            True,
            "tables made anew at the last geometry",
        ),
        CauseInfo(601, "structure_exploded", "volume or distances left the sane range", False, retries=0),
        CauseInfo(602, "not_finite", "energy, force or stress is not a finite number", False, retries=0),
        CauseInfo(
            610,
            "basis_not_consistent",
            "the code said it was done, and the pressure at the relaxed cell is not what it relaxed to",
            True,
            "the relaxation repeated from the last geometry, then a higher cutoff",
        ),
        CauseInfo(
            611,
            "result_incomplete",
            "the code said it was done, and part of the result is missing",
            True,
            "again",
            retries=2,
        ),
    )
}
"""Causes that a run directory can show, by code."""


class DftError(Exception):
    """A run, or what is asked of it, that can give no trustworthy result, and why.

    Parameters
    ----------
    code : int
        A key of :data:`DFT_CAUSES`.
    evidence : str
        The line or number that shows it.
    """

    def __init__(self, code: int, evidence: str) -> None:
        self.code = code
        self.evidence = evidence
        super().__init__(f"[{code} {DFT_CAUSES[code].name}] {evidence}")
