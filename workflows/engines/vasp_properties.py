"""Phonon and property flows of engine ``vasp``; light to import: jobs load atomate2 when they run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from jobflow import Flow, Maker

from workflows.engines.eos_flow import fit_volumes
from workflows.engines.phonon_flow import phonon_flow
from workflows.engines.vasp_protocols import PROTOCOLS

if TYPE_CHECKING:
    from pymatgen.core import Structure


@dataclass
class VaspPhononMaker(Maker):  # type: ignore[misc] # jobflow is untyped
    """Finite-displacement phonons through atomate2's VASP ``PhononMaker``.

    Parameters
    ----------
    name : str
    protocol : str
        A key of :data:`workflows.engines.vasp_protocols.PROTOCOLS`.
    """

    name: str = "phonon"
    protocol: str = "balanced"

    def make(self, structure: Structure) -> Flow:
        """Make the flow; its output is what :func:`workflows.engines.phonon_flow.read_phonons` reads.

        Parameters
        ----------
        structure : pymatgen.core.Structure or jobflow.OutputReference
            Relaxed.
        """
        from workflows.engines.vasp_makers import atomate2_phonon_maker, tight_relax_maker

        options = PROTOCOLS[self.protocol]
        return phonon_flow(
            structure,
            tight=tight_relax_maker(options),
            displacements=atomate2_phonon_maker(options),
            how=f"VASP {self.protocol}, finite displacements of {options.displacement:g} Å, ",
            min_length_angstrom=options.phonon_min_length,
            max_atoms=options.phonon_max_atoms,
            max_displaced_atoms=options.phonon_max_displaced_atoms,
            mesh_length_angstrom=options.phonon_mesh_length,
            symprec_angstrom=options.symprec,
            name=self.name,
        )


@dataclass
class VaspBulkModulusMaker(Maker):  # type: ignore[misc] # jobflow is untyped
    """Energy against volume, ions relaxed at each fixed cell, then a Birch-Murnaghan fit.

    As :class:`workflows.engines.eos.MlipBulkModulusMaker`, with one job a volume.

    Parameters
    ----------
    name : str
    protocol : str
        A key of :data:`workflows.engines.vasp_protocols.PROTOCOLS`.
    """

    name: str = "bulk modulus"
    protocol: str = "balanced"

    def make(self, structure: Structure) -> Flow:
        """Make the flow; its output is what :func:`workflows.engines.eos.read_bulk_modulus` reads.

        Parameters
        ----------
        structure : pymatgen.core.Structure or jobflow.OutputReference
            Relaxed.
        """
        import numpy as np

        from workflows.engines.vasp_makers import VaspMaker

        options = PROTOCOLS[self.protocol]
        points = []
        for scale in 1 + np.linspace(-options.eos_volume_strain, options.eos_volume_strain, options.eos_points):
            maker = VaspMaker(
                name=f"volume {float(scale):.3f}",
                input_set_generator=options.fixed_cell(),
                volume_scale=round(float(scale), 6),
            )
            points.append(maker.make(structure))
        how = (
            f"VASP {self.protocol}, {options.eos_points} volumes within ±{100 * options.eos_volume_strain:g} %, "
            f"cell shape kept, ions relaxed to {options.eos_fmax:g} eV/Å"
        )
        fit = fit_volumes([p.output.structure for p in points], [p.output.output.energy for p in points], how)
        return Flow([*points, fit], output=fit.output, name=self.name)
