"""Whether a run of pw.x that says ``JOB DONE.`` has the result that it was asked for: small checks, tried in order.

pw.x says so, and mostly returns 0, after much that is no result: a relaxation at too low a cutoff, an scf that
``scf_must_converge=.false.`` let pass with the words ``convergence has been achieved``, a number that did not fit into
its columns.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dft_inputs.diagnosis import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable

    from dft_inputs.espresso.pwtext import PwText
    from dft_inputs.texts import Text

VOLUME_CONSISTENCY_KBAR = 1.0
"""What a final scf may miss the wanted pressure by beside twice press_conv_thr, where nobody said what is tolerated.

It is 0.1 % of the volume of a crystal whose bulk modulus is 100 GPa (ΔV = V P / B). The threshold counts twice: once
for what the minimiser left, once for the plane waves that are chosen anew."""

_DEFAULT_PRESS_CONV_THR = 0.5
"""kbar; pw.x's own default (INPUT_PW)."""

_DEFAULT_FORC_CONV_THR = 1e-3
"""Ry/bohr; pw.x's own default (INPUT_PW)."""

_ROUNDED = 1.06
"""Thresholds are printed with two digits."""


@dataclass(frozen=True)
class Asked:
    """What the input asked for that the output does not repeat.

    Parameters
    ----------
    forces, stress : bool
        Whether they must be printed.
    pressure_kbar : float
        Pressure that the cell is relaxed to.
    cell_free : bool
        Whether all of the cell may change, so that it can reach that pressure.
    tolerance_kbar : float or None
        Of the final scf's pressure; ``None``: ``2 press_conv_thr + 1``.
    """

    forces: bool = False
    stress: bool = False
    pressure_kbar: float = 0.0
    cell_free: bool = True
    tolerance_kbar: float | None = None


@dataclass(frozen=True)
class Fault:
    """Why a run is no success.

    Parameters
    ----------
    code : int
    evidence : tuple of Evidence
    suggestion : str
        In place of the one for the code.
    """

    code: int
    evidence: tuple[Evidence, ...] = field(default=())
    suggestion: str = ""


_NUMBER = r"([-+]?\d+\.?\d*(?:[EeDd][-+]?\d+)?)"
_ENERGY = re.compile(r"^!+ +total energy +=(.*)Ry", re.MULTILINE)
_ACCURACY = re.compile(rf"estimated scf accuracy +< +{_NUMBER}")
_SCF_THRESHOLD = re.compile(rf"scf convergence threshold = *{_NUMBER}")
_PRESS_THRESHOLD = re.compile(rf"press convergence thresh\. = *{_NUMBER}")
_FORCE_THRESHOLD = re.compile(rf"force convergence thresh\. = *{_NUMBER}")
_PRESSURE = re.compile(r"\(kbar\) +P= *(\S*)")
_FORCE_LINE = re.compile(r"^ *atom +\d+ +type +\d+ +force =(.*)$", re.MULTILINE)
_IONS_CONVERGED = re.compile(r"bfgs converged in|: convergence achieved in|FIRE: convergence")
_NOT_FINITE = re.compile(r"\b(nan|[+-]?inf(inity)?)\b", re.IGNORECASE)
_UNCONVERGED_BANDS = re.compile(r"c_bands: +\d+ eigenvalues not converged")
_HISTORY = "history already reset at previous step"


def find_fault(run: PwText, asked: Asked) -> Fault | None:
    """Find why a run that says it was done has no result to be trusted; ``None`` if it has."""
    for check in _CHECKS:
        fault = check(run, asked)
        if fault is not None:
            return fault
    return None


def _missing(run: PwText, what: str) -> Fault:
    return Fault(611, (Evidence(run.text.file, None, what),))


def _scf_not_converged(run: PwText, _: Asked) -> Fault | None:
    seen = run.text.last("convergence NOT achieved")
    return Fault(410, (seen,)) if seen else None


def _scf_not_as_converged_as_asked(run: PwText, _: Asked) -> Fault | None:
    """``scf_must_converge=.false.`` prints that convergence has been achieved, whatever it has."""
    thresholds = [_float(found.group(1)) for found in _SCF_THRESHOLD.finditer(run.text.content)]
    if not thresholds:
        return None
    for energy in _ENERGY.finditer(run.text.content):
        accuracy = _ACCURACY.search(run.text.content, energy.end(), energy.end() + 400)
        if accuracy and _float(accuracy.group(1)) > _ROUNDED * max(thresholds):
            limit = run.text.at(next(_SCF_THRESHOLD.finditer(run.text.content)).start())
            return Fault(410, (run.text.at(accuracy.start()), limit))
    return None


def _minimiser_gave_up(run: PwText, asked: Asked) -> Fault | None:
    """After two resets of its history BFGS stops and calls it convergence; it may be one."""
    seen = run.text.last(_HISTORY)
    if seen is None or _is_at_minimum(run, asked):
        return None
    return Fault(510, (seen,))


def _steps_exhausted(run: PwText, _: Asked) -> Fault | None:
    seen = run.text.last("The maximum number of steps has been reached")
    return Fault(501, (seen,)) if seen and not run.moves else None


