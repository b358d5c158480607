"""A conditional generative adversarial network.

It minimises the Wasserstein distance with a gradient penalty (Arjovsky et al., arXiv:1701.07875; Gulrajani et al.,
NIPS 2017).
The generator makes a crystal's vector (elements' points, coordinates as points on the unit circle, shape, volume) of a
standard normal latent vector and the frame; the critic sees vector and frame. The network has no encoder: the latent
vector of a crystal is found by inversion, a few steps down the gradient (Zhu et al., arXiv:1609.03552).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from generators.latent.networks import CONTEXT_SIZE, Context, Decoded, Family, perceptron
from generators.latent.space import ELEMENT_SIZE
from generators.symmetric.tables import MAX_ORBITS
from generators.symmetric.wyckoff import SHAPE_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from generators.latent.space import Content, Frame

LATENT, WIDTH = 32, 256
ELEMENTS, CIRCLES = MAX_ORBITS * ELEMENT_SIZE, MAX_ORBITS * 3
SIZE = ELEMENTS + 2 * CIRCLES + SHAPE_SIZE + 1
ELEMENT_WIDTH = 0.3
"""Width of the kernel around an element's point that scores elements; only ratios of scores matter."""
STARTS, STEPS, RATE, PRIOR = 2, 100, 0.1, 1e-3
"""Inversion: starting points, steps and rate of Adam, weight of the latent vector's square against the mismatch's."""


class GanNetwork(Family):
    """Generator and critic; see the module."""

    latent_size = LATENT

    def __init__(self, vectors: Tensor, n_properties: int) -> None:
        super().__init__(vectors, n_properties)
        self.generator = nn.ModuleDict(
            {
                "context": Context(n_properties),
                "layers": perceptron(LATENT + CONTEXT_SIZE, WIDTH, WIDTH, WIDTH, SIZE),
            }
        )
        self.critic = nn.ModuleDict(
            {"context": Context(n_properties), "layers": perceptron(SIZE + CONTEXT_SIZE, WIDTH, WIDTH, WIDTH, 1)}
        )

    def vector(self, content: Content, frame: Frame) -> Tensor:
        """Vectors of crystals, shape (n, SIZE); absent entries are zero."""
        angle = 2 * math.pi * content.free
        parts = [
            self.vectors[content.element].flatten(1),
            angle.cos().flatten(1),
            angle.sin().flatten(1),
            content.shape,
            content.expansion[:, None],
        ]
        return torch.where(present_of(frame), torch.cat(parts, dim=1), 0.0)

    def make(self, z: Tensor, frame: Frame) -> Tensor:
        """Vectors of made crystals, shape (n, SIZE); coordinates lie on the circle, absent entries are zero."""
        raw = self.generator["layers"](torch.cat([z, self.generator["context"](frame)], dim=1))
        places, x, y, rest = raw.split([ELEMENTS, CIRCLES, CIRCLES, SHAPE_SIZE + 1], dim=1)
        length = (x.square() + y.square() + 1e-6).sqrt()
        return torch.where(present_of(frame), torch.cat([places, x / length, y / length, rest], dim=1), 0.0)

    def criticise(self, x: Tensor, frame: Frame) -> Tensor:
        """Score vectors, shape (n,); the absent entries of a frame are not looked at."""
        seen = torch.where(present_of(frame), x, 0.0)
        scores: Tensor = self.critic["layers"](torch.cat([seen, self.critic["context"](frame)], dim=1))[:, 0]
        return scores

    def decode(self, z: Tensor, frame: Frame) -> Decoded:
        """Make crystals."""
        places, x, y, rest = self.make(z, frame).split([ELEMENTS, CIRCLES, CIRCLES, SHAPE_SIZE + 1], dim=1)
        free = (torch.atan2(y, x) / (2 * math.pi)) % 1.0
        return Decoded(
            self.scores(places.view(-1, MAX_ORBITS, ELEMENT_SIZE), ELEMENT_WIDTH),
            free.view(-1, MAX_ORBITS, 3),
            rest[:, :SHAPE_SIZE],
            rest[:, SHAPE_SIZE],
        )

    def encode(self, content: Content, frame: Frame) -> Tensor:
        """Invert the generator: of STARTS descents the closest. What was never made is only approached."""
        bare = frame.without_targets()
        wanted = self.vector(content, bare)
        found, best = torch.zeros(len(wanted), LATENT), torch.full((len(wanted),), math.inf)
        generator = torch.Generator().manual_seed(0)
        for start in range(STARTS):
            z = torch.randn(len(wanted), LATENT, generator=generator) * (start > 0)
            z.requires_grad_(requires_grad=True)
            optimizer = torch.optim.Adam([z], lr=RATE)
            with torch.enable_grad():
                for _ in range(STEPS):
                    off = (self.make(z, bare) - wanted).square().sum(dim=1)
                    (gradient,) = torch.autograd.grad((off + PRIOR * z.square().sum(dim=1)).sum(), z)
                    z.grad = gradient
                    optimizer.step()
            with torch.no_grad():
                off = (self.make(z, bare) - wanted).square().sum(dim=1)
                closer = off < best
                best = torch.where(closer, off, best)
                found = torch.where(closer[:, None], z.detach(), found)
        return found


def present_of(frame: Frame) -> Tensor:
    """Which entries of the vector exist, shape (n, SIZE)."""
    elements = frame.present[..., None].expand(-1, -1, ELEMENT_SIZE).flatten(1)
    free = frame.is_free.flatten(1)
    volume = torch.ones(len(frame.group), 1, dtype=torch.bool)
    return torch.cat([elements, free, free, frame.shape_free, volume], dim=1)


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, made: Tensor, share: Tensor) -> Tensor:
    """Mean squared deviation of the critic's gradient norm from one (Gulrajani et al., equation 3).

    Parameters
    ----------
    critic : callable
        (n, d) to (n,).
    real, made : Tensor, shape (n, d)
    share : Tensor, shape (n, 1)
        Place of each point on the line from made to real, 0 to 1.

    Returns
    -------
    Tensor
        Scalar that can be differentiated.
    """
    between = (share * real + (1 - share) * made).detach().requires_grad_(requires_grad=True)
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    # the small number keeps the derivative of the norm finite where a gradient vanishes
    norm = (gradient.square().sum(dim=1) + 1e-12).sqrt()
    penalty: Tensor = (norm - 1).square().mean()
    return penalty
