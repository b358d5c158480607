"""Which rows are proposed: probability of a hit, by the networks' forecast and what verdicts corrected of it.

Verdicts do not move the networks: a Gaussian process learns what the networks got wrong (the residual), so a few dozen
verdicts correct a forecast near them and leave it alone far away. How far the choice may move from one update to the
next is limited in Kullback-Leibler divergence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import log_ndtr, logsumexp

from generators.crystals.symmetry import CRYSTAL_SYSTEMS, crystal_system
from generators.symmetric.arena import look
from generators.symmetric.assignments import Row
from generators.symmetric.correction import Correction
from generators.symmetric.forecast import LOGARITHMIC
from generators.symmetric.skeletons import Skeleton

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from generators.base import Bounds, Condition
    from generators.symmetric.arena import Arena
    from generators.symmetric.forecast import Forecast
    from generators.symmetric.memory import Lesson, Memory
    from generators.symmetric.model import Model

    Floats = NDArray[np.float64]

STABLE_EV_PER_ATOM = 0.1
"""Distance to the hull that counts as stable, as campaigns have it by default."""
HULL_STD_EV_PER_ATOM = 0.05
"""Uncertainty of the forecast hull itself."""
KNOWN_FACTOR = 0.01
"""Weight of a row that is a training crystal or was met as a known one: it can't be novel."""
RESIDUAL_STD_EV_PER_ATOM, RESIDUAL_STD_LOG = 0.25, 0.3
"""How far off forecasts of the distance to the hull and of logarithmic properties are taken to be."""
CROWD_POWER = 0.7
"""Power of a composition's whole weight that is taken off each of its rows: one composition has hundreds of them, and
after the first few the rest are polymorphs far above it."""
COMPONENTS = 8
"""Principal components of the networks' embedding that tell the Gaussian process which rows are alike."""
COMPOSITION_SCALE, FORECAST_SCALE, PRIOR_SCALE = 8.0, 5.0, 1 / 3
"""Weights of the mole fractions, of the forecast and its uncertainty (eV/atom), and of the skeleton's log probability
among the features by which rows are alike."""
UNUSUAL = -25.0
"""Log probability that a skeleton counts with which the model knows nothing of (of another generator)."""


class Outlook(NamedTuple):
    """What is expected of each row: distance to the hull and properties, with standard deviations.

    Parameters
    ----------
    above_hull, above_hull_std : ndarray, shape (n,)
        eV/atom.
    properties : dict of str to (ndarray, ndarray)
        Means and standard deviations, logarithms where properties are logarithmic.
    """

    above_hull: Floats
    above_hull_std: Floats
    properties: dict[str, tuple[Floats, Floats]]


@dataclass(frozen=True)
class Wishes:
    """How forecasts become weights.

    Parameters
    ----------
    sharpness : float
        Power of the probability of a hit.
    targeting : {"conditioning", "best_of_k", "off"}
        Whether property targets weigh on the choice of rows, or only choose among k rows drawn without, or not at all.
    """

    sharpness: float = 6.0
    targeting: str = "conditioning"


def outlook_of(model: Model, arena: Arena, lessons: tuple[Lesson, ...]) -> Outlook:
    """Expect what the networks forecast, corrected by lessons."""
    energy = model.energy_column
    raw_std = arena.outlook.std[:, energy] if energy is not None else np.full(len(arena.rows), np.nan)
    hull, hull_std = arena.above_hull.copy(), np.hypot(raw_std, HULL_STD_EV_PER_ATOM)
    columns = {
        name: (arena.outlook.mean[:, k].copy(), arena.outlook.std[:, k].copy())
        for k, name in enumerate(model.properties)
    }
    if not lessons:
        return Outlook(hull, hull_std, columns)
    taught = _Taught.of(model, arena, lessons)
    if taught is None:
        return Outlook(hull, hull_std, columns)
    known = [(i, one) for i, one in enumerate(taught.lessons) if one.above_hull_ev_per_atom is not None]
    if energy is not None and known:
        measured_hull = np.array([one.above_hull_ev_per_atom for _, one in known], dtype=float)
        at_least = np.array([one.at_least for _, one in known])
        expected_hull = taught.above_hull[[i for i, _ in known]]
        hull, hull_std = _corrected(
            taught,
            [i for i, _ in known],
            np.where(at_least, np.maximum(measured_hull, expected_hull), measured_hull),
            taught.above_hull,
            (hull, hull_std),
            RESIDUAL_STD_EV_PER_ATOM,
        )
    for k, name in enumerate(model.properties):
        measured = [(i, one.properties[name]) for i, one in enumerate(taught.lessons) if name in one.properties]
        if name in LOGARITHMIC:
            measured = [(i, math.log(value)) for i, value in measured if value > 0]
        if measured:
            columns[name] = _corrected(
                taught,
                [i for i, _ in measured],
                np.array([value for _, value in measured]),
                taught.mean[:, k],
                columns[name],
                RESIDUAL_STD_LOG,
            )
    return Outlook(hull, hull_std, columns)


