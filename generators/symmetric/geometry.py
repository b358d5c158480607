"""Free coordinates, cell shape and volume of a decorated skeleton: a mixture-density network.

A small transformer reads the orbits (element, Wyckoff position) and the space group. Free coordinates follow a mixture
of von Mises densities (periodic; C. M. Bishop, Mixture Density Networks, 1994, with the circular kernel of Bishop and
Legleye, NIPS 1994), the shape of the cell one of normal densities, the logarithm of the volume a normal density.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from generators.crystals.elements import element_features
from generators.symmetric.tables import SITE_SIZE
from generators.symmetric.wyckoff import SHAPE_SIZE

if TYPE_CHECKING:
    from torch import Tensor

    from generators.symmetric.tables import Table

WIDTH, HEADS, LAYERS = 96, 4, 2
COORDINATE_KERNELS, SHAPE_KERNELS = 8, 4
MAX_KAPPA = 2000.0
"""Largest concentration: a standard deviation of 0.0036 in fractions of the cell, as finely as relaxation converges."""
MIN_LOG_STD = -4.0


class Densities(NamedTuple):
    """Parameters of the densities of n crystals with m orbits.

    Parameters
    ----------
    mix : Tensor, shape (n, m, COORDINATE_KERNELS)
        Log weights; a kernel is shared by the three coordinates of an orbit.
    angle : Tensor, shape (n, m, COORDINATE_KERNELS, 3)
        Means, radians.
    kappa : Tensor, same shape
        Concentrations.
    shape_mix : Tensor, shape (n, SHAPE_KERNELS)
    shape_mean, shape_log_std : Tensor, shape (n, SHAPE_KERNELS, SHAPE_SIZE)
    volume_mean, volume_log_std : Tensor, shape (n,)
    """

    mix: Tensor
    angle: Tensor
    kappa: Tensor
    shape_mix: Tensor
    shape_mean: Tensor
    shape_log_std: Tensor
    volume_mean: Tensor
    volume_log_std: Tensor


class GeometryNetwork(nn.Module):
    """The network; see the module."""

    features: Tensor

    def __init__(self) -> None:
        super().__init__()
        features = torch.from_numpy(np.array(element_features()))
        self.register_buffer("features", features, persistent=False)
        self.token = nn.Linear(features.shape[1] + SITE_SIZE, WIDTH)
        self.group = nn.Embedding(231, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 2 * WIDTH, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.coordinates = nn.Linear(WIDTH, COORDINATE_KERNELS * (1 + 3 * 3))
        self.shape = nn.Linear(WIDTH, SHAPE_KERNELS * (1 + 2 * SHAPE_SIZE))
        self.volume = nn.Linear(WIDTH, 2)

    def forward(self, table: Table) -> Densities:
        """Give the densities of each row."""
        present = table.elements > 0
        tokens = self.token(torch.cat([self.features[table.elements], table.site], dim=-1))
        # the space group is a token of its own; it is always present, so no row is empty
        group = self.group(table.group)[:, None, :]
        hidden = self.encoder(
            torch.cat([group, tokens + group], dim=1),
            src_key_padding_mask=torch.cat([torch.zeros_like(present[:, :1]), ~present], dim=1),
        )
        n, m = present.shape
        raw = self.coordinates(hidden[:, 1:]).view(n, m, COORDINATE_KERNELS, 10)
        cell = self.shape(hidden[:, 0]).view(n, SHAPE_KERNELS, 1 + 2 * SHAPE_SIZE)
        volume = self.volume(hidden[:, 0])
        return Densities(
            mix=torch.log_softmax(raw[..., 0], dim=-1),
            angle=torch.atan2(raw[..., 1:4], raw[..., 4:7]),
            kappa=MAX_KAPPA * torch.sigmoid(raw[..., 7:10] - 4.0) + 1e-2,
            shape_mix=torch.log_softmax(cell[..., 0], dim=-1),
            shape_mean=cell[..., 1 : 1 + SHAPE_SIZE],
            shape_log_std=cell[..., 1 + SHAPE_SIZE :].clamp(MIN_LOG_STD, 1.0),
            volume_mean=volume[:, 0],
            volume_log_std=volume[:, 1].clamp(MIN_LOG_STD, 1.0),
        )


def negative_log_likelihood(network: GeometryNetwork, table: Table) -> Tensor:
    """Negative log-likelihood of each crystal's geometry, shape (n,), nats (coordinates per radian)."""
    d = network(table)
    off = 2 * math.pi * table.free[:, :, None, :] - d.angle
    # ln of the von Mises density: κ cos(x - μ) - ln(2π I0(κ)); i0e is I0 without its exponential
    log_kernel = d.kappa * (torch.cos(off) - 1) - torch.log(2 * math.pi * torch.special.i0e(d.kappa))
    log_kernel = (log_kernel * table.is_free[:, :, None, :]).sum(dim=-1)
    has_free = table.is_free.any(dim=-1)
    coordinates = (torch.logsumexp(d.mix + log_kernel, dim=-1) * has_free).sum(dim=-1)
    normal = -0.5 * ((table.shape[:, None, :] - d.shape_mean) / d.shape_log_std.exp()) ** 2 - d.shape_log_std
    normal = ((normal - 0.5 * math.log(2 * math.pi)) * table.shape_free[:, None, :]).sum(dim=-1)
    shape = torch.logsumexp(d.shape_mix + normal, dim=-1) * table.shape_free.any(dim=-1)
    z = (table.expansion - d.volume_mean) / d.volume_log_std.exp()
    volume = -0.5 * z**2 - d.volume_log_std - 0.5 * math.log(2 * math.pi)
    return -(coordinates + shape + volume)


class Geometry(NamedTuple):
    """Drawn geometry of n crystals: free (n, m, 3), shape (n, SHAPE_SIZE), expansion (n,)."""

    free: np.ndarray
    shape: np.ndarray
    expansion: np.ndarray


def draw(densities: Densities, rngs: list[np.random.Generator], temperature: float = 1.0) -> Geometry:
    """Draw one geometry for each row with a random generator of its own.

    Parameters
    ----------
    densities : Densities
    rngs : list of numpy.random.Generator
        One a row.
    temperature : float
        Of the widths; 0 gives the means of the drawn kernels.
    """
    d = Densities(*(t.detach().double().numpy() for t in densities))
    n, m, kernels, _ = d.angle.shape
    free = np.zeros((n, m, 3))
    shape = np.zeros((n, SHAPE_SIZE))
    expansion = np.zeros(n)
    for k, rng in enumerate(rngs):
        gumbel = rng.gumbel(size=(m, kernels))
        chosen = (np.asarray(d.mix[k]) + gumbel).argmax(axis=-1)
        mean = np.asarray(d.angle[k])[np.arange(m), chosen]
        kappa = np.asarray(d.kappa[k])[np.arange(m), chosen] / max(temperature, 1e-6) ** 2
        free[k] = (rng.vonmises(mean, np.minimum(kappa, 1e8)) / (2 * math.pi)) % 1.0
        kernel = int((np.asarray(d.shape_mix[k]) + rng.gumbel(size=len(d.shape_mix[k]))).argmax())
        std = np.exp(np.asarray(d.shape_log_std[k][kernel])) * temperature
        shape[k] = np.asarray(d.shape_mean[k][kernel]) + std * rng.standard_normal(SHAPE_SIZE)
        expansion[k] = float(d.volume_mean[k])
    return Geometry(free, shape, expansion)
