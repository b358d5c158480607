"""Average minimum distances: a fingerprint of a crystal that no choice of cell, origin, axes or atom order can change.

The AMD of a periodic set is the vector of its k nearest-neighbour distances, averaged over the atoms of a cell
(Widdowson, Mosca, Pulido, Cooper, Kurlin, MATCH Commun. Math. Comput. Chem. 87, 529-559 (2022), definition 3.1). It is
an isometry invariant (also of mirror images), it is continuous under small displacements (theorem 4.2 there), and it
is blind to species: compare only crystals of the same composition. This is our own implementation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from generators.crystals.lattices import niggli_reduced

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure

DEFAULT_K = 100
_MAX_ENTRIES = 2_000_000  # entries of one distance block: 16 MB, whatever the cell


def amd(structure: Structure, k: int = DEFAULT_K) -> NDArray[np.float64]:
    """Average minimum distances of a crystal scaled to one unit of volume per atom.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        At least one atom; species and occupancies are ignored.
    k : int
        Number of neighbours.

    Returns
    -------
    numpy.ndarray, shape (k,)
        Dimensionless (in units of the cube root of the volume per atom), ascending.

    Raises
    ------
    ValueError
        If the structure has no atoms, its cell no volume, or a number is not finite.

    Examples
    --------
    The six nearest neighbours in simple cubic lie at the cube root of the volume per atom:

    >>> from pymatgen.core import Lattice, Structure
    >>> amd(Structure(Lattice.cubic(3.35), ["Po"], [[0, 0, 0]]), k=7).round(4).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.4142]
    """
    averages: NDArray[np.float64] = nearest_distances(structure.lattice.matrix, structure.frac_coords, k).mean(axis=0)
    return averages


def nearest_distances(
    lattice: NDArray[np.float64], frac_coords: NDArray[np.float64], k: int = DEFAULT_K
) -> NDArray[np.float64]:
    """Distances from each atom to its k nearest neighbours, scaled to one unit of volume per atom.

    Parameters
    ----------
    lattice : numpy.ndarray, shape (3, 3)
        Rows are the cell vectors, Å.
    frac_coords : numpy.ndarray, shape (n, 3)
        Fractional coordinates.
    k : int
        Number of neighbours.

    Returns
    -------
    numpy.ndarray, shape (n, k)
        Dimensionless, ascending along each row.

    Raises
    ------
    ValueError
        As :func:`amd`.
    """
    n = len(frac_coords)
    volume = abs(float(np.linalg.det(lattice)))
    if n == 0:
        raise ValueError("a crystal without atoms has no neighbour distances")
    if not np.isfinite(volume) or volume <= 0 or not np.all(np.isfinite(frac_coords)):
        raise ValueError(f"the cell volume is {volume} Å³ and the coordinates must be finite: not a crystal")
    cartesian = frac_coords @ lattice
    reduced = niggli_reduced(lattice)  # keeps the box of images below small, but is not needed to be right
    if reduced is None:
        reduced = lattice
    cell = reduced / (volume / n) ** (1 / 3)
    frac = cartesian @ np.linalg.inv(reduced)
    heights = 1 / np.linalg.norm(np.linalg.inv(cell), axis=0)

    rows_per_block = max(1, _MAX_ENTRIES // (n * 125))
    blocks = [
        _block_distances(cell, frac, heights, np.arange(start, min(start + rows_per_block, n)), k)
        for start in range(0, n, rows_per_block)
    ]
    return np.concatenate(blocks)


def _block_distances(
    cell: NDArray[np.float64],
    frac: NDArray[np.float64],
    heights: NDArray[np.float64],
    rows: NDArray[np.intp],
    k: int,
) -> NDArray[np.float64]:
    """Exact k nearest distances of some atoms: the search radius grows until it holds k neighbours of each."""
    n = len(frac)
    delta = frac[None, :, :] - frac[rows, None, :]
    delta -= np.round(delta)
    vectors = (delta @ cell).reshape(-1, 3)
    squares = np.einsum("ij,ij->i", vectors, vectors)
    radius = 1.2 * (3 * (k + 1) / (4 * np.pi)) ** (1 / 3)  # 1.2: atoms are not spread evenly
    while True:
        # An image m + delta with |delta| <= 1/2 inside the radius has |m| <= radius / height + 1/2 along each axis.
        reach = np.floor(radius / heights + 0.5).astype(int)
        axes = [np.arange(-r, r + 1) for r in reach]
        images = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) @ cell
        if len(images) * n <= k:
            radius *= 1.5
            continue
        square = squares[:, None] + 2 * vectors @ images.T + np.einsum("ij,ij->i", images, images)[None, :]
        square = square.reshape(len(rows), n, -1)
        square[np.arange(len(rows)), rows, len(images) // 2] = np.inf  # the atom itself: the middle image is zero
        nearest = np.partition(square.reshape(len(rows), -1), k - 1, axis=1)[:, :k]
        furthest = float(np.sqrt(max(nearest.max(), 0.0)))
        if furthest <= radius:
            nearest.sort(axis=1)
            result: NDArray[np.float64] = np.sqrt(np.maximum(nearest, 0.0))
            return result
        radius = furthest * (1 + 1e-9)
