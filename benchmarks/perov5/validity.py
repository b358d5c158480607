"""Validity as CDVAE counts it: no two atoms closer than 0.5 Å, and a neutral assignment of oxidation states."""

from __future__ import annotations

from functools import lru_cache
from itertools import product
from math import gcd
from typing import TYPE_CHECKING

import numpy as np
import smact
from smact.screening import pauling_test

if TYPE_CHECKING:
    from pymatgen.core import Structure

SHORTEST_ANGSTROM = 0.5
SMALLEST_VOLUME = 0.1


def structure_valid(structure: Structure) -> bool:
    """Tell whether no two atoms are closer than 0.5 Å and the cell has 0.1 Å³ (``eval_utils.py`` lines 165 to 173).

    As there, an atom's distance to its own images is not looked at.
    """
    distances = structure.distance_matrix + np.diag(np.full(len(structure), SHORTEST_ANGSTROM + 10.0))
    return bool(distances.min() >= SHORTEST_ANGSTROM and structure.volume >= SMALLEST_VOLUME)


def composition_valid(structure: Structure) -> bool:
    """Tell whether charges can balance with cations less electronegative than anions (lines 121 to 162 there).

    Elements and alloys of metals pass; every element has one oxidation state.
    """
    amounts = structure.composition.get_el_amt_dict()
    counts = {symbol: round(n) for symbol, n in sorted(amounts.items())}
    divisor = gcd(*counts.values())
    return _balances(tuple((symbol, n // divisor) for symbol, n in counts.items()))


@lru_cache(maxsize=50_000)
def _balances(counts: tuple[tuple[str, int], ...]) -> bool:
    symbols = [symbol for symbol, _ in counts]
    if len(symbols) == 1 or all(symbol in smact.metals for symbol in symbols):
        return True
    elements = [smact.Element(symbol) for symbol in symbols]
    negativities = [element.pauling_eneg for element in elements]
    amounts = [n for _, n in counts]
    for states in product(*(element.oxidation_states_smact14 or () for element in elements)):
        charge = sum(state * n for state, n in zip(states, amounts, strict=True))
        if charge == 0 and pauling_test(states, negativities):
            return True
    return False
