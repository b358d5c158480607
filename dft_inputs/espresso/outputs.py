"""The result of a run of pw.x in our units, read only after our own check said that there is one.

The last step alone is read, with the constants of :mod:`dft_inputs.espresso.units`. ASE's reader has constants of 2006
(1e-7 of a total energy: 0.2 meV of 2 keV) and the header's cell of six decimals; tests compare with it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import numpy as np

from dft_inputs.causes import SUCCESS, DftError
from dft_inputs.espresso import bands
from dft_inputs.espresso.diagnose import diagnose_pw_files, read_files
from dft_inputs.espresso.geometry import geometry_of_last_step, initial_geometry, last_geometry
from dft_inputs.espresso.units import BOHR_ANG, RY_BOHR_EV_ANG, RY_EV
from dft_inputs.files import find_files

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from dft_inputs.espresso.pwtext import PwText
    from dft_inputs.texts import Text

__all__ = ["PwOutput", "last_geometry", "read_pw"]

KBAR_PER_EV_A3 = 1602.176634
"""kbar in one eV/Å³ (exact since 2019: it is the elementary charge)."""

_KBAR_PER_RYDBERG_BOHR3 = RY_EV / BOHR_ANG**3 * KBAR_PER_EV_A3

_ENERGY = re.compile(r"^!+ +total energy += +(\S+) +Ry", re.MULTILINE)
_SMEARING = re.compile(r"smearing contrib\. \(-TS\) += +(\S+) +Ry")
_FORCE = re.compile(r"^ *atom +(\d+) +type +\d+ +force = +(\S+) +(\S+) +(\S+)[ \t]*$", re.MULTILINE)
_STRESS = re.compile(r"total +stress +\(Ry/bohr\*\*3\).*\n((?:.*\n){3})")
_TOTAL_MAGNETIZATION = re.compile(r"total magnetization +=((?: +-?\d+\.\d+)+) +Bohr mag/cell")
_ABSOLUTE_MAGNETIZATION = re.compile(r"absolute magnetization += +(\S+) +Bohr mag/cell")
_ITERATIONS = re.compile(r"convergence has been achieved in +(\d+) +iterations")
_WALL = re.compile(r"^ +PWSCF +: +.*?CPU +(\S.*?) *WALL", re.MULTILINE)
_DURATION = re.compile(r"(?:(\d+) *d)? *(?:(\d+) *h)? *(?:(\d+) *m)? *(?:(\d+\.\d+) *s)?")
_ENDED = re.compile(r"This run was terminated on: +([\d: ]+?) +(\d+[A-Za-z]{3}\d{4})")
_PROCESSES = re.compile(r"running on +(\d+) +processors")


@dataclass(frozen=True, eq=False)
class PwOutput:
    """Result of one run of pw.x.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        The relaxed one, or the one that was computed; in the input's order of sites.
    initial_structure : pymatgen.core.Structure
    energy_ev : float or None
        eV, what pw.x calls total energy: with smearing the free energy F = E - TS, which forces and stress belong to.
        ``None`` for nscf and bands.
    smearing_ev : float or None
        eV; -TS.
    forces : numpy.ndarray of float, shape (n, 3), or None
        eV/Å.
    stress_kbar : numpy.ndarray of float, shape (3, 3), or None
        kbar, positive where the crystal is compressed: pw.x's sign, VASP's and emmet's (opposite to ASE's).
    efermi_ev : float or None
        eV; with fixed occupations the highest occupied level.
    gap : bands.Gap or None
    total_magnetization, absolute_magnetization : float or None
        Bohr magnetons per cell.
    n_electrons : float or None
    n_bands, n_kpoints : int or None
    n_ionic_steps : int
        Of the relaxation; 1 for a single scf, 0 for none.
    n_scf_iterations : int
        Of all scf cycles of the run.
    has_final_scf : bool
        Whether numbers are those of the scf after a variable-cell relaxation.
    walltime_s : float or None
    n_processes : int or None
    version : str or None
    completed_at : datetime.datetime or None
        In the machine's time zone.
    """

    structure: Structure
    initial_structure: Structure
    energy_ev: float | None
    smearing_ev: float | None
    forces: NDArray[np.float64] | None
    stress_kbar: NDArray[np.float64] | None
    efermi_ev: float | None
    gap: bands.Gap | None
    total_magnetization: float | None
    absolute_magnetization: float | None
    n_electrons: float | None
    n_bands: int | None
    n_kpoints: int | None
    n_ionic_steps: int
    n_scf_iterations: int
    has_final_scf: bool
    walltime_s: float | None
    n_processes: int | None
    version: str | None
    completed_at: datetime | None

    @property
    def pressure_kbar(self) -> float | None:
        """A third of the stress' trace (kbar)."""
        return None if self.stress_kbar is None else float(np.trace(self.stress_kbar)) / 3

    @property
    def bandgap_ev(self) -> float | None:
        """Smallest gap on the k-points of the run (eV), 0 for a metal; ``None`` without an empty band."""
        return self.gap.bandgap_ev if self.gap else None

    @property
    def max_force(self) -> float | None:
        """Longest force on an atom (eV/Å)."""
        return None if self.forces is None else float(np.linalg.norm(self.forces, axis=1).max())


