"""Our run of a firework against FireWorks' own Rocket: the same documents, in fewer writes."""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
import time
from collections import Counter
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from bson import json_util
from fireworks import Firework, FWorker, LaunchPad, Workflow
from fireworks.core import firework as fireworks_module
from fireworks.core.rocket import Rocket
from pymongo.monitoring import CommandListener

from workflows.runtime import rocket
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CLAIMED_BY, CampaignLaunchPad
from workflows.runtime.rocket import run_claimed, workflow_state
from workflows.runtime.worker_process import JobRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflows.runtime.store import Store

SUPPORT = Path(__file__).parents[2] / "support"
COLLECTIONS = ("fireworks", "launches", "workflows")
OWNER = str(ProcessName.own())
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(\+00:00)?$")


def give(name: str, *tasks: dict[str, Any], parents: Any = None, **spec: Any) -> Firework:
    import sample_jobs as jobs

    return Firework([jobs.Give(**task) for task in tasks or ({},)], name=name, parents=parents, spec=spec)


def chain(first: Firework, *others: Callable[[Firework], Firework]) -> Workflow:
    fireworks = [first]
    for other in others:
        fireworks.append(other(fireworks[-1]))
    return Workflow(fireworks)


def below(first: Firework, **spec: Any) -> Workflow:
    """Put a child below a firework, and one below that."""
    child = give("child", parents=first, **spec)
    return Workflow([first, child, give("grandchild", parents=child)])


def diamond(**spec: Any) -> Workflow:
    top = give("top", {"action": {"stored_data": {"x": 1}}})
    sides = [give("left", parents=top), give("right", {"fail": "told to"} if spec else {}, parents=top)]
    return Workflow([top, *sides, give("bottom", parents=sides, **spec)])


def detouring() -> Workflow:
    import sample_jobs as jobs

    a = jobs.act("a", "notes", detour=True, addition=True)
    b = jobs.act("b", "notes", parents=[a])
    return Workflow([a, b, jobs.act("d", "notes", parents=[a, b])])


def appending() -> Workflow:
    a = give("a")
    b = give("b", {"append_to": [], "notes": "notes"}, parents=a)
    return Workflow([a, b, give("c", parents=b)])


def failing_beside(tolerant: bool) -> Workflow:
    """One of two branches fails; the state of the workflow depends on whether its child tolerates that."""
    top = give("top")
    bad = give("bad", {"fail": "told to"}, parents=top)
    after = give("after bad", parents=bad, **({"_allow_fizzled_parents": True} if tolerant else {}))
    good = give("good", parents=top)
    return Workflow([top, bad, after, good, give("after good", parents=good)])


def duplicates() -> Workflow:
    import sample_jobs as jobs

    return Workflow([give(f"same{i}", same=1, _dupefinder=jobs.SameSpec()) for i in range(2)])


def duplicate_of_one_without() -> Workflow:
    """The second takes over the launch of the first, which knows nothing of it."""
    import sample_jobs as jobs

    return Workflow([give("first", same=1), give("second", same=1, _dupefinder=jobs.SameSpec())])


UPDATE = {"update_spec": {"told": 1}, "mod_spec": [{"_push": {"list": 2}}]}
STORE = {"stored_data": {"big": list(range(9)), "when": "2026-01-01T00:00:00"}}

