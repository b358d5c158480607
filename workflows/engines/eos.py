"""Bulk modulus from an equation of state.

One job measures all volumes: atomate2's ``EosMaker`` would make nine fireworks of a fraction of a second each, and a
firework costs as much as that in the database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobflow import Maker, job

if TYPE_CHECKING:
    from pymatgen.core import Structure

    from workflows.records import PropertyResult


MAX_RESIDUAL = 0.05
"""Largest root-mean-square residual of a fit, as a share of the energies' range."""


@dataclass
class MlipBulkModulusMaker(Maker):  # type: ignore[misc] # jobflow is untyped
    """Energy against volume with a force field, ions relaxed at each fixed cell, then a Birch-Murnaghan fit.

    The cell is scaled isotropically and keeps its shape, so for a crystal that is not cubic this is the Voigt average
    (an upper bound: Hill, Proc. Phys. Soc. A 65, 349 (1952)) with relaxed ions.

    Parameters
    ----------
    name : str
    model : str
        A key of :data:`workflows.engines.models.MODELS`.
    volume_strain : float
        Largest relative change of volume, on both sides.
    points : int
        Number of volumes; odd, so that the given one is among them.
    fmax_ev_per_angstrom : float
        For the ions at each volume.
    steps : int
        Limit of each relaxation; reaching it raises cause 501.
    """

    name: str = "bulk modulus"
    model: str = "7net-0"
    volume_strain: float = 0.06
    points: int = 7
    fmax_ev_per_angstrom: float = 0.02
    steps: int = 200

    @job
    def make(self, structure: Structure) -> dict[str, Any]:
        """Measure and fit; the output is what :func:`read_bulk_modulus` reads.

        Parameters
        ----------
        structure : pymatgen.core.Structure
            Relaxed.

        Returns
        -------
        dict
            ``volumes_angstrom3`` and ``energies_ev`` (of the cell), with the fit of :func:`fit_birch_murnaghan`.

        Raises
        ------
        CausedError
            501 if ions do not relax within the limit; 601, 602 as :func:`workflows.engines.mlip_makers.check_sane`; 603
            if the fit fails.
        """
        import numpy as np

        from workflows.engines.mlip_makers import relax_maker

        maker = relax_maker(self.model, self.fmax_ev_per_angstrom, self.steps, relax_cell=False, unconverged_cause=501)
        scales = 1 + np.linspace(-self.volume_strain, self.volume_strain, self.points)
        volumes, energies = [], []
        for scale in scales:
            result = maker.run_ase(structure.copy().scale_lattice(structure.volume * float(scale)))
            volumes.append(round(float(result.final_mol_or_struct.volume), 6))
            energies.append(round(float(result.trajectory.energy[-1]), 8))
        return {
            "volumes_angstrom3": volumes,
            "energies_ev": energies,
            "n_atoms": len(structure),
            "how": f"{self.model}, {self.points} volumes within ±{100 * self.volume_strain:g} %, cell shape kept, "
            f"ions relaxed to {self.fmax_ev_per_angstrom:g} eV/Å",
            **fit_birch_murnaghan(volumes, energies),
        }


def fit_birch_murnaghan(volumes: list[float], energies: list[float]) -> dict[str, float]:
    """Fit the third-order Birch-Murnaghan equation of state.

    The equation is Birch, Phys. Rev. 71, 809 (1947); the fit is pymatgen's.

    Parameters
    ----------
    volumes : list of float
        Å³.
    energies : list of float
        eV.

    Returns
    -------
    dict
        ``bulk_modulus_gpa``, its pressure derivative ``derivative``, ``volume_angstrom3`` and ``energy_ev`` at the
        minimum, ``residual_ev`` (root mean square).

    Raises
    ------
    CausedError
        603 if the fit does not converge.
    """
    import numpy as np
    from pymatgen.analysis.eos import EOS, EOSError

    from workflows.causes import CausedError

    try:
        fit = EOS("birch_murnaghan").fit(volumes, energies)
    except (EOSError, RuntimeError, ValueError, np.linalg.LinAlgError) as error:
        raise CausedError(603, f"Birch-Murnaghan fit: {error}") from error
    residual = float(np.sqrt(np.mean((np.asarray(energies) - fit(np.asarray(volumes))) ** 2)))
    return {
        "bulk_modulus_gpa": round(float(fit.b0_GPa), 4),
        "derivative": round(float(fit.b1), 4),
        "volume_angstrom3": round(float(fit.v0), 5),
        "energy_ev": round(float(fit.e0), 7),
        "residual_ev": residual,
    }


def read_bulk_modulus(document: dict[str, Any]) -> tuple[float, str]:
    """Read what :class:`MlipBulkModulusMaker` (or another engine's Maker in the same words) stored.

    Returns
    -------
    value : float
        GPa.
    how : str

    Raises
    ------
    CausedError
        602 if it is not finite; 603 if the minimum is outside the sampled volumes, the curve bends the wrong way, or
        it is no smooth curve (the crystal changes into another between the volumes).
    """
    import numpy as np

    from workflows.causes import CausedError

    volumes, value = document["volumes_angstrom3"], float(document["bulk_modulus_gpa"])
    minimum = float(document["volume_angstrom3"])
    if not np.isfinite([*document["energies_ev"], value, minimum]).all():
        raise CausedError(602, f"bulk modulus {value} GPa from energies {document['energies_ev']}")
    if value <= 0:
        raise CausedError(603, f"the curve bends the wrong way: {value:.1f} GPa at {minimum:.2f} Å³")
    if not min(volumes) < minimum < max(volumes):
        sampled = f"{min(volumes):.2f} to {max(volumes):.2f} Å³"
        raise CausedError(603, f"minimum at {minimum:.2f} Å³, outside the sampled {sampled}")
    span = max(document["energies_ev"]) - min(document["energies_ev"])
    if document["residual_ev"] > MAX_RESIDUAL * span:
        raise CausedError(
            603, f"residual {document['residual_ev']:.4f} eV of a range of {span:.4f} eV: no smooth curve"
        )
    residual = 1000 * document["residual_ev"] / document["n_atoms"]
    return value, f"Birch-Murnaghan fit ({residual:.2g} meV/atom residual) of {document['how']}"


def bulk_modulus_of(document: dict[str, Any]) -> PropertyResult:
    """Read a bulk modulus as the property of a verdict; raises as :func:`read_bulk_modulus`."""
    from workflows.records import PropertyResult

    value, how = read_bulk_modulus(document)
    keys = ("volumes_angstrom3", "energies_ev", "volume_angstrom3", "derivative", "residual_ev", "n_atoms")
    return PropertyResult(value=value, unit="GPa", how=how, detail={key: document[key] for key in keys})
