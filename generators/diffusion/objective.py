"""What the network is trained on: noisy crystals, and how far its predictions are from the noise that was added."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from generators.diffusion.graph import Graph
from generators.diffusion.noise import (
    EARLIEST,
    MASKED,
    SIGMA_MAX,
    SIGMA_MIN,
    amplitudes,
    score_scale,
    sigma_of,
    velocity,
    wrapped_score,
)

if TYPE_CHECKING:
    from torch import Tensor

    from generators.diffusion.graph import Crystals
    from generators.diffusion.network import Network, Prediction

SPECIES_WEIGHT = 0.2
"""Of the cross entropy of hidden species beside the two squared errors, which are of order one."""
GIVEN_SHARE = 0.6
"""Share of crystals that keep all species: the composition is mostly given when crystals are asked for."""
BLIND_SHARE, DROPPED_SHARE = 0.2, 0.2
"""Share of crystals without any property, and share of properties left out beside: what guidance needs (Ho and
Salimans, arXiv:2207.12598), and what makes every subset of properties answerable."""


@dataclass(frozen=True)
class Noisy:
    """A noisy batch: the network's inputs and what it should have said.

    Parameters
    ----------
    graph : Graph
    species : Tensor, shape (n,)
        MASKED where hidden.
    frac : Tensor, shape (n, 3)
    lattice : Tensor, shape (b, 6)
    t : Tensor, shape (b,)
    wanted : Tensor, shape (b, p)
    true_species : Tensor, shape (n,)
    score : Tensor, shape (n, 3)
        Over its scale, mean zero in each crystal.
    velocity : Tensor, shape (b, 6)
    """

    graph: Graph
    species: Tensor
    frac: Tensor
    lattice: Tensor
    t: Tensor
    wanted: Tensor
    true_species: Tensor
    score: Tensor
    velocity: Tensor

    def predict(self, network: Network) -> Prediction:
        """Ask a network."""
        prediction: Prediction = network(self.graph, self.species, self.frac, self.lattice, self.t, self.wanted)
        return prediction


def corrupt(network: Network, crystals: Crystals, rng: np.random.Generator, *, drop: bool = True) -> Noisy:
    """Add noise at times spread evenly over a batch.

    The target of the coordinates is the score of the noise without its mean over the crystal: data have no preferred
    origin, so the true score has none of it, and it would only add variance.

    Parameters
    ----------
    network : Network
        Only its scale of the lattice is used.
    crystals : Crystals
    rng : numpy.random.Generator
    drop : bool
        Whether properties are left out at random.
    """
    b, n = len(crystals), len(crystals.species)
    graph = Graph.of(crystals.counts)
    times = (rng.permutation(b) + rng.random(b)) / b
    t = torch.tensor(EARLIEST + (1 - EARLIEST) * times, dtype=torch.float32)
    x0 = network.encode(crystals.logarithm, crystals.counts)
    epsilon = _normal(rng, (b, 6))
    alpha, sigma = amplitudes(t[:, None])
    hidden_at = np.where(rng.random(b) < GIVEN_SHARE, 0.0, t.numpy())
    hidden = torch.tensor(rng.random(n) < hidden_at[graph.crystal.numpy()])
    spread = sigma_of(t)[graph.crystal][:, None]
    moved = spread * _normal(rng, (n, 3))
    wanted = crystals.properties
    if drop:
        left_out = (rng.random(b) < BLIND_SHARE)[:, None] | (rng.random(tuple(wanted.shape)) < DROPPED_SHARE)
        wanted = wanted.masked_fill(torch.tensor(left_out), math.nan)
    score = wrapped_score(moved, spread) / score_scale(sigma_of(t))[graph.crystal][:, None]
    return Noisy(
        graph=graph,
        species=crystals.species.masked_fill(hidden, MASKED),
        frac=(crystals.frac + moved) % 1.0,
        lattice=alpha * x0 + sigma * epsilon,
        t=t,
        wanted=wanted,
        true_species=crystals.species,
        score=graph.centred(score),
        velocity=velocity(x0, epsilon, t[:, None]),
    )


def losses(prediction: Prediction, noisy: Noisy) -> Tensor:
    """Give the loss of each crystal, (b,): mean squared errors of score and ``v``, and SPECIES_WEIGHT times the mean
    cross entropy of hidden species.
    """  # noqa: D205 - one sentence needs two lines
    graph = noisy.graph
    score = graph.crystal_mean((prediction.coordinates - noisy.score).square()).mean(1)
    lattice = (prediction.lattice - noisy.velocity).square().mean(1)
    hidden = noisy.species == MASKED
    entropy = nn.functional.cross_entropy(prediction.logits, noisy.true_species, reduction="none")
    share = graph.crystal_mean(hidden.float()).clamp_min(1e-6)
    species = graph.crystal_mean(torch.where(hidden, entropy, torch.zeros_like(entropy))) / share
    return score + lattice + SPECIES_WEIGHT * species


def path_divergence(new: Prediction, old: Prediction, noisy: Noisy) -> Tensor:
    """Estimate how far two models' sampling processes are apart, nats a crystal, (b,).

    The Kullback-Leibler divergence of the two path measures: for the two Gaussian noises, by Girsanov's theorem, half
    the squared difference of their scores in the diffusion's own weight, which for lattices is half the decrease of the
    signal-to-noise ratio times the squared difference in ``x_0`` (Song et al., NeurIPS 2021, Theorem 1; Kingma et al.,
    NeurIPS 2021, equation 17); for hidden species ``1/t`` times the divergence of the predicted species (D3PM,
    appendix A.3). The mean over times drawn evenly is an unbiased estimate of the integral from EARLIEST on.
    """
    graph, t = noisy.graph, noisy.t
    growth = math.log(SIGMA_MAX / SIGMA_MIN)
    scores = (new.coordinates - old.coordinates) * score_scale(sigma_of(t))[graph.crystal][:, None]
    atoms = scores.square().sum(1) * (sigma_of(t) ** 2 * growth)[graph.crystal]
    alpha, sigma = amplitudes(t)
    lattice = 0.5 * math.pi * (alpha / sigma) * (new.lattice - old.lattice).square().sum(1)
    before, after = (torch.log_softmax(p.logits[:, 1:], dim=1) for p in (old, new))
    hidden = (noisy.species == MASKED).float() / t[graph.crystal]
    species = hidden * (before.exp() * (before - after)).sum(1)
    return lattice + graph.crystal_mean(atoms + species) * graph.counts


def _normal(rng: np.random.Generator, shape: tuple[int, ...]) -> Tensor:
    return torch.tensor(rng.standard_normal(shape), dtype=torch.float32)
