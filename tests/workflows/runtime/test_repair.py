"""Kill -9 at every single database write: repair must leave what an undisturbed run leaves."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fireworks import LaunchPad, Workflow
from fireworks.core.fworker import FWorker
from fireworks.core.launchpad import LockedWorkflowError
from fireworks.core.rocket import Rocket
from pymongo.monitoring import CommandListener

from workflows.monitor.reconcile import reconcile
from workflows.runtime import attempts
from workflows.runtime.identity import ProcessName, is_dead
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.repair import Repair, Repairer, repair
from workflows.runtime.worker_process import JobRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from workflows.runtime.store import Store

SUPPORT = Path(__file__).parents[2] / "support"
GRACE_S = 0.2
KILLED, SURVIVED = 9, 0


class Guillotine(CommandListener):
    """End the process, as kill -9 does, when it is about to send its n-th write."""

    def __init__(self, n: int) -> None:
        self.left = n

    def started(self, event: Any) -> None:
        if event.command_name in {"insert", "update", "delete", "findAndModify"}:
            self.left -= 1
            if self.left == 0:
                os._exit(KILLED)

    def succeeded(self, event: Any) -> None:
        pass

    def failed(self, event: Any) -> None:
        pass


class Bench:
    """A database, and processes that are killed in it."""

    def __init__(self, store: Store, directory: Path) -> None:
        self.store = store
        self.launches = directory / "launches"
        self.notes = directory / "notes"
        self.launches.mkdir(exist_ok=True)
        self.launchpad = CampaignLaunchPad.signed(store.launchpad, str(ProcessName.own()))

    def clear(self) -> None:
        db = self.store.database
        for name in ("fireworks", "launches", "workflows", "attempts", "outputs"):
            db[name].delete_many({})
        self.notes.write_text("")

    def noted(self) -> Counter[str]:
        return Counter(self.notes.read_text().split("\n")[:-1])

    def fork(self, act: Callable[[LaunchPad], Any], *, writes: int = -1, signed: bool = True) -> int:
        """Run ``act`` in a process of its own, which dies at its n-th write; returns its pid."""
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115
                # a connection of its own: none survives a fork
                options = {**self.store.address.client_options(), "event_listeners": [Guillotine(writes)]}
                document = self.store.address.launchpad_document()
                document.pop("nucleate")
                launchpad = LaunchPad(**{**document, "mongoclient_kwargs": options})
                if signed:
                    launchpad = CampaignLaunchPad.signed(launchpad, str(ProcessName.own()))
                act(launchpad)
                code = SURVIVED
            finally:
                os._exit(code)
        return pid

    @staticmethod
    def code(pid: int) -> int:
        """Wait for a forked process; gives KILLED or SURVIVED."""
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in {KILLED, SURVIVED}, f"the process failed by itself: {code}"
        return code

    def dying(self, writes: int, act: Callable[[LaunchPad], Any], *, signed: bool = True) -> int:
        return self.code(self.fork(act, writes=writes, signed=signed))

    def run_all(self, limit: int = 50) -> int:
        return JobRunner(self.launchpad, self.launches).run_all(limit)

    def mend(self, grace_s: float = GRACE_S) -> None:
        repair(self.launchpad, grace_s=grace_s)

    def graph(self) -> Counter[Any]:
        """Every firework as (name, state, parents, launches): what must not depend on what was killed."""
        db = self.store.database
        fireworks = {fw["fw_id"]: fw for fw in db.fireworks.find()}
        launches = {launch["launch_id"]: launch for launch in db.launches.find()}
        linked: Counter[int] = Counter()
        seen: Counter[Any] = Counter()
        for wf in db.workflows.find():
            linked.update(wf["nodes"])
            for fw_id in wf["nodes"]:
                fw = fireworks[fw_id]
                assert wf["fw_states"][str(fw_id)] == fw["state"], fw["name"]
                parents = tuple(sorted(fireworks[p]["name"] for p in wf["parent_links"].get(str(fw_id), [])))
                states = tuple(launches[i]["state"] for i in fw["launches"] if launches[i]["state"] != "ARCHIVED")
                update = tuple(sorted(key for key in fw["spec"] if key.startswith("from_")))
                seen[fw["name"], fw["state"], parents, states, update] += 1
            assert "locked" not in wf
        assert linked == Counter(fireworks.keys()), "each firework in exactly one workflow"
        assert not {fw["state"] for fw in fireworks.values()} & {"RUNNING", "RESERVED"}
        assert "RUNNING" not in {launch["state"] for launch in launches.values()}
        referenced = {i for fw in fireworks.values() for i in (*fw["launches"], *fw["archived_launches"])}
        assert referenced == set(launches)
        assert db.attempts.find_one({"state": "running"}) is None
        return seen


@pytest.fixture
def bench(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.syspath_prepend(str(SUPPORT))
    made = Bench(store, tmp_path)
    made.clear()
    return made


def detouring(notes: Path) -> Workflow:
    """a adds a detour, an addition and a spec update in front of b and d."""
    import sample_jobs as jobs

    a = jobs.act("a", str(notes), detour=True, addition=True)
    b = jobs.act("b", str(notes), parents=[a])
    return Workflow([a, b, jobs.act("d", str(notes), parents=[a, b])], name="detouring")


def failing(notes: Path) -> Workflow:
    """a fails; b may go on without it, c may not."""
    import sample_jobs as jobs

    a = jobs.act("a", str(notes), fail=True)
    b = jobs.act("b", str(notes), parents=[a], spec={"_allow_fizzled_parents": True})
    return Workflow([a, b, jobs.act("c", str(notes), parents=[a])], name="failing")


def joining(notes: Path) -> Workflow:
    """a decides nothing, so our worker writes only what changes; of its children b may begin, c waits for b too."""
    import sample_jobs as jobs

    a = jobs.silent("a")
    b = jobs.act("b", str(notes), parents=[a])
    return Workflow([a, b, jobs.act("c", str(notes), parents=[a, b])], name="joining")


def replacing(notes: Path) -> Workflow:
    """A jobflow job of a campaign replaces itself by leaves and their sum, on which ``after`` depends."""
    import sample_jobs as jobs
    from jobflow import Flow

    from workflows.runtime.firetask import to_workflow

    first = jobs.plan(2, str(notes))
    after = jobs.collect([first.output], str(notes))
    after.name = "after"
    flow = Flow([first, after], name="replacing")
    block = {"campaign": "c", "round": 1, "stage": "select", "candidate": None, "engine": "mlip"}
    flow.update_metadata({"nucleate": block}, dynamic=True)
    return to_workflow(flow)


FLOWS = {"detouring": detouring, "failing": failing, "joining": joining, "replacing": replacing}


def first_job_is_done(bench: Bench) -> bool:
    return bench.store.database.fireworks.find_one({"name": {"$in": ["a", "plan"]}})["state"] in {
        "COMPLETED",
        "FIZZLED",
    }


@pytest.mark.parametrize(
    ("flow", "signed"),
    [
        ("detouring", True),
        ("detouring", False),
        ("failing", True),
        ("failing", False),
        ("joining", True),
        ("replacing", True),
    ],
    ids=[
        "detour by our worker",
        "detour by plain FireWorks",
        "failure by our worker",
        "failure by plain FireWorks",
        "nothing but done by our worker",
        "replace by our worker",
    ],
)
def test_a_kill_at_any_write_of_a_job_leaves_no_trace(bench: Bench, flow: str, signed: bool):
    def one_job(launchpad: LaunchPad) -> None:
        if signed:
            JobRunner(launchpad, bench.launches).run_all(limit=1)
        else:
            name = str(ProcessName.own())  # plain FireWorks under a name that tells whether it lives
            with contextlib.chdir(bench.launches):
                Rocket(launchpad, FWorker(name), None).run()

    bench.launchpad.add_wf(FLOWS[flow](bench.notes))
    one_job(bench.launchpad)
    assert first_job_is_done(bench)
    undisturbed = bench.graph()

    code, n = KILLED, 0
    while code == KILLED:
        n += 1
        bench.clear()
        bench.launchpad.add_wf(FLOWS[flow](bench.notes))
        code = bench.dying(n, one_job, signed=signed)
        bench.mend()
        if not first_job_is_done(bench):
            one_job(bench.launchpad)
        assert bench.graph() == undisturbed, f"killed at write {n}"
    assert n > 9


def test_a_kill_at_any_write_of_repair_leaves_no_trace(bench: Bench):
    def one_job(launchpad: LaunchPad) -> None:
        JobRunner(launchpad, bench.launches).run_all(limit=1)

    def broken(at: int) -> bool:
        """Leave a completion half written: children and the firework itself, not the workflow document."""
        bench.clear()
        bench.launchpad.add_wf(detouring(bench.notes))
        bench.dying(at, one_job)
        db = bench.store.database
        done = first_job_is_done(bench) and db.fireworks.count_documents({}) > 3
        return done and len(db.workflows.find_one()["nodes"]) == 3

    bench.launchpad.add_wf(detouring(bench.notes))
    one_job(bench.launchpad)
    undisturbed = bench.graph()
    at = next(n for n in range(10, 40) if broken(n))

    code, n = KILLED, 0
    while code == KILLED:
        n += 1
        assert broken(at)
        code = bench.dying(n, lambda launchpad: repair(launchpad, grace_s=GRACE_S))
        bench.mend()
        assert bench.graph() == undisturbed, f"repair killed at its write {n}"
    assert n > 5


def test_a_kill_at_any_write_of_add_wf_leaves_all_or_nothing(bench: Bench):
    bench.launchpad.add_wf(detouring(bench.notes))
    added = bench.graph()
    code, n, outcomes = KILLED, 0, set()
    while code == KILLED:
        n += 1
        bench.clear()
        code = bench.dying(n, lambda launchpad: launchpad.add_wf(detouring(bench.notes)), signed=False)
        # a worker looks before anybody has repaired: it must not touch what has no workflow
        if not bench.store.database.workflows.find_one():
            assert bench.run_all() == 0
        bench.mend()
        graph = bench.graph()
        assert graph in (added, Counter()), f"killed at write {n}"
        outcomes.add(graph == added)
    assert outcomes == {True, False}


def test_a_kill_at_any_write_of_a_rerun_leaves_all_or_nothing(bench: Bench):
    bench.launchpad.add_wf(failing(bench.notes))
    bench.run_all()
    finished, ran = bench.graph(), bench.noted()
    code, n, outcomes = KILLED, 0, set()
    while code == KILLED:
        n += 1
        bench.clear()
        bench.launchpad.add_wf(failing(bench.notes))
        bench.run_all()
        a = bench.store.database.fireworks.find_one({"name": "a"})["fw_id"]
        code = bench.dying(n, lambda launchpad, a=a: launchpad.rerun_fw(a), signed=False)  # what lpad does
        bench.mend()
        bench.run_all()
        assert bench.graph() == finished, f"killed at write {n}"
        again = bench.noted() - ran
        assert again in (ran, Counter()), f"killed at write {n}: every job ran again, or none"
        outcomes.add(again == ran)
    assert outcomes == {True, False}


def claimed(bench: Bench) -> int:
    """Claim a firework in a process that dies before it writes a launch."""
    bench.launchpad.add_wf(failing(bench.notes))
    assert bench.dying(2, lambda launchpad: JobRunner(launchpad, bench.launches).run_all()) == KILLED
    fw = bench.store.database.fireworks.find_one({"state": "RESERVED"})
    assert fw["launches"] == []
    return fw["fw_id"]


def test_a_claim_of_a_dead_process_is_given_back_at_once(bench: Bench):
    fw_id = claimed(bench)
    found = repair(bench.launchpad, grace_s=1000, wait=False)
    assert [(r.kind, r.fw_id) for r in found] == [("unlaunched", fw_id)]
    assert repair(bench.launchpad, grace_s=1000, wait=False) == [], "a second pass finds nothing"
    assert bench.run_all() == 2


def test_what_the_living_hold_is_left_alone(bench: Bench):
    """Claim and lock of another process that lives, however long it takes."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as living:
        owner = str(ProcessName.of(living.pid))
        bench.launchpad.add_wf(failing(bench.notes))
        other = CampaignLaunchPad.signed(bench.store.launchpad, owner)
        assert other.claim({})
        bench.store.database.workflows.update_one({}, {"$set": {"locked": {"by": owner, "token": "t"}}})
        repairer = Repairer(bench.launchpad, grace_s=0.05)
        assert repairer.run() == []
        time.sleep(0.2)
        assert repairer.run() == []
        living.kill()
        living.wait()
        assert {r.kind for r in repairer.run()} == {"locked", "unlaunched"}


