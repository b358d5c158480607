"""The diffusion network as one would first write it: one crystal at a time, one pair of atoms after another.

It shares the weights with :class:`generators.diffusion.network.Network` and nothing else: its own metric, its own
images, no flat tensors. Tests compare the two, and ``diffusion_speed.py`` times them.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import silu

from generators.crystals.elements import element_features
from generators.diffusion.network import CENTRES_ANGSTROM, FREQUENCIES, TIME_WAVES, WIDTH_ANGSTROM

if TYPE_CHECKING:
    from torch import Tensor

    from generators.diffusion.network import Network


def metric_of(network: Network, lattice: Tensor, n: int) -> Tensor:
    """Give the metric, Å², of a noisy standardised lattice, (6,)."""
    xx, yy, zz, yz, xz, xy = (lattice.clamp(-8, 8) * network.lattice_std + network.lattice_mean).double()
    size = math.log(n * float(network.volume)) / 3
    rows = [[xx + size, xy, xz], [xy, yy + size, yz], [xz, yz, zz + size]]
    return torch.matrix_exp(2 * torch.stack([torch.stack(row) for row in rows])).float()


def pair_features(to: Tensor, at: Tensor, metric: Tensor, *, same: bool) -> tuple[Tensor, Tensor]:
    """Give the features of one pair and its waves, (3, 2 FREQUENCIES)."""
    difference = to - at
    difference = difference - difference.round()
    rows = []
    for d in difference:
        row = [torch.sin(2 * math.pi * k * d) for k in range(1, FREQUENCIES + 1)]
        row += [torch.cos(2 * math.pi * k * d) for k in range(1, FREQUENCIES + 1)]
        rows.append(torch.stack(row))
    waves = torch.stack(rows)
    counted = torch.zeros(len(CENTRES_ANGSTROM))
    for image in product((-1.0, 0.0, 1.0), repeat=3):
        if same and image == (0.0, 0.0, 0.0):
            continue
        vector = difference + torch.tensor(image)
        distance = torch.sqrt(torch.clamp(vector @ metric @ vector, min=1e-6))
        counted = counted + torch.exp(-0.5 * ((distance - torch.tensor(CENTRES_ANGSTROM)) / WIDTH_ANGSTROM) ** 2)
    return torch.cat([waves.flatten(), counted]), waves


def predict(
    network: Network, species: Tensor, frac: Tensor, lattice: Tensor, t: float, wanted: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Predict for one crystal.

    Returns
    -------
    coordinates : Tensor, shape (n, 3)
    lattice : Tensor, shape (6,)
    logits : Tensor, shape (n, MAX_Z + 1)
    """
    n = len(species)
    metric = metric_of(network, lattice, n)
    pairs = [[pair_features(frac[j], frac[i], metric, same=i == j) for j in range(n)] for i in range(n)]
    times = [math.sin(math.pi * k * t) for k in range(1, TIME_WAVES + 1)]
    times += [math.cos(math.pi * k * t) for k in range(1, TIME_WAVES + 1)]
    context = network.context(torch.cat([lattice, torch.tensor([*times, math.log(n)])]))
    for j, value in enumerate(wanted):
        context = context + (network.unknown[j] if value.isnan() else network.wanted[j](value.reshape(1)))
    table = torch.tensor(element_features())
    atoms = [network.element.weight[z] + network.known_element(table[z]) for z in species.tolist()]
    messages: list[list[Tensor]] = []
    for layer in network.layers:
        normed = [layer.norm(atom) for atom in atoms]
        messages = []
        for i in range(n):
            own = layer.receiver(normed[i]) + layer.context(context)
            row = []
            for j in range(n):
                mixed = own + layer.sender(normed[j]) + layer.pair(pairs[i][j][0])
                row.append(silu(layer.message(silu(mixed))))
            messages.append(row)
        atoms = [
            atom + layer.update(torch.cat([own, torch.stack(row).mean(0)]))
            for atom, own, row in zip(atoms, normed, messages, strict=True)
        ]
    atoms = [network.norm(atom) for atom in atoms]
    scores = []
    for i in range(n):
        push = torch.zeros(3)
        for j in range(n):
            push = push + (network.pair_vector(messages[i][j]).reshape(3, 2 * FREQUENCIES) * pairs[i][j][1]).sum(1) / n
        scores.append(network.atom_vector(atoms[i]) + push)
    coordinates = torch.stack(scores)
    logits = torch.stack([network.species(atom) for atom in atoms])
    logits = torch.cat([torch.full((n, 1), -math.inf), logits[:, 1:]], dim=1)
    mean = torch.stack(atoms).mean(0)
    return coordinates - coordinates.mean(0), network.lattice(torch.cat([mean, context])), logits
