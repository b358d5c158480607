"""The network: messages between all atoms of a cell, from periodic features of where they are.

Scaled down from DiffCSP (Jiao et al., NeurIPS 2023): pairs see Fourier features of fractional differences, and, beyond
DiffCSP, how many images of the partner lie at which distance. Inputs are unchanged by turning the crystal, by moving
it, by lattice translations of an atom and by the order of atoms; so are the outputs, which follow the order of atoms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from generators.crystals.elements import MAX_Z, element_features
from generators.diffusion.lattices import metric
from generators.diffusion.noise import MASKED

if TYPE_CHECKING:
    from generators.diffusion.graph import Graph

FREQUENCIES = 10
"""Waves per direction and kind (sine, cosine) in a fractional difference."""
CENTRES_ANGSTROM = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0)
WIDTH_ANGSTROM = 0.35
"""Gaussians that count the images of a partner by distance."""
TIME_WAVES = 8
LATTICE_LIMIT = 8.0
"""Noisy standardised lattices are kept within ± this where distances are taken from them."""


class Prediction(NamedTuple):
    """What the network says of a noisy batch.

    Parameters
    ----------
    coordinates : Tensor, shape (n, 3)
        Score of fractional coordinates over :func:`generators.diffusion.noise.score_scale`; mean zero in each crystal.
    lattice : Tensor, shape (b, 6)
        ``v`` of the standardised lattice.
    logits : Tensor, shape (n, MAX_Z + 1)
        Of the species; MASKED has minus infinity.
    """

    coordinates: Tensor
    lattice: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Shape:
    """Size of a network.

    Parameters
    ----------
    width : int
        Features of an atom.
    layers : int
    properties : int
        Number of properties it conditions on.
    """

    width: int = 128
    layers: int = 4
    properties: int = 0


class Layer(nn.Module):
    """One round of messages, averaged over partners, after a layer norm, added to what was there."""

    def __init__(self, width: int, pair_features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.receiver = nn.Linear(width, width)
        self.sender = nn.Linear(width, width, bias=False)
        self.context = nn.Linear(width, width, bias=False)
        self.pair = nn.Linear(pair_features, width, bias=False)
        self.message = nn.Linear(width, width)
        self.update = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, graph: Graph, atoms: Tensor, pairs: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        """Give new atoms (n, width) and the messages (e, width)."""
        normed = self.norm(atoms)
        own = self.receiver(normed) + self.context(context)[graph.crystal]
        mixed = own[graph.receivers] + self.sender(normed)[graph.senders] + self.pair(pairs)
        messages = nn.functional.silu(self.message(nn.functional.silu(mixed)))
        return atoms + self.update(torch.cat([normed, graph.atom_mean(messages)], dim=1)), messages


class Network(nn.Module):
    """Score of coordinates, ``v`` of the lattice and species of a noisy batch, given time and wanted properties."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        width = shape.width
        self.register_buffer("features", torch.tensor(element_features()), persistent=False)
        self.register_buffer("images", torch.tensor(list(product((-1.0, 0.0, 1.0), repeat=3))), persistent=False)
        self.register_buffer("centres", torch.tensor(CENTRES_ANGSTROM), persistent=False)
        self.register_buffer("waves", torch.arange(1, FREQUENCIES + 1).float() * 2 * math.pi, persistent=False)
        self.register_buffer("volume", torch.tensor(20.0))
        self.register_buffer("lattice_mean", torch.zeros(6))
        self.register_buffer("lattice_std", torch.ones(6))
        self.element = nn.Embedding(MAX_Z + 1, width)
        self.known_element = nn.Linear(element_features().shape[1], width)
        self.context = nn.Sequential(nn.Linear(6 + 2 * TIME_WAVES + 1, width), nn.SiLU(), nn.Linear(width, width))
        self.wanted = nn.ModuleList(
            nn.Sequential(nn.Linear(1, 32), nn.SiLU(), nn.Linear(32, width)) for _ in range(shape.properties)
        )
        self.unknown = nn.Parameter(0.02 * torch.randn(shape.properties, width))
        pair_features = 6 * FREQUENCIES + len(CENTRES_ANGSTROM)
        self.layers = nn.ModuleList(Layer(width, pair_features) for _ in range(shape.layers))
        self.norm = nn.LayerNorm(width)
        self.atom_vector = nn.Linear(width, 3)
        self.pair_vector = nn.Linear(width, 6 * FREQUENCIES)
        self.species = nn.Linear(width, MAX_Z + 1)
        self.lattice = nn.Sequential(nn.Linear(2 * width, width), nn.SiLU(), nn.Linear(width, 6))

    def encode(self, logarithm: Tensor, counts: Tensor) -> Tensor:
        """Standardise ``½ ln G``, (b, 6), after scaling it to the volume that is usual for the number of atoms.

        The mean volume an atom serves and not one that depends on species: hidden species must not change the scale,
        and the network, which sees the elements' radii, finds the rest.
        """
        return (logarithm - self._size(counts) - self.lattice_mean) / self.lattice_std

    def decode(self, lattice: Tensor, counts: Tensor) -> Tensor:
        """Undo :meth:`encode`."""
        return lattice * self.lattice_std + self.lattice_mean + self._size(counts)

    def _size(self, counts: Tensor) -> Tensor:
        size = (counts.float() * self.volume).log() / 3
        return size[:, None] * torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])

    def forward(
        self, graph: Graph, species: Tensor, frac: Tensor, lattice: Tensor, t: Tensor, wanted: Tensor
    ) -> Prediction:
        """Predict.

        Parameters
        ----------
        graph : Graph
        species : Tensor, shape (n,)
            Atomic numbers, MASKED where hidden.
        frac : Tensor, shape (n, 3)
            Noisy fractional coordinates.
        lattice : Tensor, shape (b, 6)
            Noisy standardised lattice.
        t : Tensor, shape (b,)
        wanted : Tensor, shape (b, p)
            Standardised properties, NaN where nothing is asked.
        """
        pairs, waves = self._pairs(graph, frac, lattice)
        context = self.context(torch.cat([lattice, time_features(t), graph.counts.float().log()[:, None]], dim=1))
        for j, embed in enumerate(self.wanted):
            value = wanted[:, j : j + 1]
            context = context + torch.where(value.isnan(), self.unknown[j], embed(value.nan_to_num()))
        atoms = self.element(species) + self.known_element(self.features[species])
        messages = atoms.new_zeros((len(graph.receivers), self.shape.width))
        for layer in self.layers:
            atoms, messages = layer(graph, atoms, pairs, context)
        atoms = self.norm(atoms)
        pushes = (self.pair_vector(messages).reshape(waves.shape) * waves).sum(2)
        logits = self.species(atoms)
        forbidden = torch.full_like(logits[:, :1], -math.inf)
        return Prediction(
            graph.centred(self.atom_vector(atoms) + graph.atom_mean(pushes)),
            self.lattice(torch.cat([graph.crystal_mean(atoms), context], dim=1)),
            torch.cat([forbidden, logits[:, MASKED + 1 :]], dim=1),
        )

    def _pairs(self, graph: Graph, frac: Tensor, lattice: Tensor) -> tuple[Tensor, Tensor]:
        """Features of pairs, (e, f), and the waves among them, (e, 3, 2 FREQUENCIES)."""
        differences = frac[graph.senders] - frac[graph.receivers]
        differences = differences - differences.round()
        angles = differences[:, :, None] * self.waves
        waves = torch.cat([angles.sin(), angles.cos()], dim=2)
        tensor = metric(self.decode(lattice.clamp(-LATTICE_LIMIT, LATTICE_LIMIT), graph.counts))
        owner = graph.crystal[graph.receivers]
        lowered = torch.einsum("eij,ej->ei", tensor[owner], differences)
        between = torch.einsum("ki,bij,kj->bk", self.images, tensor, self.images)
        squares = (differences * lowered).sum(1)[:, None] + 2 * lowered @ self.images.T + between[owner]
        distances = squares.clamp_min(1e-6).sqrt()
        home = (graph.receivers == graph.senders)[:, None] & (self.images == 0).all(1)
        distances = distances.masked_fill(home, 1e3)  # an atom is no neighbour of itself
        counted = torch.exp(-0.5 * ((distances[:, :, None] - self.centres) / WIDTH_ANGSTROM) ** 2).sum(1)
        return torch.cat([waves.flatten(1), counted], dim=1), waves


def time_features(t: Tensor) -> Tensor:
    """Give sines and cosines of ``π k t``, k up to TIME_WAVES, shape (b, 2 TIME_WAVES)."""
    angles = t[:, None] * torch.arange(1, TIME_WAVES + 1) * math.pi
    return torch.cat([angles.sin(), angles.cos()], dim=1)