FLOWS: dict[str, Callable[[], Workflow]] = {
    "one": lambda: Workflow([give("one")]),
    "stores": lambda: Workflow([give("stores", {"action": STORE})]),
    "chain": lambda: below(give("first")),
    "diamond": diamond,
    "fails": lambda: below(give("fails", {"fail": "told to"})),
    "fails alone": lambda: Workflow([give("fails", {"fail": "told to"}), give("other")]),
    "failed parent tolerated": lambda: below(give("fails", {"fail": "told to"}), _allow_fizzled_parents=True),
    "one of two parents failed": lambda: diamond(_allow_fizzled_parents=True),
    "a branch failed": lambda: failing_beside(False),
    "a branch failed, tolerated": lambda: failing_beside(True),
    "detour and addition": detouring,
    "append": appending,
    "updates children": lambda: below(give("first", {"action": UPDATE})),
    "updates all below": lambda: below(give("first", {"action": {**UPDATE, "propagate": True}})),
    "updates nobody": lambda: Workflow([give("alone", {"action": UPDATE})]),
    "defuses children": lambda: below(give("first", {"action": {"defuse_children": True}})),
    "defuses the workflow": lambda: below(give("first", {"action": {"defuse_workflow": True}})),
    "defuses, alone": lambda: Workflow([give("first", {"action": {"defuse_workflow": True}}), give("other")]),
    "tasks": lambda: below(give("tasks", {"action": STORE}, {"action": UPDATE}, {})),
    "the second task fails": lambda: below(give("tasks", {"action": {**STORE, **UPDATE}}, {"fail": "told to"})),
    "exits early": lambda: below(give("exits", {"action": {"exit": True, **STORE}}, {"fail": "never runs"})),
    "an action in a file": lambda: below(give("file", {"file": UPDATE})),
    "nonsense": lambda: below(give("nonsense", {"nonsense": "no action"})),
    "an unknown modification": lambda: below(give("first", {"action": {"mod_spec": [{"_no_such": {"a": 1}}]}})),
    "job info": lambda: below(give("first", _pass_job_info=True), _pass_job_info=True),
    "keeps its worker": lambda: below(give("first", _preserve_fworker=True)),
    "environment and worker": lambda: Workflow([give("first", _add_fworker=True)]),
    "files out": lambda: below(give("first", {"file": {}}, _files_out={"action": "FWAction*"})),
    "files in": lambda: Workflow([give("first", _files_in={"a": "b"})]),
    "trackers": lambda: Workflow([give("first", _trackers=[])]),
    "duplicates": duplicates,
    "duplicate of one without": duplicate_of_one_without,
    "many children": lambda: Workflow([top := give("top"), *(give(f"c{i:02d}", parents=top) for i in range(60))]),
}
RUNS = {"many children": 2}
RACES = {"nonsense", "an unknown modification"}
"""FireWorks puts back the launch as it was before its checkpoint, and its heartbeat may write that again."""


def plain(value: Any, key: str = "") -> Any:
    """Replace what can't be the same twice: times by their kind, places and stack traces by what they end with."""
    if isinstance(value, dict):
        return {k: plain(v, k) for k, v in value.items() if k != "_id"}
    if isinstance(value, list):
        # links are sets: FireWorks lists the parents in the order that a dictionary happens to have
        return sorted(value) if value and all(isinstance(v, int) for v in value) else [plain(v, key) for v in value]
    if isinstance(value, datetime):
        return "a datetime"
    if isinstance(value, str):
        if TIME.match(value) and key != "when":
            return "a time"
        if key == "_stacktrace":
            return value.strip().split("\n")[-1]
        return "a directory" if value.startswith("/") else value
    return type(value).__name__ if key == "runtime_secs" else value


def without(value: Any, key: str) -> Any:
    if isinstance(value, dict):
        return {k: without(v, key) for k, v in value.items() if k != key}
    return [without(v, key) for v in value] if isinstance(value, list) else value


