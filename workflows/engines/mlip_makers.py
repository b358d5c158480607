"""atomate2's own force-field Makers with a calculator that is loaded once a process and a guard against explosions.

Importing atomate2's force-field jobs takes seconds, so this module is imported on demand only (see
:mod:`workflows.engines.mlip`), and by jobflow when a job is about to run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.filters import Filter
from ase.optimize import BFGS
from atomate2.ase.utils import AseRelaxer
from atomate2.forcefields.flows.phonons import PhononMaker
from atomate2.forcefields.jobs import ForceFieldRelaxMaker as _RelaxMaker
from atomate2.forcefields.jobs import ForceFieldStaticMaker as _StaticMaker
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from workflows.causes import CausedError
from workflows.engines.models import get_calculator, get_model

if TYPE_CHECKING:
    from pathlib import Path

    from ase import Atoms
    from atomate2.ase.schemas import AseResult
    from pymatgen.core import Structure

VOLUME_RANGE = (0.25, 4.0)
"""V / V_start outside of which a relaxation is called exploded: no bonded crystal survives such a change."""

MIN_DISTANCE = 0.5
"""Å; below the shortest bond there is (H2: 0.74 Å)."""


def check_sane(atoms: Atoms, start_volume: float) -> None:
    """Raise if a relaxation has left the range in which a force field means anything.

    Parameters
    ----------
    atoms : ase.Atoms
        With results of its calculator.
    start_volume : float
        Å³.

    Raises
    ------
    CausedError
        602 if energy, forces or stress are not finite; 601 if volume or distances are insane.
    """
    energy, forces, stress = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()
    if not (np.isfinite(energy) and np.isfinite(forces).all() and np.isfinite(stress).all()):
        raise CausedError(602, f"energy {energy} eV, largest force {np.abs(forces).max()} eV/Å")
    ratio = atoms.get_volume() / start_volume
    if not VOLUME_RANGE[0] <= ratio <= VOLUME_RANGE[1]:
        raise CausedError(601, f"volume is {ratio:.2f} times what it was, outside {VOLUME_RANGE}")
    if len(atoms) > 1:
        distances = atoms.get_all_distances(mic=True)[np.triu_indices(len(atoms), 1)]
        if distances.min() < MIN_DISTANCE:
            raise CausedError(601, f"two atoms are {distances.min():.2f} Å apart")


class GuardedBFGS(BFGS):  # type: ignore[misc] # ASE is untyped
    """BFGS that looks at every step whether the crystal is still one.

    BFGS needs a third of FIRE's calls on these models (MgO 14 against 44, quartz 51 against 148 at 0.02 eV/Å).
    """

    def __init__(self, atoms: Atoms | Filter, **kwargs: Any) -> None:
        super().__init__(atoms, logfile=None, **kwargs)
        self._crystal = atoms.atoms if isinstance(atoms, Filter) else atoms
        self._start_volume = self._crystal.get_volume()
        self.attach(self._check, interval=1)

    def _check(self) -> None:
        check_sane(self._crystal, self._start_volume)


class _Cached:
    """What both Makers share: the process's calculator, the guarded optimiser, no file left behind.

    ``_get_calculator`` and ``run_ase`` are the two places atomate2 offers for it.
    """

    model: str

    def _get_calculator(self) -> Any:
        return get_calculator(self.model)

    def run_ase(self, mol_or_struct: Structure, prev_dir: str | Path | None = None) -> AseResult:  # noqa: ARG002 - atomate2's signature
        """Relax, or evaluate when ``steps`` is 1.

        Raises
        ------
        CausedError
            601, 602 as in :func:`check_sane`; 502 if ``unconverged_cause`` is set and the relaxation does not converge.
        """
        relaxer = AseRelaxer(
            self.calculator,  # type: ignore[attr-defined]
            optimizer=GuardedBFGS,
            relax_cell=self.relax_cell,  # type: ignore[attr-defined]
            fix_symmetry=self.fix_symmetry,  # type: ignore[attr-defined]
            symprec=self.symprec,  # type: ignore[attr-defined]
        )
        result = relaxer.relax(
            mol_or_struct,
            steps=self.steps,  # type: ignore[attr-defined]
            final_atoms_object_file=None,
            use_emmet_models=True,
            **self.relax_kwargs,  # type: ignore[attr-defined]
        )
        energies = np.asarray(result.trajectory.energy, dtype=float)
        if not (np.isfinite(energies).all() and np.isfinite(np.asarray(result.trajectory.forces[-1])).all()):
            raise CausedError(602, f"energy {energies[-1]} eV")
        return result


@dataclass
class ForceFieldRelaxMaker(_Cached, _RelaxMaker):  # type: ignore[misc] # atomate2 is untyped
    """atomate2's relaxation with our calculator; it carries atomate2's class name because its flows ask by name.

    Parameters
    ----------
    model : str
        A key of :data:`workflows.engines.models.MODELS`.
    symmetrize_angstrom : float or None
        Start from the symmetrised primitive cell (this tolerance) and keep its symmetry; ``None`` does neither.
    unconverged_cause : int or None
        Cause to raise when the step limit is reached; ``None`` stores the document as it is, for ``read`` to judge.
    """

    model: str = "7net-0"
    symmetrize_angstrom: float | None = None
    unconverged_cause: int | None = None

    def run_ase(self, mol_or_struct: Structure, prev_dir: str | Path | None = None) -> AseResult:
        """Relax; see :class:`_Cached`."""
        if self.symmetrize_angstrom is not None:
            analyzer = SpacegroupAnalyzer(mol_or_struct, symprec=self.symmetrize_angstrom)
            mol_or_struct = analyzer.get_primitive_standard_structure()
        result = super().run_ase(mol_or_struct, prev_dir)
        if self.unconverged_cause is not None and not result.converged:
            force = float(np.linalg.norm(np.asarray(result.trajectory.forces[-1]), axis=1).max())
            raise CausedError(self.unconverged_cause, f"largest force {force:.3f} eV/Å after {self.steps} steps")
        return result


@dataclass
class ForceFieldStaticMaker(_Cached, _StaticMaker):  # type: ignore[misc] # atomate2 is untyped
    """atomate2's static calculation with our calculator; one job takes a list of structures too.

    Parameters
    ----------
    model : str
        A key of :data:`workflows.engines.models.MODELS`.
    """

    model: str = "7net-0"


def relax_maker(
    model: str,
    fmax_ev_per_angstrom: float,
    steps: int,
    *,
    name: str = "relax",
    relax_cell: bool = True,
    symmetrize_angstrom: float | None = None,
    unconverged_cause: int | None = None,
) -> ForceFieldRelaxMaker:
    """Make the Maker that relaxes positions (and cell) until every force is below ``fmax_ev_per_angstrom``."""
    return ForceFieldRelaxMaker(
        name=name,
        model=model,
        force_field_name=get_model(model).force_field,
        calculator_kwargs=dict(get_model(model).calculator_kwargs),
        relax_cell=relax_cell,
        fix_symmetry=symmetrize_angstrom is not None,
        symprec=symmetrize_angstrom,
        symmetrize_angstrom=symmetrize_angstrom,
        steps=steps,
        relax_kwargs={"fmax": fmax_ev_per_angstrom},
        ionic_step_data=None,
        unconverged_cause=unconverged_cause,
    )


def static_maker(model: str, *, name: str = "static") -> ForceFieldStaticMaker:
    """Make the Maker that evaluates energy, forces and stress."""
    return ForceFieldStaticMaker(
        name=name,
        model=model,
        force_field_name=get_model(model).force_field,
        calculator_kwargs=dict(get_model(model).calculator_kwargs),
        ionic_step_data=None,
    )


def atomate2_phonon_maker(model: str, displacement_angstrom: float, symprec: float) -> PhononMaker:
    """Make atomate2's phonon flow: all displacements in one job, no second relaxation, no static energy.

    Bands and DOS of its own document are kept at the least it accepts: ours come from its force constants, after the
    acoustic sum rule (see :mod:`workflows.engines.phonons`).
    """
    return PhononMaker(
        name="phonons",
        displacement=displacement_angstrom,
        symprec=symprec,
        bulk_relax_maker=None,
        static_energy_maker=None,
        born_maker=None,
        phonon_displacement_maker=static_maker(model, name="displacements"),
        socket=True,
        store_force_constants=True,
        create_thermal_displacements=False,
        generate_frequencies_eigenvectors_kwargs={"npoints_band": 5, "kpoint_density_dos": 64, "tmax": 20},
    )
