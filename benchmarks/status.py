"""How long ``status`` and ``failures`` ask the database at 100,000 candidates in 199 closed rounds and an open one.

Fills the database of an embedded server of its own (in a temporary directory, or in ``--keep DIR``, where a run that
was interrupted goes on) with what the stages would have left there, structures included: candidates, fireworks,
workflows, attempts, verdicts. Prints the seconds of both beside those of FireWorks' own calls on the same database
(what ``lpad get_wflows`` and ``lpad get_fws`` make), and of counting every round's candidates, as a status without
stored summaries would have to.

    python benchmarks/status.py [--rounds 199] [--per-round 500] [--open 500] [--repeat 5] [--keep DIR]
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import psutil

from workflows.ledger import campaign_spec
from workflows.monitor.selector import Selector
from workflows.monitor.status import campaign_status
from workflows.monitor.triage import failures
from workflows.records import Attempt, Candidate, Cause, Round, RoundSummary, Verdict, candidate_id, now
from workflows.runtime import embedded
from workflows.runtime.accounting import balance
from workflows.runtime.store import Store, open_store
from workflows.spec import CampaignSpec
from workflows.summary import summarise

if TYPE_CHECKING:
    from collections.abc import Callable

NAME = "large"
VERIFIED = 50
"""Candidates of a round that were verified: a tenth."""
_ROUND = ("sample", "screen", *["prerelax"] * 32, "select")
_WELL = ("relax", "gate", *["phonon"] * 6, "properties", "judge")
_FAILS = ("relax", "gate", "phonon", "properties", "judge")
"""Where the relaxation fails, which is every tenth: what comes after it fizzles with it, but for the judge."""
_JOBS = len(_ROUND) + VERIFIED // 10 * (9 * len(_WELL) + len(_FAILS))
"""Fireworks of a closed round."""

CREATED = "2026-11-01T00:00:00.000000"

STRUCTURE: dict[str, Any] = {
    "lattice": {"matrix": [[4.2, 0.1, 0.0], [0.0, 4.3, 0.1], [0.1, 0.0, 4.4]], "pbc": [True] * 3},
    "sites": [
        {
            "species": [{"element": "Mg", "occu": 1}],
            "abc": [0.123456, 0.234567, 0.345678],
            "xyz": [1.0, 2.0, 3.0],
            "label": "Mg",
        }
        for _ in range(4)
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
        formula="Mg4",
        n_atoms=4,
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

    def add(stage: str, name: str | None, state: str, cause: Cause | None = None) -> None:
        fw_id = first + len(fireworks)
        block = {"campaign": NAME, "round": number, "stage": stage, "candidate": name, "engine": "mlip"}
        spec = {"nucleate": block, "_tasks": [{"job": {"function_args": [STRUCTURE], "padding": "x" * 500}}]}
        launched = [fw_id] if state in {"COMPLETED", "FIZZLED", "RUNNING"} else []
        stamp = {"created_on": CREATED, "updated_on": CREATED, "launches": launched, "archived_launches": []}
        named = f"{NAME}/r{number:02d}/{stage}/{name}"
        fireworks.append({"fw_id": fw_id, "state": state, "name": named, "spec": spec} | stamp)
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
                    cause=cause,
                ).model_dump()
            )

    root = Cause(code=501, name="ionic_steps_exhausted", evidence="300 steps", stage="relax")
    upstream = Cause(code=901, name="upstream", evidence="a job before it failed")
    for stage in _ROUND:
        add(stage, None, "COMPLETED")
    for index in range(VERIFIED):
        name = candidate_id(NAME, number, index)
        fails = index % 10 == 9
        for step, stage in enumerate(_FAILS if fails else _WELL):
            if index >= judged:
                add(stage, name, "WAITING" if step else ("RUNNING" if index < judged + 2 else "READY"))
            elif fails and stage != "judge":
                add(stage, name, "FIZZLED", upstream if step else root)
            else:
                add(stage, name, "COMPLETED")
        if index < judged:
            verdicts.append(
                Verdict(
                    candidate=name,
                    campaign=NAME,
                    round=number,
                    formula="Mg4",
                    structure=STRUCTURE,
                    verified=not fails,
                    stable=not fails,
                    hit=False,
                    engine="mlip",
                    protocol="fast",
                    cause=root if fails else None,
                ).model_dump()
            )
    return fireworks, attempts, verdicts


def workflow(number: int, fireworks: list[dict[str, Any]]) -> dict[str, Any]:
    """Give the document that links a round's fireworks."""
    nodes = [fw["fw_id"] for fw in fireworks]
    return {
        "nodes": nodes,
        "links": {str(a): [b] for a, b in itertools.pairwise(nodes)} | {str(nodes[-1]): []},
        "parent_links": {str(b): [a] for a, b in itertools.pairwise(nodes)},
        "fw_states": {str(fw["fw_id"]): fw["state"] for fw in fireworks},
        "name": f"{NAME}/r{number:02d}",
        "metadata": {"nucleate_round": f"{NAME}/r{number:02d}"},
        "state": "COMPLETED",
        "created_on": now(),
        "updated_on": now(),
    }


