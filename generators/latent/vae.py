"""A conditional variational autoencoder (Kingma and Welling, arXiv:1312.6114; Sohn, Lee and Yan, NIPS 2015).

The decoder's likelihood: an element on each orbit (categorical, by its distance in the space of elements), free
coordinates by von Mises densities, shape of the cell and volume by normal densities. A head predicts properties from
the latent vector, trained along with it (Gómez-Bombarelli et al., ACS Cent. Sci. 4, 268 (2018)), so that one can walk
towards a property.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from generators.latent.networks import CONTEXT_SIZE, Context, Decoded, Family, drop_targets, perceptron
from generators.latent.space import ELEMENT_SIZE
from generators.symmetric.tables import MAX_ORBITS
from generators.symmetric.wyckoff import SHAPE_SIZE

if TYPE_CHECKING:
    from torch import Tensor

    from generators.latent.space import Content, Frame

LATENT, WIDTH = 24, 256
MAX_KAPPA = 2000.0
"""Largest concentration of a coordinate: a standard deviation of 0.0036 of the cell."""
MIN_LOG_STD = -3.0
FREE_NATS = 0.05
"""Divergence a latent dimension may have without a price (Kingma et al., arXiv:1606.04934): none of them dies early."""
BETA = 0.3
"""Price of the divergence in training (Higgins et al., ICLR 2017); below one, reconstruction counts more. The ELBO that
is reported has one."""
WARM_UP = 0.3
"""Share of the steps over which the price rises from nought (Bowman et al., arXiv:1511.06349)."""
HEAD_WEIGHT = 1.0


class Likelihood(NamedTuple):
    """Parameters of the decoder's densities: element scores, von Mises, normal of shape and of expansion."""

    element: Tensor
    angle: Tensor
    kappa: Tensor
    shape_mean: Tensor
    shape_log_std: Tensor
    expansion_mean: Tensor
    expansion_log_std: Tensor


class Terms(NamedTuple):
    """Parts of the evidence lower bound of each crystal, nats: log-likelihood (n,), divergence (n, LATENT)."""

    reconstruction: Tensor
    divergence: Tensor

    @property
    def elbo(self) -> Tensor:
        """Evidence lower bound, shape (n,)."""
        return self.priced(1.0)

    def priced(self, beta: float) -> Tensor:
        """Log-likelihood less ``beta`` times the divergence, shape (n,)."""
        return self.reconstruction - beta * self.divergence.sum(dim=1)


