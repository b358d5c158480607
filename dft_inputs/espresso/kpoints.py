"""k-meshes from a density.

Meshes are Γ-centred and never shifted. A shift by half a division saves points in cubic crystals, but in hexagonal and
face-centred ones it breaks the symmetry of the mesh (Monkhorst and Pack, Phys. Rev. B 13, 5188 (1976), and the warning
in pw.x's own manual), and Γ, where gaps and acoustic modes sit, is then missed.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

import numpy as np
import spglib

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

_SAME = 1e-4
"""Divisions; a vector that is longer by less than this part of a spacing does not get one division more."""

_SYMPREC = 1e-4
"""Å; cells that come here have their symmetry exact."""


def k_mesh(structure: Structure, spacing: float, *, symprec: float = _SYMPREC) -> tuple[int, int, int]:
    """Choose the divisions of a Γ-centred mesh.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Ordered.
    spacing : float
        1/Å, with 2π in it: no two neighbouring points are farther apart along a reciprocal vector.
    symprec : float
        Å. Vectors that a rotation of the crystal mixes get the same divisions, so the mesh has the crystal's symmetry.

    Returns
    -------
    tuple of int

    Raises
    ------
    ValueError
        If the spacing is not positive.

    Examples
    --------
    >>> from pymatgen.core import Lattice, Structure
    >>> k_mesh(Structure(Lattice.hexagonal(3.21, 5.21), ["Mg", "Mg"], [[1/3, 2/3, 0.25], [2/3, 1/3, 0.75]]), 0.2)
    (12, 12, 7)
    """
    if not spacing > 0:
        raise ValueError(f"a spacing of {spacing} 1/Å makes no mesh: give something like 0.2")
    lengths = structure.lattice.reciprocal_lattice.abc
    divisions = [max(1, ceil(length / spacing - _SAME)) for length in lengths]
    return _symmetric(divisions, _rotations(structure, symprec))


def irreducible_k_points(
    structure: Structure,
    mesh: Sequence[int],
    shift: Sequence[int] = (0, 0, 0),
    *,
    kinds: Sequence[object] | None = None,
    symprec: float = _SYMPREC,
) -> int:
    """Count the points that symmetry and time reversal leave of a mesh.

    Parameters
    ----------
    structure : pymatgen.core.Structure
    mesh, shift : sequence of int
    kinds : sequence, optional
        A label a site, where sites of one element differ (spin).
    symprec : float
        Å.
    """
    _, addresses = np.unique(
        spglib.get_ir_reciprocal_mesh(
            list(mesh), _cell(structure, kinds), is_shift=list(shift), is_time_reversal=True, symprec=symprec
        )[0],
        return_index=True,
    )
    return len(addresses)


def _cell(structure: Structure, kinds: Sequence[object] | None = None) -> tuple[object, object, list[int]]:
    symbols = [site.specie.symbol for site in structure]
    labels = symbols if kinds is None else [f"{s} {k}" for s, k in zip(symbols, kinds, strict=True)]
    numbers = [sorted(set(labels)).index(label) + 1 for label in labels]
    return structure.lattice.matrix, structure.frac_coords, numbers


def _rotations(structure: Structure, symprec: float) -> list[np.ndarray]:
    try:
        dataset = spglib.get_symmetry_dataset(_cell(structure), symprec=symprec)
    except spglib.SpglibError:
        return []
    return [] if dataset is None else list(dataset.rotations)


def _symmetric(divisions: list[int], rotations: list[np.ndarray]) -> tuple[int, int, int]:
    """Raise divisions until every rotation maps the mesh onto itself."""
    found = list(divisions)
    while True:
        before = list(found)
        for rotation in rotations:
            # reciprocal vector i becomes sum_j rotation[i, j] b_j: a point at 1/n_i must stay on the mesh
            for i, j in zip(*np.nonzero(rotation), strict=True):
                if found[j] * rotation[i, j] % found[i]:
                    found[i] = found[j] = max(found[i], found[j])
        if found == before:
            return found[0], found[1], found[2]
