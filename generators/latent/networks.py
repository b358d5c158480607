"""What the three families share: the network that reads a frame, and the contract they keep with the generator."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn

from generators.latent.space import ELEMENT_SIZE
from generators.symmetric.tables import MAX_ORBITS, SITE_SIZE
from generators.symmetric.wyckoff import SHAPE_SIZE

if TYPE_CHECKING:
    from torch import Tensor

    from generators.latent.space import Content, Frame

CONTEXT_SIZE = 96
DROPPED = 0.3
"""Share of the training rows whose properties are hidden, so that a model also works without targets (as in
classifier-free guidance; Ho and Salimans, arXiv:2207.12598)."""


class Decoded(NamedTuple):
    """Crystals out of latent vectors.

    Parameters
    ----------
    element : Tensor, shape (n, MAX_ORBITS, n_elements)
        Log score of every training element on every orbit, up to a constant of the orbit.
    free : Tensor, shape (n, MAX_ORBITS, 3)
        Coordinates in [0, 1).
    shape : Tensor, shape (n, SHAPE_SIZE)
        Standardised.
    expansion : Tensor, shape (n,)
        Standardised.
    """

    element: Tensor
    free: Tensor
    shape: Tensor
    expansion: Tensor


def perceptron(*sizes: int, zero: bool = False) -> nn.Sequential:
    """Make linear layers with SiLU between them; with ``zero`` the last one starts at zero."""
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(pairwise(sizes)):
        layers += [nn.SiLU()] * (i > 0) + [nn.Linear(a, b)]
    if zero:
        last = layers[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(*layers)


class Context(nn.Module):
    """Reads a frame: space group (embedding), Wyckoff positions, what is free, and the wanted properties."""

    def __init__(self, n_properties: int) -> None:
        super().__init__()
        self.group = nn.Embedding(231, 24)
        size = 24 + MAX_ORBITS * (SITE_SIZE + 1 + 3) + SHAPE_SIZE + 2 * n_properties
        self.layers = perceptron(size, 2 * CONTEXT_SIZE, CONTEXT_SIZE)

    def forward(self, frame: Frame) -> Tensor:
        """Give a vector for each row, shape (n, CONTEXT_SIZE)."""
        there = frame.present.float()
        parts = [
            self.group(frame.group),
            (frame.site * there[..., None]).flatten(1),
            there,
            frame.is_free.float().flatten(1),
            frame.shape_free.float(),
            torch.where(frame.known, frame.target, 0.0),
            frame.known.float(),
        ]
        return self.layers(torch.cat(parts, dim=1))


class Family(nn.Module):
    """A latent model: vectors to crystals, given a frame, and back.

    Parameters
    ----------
    vectors : Tensor, shape (n_elements, ELEMENT_SIZE)
        From :func:`generators.latent.space.element_vectors`; kept with the weights.
    n_properties : int
    """

    vectors: Tensor
    latent_size: int

    def __init__(self, vectors: Tensor, n_properties: int) -> None:
        super().__init__()
        if vectors.shape[1] != ELEMENT_SIZE:
            raise ValueError(f"element vectors have {vectors.shape[1]} numbers, not {ELEMENT_SIZE}")
        self.register_buffer("vectors", vectors)
        self.n_properties = n_properties

    def decode(self, z: Tensor, frame: Frame) -> Decoded:
        """Make crystals of latent vectors (n, latent_size) that are standard normal when sampling."""
        raise NotImplementedError

    def encode(self, content: Content, frame: Frame) -> Tensor:
        """Find the latent vectors of crystals, shape (n, latent_size)."""
        raise NotImplementedError

    def scores(self, places: Tensor, width: float | Tensor) -> Tensor:
        """Log score of every element at points (..., ELEMENT_SIZE): a normal kernel around each element's vector."""
        off = places[..., None, :] - self.vectors
        return -0.5 * (off / width).square().sum(dim=-1)


def drop_targets(frame: Frame, share: float = DROPPED) -> Frame:
    """Hide the properties of a random share of the rows."""
    return frame.without_targets(torch.rand(len(frame.group)) < share)
