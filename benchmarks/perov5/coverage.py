"""Coverage, diversity of sets, and distances of distributions, as CDVAE counts them."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

STRUCTURE_CUTOFF, COMPOSITION_CUTOFF = 0.2, 4.0
"""For Perov-5: ``scripts/compute_metrics.py`` line 35."""


class Fingerprint(NamedTuple):
    """Of one crystal: CrystalNN's, mean over sites; and magpie's of the composition. None where there is none."""

    structure: Sequence[float] | None
    composition: Sequence[float] | None


class Coverage(NamedTuple):
    """Shares of the reference that samples cover and of the samples that the reference covers; mean distances."""

    recall: float
    precision: float
    structure_recall_distance: float
    structure_precision_distance: float
    composition_recall_distance: float
    composition_precision_distance: float


def scaled(compositions: Sequence[Sequence[float]]) -> Floats:
    """Standardise composition fingerprints with CDVAE's means and deviations; NaN becomes 0.

    ``cdvae/common/data_utils.py`` lines 804 to 815 there.
    """
    scaler = json.loads(files("benchmarks.perov5").joinpath("scaler.json").read_text())
    with np.errstate(invalid="ignore"):
        values = (np.asarray(compositions, float) - np.array(scaler["means"])) / np.array(scaler["stds"])
    return np.where(np.isnan(values), 0.0, values)


def coverage(samples: Sequence[Fingerprint], reference: Sequence[Fingerprint]) -> Coverage:
    """Compare two sets of fingerprints (``eval_utils.py`` lines 230 to 280).

    Parameters
    ----------
    samples : sequence of Fingerprint
        All that were generated: one without fingerprints counts as not covered.
    reference : sequence of Fingerprint
        One without is left out.

    Raises
    ------
    ValueError
        If nothing is left of one of them.
    """
    ours = [s for s in samples if s.structure is not None and s.composition is not None]
    theirs = [r for r in reference if r.structure is not None and r.composition is not None]
    if not ours or not theirs:
        raise ValueError(
            f"{len(ours)} samples and {len(theirs)} reference crystals have fingerprints: nothing to compare"
        )
    structures = cdist(_stacked(s.structure for s in ours), _stacked(r.structure for r in theirs))
    compositions = cdist(scaled([s.composition or () for s in ours]), scaled([r.composition or () for r in theirs]))
    # As there, the nearest in structure and the nearest in composition may be two different crystals.
    recalled = (structures.min(axis=0) <= STRUCTURE_CUTOFF) & (compositions.min(axis=0) <= COMPOSITION_CUTOFF)
    precise = (structures.min(axis=1) <= STRUCTURE_CUTOFF) & (compositions.min(axis=1) <= COMPOSITION_CUTOFF)
    return Coverage(
        recall=float(recalled.mean()),
        precision=float(precise.sum() / len(samples)),
        structure_recall_distance=float(structures.min(axis=0).mean()),
        structure_precision_distance=float(structures.min(axis=1).mean()),
        composition_recall_distance=float(compositions.min(axis=0).mean()),
        composition_precision_distance=float(compositions.min(axis=1).mean()),
    )


def distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Give the Wasserstein distance of two samples, in their unit (``compute_metrics.py`` lines 175 to 203)."""
    return float(wasserstein_distance(np.asarray(a, float), np.asarray(b, float)))


def _stacked(rows: object) -> Floats:
    return np.array(list(rows), float)  # type: ignore[call-overload,no-any-return]