class VaeNetwork(Family):
    """Encoder, decoder and property head; see the module."""

    step: Tensor
    latent_size = LATENT

    def __init__(self, vectors: Tensor, n_properties: int) -> None:
        super().__init__(vectors, n_properties)
        self.context = Context(n_properties)
        inputs = MAX_ORBITS * (ELEMENT_SIZE + 6) + SHAPE_SIZE + 1
        self.encoder = perceptron(inputs + CONTEXT_SIZE, WIDTH, WIDTH, 2 * LATENT)
        outputs = MAX_ORBITS * (ELEMENT_SIZE + 9) + 2 * SHAPE_SIZE + 2
        self.decoder = perceptron(LATENT + CONTEXT_SIZE, WIDTH, WIDTH, outputs)
        self.log_width = nn.Parameter(torch.tensor(math.log(0.5)))
        self.head = perceptron(LATENT, 64, max(1, n_properties))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def posterior(self, content: Content, frame: Frame) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation of the approximate posterior, each (n, LATENT)."""
        there, free = frame.present[..., None], frame.is_free
        angle = 2 * math.pi * content.free
        parts = [
            torch.where(there, self.vectors[content.element], 0.0).flatten(1),
            torch.where(free, angle.cos(), 0.0).flatten(1),
            torch.where(free, angle.sin(), 0.0).flatten(1),
            torch.where(frame.shape_free, content.shape, 0.0),
            content.expansion[:, None],
        ]
        # the encoder sees no targets: a latent vector names the crystal, not what was asked
        context = self.context(frame.without_targets())
        mean, log_std = self.encoder(torch.cat([*parts, context], dim=1)).chunk(2, dim=1)
        return mean, log_std.clamp(-6.0, 2.0)

    def likelihood(self, z: Tensor, frame: Frame) -> Likelihood:
        """Densities of crystals, given latent vectors."""
        raw = self.decoder(torch.cat([z, self.context(frame)], dim=1))
        slots = raw[:, : MAX_ORBITS * (ELEMENT_SIZE + 9)].view(-1, MAX_ORBITS, ELEMENT_SIZE + 9)
        cell = raw[:, MAX_ORBITS * (ELEMENT_SIZE + 9) :]
        places, x, y, k = slots.split([ELEMENT_SIZE, 3, 3, 3], dim=2)
        return Likelihood(
            element=torch.log_softmax(self.scores(places, self.log_width.exp().clamp(min=0.05)), dim=-1),
            angle=torch.atan2(y, x + 1e-6),
            kappa=MAX_KAPPA * torch.sigmoid(k - 4.0) + 1e-2,
            shape_mean=cell[:, :SHAPE_SIZE],
            shape_log_std=cell[:, SHAPE_SIZE : 2 * SHAPE_SIZE].clamp(MIN_LOG_STD, 1.0),
            expansion_mean=cell[:, -2],
            expansion_log_std=cell[:, -1].clamp(MIN_LOG_STD, 1.0),
        )

    def log_likelihood(self, content: Content, z: Tensor, frame: Frame) -> Tensor:
        """Log density of crystals given latent vectors, shape (n,), nats; coordinates per radian, cell standardised."""
        d = self.likelihood(z, frame)
        element = d.element.gather(2, content.element[..., None])[..., 0]
        total = torch.where(frame.present, element, 0.0).sum(dim=1)
        off = 2 * math.pi * content.free - d.angle
        # ln of the von Mises density: κ cos(x - μ) - ln(2π I0(κ)); i0e is I0 without its exponential
        mises = d.kappa * (torch.cos(off) - 1) - torch.log(2 * math.pi * torch.special.i0e(d.kappa))
        total = total + torch.where(frame.is_free, mises, 0.0).sum(dim=(1, 2))
        shape = _normal(content.shape, d.shape_mean, d.shape_log_std)
        total = total + torch.where(frame.shape_free, shape, 0.0).sum(dim=1)
        return total + _normal(content.expansion, d.expansion_mean, d.expansion_log_std)

    def terms(self, content: Content, frame: Frame, noise: Tensor) -> Terms:
        """Parts of the evidence lower bound for one draw of the posterior; ``noise`` is standard normal, (n, LATENT).

        The divergence of a normal posterior from the standard normal prior is known: Kingma and Welling, appendix B.
        """
        mean, log_std = self.posterior(content, frame)
        z = mean + log_std.exp() * noise
        divergence = 0.5 * (mean.square() + (2 * log_std).exp() - 1) - log_std
        return Terms(self.log_likelihood(content, z, frame), divergence)

    def log_evidence(self, content: Content, frame: Frame, draws: int, generator: torch.Generator) -> Tensor:
        """Estimate the log-likelihood by importance sampling, shape (n,), nats (Burda et al., arXiv:1509.00519).

        A lower bound in the mean, too, which rises towards the log-likelihood with the number of draws.
        """
        mean, log_std = self.posterior(content, frame)
        found = []
        for _ in range(draws):
            noise = torch.randn(mean.shape, generator=generator)
            z = mean + log_std.exp() * noise
            log_ratio = (-0.5 * z.square() + 0.5 * noise.square() + log_std).sum(dim=1)
            found.append(self.log_likelihood(content, z, frame) + log_ratio)
        return torch.logsumexp(torch.stack(found), dim=0) - math.log(draws)

    def loss(self, content: Content, frame: Frame, steps: int) -> Tensor:
        """Loss of a batch in training; ``frame`` still has all properties, ``steps`` are those of the warm-up."""
        noise = torch.randn(len(frame.group), LATENT)
        parts = self.terms(content, drop_targets(frame), noise)
        if self.training:
            self.step += 1
        beta = BETA * min(1.0, float(self.step) / max(1, steps))
        divergence = parts.divergence.mean(dim=0).clamp(min=FREE_NATS).sum()
        return -parts.reconstruction.mean() + beta * divergence + HEAD_WEIGHT * self.head_loss(content, frame)

    def head_loss(self, content: Content, frame: Frame) -> Tensor:
        """Mean squared error of the property head on the posterior's mean, standardised."""
        if not self.n_properties:
            return torch.zeros(())
        mean, _ = self.posterior(content, frame)
        off = torch.where(frame.known, self.head(mean) - frame.target, 0.0)
        total: Tensor = off.square().sum() / frame.known.sum().clamp(min=1)
        return total

    def encode(self, content: Content, frame: Frame) -> Tensor:
        """Means of the posterior."""
        return self.posterior(content, frame)[0]

    def decode(self, z: Tensor, frame: Frame) -> Decoded:
        """Middles of the decoder's densities."""
        d = self.likelihood(z, frame)
        return Decoded(d.element, (d.angle / (2 * math.pi)) % 1.0, d.shape_mean, d.expansion_mean)


def _normal(x: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    return -0.5 * ((x - mean) / log_std.exp()).square() - log_std - 0.5 * math.log(2 * math.pi)
