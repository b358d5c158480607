"""Database to :class:`ReportData`: every number of a report comes from stored records, none is computed anew.

A closed round is read from its stored summary; a claimed or open one is counted live. Verdicts are read whole;
candidates only as far as the report shows them.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import BaseModel, ValidationError

from workflows.records import Round, RoundSummary, Verdict
from workflows.spec import CampaignSpec
from workflows.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pymongo.database import Database

T = TypeVar("T", bound=BaseModel)

CONTROL_STAGES = ("sampled", "valid", "unique", "novel", "promising")
"""Columns of the funnel that a control draw has too; controls are never verified."""

FUNNEL = ("sampled", "valid", "unique", "novel", "selected", "verified", "stable", "hits")
"""Columns of the funnel, in order."""

_CANDIDATE_FIELDS = {
    "_id": 0,
    "candidate": 1,
    "round": 1,
    "index": 1,
    "control": 1,
    "generator": 1,
    "generator_version": 1,
    "generator_state": 1,
    "seed": 1,
    "info": 1,
    "formula": 1,
    "n_atoms": 1,
    "screen": 1,
    "prerelax.model": 1,
    "prerelax.error": 1,
    "prerelax.converged": 1,
    "select": 1,
}


class ReportError(Exception):
    """A report or export that can't be made, with what would be right; the command line exits with 2."""


@dataclass(frozen=True)
class RoundData:
    """One round as the report shows it.

    Parameters
    ----------
    number : int
    state : {"claimed", "open", "closed"}
    summary : RoundSummary
        Stored when the round closed; of a round that is not closed, counted when the report was made.
    generator_state, control_state : str or None
        Content addresses (sha256) of what sampled the round and its control.
    learned : dict
        What feedback taught the generator.
    """

    number: int
    state: str
    summary: RoundSummary
    generator_state: str | None = None
    control_state: str | None = None
    learned: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """Everything a report shows.

    Parameters
    ----------
    campaign : str
    spec : CampaignSpec
    document : dict
        The campaign's document without its spec: when it was made, its reference set, whatever else launch noted.
    rounds : tuple of RoundData
        In order.
    verdicts : tuple of Verdict
        Hits first, then stable, verified, failures; by energy above hull within each.
    origins : dict of str to dict
        Of each candidate with a verdict: generator, state, seed, info, screen, prerelax and select as stored.
    attempts : dict of str to list of dict
        Of each candidate with a verdict: its launches in order.
    refused : dict of str to int
        Why the sieve refused candidates, and how many; controls left out.
    """

    campaign: str
    spec: CampaignSpec
    document: dict[str, Any]
    rounds: tuple[RoundData, ...] = ()
    verdicts: tuple[Verdict, ...] = ()
    origins: dict[str, dict[str, Any]] = field(default_factory=dict)
    attempts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)

    @property
    def totals(self) -> dict[str, int]:
        """Sums over the rounds, funnel columns and failures."""
        names = (*FUNNEL, "failures", "novel_composition", "novel_prototype", "novel_skeleton")
        return {name: sum(getattr(r.summary, name) for r in self.rounds) for name in names}

    def of(self, which: str) -> tuple[Verdict, ...]:
        """Choose verdicts: ``hits``, ``stable``, ``verified`` or ``all``.

        Raises
        ------
        ReportError
            If ``which`` is none of these.
        """
        if which == "hits":
            return tuple(v for v in self.verdicts if v.hit)
        if which == "stable":
            return tuple(v for v in self.verdicts if v.stable)
        if which == "verified":
            return tuple(v for v in self.verdicts if v.verified)
        if which == "all":
            return self.verdicts
        raise ReportError(f"{which!r} can't be chosen; choose hits, stable, verified or all")

    @property
    def failures(self) -> dict[tuple[int, str], list[Verdict]]:
        """Verdicts by cause, ``(code, name)``, the most frequent first."""
        groups: dict[tuple[int, str], list[Verdict]] = {}
        for verdict in self.verdicts:
            if verdict.cause is not None:
                groups.setdefault((verdict.cause.code, verdict.cause.name), []).append(verdict)
        return dict(sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])))

    @property
    def sun(self) -> int:
        """Verdicts that are stable, unique and novel, as select saw uniqueness and novelty."""
        chosen = (
            self.origins.get(v.candidate, {}).get("select") or {} for v in self.verdicts if v.stable and not v.known_as
        )
        return sum(bool(s.get("unique")) and bool(s.get("novel")) for s in chosen)