@dataclass(frozen=True)
class _Taught:
    """Lessons placed among an arena's rows."""

    lessons: tuple[Lesson, ...]
    features: Floats
    above_hull: Floats
    mean: Floats
    of_rows: Floats

    @classmethod
    def of(cls, model: Model, arena: Arena, lessons: tuple[Lesson, ...]) -> _Taught | None:
        rows = [Row(Skeleton(one.number, one.letters), one.elements) for one in lessons]
        inside = set(arena.hull.elements)
        fit = [i for i, row in enumerate(rows) if set(row.elements) <= inside]
        if not fit:
            return None
        rows, lessons = [rows[i] for i in fit], tuple(lessons[i] for i in fit)
        outlook = look(model, rows)
        above_hull = arena.hull.above(rows, outlook.mean)
        places = _Places.of(arena)
        taught = cls(
            lessons,
            places.features(model, rows, outlook, above_hull),
            above_hull,
            outlook.mean,
            places.features(model, arena.rows, arena.outlook, arena.above_hull),
        )
        good = np.asarray(np.isfinite(taught.mean).all(axis=1))
        if arena.hull.column is not None:
            good &= np.isfinite(taught.above_hull)
        if not good.any():
            return None
        return cls(
            tuple(one for one, g in zip(lessons, good, strict=True) if g),
            taught.features[good],
            taught.above_hull[good],
            taught.mean[good],
            taught.of_rows,
        )


@dataclass(frozen=True)
class _Places:
    """Where a row lies among an arena's: principal components of its embedding, and its composition."""

    elements: tuple[str, ...]
    centre: Floats
    axes: Floats

    @classmethod
    def of(cls, arena: Arena) -> _Places:
        embedding = arena.outlook.embedding
        centre = embedding.mean(axis=0)
        _, spread, axes = np.linalg.svd(embedding - centre, full_matrices=False)
        n = min(COMPONENTS, len(spread))
        scale = np.maximum(spread[:n] / math.sqrt(max(1, len(embedding))), 1e-9)
        return cls(arena.hull.elements, centre, (axes[:n] / scale[:, None]).T)

    def features(
        self, model: Model, rows: tuple[Row, ...] | list[Row], outlook: Forecast, above_hull: Floats
    ) -> Floats:
        """Describe rows: embedding, composition, size, crystal system, how usual the skeleton is, the forecast."""
        amounts = np.array([[held.get(e, 0) for e in self.elements] for held in (row.amounts for row in rows)], float)
        fractions = amounts / amounts.sum(axis=1, keepdims=True)
        systems = [[crystal_system(row.skeleton.number) == name for name, _ in CRYSTAL_SYSTEMS] for row in rows]
        usual = [model.log_skeletons.get(row.skeleton, UNUSUAL) for row in rows]
        unseen = [row.skeleton not in model.skeletons for row in rows]
        column = model.energy_column
        forecast = (
            np.column_stack([above_hull, outlook.std[:, column]]) if column is not None else np.zeros((len(rows), 0))
        )
        return np.hstack(
            [
                (outlook.embedding - self.centre) @ self.axes,
                COMPOSITION_SCALE * fractions,
                np.log(amounts.sum(axis=1, keepdims=True)),
                np.array(systems, dtype=float),
                np.array(unseen, dtype=float)[:, None],
                PRIOR_SCALE * np.array(usual)[:, None],
                FORECAST_SCALE * np.nan_to_num(forecast),
            ]
        )


def _corrected(
    taught: _Taught,
    which: list[int],
    measured: Floats,
    expected: Floats,
    forecast: tuple[Floats, Floats],
    scale: float,
) -> tuple[Floats, Floats]:
    """Add the expected residual to a forecast; its uncertainty becomes that of the correction, within limits."""
    mean, std = forecast
    there = np.isfinite(mean)
    fitted = Correction.fit(scale, taught.features[which], expected[which], measured)
    residual = fitted.predict(taught.of_rows[there], mean[there])
    corrected, left = mean.copy(), std.copy()
    corrected[there] += residual.mean
    left[there] = np.clip(residual.std, 0.3 * std[there], 1.2 * std[there])
    return corrected, left


