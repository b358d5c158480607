"""A small surrogate with uncertainty: what a verification will probably find, learned from earlier verdicts.

Gaussian-process regression (C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, MIT Press
2006, algorithm 2.1) on a dozen descriptors of composition and structure, with a prior mean from physics. It works with
no data at all, where it answers with its prior, and everything in it is deterministic: a grid instead of a search for
the hyperparameters, fixed scales for the descriptors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pymatgen.core import Element

if TYPE_CHECKING:
    import numpy.typing as npt
    from pymatgen.core import Structure

    Floats = npt.NDArray[np.float64]

DESCRIPTORS: tuple[tuple[str, float, float], ...] = (
    ("ln_volume_per_atom", 2.7, 0.5),
    ("ln_packing", -0.4, 0.4),
    ("electronegativity_mean", 2.2, 0.5),
    ("electronegativity_std", 0.6, 0.4),
    ("radius_mean", 1.2, 0.35),
    ("radius_std", 0.35, 0.25),
    ("row_mean", 3.0, 1.0),
    ("row_std", 0.6, 0.5),
    ("mendeleev_mean", 70.0, 20.0),
    ("mendeleev_std", 20.0, 12.0),
    ("valence_mean", 4.5, 1.5),
    ("mixing_entropy", 0.75, 0.25),
)
"""Name, centre and scale of each descriptor: round numbers typical of inorganic crystals with 2 to 4 elements."""


def describe(structure: Structure) -> Floats:
    """Describe a crystal by numbers of order one.

    Parameters
    ----------
    structure : pymatgen.core.Structure
        Ordered.

    Returns
    -------
    ndarray, shape (len(DESCRIPTORS),)
        Centred and scaled as :data:`DESCRIPTORS` says. Radii in Å (atomic; 1.5 where pymatgen has none), volumes in Å³,
        electronegativity after Pauling (0 where there is none), packing is the volume of atomic spheres over the cell.
    """
    amounts = structure.composition.fractional_composition
    elements = sorted(amounts.elements, key=lambda e: str(e.symbol))
    weights = np.array([amounts[e] for e in elements])
    plain = [Element(e.symbol) for e in elements]
    volume = structure.volume / len(structure)
    # Noble gases have no electronegativity (pymatgen: NaN), and some heavy elements no radius.
    electronegativity = np.array([0.0 if math.isnan(e.X) else e.X for e in plain])
    radius = np.array([float(e.atomic_radius or 1.5) for e in plain])
    row = np.array([float(e.row) for e in plain])
    mendeleev = np.array([float(e.mendeleev_no) for e in plain])
    valence = np.array([float(e.group if e.group <= 12 else e.group - 10) for e in plain])

    def mean(x: Floats) -> float:
        return float(weights @ x)

    def std(x: Floats) -> float:
        return math.sqrt(max(float(weights @ (x - weights @ x) ** 2), 0.0))

    raw = [
        math.log(volume),
        math.log(mean(4 / 3 * math.pi * radius**3) / volume),
        mean(electronegativity),
        std(electronegativity),
        mean(radius),
        std(radius),
        mean(row),
        std(row),
        mean(mendeleev),
        std(mendeleev),
        mean(valence),
        -float(weights @ np.log(weights)),
    ]
    centre, scale = np.array([[c, s] for _, c, s in DESCRIPTORS]).T
    described: Floats = (np.array(raw) - centre) / scale
    return described


class Prediction(NamedTuple):
    """Means and standard deviations, each of shape (m,), in the units of the labels that were fitted."""

    mean: Floats
    std: Floats


@dataclass(frozen=True)
class Surrogate:
    """Gaussian process over descriptors around a prior mean that the caller supplies.

    Parameters
    ----------
    prior_std : float
        Standard deviation before any data, in the units of the labels.
    noise_std : float
        Scatter that no descriptor explains, in the units of the labels.
    length_grid : tuple of float
        Correlation lengths to choose from, in descriptor units; the middle one serves without data.
    max_training : int
        At most this many labels are used, the last ones given.
    """

    prior_std: float
    noise_std: float
    length_grid: tuple[float, ...] = (1.0, 2.0, 4.0, 8.0)
    max_training: int = 1000
    _x: Floats = field(default_factory=lambda: np.empty((0, len(DESCRIPTORS))), repr=False)
    _residual: Floats = field(default_factory=lambda: np.empty(0), repr=False)
    _length: float = 2.0
    _amplitude: float = 1.0

    def fit(self, features: Floats, labels: Floats, prior_mean: Floats) -> Surrogate:
        """Learn from labels; gives a new surrogate.

        Parameters
        ----------
        features : ndarray, shape (n, d)
            From :func:`describe`.
        labels, prior_mean : ndarray, shape (n,)
            What was measured, and what the prior says of the same crystals.

        Returns
        -------
        Surrogate

        Raises
        ------
        ValueError
            If shapes disagree or something is not finite.
        """
        x, y = np.asarray(features, float)[-self.max_training :], np.asarray(labels - prior_mean)[-self.max_training :]
        if x.ndim != 2 or y.shape != x.shape[:1]:
            raise ValueError(f"features {x.shape} and labels {y.shape} do not belong together")
        if not (np.isfinite(x).all() and np.isfinite(y).all()):
            raise ValueError("features and labels must be finite")
        if len(y) == 0:
            return self
        best, choice = -math.inf, (self._length, self._amplitude)
        for length in self.length_grid:
            for amplitude in (0.5, 1.0, 2.0):
                evidence = self._log_evidence(x, y, length, amplitude)
                if evidence > best + 1e-9:
                    best, choice = evidence, (length, amplitude)
        return Surrogate(
            self.prior_std, self.noise_std, self.length_grid, self.max_training, x, y, choice[0], choice[1]
        )

    def predict(self, features: Floats, prior_mean: Floats) -> Prediction:
        """Predict labels of crystals.

        Parameters
        ----------
        features : ndarray, shape (m, d)
        prior_mean : ndarray, shape (m,)

        Returns
        -------
        Prediction
            The standard deviation includes the noise: it is that of a measurement, not of its expectation.
        """
        variance = (self._amplitude * self.prior_std) ** 2
        m = len(features)
        if len(self._residual) == 0:
            return Prediction(np.array(prior_mean, float), np.full(m, math.hypot(self.prior_std, self.noise_std)))
        kernel = self._kernel(self._x, self._length, self._amplitude)
        cross = variance * correlation(features, self._x, self._length)
        solved = np.linalg.solve(kernel, np.column_stack([self._residual, cross.T]))
        explained = np.einsum("mn,nm->m", cross, solved[:, 1:])
        std = np.sqrt(np.maximum(variance - explained, 0.0) + self.noise_std**2)
        return Prediction(prior_mean + cross @ solved[:, 0], std)

    def _kernel(self, x: Floats, length: float, amplitude: float) -> Floats:
        covariance: Floats = (amplitude * self.prior_std) ** 2 * correlation(x, x, length)
        return covariance + self.noise_std**2 * np.eye(len(x))

    def _log_evidence(self, x: Floats, y: Floats, length: float, amplitude: float) -> float:
        """Log marginal likelihood (Rasmussen and Williams, equation 2.30), and a prior of one nat for each factor 2."""
        kernel = self._kernel(x, length, amplitude)
        sign, log_det = np.linalg.slogdet(kernel)
        if sign <= 0:
            return -math.inf
        fit = -0.5 * float(y @ np.linalg.solve(kernel, y)) - 0.5 * float(log_det)
        return fit - abs(math.log2(length / 2.0)) - abs(math.log2(amplitude))


def correlation(a: Floats, b: Floats, length: float) -> Floats:
    """Squared-exponential correlation of two sets of crystals.

    Parameters
    ----------
    a, b : ndarray, shapes (n, d) and (m, d)
    length : float
        In descriptor units; distances are root mean squares over descriptors times two, so that crystals of different
        families are a few units apart.

    Returns
    -------
    ndarray, shape (n, m)
    """
    squared = ((a[:, None, :] - b[None, :, :]) ** 2).mean(axis=2) * 4.0
    correlated: Floats = np.exp(-0.5 * squared / length**2)
    return correlated
