"""A conditional normalizing flow with exact likelihood.

Its layers are spline couplings (Dinh et al., arXiv:1605.08803; Durkan et al., NeurIPS 2019).
A crystal becomes one vector: the elements' points with a little normal noise (elements are discrete: without noise a
density has no meaning), coordinates on the circle cut open and stretched to a line by the logit, shape and volume as
they are. Entries that a skeleton does not have are zero, are left alone by every layer, and count nowhere.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import nn

from generators.latent.networks import CONTEXT_SIZE, Context, Decoded, Family, perceptron
from generators.latent.space import ELEMENT_SIZE
from generators.latent.splines import parameters_of, spline
from generators.symmetric.tables import MAX_ORBITS
from generators.symmetric.wyckoff import SHAPE_SIZE

if TYPE_CHECKING:
    from torch import Tensor

    from generators.latent.space import Content, Frame

LAYERS, WIDTH, BINS = 6, 128, 5
ELEMENTS, COORDINATES = MAX_ORBITS * ELEMENT_SIZE, MAX_ORBITS * 3
SIZE = ELEMENTS + COORDINATES + SHAPE_SIZE + 1
ELEMENT_NOISE, COORDINATE_NOISE, CELL_NOISE = 0.15, 0.004, 0.03
"""Standard deviations of the smoothing noise: whitened element space, fractions of the cell, standardised cell."""
STRETCH = 1.5
"""The logit of an even coordinate has a standard deviation of 1.8: divided by this it is of order one."""
EDGE = 1e-5
"""Coordinates keep this distance from the cut."""


class CouplingFlow(nn.Module):
    """Spline couplings between a vector and a standard normal base.

    Parameters
    ----------
    size : int
        Of the vector.
    context_size : int
        Of what it is conditioned on.
    layers, width, bins : int
    seed : int
        Of the alternating masks: each odd layer changes what the layer before kept.
    """

    masks: Tensor

    def __init__(
        self, size: int, context_size: int, layers: int = LAYERS, width: int = WIDTH, bins: int = BINS, seed: int = 0
    ) -> None:
        super().__init__()
        self.size, self.bins = size, bins
        generator = torch.Generator().manual_seed(seed)
        masks: list[Tensor] = []
        for i in range(layers):
            if i % 2 == 0:
                half = torch.zeros(size, dtype=torch.bool)
                half[torch.randperm(size, generator=generator)[: (size + 1) // 2]] = True
            else:
                half = ~masks[-1]
            masks.append(half)
        # kept with the weights: another version of torch may draw other masks
        self.register_buffer("masks", torch.stack(masks))
        self.conditioners = nn.ModuleList(
            perceptron(size + context_size, width, width, int((~mask).sum()) * parameters_of(bins), zero=True)
            for mask in masks
        )

    def forward(self, x: Tensor, context: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Map vectors to the base.

        Parameters
        ----------
        x : Tensor, shape (n, size)
        context : Tensor, shape (n, context_size)
        present : Tensor of bool, shape (n, size)
            Entries that exist; others must be zero and stay so.

        Returns
        -------
        z : Tensor, shape (n, size)
        log_det : Tensor, shape (n,)
            ln of the absolute Jacobian determinant of z by x.
        """
        total = torch.zeros(len(x), dtype=x.dtype)
        for mask, conditioner in zip(self.masks, self.conditioners, strict=True):
            x, slope = self._couple(x, context, present, mask, conditioner, inverse=False)
            total = total + slope
        return x, total

    def inverse(self, z: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Map the base to vectors."""
        for i in range(len(self.conditioners) - 1, -1, -1):
            z, _ = self._couple(z, context, present, self.masks[i], self.conditioners[i], inverse=True)
        return z

    def log_likelihood(self, x: Tensor, context: Tensor, present: Tensor) -> Tensor:
        """Log density of vectors by the change of variables, shape (n,), nats; absent entries have no part in it."""
        z, log_det = self(x, context, present)
        base = -0.5 * z.square() - 0.5 * math.log(2 * math.pi)
        return torch.where(present, base, 0.0).sum(dim=1) + log_det

    def _couple(
        self, x: Tensor, context: Tensor, present: Tensor, mask: Tensor, conditioner: nn.Module, *, inverse: bool
    ) -> tuple[Tensor, Tensor]:
        """Change the entries outside the mask by splines that the entries inside decide."""
        kept = torch.where(mask, x, 0.0)
        raw = conditioner(torch.cat([kept, context], dim=1)).view(len(x), -1, parameters_of(self.bins))
        (changed,) = torch.nonzero(~mask, as_tuple=True)
        there, before = present[:, changed], x[:, changed]
        # most entries of most crystals are absent: only the others are computed
        moved, slopes = spline(before[there], raw[there], inverse=inverse)
        after = torch.zeros_like(before).masked_scatter(there, moved)
        slope = torch.zeros_like(before).masked_scatter(there, slopes)
        return x.index_copy(1, changed, after), slope.sum(dim=1)


class FlowNetwork(Family):
    """Context and coupling flow; the latent vector is the base's.

    Parameters
    ----------
    vectors : Tensor, shape (n_elements, ELEMENT_SIZE)
    n_properties : int
    cut : float
        See :class:`generators.latent.space.Space`.
    """

    latent_size = SIZE

    def __init__(self, vectors: Tensor, n_properties: int, cut: float) -> None:
        super().__init__(vectors, n_properties)
        self.cut = cut
        self.context = Context(n_properties)
        self.flow = CouplingFlow(SIZE, CONTEXT_SIZE)

    def to_vector(self, content: Content, frame: Frame, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Make the vectors of crystals.

        Parameters
        ----------
        content, frame
        noise : Tensor, optional, shape (n, SIZE)
            Standard normal; none adds no noise.

        Returns
        -------
        x : Tensor, shape (n, SIZE)
        log_det : Tensor, shape (n,)
            ln of the Jacobian of x by elements' points, coordinates (fractions of the cell) and standardised cell.
        """
        present = present_of(frame)
        zero = torch.zeros(len(frame.group), SIZE) if noise is None else noise
        element, coordinate, cell = zero.split([ELEMENTS, COORDINATES, SHAPE_SIZE + 1], dim=1)
        places = self.vectors[content.element].flatten(1) + ELEMENT_NOISE * element
        turn = (content.free.flatten(1) + COORDINATE_NOISE * coordinate - self.cut) % 1.0
        turn = turn.clamp(EDGE, 1 - EDGE)
        line = (turn.log() - (1 - turn).log()) / STRETCH
        log_det = -(turn * (1 - turn)).log() - math.log(STRETCH)
        rest = torch.cat([content.shape, content.expansion[:, None]], dim=1) + CELL_NOISE * cell
        x = torch.where(present, torch.cat([places, line, rest], dim=1), 0.0)
        return x, torch.where(frame.is_free.flatten(1), log_det, 0.0).sum(dim=1)

    def log_likelihood(self, content: Content, frame: Frame, noise: Tensor) -> Tensor:
        """Exact log density of smoothed crystals, shape (n,), nats.

        The density is by the elements' points (whitened), coordinates in fractions of the cell, and standardised cell.
        """
        x, log_det = self.to_vector(content, frame, noise)
        found: Tensor = self.flow.log_likelihood(x, self.context(frame), present_of(frame)) + log_det
        return found

    def encode(self, content: Content, frame: Frame) -> Tensor:
        """Vectors of the base, without noise; absent entries are zero."""
        x, _ = self.to_vector(content, frame)
        z, _ = self.flow(x, self.context(frame.without_targets()), present_of(frame))
        return z

    def decode(self, z: Tensor, frame: Frame) -> Decoded:
        """Invert the flow."""
        present = present_of(frame)
        x = self.flow.inverse(torch.where(present, z, 0.0), self.context(frame), present)
        places, line, rest = x.split([ELEMENTS, COORDINATES, SHAPE_SIZE + 1], dim=1)
        free = (torch.sigmoid(line * STRETCH) + self.cut) % 1.0
        return Decoded(
            self.scores(places.view(-1, MAX_ORBITS, ELEMENT_SIZE), ELEMENT_NOISE),
            free.view(-1, MAX_ORBITS, 3),
            rest[:, :SHAPE_SIZE],
            rest[:, SHAPE_SIZE],
        )


def present_of(frame: Frame) -> Tensor:
    """Which entries of the vector exist, shape (n, SIZE)."""
    elements = frame.present[..., None].expand(-1, -1, ELEMENT_SIZE).flatten(1)
    volume = torch.ones(len(frame.group), 1, dtype=torch.bool)
    return torch.cat([elements, frame.is_free.flatten(1), frame.shape_free, volume], dim=1)
