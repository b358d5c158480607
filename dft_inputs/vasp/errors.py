"""What VASP prints when something breaks, the cause, and what a re-run changes, in VASP's own keywords.

The words are those that custodian's ``VaspErrorHandler`` and ``StdErrHandler`` look for (custodian 2026.10), and those
of VASP's wiki on the same errors; the remedies are theirs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

SUGGESTIONS: dict[int, str] = {
    101: "POSCAR from the last complete geometry, more wall-time; custodian's WalltimeHandler writes STOPCAR in time",
    102: "more memory; or smaller KPAR and larger NCORE, LREAL = Auto for large cells",
    105: "the same again, POSCAR from the last complete geometry",
    106: "the same again, POSCAR from the last complete geometry (if the process is still running, wait: its output is "
    "not finished)",
    201: "POTCAR for every element of POSCAR: PMG_VASP_PSP_DIR set, or the family of the protocol installed",
    202: "space made in the run directory; LWAVE = .FALSE. and LCHARG = .FALSE. write less",
    203: "the executable installed or its path corrected (its shared libraries too: load the same modules as it was "
    "built with)",
    206: "permission to write to the run directory",
    207: "POTCAR with the elements of POSCAR in their order",
    208: "the POTCAR library installed anew, or another POTCAR of that element",
    209: "NCORE = 1 (and no NPAR), KPAR = 1",
    210: "the same again; if it comes back, `ulimit -s unlimited`, then LREAL = .FALSE.",
    211: "WAVECAR and CHGCAR removed, ISTART = 0, ICHARG = 2",
    301: "the structure corrected: atoms apart from each other, right-handed cell vectors",
    303: "the input corrected where the message says",
    305: "NBANDS larger by a tenth",
    306: "ISMEAR = 0, SIGMA = 0.05",
    307: "SYMPREC = 1E-8, then ISYM = 0; KPOINTS centred on Gamma",
    401: "ALGO = Fast, then ALGO = All",
    410: "ALGO = Fast, then All, then Normal with AMIX = 0.1, BMIX = 0.01; larger NELM",
    411: "ISTART = 1 with the last WAVECAR, then IMIX = 1 (Kerker mixing) from ICHARG = 2",
    501: "POSCAR from CONTCAR with a larger NSW",
    510: "POSCAR from CONTCAR, IBRION = 1, EDIFF smaller by ten",
    602: "none: look at the structure and the input",
    611: "the same again, POSCAR from the last complete geometry",
}
"""What a re-run of VASP changes, by cause."""


@dataclass(frozen=True)
class ErrorRule:
    """Words of VASP and the cause that they show.

    Parameters
    ----------
    code : int
        A key of :data:`dft_inputs.causes.DFT_CAUSES`.
    pattern : re.Pattern
    suggestion : str
        In place of the one for the code; empty: that one.
    """

    code: int
    pattern: re.Pattern[str]
    suggestion: str = ""


def _rule(code: int, *words: str, suggestion: str = "") -> ErrorRule:
    return ErrorRule(code, re.compile("|".join(words)), suggestion)


ERROR_RULES: tuple[ErrorRule, ...] = (
    _rule(201, r"POTCAR( file)? not found", r"[Nn]o POTCAR", r"POTCAR.*No such file", r"file not found.*POTCAR"),
    _rule(207, r"type information on POSCAR .*POTCAR.*incompatible"),
    _rule(303, r"(INCAR|POSCAR|KPOINTS)( file)? not found", r"fewer positions on POSCAR"),
    _rule(301, r"ERROR: the triple product of the basis vectors"),
    _rule(305, r"TOO FEW BANDS", r"number of bands is not sufficient"),
    _rule(510, r"ZBRENT: fatal (internal in|error in bracketing)"),
    _rule(510, r"BRIONS problems: POTIM should be increased", suggestion="POTIM larger by 0.1, POSCAR from CONTCAR"),
    _rule(510, r"supplied exchange-correlation table", suggestion="IBRION = 1, POTIM halved: a step went too far"),
    _rule(411, r"BRMIX: very serious problems"),
    _rule(401, r"Error EDDDAV: Call to ZHEGV failed", r"WARNING in EDDRMM: call to ZHEGV failed"),
    _rule(401, r"ERROR (in )?EDDIAG: [Cc]all to (routine )?ZHEEV", suggestion="ALGO = Exact, then Normal"),
    _rule(401, r"Sub-Space-Matrix is not hermitian in DAV", suggestion="ALGO = Very_Fast, then PREC = Accurate"),
    _rule(
        401,
        r"ERROR in subspace rotation P[SD]SYEVX",
        suggestion="ALGO = Normal; without ScaLAPACK: LSCALAPACK = .FALSE.",
    ),
    _rule(401, r"ZPOTRF failed", r"Routine ZPOTRF ZTRTRI", suggestion="ISYM = 0, POTIM halved; atoms further apart"),
    _rule(401, r"EDWAV: internal error, the gradient is not orthogonal", r"ALGO=A and IALGO=5X tend to fail"),
    _rule(306, r"[Tt]etrahedron method fails", r"TETIRR needs special values", r"BZINTS", r"DENTET"),
    _rule(307, r"POSMAP", r"SGRCON", r"RHOSYG", r"internal error in subroutine PRICEL", r"PRICELV: current lattice"),
    _rule(
        307,
        r"rotation matrix was not found",
        r"non-integer element in rotation matrix",
        r"Inconsistent Bravais lattice",
    ),
    _rule(307, r"group operation missing", r"not all point group operations", r"determination of the symmetry of your"),
    _rule(
        307,
        r"Fatal error detecting k-mesh",
        r"unable to match k-point",
        r"Could not get correct shifts",
        r"HNFORM: k-point",
        r"GENERATE_KPOINTS_TRANS: number of G-vector changed",
    ),
    _rule(209, r"PEAD routines do not work for NCORE", r"remove the tag NPAR", r"ELF: KPAR>1 not implemented"),
    _rule(
        210,
        r"ERROR RSPHER",
        r"REAL_OPT(LAY)?: internal (error|ERROR)",
        r"SBESSELITER : nicht konvergent",
        suggestion="LREAL = .FALSE.",
    ),
    _rule(211, r"while reading plane", r"while reading WAVECAR", r"while reading CHGCAR"),
    _rule(208, r"internal error in SET_CORE_WF"),
    _rule(303, r"Error reading item", r"Error code was IERR= 5", r"Spin polarized Harris functional dynamics"),
    _rule(202, r"forrtl: severe \(38\)", r"forrtl: .*error during write"),
    _rule(102, r"forrtl: severe \(41\)"),
    _rule(210, r"VERY BAD NEWS! internal error", r"LAPACK: Routine \w+ failed"),
    _rule(
        410,
        r"One of the lattice vectors is very long \(>50 A\), but AMIN",
        suggestion="AMIN = 0.01: charge sloshes in long cells",
    ),
)
"""In the order in which they are tried. Some are warnings: they explain a run that failed, and no more than that."""
