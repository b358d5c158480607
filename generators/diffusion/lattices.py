"""A cell without its orientation: six unbounded numbers, half the logarithm of the metric.

For cell vectors in rows, ``L``, the metric is ``G = L Lᵀ``; it does not change when the crystal is turned.
``X = ½ ln G`` is symmetric and any symmetric ``X`` is a cell, so that noise can be added to it freely; its trace
is ``ln V``. MatterGen diffuses the symmetric factor of ``L`` (Zeni et al., Nature 639, 624 (2025)), which is ``exp X``;
its logarithm is used here because no draw of it is ever singular.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

ROWS, COLUMNS = (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)
"""Where the six numbers stand in the symmetric matrix: xx, yy, zz, yz, xz, xy (Voigt's order)."""
LIMIT = 3.0
"""Eigenvalues of ``X`` are kept within ln(Å) of ± this where a cell is made: between 0.05 and 20 Å."""


def log_metric(cells: Tensor) -> Tensor:
    """Represent cells.

    Parameters
    ----------
    cells : Tensor, shape (b, 3, 3)
        Cell vectors in rows, Å.

    Returns
    -------
    Tensor, shape (b, 6)
        ``½ ln(L Lᵀ)`` in Voigt's order, ln(Å); double precision.
    """
    wide = cells.double()
    values, vectors = torch.linalg.eigh(wide @ wide.transpose(1, 2))
    symmetric = 0.5 * (vectors * values.clamp_min(1e-12).log()[:, None, :]) @ vectors.transpose(1, 2)
    return symmetric[:, ROWS, COLUMNS]


def metric(logarithm: Tensor) -> Tensor:
    """Give the metric ``exp(2 X)``, Å², shape (b, 3, 3), of what :func:`log_metric` gave."""
    symmetric = logarithm.new_zeros((len(logarithm), 3, 3))
    symmetric[:, ROWS, COLUMNS] = logarithm
    symmetric[:, COLUMNS, ROWS] = logarithm
    values, vectors = torch.linalg.eigh(symmetric)
    return (vectors * (2 * values.clamp(-LIMIT, LIMIT)).exp()[:, None, :]) @ vectors.transpose(1, 2)


def cells(logarithm: Tensor) -> Tensor:
    """Give cells, Å, shape (b, 3, 3), in one orientation: the first vector along x, the second in the xy plane."""
    return torch.linalg.cholesky(metric(logarithm.double()))
