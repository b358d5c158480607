"""What verdicts say about a forecast: how far off it is as a whole, and where.

Gaussian-process regression (C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, MIT Press
2006, algorithm 2.1) of the residual, with three terms. A constant and a slope on the forecast itself take up that what
was chosen for a good forecast is on average worse than that (the winner's curse): without them every row that no lesson
is near keeps its optimism, and the choice runs from one disappointment to the next. A squared exponential over the
rows' features takes up the rest. Lengths, amplitude and noise are chosen by evidence from a small grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from generators.surrogate import Prediction, correlation

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

LENGTHS = (1.0, 2.0, 4.0, 8.0)
"""As :func:`generators.surrogate.correlation` measures them."""
AMPLITUDES = (0.5, 1.0, 2.0)
"""Of the local term, in units of the scale."""
NOISES = (0.25, 0.5, 0.8)
"""In units of the scale: scatter that no feature explains, above all that of the drawn geometry."""
SLOPE_STD = 0.5
"""Standard deviation of the slope's deviation from one."""
MOST = 1000
"""At most so many lessons are used, the last ones given."""


@dataclass(frozen=True)
class Correction:
    """A fitted correction.

    Parameters
    ----------
    scale : float
        How far off forecasts are: standard deviation of the constant, and of the local term at amplitude 1.
    features : ndarray, shape (n, d)
    forecast, residual : ndarray, shape (n,)
        Of the lessons; the residual is measured minus forecast.
    length, amplitude, noise : float
    """

    scale: float
    features: Floats
    forecast: Floats
    residual: Floats
    length: float
    amplitude: float
    noise: float

    @classmethod
    def fit(cls, scale: float, features: Floats, forecast: Floats, measured: Floats) -> Correction:
        """Learn from at least one lesson."""
        x, f, r = features[-MOST:], forecast[-MOST:], (measured - forecast)[-MOST:]
        best: tuple[float, Correction] | None = None
        for length, amplitude, noise in product(LENGTHS, AMPLITUDES, NOISES):
            tried = cls(scale, x, f, r, length, amplitude, noise * scale)
            evidence = tried._log_evidence()
            if best is None or evidence > best[0] + 1e-9:
                best = evidence, tried
        assert best is not None  # noqa: S101 - the grid is not empty
        return best[1]

    def predict(self, features: Floats, forecast: Floats) -> Prediction:
        """Expect the residuals of other rows; the standard deviation includes the noise."""
        factor = cho_factor(self._noisy(), lower=True)
        cross = self._covariance(features, forecast, self.features, self.forecast)
        variance = self.scale**2 * (1 + self.amplitude**2) + (SLOPE_STD * forecast) ** 2
        explained = np.einsum("mn,nm->m", cross, cho_solve(factor, cross.T))
        std = np.sqrt(np.maximum(variance - explained, 0.0) + self.noise**2)
        return Prediction(cross @ cho_solve(factor, self.residual), std)

    def _covariance(self, x: Floats, f: Floats, other_x: Floats, other_f: Floats) -> Floats:
        local = (self.amplitude * self.scale) ** 2 * correlation(x, other_x, self.length)
        covariance: Floats = local + self.scale**2 + SLOPE_STD**2 * np.outer(f, other_f)
        return covariance

    def _noisy(self) -> Floats:
        own = self._covariance(self.features, self.forecast, self.features, self.forecast)
        noisy: Floats = own + self.noise**2 * np.eye(len(own))
        return noisy

    def _log_evidence(self) -> float:
        """Log marginal likelihood (Rasmussen and Williams, equation 2.30), without its constant."""
        lower, _ = factor = cho_factor(self._noisy(), lower=True)
        fit = -0.5 * float(self.residual @ cho_solve(factor, self.residual))
        return fit - float(np.log(np.diag(lower)).sum())
