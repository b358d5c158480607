"""SevenNet-0, whose weights ship in its wheel, as a second opinion: single points of crystals as they are.

SevenNet-0: Y. Park et al., J. Chem. Theory Comput. 20, 4857 (2024), doi:10.1021/acs.jctc.4c00190. It was trained on the
Materials Project trajectories, as CHGNet was: where both err together, neither shows it.

The loader of ``sevenn`` unpickles its checkpoint (``torch.load(weights_only=False)``). The file is the one inside the
installed wheel, which carries code that is run anyway; no other path is ever given to it, and a model is named, never a
file.
"""

from __future__ import annotations

import functools
import importlib.metadata
from typing import TYPE_CHECKING, Any

import numpy as np
from pymatgen.io.ase import AseAtomsAdaptor
from sevenn.calculator import SevenNetCalculator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymatgen.core import Structure

MODEL = "7net-0"


def sevennet_version() -> str:
    """Name package and model together, as provenance wants them."""
    return f"sevenn {importlib.metadata.version('sevenn')} ({MODEL})"


def sevennet_energies(structures: Sequence[Structure]) -> list[float | None]:
    """Energies in eV/atom of structures as they are; ``None`` where the model gives no finite number.

    Parameters
    ----------
    structures : sequence of pymatgen.core.Structure
        Ordered.
    """
    calculator = _calculator()
    found: list[float | None] = []
    for structure in structures:
        atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
        try:
            calculator.calculate(atoms, properties=["energy"], system_changes=["positions", "numbers", "cell", "pbc"])
        except (KeyError, ValueError, RuntimeError):  # an element it does not know, atoms without neighbours
            found.append(None)
            continue
        energy = float(calculator.results["energy"]) / len(structure)
        found.append(energy if np.isfinite(energy) else None)
    return found


@functools.cache
def _calculator() -> Any:
    return SevenNetCalculator(MODEL, device="cpu")
