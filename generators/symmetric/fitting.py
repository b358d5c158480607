"""Train the networks of a symmetric model on a data set."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from generators.base import derive_seed
from generators.learning import Curves, Recipe, train
from generators.symmetric.arena import judge
from generators.symmetric.assignments import row_of
from generators.symmetric.crystals import evidence_of, rows_of, species_of
from generators.symmetric.examples import Examples, Looker, scaled
from generators.symmetric.forecast import ForecastNetwork, Packed, Scale
from generators.symmetric.geometry import GeometryNetwork, negative_log_likelihood
from generators.symmetric.model import ENERGY, Model, weigh_skeletons
from generators.symmetric.skeletons import LetterNetwork, Steps, steps_of
from generators.symmetric.tables import MAX_ORBITS, tabulate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from generators.data.dataset import Dataset, Entry, SplitBy
    from generators.learning import Epoch
    from generators.symmetric.crystals import Rows

MEMBERS = 3
"""Forecast networks in the ensemble."""
DISTURBED, DRAWN = 3, 3
"""Copies of each crystal that forecasts are trained on: disturbed ones, and drawn by the geometry network."""
HUBER = 1.0


@dataclass(frozen=True)
class Recipes:
    """How each part is trained."""

    letters: Recipe
    geometry: Recipe
    forecast: Recipe

    @classmethod
    def usual(cls) -> Recipes:
        """Give what the shipped model was trained with."""
        return cls(
            letters=Recipe(epochs=60, batch_size=128, learning_rate=3e-3, patience=10),
            geometry=Recipe(epochs=90, batch_size=64, learning_rate=1.5e-3, patience=20, weight_decay=1e-3),
            forecast=Recipe(epochs=70, batch_size=64, learning_rate=2e-3, patience=20, weight_decay=1e-3),
        )

    def with_options(
        self, epochs: int | None, batch_size: int | None, learning_rate: float | None, seed: int
    ) -> Recipes:
        """Change what is given; the letters' own recipe keeps its epochs."""
        return Recipes(
            self.letters.changed(None, batch_size, learning_rate, seed),
            self.geometry.changed(epochs, batch_size, learning_rate, seed),
            self.forecast.changed(epochs, batch_size, learning_rate, seed),
        )


@dataclass(frozen=True)
class Trained:
    """A model with the story of its training."""

    model: Model
    curves: dict[str, Curves]
    sizes: dict[str, int]
    errors: dict[str, float]


def fit_model(
    dataset: Dataset,
    *,
    properties: Sequence[str],
    split_by: SplitBy,
    recipes: Recipes,
    seed: int,
    folder: Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
) -> Trained:
    """Train letters, geometry and forecasts.

    Parameters
    ----------
    dataset : Dataset
        Its test part is shown to no network.
    properties : sequence of str
        To forecast; the formation energy is what hulls are made of.
    split_by : {"prototype", "chemistry"}
    recipes : Recipes
    seed : int
    folder : pathlib.Path, optional
        Each part keeps its standing in a folder below, and goes on from it.
    on_epoch : callable, optional

    Raises
    ------
    ValueError
        If nothing is left to train on, or a property is in no crystal.
    """
    torch.manual_seed(derive_seed(seed, "networks") % 2**31)
    splits = dataset.split(split_by)
    training, validation = rows_of(splits.training), rows_of(splits.validation)
    if not training or not validation:
        raise ValueError(
            f"symmetric: {dataset.name} leaves {len(training)} crystals of at most {MAX_ORBITS} orbits for training "
            f"and {len(validation)} for validation; both need some: give more prototypes"
        )
    curves: dict[str, Curves] = {}

    def part(name: str) -> dict[str, Any]:
        return {"folder": None if folder is None else folder / name, "on_epoch": on_epoch}

    scale, ranges = _scale(training, properties)  # before the long work: it may refuse
    letters, curves["letters"] = _fit_letters(training, validation, recipes.letters, part("letters"))
    geometry, curves["geometry"] = _fit_geometry(training, validation, recipes.geometry, part("geometry"))
    networks = []
    looked = Looker(geometry, tuple(properties), scale, seed)
    held_out, shown = looked.examples(validation, 1, 1), looked.examples(training, DISTURBED, DRAWN)
    for member in range(MEMBERS):
        recipe = replace(recipes.forecast, seed=derive_seed(seed, "member", member) % 2**20)
        torch.manual_seed(recipe.seed)
        network = ForecastNetwork(len(properties))
        curves[f"forecast-{member}"] = _fit_forecast(network, shown, held_out, recipe, part(f"forecast-{member}"))
        networks.append(network)
    for network in (letters, geometry, *networks):
        network.requires_grad_(requires_grad=False)
    evidence = evidence_of(training)
    skeletons = {skeleton: weight for skeleton, weight in evidence.items() if weight > 0}
    bare = Model(
        letters=letters,
        geometry=geometry,
        networks=tuple(networks),
        properties=tuple(properties),
        scale=scale,
        calibration=((0.0, 1.0),) * len(properties),
        ranges=ranges,
        skeletons=skeletons,
        log_skeletons=weigh_skeletons(letters, skeletons, evidence),
        species=species_of(training),
        known_rows=frozenset(row_of(d).key for _, d in (*training, *validation)),
        training_energies=_lowest([e for e, _ in training]),
        elements=splits.training.elements(),
        fingerprint="",
    )
    calibration, errors = _calibrate(bare, validation, looked)
    sizes = {"training": len(training), "validation": len(validation), "test": len(splits.test)}
    return Trained(replace(bare, calibration=calibration), curves, sizes, errors)


