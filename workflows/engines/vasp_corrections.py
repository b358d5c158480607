"""The Materials Project's MP2020 corrections, for protocols whose every energy has them.

Its input sets use PBE+U for oxides and fluorides of eight transition metals and PBE for everything else: such energies
meet in a hull only after the corrections that were fitted for just that (Wang et al., Sci. Rep. 11, 15496 (2021)).
All or nothing: a protocol corrects each energy it reads, candidates and competing phases alike, and says so in its
reference key; one without corrections has no U anywhere.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from pymatgen.analysis.compatibility import CompatibilityError, MaterialsProject2020Compatibility
from pymatgen.entries.computed_entries import ComputedStructureEntry

from workflows.causes import CausedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure


def mp2020_correction(
    structure: Structure, energy_ev: float, hubbards: dict[str, float], potcars: Sequence[str]
) -> float:
    """Give the correction of an energy.

    Parameters
    ----------
    structure : pymatgen.core.Structure
    energy_ev : float
        Of the cell.
    hubbards : dict
        U of each element, eV; empty without.
    potcars : sequence of str
        TITEL of each POTCAR.

    Returns
    -------
    float
        eV for the cell, to be added.

    Raises
    ------
    CausedError
        607 if the scheme has no place for such a run (other U values, other potentials).
    """
    used = {element: value for element, value in hubbards.items() if value}
    parameters = {
        "run_type": "GGA+U" if used else "GGA",
        "hubbards": used,
        "potcar_symbols": list(potcars),
        "software": "vasp",
    }
    entry = ComputedStructureEntry(structure, energy_ev, parameters=parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on guessed oxidation states: they depend on the composition alone
        try:
            adjustments = MaterialsProject2020Compatibility().get_adjustments(entry)
        except CompatibilityError as error:
            raise CausedError(607, f"MP2020: {' '.join(str(error).split())[:300]}") from error
    return float(sum(adjustment.value for adjustment in adjustments))