class Bench:
    """The same workflow twice on one database, from the same ids on."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store = store
        self.db = store.database
        self.launchpad: LaunchPad = store.launchpad
        self.directory = directory
        self.signed = CampaignLaunchPad.signed(store.launchpad, OWNER)
        self.runner = JobRunner(self.signed, directory / "ours")

    def clear(self) -> None:
        for name in COLLECTIONS:
            self.db[name].delete_many({})
        fireworks_module.NEGATIVE_FWID_CTR = -1000  # of what is added while it runs
        self.db.fw_id_assigner.update_one({}, {"$set": {"next_fw_id": 1, "next_launch_id": 1}})

    def by_fireworks(self, fw_id: int) -> None:
        place = self.directory / "theirs" / str(fw_id)
        place.mkdir(parents=True, exist_ok=True)
        with contextlib.chdir(place):
            Rocket(self.launchpad, FWorker(OWNER, category=[]), fw_id).run()

    def by_us(self, fw_id: int) -> None:
        firework = self.signed.claim({"fw_id": fw_id})
        if firework is not None:  # a duplicate takes over another's launch
            state = self.runner.run(firework)
            assert state == self.db.fireworks.find_one({"fw_id": fw_id})["state"]

    def documents(self) -> dict[str, Any]:
        key = {"fireworks": "fw_id", "launches": "launch_id", "workflows": "nodes"}
        found = {name: [plain(d) for d in self.db[name].find()] for name in COLLECTIONS}
        return {name: sorted(documents, key=lambda d: d[key[name]]) for name, documents in found.items()}

    def run(self, side: Callable[[int], None], flow: Workflow, limit: int = 20) -> list[Any]:
        """Run a workflow, the lowest READY id first; gives the documents after each firework."""
        self.clear()
        self.launchpad.add_wf(flow)
        seen = []
        while len(seen) < limit and (ready := self.db.fireworks.find_one({"state": "READY"}, sort=[("fw_id", 1)])):
            side(ready["fw_id"])
            seen.append(self.documents())
        return seen


@pytest.fixture
def bench(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.syspath_prepend(str(SUPPORT))
    return Bench(store, tmp_path)


@pytest.mark.parametrize("name", FLOWS)
def test_leaves_what_fireworks_leaves(bench: Bench, name: str):
    flow, limit = FLOWS[name](), RUNS.get(name, 20)
    theirs = bench.run(bench.by_fireworks, deepcopy(flow), limit)
    ours = bench.run(bench.by_us, flow, limit)
    assert len(ours) == len(theirs) > 0
    for step, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        if name in RACES:
            one, other = without(one, "checkpoint"), without(other, "checkpoint")  # noqa: PLW2901
        assert one == other, f"after firework {step + 1}"


def test_a_firework_that_runs_looks_as_with_fireworks(bench: Bench):
    seen = []
    for side in (bench.by_fireworks, bench.by_us):
        file = bench.directory / "seen.json"
        first = give("first", {}, {"show": str(file)}, _add_launchpad_and_fw_id=True)
        bench.run(side, Workflow([first, give("second", parents=first)]), limit=1)
        documents = json_util.loads(file.read_text())
        assert documents["fireworks"][-1]["state"] == "RUNNING"
        seen.append(plain(documents))
    assert seen[0] == seen[1]


def test_a_rerun_keeps_the_earlier_launch_as_with_fireworks(bench: Bench):
    seen = []
    for side in (bench.by_fireworks, bench.by_us):
        bench.run(side, below(give("first")))
        bench.launchpad.rerun_fw(3)
        side(3)
        side(2)
        seen.append(bench.documents())
    assert seen[0] == seen[1]
    assert sorted(len(fw["archived_launches"]) for fw in seen[0]["fireworks"]) == [1, 1, 1]


@pytest.mark.parametrize("change", ["defuse_fw", "pause_fw"])
def test_what_somebody_changed_meanwhile_is_kept(bench: Bench, change: str):
    """A child that was set aside stays so when its parent ends."""
    seen = []
    for side in (bench.by_fireworks, bench.by_us):
        bench.clear()
        bench.launchpad.add_wf(below(give("first")))
        getattr(bench.launchpad, change)(2)
        side(3)
        seen.append(bench.documents())
    assert seen[0] == seen[1]
    assert {fw["state"] for fw in seen[0]["fireworks"]} > {"COMPLETED", "WAITING"}


def claimed(bench: Bench, firework: Firework) -> Firework:
    bench.clear()
    bench.launchpad.add_wf(Workflow([firework]))
    return bench.signed.claim({})


def test_a_claim_that_was_taken_away_is_not_run(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    firework = claimed(bench, give("first"))
    bench.db.fireworks.update_one({}, {"$set": {"state": "READY"}, "$unset": {CLAIMED_BY: ""}})
    monkeypatch.chdir(bench.directory)
    assert run_claimed(bench.signed, FWorker(OWNER), firework) == "READY"
    assert bench.db.launches.find_one() is None


def test_a_launch_that_was_taken_away_does_not_come_back(bench: Bench):
    """Somebody took this process for dead, gave its firework back, and it runs elsewhere."""
    import sample_jobs as jobs

    def elsewhere(_: Any) -> None:
        bench.signed.give_back(1)
        other = CampaignLaunchPad.signed(bench.launchpad, "nucleate-elsewhere-1-1")
        assert other.claim({})

    firework = claimed(bench, give("first"))
    firework.tasks[0].run_task = elsewhere
    assert isinstance(firework.tasks[0], jobs.Give)
    assert bench.runner.run(firework) == "RESERVED"
    found = bench.db.fireworks.find_one()
    assert (found["state"], found["launches"], found[CLAIMED_BY]) == ("RESERVED", [], "nucleate-elsewhere-1-1")


def test_a_firework_paused_while_it_ran_stays_paused(bench: Bench):
    firework = claimed(bench, give("first"))
    firework.tasks[0].run_task = lambda _: bench.db.fireworks.update_one({}, {"$set": {"state": "PAUSED"}}) and None
    assert bench.runner.run(firework) == "PAUSED"
    assert bench.db.workflows.find_one()["state"] == "PAUSED"
    assert bench.db.launches.find_one()["state"] == "COMPLETED"


def test_a_result_too_large_for_a_document_goes_where_fireworks_puts_it(bench: Bench):
    big = {"stored_data": {"big": "x" * (17 * 2**20)}}
    firework = claimed(bench, give("first"))
    firework.tasks[0]["action"] = big
    assert bench.runner.run(firework) in {"COMPLETED", "FIZZLED"}
    assert "locked" not in bench.db.workflows.find_one()
    assert bench.db.launches.find_one()["state"] == bench.db.fireworks.find_one()["state"]


def test_a_heartbeat_is_sent_while_it_runs_and_none_after(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(rocket, "PING_TIME_SECS", 0.05)
    beats: list[int] = []
    three = threading.Event()

    def beat(launch_id: int, **_: Any) -> None:
        beats.append(launch_id)
        if len(beats) == 3:
            three.set()

    monkeypatch.setattr(bench.signed, "ping_launch", beat)
    firework = claimed(bench, give("first"))

    def work(_: Any) -> None:
        assert three.wait(30.0)

    firework.tasks[0].run_task = work
    assert bench.runner.run(firework) == "COMPLETED"
    sent = len(beats)
    assert sent >= 3
    time.sleep(0.15)
    assert len(beats) == sent


class Counted(CommandListener):
    """Counts the commands of each kind."""

    def __init__(self) -> None:
        self.commands: Counter[str] = Counter()

    def started(self, event: Any) -> None:
        self.commands[event.command_name] += 1

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


def test_a_firework_costs_few_commands_however_many_wait(bench: Bench):
    counted = Counted()
    document = bench.store.address.launchpad_document()
    document.pop("nucleate")
    options = {**bench.store.address.client_options(), "event_listeners": [counted]}
    launchpad = CampaignLaunchPad.signed(LaunchPad(**{**document, "mongoclient_kwargs": options}), OWNER)
    bench.clear()
    bench.launchpad.bulk_add_wfs([Workflow([give(f"f{i}")]) for i in range(40)])
    runner = JobRunner(launchpad, bench.directory / "counted")
    runner.run_all(1)
    counted.commands.clear()
    runner.run_all(30)
    writes = sum(counted.commands[name] for name in ("insert", "update", "findAndModify"))
    assert writes == 30 * 9
    assert counted.commands.total() <= 30 * 14 + 10
    launchpad.connection.close()


def test_choices_are_looked_at_again_after_a_while(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("workflows.runtime.launchpad._LOOK_AGAIN_S", 0.0)
    monkeypatch.setattr("workflows.runtime.launchpad._LOOKING_SHARE", 1e9)
    bench.clear()
    bench.launchpad.add_wf(Workflow([give("calm1"), give("calm2")]))
    assert bench.signed.claim({}).name.startswith("calm")
    bench.launchpad.add_wf(Workflow([give("urgent", _priority=5)]))
    assert bench.signed.claim({}).name == "urgent"
    assert bench.signed.claim({"name": "calm3"}) is None, "choices are those of one query"
    assert bench.signed.claim({}).name.startswith("calm")
    assert bench.signed.claim({}) is None


@pytest.mark.parametrize("states", list(itertools.product(("WAITING", "READY", "RUNNING", "COMPLETED"), repeat=3)))
@pytest.mark.parametrize("other", ["FIZZLED", "COMPLETED", "DEFUSED", "PAUSED", "ARCHIVED", "RESERVED"])
def test_the_state_of_a_workflow_is_that_of_fireworks(states: tuple[str, ...], other: str):
    fireworks = [Firework([], fw_id=i, spec={"_allow_fizzled_parents": i % 2 == 0}) for i in range(1, 5)]
    links = {1: [2, 3], 2: [4], 3: [], 4: []}
    for each in set(itertools.permutations((*states, other))):
        for firework, state in zip(fireworks, each, strict=True):
            firework.state = state
        workflow = Workflow(fireworks, deepcopy(links))
        document = workflow.to_db_dict()
        found = workflow_state(document["links"], document["fw_states"], lambda ids: all(i % 2 == 0 for i in ids))
        assert found == workflow.state, each
