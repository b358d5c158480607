"""Failures are read by indexes; the answer is that of going through everything, for whatever is selected."""

from __future__ import annotations

import random

import pytest

from workflows.causes import CAUSES
from workflows.monitor import triage
from workflows.monitor.selector import Selector, parse_causes, parse_query
from workflows.monitor.triage import Failure, failures, find_failures
from workflows.records import Attempt, Cause, Verdict, candidate_id, now

STAGES = ("relax", "gate", "phonon", "properties")
CODES = (101, 102, 205, 501, 502, 601, 603, 604, 902)
UPSTREAM = 901
NO_LAUNCH = ("planned", "begun")
QUERIES = ('{"verified": true}', '{"$or": [{"cause": 501}, {"energy_above_hull": {"$lt": 0.1}}]}', '{"cause": null}')


class Dice:
    """Throws a small campaign in which everything happens: jobs that failed, worked later, were made anew, or wait."""

    def __init__(self, seed: int, name: str, first: int) -> None:
        self.random = random.Random(seed)
        self.name, self.launches = name, first
        self.attempts: list[Attempt] = []
        self.verdicts: list[Verdict] = []
        for number in (1, 2, 3):
            self.job(number, None, "screen")
            for index in range(6):
                self.candidate(number, candidate_id(name, number, index))

    def cause(self, code: int, stage: str) -> Cause:
        name = CAUSES[code].name if code in CAUSES else "of another version"
        return Cause(code=code, name=name, evidence="seen", stage=self.random.choice([None, stage]))

    def one(self, fw_id: int, number: int, candidate: str | None, stage: str, state: str, code: int | None) -> None:
        self.launches += 1
        launched = state not in NO_LAUNCH
        self.attempts.append(
            Attempt(
                attempt=f"{self.name}-{self.launches}",
                campaign=self.name,
                round=number,
                candidate=candidate,
                stage=stage,
                job_uuid=f"job-{fw_id}",
                fw_id=fw_id,
                launch_id=self.launches if launched else None,
                state=state,
                directory=f"/launches/{self.launches}",
                planned_at=None if launched else now(),
                cause=self.cause(code, stage) if code is not None else None,
                replaced=launched and self.random.random() < 0.1,
            )
        )

    def job(self, number: int, candidate: str | None, stage: str) -> None:
        """Run a job up to three times, with re-runs asked for between."""
        self.launches += 1
        fw_id = self.launches
        for _ in range(self.random.choice([1, 1, 2, 3])):
            state = self.random.choice(["completed", "failed", "failed", "lost", "running"])
            code = self.random.choice([*CODES, UPSTREAM, UPSTREAM, None]) if state in {"failed", "lost"} else None
            self.one(fw_id, number, candidate, stage, state, code)
            if self.random.random() < 0.3:
                self.one(fw_id, number, candidate, stage, self.random.choice(NO_LAUNCH), self.random.choice(CODES))

    def candidate(self, number: int, candidate: str) -> None:
        for stage in STAGES[: self.random.randint(0, 4)]:
            self.job(number, candidate, stage)
        if self.random.random() < 0.7:
            code = self.random.choice([*CODES, None, None, None])
            verified = self.random.random() < 0.5
            self.verdicts.append(
                Verdict(
                    candidate=candidate,
                    campaign=self.name,
                    round=number,
                    formula="MgO",
                    energy_above_hull_ev_per_atom=self.random.random() / 5 if verified else None,
                    verified=verified,
                    stable=verified and code is None,
                    hit=False,
                    engine="mlip",
                    protocol="fast",
                    late=self.random.random() < 0.2,
                    cause=self.cause(code, self.random.choice(STAGES)) if code is not None else None,
                )
            )

    def selector(self) -> Selector:
        def some(of):
            return tuple(self.random.sample(of, self.random.randint(1, 2))) if self.random.random() < 0.3 else ()

        return Selector(
            self.name,
            rounds=some([1, 2, 3, 4]),
            stages=some([*STAGES, "screen"]),
            candidates=some([candidate_id(self.name, number, index) for number in (1, 2) for index in range(6)]),
            states=some(["failed", "verified", "late"]),
            causes=parse_causes(some(["501", "1xx", "6xx", "5xx", "901", "9xx"])),
            query=parse_query(self.random.choice(QUERIES)) if self.random.random() < 0.2 else {},
        )


