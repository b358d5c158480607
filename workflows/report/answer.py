"""The honest answer of a campaign: what was found, and if nothing was, where the candidates fell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from workflows.report.collect import finite
from workflows.report.words import limits, mev, number, plural, pretty_formula, property_name, thz

if TYPE_CHECKING:
    from workflows.records import Verdict
    from workflows.report.collect import ReportData


@dataclass(frozen=True)
class Step:
    """One target on the way from verified to hit.

    Parameters
    ----------
    name : str
        In words.
    passed : int
        Verdicts that meet this target and all before it.
    measured : int
        Of those that met all before, how many have a value for this one.
    nearest : str
        Best value among those that met all before; empty if none.
    """

    name: str
    passed: int
    measured: int
    nearest: str = ""


@dataclass(frozen=True)
class Answer:
    """Headline, one or two sentences, and the steps on which candidates fell."""

    headline: str
    detail: str
    steps: tuple[Step, ...]


def ladder(data: ReportData) -> tuple[Step, ...]:
    """Count the verdicts that meet the targets one after another, as stored in them."""
    targets = data.spec.targets
    left = list(data.of("verified"))
    steps = [Step("verified", len(left), len(data.verdicts))]
    energies = [(e, v) for v in left if (e := finite(v.energy_above_hull_ev_per_atom)) is not None]
    nearest = min(energies, key=lambda pair: pair[0], default=None)
    passed = [v for e, v in energies if targets.energy_above_hull.holds(e)]
    best = f"lowest {mev(nearest[0])} meV/atom, {pretty_formula(nearest[1].formula)}" if nearest else ""
    cut = limits(targets.energy_above_hull, 1000, "meV/atom")
    steps.append(Step(f"within the hull cut ({cut})", len(passed), len(energies), best))
    left = passed
    if targets.phonons == "stable":
        measured = [v for v in left if v.phonon.judgement in ("stable", "unstable")]
        passed = [v for v in left if v.phonon.judgement == "stable"]
        lows = [(x, v) for v in measured if (x := finite(v.phonon.min_thz)) is not None]
        high = max(lows, key=lambda pair: pair[0], default=None)
        best = f"nearest {thz(high[0])} THz, {pretty_formula(high[1].formula)}" if high else "no frequency is stored"
        name = f"phonons stable (≥ {number(targets.phonon_tolerance, 1)} THz)"
        steps.append(Step(name, len(passed), len(measured), best))
        left = passed
    for name, wanted in targets.properties.items():
        values = [(v.properties[name].value, v) for v in left if name in v.properties]
        values = [(x, v) for x, v in values if finite(x) is not None]
        passed = [v for x, v in values if wanted.holds(x)]
        near = min(values, key=lambda pair: _miss(pair[0], wanted.min, wanted.max), default=None)
        best = f"nearest {number(near[0])} {wanted.unit}, {pretty_formula(near[1].formula)}" if near else ""
        steps.append(Step(f"{property_name(name)} {limits(wanted)}", len(passed), len(values), best))
        left = passed
    return tuple(steps)


def answer(data: ReportData) -> Answer:
    """Put into words what a campaign found so far."""
    totals = data.totals
    steps = ladder(data)
    hits, verified, stable = data.of("hits"), data.of("verified"), data.of("stable")
    going = [r for r in data.rounds if r.state != "closed"]
    unfinished = (
        f" Round {going[0].number} is still open; its numbers will change."
        if going
        else ""
        if len(data.rounds) >= data.spec.rounds
        else f" {len(data.rounds)} of {data.spec.rounds} rounds have begun."
    )
    if hits:
        found = ", ".join(_names(hits))
        detail = (
            f"{found}. They come from {plural(totals['sampled'], 'proposed crystal')}, of which "
            f"{plural(len(verified), 'was', 'were')} verified and {len(stable)} found stable.{unfinished}"
        )
        return Answer(f"{plural(len(hits), 'hit')}.", detail, steps)
    if not data.rounds or not totals["sampled"]:
        return Answer("No answer yet.", f"Nothing has been proposed so far.{unfinished}", steps)
    if not data.verdicts:
        detail = (
            f"{plural(totals['sampled'], 'crystal')} proposed, {totals['selected']} selected, none verified so far."
        )
        return Answer("No answer yet.", detail + unfinished, steps)
    if not verified:
        detail = (
            f"None of the {plural(len(data.verdicts), 'verdict')} has a trustworthy energy; see the failures below."
        )
        return Answer("No hit.", detail + unfinished, steps)
    fell = next((s for s in steps[1:] if not s.passed), None)
    where = f"No hit{' yet' if unfinished else ''}."
    if fell is None:
        detail = f"{len(verified)} candidates are verified, {len(stable)} of them stable, but none meets every target."
        return Answer(where, detail + unfinished, steps)
    came = plural(steps[steps.index(fell) - 1].passed, "candidate")
    if fell.measured:
        reason = f"{came} came as far as “{fell.name}” and none met it ({fell.nearest})."
    else:
        reason = f"{came} came as far as “{fell.name}”, for which none has a trustworthy value."
    return Answer(
        where, f"{plural(len(verified), 'candidate')} verified, {len(stable)} stable. {reason}{unfinished}", steps
    )


def _names(verdicts: tuple[Verdict, ...], most: int = 6) -> list[str]:
    names = list(dict.fromkeys(pretty_formula(v.formula) for v in verdicts))
    return names if len(names) <= most else [*names[:most], f"{len(names) - most} more"]


def _miss(value: float, low: float | None, high: float | None) -> float:
    """How far a value is outside an interval."""
    return max(0.0, (low - value) if low is not None else 0.0, (value - high) if high is not None else 0.0)
