"""StructureMatcher's own first two tests, many lattice mappings at a time and without what it costs to call it.

Most pairs of one composition and cell size that StructureMatcher refuses, it refuses because no basis of the one
lattice has lengths and angles like the other's, and most of the rest because under no such basis and no translation
each site finds a site of its species nearby. The tests here ask the same questions of the same numbers at tolerances
that are wider by a rounding error, so they never refuse a pair that the matcher would accept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import spglib

from generators.crystals.spglib_calls import found_or_none

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SLACK = 1e-6  # relative widening of each tolerance, so that rounding never refuses what the matcher accepts

_MAX_COMPARISONS = 1_000_000  # larger comparisons are left to the matcher


class ReducedLattice:
    """A reduced lattice scaled to unit volume, with its points by length.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (3, 3)
        Rows are the cell vectors of a primitive, Niggli-reduced cell, Å.
    ltol : float
        Relative tolerance of lengths.
    angle_tol : float
        Tolerance of angles, degrees.
    """

    def __init__(self, matrix: NDArray[np.float64], ltol: float, angle_tol: float) -> None:
        self._matrix = matrix / abs(np.linalg.det(matrix)) ** (1 / 3)
        self._heights = 1 / np.linalg.norm(np.linalg.inv(self._matrix), axis=0)
        lengths = np.linalg.norm(self._matrix, axis=1)
        unit = self._matrix / lengths[:, None]
        angles = np.arccos(np.clip([unit[1] @ unit[2], unit[0] @ unit[2], unit[0] @ unit[1]], -1, 1))
        width = np.deg2rad(angle_tol) * (1 + _SLACK)
        self._cell_lengths, self._cell_angles = lengths, angles
        self._cosines = list(
            zip(
                np.cos(np.minimum(angles + width, np.pi)) - _SLACK,
                np.cos(np.maximum(angles - width, 0)) + _SLACK,
                strict=True,
            )
        )
        factor = (1 + ltol) * (1 + _SLACK)
        self._windows = np.concatenate([lengths / factor, lengths * factor])
        self._radius = 0.0
        self._find_points(float(self._windows.max()))

    def mappings_onto(self, target: ReducedLattice) -> NDArray[np.int64]:
        """List the bases of this lattice that look like the target's cell.

        Returns
        -------
        numpy.ndarray of int, shape (m, 3, 3)
            Rows are the basis vectors in units of this lattice's cell vectors; the determinant is 1 or -1.
        """
        none = np.empty((0, 3, 3), dtype=np.int64)
        reach = float(target._windows[3:].max())
        if reach > self._radius:
            self._find_points(1.1 * reach)
        low_a, low_b, low_c, high_a, high_b, high_c = np.searchsorted(self._lengths, target._windows)
        a, b, c = self._directions[low_a:high_a], self._directions[low_b:high_b], self._directions[low_c:high_c]
        if not (len(a) and len(b) and len(c)):
            return none
        alpha, beta, gamma = target._cosines
        ab = _within(a @ b.T, gamma)
        if not ab.any():
            return none
        ac = _within(a @ c.T, beta)
        if not ac.any():
            return none
        bc = _within(b @ c.T, alpha)
        i, j, k = np.nonzero(ab[:, :, None] & ac[:, None, :] & bc[None, :, :])
        if not len(i):
            return none
        bases = np.stack([self._points[low_a + i], self._points[low_b + j], self._points[low_c + k]], axis=1)
        proper: NDArray[np.int64] = bases[np.rint(np.abs(np.linalg.det(bases))) == 1]
        return proper

    def frac_tolerances(self, bases: NDArray[np.int64], target: ReducedLattice, n: int, stol: float) -> NDArray[Any]:
        """Fractional distances within which the matcher looks for a site's partner, for each basis.

        Twice ``stol`` (the best translation is not known yet) over the height of the cell whose lengths and angles are
        the averages of both, as ``StructureMatcher._strict_match`` has it.

        Returns
        -------
        numpy.ndarray, shape (m, 3)
        """
        vectors = bases @ self._matrix
        own_lengths = np.sqrt(np.einsum("mij,mij->mi", vectors, vectors))
        unit = vectors / own_lengths[:, :, None]
        own_cosines = np.stack([np.einsum("mi,mi->m", unit[:, i], unit[:, j]) for i, j in ((1, 2), (0, 2), (0, 1))], 1)
        lengths = (own_lengths + target._cell_lengths) / 2
        angles = (np.arccos(np.clip(own_cosines, -1, 1)) + target._cell_angles) / 2
        cosines = np.cos(angles)
        flatness = 1 - (cosines**2).sum(axis=1) + 2 * cosines.prod(axis=1)
        shape = np.sqrt(np.maximum(flatness, 1e-12))  # volume over the product of lengths
        heights = lengths * shape[:, None] / np.sin(angles)
        volumes = lengths.prod(axis=1) * shape
        tolerances: NDArray[np.float64] = 2 * stol * ((volumes / n) ** (1 / 3))[:, None] / heights
        return tolerances * (1 + _SLACK) + _SLACK

    def _find_points(self, radius: float) -> None:
        """List the directions and lengths of all lattice points up to a radius, shortest first, without the origin."""
        reach = np.floor(radius / self._heights).astype(int)
        axes = [np.arange(-r, r + 1) for r in reach]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        vectors = points @ self._matrix
        lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
        order = np.argsort(lengths, kind="stable")[1:]
        order = order[lengths[order] <= radius]
        self._radius = radius
        self._lengths: NDArray[np.float64] = lengths[order]
        self._directions: NDArray[np.float64] = vectors[order] / self._lengths[:, None]
        self._points: NDArray[np.int64] = points[order]


def niggli_reduced(matrix: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Niggli-reduce a cell with spglib.

    Parameters
    ----------
    matrix : numpy.ndarray, shape (3, 3)
        Rows are the cell vectors, Å.

    Returns
    -------
    numpy.ndarray of shape (3, 3) or None
        None if the cell is too flat or too long to be reduced.
    """
    reduced: NDArray[np.float64] | None = found_or_none(spglib.niggli_reduce, matrix)
    return reduced


