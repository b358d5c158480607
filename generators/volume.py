"""How large a cell should be before anything is relaxed: an additive estimate, and one from distances.

Constants were fitted to 135 charge-balanced substitutions of 129 prototypes over Mg, Al, Si, N, O, Li, Ca, Ti, S, F,
Cl, Na and Zn, relaxed with CHGNet 0.3.0 from another estimate: the mean error of a volume is 14 % (4.5 % in length),
leave-one-out, against 37 % for the shortest distance over covalent radii and 31 % for pymatgen's DLSVolumePredictor.
"""

from __future__ import annotations

from collections import Counter
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from ase.data import atomic_numbers, covalent_radii
from pymatgen.core import Composition, Element

from generators.crystals.neutrality import oxidation_states

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from pymatgen.core import Structure

ION_CONSTANT, ION_FACTOR = 3.3, 5.8
"""Å³ an ion, and Å³ for each Å³ of its radius cubed; fitted as said above."""
ATOM_CONSTANT, ATOM_FACTOR = 8.6, 2.7
"""The same with covalent radii, for what has no neutral assignment; fitted as said above."""
CONTACT_BIAS = 1.08
"""Median of the volume where ions just touch over the relaxed one."""
ANION_OVERLAP = 0.95
"""Anions at this share of twice their radius touch: in relaxed oxides they are a little closer than hard spheres."""
ANION_EXCESS, CATION_SHARE = 0.75, 0.6
"""An anion without a tabulated radius (N 3-, Si 4-) is its covalent radius and 0.75 Å, a cation six tenths of it: about
what those with one are."""
SHORTEST = 0.7
"""Least distance in units of the sum of covalent radii; the shortest bonds known (N2, CO) are at 0.77."""
CONTACT_LIMITS = (0.6, 1.5)
"""Least and most that distances may change the additive estimate by; beyond them the prototype holds molecules."""


def additive_volume(symbols: Iterable[str]) -> float:
    """Estimate a cell's volume from its atoms alone.

    Parameters
    ----------
    symbols : iterable of str
        Element symbol of every atom of the cell.

    Returns
    -------
    float
        Å³.
    """
    counts = Counter(symbols)
    formula = Composition(counts).reduced_formula
    return float(sum(count * _volume(formula, symbol) for symbol, count in counts.items()))


def expected_volume(structure: Structure) -> float:
    """Estimate the relaxed volume of a cell from its atoms and from the distances between them.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Its present volume is irrelevant.

    Returns
    -------
    float
        Å³; the geometric mean of the additive estimate and of the volume at which the first two atoms touch (for ions:
        an anion with a cation or another anion), within CONTACT_LIMITS of the additive estimate, and large enough that
        no two atoms are closer than SHORTEST of their covalent radii.
    """
    additive, contact, least = _volumes(structure)
    low, high = CONTACT_LIMITS
    return max(least, additive * min(high, max(low, float(np.sqrt(contact / additive)))))


def crowding(structure: Structure) -> float:
    """Return the volume that the closest atoms ask for over the additive estimate.

    About 1 in a crystal of its atoms; far above it where a prototype has molecules that they would not form.
    """
    additive, contact, least = _volumes(structure)
    return max(contact, least) / additive


def _volumes(structure: Structure) -> tuple[float, float, float]:
    """Volumes in Å³: additive; first contact; least for the distances to be sane at all."""
    symbols = [site.specie.symbol for site in structure]
    radii, anion = _radii(Composition(Counter(symbols)).reduced_formula, tuple(symbols))
    covalent = covalent_radii[[atomic_numbers[symbol] for symbol in symbols]]
    distances = structure.lattice.get_all_distances(structure.frac_coords, structure.frac_coords)
    own = np.linalg.norm(structure.lattice.get_lll_reduced_lattice().matrix, axis=1).min()
    np.fill_diagonal(distances, own)  # an atom's nearest image of itself
    both = anion[:, None] & anion[None, :]
    neither = ~anion[:, None] & ~anion[None, :] & bool(anion.any())
    touch = (radii[:, None] + radii[None, :]) * np.where(both, ANION_OVERLAP, 1.0)
    contact = np.where(neither, 0.0, touch / distances).max()
    least = (SHORTEST * (covalent[:, None] + covalent[None, :]) / distances).max()
    bias = CONTACT_BIAS if anion.any() else 1.0
    volume = float(structure.volume)
    return additive_volume(symbols), volume * float(contact) ** 3 / bias, volume * float(least) ** 3


def rescaled(structure: Structure, factor: float = 1.0) -> Structure:
    """Return a copy at ``factor`` times its expected volume, positions unchanged in fractions of the cell."""
    new = structure.copy()
    new.scale_lattice(expected_volume(structure) * factor)
    return new


@lru_cache(maxsize=10_000)
def _charges(formula: str) -> dict[str, float]:
    """Mean charge of each element; empty if the formula has no neutral assignment."""
    states = oxidation_states(formula)
    if states is None:
        return {}
    return {
        symbol: sum(state * count for state, count in counts.items()) / sum(counts.values())
        for symbol, counts in states.items()
    }


@lru_cache(maxsize=100_000)
def _ion_radius(symbol: str, charge: float) -> float:
    """Shannon's radius as pymatgen has it, at the nearest charge of the same sign, Å."""
    known = {state: radius for state, radius in Element(symbol).ionic_radii.items() if state * charge > 0}
    if not known:
        covalent = float(covalent_radii[atomic_numbers[symbol]])
        return covalent + ANION_EXCESS if charge < 0 else covalent * CATION_SHARE
    return float(known[min(sorted(known), key=lambda state: abs(state - charge))])


@lru_cache(maxsize=100_000)
def _volume(formula: str, symbol: str) -> float:
    charge = _charges(formula).get(symbol, 0.0)
    if charge:
        return ION_CONSTANT + ION_FACTOR * _ion_radius(symbol, charge) ** 3
    element = Element(symbol)
    if element.is_metal and element.molar_volume:
        return float(element.molar_volume) / 0.602214076  # cm³/mol to Å³: alloys are close to their elements
    return ATOM_CONSTANT + ATOM_FACTOR * float(covalent_radii[atomic_numbers[symbol]]) ** 3


@lru_cache(maxsize=10_000)
def _radii(formula: str, symbols: tuple[str, ...]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Radii in Å and which atoms are anions; covalent radii and no anion where charges are unknown."""
    charges = _charges(formula)
    if not any(charges.values()):
        radii = np.array([covalent_radii[atomic_numbers[symbol]] for symbol in symbols], dtype=float)
        return radii, np.zeros(len(symbols), dtype=bool)
    return (
        np.array([_ion_radius(symbol, charges[symbol]) for symbol in symbols]),
        np.array([charges[symbol] < 0 for symbol in symbols]),
    )
