"""The forecast network of ``symmetric`` as a textbook would write it: one crystal, one pair of atoms after the other.

Same weights, same numbers (tests hold them together): SchNet's continuous-filter convolution (Schütt et al., J. Chem.
Phys. 148, 241722 (2018)) over ASE's neighbour list, each neighbour with a filter of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from ase.data import covalent_radii
from ase.neighborlist import neighbor_list
from pymatgen.io.ase import AseAtomsAdaptor

from generators.symmetric.forecast import ABSOLUTE, CUTOFF_ANGSTROM, RELATIVE

if TYPE_CHECKING:
    from pymatgen.core import Structure
    from torch import Tensor

    from generators.symmetric.forecast import ForecastNetwork


def radial_functions(distance: float, a: int, b: int) -> Tensor:
    """Radial functions of one bond between atomic numbers a and b, shape (N_RADIAL,)."""
    values = []
    for measure, centres in ((distance, ABSOLUTE), (distance / (covalent_radii[a] + covalent_radii[b]), RELATIVE)):
        width = float(centres[1] - centres[0])
        values += [float(np.exp(-0.5 * ((measure - float(centre)) / width) ** 2)) for centre in centres]
    return torch.tensor(values) * float(0.5 * (np.cos(np.pi * distance / CUTOFF_ANGSTROM) + 1))


def predict(network: ForecastNetwork, structure: Structure) -> Tensor:
    """Standardised properties of one crystal, shape (outputs,)."""
    atoms = AseAtomsAdaptor.get_atoms(structure, msonable=False)
    centres, neighbours, distances = neighbor_list("ijd", atoms, CUTOFF_ANGSTROM)
    z = torch.tensor(atoms.numbers.astype(np.int64))
    volume = torch.tensor([float(np.log(structure.volume / len(structure)) - 2.7)])
    hidden = network.embed(network.features[z]) + network.own(z) + network.volume(volume)
    bonds = [
        (int(i), int(j), radial_functions(float(d), int(z[i]), int(z[j])))
        for i, j, d in zip(centres, neighbours, distances, strict=True)
    ]
    for filters, inwards, update, norm in zip(
        network.filters, network.inwards, network.updates, network.norms, strict=True
    ):
        sent = inwards(hidden)
        messages = [torch.zeros_like(sent[0]) for _ in range(len(z))]
        for i, j, radial in bonds:
            messages[i] = messages[i] + filters(radial) * sent[j]
        hidden = norm(hidden + update(torch.stack(messages)))
    answer: Tensor = network.head(hidden).mean(dim=0)
    return answer
