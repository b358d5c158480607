"""The phonon flow that every engine shares: tight relaxation, supercell, atomate2's displacements, evaluation.

Light to import: jobs load atomate2, phonopy and their engine when they run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jobflow import Flow, job

if TYPE_CHECKING:
    from jobflow import Maker
    from pymatgen.core import Structure

    from workflows.records import PhononResult


def phonon_flow(
    structure: Structure,
    *,
    tight: Maker,
    displacements: Maker,
    how: str,
    min_length_angstrom: float,
    max_atoms: int,
    max_displaced_atoms: int,
    mesh_length_angstrom: float,
    symprec_angstrom: float,
    name: str = "phonon",
) -> Flow:
    """Make the flow; its output is what :func:`workflows.engines.phonons.judge` reads.

    Parameters
    ----------
    structure : pymatgen.core.Structure or jobflow.OutputReference
        Relaxed.
    tight : jobflow.Maker
        Relaxes the symmetrised primitive cell; its document has ``structure`` and ``output.forces`` (eV/Å).
    displacements : atomate2.common.flows.phonons.BasePhononMaker
        Neither relaxes nor computes a static energy.
    how : str
        Engine and displacement in words; begins the verdict's ``how``.
    min_length_angstrom, max_atoms, max_displaced_atoms
        See :func:`workflows.engines.phonons.choose_supercell`.
    mesh_length_angstrom : float
        See :func:`workflows.engines.phonons.evaluate`.
    symprec_angstrom : float
    name : str

    Returns
    -------
    jobflow.Flow
    """
    relaxed = tight.make(structure)
    supercell = phonon_supercell(
        relaxed.output.structure, min_length_angstrom, max_atoms, max_displaced_atoms, symprec_angstrom
    )
    phonons = displacements.make(relaxed.output.structure, supercell_matrix=supercell.output)
    evaluation = evaluate_phonons(
        phonons.output, relaxed.output.output.forces, how, symprec_angstrom, mesh_length_angstrom
    )
    return Flow([relaxed, supercell, phonons, evaluation], output=evaluation.output, name=name)


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


def read_phonons(document: Any, tolerance_thz: float, max_force_ev_per_angstrom: float) -> PhononResult:
    """Judge the flow's output.

    Parameters
    ----------
    document : dict
    tolerance_thz : float
    max_force_ev_per_angstrom : float
        A larger force left at the displaced crystal's reference makes phonons meaningless.

    Returns
    -------
    PhononResult

    Raises
    ------
    CausedError
        502 if forces were left over, 604 if there is nothing to judge.
    """
    from workflows.causes import CausedError
    from workflows.engines.documents import get
    from workflows.engines.phonons import judge
    from workflows.records import PhononResult

    if not document or get(document, "min_mesh_thz") is None:
        raise CausedError(604, "the phonon flow left no frequencies")
    force = document["max_residual_force_ev_per_angstrom"]
    if force > max_force_ev_per_angstrom:
        raise CausedError(502, f"largest force {force:.3f} eV/Å at the displaced crystal's reference")
    judgement, how = judge(document, tolerance_thz)
    return PhononResult(
        judgement=judgement,
        min_thz=document["min_mesh_thz"],
        tolerance_thz=tolerance_thz,
        how=how,
        mesh=document["mesh"],
        n_supercell_atoms=document["n_supercell_atoms"],
        bands=document["bands"],
        dos=document["dos"],
    )
