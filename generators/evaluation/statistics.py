"""Shares and means with their uncertainty, also when samples come from several seeds.

A share k/n has the binomial standard error sqrt(p(1-p)/n) and Wilson's interval (Wilson, J. Am. Stat. Assoc. 22, 209
(1927)), which stays inside 0 to 1 and is sensible at k = 0. Samples of one seed resemble each other, so several seeds
are clusters: the variance of the seeds' shares over the binomial one is the design effect (Kish, Survey Sampling, 1965,
section 5.4), n is divided by it, and it is never taken below 1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

Z95 = 1.959963984540054
"""Two-sided 95 % of the normal distribution."""


class Share(NamedTuple):
    """A share of samples.

    Parameters
    ----------
    count, n : int
        How many of how many.
    share : float or None
        ``None`` of nothing.
    standard_error : float or None
        Half of Wilson's interval for one standard deviation: never zero, and the usual one for many samples.
    low, high : float or None
        Wilson's interval, 95 %.
    """

    count: int  # type: ignore[assignment] # tuple.count is not needed here
    n: int
    share: float | None
    standard_error: float | None
    low: float | None
    high: float | None


class Mean(NamedTuple):
    """A mean of numbers.

    Parameters
    ----------
    n : int
    mean, standard_error, median : float or None
        The standard error is the standard deviation over sqrt(n); ``None`` for fewer than two.
    """

    n: int
    mean: float | None
    standard_error: float | None
    median: float | None


def wilson(count: float, n: float, z: float = Z95) -> tuple[float, float]:
    """Give Wilson's score interval of a share (equation 4 of the paper, solved for p).

    Parameters
    ----------
    count, n : float
        Successes and trials; need not be whole numbers (effective sizes).
    z : float
        Quantile of the normal distribution.

    Examples
    --------
    >>> tuple(round(bound, 4) for bound in wilson(0, 10))
    (0.0, 0.2775)
    """
    if n <= 0 or not 0 <= count <= n:
        raise ValueError(f"{count:g} of {n:g} is no share: n must be above 0 and the count between 0 and n")
    p = count / n
    middle, half = (p + z * z / (2 * n)) / (1 + z * z / n), _half(p, n, z)
    return max(0.0, min(p, middle - half)), min(1.0, max(p, middle + half))


def _half(p: float, n: float, z: float) -> float:
    return z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))


def share(clusters: Sequence[tuple[int, int]]) -> Share:
    """Estimate a share from the counts of each seed.

    Parameters
    ----------
    clusters : sequence of (int, int)
        For each seed: how many, of how many.
    """
    count, n = sum(k for k, _ in clusters), sum(size for _, size in clusters)
    if n == 0:
        return Share(0, 0, None, None, None, None)
    p = count / n
    effect = design_effect(clusters)
    low, high = wilson(count / effect, n / effect)
    return Share(count, n, p, _half(p, n / effect, 1.0), low, high)


def design_effect(clusters: Sequence[tuple[int, int]]) -> float:
    """Give how many times the variance of a share exceeds the binomial one, at least 1.

    The variance is that of a ratio estimator over clusters (Cochran, Sampling Techniques, 1977, equation 11.30):
    ``m / (m - 1) * sum((k_i - p n_i)^2) / n^2`` for m seeds.
    """
    filled = [(k, size) for k, size in clusters if size]
    m, n = len(filled), sum(size for _, size in filled)
    if m < 2:
        return 1.0
    p = sum(k for k, _ in filled) / n
    binomial = p * (1 - p) / n
    if binomial == 0:
        return 1.0
    between = m / (m - 1) * sum((k - p * size) ** 2 for k, size in filled) / n**2
    return float(min(n, max(1.0, between / binomial)))


def mean(values: Sequence[float]) -> Mean:
    """Give mean, standard error and median; not-finite values are an error of the caller."""
    n = len(values)
    if n == 0:
        return Mean(0, None, None, None)
    ordered = sorted(values)
    median = (ordered[(n - 1) // 2] + ordered[n // 2]) / 2
    average = math.fsum(values) / n
    if n == 1:
        return Mean(1, average, None, median)
    variance = math.fsum((v - average) ** 2 for v in values) / (n - 1)
    return Mean(n, average, math.sqrt(variance / n), median)
