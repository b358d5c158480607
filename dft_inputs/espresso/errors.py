"""What pw.x's own error messages mean: routine and message of an ``Error in routine`` block, and our cause.

The messages are those of pw.x 6.7 (read from the program, provoked where a small run can), and those that
aiida-quantumespresso's ``PwCalculation`` knows from other releases (its exit codes 341-599, version 4).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SUGGESTIONS: dict[int, str] = {
    101: "restart from the last complete geometry and the charge density in outdir, with more wall-time; "
    "set max_seconds below the time that is left so that pw.x stops by itself and saves its state",
    102: "more memory; or less of it used: more pools off (-nk 1 spreads one k-point over all processes), "
    "diagonalization='cg', mixing_ndim=4, diago_david_ndim=2",
    105: "the same again, from the last complete geometry and the charge density in outdir",
    106: "the same again, from the last complete geometry (if the process is still running, wait: its output is not "
    "finished)",
    201: "the pseudopotential put into pseudo_dir: `nucleate pseudos install`",
    202: "space made in outdir and in the run directory, or outdir on another file system; disk_io='low' writes less",
    203: "the executable installed or its path corrected (its shared libraries too: load the same modules as it was "
    "built with)",
    206: "permission to write to outdir and to the run directory, or another outdir",
    207: "pseudopotentials of one family and one functional",
    208: "the family installed anew: `nucleate pseudos verify` names damaged files",
    209: "fewer pools (-nk): at most as many as there are k-points, and a divisor of the number of processes",
    210: "the same again; if it comes back, with fewer processes, then with startingwfc='random'",
    211: "restart_mode='from_scratch' and startingpot='atomic' at the last complete geometry; nscf and bands want the "
    "scf before them run again in the same outdir",
    301: "the structure corrected: atoms apart from each other, cell vectors that span a volume",
    303: "the input corrected where the message says",
    304: "a smaller system, cutoff or mesh",
    305: "a larger nbnd",
    306: "occupations='smearing', smearing='cold', degauss=0.01",
    401: "diagonalization='cg' (then 'ppcg', 'paro'), startingwfc='atomic+random'",
    410: "mixing_beta halved, electron_maxstep doubled, from the last charge density (startingpot='file'); for slabs "
    "and large cells mixing_mode='local-TF'",
    411: "mixing_beta=0.3, mixing_mode='plain' with mixing_ndim=4, from startingpot='atomic'",
    501: "from the last geometry with a larger nstep",
    510: "from the last geometry without the minimiser's history (restart_mode='from_scratch'), trust_radius_ini "
    "smaller or conv_thr tighter; then ion_dynamics='damp' (and cell_dynamics='damp-w')",
    511: "from the last complete geometry, so that plane waves and tables are made for it; a larger cell_factor if one "
    "relaxation alone changes the cell so much",
    602: "none: look at the structure and the input",
    610: "the vc-relax repeated from its last geometry, so that plane waves are chosen for it; if the pressure stays, "
    "a higher ecutwfc",
    611: "the same again from the last geometry",
}
"""What a re-run of pw.x changes, in its own keywords."""


@dataclass(frozen=True)
class ErrorRule:
    """A kind of ``Error in routine`` block.

    Parameters
    ----------
    code : int
        A key of :data:`dft_inputs.causes.DFT_CAUSES`.
    routine : re.Pattern
        Must match the whole name of the routine.
    message : re.Pattern
        Must be found in the message.
    """

    code: int
    routine: re.Pattern[str]
    message: re.Pattern[str]

    def fits(self, routine: str, message: str) -> bool:
        """Whether a block is of this kind."""
        return bool(self.routine.fullmatch(routine) and self.message.search(message))


def _rule(code: int, routine: str = ".*", message: str = "") -> ErrorRule:
    return ErrorRule(code, re.compile(routine), re.compile(message, re.IGNORECASE))


ERROR_RULES: tuple[ErrorRule, ...] = (
    _rule(306, message="smearing is needed"),
    _rule(411, message="charge is wrong"),
    _rule(305, message="too few (spin (up|dw|down) )?bands"),
    _rule(511, message="radial FFT|cell_factor"),
    _rule(511, "checkallsym", "not orthogonal operation"),
    _rule(511, message="too many g-vectors|inconsistent number of g-vectors|wrong ngms?$"),
    _rule(
        209,
        message="nodes have no k-points|pools with no k-points|number of pools|no plane waves found|"
        "processors have no G-vectors|too many processors",
    ),
    _rule(209, "mp_start_(pools|bands|diag|image).*"),
    _rule(401, message="bands are not converged|S matrix not positive definite|eigenvectors failed to converge"),
    _rule(
        401, message=r"problems computing cholesky|zhegvd? ?\*? ?failed|qr\(X, 0\) failed|diagonali[sz]ation .*failed"
    ),
    _rule(401, r"[cr]diagh.*|.*(diaghg|egterg|cgdiag.*|ppcg.*|paro.*)"),
    _rule(401, message="Cholesky failed|dexx is negative"),
    _rule(411, "broyden|mix_rho", "factorization|inversion"),
    _rule(410, "(broyden|mix_rho|potinit|electrons).*"),
    _rule(303, "read_namelists|read_cards|card_.*"),
    _rule(201, "readpp", "not found"),
    _rule(208, "readpp|read_upf.*|upf_.*|read_pseudo.*|offset_atom_wfc", ""),
    _rule(208, message="pseudopotential file|pseudo file"),
    _rule(207, message="inconsistent DFT|conflicting values for (iexch|icorr|igcx|igcc|inlc|imeta)"),
    _rule(
        211,
        message="fatal error reading xml|reading from file|error reading file|cannot read|file not found|"
        "problems? (opening|reading) file|xml data file .* not found",
    ),
    _rule(202, message=r"error (while )?writing|write error|writing (to )?file"),
    _rule(206, message="cannot be created or accessed|non existent or non writable|not writable|permission"),
    _rule(206, "(diropn|open_buffer|davcio|seqopn)", "opening|error in|cannot open"),
    _rule(202, "(davcio|diropn|write_.*|save_buffer|seqopn)"),
    _rule(301, "check_atoms"),
    _rule(301, message="overlapping atoms|cell volume|linearly dependent"),
    _rule(301, "(invmat|recips|volume|latgen|cell_base.*|at2celldm)"),
    _rule(301, "(ewald|rgen)", "optimal alpha|too many"),
    _rule(102, message="cannot allocate|allocat(e|ing|ion) (error|failed|memory)|not enough memory"),
    _rule(304, message="too many (k[- ]points|atoms|r-vectors)|npk in"),
    _rule(
        303, "(read_namelists|read_cards|card_.*|.*_checkin|iosys|input|setup|set_.*|n_plane_waves|kpoint_grid.*|pw2.*)"
    ),
    _rule(303, message="bad line in namelist|not (yet )?implemented|wrong|not allowed|conflicting|missing"),
    _rule(210),
)
"""In the order in which they are tried; the last takes what nobody knows: what it said is the evidence."""


def code_of(routine: str, message: str) -> int:
    """Name the cause of an ``Error in routine`` block."""
    return next(rule.code for rule in ERROR_RULES if rule.fits(routine, message))
