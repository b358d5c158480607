"""What relaxation will find of a crystal as proposed: an ensemble of small message-passing networks.

Each is a SchNet (Schütt et al., J. Chem. Phys. 148, 241722 (2018)) with linear filters on radial functions that are
summed over periodic images first: exact for a linear filter, and one small dense tensor a crystal. The networks see the
proposed geometry, wrong in volume and places as proposals are, and answer with the relaxed crystal's properties and by
how much its volume will change. Their spread, calibrated on prototypes that none was trained on, is the uncertainty.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from ase.data import covalent_radii
from torch import nn

from generators.crystals.elements import MAX_Z, element_features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure
    from torch import Tensor

    Floats = NDArray[np.float64]

WIDTH, LAYERS = 80, 3
CUTOFF_ANGSTROM = 5.5
ABSOLUTE = np.linspace(1.2, 5.5, 14)
"""Centres of the radial functions of the distance, Å."""
RELATIVE = np.linspace(0.6, 2.2, 12)
"""Centres of those of the distance over the sum of covalent radii."""
N_RADIAL = len(ABSOLUTE) + len(RELATIVE)
IMAGES = np.array([(i, j, k) for i in range(-2, 3) for j in range(-2, 3) for k in range(-2, 3)], dtype=np.float32)
"""Cells whose atoms are looked at: of a reduced primitive cell, enough for the cutoff but in needles."""
CHUNK = 64


class Packed(NamedTuple):
    """Crystals as padded arrays.

    Parameters
    ----------
    elements : Tensor of int, shape (n, m)
        Atomic numbers, 0 for padding.
    radial : Tensor, shape (n, m, m, N_RADIAL)
        Radial functions summed over images.
    volume : Tensor, shape (n,)
        ln of the volume per atom in Å³.
    """

    elements: Tensor
    radial: Tensor
    volume: Tensor

    def rows(self, index: Tensor | np.ndarray) -> Packed:
        """Take some rows."""
        where = torch.as_tensor(index)
        return Packed(self.elements[where], self.radial[where], self.volume[where])


def pack(
    numbers: Sequence[NDArray[np.int64]], lattices: Sequence[Floats], places: Sequence[Floats], size: int | None = None
) -> Packed:
    """Describe crystals.

    Parameters
    ----------
    numbers : sequence of ndarray of int, shape (k,)
        Atomic numbers.
    lattices : sequence of ndarray, shape (3, 3)
        Rows are vectors, Å.
    places : sequence of ndarray, shape (k, 3)
        Fractional coordinates.
    size : int or None
        Pad to so many atoms.
    """
    m = size or max(len(z) for z in numbers)
    n = len(numbers)
    cells, places = reduce_cells(np.array(lattices, dtype=float), places)
    z = np.zeros((n, m), dtype=np.int64)
    frac = np.zeros((n, m, 3), dtype=np.float32)
    cell = np.zeros((n, 3, 3), dtype=np.float32)
    for k in range(n):
        size_k = len(numbers[k])
        z[k, :size_k], frac[k, :size_k], cell[k] = numbers[k], places[k], cells[k]
    atoms = torch.from_numpy(z)
    radial = torch.zeros(n, m, m, N_RADIAL)
    for start in range(0, n, CHUNK):
        part = slice(start, start + CHUNK)
        radial[part] = _radial(atoms[part], torch.from_numpy(frac[part]), torch.from_numpy(cell[part]))
    volume = np.log(np.abs(np.linalg.det(cell.astype(float))) / (z > 0).sum(axis=1))
    return Packed(atoms, radial, torch.from_numpy(volume.astype(np.float32)))


def pack_structures(structures: Sequence[Structure], size: int | None = None) -> Packed:
    """Describe pymatgen structures."""
    return pack(
        [np.array([site.specie.Z for site in s]) for s in structures],
        [np.asarray(s.lattice.matrix) for s in structures],
        [np.asarray(s.frac_coords) for s in structures],
        size,
    )


def reduce_cells(lattices: Floats, places: Sequence[Floats]) -> tuple[Floats, list[Floats]]:
    """Shorten cell vectors by one another, all crystals at once, until two atoms' nearest images are among IMAGES.

    Parameters
    ----------
    lattices : ndarray, shape (n, 3, 3)
    places : sequence of ndarray, shape (k, 3)

    Returns
    -------
    lattices : ndarray, shape (n, 3, 3)
    places : list of ndarray, shape (k, 3)
    """
    cells = lattices.copy()
    for _ in range(6):
        for i in range(3):
            for j in range(3):
                if i != j:
                    along = np.einsum("nx,nx->n", cells[:, i], cells[:, j]) / np.einsum(
                        "nx,nx->n", cells[:, j], cells[:, j]
                    )
                    cells[:, i] -= np.round(along)[:, None] * cells[:, j]
    to_new = lattices @ np.linalg.inv(cells)
    return cells, [place @ change for place, change in zip(places, to_new, strict=True)]


def _radial(z: Tensor, frac: Tensor, cell: Tensor) -> Tensor:
    n, m = z.shape
    between = frac[:, None, :, :] - frac[:, :, None, :]
    between = between - between.round()
    vectors = (between.view(n, m * m, 1, 3) + torch.from_numpy(IMAGES)) @ cell[:, None]
    distance = vectors.norm(dim=-1)  # (n, pairs, images)
    there = ((z > 0)[:, :, None] & (z > 0)[:, None, :]).view(n, m * m, 1)
    # few images lie within the cutoff: radial functions are computed of these alone
    near = (distance < CUTOFF_ANGSTROM) & (distance > 0.1) & there
    crystal, pair, _ = torch.nonzero(near, as_tuple=True)
    distance = distance[near]
    radii = torch.from_numpy(covalent_radii[: MAX_Z + 1].astype(np.float32))[z]
    sums = (radii[:, :, None] + radii[:, None, :]).view(n, m * m)[crystal, pair]
    smooth = 0.5 * (torch.cos(torch.pi * distance / CUTOFF_ANGSTROM) + 1)
    found = torch.zeros(n * m * m, N_RADIAL)
    place = 0
    for values, centres in ((distance, ABSOLUTE), (distance / sums, RELATIVE)):
        width = float(centres[1] - centres[0])
        basis = torch.exp(-0.5 * ((values[:, None] - torch.from_numpy(centres).float()) / width) ** 2)
        end = place + len(centres)
        found[:, place:end].index_add_(0, crystal * m * m + pair, basis * smooth[:, None])
        place = end
    return found.view(n, m, m, N_RADIAL)


class ForecastNetwork(nn.Module):
    """One member of the ensemble.

    Parameters
    ----------
    properties : int
        Each is a mean over atoms, as is the expansion, which comes last.
    """

    features: Tensor

    def __init__(self, properties: int) -> None:
        super().__init__()
        features = torch.from_numpy(np.array(element_features()))
        self.register_buffer("features", features, persistent=False)
        self.embed = nn.Linear(features.shape[1], WIDTH)
        self.own = nn.Embedding(MAX_Z + 1, WIDTH)
        self.volume = nn.Linear(1, WIDTH)
        self.filters = nn.ModuleList(nn.Linear(N_RADIAL, WIDTH, bias=False) for _ in range(LAYERS))
        self.inwards = nn.ModuleList(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS))
        self.updates = nn.ModuleList(
            nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH)) for _ in range(LAYERS)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(LAYERS))
        self.head = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, properties + 1))
        nn.init.normal_(self.own.weight, std=0.1)

    def embedding(self, packed: Packed) -> Tensor:
        """Mean of the atoms' last hidden states, shape (n, WIDTH)."""
        hidden, present = self._hidden(packed)
        return hidden.sum(dim=1) / present.sum(dim=1)

    def forward(self, packed: Packed) -> Tensor:
        """Standardised properties and expansion, shape (n, properties + 1)."""
        hidden, present = self._hidden(packed)
        return (self.head(hidden) * present).sum(dim=1) / present.sum(dim=1)

    def _hidden(self, packed: Packed) -> tuple[Tensor, Tensor]:
        present = (packed.elements > 0)[..., None].float()
        hidden = self.embed(self.features[packed.elements]) + self.own(packed.elements)
        hidden = hidden + self.volume((packed.volume - 2.7)[:, None])[:, None, :]
        for filters, inwards, update, norm in zip(self.filters, self.inwards, self.updates, self.norms, strict=True):
            messages = torch.einsum("nijk,njk->nik", filters(packed.radial), inwards(hidden) * present)
            hidden = norm(hidden + update(messages))
        return hidden * present, present


