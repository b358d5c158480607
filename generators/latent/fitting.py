"""Trains a latent model on a data set: what it is shown, what is held out, what a checkpoint of it holds."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import torch

from generators.base import derive_seed
from generators.latent.adversarial import Shown
from generators.latent.space import Space, element_vectors, space_of
from generators.symmetric.assignments import row_of
from generators.symmetric.crystals import rows_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from generators.data.dataset import Dataset, SplitBy
    from generators.latent.networks import Family
    from generators.learning import Curves, Epoch, Recipe
    from generators.symmetric.crystals import Rows


class Fitted(NamedTuple):
    """What a family's training gives: loss curves by name, and numbers on held-out crystals."""

    curves: dict[str, Curves]
    errors: dict[str, float]


class Trainable:
    """What a family adds to be trained."""

    name: ClassVar[str]

    @classmethod
    def network_of(cls, space: Space, vectors: Tensor) -> Family:
        """Make the untrained network."""
        raise NotImplementedError

    @classmethod
    def usual_recipe(cls) -> Recipe:
        """How it is trained unless told otherwise."""
        raise NotImplementedError

    @classmethod
    def train(
        cls,
        network: Family,
        training: Shown,
        held_out: Shown,
        recipe: Recipe,
        *,
        folder: Path | None,
        on_epoch: Callable[[Epoch], None] | None,
    ) -> Fitted:
        """Train the network in place."""
        raise NotImplementedError


def fit_family(
    family: type[Trainable],
    data: Dataset,
    properties: Sequence[str],
    *,
    split_by: SplitBy,
    recipe: Recipe,
    folder: Path | None,
    on_epoch: Callable[[Epoch], None] | None,
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Train a network from nothing.

    Returns
    -------
    state : dict
        The space, and under ``training`` how the model was trained.
    tensors : dict of str to Tensor
        Of the network, and the latent vectors and skeletons of the training crystals (``library``).

    Raises
    ------
    ValueError
        If nothing is left to train on or to hold out, or a property is in no crystal.
    """
    splits = data.split(split_by)
    training = rows_of(splits.training)
    known = {o.element for _, d in training for o in d.orbits}
    validation = [(e, d) for e, d in rows_of(splits.validation) if {o.element for o in d.orbits} <= known]
    if not training or not validation:
        raise ValueError(
            f"{family.name}: {data.name} leaves {len(training)} crystals for training and {len(validation)} for "
            "validation (of those elements); both need some: give more prototypes"
        )
    torch.manual_seed(derive_seed(recipe.seed, "networks") % 2**31)
    space = space_of(training, properties)
    network = family.network_of(space, element_vectors(space.elements))
    shown, held_out = shown_of(space, training), shown_of(space, validation)
    fitted = family.train(network, shown, held_out, recipe, folder=folder, on_epoch=on_epoch)
    network.eval()
    network.requires_grad_(requires_grad=False)
    with torch.no_grad():
        latent = network.encode(shown.content, shown.frame)
    place = {skeleton: i for i, skeleton in enumerate(sorted(space.skeletons))}
    tensors = {f"network.{k}": v for k, v in network.state_dict().items()}
    tensors["library.latent"] = latent
    tensors["library.skeleton"] = torch.tensor([place[row_of(d).skeleton] for _, d in training])
    told = {
        "dataset": data.name,
        "crystals": len(data),
        "split_by": split_by,
        "seed": recipe.seed,
        "sizes": {"training": len(training), "validation": len(validation), "test": len(splits.test)},
        "errors": fitted.errors,
        "recipes": {family.name: asdict(recipe)},
        "curves": {name: curves.as_dict() for name, curves in fitted.curves.items()},
        "seconds": round(sum(c.seconds for c in fitted.curves.values()), 1),
    }
    return {**space.as_dict(), "training": told}, tensors


def shown_of(space: Space, rows: Rows) -> Shown:
    """Put labelled crystals into arrays."""
    skeletons = [row_of(description).skeleton for _, description in rows]
    frame = space.frame(skeletons, [entry.properties for entry, _ in rows])
    return Shown(space.content([description for _, description in rows]), frame)
