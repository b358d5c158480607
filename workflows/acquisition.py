"""Which candidates are worth a verification: probability of a hit, a bonus for what is unknown, and no crowding.

For every candidate a surrogate predicts the verified energy above hull (from the screening model's, corrected by what
earlier rounds found) and every target property, each with its uncertainty. The score is the probability that all
targets are met, plus an upper-confidence bonus for what verdicts could still teach; candidates are then taken one by
one, each making those that resemble it less attractive. Everything is sorted by candidate and rounded, so the same
candidates in any order give the same choice.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from generators.base import derive_seed
from generators.surrogate import DESCRIPTORS, Prediction, Surrogate, correlation, describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from pymatgen.core import Structure

    from workflows.spec import Range, Targets

    Floats = npt.NDArray[np.float64]

_HULL_STD_EV_PER_ATOM, _HULL_NOISE_EV_PER_ATOM = 0.07, 0.03
"""How far two force fields trained on one database disagree about a hull distance, before any verdict."""

_ANDERSON_NAFE_GPA_ANGSTROM3 = 1500.0
"""Bulk modulus x volume per atom is about constant (O. L. Anderson, J. E. Nafe, J. Geophys. Res. 70, 3951 (1965)):
MgO 1490, AlN 2080, Si 1960, Al 1250, NaCl 560 GPa Å³; hence the broad prior."""

_EXPLORATION, _SIMILARITY_PENALTY, _SIMILARITY_LENGTH = 0.3, 0.5, 0.5
_DIGITS = 6


@dataclass(frozen=True)
class AcquisitionInput:
    """A candidate that may be selected.

    Parameters
    ----------
    candidate : str
    structure : pymatgen.core.Structure
        As pre-relaxed.
    screening_e_hull_ev_per_atom : float or None
        By the screening model; without one a candidate is not eligible.
    """

    candidate: str
    structure: Structure
    screening_e_hull_ev_per_atom: float | None


@dataclass(frozen=True)
class Outcome:
    """What verification found of an earlier candidate.

    Parameters
    ----------
    candidate : str
    structure : pymatgen.core.Structure
        As pre-relaxed, like the candidates that are compared with it.
    screening_e_hull_ev_per_atom, e_hull_ev_per_atom : float or None
        By the screening model and by the engine.
    properties : dict of str to float
        In the units of the targets.
    phonons_stable : bool or None
        ``None`` if not measured.
    """

    candidate: str
    structure: Structure
    screening_e_hull_ev_per_atom: float | None
    e_hull_ev_per_atom: float | None = None
    properties: dict[str, float] = field(default_factory=dict)
    phonons_stable: bool | None = None


@dataclass(frozen=True)
class Choice:
    """What was decided about one candidate.

    Parameters
    ----------
    candidate : str
    score : float or None
        Higher is verified first; ``None`` if not eligible.
    parts : dict of str to float
        Probabilities, predictions with their standard deviations, exploration bonus, crowding factor.
    selected : bool
    reason : str
        For people.
    """

    candidate: str
    score: float | None
    parts: dict[str, float]
    selected: bool
    reason: str


@dataclass(frozen=True)
class _Scored:
    item: AcquisitionInput
    features: Floats
    score: float
    parts: dict[str, float]
    words: str

    @property
    def formula(self) -> str:
        return str(self.item.structure.composition.reduced_formula)

    @property
    def system(self) -> str:
        return str(self.item.structure.composition.chemical_system)


def choose(
    candidates: Sequence[AcquisitionInput],
    history: Sequence[Outcome],
    targets: Targets,
    budget: int,
    seed: int,
) -> list[Choice]:
    """Spend a round's verification budget.

    Parameters
    ----------
    candidates : sequence of AcquisitionInput
        Unique, novel candidates of this round; order is irrelevant.
    history : sequence of Outcome
        What earlier rounds verified; order is irrelevant.
    targets : Targets
    budget : int
        Candidates to select at most.
    seed : int
        Breaks ties.

    Returns
    -------
    list of Choice
        One for each candidate, sorted by candidate.

    Raises
    ------
    ValueError
        If two candidates share an id or the budget is negative.
    """
    ordered = sorted(candidates, key=lambda c: c.candidate)
    if len({c.candidate for c in ordered}) < len(ordered):
        raise ValueError("candidates must have different ids")
    if budget < 0:
        raise ValueError(f"budget {budget} is negative")
    eligible = [c for c in ordered if _is_number(c.screening_e_hull_ev_per_atom)]
    scored = _score(eligible, sorted(history, key=lambda o: o.candidate), targets)
    picked = _pick(scored, budget, seed)
    choices = {
        c.candidate: Choice(c.candidate, None, {}, selected=False, reason="no screening energy: not eligible")
        for c in ordered
    }
    for s in scored:
        rank, crowding = picked.get(s.item.candidate, (None, None))
        if rank is not None and crowding is not None:
            parts = s.parts | {"crowding": crowding}
            reason = f"number {rank} of {budget}: {s.words}"
            choices[s.item.candidate] = Choice(s.item.candidate, s.score, parts, selected=True, reason=reason)
        else:
            reason = f"budget of {budget} spent on better or less similar ones: {s.words}"
            choices[s.item.candidate] = Choice(s.item.candidate, s.score, s.parts, selected=False, reason=reason)
    return [choices[c.candidate] for c in ordered]


def _is_number(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _score(items: list[AcquisitionInput], history: list[Outcome], targets: Targets) -> list[_Scored]:
    if not items:
        return []
    features = np.array([describe(c.structure) for c in items])
    screened = np.array([float(c.screening_e_hull_ev_per_atom or 0.0) for c in items])
    hull, known = _predict_hull(features, screened, history)
    probability = {"p_stable": _inside(hull, targets.energy_above_hull)}
    predictions = {"e_hull_ev_per_atom": hull}
    unknown = [known]
    wording: dict[str, str] = {"p_stable": f"p(hull <= {targets.energy_above_hull.max:g} eV/atom)"}
    for name, wanted in targets.properties.items():
        prediction, known, logarithmic = _predict_property(name, features, items, history)
        bounds = _logarithm(wanted) if logarithmic else (wanted.min, wanted.max)
        probability[f"p_{name}"] = _between(prediction, *bounds)
        predictions[name] = _from_logarithm(prediction) if logarithmic else prediction
        unknown.append(known)
        wording[f"p_{name}"] = f"p({name} {_in_words(wanted)})"
    if targets.phonons == "stable":
        phonons, known = _predict_phonons(features, history)
        probability["p_phonons"] = np.clip(phonons.mean, 0.05, 0.95)
        unknown.append(known)
        wording["p_phonons"] = "p(phonons stable)"
    together = np.prod(list(probability.values()), axis=0)
    bonus = _EXPLORATION * np.sqrt(together * (1 - together)) * np.mean(unknown, axis=0)
    scored = []
    for k, item in enumerate(items):
        parts = {name: round(float(p[k]), _DIGITS) for name, p in probability.items()}
        for name, prediction in predictions.items():
            parts[name] = round(float(prediction.mean[k]), _DIGITS)
            parts[f"{name}_std"] = round(float(prediction.std[k]), _DIGITS)
        parts["exploration"] = round(float(bonus[k]), _DIGITS)
        score = round(float(together[k] + bonus[k]), _DIGITS)
        words = ", ".join(
            f"{wording[name]}={float(p[k]):.2f}{_predicted(name, predictions, k)}" for name, p in probability.items()
        )
        scored.append(_Scored(item, features[k], score, parts, f"{words}, exploration {float(bonus[k]):.2f}"))
    return scored


def _predicted(name: str, predictions: dict[str, Prediction], k: int) -> str:
    prediction = predictions.get({"p_stable": "e_hull_ev_per_atom"}.get(name, name.removeprefix("p_")))
    return "" if prediction is None else f" ({prediction.mean[k]:.3g} ± {prediction.std[k]:.2g})"


def _predict_hull(features: Floats, screened: Floats, history: list[Outcome]) -> tuple[Prediction, Floats]:
    model = Surrogate(prior_std=_HULL_STD_EV_PER_ATOM, noise_std=_HULL_NOISE_EV_PER_ATOM)
    used = [o for o in history if _is_number(o.screening_e_hull_ev_per_atom) and _is_number(o.e_hull_ev_per_atom)]
    model = model.fit(
        _describe_all(used),
        np.array([float(o.e_hull_ev_per_atom or 0.0) for o in used]),
        np.array([float(o.screening_e_hull_ev_per_atom or 0.0) for o in used]),
    )
    prediction = model.predict(features, screened)
    return prediction, _still_unknown(prediction, model)


def _predict_property(
    name: str, features: Floats, items: list[AcquisitionInput], history: list[Outcome]
) -> tuple[Prediction, Floats, bool]:
    """Predict a property; the bulk modulus in logarithms (it is positive and scatters by factors)."""
    used = [o for o in history if _is_number(o.properties.get(name))]
    labels = np.array([o.properties[name] for o in used])
    logarithmic = name == "bulk_modulus"
    if logarithmic:
        model = Surrogate(prior_std=0.5, noise_std=0.1)
        kept = labels > 0
        used, labels = [o for o, k in zip(used, kept, strict=True) if k], np.log(labels[kept])
        prior = np.log([_ANDERSON_NAFE_GPA_ANGSTROM3 * len(o.structure) / o.structure.volume for o in used])
        prior_new = np.log([_ANDERSON_NAFE_GPA_ANGSTROM3 * len(c.structure) / c.structure.volume for c in items])
    else:
        # Nothing is known beforehand: the middle and the spread of what was measured, else gaps of a few eV.
        centre = float(np.median(labels)) if len(labels) else 1.5
        spread = float(labels.std()) if len(labels) > 2 else 2.0
        model = Surrogate(prior_std=max(spread, 1e-3), noise_std=max(0.2 * spread, 1e-4))
        prior, prior_new = np.full(len(used), centre), np.full(len(items), centre)
    model = model.fit(_describe_all(used), labels, prior)
    prediction = model.predict(features, prior_new)
    return prediction, _still_unknown(prediction, model), logarithmic


def _predict_phonons(features: Floats, history: list[Outcome]) -> tuple[Prediction, Floats]:
    """Regress the judgement, 1 stable and 0 not, around the base rate of what was judged."""
    used = [o for o in history if o.phonons_stable is not None]
    labels = np.array([float(bool(o.phonons_stable)) for o in used])
    base = (3.0 + float(labels.sum())) / (5.0 + len(labels))  # three of five before any verdict
    model = Surrogate(prior_std=0.3, noise_std=0.3).fit(_describe_all(used), labels, np.full(len(used), base))
    prediction = model.predict(features, np.full(len(features), base))
    return prediction, _still_unknown(prediction, model)


def _describe_all(outcomes: list[Outcome]) -> Floats:
    return np.array([describe(o.structure) for o in outcomes]).reshape(len(outcomes), len(DESCRIPTORS))


def _still_unknown(prediction: Prediction, model: Surrogate) -> Floats:
    """Share of the prior's standard deviation that verdicts have not taken away: 1 unknown, 0 as good as measured."""
    left: Floats = np.sqrt(np.maximum(prediction.std**2 - model.noise_std**2, 0.0)) / model.prior_std
    return np.clip(left, 0.0, 1.0)


