"""Training: a data set's training part, judged by fixed noise on its validation part; its test part is left alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from generators.base import derive_seed
from generators.diffusion.conditions import Compositions, PropertyScale
from generators.diffusion.graph import Crystals
from generators.diffusion.model import Model, make_network
from generators.diffusion.network import Network, Shape
from generators.diffusion.objective import Noisy, corrupt, losses
from generators.learning import Curves, Epoch, Recipe, train

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from generators.data.dataset import Dataset, SplitBy

REPLAY, HELD = 256, 96
"""Rows of training and validation part that a checkpoint keeps for updates."""
VALIDATION_BATCH, VALIDATION_ROWS, VALIDATION_DRAWS = 64, 256, 4
"""Crystals a validation batch, most of them in all, and draws of noise for each: fewer make the best epoch a matter of
luck."""


@dataclass(frozen=True)
class Training:
    """Options of ``fit``.

    Parameters
    ----------
    epochs, batch_size, learning_rate, seed, patience
        See :class:`generators.learning.Recipe`.
    split_by : {"prototype", "chemistry"}
        What training, validation and test part don't share.
    properties : tuple of str
        To condition on.
    width, layers : int
        Of the network.
    folder : pathlib.Path, optional
        Where a training that was killed goes on from.
    on_epoch : callable, optional
    """

    epochs: int = 300
    batch_size: int = 64
    learning_rate: float = 1e-3
    seed: int = 0
    patience: int = 100
    split_by: SplitBy = "prototype"
    properties: tuple[str, ...] = ("formation_energy", "bulk_modulus")
    width: int = 128
    layers: int = 4
    folder: Path | None = None
    on_epoch: Callable[[Epoch], None] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, options: dict[str, Any]) -> Training:
        """Read options; one that is None is left to its default, as other generators take it.

        Raises
        ------
        ValueError
            If one is unknown.
        """
        known = {f.name for f in fields(cls)}
        if unknown := sorted(set(options) - known):
            raise ValueError(f"diffusion: fit has no option {', '.join(unknown)}; it has {', '.join(sorted(known))}")
        return cls(**{name: value for name, value in options.items() if value is not None})


def fit(dataset: Dataset, options: Training) -> tuple[Model, Curves, dict[str, float]]:
    """Train a model.

    Returns
    -------
    model : Model
    curves : Curves
    metrics : dict of str to float

    Raises
    ------
    ValueError
        If the training part is empty, or too few crystals have a property.
    """
    training, validation, test = dataset.split(options.split_by)
    if not len(training):
        raise ValueError(f"diffusion: the training part of {dataset.name!r} ({len(dataset)} crystals) is empty")
    scales = tuple(
        PropertyScale.of(name, [e.properties[name] for e in training.entries if name in e.properties])
        for name in options.properties
    )
    rows = _crystals(training, scales)
    # A handful of crystals may leave no relatives for a validation part: the training rows' own fixed noise serves.
    held = _crystals(validation, scales) if len(validation) else rows
    network = make_network(Shape(options.width, options.layers, len(scales)), options.seed)
    set_scale(network, rows)
    judged = fixed_noise(network, held.take(_spread(len(held), VALIDATION_ROWS)), VALIDATION_DRAWS)

    def loss(indices: np.ndarray[Any, np.dtype[np.int64]], rng: np.random.Generator) -> Tensor:
        noisy = corrupt(network, rows.take(indices), rng)
        return losses(noisy.predict(network), noisy).mean()

    recipe = Recipe(
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        patience=options.patience,
        seed=options.seed,
    )
    curves = train(
        network,
        loss,
        lambda: mean_loss(network, judged),
        len(rows),
        recipe,
        folder=options.folder,
        on_epoch=options.on_epoch,
    )
    with torch.no_grad():
        final = mean_loss(network, judged)
    sizes = {"training": len(training), "validation": len(validation), "test": len(test)}
    model = Model(
        network=network.eval().requires_grad_(requires_grad=False),
        scales=scales,
        elements=training.elements(),
        compositions=Compositions.of(list(training)),
        replay=rows.take(_spread(len(rows), REPLAY)),
        held=held.take(_spread(len(held), HELD)),
        card={
            "dataset": dataset.name,
            "sizes": sizes,
            "split_by": options.split_by,
            "recipe": asdict(recipe),
            "curves": curves.as_dict(),
        },
    )
    parameters = sum(p.numel() for p in network.parameters())
    metrics = {
        "validation_loss": final,
        "best_epoch": float(curves.best),
        "epochs": float(len(curves.epochs)),
        "parameters": float(parameters),
        **{f"n_{name}": float(size) for name, size in sizes.items()},
    }
    return model, curves, metrics


def set_scale(network: Network, crystals: Crystals) -> None:
    """Measure the mean volume an atom, and mean and deviation of the six numbers of the lattice."""
    volumes = crystals.logarithm[:, :3].sum(1).exp() / crystals.counts
    network.volume.fill_(float(volumes.mean()))
    shapes = network.encode(crystals.logarithm, crystals.counts)
    network.lattice_mean.copy_(shapes.mean(0))
    # One crystal, or cubic ones only, have no spread: any scale of order a tenth serves.
    network.lattice_std.copy_(shapes.std(0, unbiased=False).clamp_min(0.05))


def fixed_noise(network: Network, crystals: Crystals, draws: int = 1) -> list[Noisy]:
    """Make noisy batches that are the same at every call; properties stay."""
    batches = []
    for number in range(draws):
        for first in range(0, len(crystals), VALIDATION_BATCH):
            rng = np.random.default_rng(derive_seed("diffusion fixed noise", number, first))
            rows = np.arange(first, min(first + VALIDATION_BATCH, len(crystals)))
            batches.append(corrupt(network, crystals.take(rows), rng, drop=False))
    return batches


def mean_loss(network: Network, batches: Sequence[Noisy]) -> float:
    """Average the loss over the crystals of noisy batches."""
    values = torch.cat([losses(noisy.predict(network), noisy) for noisy in batches])
    return float(values.double().mean())


def _crystals(dataset: Dataset, scales: Sequence[PropertyScale]) -> Crystals:
    return Crystals.of(
        dataset,
        [[scale.standardised(entry.properties.get(scale.name)) for scale in scales] for entry in dataset.entries],
    )


def _spread(n: int, most: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Pick at most ``most`` rows, evenly: a data set's order groups prototypes."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(np.int64))