def hit_log_probability(outlook: Outlook, condition: Condition, targeting: str) -> Floats:
    """Log probability that a row is stable and meets every property target that was learned, shape (n,)."""
    n = len(outlook.above_hull)
    total = np.zeros(n)
    if condition.stable and np.isfinite(outlook.above_hull).any():
        total = total + log_ndtr((STABLE_EV_PER_ATOM - outlook.above_hull) / outlook.above_hull_std)
    if targeting == "conditioning":
        total = total + target_log_probability(outlook, condition.properties)
    return np.nan_to_num(total, nan=-np.inf)


def target_log_probability(outlook: Outlook, properties: Mapping[str, Bounds]) -> Floats:
    """Log probability that a row meets the property targets that were learned, shape (n,)."""
    total = np.zeros(len(outlook.above_hull))
    for name, bounds in sorted(properties.items()):
        if name not in outlook.properties:
            continue
        mean, std = outlook.properties[name]
        low, high = bounds.minimum, bounds.maximum
        if name in LOGARITHMIC:
            low = math.log(low) if low is not None and low > 0 else None
            high = math.log(high) if high is not None and high > 0 else None
        upper = np.zeros(len(mean)) if high is None else log_ndtr((high - mean) / std)
        lower = np.full(len(mean), -np.inf) if low is None else log_ndtr((low - mean) / std)
        with np.errstate(divide="ignore", invalid="ignore"):
            between = upper + np.log1p(-np.exp(np.minimum(lower - upper, -1e-12)))
        total = total + between
    return total


def weights(model: Model, arena: Arena, memory: Memory, condition: Condition, wishes: Wishes) -> Floats:
    """Log weights of the rows, not normalised, shape (n,); see :meth:`Choices.mixed`."""
    return Choices(model, arena, memory.lessons, condition, wishes).mixed(memory.steps)


class Choices:
    """The choices that lessons ask for, update by update; each is computed once, when it is first needed.

    Parameters
    ----------
    model : Model
    arena : Arena
    lessons : tuple of Lesson
    condition : Condition
    wishes : Wishes
    """

    def __init__(
        self, model: Model, arena: Arena, lessons: tuple[Lesson, ...], condition: Condition, wishes: Wishes
    ) -> None:
        self._model, self._arena, self._lessons = model, arena, lessons
        self._condition, self._wishes = condition, wishes
        self._found: dict[int, Floats] = {}

    def mixed(self, steps: tuple[float, ...]) -> Floats:
        """Log weights of the rows, not normalised, shape (n,); -inf for what is never proposed.

        Each update moved the choice by its step towards the one with all lessons that there were then. Rows that were
        proposed before are never proposed again, known ones hardly ever.
        """
        arena = self._arena
        own = self._after(-1)
        whole = [k for k, step in enumerate(steps) if step == 1]  # what was before a whole step no longer counts
        for number in range(whole[-1] if whole else 0, len(steps)):
            step = steps[number]
            if step == 0 or not self._until(number):
                continue
            taught = self._after(number)
            finite = np.isfinite(own) & np.isfinite(taught)
            mixed = np.full(len(own), -np.inf)
            mixed[finite] = (1 - step) * own[finite] + step * taught[finite]
            own = mixed
        own = np.where(np.isnan(arena.outlook.mean).any(axis=1), -np.inf, own)
        own = own + np.where(arena.known, math.log(KNOWN_FACTOR), 0.0)
        tried = [arena.position[one.row] for one in self._lessons if one.row in arena.position]
        if len(tried) < np.isfinite(own).sum():
            own[tried] = -np.inf
        return own

    def _until(self, number: int) -> tuple[Lesson, ...]:
        return tuple(one for one in self._lessons if one.update <= number)

    def _after(self, number: int) -> Floats:
        """Log weights with the lessons up to an update; -1 for none."""
        if number not in self._found:
            outlook = outlook_of(self._model, self._arena, self._until(number))
            self._found[number] = _log_weights(outlook, self._arena, self._condition, self._wishes)
        return self._found[number]


def _log_weights(outlook: Outlook, arena: Arena, condition: Condition, wishes: Wishes) -> Floats:
    own = arena.prior + wishes.sharpness * hit_log_probability(outlook, condition, wishes.targeting)
    crowd = np.full(int(arena.composition.max()) + 1, -np.inf)
    np.logaddexp.at(crowd, arena.composition, own)
    taken_off = CROWD_POWER * crowd[arena.composition]
    return np.where(np.isfinite(own), own - np.where(np.isfinite(taken_off), taken_off, 0.0), -np.inf)


def probabilities(log_weights: Floats) -> Floats:
    """Normalise."""
    finite = np.isfinite(log_weights)
    if not finite.any():
        return np.full(len(log_weights), 1 / len(log_weights))
    return np.where(finite, np.exp(log_weights - logsumexp(log_weights[finite])), 0.0)