def _inside(prediction: Prediction, wanted: Range) -> Floats:
    return _between(prediction, wanted.min, wanted.max)


def _between(prediction: Prediction, low: float | None, high: float | None) -> Floats:
    """Probability that a normal variable lies in an interval."""

    def below(limit: float) -> Floats:
        z = (limit - prediction.mean) / prediction.std
        return np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z])

    upper = below(high) if high is not None else np.ones(len(prediction.mean))
    lower = below(low) if low is not None else np.zeros(len(prediction.mean))
    return np.clip(upper - lower, 0.0, 1.0)


def _logarithm(wanted: Range) -> tuple[float | None, float | None]:
    low = math.log(wanted.min) if wanted.min is not None and wanted.min > 0 else None
    high = math.log(max(wanted.max, 1e-12)) if wanted.max is not None else None
    return low, high


def _from_logarithm(prediction: Prediction) -> Prediction:
    """Median, and half the width of the central 68 %."""
    median = np.exp(prediction.mean)
    return Prediction(median, median * np.sinh(prediction.std))


def _in_words(wanted: Range) -> str:
    limits = [f">= {wanted.min:g}"] if wanted.min is not None else []
    limits += [f"<= {wanted.max:g}"] if wanted.max is not None else []
    return f"{' and '.join(limits)} {wanted.unit}"