def read_pw(directory: Path, *, pressure_tolerance_kbar: float | None = None) -> PwOutput:
    """Read the result of a run directory of pw.x.

    Parameters
    ----------
    directory : pathlib.Path
    pressure_tolerance_kbar : float, optional
        As for :func:`dft_inputs.espresso.diagnose.diagnose_pw`.

    Returns
    -------
    PwOutput

    Raises
    ------
    DftError
        With the cause, if the run has no result to be trusted.
    NoRunError
        If pw.x has left nothing there.
    """
    files = find_files(directory)
    diagnosis = diagnose_pw_files(files, pressure_tolerance_kbar=pressure_tolerance_kbar)
    if diagnosis.code != SUCCESS:
        raise DftError(diagnosis.code, "; ".join(map(str, diagnosis.evidence)))
    left = read_files(files)
    assert left.run is not None  # noqa: S101 - a success has an output
    return _read_run(left.run, left.inputs)


def _read_run(run: PwText, inputs: tuple[Text, ...]) -> PwOutput:
    step = run.last_step
    start = initial_geometry(run, inputs)
    structure = (geometry_of_last_step(run, inputs) if run.relaxes or run.moves else None) or start
    if structure is None or start is None:
        raise DftError(611, f"{run.text.file}: the geometry of the run can't be read")
    n_electrons = _number(re.search(r"number of electrons +=\s+(\S+)", run.text.content))
    moment = _total_magnetization(step)
    energies = len(_ENERGY.findall(run.text.content))
    try:
        return PwOutput(
            structure=structure,
            initial_structure=start,
            energy_ev=_scaled(_number(_ENERGY.search(step.content)), RY_EV),
            smearing_ev=_scaled(_number(_SMEARING.search(step.content)), RY_EV),
            forces=_forces(step, len(structure)),
            stress_kbar=_stress(step),
            efermi_ev=bands.fermi_energy(step),
            gap=bands.gap(
                step,
                n_electrons,
                noncollinear="Noncollinear calculation" in run.text,
                total_magnetization=moment,
            ),
            total_magnetization=moment,
            absolute_magnetization=_absolute_magnetization(step),
            n_electrons=n_electrons,
            n_bands=_whole(re.search(r"number of Kohn-Sham states= +(\d+)", run.text.content)),
            n_kpoints=_whole(re.search(r"number of k points= +(\d+)", run.text.content)),
            n_ionic_steps=energies - (run.final_scf is not None),
            n_scf_iterations=sum(int(n) for n in _ITERATIONS.findall(run.text.content)),
            has_final_scf=run.final_scf is not None,
            walltime_s=_walltime(run),
            n_processes=_whole(_PROCESSES.search(run.text.content)),
            version=run.version,
            completed_at=_ended(run),
        )
    except ValueError as error:
        raise DftError(611, f"{run.text.file}: a number of the result can't be read: {error}") from error


def _number(found: re.Match[str] | None) -> float | None:
    return float(found.group(1)) if found else None


def _whole(found: re.Match[str] | None) -> int | None:
    return int(found.group(1)) if found else None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _forces(step: Text, n_atoms: int) -> NDArray[np.float64] | None:
    """Read the total forces; with high verbosity contributions follow in lines of the same form."""
    begin = step.content.rfind("Forces acting on atoms")
    if begin < 0:
        return None
    lines = list(_FORCE.finditer(step.content, begin))[:n_atoms]
    if [int(line.group(1)) for line in lines] != list(range(1, n_atoms + 1)):
        raise ValueError(f"{len(lines)} forces of {n_atoms}")
    forces = np.array([[float(word) for word in line.groups()[1:]] for line in lines], dtype=np.float64)
    return forces * np.float64(RY_BOHR_EV_ANG)


def _stress(step: Text) -> NDArray[np.float64] | None:
    """Read the stress from its columns in Ry/bohr³, which have more digits than those in kbar."""
    found = _STRESS.search(step.content)
    if found is None:
        return None
    rows = [[float(word) for word in line.split()[:3]] for line in found.group(1).splitlines()]
    return np.array(rows, dtype=np.float64).reshape(3, 3) * np.float64(_KBAR_PER_RYDBERG_BOHR3)


def _total_magnetization(step: Text) -> float | None:
    """Read the cell's moment after the last iteration: a number, or the length of a vector."""
    energy = _ENERGY.search(step.content)
    found = _TOTAL_MAGNETIZATION.search(step.content, energy.start() if energy else 0)
    if found is None:
        return None
    parts = [float(word) for word in found.group(1).split()]
    return parts[0] if len(parts) == 1 else float(np.linalg.norm(parts))


def _absolute_magnetization(step: Text) -> float | None:
    energy = _ENERGY.search(step.content)
    return _number(_ABSOLUTE_MAGNETIZATION.search(step.content, energy.start() if energy else 0))


def _walltime(run: PwText) -> float | None:
    found = _WALL.search(run.text.content)
    parts = _DURATION.fullmatch(found.group(1).strip()) if found else None
    if parts is None:
        return None
    days, hours, minutes, seconds = (float(part or 0) for part in parts.groups())
    return 86400 * days + 3600 * hours + 60 * minutes + seconds


def _ended(run: PwText) -> datetime | None:
    found = _ENDED.search(run.text.content)
    if found is None:
        return None
    try:
        return datetime.strptime(f"{found.group(2)} {found.group(1).replace(' ', '')}", "%d%b%Y %H:%M:%S").astimezone()
    except ValueError:
        return None
