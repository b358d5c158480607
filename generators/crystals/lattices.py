"""Whether StructureMatcher could map one lattice onto another: its own first test, without what it costs to call it.

Nine of ten pairs of one composition and cell size that StructureMatcher refuses, it refuses because no basis of the one
lattice has lengths and angles like the other's. The test here asks the same question of the same vectors, only not for
the determinant of the basis, so it never refuses a pair that the matcher would accept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SLACK = 1e-6  # relative widening of each tolerance, so that rounding never refuses what the matcher accepts


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
        slack = np.deg2rad(angle_tol) * (1 + _SLACK)
        self._cosines = list(
            zip(
                np.cos(np.minimum(angles + slack, np.pi)) - _SLACK,
                np.cos(np.maximum(angles - slack, 0)) + _SLACK,
                strict=True,
            )
        )
        factor = (1 + ltol) * (1 + _SLACK)
        self._windows = np.concatenate([lengths / factor, lengths * factor])
        self._radius = 0.0
        self._find_points(float(self._windows.max()))

    def may_map_onto(self, target: ReducedLattice) -> bool:
        """Tell whether a triple of this lattice's points has the lengths and angles of the target's cell.

        Necessary for ``target``'s cell to be a basis of this lattice at the tolerances given, not sufficient.
        """
        reach = float(target._windows[3:].max())
        if reach > self._radius:
            self._find_points(1.1 * reach)
        low_a, low_b, low_c, high_a, high_b, high_c = np.searchsorted(self._lengths, target._windows)
        a, b, c = self._points[low_a:high_a], self._points[low_b:high_b], self._points[low_c:high_c]
        if not (len(a) and len(b) and len(c)):
            return False
        alpha, beta, gamma = target._cosines
        ab = _within(a @ b.T, gamma)
        if not ab.any():
            return False
        ac = _within(a @ c.T, beta)
        if not ac.any():
            return False
        bc = _within(b @ c.T, alpha)
        # A triple exists where some b makes the right angle with an a and a c that make the right angle themselves.
        return bool((ab.astype(np.float32) @ bc.astype(np.float32))[ac].any())

    def _find_points(self, radius: float) -> None:
        """List the directions and lengths of all lattice points up to a radius, shortest first, without the origin."""
        reach = np.floor(radius / self._heights).astype(int)
        axes = [np.arange(-r, r + 1) for r in reach]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) @ self._matrix
        lengths = np.sqrt(np.einsum("ij,ij->i", points, points))
        order = np.argsort(lengths, kind="stable")[1:]
        order = order[lengths[order] <= radius]
        self._radius = radius
        self._lengths: NDArray[np.float64] = lengths[order]
        self._points: NDArray[np.float64] = points[order] / self._lengths[:, None]


def _within(cosines: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (cosines >= limits[0]) & (cosines <= limits[1])
    return inside
