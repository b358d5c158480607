"""How long ``nucleate status`` asks the database at 10,000 candidates: 20 closed rounds and one open round of 500.

Fills a fresh database of an embedded server of its own (a temporary data directory) with what the stages would have
left there, structures included, and prints the seconds of ``campaign_status`` beside those of counting the same numbers
from every round's candidates, as a status without stored summaries would have to.

    python benchmarks/status.py [--rounds 20] [--per-round 475] [--open 500] [--repeat 5]
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

from workflows.ledger import campaign_spec
from workflows.monitor.selector import Selector
from workflows.monitor.status import campaign_status
from workflows.monitor.triage import failures
from workflows.records import Attempt, Candidate, Cause, Round, Verdict, candidate_id, now
from workflows.runtime import embedded
from workflows.runtime.store import Store, open_store
from workflows.spec import CampaignSpec
from workflows.summary import summarise

NAME = "large"
VERIFIED = 50
"""Candidates of a round that were verified: a tenth."""

STRUCTURE: dict[str, Any] = {
    "lattice": {"matrix": [[4.2, 0.1, 0.0], [0.0, 4.3, 0.1], [0.1, 0.0, 4.4]], "pbc": [True] * 3},
    "sites": [
        {
            "species": [{"element": "Mg", "occu": 1}],
            "abc": [0.123456, 0.234567, 0.345678],
            "xyz": [1.0, 2.0, 3.0],
            "label": "Mg",
        }
        for _ in range(8)
    ],
}


def candidate(number: int, index: int) -> dict[str, Any]:
    """Give a candidate that went as far as select."""
    record = Candidate(
        candidate=candidate_id(NAME, number, index),
        campaign=NAME,
        round=number,
        index=index,
        generator="random",
        generator_version="1",
        generator_state="0" * 64,
        seed=index,
        condition={},
        structure=STRUCTURE,
        formula="Mg8",
        n_atoms=8,
    ).model_dump()
    passed = index % 3 != 0
    record["screen"] = {"valid": passed, "reasons": [], "unique": passed, "passed": passed}
    if passed:
        record["prerelax"] = {"model": "chgnet", "batch": 0, "energy_ev_per_atom": -5.0, "structure": STRUCTURE}
        novelty = {"composition": False, "prototype": True, "skeleton": False}
        record["select"] = {
            "unique": True,
            "novel": True,
            "novelty": novelty,
            "selected": index < VERIFIED,
            "screening_e_hull_ev_per_atom": 0.05,
        }
    return record


def jobs(
    number: int, first: int, *, judged: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """Give a round's fireworks, attempts and verdicts; those beyond ``judged`` still run or wait."""
    fireworks: list[dict[str, Any]] = []
    attempts: list[dict[str, Any]] = []
    verdicts: list[dict[str, Any]] = []

    def add(stage: str, name: str | None, state: str) -> None:
        fw_id = first + len(fireworks)
        block = {"campaign": NAME, "round": number, "stage": stage, "candidate": name, "engine": "mlip"}
        spec = {"nucleate": block, "_tasks": [{"job": {"function_args": [STRUCTURE], "padding": "x" * 3000}}]}
        fireworks.append({"fw_id": fw_id, "state": state, "name": f"{NAME}/r{number:02d}/{stage}/{name}", "spec": spec})
        if state in {"COMPLETED", "FIZZLED", "RUNNING"}:
            mine = {"COMPLETED": "completed", "FIZZLED": "failed", "RUNNING": "running"}[state]
            attempts.append(
                Attempt(
                    attempt=f"fw{fw_id}-l{fw_id}",
                    campaign=NAME,
                    round=number,
                    candidate=name,
                    stage=stage,
                    job_uuid=f"job-{fw_id}",
                    fw_id=fw_id,
                    launch_id=fw_id,
                    state=mine,
                    host="elsewhere",
                    pid=1,
                    started_at=now(),
                    seconds=1.0,
                    cause=Cause(code=501, name="ionic_steps_exhausted", evidence="300 steps")
                    if mine == "failed"
                    else None,
                ).model_dump()
            )

    for stage in ("sample", "screen", *["prerelax"] * 32, "select"):
        add(stage, None, "COMPLETED")
    for index in range(VERIFIED):
        name = candidate_id(NAME, number, index)
        fails = index % 10 == 9
        for step, stage in enumerate(("relax", "gate", *["phonon"] * 6, "properties", "judge")):
            if index >= judged:
                add(stage, name, "WAITING" if step else ("RUNNING" if index < judged + 2 else "READY"))
            else:
                add(stage, name, "FIZZLED" if fails and stage == "relax" else "COMPLETED")
        if index < judged:
            cause = (
                Cause(code=501, name="ionic_steps_exhausted", evidence="300 steps", stage="relax") if fails else None
            )
            verdicts.append(
                Verdict(
                    candidate=name,
                    campaign=NAME,
                    round=number,
                    formula="Mg8",
                    structure=STRUCTURE,
                    verified=not fails,
                    stable=not fails,
                    hit=False,
                    engine="mlip",
                    protocol="fast",
                    cause=cause,
                ).model_dump()
            )
    return fireworks, attempts, verdicts