def _pick(scored: list[_Scored], budget: int, seed: int) -> dict[str, tuple[int, float]]:
    """Take candidates one by one; gives rank and crowding factor of each that was taken.

    A candidate's score shrinks with its likeness to what is already taken. No composition takes more than a quarter of
    the budget and no chemical system more than half, as long as others are left.
    """
    picked: dict[str, tuple[int, float]] = {}
    if not scored:
        return picked
    features = np.array([s.features for s in scored])
    likeness = np.zeros(len(scored))
    formulas: Counter[str] = Counter()
    systems: Counter[str] = Counter()
    per_formula, per_system = math.ceil(budget / 4), math.ceil(budget / 2)
    left = set(range(len(scored)))
    while left and len(picked) < budget:
        open_to = [
            k for k in left if formulas[scored[k].formula] < per_formula and systems[scored[k].system] < per_system
        ]
        crowding = np.round(1.0 - _SIMILARITY_PENALTY * likeness, _DIGITS)

        def order(k: int, crowding: Floats = crowding) -> tuple[float, int, str]:
            name = scored[k].item.candidate
            return -round(scored[k].score * float(crowding[k]), _DIGITS), derive_seed(seed, name), name

        k = min(open_to or left, key=order)
        left.remove(k)
        picked[scored[k].item.candidate] = (len(picked) + 1, float(crowding[k]))
        formulas[scored[k].formula] += 1
        systems[scored[k].system] += 1
        likeness = np.maximum(likeness, correlation(features, features[k : k + 1], _SIMILARITY_LENGTH)[:, 0])
    return picked