def test_an_unsigned_lock_is_broken_only_after_the_grace(bench: Bench):
    bench.launchpad.add_wf(failing(bench.notes))
    workflows = bench.store.database.workflows
    workflows.update_one({}, {"$set": {"locked": True}})
    repairer = Repairer(bench.launchpad, grace_s=0.3)
    assert repairer.run() == []
    assert repairer.pending
    workflows.update_one({}, {"$set": {"updated_on": datetime.now(UTC)}})  # somebody is at it
    time.sleep(0.4)
    assert repairer.run() == []
    time.sleep(0.4)
    assert [r.kind for r in repairer.run()] == ["locked"]
    assert not workflows.find_one({"locked": {"$exists": True}})


def test_who_lost_its_lock_writes_no_workflow(bench: Bench):
    """A worker that was stopped for long must not undo what happened since."""
    bench.launchpad.add_wf(detouring(bench.notes))
    fw_id = bench.store.database.fireworks.find_one({"name": "a"})["fw_id"]
    slow = CampaignLaunchPad.signed(bench.store.launchpad, "nucleate-elsewhere-1-1")
    workflows = bench.store.database.workflows
    since = {"locked": {"by": "another", "token": "other"}, "name": "changed since"}
    with slow.locked(fw_id):
        workflow = slow.get_wf_by_fw_id_lzyfw(fw_id)
        workflows.update_one({}, {"$set": since})
        with pytest.raises(LockedWorkflowError):
            slow._update_wf(workflow, [])
    assert workflows.find_one()["name"] == "changed since"
    assert workflows.find_one()["locked"]["by"] == "another"


