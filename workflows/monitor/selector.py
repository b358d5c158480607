"""Which part of a campaign a command is about: one vocabulary for all of them.

A selector becomes a MongoDB filter here and nowhere else. What a user types is parsed as JSON and rebuilt from an
allow-list of fields and operators, so no text of theirs (``$where``, ``$function``, a dotted path of their own) ever
reaches the database.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from workflows.records import STAGES

FIELDS: dict[str, str] = {
    "candidate": "candidate",
    "round": "round",
    "formula": "formula",
    "spacegroup": "spacegroup",
    "energy_above_hull": "energy_above_hull_ev_per_atom",
    "energy": "energy_ev_per_atom",
    "bulk_modulus": "properties.bulk_modulus.value",
    "band_gap": "properties.band_gap.value",
    "phonon_min_thz": "phonon.min_thz",
    "phonon_judgement": "phonon.judgement",
    "verified": "verified",
    "stable": "stable",
    "hit": "hit",
    "late": "late",
    "cause": "cause.code",
    "stage": "cause.stage",
    "engine": "engine",
    "protocol": "protocol",
}
"""What ``--query`` may name, and where it lives in a verdict."""

OPERATORS = ("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists")
COMBINERS = ("$and", "$or", "$nor")
VERDICT_STATES = ("verified", "stable", "hit", "failed", "late")
_MAX_DEPTH = 5
_MAX_TEXT = 4000


class SelectorError(ValueError):
    """A selector that can't be understood; the message says what would be right."""


def parse_query(text: str) -> dict[str, Any]:
    """Turn ``--query`` into a filter on verdicts.

    Parameters
    ----------
    text : str
        JSON such as ``{"energy_above_hull": {"$lt": 0.05}, "hit": true}``.

    Raises
    ------
    SelectorError
        Not JSON, an unknown field or operator, or a value that is no plain text, number or truth value.

    Examples
    --------
    >>> parse_query('{"bulk_modulus": {"$gte": 150}}')
    {'properties.bulk_modulus.value': {'$gte': 150}}
    """
    if len(text) > _MAX_TEXT:
        raise SelectorError(f"--query is longer than {_MAX_TEXT} characters")
    try:
        data = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise SelectorError(
            f'--query is not JSON: {error}. Write it as \'{{"energy_above_hull": {{"$lt": 0.05}}}}\', in single quotes'
        ) from error
    return _filter(data, 0)


def _filter(data: Any, depth: int) -> dict[str, Any]:
    if depth > _MAX_DEPTH:
        raise SelectorError(f"--query is nested more than {_MAX_DEPTH} deep")
    if not isinstance(data, dict):
        raise SelectorError('--query must be a JSON object, such as {"hit": true}')
    built: dict[str, Any] = {}
    for name, wanted in data.items():
        if name in COMBINERS:
            if not isinstance(wanted, list) or not wanted:
                raise SelectorError(f"--query: {name} takes a list of conditions")
            built[name] = [_filter(part, depth + 1) for part in wanted]
        elif name in FIELDS:
            built[FIELDS[name]] = _condition(name, wanted)
        else:
            raise SelectorError(f"--query: {name!r} is no field; {_known(name, FIELDS)}")
    return built


def _condition(name: str, wanted: Any) -> Any:
    if not isinstance(wanted, dict):
        return _plain(name, wanted)
    condition: dict[str, Any] = {}
    for operator, value in wanted.items():
        if operator not in OPERATORS:
            raise SelectorError(f"--query: {operator!r} is no operator; one of: {', '.join(OPERATORS)}")
        if operator in {"$in", "$nin"}:
            if not isinstance(value, list):
                raise SelectorError(f"--query: {operator} takes a list")
            condition[operator] = [_plain(name, item) for item in value]
        else:
            condition[operator] = bool(value) if operator == "$exists" else _plain(name, value)
    return condition


def _plain(name: str, value: Any) -> Any:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise SelectorError(f"--query: {name} is compared with text, a number, true, false or null")


def _known(name: str, known: Any) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"{f'did you mean {close[0]}? ' if close else ''}one of: {', '.join(known)}"


