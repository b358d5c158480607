"""Cells in which pw.x finds the symmetry that the crystal has.

pw.x looks for symmetry only among rotations of a cube along x, y, z and of a hexagonal prism along z (its source,
``PW/src/symm_base.f90``), and tells positions apart at 1e-5. A crystal that lies askew, or whose numbers were rounded
at the fourth digit, is computed without symmetry: 48 times the k-points for nothing, or a relaxation that breaks it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import spglib
from pymatgen.core import Lattice, Structure

from dft_inputs.causes import DftError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

_BAD_STRUCTURE = 301

_DENOMINATOR = 12
"""Transformations between a cell and its conventional one have halves, thirds and quarters in them."""

_EXACT = 1e-5
"""Å; closer than this is exact for pw.x."""

_SLACK = 3.0
"""spglib widens and narrows symprec a little while it searches; an atom farther off than this was matched wrongly."""


def symmetry_safe(structure: Structure, symprec: float, kinds: Sequence[object] | None = None) -> Structure:
    """Give the same crystal with its symmetry exact and its axes where pw.x looks for them.

    The cell stays the one given: the same vectors up to a rigid turn, the same sites in the same order, the same
    volume. Lattice and positions become exactly what the space group at ``symprec`` wants, the origin is the space
    group's own (pw.x drops every operation whose translation does not fit its FFT grid, and with an origin anywhere
    none fits), and the whole is turned to spglib's standard orientation.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Ordered.
    symprec : float
        Å; no atom moves farther relative to the others than about this.
    kinds : sequence, optional
        One label a site; sites of the same element and another kind (spin) are not equivalent.

    Returns
    -------
    pymatgen.core.Structure
        A copy if nothing had to be done. Else Cartesian frame, origin and last digits differ: forces and stress
        computed in it are in *its* frame, so it replaces the structure given.

    Raises
    ------
    DftError
        301 if spglib finds no symmetry at all, or one that the crystal has not.
    """
    symbols = [site.specie.symbol for site in structure]
    labels = symbols if kinds is None else [f"{s} {k}" for s, k in zip(symbols, kinds, strict=True)]
    numbers = np.array([sorted(set(labels)).index(label) + 1 for label in labels])
    # a left-handed cell is the same crystal in the opposite vectors: spglib wants right-handed ones
    hand = np.sign(np.linalg.det(structure.lattice.matrix))
    coords = hand * structure.frac_coords
    dataset = _dataset(structure, hand, coords, numbers, symprec)
    if hand > 0 and _is_safe(structure, numbers, len(dataset.rotations)):
        return structure.copy()
    # x_std = transformation x + origin, (a_std b_std c_std) transformation = (a b c); exact, it is a ratio of integers
    transformation = np.round(dataset.transformation_matrix * _DENOMINATOR) / _DENOMINATOR
    lattice = (np.array(dataset.std_lattice).T @ transformation).T
    lattice *= np.cbrt(abs(structure.lattice.volume / np.linalg.det(lattice)))

    standard = coords @ transformation.T + dataset.origin_shift
    difference = standard[:, None, :] - np.array(dataset.std_positions)[None, :, :]
    cells = np.round(difference)
    distance = np.linalg.norm((difference - cells) @ dataset.std_lattice, axis=2)
    distance[numbers[:, None] != np.array(dataset.std_types)[None, :]] = np.inf
    nearest = distance.argmin(axis=1)
    rows = np.arange(len(symbols))
    if (farthest := distance[rows, nearest].max()) > _SLACK * symprec:
        raise DftError(
            _BAD_STRUCTURE,
            f"{structure.composition.reduced_formula}: an atom lies {farthest:.3f} Å from where its symmetry at "
            f"{symprec} Å puts it: the symmetry is not that of the crystal; give a smaller symprec",
        )
    exact = np.linalg.solve(transformation, (np.array(dataset.std_positions)[nearest] + cells[rows, nearest]).T).T
    exact -= np.floor(exact + 1e-9)
    return Structure(Lattice(lattice), symbols, exact, site_properties=structure.site_properties)


def _is_safe(structure: Structure, numbers: NDArray[np.int64], n_operations: int) -> bool:
    """Tell whether a crystal is already as it should be; then its frame must not jump to an equivalent one."""
    cell = (structure.lattice.matrix, structure.frac_coords, numbers)
    try:
        exact = spglib.get_symmetry_dataset(cell, symprec=_EXACT)
    except spglib.SpglibError:
        return False
    if exact is None or len(exact.rotations) != n_operations:
        return False
    columns = structure.lattice.matrix.T
    turns = columns @ exact.rotations @ np.linalg.inv(columns)
    cubic = np.isclose(np.abs(turns), np.round(np.abs(turns)), atol=_EXACT).all(axis=(1, 2))
    angles = np.arccos(np.clip(turns[:, 0, 0], -1, 1)) * 6 / np.pi
    prism = np.isclose(np.abs(turns[:, 2, 2]), 1, atol=_EXACT) & np.isclose(angles, np.round(angles), atol=1e-4)
    fractions = exact.translations * 2 * _DENOMINATOR
    return bool((cubic | prism).all() and np.allclose(fractions, np.round(fractions), atol=1e-4))


def _dataset(
    structure: Structure, hand: float, coords: NDArray[np.float64], numbers: NDArray[np.int64], symprec: float
) -> spglib.SpglibDataset:
    cell = (hand * structure.lattice.matrix, coords, numbers)
    try:
        dataset = spglib.get_symmetry_dataset(cell, symprec=symprec)
    except spglib.SpglibError as error:
        dataset, why = None, str(error)
    else:
        why = "spglib finds no symmetry, not even the identity"
    if dataset is None:
        raise DftError(
            _BAD_STRUCTURE,
            f"{structure.composition.reduced_formula}: {why} (symprec {symprec} Å): are atoms on top of each other?",
        )
    return dataset


def primitive_cell(structure: Structure, symprec: float) -> Structure:
    """Give the smallest cell of a crystal, standardised like :func:`symmetry_safe`.

    A conventional cell costs pw.x more than its atoms: in cells that are not primitive it does not use operations with
    fractional translations, and finds 24 instead of 48 in silicon.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Ordered; site properties (moments) are not looked at and are lost.
    symprec : float
        Å.

    Returns
    -------
    pymatgen.core.Structure
        Volume per atom as it was.

    Raises
    ------
    DftError
        301 as :func:`symmetry_safe`.
    """
    safe = symmetry_safe(structure, symprec)
    symbols = [site.specie.symbol for site in safe]
    kinds = sorted(set(symbols))
    cell = (safe.lattice.matrix, safe.frac_coords, [kinds.index(symbol) for symbol in symbols])
    found = spglib.standardize_cell(cell, to_primitive=True, no_idealize=True, symprec=1e-4)
    matrix, coords, numbers = found
    return symmetry_safe(Structure(matrix, [kinds[number] for number in numbers], coords), 1e-4)