def _no_band_structure(run: PwText, _: Asked) -> Fault | None:
    if not run.only_bands:
        return None
    if "End of band structure calculation" not in run.text:
        return _missing(run, "no end of the band structure calculation")
    bad = run.text.first(_UNCONVERGED_BANDS)
    return Fault(401, (bad,)) if bad else None


def _no_energy(run: PwText, _: Asked) -> Fault | None:
    if run.only_bands:
        return None
    if not _ENERGY.search(run.last_step.content):
        return _missing(run, "the last scf has no total energy (a line that begins with `!`)")
    if "convergence has been achieved" not in run.last_step:
        return _missing(run, "the last scf does not say that convergence has been achieved")
    return None


def _not_finite(run: PwText, _: Asked) -> Fault | None:
    """Numbers that are none, or that did not fit into their columns, in what the result is read from."""
    for pattern in (_ENERGY, _FORCE_LINE, _PRESSURE):
        for found in pattern.finditer(run.text.content):
            if _NOT_FINITE.search(found.group(1)):
                return Fault(602, (run.text.at(found.start()),))
            if "*" in found.group(1):
                return Fault(611, (run.text.at(found.start()),))
    return None


def _no_forces(run: PwText, asked: Asked) -> Fault | None:
    if (asked.forces or run.relaxes) and not run.only_bands and not _FORCE_LINE.search(run.last_step.content):
        return _missing(run, "forces were asked for, and the last scf prints none")
    return None


def _no_stress(run: PwText, asked: Asked) -> Fault | None:
    if (asked.stress or run.relaxes_cell) and not run.only_bands and not _PRESSURE.search(run.last_step.content):
        return _missing(run, "stress was asked for, and the last scf prints none")
    return None


def _ions_not_converged(run: PwText, _: Asked) -> Fault | None:
    if not run.relaxes or run.moves:
        return None
    if not _IONS_CONVERGED.search(run.text.content):
        return _missing(run, "a relaxation that does not say that its ions have converged")
    if "End final coordinates" not in run.text:
        return _missing(run, "a relaxation without its final coordinates")
    return None


def _no_final_scf(run: PwText, _: Asked) -> Fault | None:
    if not run.relaxes_cell or not run.relaxes or run.moves:
        return None
    if run.final_scf is None or not _ENERGY.search(run.final_scf.content):
        return _missing(run, "a relaxed cell without the final scf with plane waves chosen for it")
    return None


def _basis_not_consistent(run: PwText, asked: Asked) -> Fault | None:
    """Tell a happy and wrong relaxation by its pressure once plane waves are chosen for the relaxed cell."""
    if run.final_scf is None:
        return None
    found = list(_PRESSURE.finditer(run.text.content))
    final = _PRESSURE.search(run.final_scf.content)
    if final is None or len(found) < 2:
        return None
    # A cell that is not free can't reach the wanted pressure; it must keep the one that it relaxed to.
    wanted = asked.pressure_kbar if asked.cell_free else _float(found[-2].group(1))
    tolerance = tolerance_of(run, asked)
    if abs(_float(final.group(1)) - wanted) <= tolerance:
        return None
    limit = Evidence(
        run.text.file,
        None,
        f"the final scf's pressure may differ from {wanted:g} kbar by {tolerance:g} kbar, and is {final.group(1)}",
    )
    return Fault(610, (run.text.at(found[-1].start()), limit))


def tolerance_of(run: PwText, asked: Asked) -> float:
    """Give what the final scf's pressure may miss (kbar)."""
    if asked.tolerance_kbar is not None:
        return asked.tolerance_kbar
    found = _PRESS_THRESHOLD.search(run.text.content)
    return 2 * (_float(found.group(1)) if found else _DEFAULT_PRESS_CONV_THR) + VOLUME_CONSISTENCY_KBAR


def _is_at_minimum(run: PwText, asked: Asked) -> bool:
    """Whether the last forces, and with a variable cell the last pressure, are below the thresholds of the run."""
    last: Text = run.last_step
    found = _FORCE_THRESHOLD.search(run.text.content)
    limit = _ROUNDED * (_float(found.group(1)) if found else _DEFAULT_FORC_CONV_THR)
    # With high verbosity contributions follow in lines of the same form.
    total = re.search(r"Forces acting on atoms.*\n\s*\n((?: *atom .*\n)+)", last.content)
    lines = [line.group(1).split() for line in _FORCE_LINE.finditer(total.group(1))] if total else []
    if not lines or not all(abs(_float(word)) <= limit for words in lines for word in words):
        return False
    if not run.relaxes_cell:
        return True
    pressure = _PRESSURE.search(last.content)
    return pressure is not None and abs(_float(pressure.group(1)) - asked.pressure_kbar) <= tolerance_of(run, asked)


def _float(words: str) -> float:
    """Read a Fortran number; what is none is NaN, which no comparison lets pass."""
    try:
        return float(words.replace("D", "E").replace("d", "e"))
    except ValueError:
        return float("nan")


_CHECKS: tuple[Callable[[PwText, Asked], Fault | None], ...] = (
    _scf_not_converged,
    _not_finite,
    _scf_not_as_converged_as_asked,
    _minimiser_gave_up,
    _steps_exhausted,
    _no_band_structure,
    _no_energy,
    _no_forces,
    _no_stress,
    _ions_not_converged,
    _no_final_scf,
    _basis_not_consistent,
)
"""In the order in which they are tried."""
