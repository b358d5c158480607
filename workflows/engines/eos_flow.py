"""A bulk modulus from one job a volume and a fit: for engines whose jobs take minutes, not fractions of a second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import Flow, Response, job

if TYPE_CHECKING:
    from pymatgen.core import Structure


@job
def measure_volumes(structure: Structure, ions: Any, volume_strain: float, points: int, how: str) -> Response:
    """Replace itself by a relaxation of the ions at each volume, and the fit of their energies.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Relaxed; scaled isotropically, its shape kept.
    ions : jobflow.Maker
        ``make(structure)`` relaxes ions in a fixed cell; its document has ``output.energy`` (eV of the cell).
        ``sharing(structure)`` gives the same Maker with what all volumes must share (the k-mesh) taken from one cell.
    volume_strain : float
        Largest relative change of volume, on both sides.
    points : int
        Number of volumes; odd, so that the given one is among them.
    how : str
        In words, for the verdict.

    Returns
    -------
    jobflow.Response
        Its output is what :func:`workflows.engines.eos.read_bulk_modulus` reads.
    """
    import numpy as np

    jobs = []
    ions = ions.sharing(structure)
    for number, scale in enumerate(1 + np.linspace(-volume_strain, volume_strain, points)):
        measured = ions.make(structure.copy().scale_lattice(structure.volume * float(scale)))
        measured.append_name(f" {number + 1}/{points}")
        jobs.append(measured)
    fit = fit_volumes([j.output.structure for j in jobs], [j.output.output.energy for j in jobs], how)
    return Response(replace=Flow([*jobs, fit], output=fit.output))


@job
def fit_volumes(structures: list[Structure], energies_ev: list[float], how: str) -> dict[str, Any]:
    """Fit the equation of state to one run a volume.

    Parameters
    ----------
    structures : list of pymatgen.core.Structure
    energies_ev : list of float
        Of the cells.
    how : str

    Returns
    -------
    dict
        What :func:`workflows.engines.eos.read_bulk_modulus` reads.

    Raises
    ------
    CausedError
        603 if the fit fails.
    """
    from workflows.engines.eos import fit_birch_murnaghan

    volumes = [round(float(structure.volume), 6) for structure in structures]
    energies = [round(float(energy), 8) for energy in energies_ev]
    return {
        "volumes_angstrom3": volumes,
        "energies_ev": energies,
        "n_atoms": len(structures[0]),
        "how": how,
        **fit_birch_murnaghan(volumes, energies),
    }
