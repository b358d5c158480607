"""Limits of an update: how far the choice may move, and what it must not lose.

Rewarding what was stable makes a generator repeat it: the share of stable crystals rises while that of stable *novel*
ones falls. So an update is taken only as far as the divergence from the choice before stays small and expected
uniqueness, novelty and diversity hold; otherwise it is shortened, then refused.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from generators.symmetric.choice import Choices, probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from generators.base import Condition
    from generators.symmetric.arena import Arena
    from generators.symmetric.choice import Wishes
    from generators.symmetric.memory import Memory
    from generators.symmetric.model import Model

    Floats = NDArray[np.float64]

MAX_DIVERGENCE_NATS = 4.0
"""Largest Kullback-Leibler divergence of the new choice from the old, rows proposed meanwhile left out."""
STEPS = (1.0, 0.7, 0.5, 0.35, 0.25, 0.12)
"""Steps tried from the choice before to the one with all lessons, the largest first."""
KEPT_SHARE = 0.7
"""Uniqueness and novelty must keep this share of what they were."""
ENOUGH_UNIQUE = 0.25
"""Uniqueness may fall to this all the same: rows come without replacement, and who knows more chooses from fewer."""
MIN_COMPOSITIONS = 6.0
"""Effective number of compositions that must be left (or KEPT_SHARE of what there was, if that is less)."""
BATCH = 64
"""Draws for which uniqueness is expected."""


class Spread(NamedTuple):
    """What a choice promises: expected shares of a batch, and how many compositions it really chooses from.

    Parameters
    ----------
    uniqueness : float
        Expected share of different rows in BATCH independent draws.
    novelty : float
        Probability of a row that is no known crystal.
    compositions, rows : float
        Effective numbers (exponential of the entropy).
    """

    uniqueness: float
    novelty: float
    compositions: float
    rows: float


@dataclass(frozen=True)
class Update:
    """What an update did, for status and report.

    Parameters
    ----------
    taken : bool
        False: the choice is the one before, only tried rows are left out.
    why : str
    lessons : int
        New ones.
    good, bad : int
        Stable and novel ones among them; unstable or failed ones.
    trust : float
        How far it went towards the choice with all lessons, 0 to 1.
    divergence_nats : float
    before, after : dict
        :class:`Spread` of the choice before and after.
    """

    taken: bool
    why: str
    lessons: int
    good: int
    bad: int
    trust: float
    divergence_nats: float
    before: dict[str, float]
    after: dict[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return a JSON-compatible form."""
        return asdict(self)


def spread_of(p: Floats, arena: Arena) -> Spread:
    """Describe a choice."""
    formulas: dict[str, float] = {}
    for row, share in zip(arena.rows, p, strict=True):
        formulas[row.formula] = formulas.get(row.formula, 0.0) + float(share)
    return Spread(
        uniqueness=float((1 - (1 - p) ** BATCH).sum() / BATCH),
        novelty=float(p[~arena.known].sum()),
        compositions=_effective(np.array(list(formulas.values()))),
        rows=_effective(p),
    )


def divergence(new: Floats, old: Floats) -> float:
    """Kullback-Leibler divergence of two choices over the rows that both may propose, nats."""
    both = (new > 0) & (old > 0)
    if not both.any():
        return np.inf
    a, b = new[both] / new[both].sum(), old[both] / old[both].sum()
    return float((a * np.log(a / b)).sum())


def settle(
    model: Model, arena: Arena, old: Memory, new: Memory, condition: Condition, wishes: Wishes
) -> tuple[Memory, dict[str, Any]]:
    """Find how far new lessons may be trusted.

    Returns
    -------
    memory : Memory
        ``new`` with its step; 0 if every one was refused.
    what : dict
        ``taken``, ``why``, ``trust``, ``divergence_nats``, ``before``, ``after``.
    """
    # the choice before, without what was tried since: what is left if the update is refused
    kept = replace(new, steps=(*old.steps, 0.0))
    choices = Choices(model, arena, new.lessons, condition, wishes)
    was = probabilities(choices.mixed(kept.steps))
    before = spread_of(was, arena)
    why = ""
    for step in STEPS:
        memory = replace(new, steps=(*old.steps, step))
        now = probabilities(choices.mixed(memory.steps))
        after, moved = spread_of(now, arena), divergence(now, was)
        lost = _lost(before, after)
        if moved <= MAX_DIVERGENCE_NATS and not lost:
            shortened = f"; shortened, with a longer step {why}" if why else ""
            return memory, _report(True, f"taken{shortened}", step, moved, before, after)
        why = why or (lost or f"it would move by {moved:.2f} nats, {MAX_DIVERGENCE_NATS:g} are allowed")
    return kept, _report(False, f"refused: {why}", 0.0, 0.0, before, before)


def _report(taken: bool, why: str, trust: float, moved: float, before: Spread, after: Spread) -> dict[str, Any]:
    return {
        "taken": taken,
        "why": why,
        "trust": trust,
        "divergence_nats": round(moved, 4),
        "before": {key: round(value, 4) for key, value in before._asdict().items()},
        "after": {key: round(value, 4) for key, value in after._asdict().items()},
    }


def _lost(before: Spread, after: Spread) -> str:
    if after.uniqueness < min(ENOUGH_UNIQUE, KEPT_SHARE * before.uniqueness):
        return f"uniqueness would fall from {before.uniqueness:.2f} to {after.uniqueness:.2f}"
    if after.novelty < KEPT_SHARE * before.novelty:
        return f"novelty would fall from {before.novelty:.2f} to {after.novelty:.2f}"
    if after.compositions < min(MIN_COMPOSITIONS, KEPT_SHARE * before.compositions):
        return f"the choice would narrow from {before.compositions:.0f} to {after.compositions:.1f} compositions"
    return ""


def _effective(p: Floats) -> float:
    p = p[p > 0] / p.sum()
    return float(np.exp(-(p * np.log(p)).sum()))