def collect(database: Database[dict[str, Any]], campaign: str) -> ReportData:
    """Read a campaign's records.

    Parameters
    ----------
    database : pymongo.database.Database
        Holds ``campaigns, rounds, candidates, attempts, verdicts``.
    campaign : str
        Name of the campaign.

    Returns
    -------
    ReportData

    Raises
    ------
    ReportError
        If there is no such campaign, or a record is not one of ours.
    """
    document = database["campaigns"].find_one({"name": campaign}, {"_id": 0})
    if document is None:
        known = sorted(str(d.get("name")) for d in database["campaigns"].find({}, {"_id": 0, "name": 1}))
        raise ReportError(f"there is no campaign {campaign!r} in this store; it has {', '.join(known) or 'none'}")
    spec = _read(CampaignSpec, document.pop("spec", {}), f"the spec of campaign {campaign}")
    verdicts = [
        _read(Verdict, d, f"the verdict on {d.get('candidate')}")
        for d in database["verdicts"].find({"campaign": campaign}, {"_id": 0})
    ]
    rounds = [
        _read(Round, d, f"round {d.get('round')}") for d in database["rounds"].find({"campaign": campaign}, {"_id": 0})
    ]
    candidates = sorted(
        database["candidates"].find({"campaign": campaign}, _CANDIDATE_FIELDS), key=lambda c: str(c["candidate"])
    )
    judged = {v.candidate for v in verdicts}
    return ReportData(
        campaign=campaign,
        spec=spec,
        document=document,
        rounds=tuple(
            RoundData(
                number=r.round,
                state=r.state,
                summary=r.summary or summarise(database, spec, r.round),
                generator_state=r.generator_state,
                control_state=r.control_state,
                learned=r.learned,
            )
            for r in sorted(rounds, key=lambda r: r.round)
        ),
        verdicts=tuple(sorted(verdicts, key=rank)),
        origins={c["candidate"]: c for c in candidates if c["candidate"] in judged},
        attempts=_attempts(database, campaign, judged),
        refused=_refused(candidates),
    )


def rank(verdict: Verdict) -> tuple[int, float, str]:
    """Sort key of verdicts: hits, stable, verified, failures; then energy above hull; then id."""
    energy = finite(verdict.energy_above_hull_ev_per_atom)
    level = 0 if verdict.hit else 1 if verdict.stable else 2 if verdict.verified else 3
    return level, math.inf if energy is None else energy, verdict.candidate


def finite(value: float | None) -> float | None:
    """Give a number only if it is one: NaN and infinity become ``None``."""
    return value if value is not None and math.isfinite(value) else None


def _attempts(database: Database[dict[str, Any]], campaign: str, judged: set[str]) -> dict[str, list[dict[str, Any]]]:
    fields = {"_id": 0, "last_geometry": 0}
    grouped: dict[str, list[dict[str, Any]]] = {}
    for attempt in database["attempts"].find({"campaign": campaign}, fields):
        if attempt.get("candidate") in judged:
            grouped.setdefault(attempt["candidate"], []).append(attempt)
    for of_one in grouped.values():
        of_one.sort(key=lambda a: (a.get("fw_id") or 0, a.get("launch_id") or 0, str(a.get("attempt"))))
    return grouped


_REASONS = (
    (" apart, at least", "atoms too close"),
    ("too large for its atoms", "cell too large for its atoms"),
    ("too small for its atoms", "cell too small for its atoms"),
    ("reduced cell is", "cell too flat or too long"),
    ("is not neutral", "not charge-neutral"),
    ("outside the campaign", "outside the chemical systems"),
    ("relaxes to the same", "relaxes to the same crystal as another"),
    ("relaxes to a known", "relaxes to a known crystal"),
    ("no screening energy", "no screening energy"),
    ("budget of", "budget spent on better or less similar ones"),
)
"""What the sieve writes, and the kind of reason that it is; numbers and names differ from crystal to crystal."""


def _kind_of_reason(reason: str) -> str:
    return next((kind for part, kind in _REASONS if part in reason), reason.split(":", maxsplit=1)[0])


def _refused(candidates: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    reasons: Counter[str] = Counter()
    for candidate in candidates:
        screen = candidate.get("screen") or {}
        if candidate.get("control") or not screen:
            continue
        if not screen.get("valid"):
            # One reason a candidate, the first that the screen found, so that the counts add up.
            reasons[_kind_of_reason(str((screen.get("reasons") or ["not valid"])[0]))] += 1
        elif not screen.get("unique"):
            reasons["duplicate as proposed"] += 1
        elif (candidate.get("prerelax") or {}).get("error"):
            reasons["pre-relaxation failed"] += 1
        elif (select := candidate.get("select")) and not select.get("selected"):
            reasons[_kind_of_reason(str(select.get("reason") or "not selected"))] += 1
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _read(model: type[T], document: Mapping[str, Any], what: str) -> T:
    """Read a record, passing over fields that a newer version may have added at its top level."""
    known = {key: value for key, value in document.items() if key in model.model_fields}
    try:
        return model.model_validate(known)
    except ValidationError as error:
        raise ReportError(f"{what} can't be read: {error}") from error
