"""Descriptions as padded arrays, for networks: one row a crystal, one slot an orbit."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from ase.data import atomic_numbers

from generators.random_symmetric import space_group
from generators.symmetric.wyckoff import SHAPE_SIZE, centring, free_columns, free_shape, sites
from generators.volume import additive_volume

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from generators.symmetric.wyckoff import Description

MAX_ORBITS = 8
"""Most orbits of a crystal: cells have at most eight atoms."""
SITE_SIZE = 14
SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "hexagonal", "cubic")


class Table(NamedTuple):
    """Padded arrays of n crystals.

    Parameters
    ----------
    group : Tensor of int, shape (n,)
        Space group, 1-230.
    elements : Tensor of int, shape (n, MAX_ORBITS)
        Atomic numbers; 0 where there is no orbit.
    site : Tensor, shape (n, MAX_ORBITS, SITE_SIZE)
        From :func:`site_features`.
    free : Tensor, shape (n, MAX_ORBITS, 3)
        Free coordinates, 0 where fixed.
    is_free : Tensor of bool, shape (n, MAX_ORBITS, 3)
    shape : Tensor, shape (n, SHAPE_SIZE)
        Shape of the conventional cell.
    shape_free : Tensor of bool, shape (n, SHAPE_SIZE)
    expansion : Tensor, shape (n,)
        ln of the volume over :func:`generators.volume.additive_volume`.
    """

    group: Tensor
    elements: Tensor
    site: Tensor
    free: Tensor
    is_free: Tensor
    shape: Tensor
    shape_free: Tensor
    expansion: Tensor

    def rows(self, index: np.ndarray | Tensor) -> Table:
        """Take some rows."""
        where = torch.as_tensor(index)
        return Table(*(column[where] for column in self))


@lru_cache(maxsize=4096)
def site_features(number: int, letter: str) -> tuple[float, ...]:
    """Describe a Wyckoff position: atoms a primitive cell (log), freedom, and its first operation."""
    site = sites(number)[letter]
    operation = site.operations[0]
    return (
        float(np.log(site.multiplicity / centring(number))),
        site.freedom / 3,
        *(float(x) for x in operation[:3, :3].ravel()),
        *(float(x) for x in operation[:3, 3]),
    )


def tabulate(descriptions: Sequence[Description]) -> Table:
    """Put descriptions into padded arrays.

    Raises
    ------
    ValueError
        If one has more than MAX_ORBITS orbits.
    """
    n = len(descriptions)
    group = np.zeros(n, dtype=np.int64)
    elements = np.zeros((n, MAX_ORBITS), dtype=np.int64)
    site = np.zeros((n, MAX_ORBITS, SITE_SIZE), dtype=np.float32)
    free = np.zeros((n, MAX_ORBITS, 3), dtype=np.float32)
    is_free = np.zeros((n, MAX_ORBITS, 3), dtype=bool)
    shape = np.zeros((n, SHAPE_SIZE), dtype=np.float32)
    shape_free = np.zeros((n, SHAPE_SIZE), dtype=bool)
    expansion = np.zeros(n, dtype=np.float32)
    for k, one in enumerate(descriptions):
        if len(one.orbits) > MAX_ORBITS:
            raise ValueError(f"{len(one.orbits)} orbits; at most {MAX_ORBITS} are described")
        group[k] = one.number
        for i, orbit in enumerate(one.orbits):
            elements[k, i] = atomic_numbers[orbit.element]
            site[k, i] = site_features(one.number, orbit.letter)
            for column, value in zip(free_columns(one.number, orbit.letter), orbit.free, strict=False):
                free[k, i, column] = value
            is_free[k, i, list(free_columns(one.number, orbit.letter))] = True
        entries = list(free_shape(one.number))
        shape_free[k, entries] = True
        shape[k, entries] = np.array(one.shape)[entries]
        if one.volume > 0:
            expansion[k] = np.log(one.volume / conventional_volume(one))
    return Table(*(torch.from_numpy(a) for a in (group, elements, site, free, is_free, shape, shape_free, expansion)))


def conventional_volume(description: Description) -> float:
    """Additive estimate of the conventional cell's volume, Å³."""
    symbols = [orbit.element for orbit, n in zip(description.orbits, description.counts, strict=True) for _ in range(n)]
    return additive_volume(sorted(symbols)) * centring(description.number)


@lru_cache(maxsize=230)
def system_of(number: int) -> int:
    """Index of the lattice system in SYSTEMS."""
    kind = space_group(number).lattice_type.lower()
    return SYSTEMS.index("hexagonal" if kind in {"trigonal", "rhombohedral"} else kind)