def parse_rounds(texts: list[str]) -> tuple[int, ...]:
    """Read round numbers and ranges.

    Examples
    --------
    >>> parse_rounds(["1", "3-5"])
    (1, 3, 4, 5)
    """
    numbers: set[int] = set()
    for text in texts:
        match = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text.strip())
        if match is None:
            raise SelectorError(f"--round {text!r} is no round; write 2, or 2-4 for a range")
        first, last = int(match[1]), int(match[2] or match[1])
        if first < 1 or last < first:
            raise SelectorError(f"--round {text!r} is an empty range; rounds count from 1")
        numbers.update(range(first, last + 1))
    return tuple(sorted(numbers))


def parse_causes(texts: list[str]) -> tuple[tuple[int, int], ...]:
    """Read causes (``501``) and bands (``5xx``) as ranges of codes, both ends included."""
    ranges = []
    for text in texts:
        if re.fullmatch(r"\d{3}", text):
            ranges.append((int(text), int(text)))
        elif re.fullmatch(r"[1-9](?:xx|XX)", text):
            ranges.append((int(text[0]) * 100, int(text[0]) * 100 + 99))
        else:
            raise SelectorError(f"--cause {text!r} is no cause; write a code such as 501, or a band such as 5xx")
    return tuple(ranges)


@dataclass(frozen=True)
class Selector:
    """What of a campaign is meant; an empty part means all of it.

    Parameters
    ----------
    campaign : str
    rounds : tuple of int
    stages, candidates, states : tuple of str
    causes : tuple of (int, int)
        Ranges of codes, ends included.
    query : dict
        A filter on verdicts, from :func:`parse_query`.
    """

    campaign: str
    rounds: tuple[int, ...] = ()
    stages: tuple[str, ...] = ()
    candidates: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    causes: tuple[tuple[int, int], ...] = ()
    query: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for stage in self.stages:
            if stage not in STAGES:
                raise SelectorError(f"--stage {stage!r} is no stage; {_known(stage, STAGES)}")
        for state in self.states:
            if state not in VERDICT_STATES:
                raise SelectorError(f"--state {state!r} is no state; {_known(state, VERDICT_STATES)}")

    def blamed(self) -> dict[str, Any]:
        """Give the part of the filter, on verdicts and on attempts alike, that their index by cause holds.

        It finds all that have a cause which is meant, and maybe more. Asked first, what is read grows with what failed,
        not with the campaign.
        """
        low = min((low for low, _ in self.causes), default=0)
        most = {"$lte": max(high for _, high in self.causes)} if self.causes else {}
        return {"campaign": self.campaign, "cause.code": {"$gte": low, **most}}

    def verdicts(self) -> dict[str, Any]:
        """Give the filter on the verdicts collection."""
        conditions: list[dict[str, Any]] = [{"campaign": self.campaign}]
        if self.rounds:
            conditions.append({"round": {"$in": list(self.rounds)}})
        if self.candidates:
            conditions.append({"candidate": {"$in": list(self.candidates)}})
        if self.stages:
            conditions.append({"cause.stage": {"$in": list(self.stages)}})
        if self.causes:
            conditions.append({"$or": [{"cause.code": {"$gte": low, "$lte": high}} for low, high in self.causes]})
        if self.states:
            meaning = {"failed": {"cause": {"$ne": None}}}
            conditions.append({"$or": [meaning.get(state, {state: True}) for state in self.states]})
        if self.query:
            conditions.append(self.query)
        return conditions[0] if len(conditions) == 1 else {"$and": conditions}

    def attempts(self) -> dict[str, Any]:
        """Give the filter on the attempts collection, which knows nothing of verdicts' fields."""
        wanted: dict[str, Any] = {"campaign": self.campaign}
        for name, values in (("round", self.rounds), ("candidate", self.candidates), ("stage", self.stages)):
            if values:
                wanted[name] = {"$in": list(values)}
        if self.causes:
            wanted["$or"] = [{"cause.code": {"$gte": low, "$lte": high}} for low, high in self.causes]
        return wanted
