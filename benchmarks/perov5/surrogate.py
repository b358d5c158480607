"""A judge of properties: gradient boosting on composition and site features, trained on crystals of its own.

Perov-5 holds most compositions twice, with the two cations exchanged, and their heats of formation differ by an
eV/atom: composition and averaged geometry alone can't tell them apart. So each element property is averaged with the
weights that a site's CrystalNN fingerprint gives it: "the electronegativity of what is twelvefold coordinated".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

import numpy as np

from generators.crystals.elements import element_features

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pymatgen.core import Structure

    from benchmarks.perov5.environment import Fingerprints
    from generators.data.dataset import Dataset

    Floats = NDArray[np.float64]

ELEMENT_COLUMNS = 8
"""Of element_features: electronegativity, two radii, period, group, valence electrons, Mendeleev number, volume."""


class Surrogate:
    """Predicts properties of crystals that have fingerprints.

    Parameters
    ----------
    fingerprints : Fingerprints
    seed : int
    """

    def __init__(self, fingerprints: Fingerprints, seed: int = 0) -> None:
        self._fingerprints = fingerprints
        self._seed = seed
        self._models: dict[str, Any] = {}
        self._columns: NDArray[np.bool_] | None = None

    def fit(self, dataset: Dataset, properties: Sequence[str]) -> None:
        """Train on crystals that have the property and fingerprints."""
        features = self._features(list(dataset))
        whole = np.isfinite(features[:, -1])
        self._columns = np.nanstd(features[whole], axis=0) > 1e-9
        for name in properties:
            values = np.array([e.properties.get(name, np.nan) for e in dataset.entries])
            rows = whole & np.isfinite(values)
            if rows.sum() < 2:
                raise ValueError(f"only {rows.sum()} crystals of {dataset.name} have {name} and fingerprints")
            self._models[name] = _Hurdle(self._seed).fit(features[rows][:, self._columns], values[rows])

    def predict(self, name: str, structures: Sequence[Structure]) -> Floats:
        """Predict a property, shape (n,); NaN where a crystal has no fingerprint."""
        if not structures:
            return np.empty(0)
        features = self._features(structures)
        whole = np.isfinite(features[:, -1])
        found = np.full(len(features), np.nan)
        if whole.any():
            found[whole] = self._models[name].predict(features[whole][:, self._columns])
        return found

    def errors(self, dataset: Dataset, properties: Sequence[str]) -> dict[str, dict[str, float | None]]:
        """Give mean absolute errors on crystals that it did not see, beside those of guessing the median.

        Returns
        -------
        dict
            For each property ``mae``, ``mae_of_the_median``, ``crystals``, and for those whose value is above zero
            ``mae_above_zero`` and ``above_zero``: a gap is zero for most.
        """
        found = {}
        for name in properties:
            entries = [e for e in dataset.entries if name in e.properties]
            values = np.array([e.properties[name] for e in entries])
            predicted = self.predict(name, [e.structure for e in entries])
            good = np.isfinite(predicted)
            off = np.abs(predicted - values)
            above = good & (values > 0)
            found[name] = {
                "mae": _mean(off[good]),
                "mae_of_the_median": _mean(np.abs(values - np.median(values)) if len(values) else values),
                "crystals": int(good.sum()),
                "mae_above_zero": _mean(off[above]),
                "above_zero": int(above.sum()),
            }
        return found

    def _features(self, structures: Sequence[Structure]) -> Floats:
        rows = self._fingerprints.of(structures)
        return np.array([features_of(s, row) for s, row in zip(structures, rows, strict=True)])


class _Hurdle:
    """Boosted trees; where most values are zero, one model says whether it is zero and another how large it is.

    Least squares alone would spread the few gaps thinly over all crystals.
    """

    FEW = 8

    def __init__(self, seed: int) -> None:
        self._options = {
            "max_iter": 400, "learning_rate": 0.05, "max_leaf_nodes": 15, "l2_regularization": 1.0,
            "max_features": 0.3, "random_state": seed,
        }  # fmt: skip
        self._gate: Any = None
        self._size: Any = None

    def fit(self, features: Floats, values: Floats) -> Self:
        """Train; the gate is left out where zeros are few, or too few values are above it."""
        from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

        above = values > 0
        self._size = HistGradientBoostingRegressor(**self._options)
        if (values == 0).mean() > 0.5 and above.sum() >= self.FEW:
            self._gate = HistGradientBoostingClassifier(**self._options).fit(features, above)
            self._size.set_params(min_samples_leaf=min(20, int(above.sum()) // 4))
            self._size.fit(features[above], values[above])
        else:
            self._size.fit(features, values)
        return self

    def predict(self, features: Floats) -> Floats:
        """Predict, shape (n,)."""
        size: Floats = self._size.predict(features)
        return size if self._gate is None else np.where(self._gate.predict(features), size, 0.0)


def features_of(structure: Structure, row: dict[str, Any]) -> Floats:
    """Describe a crystal: magpie's composition features, geometry, and element properties weighted by geometry.

    Parameters
    ----------
    structure : pymatgen.core.Structure
    row : dict
        As a fingerprint worker gives it.

    Returns
    -------
    ndarray
        The last column is the volume an atom in Å³; NaN if the crystal has no fingerprint.
    """
    n_sites, n_composition = 61, 132
    if row["sites"] is None:
        return np.full(n_composition + n_sites * (1 + ELEMENT_COLUMNS) + 1, np.nan)
    composition = np.array([np.nan if x is None else x for x in row["composition"]])
    sites = np.array(row["sites"])
    elements = element_features()[[site.specie.Z for site in structure], :ELEMENT_COLUMNS].astype(float)
    weighted = sites.T @ elements / len(structure)
    return np.concatenate([composition, sites.mean(axis=0), weighted.ravel(), [structure.volume / len(structure)]])


def _mean(values: Floats) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None
