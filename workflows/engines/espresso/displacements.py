"""atomate2's phonon flow with pw.x behind it.

Importing atomate2's phonon code takes seconds, so this module is imported on demand only.
"""

from __future__ import annotations

from dataclasses import dataclass

from atomate2.common.flows.phonons import BasePhononMaker

from workflows.engines.espresso.makers import PwStaticMaker


@dataclass
class PwDisplacementsMaker(BasePhononMaker):  # type: ignore[misc] # atomate2 is untyped
    """Finite displacements, each a pw.x job of its own, and their force constants.

    ``code`` is ``ase``, because atomate2 0.1.5 refuses all but a list of codes and asks the name for units alone: eV
    and Å, which our documents hold. The verdict names the true engine.
    """

    name: str = "phonons"
    code: str = "ase"

    @property
    def prev_calc_dir_argname(self) -> None:
        """Nothing is handed from one displacement to the next."""
        return


def displacements_maker(
    protocol: str, displacement_angstrom: float, symprec_angstrom: float, scf_energy_ev_per_atom: float
) -> PwDisplacementsMaker:
    """Make the flow's Maker: no further relaxation, no static energy, bands and DOS at the least that it accepts.

    Ours come from its force constants, after the acoustic sum rule (see :mod:`workflows.engines.phonons`).
    """
    return PwDisplacementsMaker(
        displacement=displacement_angstrom,
        symprec=symprec_angstrom,
        bulk_relax_maker=None,
        static_energy_maker=None,
        born_maker=None,
        phonon_displacement_maker=PwStaticMaker(
            name="displacement",
            protocol=protocol,
            scf_energy_ev_per_atom=scf_energy_ev_per_atom,
            supercell=True,
        ),
        socket=False,
        store_force_constants=True,
        create_thermal_displacements=False,
        generate_frequencies_eigenvectors_kwargs={"npoints_band": 5, "kpoint_density_dos": 64, "tmax": 20},
    )