def test_a_lost_launch_runs_again_and_its_attempt_is_lost(bench: Bench):
    bench.launchpad.add_wf(replacing(bench.notes))

    def dies_in_its_job(launchpad: LaunchPad) -> None:
        import sample_jobs

        sample_jobs.note = lambda *_: os._exit(KILLED)
        JobRunner(launchpad, bench.launches).run_all()

    assert bench.dying(10_000, dies_in_its_job) == KILLED
    db = bench.store.database
    attempt = db.attempts.find_one()
    assert attempt["state"] == "running"
    dry = repair(bench.launchpad, wait=False, dry_run=True)
    assert [r.kind for r in dry] == ["lost"]
    assert db.attempts.find_one()["state"] == "running"
    assert [r.kind for r in repair(bench.launchpad, wait=False)] == ["lost"]
    attempt = db.attempts.find_one()
    assert (attempt["state"], attempt["cause"]["code"]) == ("lost", 106)
    fw = db.fireworks.find_one({"fw_id": attempt["fw_id"]})
    assert (fw["state"], fw["launches"], fw["archived_launches"]) == ("READY", [], [attempt["launch_id"]])
    bench.run_all()
    assert {fw["state"] for fw in db.fireworks.find()} == {"COMPLETED"}
    assert bench.noted()["plan 2"] == 1


