"""Monotonic rational-quadratic splines (Durkan, Bekasov, Murray and Papamakarios, NeurIPS 2019)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn.functional import pad, softmax, softplus

if TYPE_CHECKING:
    from torch import Tensor

BOUND = 5.0
"""Splines act between minus and plus this; outside they are the identity."""
MIN_BIN, MIN_SLOPE = 1e-2, 1e-2
"""Least width and height of a bin (in shares of the interval), least slope at a knot."""
IDENTITY = math.log(math.expm1(1 - MIN_SLOPE))
"""Raw slope that gives slope one: with equal bins the spline is then the identity."""


def parameters_of(bins: int) -> int:
    """Raw numbers of one spline: widths, heights, slopes at inner knots."""
    return 3 * bins - 1


def spline(x: Tensor, raw: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """Map numbers by splines of their own.

    Parameters
    ----------
    x : Tensor, shape (...,)
    raw : Tensor, shape (..., 3 * bins - 1)
    inverse : bool

    Returns
    -------
    y : Tensor, shape (...,)
    log_slope : Tensor, shape (...,)
        ln of dy/dx (also for the inverse: that of the direction asked for).
    """
    bins = (raw.shape[-1] + 1) // 3
    widths, lefts = _knots(raw[..., :bins], bins)
    heights, bottoms = _knots(raw[..., bins : 2 * bins], bins)
    # slope one at the ends joins the identity outside smoothly
    slopes = pad(MIN_SLOPE + softplus(raw[..., 2 * bins :] + IDENTITY), (1, 1), value=1.0)
    inside = x.abs() < BOUND
    clipped = torch.where(inside, x, 0.0)
    edges = bottoms if inverse else lefts
    index = (torch.searchsorted(edges.contiguous(), clipped[..., None].contiguous(), right=True) - 1).clamp(0, bins - 1)

    def pick(of: Tensor) -> Tensor:
        return of.gather(-1, index)[..., 0]

    width, left, height, bottom = pick(widths), pick(lefts[..., :-1]), pick(heights), pick(bottoms[..., :-1])
    first, last = pick(slopes[..., :-1]), pick(slopes[..., 1:])
    steep = height / width
    bend = first + last - 2 * steep
    if inverse:
        # equations 6 to 8: the root of the quadratic that lies in the bin
        rise = clipped - bottom
        a = height * (steep - first) + rise * bend
        b = height * first - rise * bend
        c = -steep * rise
        root = (b.square() - 4 * a * c).clamp(min=0).sqrt()
        # both forms are the same root; each is taken where it subtracts no equal numbers
        forward = b >= 0
        t = torch.where(
            forward, 2 * c / torch.where(forward, -b - root, 1.0), (root - b) / torch.where(forward, 1.0, 2 * a)
        )
        t = t.clamp(0, 1)
        y = left + t * width
    else:
        t = ((clipped - left) / width).clamp(0, 1)
        y = bottom + height * (steep * t.square() + first * t * (1 - t)) / (steep + bend * t * (1 - t))
    # equation 5
    log_slope = (
        2 * steep.log()
        + (last * t.square() + 2 * steep * t * (1 - t) + first * (1 - t).square()).log()
        - 2 * (steep + bend * t * (1 - t)).log()
    )
    log_slope = -log_slope if inverse else log_slope
    return torch.where(inside, y, x), torch.where(inside, log_slope, 0.0)


def _knots(raw: Tensor, bins: int) -> tuple[Tensor, Tensor]:
    """Sizes of the bins (..., bins) and their edges (..., bins + 1)."""
    share = MIN_BIN + (1 - MIN_BIN * bins) * softmax(raw, dim=-1)
    edges = pad(torch.cumsum(share, dim=-1), (1, 0)) * (2 * BOUND) - BOUND
    edges = torch.cat([edges[..., :-1], torch.full_like(edges[..., :1], BOUND)], dim=-1)
    return edges[..., 1:] - edges[..., :-1], edges
