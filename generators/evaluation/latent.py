"""Pictures of a latent space, for models that have one: a map in two dimensions, and a walk between two crystals.

A model has a latent space if it has two methods beside those of :class:`generators.base.Generator`:
``latent(structures)`` gives an array of shape (n, d), and ``decode_latent(vectors, condition, seed)`` a structure for
each row of such an array.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

import numpy as np

from generators.evaluation.samples import refusals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from generators.base import Condition


class HasLatent(Protocol):
    """A model with a latent space."""

    name: str

    def latent(self, structures: Sequence[Structure]) -> NDArray[np.float64]:
        """Encode structures; shape (n, d)."""
        ...

    def decode_latent(self, vectors: NDArray[np.float64], condition: Condition, seed: int) -> list[Structure]:
        """Decode vectors of shape (n, d)."""
        ...


class LatentMap(NamedTuple):
    """A latent space seen along its two widest directions.

    Parameters
    ----------
    points : ndarray, shape (n, 2)
    explained : tuple of two floats
        Shares of the variance that the two directions hold.
    dimension : int
        Of the latent space.
    """

    points: NDArray[np.float64]
    explained: tuple[float, float]
    dimension: int


class Step(NamedTuple):
    """A crystal on the way from one to another: how far along, decoded, and why it would be refused (empty: valid)."""

    along: float
    structure: Structure
    reasons: list[str]


def latent_of(model: Any) -> HasLatent:
    """Give the model if it has a latent space.

    Raises
    ------
    ValueError
        If it has none.
    """
    if all(callable(getattr(model, method, None)) for method in ("latent", "decode_latent")):
        return cast("HasLatent", model)
    raise ValueError(
        f"{getattr(model, 'name', type(model).__name__)} has no latent space to look at; autoencoders, flows and "
        "adversarial models have one"
    )


def latent_map(model: HasLatent, structures: Sequence[Structure]) -> LatentMap:
    """Project a latent space onto its two principal directions.

    Parameters
    ----------
    model : HasLatent
    structures : sequence of pymatgen.core.Structure
        At least three.

    Raises
    ------
    ValueError
        If there are too few structures or the model's vectors are no finite (n, d) array.
    """
    if len(structures) < 3:
        raise ValueError(f"a map needs at least three crystals, got {len(structures)}")
    vectors = np.asarray(model.latent(structures), dtype=float)
    if vectors.ndim != 2 or len(vectors) != len(structures) or not np.isfinite(vectors).all():
        raise ValueError(f"{model.name}: latent must give a finite array of shape ({len(structures)}, d)")
    centered = vectors - vectors.mean(axis=0)
    # Principal components by singular values (Jolliffe, Principal Component Analysis, 2002, section 3.5).
    left, singular, directions = np.linalg.svd(centered, full_matrices=False)
    points = np.zeros((len(vectors), 2))
    kept = min(2, len(singular))
    points[:, :kept] = left[:, :kept] * singular[:kept]
    # A direction's sign is arbitrary: its largest component is made positive, so that pictures are reproducible.
    for axis in range(kept):
        if directions[axis][np.abs(directions[axis]).argmax()] < 0:
            points[:, axis] *= -1
    total = float((singular**2).sum())
    shares = [float(singular[i] ** 2) / total if total > 0 and i < kept else 0.0 for i in range(2)]
    return LatentMap(points, (shares[0], shares[1]), vectors.shape[1])


def interpolate(
    model: HasLatent, one: Structure, two: Structure, condition: Condition, steps: int = 7, seed: int = 0
) -> list[Step]:
    """Decode points on the straight line between two crystals.

    Parameters
    ----------
    model : HasLatent
    one, two : pymatgen.core.Structure
    condition : Condition
    steps : int
        Both ends included, at least two.
    seed : int

    Raises
    ------
    ValueError
        If there are fewer than two steps, or the model gives another number of structures.
    """
    if steps < 2:
        raise ValueError(f"a walk from one crystal to another has at least two steps, got {steps}")
    ends = np.asarray(model.latent([one, two]), dtype=float)
    along = np.linspace(0.0, 1.0, steps)
    vectors = (1 - along)[:, None] * ends[0] + along[:, None] * ends[1]
    structures = model.decode_latent(vectors, condition, seed)
    if len(structures) != steps:
        raise ValueError(f"{model.name}: decode_latent gave {len(structures)} structures for {steps} vectors")
    return [
        Step(float(a), structure, refusals(structure, condition))
        for a, structure in zip(along, structures, strict=True)
    ]