def fill(store: Store, closed: int, per_round: int, open_size: int) -> int:
    """Write the campaign; return the number of candidates."""
    spec = CampaignSpec.model_validate(
        {
            "name": NAME,
            "chemistry": {"allowed": ["Mg", "O"]},
            "rounds": closed + 5,
            "samples": per_round,
            "budget": {"verifications": VERIFIED},
        }
    )
    database = store.database
    plain = {"name": NAME, "spec": spec.model_dump(mode="json"), "state": "running", "why": "", "directory": "/nowhere"}
    database.campaigns.insert_one(plain)
    written, first = 0, 1
    for number in range(1, closed + 2):
        last = number > closed
        size = open_size if last else per_round
        database.candidates.insert_many([candidate(number, index) for index in range(size)])
        written += size
        fireworks, attempts, verdicts = jobs(number, first, judged=20 if last else VERIFIED)
        first += len(fireworks)
        for name, documents in (("fireworks", fireworks), ("attempts", attempts), ("verdicts", verdicts)):
            database[name].insert_many(documents)
        record = Round(campaign=NAME, round=number, state="open" if last else "closed", generator_state="0" * 64)
        record.claimed_at = now() - timedelta(hours=closed + 2 - number)
        if not last:
            record.closed_at = record.claimed_at + timedelta(minutes=55)
            record.summary = summarise(database, spec, number)
        database.rounds.insert_one(record.model_dump())
    return written


def seconds(function: Any, repeat: int) -> list[float]:
    """Time a function."""
    found = []
    for _ in range(repeat):
        begun = time.perf_counter()
        function()
        found.append(time.perf_counter() - begun)
    return found


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=20, help="closed rounds")
    parser.add_argument("--per-round", type=int, default=475, help="candidates of a closed round")
    parser.add_argument("--open", type=int, default=500, help="candidates of the open round")
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nucleate-bench-") as directory:
        os.environ["NUCLEATE_DATA_DIR"] = directory
        try:
            with open_store("embedded") as store:
                begun = time.perf_counter()
                written = fill(store, options.rounds, options.per_round, options.open)
                database = store.database
                took = time.perf_counter() - begun
                print(f"{written:,} candidates in {options.rounds + 1} rounds, written in {took:.0f} s")
                spec = campaign_spec(database, NAME)
                asked = seconds(lambda: campaign_status(database, NAME), options.repeat)
                triage = seconds(lambda: failures(database, Selector(NAME)), options.repeat)
                scan = seconds(lambda: [summarise(database, spec, n + 1) for n in range(options.rounds + 1)], 1)
                print(f"campaign_status: median {median(asked):.3f} s, worst {max(asked):.3f} s of {options.repeat}")
                print(f"failures:        median {median(triage):.3f} s, worst {max(triage):.3f} s of {options.repeat}")
                print(f"counting every round instead: {scan[0]:.3f} s, {scan[0] / median(asked):.1f} times as long")
        finally:
            embedded.stop(Path(directory))


if __name__ == "__main__":
    main()