def naive(database, selector):
    """Go through every attempt; a plain query for the verdicts."""
    attempts = sorted(database.attempts.find({"campaign": selector.campaign}), key=lambda a: a["launch_id"] or 0)
    newest = {a["job_uuid"]: a for a in attempts if a["launch_id"] is not None and not a["replaced"]}
    roots = [
        attempt
        for attempt in newest.values()
        if attempt["state"] == "failed"
        and attempt["cause"]
        and attempt["cause"]["code"] != UPSTREAM
        and (not selector.rounds or attempt["round"] in selector.rounds)
        and (not selector.stages or attempt["stage"] in selector.stages)
        and (not selector.candidates or attempt["candidate"] in selector.candidates)
        and (not selector.causes or any(low <= attempt["cause"]["code"] <= high for low, high in selector.causes))
    ]
    found = set()
    for verdict in database.verdicts.find({"$and": [selector.verdicts(), {"cause": {"$ne": None}}]}):
        code, candidate = verdict["cause"]["code"], verdict["candidate"]
        mine = [a for a in roots if a["candidate"] == candidate and a["cause"]["code"] == code]
        root = mine[0] if mine else {"fw_id": None, "directory": None, "stage": None}
        stage = verdict["cause"]["stage"] or root["stage"]
        what = (candidate, verdict["round"], stage, code, "seen", verdict["verified"], "MgO")
        found.add(Failure(*what, root["fw_id"], root["directory"]))
    if not selector.query and not selector.states:
        judged = {verdict["candidate"] for verdict in database.verdicts.find()}
        for a in roots:
            if a["candidate"] not in judged:
                what = (a["candidate"], a["round"], a["stage"], a["cause"]["code"], "seen", False, None)
                found.add(Failure(*what, a["fw_id"], a["directory"]))
    return found


def reruns(database, member):
    """Count the calls that asked for a re-run of what failed, for its cause."""
    where = {"campaign": "oxides", "round": member.round, "candidate": member.candidate, "launch_id": None}
    return len(
        {
            a["planned_at"]
            for a in database.attempts.find(where)
            if a["cause"]["code"] == member.code and (a["cause"]["stage"] or a["stage"]) == (member.stage or "?")
        }
    )


@pytest.mark.parametrize("seed", range(3))
def test_it_finds_what_going_through_everything_finds(store, seed, monkeypatch):
    monkeypatch.setattr(triage, "_AT_A_TIME", 3)
    dice = Dice(seed, "oxides", 0)
    other = Dice(seed, "nitrides", dice.launches)
    for name in ("attempts", "verdicts"):
        store.database[name].insert_many([r.model_dump() for d in (dice, other) for r in getattr(d, name)])
    selectors = [Selector("oxides"), *(dice.selector() for _ in range(40))]
    counts = []
    for selector in selectors:
        wanted = naive(store.database, selector)
        found = find_failures(store.database, selector)
        assert len(found) == len(set(found))
        assert set(found) == wanted, selector
        counts.append(len(wanted))
    assert counts[0] > 5
    assert sum(0 < count < counts[0] for count in counts) > 5  # they do select something, and not everything

    for group in failures(store.database, selectors[0]):
        members = [one for one in find_failures(store.database, selectors[0]) if one.code == group.code]
        assert group.count == len(members)
        assert group.retried == sum(reruns(store.database, one) for one in members)
        assert group.example in members


@pytest.mark.parametrize("causes", [[], ["501"], ["1xx", "6xx"]])
def test_an_index_leads_to_what_failed(store, causes):
    wanted = Selector("oxides", causes=parse_causes(causes)).blamed()
    for name in ("attempts", "verdicts"):
        store.database[name].insert_one({"campaign": "oxides"} | {"attempt": "a", "candidate": "a", "cause": None})
        plan = store.database[name].find(wanted).explain()["queryPlanner"]["winningPlan"]
        assert "'campaign': 1, 'cause.code': 1" in str(plan)