def forget(database: Any, number: int) -> None:
    """Remove what an interrupted run has left of a round."""
    mine = {"campaign": NAME, "round": number}
    for name in ("candidates", "attempts", "verdicts"):
        database[name].delete_many(mine)
    database.fireworks.delete_many({"spec.nucleate.campaign": NAME, "spec.nucleate.round": number})
    database.workflows.delete_many({"metadata.nucleate_round": f"{NAME}/r{number:02d}"})


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
    database.campaigns.update_one({"name": NAME}, {"$setOnInsert": plain}, upsert=True)
    written, first = 0, 1
    alike: RoundSummary | None = None  # closed rounds are alike; reading each would take as long as writing it
    there = {r["round"] for r in database.rounds.find({"campaign": NAME}, {"round": 1})}
    for number in range(1, closed + 2):
        last = number > closed
        if number in there:
            first += _JOBS
            continue
        forget(database, number)
        size = open_size if last else per_round
        database.candidates.insert_many([candidate(number, index) for index in range(size)])
        written += size
        fireworks, attempts, verdicts = jobs(number, first, judged=20 if last else VERIFIED)
        first += len(fireworks)
        for name, documents in (("fireworks", fireworks), ("attempts", attempts), ("verdicts", verdicts)):
            database[name].insert_many(documents)
        database.workflows.insert_one(workflow(number, fireworks))
        record = Round(campaign=NAME, round=number, state="open" if last else "closed", generator_state="0" * 64)
        record.claimed_at = now() - timedelta(hours=closed + 2 - number)
        if not last:
            record.closed_at = record.claimed_at + timedelta(minutes=55)
            alike = alike or summarise(database, spec, number)
            record.summary = alike.model_copy(update={"number": number})
        database.rounds.insert_one(record.model_dump())
    return written


class Watch:
    """Times calls: by the clock, and by the CPU time of this process and the server's, which a busy machine leaves."""

    def __init__(self, server: int | None) -> None:
        self.processes = [psutil.Process(pid) for pid in (os.getpid(), server) if pid is not None]

    def cpu(self) -> float:
        """Give the CPU time that was spent so far, s."""
        return sum(process.cpu_times().user + process.cpu_times().system for process in self.processes)

    def tell(self, name: str, function: Callable[[], Any], repeat: int = 1) -> Any:
        """Call a function and print what it took; return what it gave last."""
        clock, cpu, given = [], [], None
        for _ in range(repeat):
            begun, spent = time.perf_counter(), self.cpu()
            given = function()
            clock.append(time.perf_counter() - begun)
            cpu.append(self.cpu() - spent)
        times = f"median {median(clock):8.3f} s, best {min(clock):.3f}, worst {max(clock):.3f} of {repeat}"
        print(f"{name:<28} {times}; {median(cpu):.2f} CPU-s", flush=True)
        return given


def get_wflows(store: Store) -> int:
    """Ask as ``lpad get_wflows -q '{"name": ...}' -d less`` does."""
    ids = store.launchpad.get_wf_ids({"name": {"$regex": f"^{NAME}/"}})
    return len([store.launchpad.get_wf_summary_dict(fw_id, mode="less") for fw_id in ids])


def fizzled(store: Store) -> list[int]:
    """Ask as ``lpad get_fws -s FIZZLED -q '{"spec.nucleate.campaign": ...}' -d ids`` does."""
    ids: list[int] = store.launchpad.get_fw_ids({"state": "FIZZLED", "spec.nucleate.campaign": NAME})
    return ids


def get_fws(store: Store) -> int:
    """Ask for the same with ``-d all``, which tells what failed and why."""
    return len([store.launchpad.fireworks.find_one({"fw_id": fw_id}) for fw_id in fizzled(store)])


def measure(store: Store, server: int | None, rounds: int, repeat: int) -> None:
    """Time both commands' queries and FireWorks' own, and print them."""
    database = store.database
    spec = campaign_spec(database, NAME)
    watch = Watch(server)
    print(f"load average {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    watch.tell("status", lambda: campaign_status(database, NAME), repeat)
    groups = watch.tell("failures", lambda: failures(database, Selector(NAME)), repeat)
    print(f"  failures found: {sum(group.count for group in groups)}")
    watch.tell("failures --round 7", lambda: failures(database, Selector(NAME, rounds=(7,))), repeat)
    workflows = watch.tell("lpad get_wflows -d less", lambda: get_wflows(store))
    fireworks = watch.tell("lpad get_fws -s FIZZLED", lambda: get_fws(store))
    watch.tell("lpad get_fws -d ids", lambda: fizzled(store), repeat)
    print(f"  workflows found: {workflows}, fireworks: {fireworks}")
    watch.tell("counting every round", lambda: [summarise(database, spec, n + 1) for n in range(rounds + 1)])


def main() -> None:
    """Fill, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=199, help="closed rounds")
    parser.add_argument("--per-round", type=int, default=500, help="candidates of a closed round")
    parser.add_argument("--open", type=int, default=500, help="candidates of the open round")
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="directory of the database, kept and gone on with")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nucleate-bench-")))
        os.environ["NUCLEATE_DATA_DIR"] = str(directory)
        stack.callback(embedded.stop, directory)
        store = stack.enter_context(open_store("embedded"))
        store.ensure_indexes()
        begun = time.perf_counter()
        written = fill(store, options.rounds, options.per_round, options.open)
        balance(store.database, NAME)  # as each closing round does
        took = time.perf_counter() - begun
        total = options.rounds * options.per_round + options.open
        print(f"{total:,} candidates in {options.rounds + 1} rounds, {written:,} written in {took:.0f} s", flush=True)
        measure(store, embedded.status(directory).server, options.rounds, options.repeat)


if __name__ == "__main__":
    main()
