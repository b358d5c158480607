"""The phonon flow of engine ``mlip``: tight relaxation, supercell, atomate2's displacements, evaluation.

Light to import: jobs load atomate2, phonopy and torch when they run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobflow import Flow, Maker, job

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass
class MlipPhononMaker(Maker):  # type: ignore[misc] # jobflow is untyped
    """Finite-displacement phonons with a force field, through atomate2's ``PhononMaker``.

    The symmetrised primitive cell is first relaxed tightly with its symmetry kept: forces left over from the hull's
    relaxation would appear as false imaginary modes, and a symmetry that is only nearly there would cost many
    displacements. What the symmetry holds back shows as an unstable mode.

    Parameters
    ----------
    name : str
    model : str
        A key of :data:`workflows.engines.models.MODELS`.
    fmax_ev_per_angstrom : float
        Of the tight relaxation.
    steps : int
        Limit of the tight relaxation; reaching it raises cause 502.
    displacement_angstrom : float
    min_length_angstrom, max_atoms, max_displaced_atoms
        See :func:`workflows.engines.phonons.choose_supercell`.
    mesh_length_angstrom : float
        See :func:`workflows.engines.phonons.evaluate`.
    symprec_angstrom : float
    """

    name: str = "phonon"
    model: str = "7net-0"
    fmax_ev_per_angstrom: float = 0.005
    steps: int = 300
    displacement_angstrom: float = 0.01
    min_length_angstrom: float = 8.0
    max_atoms: int = 64
    max_displaced_atoms: int = 1200
    mesh_length_angstrom: float = 40.0
    symprec_angstrom: float = 0.01

    def make(self, structure: Structure) -> Flow:
        """Make the flow; its output is what :func:`workflows.engines.phonons.judge` reads.

        Parameters
        ----------
        structure : pymatgen.core.Structure or jobflow.OutputReference
            Relaxed.

        Returns
        -------
        jobflow.Flow
        """
        from workflows.engines.mlip_makers import atomate2_phonon_maker, relax_maker

        tight = relax_maker(
            self.model,
            self.fmax_ev_per_angstrom,
            self.steps,
            name="tight relax",
            symmetrize_angstrom=self.symprec_angstrom,
            unconverged_cause=502,
        ).make(structure)
        supercell = phonon_supercell(
            tight.output.structure,
            self.min_length_angstrom,
            self.max_atoms,
            self.max_displaced_atoms,
            self.symprec_angstrom,
        )
        phonons = atomate2_phonon_maker(self.model, self.displacement_angstrom, self.symprec_angstrom).make(
            tight.output.structure, supercell_matrix=supercell.output
        )
        how = f"{self.model}, finite displacements of {self.displacement_angstrom:g} Å, "
        evaluation = evaluate_phonons(
            phonons.output, tight.output.output.forces, how, self.symprec_angstrom, self.mesh_length_angstrom
        )
        return Flow([tight, supercell, phonons, evaluation], output=evaluation.output, name=self.name)


@job
def phonon_supercell(
    structure: Structure, min_length: float, max_atoms: int, max_displaced_atoms: int, symprec: float
) -> list[list[int]]:
    """Choose the supercell; see :func:`workflows.engines.phonons.choose_supercell`."""
    from workflows.engines.phonons import choose_supercell

    return choose_supercell(structure, min_length, max_atoms, max_displaced_atoms, symprec)


@job
def evaluate_phonons(
    document: Any, forces: list[list[float]], how: str, symprec: float, mesh_length: float
) -> dict[str, Any]:
    """Turn atomate2's phonon document into the numbers of :func:`workflows.engines.phonons.evaluate`.

    Raises
    ------
    CausedError
        604 if there are no force constants.
    """
    import numpy as np

    from workflows.causes import CausedError
    from workflows.engines.documents import get
    from workflows.engines.phonons import evaluate

    constants = get(document, "force_constants", "force_constants")
    if constants is None or not np.isfinite(constants).all():
        raise CausedError(604, "the phonon document holds no finite force constants")
    result = evaluate(
        get(document, "structure"),
        get(document, "supercell_matrix"),
        get(document, "primitive_matrix"),
        constants,
        symprec=symprec,
        mesh_length=mesh_length,
    )
    residual = float(np.linalg.norm(np.array(forces), axis=1).max())
    return {**result, "how": how, "max_residual_force_ev_per_angstrom": round(residual, 5)}