def test_a_task_whose_process_ends_before_its_launch_does_has_not_completed(bench: Bench):
    bench.launchpad.add_wf(replacing(bench.notes))

    def dies_after_its_task(launchpad: LaunchPad) -> None:
        finish = attempts.finish

        def finish_and_die(*args: Any, **kwargs: Any) -> None:
            finish(*args, **kwargs)
            os._exit(KILLED)

        attempts.finish = finish_and_die
        JobRunner(launchpad, bench.launches).run_all()

    assert bench.dying(10_000, dies_after_its_task) == KILLED
    db = bench.store.database
    before = db.attempts.find_one()
    assert before["state"] == "completed"
    assert [r.kind for r in repair(bench.launchpad, wait=False)] == ["lost"]
    after = db.attempts.find_one({"attempt": before["attempt"]})
    assert (after["state"], after["cause"]["code"], after["seconds"]) == ("lost", 106, before["seconds"])
    bench.run_all()
    assert {fw["state"] for fw in db.fireworks.find()} == {"COMPLETED"}
    done = [a["fw_id"] for a in db.attempts.find({"state": "completed"})]
    assert len(done) == len(set(done))


def test_processes_that_claim_at_once_get_different_fireworks(bench: Bench):
    import sample_jobs as jobs

    bench.launchpad.add_wf(Workflow([jobs.act(f"j{i}", str(bench.notes)) for i in range(60)]))

    def claim_all(launchpad: CampaignLaunchPad) -> None:
        while firework := launchpad.claim({}):
            jobs.note(str(bench.notes), str(firework.fw_id))

    pids = [bench.fork(claim_all) for _ in range(6)]
    assert [bench.code(pid) for pid in pids] == [SURVIVED] * 6
    ids = [fw["fw_id"] for fw in bench.store.database.fireworks.find()]
    assert bench.noted() == dict.fromkeys(map(str, ids), 1)