class Scale(NamedTuple):
    """Centre and spread of each property, in its (possibly logarithmic) unit."""

    centre: tuple[float, ...]
    spread: tuple[float, ...]


class Forecast(NamedTuple):
    """Predictions for n crystals of p properties.

    Parameters
    ----------
    mean, std : ndarray, shape (n, p)
        In the units of the properties (logarithms where :data:`LOGARITHMIC`).
    embedding : ndarray, shape (n, WIDTH)
        Of the first network.
    expansion : ndarray, shape (n,)
        ln of the relaxed volume over the proposed one.
    """

    mean: Floats
    std: Floats
    embedding: Floats
    expansion: Floats


LOGARITHMIC = frozenset({"bulk_modulus"})
"""Properties that are positive and scatter by factors: predicted as natural logarithms."""


EXPANSION_SCALE = 0.2
"""Unit of the networks' last output, the change of ln V."""


def forecast(
    networks: Sequence[ForecastNetwork], packed: Packed, scale: Scale, calibration: Sequence[tuple[float, float]]
) -> Forecast:
    """Predict with an ensemble.

    Parameters
    ----------
    networks : sequence of ForecastNetwork
    packed : Packed
    scale : Scale
    calibration : sequence of (float, float)
        For each property a floor and a factor: ``std² = floor² + (factor · spread of the networks)²``.
    """
    means, embeddings = [], []
    with torch.no_grad():
        for start in range(0, len(packed.elements), 8 * CHUNK):
            part = Packed(*(t[start : start + 8 * CHUNK] for t in packed))
            means.append(torch.stack([network(part) for network in networks]).double().numpy())
            embeddings.append(networks[0].embedding(part).double().numpy())
    outputs = np.concatenate(means, axis=1)
    answers = outputs[..., :-1] * np.array(scale.spread) + np.array(scale.centre)
    floor, factor = np.array(calibration).reshape(-1, 2).T
    std = np.sqrt(floor**2 + (factor * answers.std(axis=0, ddof=1 if len(networks) > 1 else 0)) ** 2)
    expansion = EXPANSION_SCALE * outputs[..., -1].mean(axis=0)
    return Forecast(answers.mean(axis=0), std, np.concatenate(embeddings), expansion)
