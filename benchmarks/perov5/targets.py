"""Property targets: a window is asked for, the surrogate says what came; beside it what comes when nothing is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.perov5.crystals import condition_of, window
from benchmarks.perov5.generation import retargeted, sampled
from generators.base import derive_seed
from generators.data.dataset import PROPERTY_UNITS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymatgen.core import Structure

    from benchmarks.perov5.surrogate import Surrogate
    from generators.base import Generator
    from generators.data.dataset import Dataset

QUANTILES = {"heat_of_formation": (0.1, 0.3, 0.5, 0.7, 0.9), "band_gap": (0.25, 0.5, 0.75)}
"""Of the training crystals' values (gaps: of those above zero) that targets are put at."""
HALF_WIDTH = {"heat_of_formation": 0.1, "band_gap": 0.5}
"""Half of a window, eV/atom and eV."""
BEST_OF = 16


def centres(training: Dataset, name: str) -> list[float]:
    """Give the values that are asked for; none if no training crystal has the property."""
    values = [e.properties[name] for e in training.entries if name in e.properties]
    if name == "band_gap":
        values = [value for value in values if value > 0]
    return [round(float(np.quantile(values, q)), 3) for q in QUANTILES[name]] if values else []


def met(predicted: np.ndarray, centre: float, half: float) -> dict[str, float | None]:
    """Measure how near samples come to a target, by the surrogate's predictions; NaN counts as missed.

    Returns
    -------
    dict
        ``mae`` (of those with a prediction; None if there are none), ``hit`` (share of all inside the window),
        ``predicted`` (share of all).
    """
    good = predicted[np.isfinite(predicted)]
    return {
        "mae": round(float(np.abs(good - centre).mean()), 4) if len(good) else None,
        "hit": round(float((np.abs(good - centre) <= half).sum() / len(predicted)), 4),
        "predicted": round(len(good) / len(predicted), 4),
    }


def targeted(
    name: str,
    generator: Generator,
    free: Sequence[Structure],
    training: Dataset,
    surrogate: Surrogate,
    folder: Path,
    n: int,
    seed: int,
) -> dict[str, Any]:
    """Ask a generator for each target of each property and measure what comes.

    Parameters
    ----------
    name : str
    generator : Generator
    free : sequence of pymatgen.core.Structure
        Samples of the same generator that nothing was asked of.
    training : Dataset
    surrogate : Surrogate
        Has learned the properties.
    folder : pathlib.Path
        Keeps the samples; ``folder / "model"`` the trained model, if there is one.
    n : int
        Samples a target.
    seed : int

    Returns
    -------
    dict
        For each property ``unit``, ``half_width``, ``conditions_on``, and ``targets``: for each ``asked`` the measures
        (:func:`met`) of ``free``, ``conditioned`` and, where the generator can do so, ``best_of_16``; and their means.
    """
    best = retargeted(name, folder, BEST_OF)
    found: dict[str, Any] = {}
    for property_name, half in HALF_WIDTH.items():
        rows = []
        unasked = surrogate.predict(property_name, list(free))
        for centre in centres(training, property_name):
            condition = condition_of(training, {property_name: window(property_name, centre, half)})
            row: dict[str, Any] = {"asked": centre, "free": met(unasked, centre, half)}
            ways = {"conditioned": generator if property_name in generator.conditions_on else None, "best_of_16": best}
            for way, one in ways.items():
                if one is None:
                    continue
                own = derive_seed(seed, property_name, way, str(centre))
                path = folder / "targets" / f"{property_name}-{centre:g}-{way}.jsonl"
                row[way] = met(surrogate.predict(property_name, sampled(one, n, condition, own, path)), centre, half)
            rows.append(row)
        found[property_name] = {
            "unit": PROPERTY_UNITS[property_name],
            "half_width": half,
            "conditions_on": property_name in generator.conditions_on,
            "targets": rows,
            "mean": {way: _mean_of(rows, way) for way in ("free", "conditioned", "best_of_16")},
        }
    return found


def _mean_of(rows: Sequence[dict[str, Any]], way: str) -> dict[str, float | None] | None:
    present = [row[way] for row in rows if way in row]
    if not present:
        return None
    off = [row["mae"] for row in present if row["mae"] is not None]
    return {
        "mae": round(float(np.mean(off)), 4) if off else None,
        "hit": round(float(np.mean([row["hit"] for row in present])), 4),
    }
