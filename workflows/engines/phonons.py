"""Phonons from force constants: which supercell, which frequencies, which judgement. Any engine may use it.

A flag "has imaginary modes" without a tolerance is wrong near Γ. Here the acoustic sum rule is enforced, the three
acoustic modes at Γ are set aside, and two lowest frequencies are kept apart: the one at q-points commensurate with the
supercell, where finite displacements are exact, and the one on the whole mesh, where the rest is interpolated
(Parlinski, Li and Kawazoe, Phys. Rev. Lett. 78, 4063 (1997); Togo, Chaput, Tadano and Tanaka, J. Phys.: Condens. Matter
35, 353001 (2023)). Only the first can prove an instability; only the second can prove stability.
"""

from __future__ import annotations

from itertools import pairwise, product
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from phonopy import Phonopy
    from pymatgen.core import Structure

    from workflows.records import PhononJudgement

N_ACOUSTIC = 3
"""Translations: three modes of frequency zero at Γ."""


MIN_REPEAT = 5.0
"""Å; in a supercell that repeats sooner, a displaced atom's neighbours feel its image too, and what lies between the
few exact q-points is a guess: it can prove an instability, not stability."""


def choose_supercell(
    structure: Structure, min_length: float, max_atoms: int, max_displaced_atoms: int, symprec: float = 0.01
) -> list[list[int]]:
    """Choose the supercell for finite displacements.

    Candidates are diagonal multiples of the given and of the conventional cell that keep the crystal's point group
    (another one would cost displacements). The smallest whose shortest repeat reaches ``min_length`` wins; if none is
    affordable, the one with the longest shortest repeat; if nothing is, the cell itself.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Primitive cell.
    min_length : float
        Å; wanted distance between an atom and its nearest image.
    max_atoms : int
        Most atoms in the supercell.
    max_displaced_atoms : int
        Most atoms x displacements, which is what the forces cost.
    symprec : float
        Å, for symmetry.

    Returns
    -------
    list of list of int, shape (3, 3)
        phonopy's convention: column *j* is supercell vector *j* in units of the given cell's vectors.
    """
    ranked: list[tuple[bool, float, int, float, list[list[int]]]] = []
    for matrix in _symmetric_supercells(structure, max_atoms, symprec):
        n_atoms = len(structure) * round(abs(np.linalg.det(matrix)))
        length = round(shortest_repeat(structure, matrix), 2)
        short = length < min_length
        ranked.append((short, -length if short else 0.0, n_atoms, -length, matrix.T.tolist()))
    for _, _, n_atoms, _, columns in sorted(ranked):
        if n_atoms * count_displacements(structure, columns, symprec) <= max_displaced_atoms:
            return columns
    return [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def _symmetric_supercells(structure: Structure, max_atoms: int, symprec: float) -> Iterator[NDArray[np.int64]]:
    """Yield supercell matrices (rows are vectors) that every rotation of the crystal maps onto themselves."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

    dataset = SpacegroupAnalyzer(structure, symprec=symprec).get_symmetry_dataset()
    conventional = np.linalg.inv(dataset.transformation_matrix).T  # spglib: (a b c) = (a_std b_std c_std) P
    bases = [np.eye(3, dtype=np.int64)]
    if np.allclose(conventional, np.round(conventional), atol=1e-4) and abs(np.linalg.det(conventional)) > 1.01:
        bases.append(np.round(conventional).astype(np.int64))
    for base in bases:
        room = max_atoms // (len(structure) * round(abs(np.linalg.det(base))))
        for i, j, k in product(range(1, room + 1), repeat=3):
            if i * j * k > room:
                continue
            matrix = np.diag([i, j, k]) @ base
            images = [np.linalg.solve(matrix.T, rotation @ matrix.T) for rotation in dataset.rotations]
            if np.allclose(images, np.round(images), atol=1e-6):
                yield matrix


def shortest_repeat(structure: Structure, rows: NDArray[np.int64] | Sequence[Sequence[int]]) -> float:
    """Give the shortest distance (Å) between an atom and its image in a supercell whose vectors are ``rows``."""
    from pymatgen.core import Lattice

    reduced = Lattice(np.asarray(rows) @ structure.lattice.matrix).get_lll_reduced_lattice().matrix
    steps = np.array([s for s in product((-1, 0, 1), repeat=3) if any(s)])
    return float(np.linalg.norm(steps @ reduced, axis=1).min())


def count_displacements(structure: Structure, matrix: Sequence[Sequence[int]], symprec: float) -> int:
    """Count the displaced supercells that phonopy needs for a supercell matrix in its own convention."""
    phonon = make_phonopy(structure, matrix, "auto", symprec)
    phonon.generate_displacements(distance=0.01)
    return len(phonon.displacements)


def make_phonopy(structure: Structure, supercell_matrix: Any, primitive_matrix: Any, symprec: float) -> Phonopy:
    """Make the phonopy object of a crystal."""
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    cell = PhonopyAtoms(
        symbols=[site.specie.symbol for site in structure],
        cell=structure.lattice.matrix,
        scaled_positions=structure.frac_coords,
    )
    return Phonopy(cell, supercell_matrix, primitive_matrix=primitive_matrix, symprec=symprec)


def evaluate(
    structure: Structure,
    supercell_matrix: Any,
    primitive_matrix: Any,
    force_constants: Any,
    *,
    symprec: float,
    mesh_length: float,
) -> dict[str, Any]:
    """Turn force constants into the numbers that a judgement and a report need.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Cell that the supercell matrix refers to.
    supercell_matrix, primitive_matrix : array_like, shape (3, 3)
        phonopy's convention.
    force_constants : array_like, shape (n_supercell, n_supercell, 3, 3)
        eV/Å².
    symprec : float
        Å.
    mesh_length : float
        Å; divisions along each reciprocal vector are this length times the vector (without 2π).

    Returns
    -------
    dict
        ``min_commensurate_thz`` and ``min_mesh_thz`` with their ``q_*`` (fractional, primitive reciprocal cell), the
        mesh, sizes, ``bands`` and ``dos``. Imaginary frequencies are negative.
    """
    phonon = make_phonopy(structure, supercell_matrix, primitive_matrix, symprec)
    phonon.force_constants = np.array(force_constants, dtype=float)
    phonon.symmetrize_force_constants(show_drift=False)
    exact = _lowest(*_at_commensurate_points(phonon))
    phonon.run_mesh(mesh_length, is_gamma_center=True)
    mesh = _lowest(phonon.mesh.qpoints, phonon.mesh.frequencies)
    phonon.run_total_dos(freq_pitch=max(0.02, float(np.ptp(phonon.mesh.frequencies)) / 200))
    rows = np.array(supercell_matrix).T
    return {
        "min_commensurate_thz": exact[0],
        "q_commensurate": exact[1],
        "min_mesh_thz": min(exact[0], mesh[0]),
        "q_mesh": mesh[1] if mesh[0] < exact[0] else exact[1],
        "mesh": [int(n) for n in phonon.mesh.mesh_numbers],
        "supercell_matrix": np.array(supercell_matrix, dtype=int).tolist(),
        "n_supercell_atoms": len(phonon.supercell),
        "shortest_repeat_angstrom": round(shortest_repeat(structure, rows), 3),
        "n_commensurate": len(phonon.supercell) // len(phonon.primitive),
        "bands": _bands(phonon),
        "dos": {
            "frequencies_thz": np.round(phonon.total_dos.frequency_points, 3).tolist(),
            "densities": np.round(phonon.total_dos.dos, 3).tolist(),
        },
    }


def judge(document: dict[str, Any], tolerance_thz: float) -> tuple[PhononJudgement, str]:
    """Judge stored frequencies against a tolerance.

    Parameters
    ----------
    document : dict
        What :func:`evaluate` returned, with ``how`` (engine and settings in words).
    tolerance_thz : float
        Lowest frequency that still counts as stable; negative is imaginary.

    Returns
    -------
    judgement : {"stable", "unstable", "not_converged"}
    how : str
        How it was judged, in words.
    """
    exact, mesh = document["min_commensurate_thz"], document["min_mesh_thz"]
    q_exact, q_mesh = _q_words(document["q_commensurate"]), _q_words(document["q_mesh"])
    n_exact, n_atoms = document["n_commensurate"], document["n_supercell_atoms"]
    # phonopy's generalised regular grid follows the conventional cell: these are no divisions of the primitive axes
    divisions = f"of {prod(document['mesh'])} q-points"
    setting = (
        f"{document.get('how', '')}supercell of {n_atoms} atoms (shortest repeat "
        f"{document['shortest_repeat_angstrom']:.1f} Å), acoustic sum rule, acoustic Γ modes left out, "
        f"no non-analytical correction, Γ-centred mesh {divisions}, tolerance {tolerance_thz:g} THz"
    )
    length = document["shortest_repeat_angstrom"]
    if exact < tolerance_thz:
        found = f"{exact:.2f} THz at q = {q_exact}, commensurate with the supercell and therefore exact"
        return "unstable", f"unstable: {found}; {setting}"
    if mesh < tolerance_thz:
        found = (
            f"{mesh:.2f} THz at q = {q_mesh}, which is interpolated; the lowest at the {n_exact} commensurate q-points "
            f"is {exact:.2f} THz: a larger supercell would tell"
        )
        return "not_converged", f"not converged: {found}; {setting}"
    if length < MIN_REPEAT:
        found = (
            f"lowest {mesh:.2f} THz, but atoms see their own images at {length:.1f} Å: a larger supercell would tell"
        )
        return "not_converged", f"not converged: {found}; {setting}"
    return "stable", f"stable: lowest {mesh:.2f} THz at q = {q_mesh} on the whole mesh; {setting}"


def _q_words(q: Sequence[float]) -> str:
    return "(" + ", ".join(f"{x:.3g}" for x in q) + ")"


def _at_commensurate_points(phonon: Phonopy) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    from phonopy.harmonic.dynmat_to_fc import get_commensurate_points

    # primitive_matrix (columns, in units of the cell) and supercell_matrix give the supercell in primitive vectors.
    relative = np.round(np.linalg.solve(phonon.primitive_matrix, phonon.supercell_matrix)).astype(int)
    points = get_commensurate_points(relative)
    phonon.run_qpoints(points)
    return points, phonon.qpoints.frequencies


def _lowest(points: NDArray[np.float64], frequencies: NDArray[np.float64]) -> tuple[float, list[float]]:
    """Give the lowest frequency (THz) away from the acoustic modes at Γ, and its q-point."""
    best, where = np.inf, [0.0, 0.0, 0.0]
    for q, branch in zip(points, frequencies, strict=True):
        at_gamma = np.allclose(q, np.round(q), atol=1e-8)
        # the translations are the three of smallest magnitude, not the three lowest: an unstable mode lies below them
        left = branch[np.argsort(np.abs(branch))[N_ACOUSTIC:]] if at_gamma else branch
        if len(left) and left.min() < best - 1e-6:
            best, where = float(left.min()), [round(float(x), 5) for x in q]
    return round(best, 4), where


def _bands(phonon: Phonopy, n_points: int = 31) -> dict[str, Any]:
    """Give bands along seekpath's path (Hinuma et al., Comput. Mater. Sci. 128, 140 (2017)), compact.

    ``distances`` (points; 1/Å), ``frequencies_thz`` (branches x points), ``labels`` (position and name of each tick)
    and ``segments`` (first and past-the-last point of each straight piece).
    """
    from phonopy.phonon.band_structure import get_band_qpoints_by_seekpath

    paths, names, connections = get_band_qpoints_by_seekpath(phonon.primitive, n_points)
    phonon.run_band_structure(paths, path_connections=connections, labels=names)
    pieces = phonon.band_structure.distances
    starts = np.concatenate([[0], np.cumsum([len(piece) for piece in pieces])]).tolist()
    labels: list[dict[str, Any]] = []
    remaining = [_plain(name) for name in names]
    joined = False
    for piece, connected in zip(pieces, connections, strict=True):
        if not joined:
            _tick(labels, piece[0], remaining.pop(0))
        _tick(labels, piece[-1], remaining.pop(0))
        joined = connected
    return {
        "distances": np.round(np.concatenate(pieces), 4).tolist(),
        "frequencies_thz": np.round(np.concatenate(phonon.band_structure.frequencies).T, 3).tolist(),
        "labels": labels,
        "segments": [[int(a), int(b)] for a, b in pairwise(starts)],
    }


def _tick(labels: list[dict[str, Any]], distance: float, name: str) -> None:
    """Add a tick; where the path jumps, two names share one place (``U|K``)."""
    position = round(float(distance), 4)
    if labels and labels[-1]["distance"] == position:
        labels[-1]["label"] += f"|{name}"
    else:
        labels.append({"distance": position, "label": name})


def _plain(name: str) -> str:
    """Turn LaTeX names of points into plain text: Γ, X_1."""
    text = name.replace("$", "").replace("\\Gamma", "Γ").replace("\\Sigma", "Σ").replace("\\mathrm", "")
    return text.replace("{", "").replace("}", "").replace("\\_", "_").replace("\\", "")
