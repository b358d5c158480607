"""Elements as numbers of order one, for networks: what the periodic table says, from pymatgen and ASE."""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from pymatgen.core import Element

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_Z = 96
"""Up to curium, as far as covalent radii are known (Cordero et al., Dalton Trans. 2832 (2008), as in ASE)."""
BLOCKS = ("s", "p", "d", "f")


@lru_cache(maxsize=1)
def element_features() -> NDArray[np.float32]:
    """Describe the elements.

    Returns
    -------
    numpy.ndarray, shape (MAX_Z + 1, d)
        Row Z describes the element of atomic number Z; row 0 is zero. Columns are standardised over the elements:
        electronegativity (Pauling; 0 if none), covalent radius, mean ionic radius, period, group, valence electrons,
        Mendeleev number, molar volume, melting point, common oxidation states (lowest, highest); the block, one-hot.
    """
    rows = [[0.0] * (11 + len(BLOCKS))]
    for z in range(1, MAX_Z + 1):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pymatgen warns of each number that it does not have
            rows.append(_row(z))
    table = np.array(rows)
    known = table[1:, : -len(BLOCKS)]
    table[1:, : -len(BLOCKS)] = (known - known.mean(axis=0)) / known.std(axis=0)
    features: NDArray[np.float32] = table.astype(np.float32)
    features.setflags(write=False)
    return features


def symbol_of(z: int) -> str:
    """Symbol of an atomic number."""
    return str(chemical_symbols[z])


def _row(z: int) -> list[float]:
    element = Element.from_Z(z)
    states = element.common_oxidation_states or element.oxidation_states or (0,)
    negativity = 0.0 if math.isnan(element.X) else float(element.X)
    group = float(element.group)
    return [
        negativity,
        float(covalent_radii[z]),
        float(element.average_ionic_radius or covalent_radii[z] * 0.7),
        float(element.row),
        group,
        group if group <= 12 else group - 10,
        float(element.mendeleev_no or 0.0),
        math.log(float(element.molar_volume or 20.0)),
        math.log(float(element.melting_point or 1000.0)),
        float(min(states)),
        float(max(states)),
        *(float(element.block == block) for block in BLOCKS),
    ]
