"""From noise to crystals: predictor and corrector, any number of crystals at once.

Each step first lets coordinates settle at their noise level (one Langevin step, the corrector), then takes lattice,
coordinates and species to the next level (the predictor), as DiffCSP does (Jiao et al., NeurIPS 2023, algorithm 2;
Song et al., ICLR 2021). The last step ends at the expected clean crystal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from generators.diffusion.network import Prediction
from generators.diffusion.noise import (
    MASKED,
    clean_lattice,
    lattice_step,
    score_scale,
    sigma_of,
    unmask,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from generators.diffusion.graph import Graph
    from generators.diffusion.network import Network

CORRECTOR = 0.2
"""Langevin's step in units of the squared noise of the level."""


class Predictor(Protocol):
    """What the sampler asks: a network, guided or not, or an oracle in a test."""

    def __call__(self, graph: Graph, species: Tensor, frac: Tensor, lattice: Tensor, t: Tensor) -> Prediction:
        """Predict for a noisy batch; see :class:`generators.diffusion.network.Network`."""
        ...


@dataclass(frozen=True)
class Noise:
    """All randomness of a batch, drawn crystal by crystal, so that it depends on each crystal's seed alone.

    Parameters
    ----------
    frac : Tensor, shape (n, 3)
        Where atoms start.
    lattice : Tensor, shape (steps + 1, b, 6)
        Standard normal; the first is where lattices start.
    moves : Tensor, shape (steps, 2, n, 3)
        Standard normal, for corrector and predictor.
    chance : Tensor, shape (steps, n, 2)
        Uniform, for species.
    """

    frac: Tensor
    lattice: Tensor
    moves: Tensor
    chance: Tensor

    @classmethod
    def of(cls, seeds: Sequence[int], counts: Sequence[int], steps: int) -> Noise:
        """Draw for crystals of given numbers of atoms."""
        fracs, lattices, moves, chances = [], [], [], []
        for seed, count in zip(seeds, counts, strict=True):
            rng = np.random.default_rng(seed)
            fracs.append(rng.random((count, 3), dtype=np.float32))
            lattices.append(rng.standard_normal((steps + 1, 1, 6), dtype=np.float32))
            moves.append(rng.standard_normal((steps, 2, count, 3), dtype=np.float32))
            chances.append(rng.random((steps, count, 2), dtype=np.float32))
        return cls(
            torch.tensor(np.concatenate(fracs)),
            torch.tensor(np.concatenate(lattices, axis=1)),
            torch.tensor(np.concatenate(moves, axis=2)),
            torch.tensor(np.concatenate(chances, axis=1)),
        )


@dataclass(frozen=True)
class Drawn:
    """Crystals as they come out: atomic numbers (n,), fractional coordinates (n, 3), standardised lattices (b, 6)."""

    species: Tensor
    frac: Tensor
    lattice: Tensor


def draw(predict: Predictor, graph: Graph, species: Tensor, noise: Noise, allowed: Tensor | None = None) -> Drawn:
    """Draw crystals.

    Parameters
    ----------
    predict : Predictor
    graph : Graph
    species : Tensor, shape (n,)
        Atomic numbers, MASKED where they are to be drawn too.
    noise : Noise
        Its length says how many steps.
    allowed : Tensor of bool, shape (n, MAX_Z + 1), optional
        Species that a hidden one may become.
    """
    with torch.no_grad():
        return _descend(predict, graph, species, noise, allowed)


def _descend(predict: Predictor, graph: Graph, species: Tensor, noise: Noise, allowed: Tensor | None) -> Drawn:
    steps, b = len(noise.moves), len(graph.counts)
    frac, lattice = noise.frac, noise.lattice[0]
    for k in range(steps, 0, -1):
        now, then = k / steps, (k - 1) / steps
        t, s = torch.full((b,), now), torch.full((b,), then)
        sigma, after = sigma_of(t)[0], sigma_of(s)[0]
        scale = score_scale(sigma)
        settle, move = noise.moves[steps - k]
        score = scale * predict(graph, species, frac, lattice, t).coordinates
        step = CORRECTOR * sigma**2
        frac = (frac + step * score + (2 * step).sqrt() * graph.centred(settle)) % 1.0
        prediction = predict(graph, species, frac, lattice, t)
        score = scale * prediction.coordinates
        if k == 1:
            frac = (frac + sigma**2 * score) % 1.0
        else:
            lost = sigma**2 - after**2
            frac = (frac + lost * score + after / sigma * lost.sqrt() * graph.centred(move)) % 1.0
        x0 = clean_lattice(lattice, prediction.lattice, t[:, None])
        lattice = lattice_step(lattice, x0, t[:, None], s[:, None], noise.lattice[steps - k + 1])
        if bool((species == MASKED).any()):
            logits = prediction.logits
            if allowed is not None:
                logits = logits.masked_fill(~allowed, -torch.inf)
            species = unmask(species, torch.softmax(logits, dim=1), now, then, noise.chance[steps - k])
    return Drawn(species, frac, lattice)


def guided(network: Network, wanted: Tensor, weight: float) -> Predictor:
    """Make a predictor that leans towards wanted properties.

    Parameters
    ----------
    network : Network
    wanted : Tensor, shape (b, p)
        Standardised, NaN where nothing is asked.
    weight : float
        0 ignores them, 1 is the conditional model, more exaggerates: ``(1 - w) free + w conditional`` for scores, ``v``
        and logits (Ho and Salimans, arXiv:2207.12598, with their weight ``w - 1``).
    """
    nothing = torch.full_like(wanted, torch.nan)
    asked = bool((~wanted.isnan()).any())

    def predict(graph: Graph, species: Tensor, frac: Tensor, lattice: Tensor, t: Tensor) -> Prediction:
        if not asked or weight == 0:
            return _ask(network, graph, species, frac, lattice, t, nothing)
        conditional = _ask(network, graph, species, frac, lattice, t, wanted)
        if weight == 1:
            return conditional
        free = _ask(network, graph, species, frac, lattice, t, nothing)
        logits = free.logits[:, 1:] + weight * (conditional.logits[:, 1:] - free.logits[:, 1:])
        return Prediction(
            free.coordinates + weight * (conditional.coordinates - free.coordinates),
            free.lattice + weight * (conditional.lattice - free.lattice),
            torch.cat([conditional.logits[:, :1], logits], dim=1),
        )

    return predict


def _ask(
    network: Network, graph: Graph, species: Tensor, frac: Tensor, lattice: Tensor, t: Tensor, wanted: Tensor
) -> Prediction:
    prediction: Prediction = network(graph, species, frac, lattice, t, wanted)
    return prediction
