"""What failed, grouped by cause: how often, one example with its evidence, and what a re-run would change.

Only roots count: a job that fizzled because its parent did (901) says nothing of its own. An attempt that failed, after
which the same job worked, is history and no failure.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dft_inputs.causes import CauseInfo
from workflows.causes import CAUSES, UPSTREAM
from workflows.monitor.rerun.history import History

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymongo.collection import Collection
    from pymongo.database import Database

    from workflows.monitor.selector import Selector

_OF_ITS_OWN = ({"$lt": UPSTREAM}, {"$gt": UPSTREAM})
"""Codes of what failed for a reason of its own, as ranges: several jobs fizzle after each of those."""
_AT_A_TIME = 50
_ATTEMPT = {
    "_id": 0, "attempt": 1, "round": 1, "candidate": 1, "stage": 1, "job_uuid": 1, "job_index": 1, "fw_id": 1,
    "launch_id": 1, "directory": 1, "cause": 1, "replaced": 1,
}  # fmt: skip
_VERDICT = {"_id": 0, "candidate": 1, "round": 1, "formula": 1, "verified": 1, "cause": 1}


@dataclass(frozen=True)
class Failure:
    """One root: a candidate (or a job of the round, candidate ``None``) and where it failed."""

    candidate: str | None
    round: int
    stage: str | None
    code: int
    evidence: str
    verified: bool = False
    formula: str | None = None
    fw_id: int | None = None
    directory: str | None = None


@dataclass(frozen=True)
class FailureGroup:
    """All failures of one cause.

    Parameters
    ----------
    code : int
    name : str
    recognised_by : str
        How the cause is recognised.
    recoverable : bool
        Whether a re-run can help.
    rerun_changes : str
        What a re-run would change.
    count : int
        Candidates, or jobs of a round, that it stopped.
    stages : dict of str to int
    rounds : tuple of int
    candidates : tuple of str
        Sorted.
    example : Failure
    retries : int
        How many re-runs each of them is worth.
    retried : int
        Re-runs of them so far.
    exhausted : int
        How many of them have had all that they are worth.
    command : str
        What runs them again; empty if a re-run can't help.
    """

    code: int
    name: str
    recognised_by: str
    recoverable: bool
    rerun_changes: str
    count: int
    stages: dict[str, int]
    rounds: tuple[int, ...]
    candidates: tuple[str, ...]
    example: Failure
    retries: int
    retried: int
    exhausted: int
    command: str

    def as_dict(self) -> dict[str, Any]:
        """Give a JSON-compatible form."""
        return asdict(self)


def failures(database: Database[Any], selector: Selector) -> list[FailureGroup]:
    """Group what failed by cause, the most frequent first.

    Parameters
    ----------
    database : pymongo.database.Database
        The store's.
    selector : Selector
        Which part of the campaign.

    Returns
    -------
    list of FailureGroup
    """
    groups: dict[int, list[Failure]] = defaultdict(list)
    for failure in find_failures(database, selector):
        groups[failure.code].append(failure)
    histories = _retried(database, selector.campaign, groups) if groups else {}
    found = [_group(code, members, histories) for code, members in groups.items()]
    return sorted(found, key=lambda g: (-g.count, g.code))


def find_failures(database: Database[Any], selector: Selector) -> list[Failure]:
    """List what failed, roots only, sorted by round, candidate, stage and code; parameters as :func:`failures`."""
    judged = _blamed(database.verdicts, selector, selector.verdicts(), _VERDICT)
    roots = _failed_jobs(database, selector)
    first: dict[tuple[str | None, int], dict[str, Any]] = {}
    for attempt in roots:
        first.setdefault((attempt["candidate"], attempt["cause"]["code"]), attempt)
    found = [_of_verdict(verdict, first.get((verdict["candidate"], verdict["cause"]["code"]))) for verdict in judged]
    if not selector.query and not selector.states:
        # a verdict has the last word on its candidate, also where it says that all is well
        known = {verdict["candidate"] for verdict in judged}
        names = sorted({attempt["candidate"] for attempt in roots if attempt["candidate"]} - known)
        known |= {v["candidate"] for v in _listed(database.verdicts, "candidate", names, {"candidate": 1})}
        found += [_of_attempt(attempt) for attempt in roots if attempt["candidate"] not in known]
    return sorted(set(found), key=lambda f: (f.round, f.candidate or "", f.stage or "", f.code, f.fw_id or 0))


def _blamed(
    collection: Collection[Any],
    selector: Selector,
    wanted: dict[str, Any],
    fields: dict[str, int],
    codes: tuple[dict[str, int], ...] = ({},),
) -> list[dict[str, Any]]:
    """Read what carries a cause, in one of the ranges of codes, and is wanted.

    By an index first, then the rest of what that found: the embedded server looks at the whole collection when a
    filter asks for more than one index holds. MongoDB makes one query of both.
    """
    found: list[dict[str, Any]] = []
    blamed = selector.blamed()
    for part in codes:
        first = blamed | {"cause.code": blamed["cause.code"] | part}
        found += collection.aggregate([{"$match": first}, {"$match": wanted}, {"$project": fields}])
    return found


def _listed(
    collection: Collection[Any], name: str, values: Sequence[Any], fields: dict[str, int]
) -> list[dict[str, Any]]:
    """Read what has one of the values of a field that has an index, some at a time.

    The embedded server finds them by the index, and then compares each document with all of the values.
    """
    found: list[dict[str, Any]] = []
    for begin in range(0, len(values), _AT_A_TIME):
        found += collection.find({name: {"$in": list(values[begin : begin + _AT_A_TIME])}}, fields)
    return found


def _retried(
    database: Database[Any], campaign: str, groups: Mapping[int, Sequence[Failure]]
) -> dict[tuple[int, str | None], History]:
    """Read, by round and candidate, what was tried for those that failed and for which a re-run was asked for."""
    asked = {"campaign": campaign, "state": {"$in": ["planned", "begun"]}}
    plans = database.attempts.find(asked, {"_id": 0, "round": 1, "candidate": 1})
    failed = {(member.round, member.candidate) for members in groups.values() for member in members}
    again = failed & {(plan["round"], plan["candidate"]) for plan in plans}
    return {(number, candidate): History.of(database, campaign, number, candidate) for number, candidate in again}


def _failed_jobs(database: Database[Any], selector: Selector) -> list[dict[str, Any]]:
    """List the newest attempt of each job that failed for a reason of its own."""
    wanted = {"$and": [selector.attempts(), {"state": "failed"}]}
    failed = _blamed(database.attempts, selector, wanted, {"_id": 0, "attempt": 1, "fw_id": 1}, _OF_ITS_OWN)
    # a job keeps its firework when it runs again, and that has an index of its own
    fireworks = sorted({attempt["fw_id"] for attempt in failed if attempt["fw_id"] is not None})
    launched = _listed(database.attempts, "fw_id", fireworks, _ATTEMPT)
    newest: dict[tuple[str, int], dict[str, Any]] = {}
    for attempt in sorted(launched, key=lambda a: a["launch_id"] or 0):
        if attempt["launch_id"] is not None and not attempt.get("replaced"):
            newest[attempt["job_uuid"], attempt["job_index"]] = attempt
    # one that failed and then worked is not among those that failed, or not for what was asked
    asked = {attempt["attempt"] for attempt in failed}
    return [attempt for attempt in newest.values() if attempt["attempt"] in asked]


def _of_verdict(verdict: dict[str, Any], root: dict[str, Any] | None) -> Failure:
    cause = verdict["cause"]
    root = root or {"fw_id": None, "directory": None, "stage": None}
    return Failure(
        candidate=verdict["candidate"],
        round=verdict["round"],
        stage=cause.get("stage") or root["stage"],
        code=cause["code"],
        evidence=cause["evidence"],
        verified=verdict["verified"],
        formula=verdict["formula"],
        fw_id=root["fw_id"],
        directory=root["directory"],
    )


def _of_attempt(attempt: dict[str, Any]) -> Failure:
    return Failure(
        candidate=attempt["candidate"],
        round=attempt["round"],
        stage=attempt["stage"],
        code=attempt["cause"]["code"],
        evidence=attempt["cause"]["evidence"],
        fw_id=attempt["fw_id"],
        directory=attempt["directory"],
    )


def _group(code: int, members: list[Failure], histories: Mapping[tuple[int, str | None], History]) -> FailureGroup:
    info = CAUSES.get(code) or CauseInfo(code, "unlisted", "written by another version", recoverable=False, retries=0)
    stages: dict[str, int] = defaultdict(int)
    for member in members:
        stages[member.stage or "?"] += 1
    tried = [(histories.get((member.round, member.candidate)), member.stage or "?") for member in members]
    spent = [history.tries(stage, code) if history is not None else 0 for history, stage in tried]
    return FailureGroup(
        code=code,
        name=info.name,
        recognised_by=info.recognised_by,
        recoverable=info.recoverable,
        rerun_changes=info.rerun_changes,
        count=len(members),
        stages=dict(sorted(stages.items())),
        rounds=tuple(sorted({member.round for member in members})),
        candidates=tuple(sorted({member.candidate for member in members if member.candidate})),
        example=next((member for member in members if member.directory), members[0]),
        retries=info.retries,
        retried=sum(spent),
        exhausted=sum(tries >= info.retries for tries in spent) if info.recoverable else 0,
        command=f"nucleate rerun --cause {code}" if info.recoverable else "",
    )
