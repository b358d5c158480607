"""Crystals at given points of a latent space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from generators.latent.decoding import choices_of, description_of, try_to_build, upright
from generators.latent.drafts import nearest
from generators.latent.memory import Memory

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from generators.latent.decoding import Made
    from generators.latent.drafts import Parts
    from generators.latent.networks import Decoded
    from generators.symmetric.skeletons import Skeleton

JITTER, JITTERS = 0.05, 8
"""Points that make no valid crystal are moved by this, more with every one of so many tries."""


def nearest_skeleton(name: str, model: Parts, vector: NDArray[np.float64], key: str) -> Skeleton:
    """Give the skeleton of the nearest training crystal that can meet a condition.

    Parameters
    ----------
    name : str
        Of the generator, for the error.
    model : Parts
    vector : ndarray, shape (d,)
    key : str
        See :func:`generators.symmetric.conditions.key_of`.

    Raises
    ------
    ValueError
        If none can.
    """
    names = sorted(model.space.skeletons)
    off = (model.latent.double().numpy() - vector) ** 2
    for i in np.argsort(off.sum(axis=1), kind="stable"):
        skeleton = names[int(model.skeleton[i])]
        if choices_of(skeleton, key, model.space.elements).rows:
            return skeleton
    raise ValueError(f"{name}: no training skeleton takes a crystal that meets the condition")


def crystal_at(model: Parts, vector: NDArray[np.float64], skeleton: Skeleton, key: str, seed: int) -> Structure:
    """Make the crystal of a latent vector; the elements are those of the vector, however often it is moved.

    Raises
    ------
    ValueError
        If the skeleton takes no crystal that meets the condition.
    """
    rng = np.random.default_rng(seed)
    frame = model.space.frame([skeleton])

    def decoded(at: NDArray[np.float64]) -> Decoded:
        with torch.no_grad():
            return model.network.decode(torch.from_numpy(at[None]).float(), frame)

    row = nearest(model, Memory(), decoded(vector), 0, skeleton, key, ())
    if row is None:
        raise ValueError(f"skeleton {skeleton.key} takes no crystal that meets the condition")
    best: Made | None = None
    for turn in range(1 + JITTERS):
        moved = vector + JITTER * turn * rng.standard_normal(len(vector))
        made = try_to_build(description_of(row, decoded(moved), 0, model.space))
        if made is not None and (best is None or made.badness < best.badness):
            best = made
        if best is not None and best.badness[0] == 0:
            break
    return best.structure if best is not None else upright(row, seed)
