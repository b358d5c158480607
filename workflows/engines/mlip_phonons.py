"""The phonon flow of engine ``mlip``; light to import: jobs load atomate2, phonopy and torch when they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobflow import Maker

from workflows.engines.phonon_flow import phonon_flow

if TYPE_CHECKING:
    from jobflow import Flow
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
        )
        return phonon_flow(
            structure,
            tight=tight,
            displacements=atomate2_phonon_maker(self.model, self.displacement_angstrom, self.symprec_angstrom),
            how=f"{self.model}, finite displacements of {self.displacement_angstrom:g} Å, ",
            min_length_angstrom=self.min_length_angstrom,
            max_atoms=self.max_atoms,
            max_displaced_atoms=self.max_displaced_atoms,
            mesh_length_angstrom=self.mesh_length_angstrom,
            symprec_angstrom=self.symprec_angstrom,
            name=self.name,
        )