def _lowest(entries: Sequence[Entry]) -> tuple[tuple[dict[str, int], float], ...]:
    best: dict[str, tuple[dict[str, int], float]] = {}
    for entry in entries:
        energy = entry.properties.get(ENERGY)
        if energy is None:
            continue
        composition = entry.structure.composition.reduced_composition
        formula = composition.reduced_formula
        amounts = {str(e): int(n) for e, n in composition.get_el_amt_dict().items()}
        if formula not in best or energy < best[formula][1]:
            best[formula] = (amounts, round(energy, 6))
    return tuple(best[formula] for formula in sorted(best))


def _fit_letters(training: Rows, validation: Rows, recipe: Recipe, options: dict[str, Any]) -> tuple[Any, Curves]:
    largest = max(sum(d.counts) for _, d in (*training, *validation))
    steps, held_out = (steps_of(evidence_of(rows), largest) for rows in (training, validation))
    network = LetterNetwork()

    def loss_of(part: Steps) -> Tensor:
        log_p = network(part.group, part.options, part.present)
        picked = log_p.gather(1, part.chosen[:, None])[:, 0]
        return -(picked * part.weight).sum() / part.weight.sum()

    def loss(rows: np.ndarray, _rng: np.random.Generator) -> Tensor:
        where = torch.from_numpy(rows)
        return loss_of(Steps(*(t[where] for t in steps)))

    curves = train(network, loss, lambda: float(loss_of(held_out)), len(steps.chosen), recipe, **options)
    return network, curves


def _fit_geometry(training: Rows, validation: Rows, recipe: Recipe, options: dict[str, Any]) -> tuple[Any, Curves]:
    table, held_out = tabulate([d for _, d in training]), tabulate([d for _, d in validation])
    network = GeometryNetwork()

    def loss(rows: np.ndarray, _rng: np.random.Generator) -> Tensor:
        return negative_log_likelihood(network, table.rows(rows)).mean()

    def validate() -> float:
        return float(negative_log_likelihood(network, held_out).mean())

    return network, train(network, loss, validate, len(training), recipe, **options)


def _scale(training: Rows, properties: Sequence[str]) -> tuple[Scale, dict[str, tuple[float, float]]]:
    centres, spreads, ranges = [], [], {}
    for name in properties:
        values = [e.properties[name] for e, _ in training if name in e.properties]
        if len(values) < 2:
            raise ValueError(f"symmetric: {len(values)} training crystals have {name}; at least two are needed")
        ranges[name] = (min(values), max(values))
        used = [scaled(name, value) for value in values]
        centres.append(float(np.mean(used)))
        spreads.append(max(float(np.std(used)), 1e-6))
    return Scale(tuple(centres), tuple(spreads)), ranges


def _fit_forecast(
    network: ForecastNetwork, shown: Examples, held_out: Examples, recipe: Recipe, options: dict[str, Any]
) -> Curves:
    n = len(shown.targets) // shown.looks

    def loss_of(packed: Packed, targets: Tensor) -> Tensor:
        there = torch.isfinite(targets)
        off = torch.where(there, network(packed) - torch.nan_to_num(targets), 0.0)
        huber = torch.nn.functional.huber_loss(off, torch.zeros_like(off), delta=HUBER, reduction="none")
        return huber.sum() / there.sum().clamp(min=1)

    def loss(rows: np.ndarray, rng: np.random.Generator) -> Tensor:
        where = torch.from_numpy(rows + n * rng.integers(shown.looks, size=len(rows)))
        return loss_of(shown.packed.rows(where), shown.targets[where])

    return train(network, loss, lambda: float(loss_of(held_out.packed, held_out.targets)), n, recipe, **options)


def _calibrate(
    model: Model, held_out: Rows, looked: Looker
) -> tuple[tuple[tuple[float, float], ...], dict[str, float]]:
    """Fit floor and factor of each property's spread to the errors on prototypes that were held out, drawn anew.

    Least squares of the squared errors on the squared spreads, both non-negative; gross errors are clipped at three
    times the mean, so that a few failures don't make all forecasts vague.
    """
    (drawn,) = looked.drawn(held_out, 1)
    found = judge(model, [row_of(d) for _, d in held_out], drawn).outlook
    calibration: list[tuple[float, float]] = []
    errors: dict[str, float] = {}
    for k, name in enumerate(model.properties):
        truth = np.array([scaled(name, entry.properties.get(name, math.nan)) for entry, _ in held_out])
        there = np.isfinite(truth) & np.isfinite(found.mean[:, k])
        off = np.abs(found.mean[there, k] - truth[there])
        if not there.any():
            calibration.append((model.scale.spread[k], 1.0))
            continue
        errors[f"{name}_mae"] = round(float(off.mean()), 4)
        spread = found.std[there, k]  # calibration is (0, 1) so far: the networks' own
        squares = np.minimum(off, 3 * off.mean()) ** 2
        slope = (
            max(0.0, float(np.cov(squares, spread**2)[0, 1] / max(np.var(spread**2), 1e-12))) if len(off) > 2 else 1.0
        )
        slope = min(slope, float(squares.mean() / max((spread**2).mean(), 1e-12)))
        floor = math.sqrt(max(float(squares.mean() - slope * (spread**2).mean()), (0.2 * float(off.mean())) ** 2))
        calibration.append((round(floor, 5), round(math.sqrt(slope), 5)))
    return tuple(calibration), errors