def _within(cosines: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (cosines >= limits[0]) & (cosines <= limits[1])
    return inside


def sites_may_match(
    frac: NDArray[np.float64],
    numbers: NDArray[np.int64],
    target_frac: NDArray[np.float64],
    target_numbers: NDArray[np.int64],
    bases: NDArray[np.int64],
    tolerances: NDArray[np.float64],
) -> bool:
    """Tell whether, in some basis and under some translation, each target site finds a site of its species nearby.

    Parameters
    ----------
    frac, target_frac : numpy.ndarray, shape (n, 3)
        Fractional coordinates in each one's own reduced cell.
    numbers, target_numbers : numpy.ndarray, shape (n,)
        Species; both hold each as often.
    bases : numpy.ndarray, shape (m, 3, 3)
        From :meth:`ReducedLattice.mappings_onto`.
    tolerances : numpy.ndarray, shape (m, 3)
        From :meth:`ReducedLattice.frac_tolerances`.
    """
    # The matcher anchors the translation on the first target site of the species that is rarest.
    anchor = int(np.argmin((numbers[None, :] == target_numbers[:, None]).sum(axis=1)))
    partners = np.flatnonzero(numbers == target_numbers[anchor])
    n = len(frac)
    if len(bases) * len(partners) * n * n > _MAX_COMPARISONS:
        return True
    mapped = frac @ np.rint(np.linalg.inv(bases))  # (m, n, 3)
    relative = target_frac - target_frac[anchor]  # target sites seen from the anchor, (n, 3)
    moved = mapped[:, partners, None, :] + relative  # (m, partners, n, 3)
    same_species = numbers[None, :] == target_numbers[:, None]  # (target, own)
    near: NDArray[np.bool_] = np.broadcast_to(same_species, (len(bases), len(partners), n, n)).copy()
    for axis in range(3):
        difference = mapped[:, None, None, :, axis] - moved[:, :, :, None, axis]
        difference -= np.rint(difference)
        near &= np.abs(difference) <= tolerances[:, None, None, None, axis]
    found = np.logical_or.reduce(near, axis=3)  # (m, partners, target)
    return bool(np.logical_and.reduce(found, axis=2).any())
