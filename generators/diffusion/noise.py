"""Three noises and their ways back: of lattices, of fractional coordinates, of species.

- Lattices: variance-preserving Gaussian noise with a cosine schedule, ``x_t = α x_0 + σ ε``, and the ancestral step of
  DDPM (Ho et al., NeurIPS 2020) in the continuous form of Kingma et al. (Variational Diffusion Models, NeurIPS 2021).
  The network predicts ``v = α ε - σ x_0`` (Salimans and Ho, ICLR 2022), which stays of order one at both ends.
- Fractional coordinates: variance-exploding Gaussian noise wrapped onto the torus (Jiao et al., DiffCSP, NeurIPS 2023;
  De Bortoli et al., NeurIPS 2022), ``σ(t)`` geometric from SIGMA_MIN to SIGMA_MAX, where it is uniform to 1 %.
- Species: absorbing-state discrete diffusion (Austin et al., D3PM, NeurIPS 2021): at time ``t`` a species is hidden
  with probability ``t``.

Time runs from 0 (data) to 1 (noise).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

SIGMA_MIN, SIGMA_MAX = 0.005, 0.5
"""Noise of fractional coordinates at either end, in cells; DiffCSP's."""
IMAGES = 3
"""Copies on either side in the wrapped density: what is left out at SIGMA_MAX is below 1e-10."""
MASKED = 0
"""The species of an atom whose species is hidden."""
EARLIEST = 1e-3
"""Times of training are at least this: below it nothing is left to learn, and weights of the likelihood diverge."""


def amplitudes(t: Tensor) -> tuple[Tensor, Tensor]:
    """Give ``α`` and ``σ`` of the lattice at a time: ``cos(π t / 2)`` and ``sin(π t / 2)``."""
    return torch.cos(0.5 * math.pi * t), torch.sin(0.5 * math.pi * t)


def velocity(x0: Tensor, epsilon: Tensor, t: Tensor) -> Tensor:
    """Give the target of the lattice head, ``α ε - σ x_0``."""
    alpha, sigma = amplitudes(t)
    return alpha * epsilon - sigma * x0


def clean_lattice(xt: Tensor, v: Tensor, t: Tensor) -> Tensor:
    """Give the lattice that a predicted ``v`` stands for, ``x_0 = α x_t - σ v``."""
    alpha, sigma = amplitudes(t)
    return alpha * xt - sigma * v


def lattice_step(xt: Tensor, x0: Tensor, t: Tensor, s: Tensor, z: Tensor) -> Tensor:
    """Draw the lattice at an earlier time ``s`` from ``q(x_s | x_t, x_0)``; ``z`` is standard normal.

    Kingma et al., equations 31 to 33 of the arXiv version (2107.00630).
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = amplitudes(t), amplitudes(s)
    ratio = alpha_t / alpha_s
    added = (sigma_t**2 - ratio**2 * sigma_s**2).clamp_min(0.0)
    mean = ratio * sigma_s**2 / sigma_t**2 * xt + alpha_s * added / sigma_t**2 * x0
    return mean + added.sqrt() * sigma_s / sigma_t * z


def sigma_of(t: Tensor) -> Tensor:
    """Give the noise of fractional coordinates at a time, in cells."""
    return SIGMA_MIN * (SIGMA_MAX / SIGMA_MIN) ** t


def wrapped_score(difference: Tensor, sigma: Tensor) -> Tensor:
    """Give the gradient of the log density of a normal distribution wrapped onto [0, 1).

    Parameters
    ----------
    difference : Tensor
        From the centre, in cells; any representative.
    sigma : Tensor
        Before wrapping, broadcast against ``difference``.

    Returns
    -------
    Tensor
        ``d/dx ln Σ_k exp(-(x + k)² / 2 σ²)``, in 1/cells (DiffCSP, equation 6).
    """
    near = difference - difference.round()
    shifts = torch.arange(-IMAGES, IMAGES + 1, dtype=near.dtype, device=near.device)
    images = near[..., None] + shifts
    shares = torch.softmax(-0.5 * (images / sigma[..., None]) ** 2, dim=-1)
    return -(shares * images).sum(-1) / sigma**2


def score_scale(sigma: Tensor) -> Tensor:
    """Give the root mean square of the wrapped score over its own distribution, what the network's output is in.

    Exactly ``1/σ`` for narrow distributions (a relative error of 1e-4 at 0.1), the trapezoidal rule over one period,
    which converges exponentially, for wide ones.
    """
    points = torch.arange(128, dtype=sigma.dtype, device=sigma.device) / 128
    wide = sigma.clamp_min(0.1)[..., None]
    images = (points - points.round())[:, None] + torch.arange(-IMAGES, IMAGES + 1, dtype=sigma.dtype)
    density = torch.exp(-0.5 * (images / wide[..., None]) ** 2).sum(-1)
    squares = wrapped_score(points.expand(*wide.shape[:-1], 128), wide.expand(*wide.shape[:-1], 128)) ** 2
    mean = (squares * density).sum(-1) / density.sum(-1)
    return torch.where(sigma < 0.1, 1 / sigma, mean.sqrt())


def unmask(species: Tensor, probabilities: Tensor, t: float, s: float, chance: Tensor) -> Tensor:
    """Draw species at an earlier time: each hidden one appears with probability ``(t - s) / t``.

    Parameters
    ----------
    species : Tensor, shape (n,)
        Atomic numbers, MASKED where hidden.
    probabilities : Tensor, shape (n, k)
        Over atomic numbers, column MASKED zero.
    t, s : float
        Time now and then.
    chance : Tensor, shape (n, 2)
        Uniform in [0, 1): whether, and which.
    """
    appears = (species == MASKED) & (chance[:, 0] < (t - s) / t)
    cumulative = probabilities.cumsum(1)
    which = (cumulative <= chance[:, 1:] * cumulative[:, -1:]).sum(1)
    return torch.where(appears, which.clamp_max(probabilities.shape[1] - 1), species)