def test_a_claim_takes_the_most_urgent_first_and_passes_over_what_has_no_workflow(bench: Bench):
    import sample_jobs as jobs

    urgent = jobs.act("urgent", str(bench.notes), spec={"_priority": 5})
    bench.launchpad.add_wf(Workflow([jobs.act("calm", str(bench.notes)), urgent]))
    orphans = [jobs.act(f"orphan{i}", str(bench.notes), spec={"_priority": 9}) for i in range(20)]
    for orphan in orphans:
        orphan.state = "READY"
    bench.launchpad._upsert_fws(orphans, reassign_all=True)
    assert [bench.launchpad.claim({}).name for _ in range(2)] == ["urgent", "calm"]
    assert bench.launchpad.claim({}) is None
    bench.mend()
    assert bench.store.database.fireworks.count_documents({}) == 2


def test_reconcile_says_what_it_would_do_then_does_it(bench: Bench):
    fw_id = claimed(bench)
    assert reconcile(bench.store, "another campaign", grace_s=GRACE_S).repairs == []
    dry = reconcile(bench.store, dry_run=True, grace_s=GRACE_S)
    assert dry.lines()[-1] == "1 would be mended"
    assert bench.store.database.fireworks.find_one({"fw_id": fw_id})["state"] == "RESERVED"
    report = reconcile(bench.store, grace_s=GRACE_S)
    assert report.as_dict()["repairs"] == [asdict(repair) for repair in dry.repairs]
    assert reconcile(bench.store, grace_s=GRACE_S).lines() == ["nothing to mend"]


def test_two_repairs_at_once_do_it_once(bench: Bench):
    db = bench.store.database
    for _ in range(4):
        bench.launchpad.add_wf(detouring(bench.notes))
    for _ in range(4):
        bench.dying(12, lambda launchpad: JobRunner(launchpad, bench.launches).run_all(limit=1))
    pids = [bench.fork(lambda launchpad: repair(launchpad, grace_s=GRACE_S)) for _ in range(3)]
    assert [bench.code(pid) for pid in pids] == [SURVIVED] * 3
    bench.mend()
    assert bench.run_all() > 0
    names = Counter(fw["name"] for fw in db.fireworks.find())
    assert names == dict.fromkeys(("a", "b", "d", "a-detour1", "a-detour2", "a-addition"), 4)
    assert {state for _, state, *_ in bench.graph()} == {"COMPLETED"}


def test_hooks_are_called_last(bench: Bench):
    found = repair(bench.launchpad, wait=False, extra=[lambda launchpad: [Repair("campaign", None, launchpad.db.name)]])
    assert [r.done for r in found] == [bench.store.database.name]


def test_process_names_tell_the_dead_from_the_living():
    own = ProcessName.own()
    assert ProcessName.parse(str(own)) == own
    assert not is_dead(str(own))
    assert is_dead(str(ProcessName(own.host, own.pid, own.started - 100))), "another process had this pid"
    assert not is_dead(f"nucleate-another-host-{2**22}-1"), "nobody knows"
    assert not is_dead("Automatically generated Worker")
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        name = str(ProcessName.of(process.pid))
        assert not is_dead(name)
        process.send_signal(signal.SIGKILL)
        while not is_dead(name):  # a zombie is dead, before anybody waits for it
            time.sleep(0.01)
    assert is_dead(name)
