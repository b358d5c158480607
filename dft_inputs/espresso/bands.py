"""Eigenvalues that pw.x printed, the Fermi energy, and the gap between them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from dft_inputs.texts import Text

_FERMI = re.compile(r"the Fermi energy is +(\S+) +ev")
_FERMI_UP_DOWN = re.compile(r"the spin up/dw Fermi energies are +(\S+) +(\S+) +ev")
_HIGHEST = re.compile(r"highest occupied level \(ev\): +(\S+)")
_HIGHEST_LOWEST = re.compile(r"highest occupied, lowest unoccupied level \(ev\): +(\S+) +(\S+)")
_K_POINT = re.compile(r"^ +k =.*\bbands \(ev\):[ \t]*\n\s*\n((?: +-?\d+\.\d+.*\n)+)", re.MULTILINE)
_VALUE = re.compile(r"-?\d+\.\d{4}")

_WHOLE = 0.01
"""Bohr magnetons; a magnetisation this near to a whole number is one."""


@dataclass(frozen=True)
class Gap:
    """Between filled and empty bands.

    Parameters
    ----------
    bandgap_ev : float
        eV; 0 for a metal.
    is_direct : bool or None
        ``None`` for a metal, and where only the two levels were printed.
    vbm_ev, cbm_ev : float or None
        eV; ``None`` for a metal.
    """

    bandgap_ev: float
    is_direct: bool | None = None
    vbm_ev: float | None = None
    cbm_ev: float | None = None


def fermi_energy(step: Text) -> float | None:
    """Read the Fermi energy, or the highest occupied level where occupations are fixed (eV).

    Of two Fermi energies (fixed magnetisation) the higher one is given.
    """
    content = step.content
    if found := _FERMI.search(content):
        return _float(found.group(1))
    if found := _FERMI_UP_DOWN.search(content):
        both = [_float(word) for word in found.groups()]
        known = [value for value in both if value is not None]
        return max(known) if known else None
    found = _HIGHEST_LOWEST.search(content) or _HIGHEST.search(content)
    return _float(found.group(1)) if found else None


def eigenvalues(step: Text) -> NDArray[np.float64] | None:
    """Read the eigenvalues of the last printed k-points (eV).

    Returns
    -------
    numpy.ndarray of float, shape (spins, k-points, bands), or None
        ``None`` if they were not printed (100 k-points or more need ``verbosity='high'``), or not all.
    """
    content = step.content
    begin = max(content.rfind("End of self-consistent calculation"), content.rfind("End of band structure calculation"))
    if begin < 0:
        return None
    content = content[begin:]
    rows = [[float(word) for word in _VALUE.findall(found.group(1))] for found in _K_POINT.finditer(content)]
    if not rows or len({len(row) for row in rows}) != 1:
        return None
    spins = 2 if "SPIN DOWN" in content else 1
    if len(rows) % spins:
        return None
    return np.array(rows).reshape(spins, len(rows) // spins, -1)


def gap(
    step: Text, n_electrons: float | None, *, noncollinear: bool = False, total_magnetization: float | None = None
) -> Gap | None:
    """Find the gap by counting electrons, which asks nothing of the Fermi energy.

    Parameters
    ----------
    step : Text
        From the last scf or band calculation on.
    n_electrons : float or None
    noncollinear : bool
        Whether a band holds one electron.
    total_magnetization : float or None
        Bohr magnetons per cell.

    Returns
    -------
    Gap or None
        On the printed k-points; ``None`` if no empty band was printed.
    """
    bands = eigenvalues(step)
    if bands is None or n_electrons is None:
        found = _HIGHEST_LOWEST.search(step.content)
        levels = [_float(word) for word in found.groups()] if found else []
        if len(levels) != 2 or levels[0] is None or levels[1] is None:
            return None
        return _between(levels[0], levels[1], is_direct=None)
    filled = _filled(bands.shape[0], n_electrons, noncollinear=noncollinear, magnetization=total_magnetization)
    if filled is None:
        return Gap(0.0)
    if any(number >= bands.shape[2] for number in filled):
        return None
    below = [(one[:, n - 1].max(), int(one[:, n - 1].argmax())) for one, n in zip(bands, filled, strict=True) if n]
    above = [(one[:, n].min(), int(one[:, n].argmin())) for one, n in zip(bands, filled, strict=True)]
    if not below:
        return None
    (vbm, where_vbm), (cbm, where_cbm) = max(below), min(above)
    return _between(float(vbm), float(cbm), is_direct=where_vbm == where_cbm)


def _between(vbm: float, cbm: float, *, is_direct: bool | None) -> Gap:
    return Gap(0.0) if cbm <= vbm else Gap(cbm - vbm, is_direct, vbm, cbm)


def _filled(spins: int, n_electrons: float, *, noncollinear: bool, magnetization: float | None) -> list[int] | None:
    """Count the filled bands of each spin; ``None`` if one is filled in part."""
    if spins == 2:
        moment = magnetization or 0.0
        counts = [(n_electrons + moment) / 2, (n_electrons - moment) / 2]
    else:
        counts = [n_electrons if noncollinear else n_electrons / 2]
    whole = [round(count) for count in counts]
    return whole if all(abs(a - b) < _WHOLE for a, b in zip(counts, whole, strict=True)) else None


def _float(word: str) -> float | None:
    try:
        return float(word)
    except ValueError:
        return None
