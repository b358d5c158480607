"""Makers of pw.x flows: phonons, bulk modulus, band gap. Light to import."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobflow import Maker, job

from workflows.engines.eos_flow import measure_volumes
from workflows.engines.espresso.makers import PwIonsMaker, _PwMaker
from workflows.engines.phonon_flow import phonon_flow

if TYPE_CHECKING:
    from jobflow import Flow, Job
    from pymatgen.core import Structure


@dataclass
class PwPhononMaker(Maker):  # type: ignore[misc] # jobflow is untyped
    """Finite-displacement phonons through atomate2's flow.

    Ions are first relaxed tightly in the symmetrised primitive cell, which is kept as the hull's relaxation left it:
    forces left over would appear as false imaginary modes.
    """

    name: str = "phonon"
    protocol: str = "fast"

    def make(self, structure: Structure) -> Flow:
        """Make the flow; its output is what :func:`workflows.engines.phonons.judge` reads.

        Parameters
        ----------
        structure : pymatgen.core.Structure or jobflow.OutputReference
            Relaxed.
        """
        from workflows.engines.espresso.displacements import displacements_maker
        from workflows.engines.espresso.machine import protocol_here

        protocol = protocol_here(self.protocol)
        tight = PwIonsMaker(
            name="tight relax",
            protocol=self.protocol,
            fmax_ev_per_angstrom=protocol.phonon_fmax,
            standardise=True,
            scf_energy_ev_per_atom=protocol.phonon_scf_energy_ev_per_atom,
        )
        displacements = displacements_maker(
            self.protocol, protocol.displacement, protocol.symprec, protocol.phonon_scf_energy_ev_per_atom
        )
        return phonon_flow(
            structure,
            tight=tight,
            displacements=displacements,
            how=f"pw.x, {protocol.functional}, finite displacements of {protocol.displacement:g} Å, ",
            min_length_angstrom=protocol.phonon_min_length,
            max_atoms=protocol.phonon_max_atoms,
            max_displaced_atoms=protocol.phonon_max_displaced_atoms,
            mesh_length_angstrom=protocol.phonon_mesh_length,
            symprec_angstrom=protocol.symprec,
            name=self.name,
        )


@dataclass
class PwBulkModulusMaker(Maker):  # type: ignore[misc] # jobflow is untyped
    """Bulk modulus: energy against volume, a job a volume, and a Birch-Murnaghan fit.

    The cell keeps its shape, ions relax, and all volumes share one k-mesh and one cutoff.
    """

    name: str = "bulk modulus"
    protocol: str = "fast"

    def make(self, structure: Structure) -> Job:
        """Make the job that adds the flow; its output is what :func:`workflows.engines.eos.read_bulk_modulus` reads."""
        from workflows.engines.espresso.machine import protocol_here

        protocol = protocol_here(self.protocol)
        ions = PwIonsMaker(name="volume", protocol=self.protocol, fmax_ev_per_angstrom=protocol.eos_fmax)
        strain, points = protocol.eos_volume_strain, protocol.eos_points
        how = (
            f"pw.x, {protocol.functional}, {points} volumes within ±{100 * strain:g} %, cell shape kept, "
            f"ions relaxed to {protocol.eos_fmax:g} eV/Å"
        )
        return measure_volumes(structure, ions, strain, points, how)


@dataclass
class PwBandGapMaker(_PwMaker):
    """Kohn-Sham gap of the relaxed crystal: an scf on a denser mesh than the protocol's, with empty bands.

    Parameters
    ----------
    density_factor : float
        How much finer the mesh is along each direction.
    """

    name: str = "band gap"
    density_factor: float = 1.5

    @job
    def make(self, structure: Structure, prev_dir: str | Path | None = None) -> dict[str, Any]:
        """Compute; the output is what :func:`read_band_gap` reads.

        Raises
        ------
        DftError
            With the cause.
        """
        from workflows.engines.espresso.running import band_gap_here

        return band_gap_here(structure, self.protocol, Path.cwd(), self.density_factor, prev_dir=prev_dir, pw=self.pw)
