"""The guard, the cascade of failures, overrides and inheritance, on FireWorks and jobflow over TCP."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jobflow
import pytest
from fireworks import FWorker
from fireworks.core.rocket_launcher import rapidfire
from jobflow import Flow, Maker, OnMissing, Response, job
from pymatgen.core import Lattice, Structure

from dft_inputs.causes import DftError
from workflows.causes import CausedError
from workflows.records import Attempt, now
from workflows.runtime import attempts
from workflows.runtime.attempts import root_cause
from workflows.runtime.context import current_task
from workflows.runtime.firetask import PRODUCER, firework_name, to_workflow
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.worker_process import JobRunner
from workflows.stages.dress import block_of, dress


@job
def one():
    return 1


@job
def add(a, b):
    return a + b


@job
def fail(code):
    raise CausedError(code, "as asked")


@job
def collect(*parts):
    return list(parts)


@job
def spread(n):
    return Response(output=None, replace=Flow([one() for _ in range(n)]))


@job
def spread_with_output(n):
    jobs = [one() for _ in range(n)]
    return Response(replace=Flow(jobs, output=[j.output for j in jobs]))


@job
def what_i_see():
    return current_task().overrides


@dataclass
class Doubler(Maker):
    name: str = "doubler"
    factor: int = 2

    @job
    def make(self, structure):
        return {"factor": self.factor, "structure": structure}


@dataclass
class Nest(Maker):
    """Adds a job of another Maker at run time, as atomate2's flows do."""

    name: str = "nest"

    @job
    def make(self, structure):
        return Response(replace=Doubler().make(structure))


@pytest.fixture
def run(store, tmp_path, monkeypatch):
    monkeypatch.setattr(jobflow.SETTINGS, "JOB_STORE", store.jobstore)
    monkeypatch.chdir(tmp_path)
    store.ensure_indexes()

    def run(flow=None, *, category=None, name="test"):
        if flow is not None:
            store.launchpad.add_wf(to_workflow(flow, name=name))
        worker = FWorker(name="test", category=category) if category else FWorker(name="test")
        rapidfire(store.launchpad, worker, sleep_time=0, max_loops=1, strm_lvl="CRITICAL", local_redirect=False)

    return run


def chain(work, stage, candidate="c-r01-0001"):
    return dress(work, block_of("c", 1, stage, candidate, "mlip"), "cpu")


def states(store):
    return {fw["name"]: fw["state"] for fw in store.launchpad.fireworks.find({}, {"name": 1, "state": 1})}


def output(store, job):
    return store.jobstore.get_output(job.uuid, which="last", load=True)


def test_a_job_runs_and_leaves_an_attempt(store, run):
    work = chain(one(), "relax")
    run(work)
    assert output(store, work) == 1
    (attempt,) = (Attempt.model_validate(a) for a in store.attempts.find({}, {"_id": 0}))
    assert (attempt.state, attempt.stage, attempt.candidate) == ("completed", "relax", "c-r01-0001")
    assert attempt.seconds is not None
    assert Path(attempt.directory).is_dir()
    assert attempt.pid is not None


def test_plain_rerun_of_a_job_with_dynamic_children_doubles_nothing(store, run):
    work = dress(spread(3), block_of("c", 1, "select"), "light")
    run(work)
    lp = store.launchpad
    before = sorted(lp.get_fw_ids())
    assert len(before) == 4
    fw_id = lp.get_fw_ids({"spec.nucleate.stage": "select", f"spec.{PRODUCER}": {"$exists": False}})[0]
    lp.rerun_fw(fw_id)
    run()
    assert sorted(lp.get_fw_ids()) == before
    assert set(states(store).values()) == {"COMPLETED"}
    assert store.attempts.count_documents({}) == 8  # each ran twice, and history has both


def test_rerun_by_lpad_itself_doubles_nothing(store, run, tmp_path):
    work = dress(spread_with_output(2), block_of("c", 1, "select"), "light")
    run(work)
    before = sorted(store.launchpad.get_fw_ids())
    store.write_configs(tmp_path)
    lpad = shutil.which("lpad", path=str(Path(sys.executable).parent))
    done = subprocess.run(
        [lpad, "-l", str(tmp_path / "my_launchpad.yaml"), "rerun_fws", "-i", str(before[0])],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},  # lpad imports the jobs, and these are tests
    )
    assert done.returncode == 0, done.stderr
    run()
    assert sorted(store.launchpad.get_fw_ids()) == before
    assert output(store, work) == [1, 1]


def test_plain_jobflow_does_double(store, run):
    """What the guard is for; should this ever fail, the guard can go."""
    from jobflow.managers.fireworks import flow_to_workflow

    store.launchpad.add_wf(flow_to_workflow(spread(2)))
    run()
    before = store.launchpad.get_fw_ids(count_only=True)
    store.launchpad.rerun_fw(min(store.launchpad.get_fw_ids()))
    run()
    assert store.launchpad.get_fw_ids(count_only=True) > before


def test_a_failure_two_levels_up_reaches_the_collector(store, run):
    bad = chain(fail(501), "relax")
    middle = chain(add(bad.output, 1), "gate")
    last = chain(add(middle.output, 1), "phonon")
    good = chain(one(), "relax", "c-r01-0002")
    collector = dress(collect(last.output, good.output), block_of("c", 1, "judge", "c-r01-0001"), "light")
    collector.config.on_missing_references = OnMissing.NONE
    run(Flow([bad, middle, last, good, collector]))
    assert output(store, collector) == [None, 1]
    by_stage = {a["stage"]: a for a in store.attempts.find({"candidate": "c-r01-0001"})}
    assert by_stage["relax"]["cause"]["code"] == 501
    assert by_stage["gate"]["cause"]["code"] == 901
    assert by_stage["phonon"]["cause"]["code"] == 901
    assert by_stage["judge"]["state"] == "completed"
    causes = root_cause(store.database, "c", 1, "c-r01-0001")
    assert list(causes) == ["relax"]  # only the root counts


def test_the_cascade_reaches_dynamic_children_and_their_successors(store, run):
    first = chain(one(), "relax")
    bad = chain(spread_then_fail(), "phonon")
    collector = dress(collect(first.output, bad.output), block_of("c", 1, "judge", "c-r01-0001"), "light")
    collector.config.on_missing_references = OnMissing.NONE
    run(Flow([first, bad, collector]))
    assert output(store, collector) == [1, None]


@job
def spread_then_fail():
    broken = fail(604)
    return Response(replace=Flow([broken, after := add(broken.output, 1)], output=after.output))


def test_a_rerun_of_the_root_recovers_the_cascade(store, run, tmp_path):
    flag = tmp_path / "mended"
    bad = chain(fail_unless(str(flag)), "relax")
    middle = chain(add(bad.output, 1), "gate")
    collector = dress(collect(middle.output), block_of("c", 1, "judge", "c-r01-0001"), "light")
    collector.config.on_missing_references = OnMissing.NONE
    run(Flow([bad, middle, collector]))
    assert output(store, collector) == [None]
    flag.touch()
    store.launchpad.rerun_fw(store.launchpad.get_fw_ids({"spec.nucleate.stage": "relax"})[0])
    run()
    assert output(store, collector) == [2]  # although the stale _fizzled_parents are still in the spec
    assert not root_cause(store.database, "c", 1, "c-r01-0001")
    assert store.attempts.count_documents({"stage": "relax"}) == 2


@job
def fail_unless(path):
    if not Path(path).exists():
        raise CausedError(501, "not mended")
    return 1


def test_dynamic_children_inherit_block_category_and_name(store, run):
    work = chain(Nest().make("x"), "phonon")
    run(work)
    fireworks = list(store.launchpad.fireworks.find({}))
    assert len(fireworks) == 2
    for firework in fireworks:
        assert firework["name"].startswith("c/r01/phonon/c-r01-0001")
        assert firework["spec"]["nucleate"]["candidate"] == "c-r01-0001"
        assert firework["spec"]["_category"] == "cpu"
        assert firework["spec"]["_allow_fizzled_parents"] is True
    documents = list(store.jobstore.query({"metadata.nucleate.candidate": "c-r01-0001"}))
    assert len(documents) == 2


def test_per_round_jobs_do_not_overwrite_the_blocks_of_what_they_add(store, run):
    work = dress(add_candidate_job(), block_of("c", 1, "select"), "light")
    run(work)
    blocks = [fw["spec"]["nucleate"] for fw in store.launchpad.fireworks.find({})]
    assert {(b["stage"], b["candidate"]) for b in blocks} == {("select", None), ("relax", "c-r01-0003")}
    categories = {fw["spec"]["nucleate"]["stage"]: fw["spec"]["_category"] for fw in store.launchpad.fireworks.find({})}
    assert categories == {"select": "light", "relax": "cpu"}


@job
def add_candidate_job():
    return Response(replace=Flow([chain(one(), "relax", "c-r01-0003")]))


def test_a_worker_with_a_category_takes_only_its_kind(store, run):
    run(Flow([chain(one(), "relax"), dress(one(), block_of("c", 1, "judge", "c-r01-0009"), "light")]), category="light")
    found = {fw["spec"]["_category"]: fw["state"] for fw in store.launchpad.fireworks.find({})}
    assert found == {"cpu": "READY", "light": "COMPLETED"}


def plan(store, stage, wanted, number=1, **more):
    store.attempts.insert_one(
        Attempt(
            attempt=f"c-{stage}-p{number}",
            campaign="c",
            round=1,
            candidate="c-r01-0001",
            stage=stage,
            state="planned",
            planned_at=now(),
            overrides=wanted,
            **more,
        ).model_dump()
    )


def test_overrides_reach_a_maker_and_the_makers_it_adds(store, run):
    plan(store, "phonon", {"maker": {"factor": 5}})
    direct = chain(Doubler().make("x"), "phonon")
    nested = chain(Nest().make("x"), "phonon")
    run(Flow([direct, nested]))
    assert output(store, direct)["factor"] == 5
    assert output(store, nested)["factor"] == 5
    planned = store.attempts.find_one({"attempt": "c-phonon-p1"})
    assert planned["state"] == "begun"  # from here on it can't be undone
    assert all(a["overrides"] == {"maker": {"factor": 5}} for a in store.attempts.find({"launch_id": {"$ne": None}}))


def test_overrides_of_another_candidate_or_stage_are_not_read(store, run):
    plan(store, "relax", {"maker": {"factor": 5}})
    other = dress(Doubler().make("x"), block_of("c", 1, "relax", "c-r01-0002", "mlip"), "cpu")
    stage = chain(Doubler().make("x"), "phonon")
    run(Flow([other, stage]))
    assert output(store, other)["factor"] == output(store, stage)["factor"] == 2
    assert store.attempts.find_one({"attempt": "c-relax-p1"})["state"] == "planned"


def test_what_is_planned_for_one_job_is_not_for_the_others_of_its_stage(store, run):
    failed, other = chain(Doubler().make("x"), "phonon"), chain(Doubler().make("x"), "phonon")
    plan(store, "phonon", {"maker": {"factor": 5}, "kwargs": {"structure": "y"}}, job_uuid=failed.uuid)
    run(Flow([other, failed]))
    assert output(store, failed) == {"factor": 5, "structure": "y"}
    assert output(store, other) == {"factor": 2, "structure": "x"}


def test_the_newest_overrides_win(store, run):
    plan(store, "relax", {"maker": {"factor": 5}}, 1)
    plan(store, "relax", {"maker": {"factor": 7}}, 2)
    work = chain(Doubler().make("x"), "relax")
    run(work)
    assert output(store, work)["factor"] == 7


def test_restart_from_the_last_geometry(store, run):
    from pymatgen.core import Lattice, Structure

    start = Structure(Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    later = Structure(Lattice.cubic(4.1), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    work = chain(Doubler().make(start), "relax")
    run(work)
    plan(store, "relax", {"restart": True}, last_geometry=later.as_dict(), job_uuid=work.uuid)
    store.launchpad.rerun_fw(store.launchpad.get_fw_ids()[0])
    run()
    assert Structure.from_dict(output(store, work)["structure"]) == later


def test_a_context_is_only_there_inside_a_task(store, run):
    with pytest.raises(RuntimeError, match="nucleate work"):
        current_task()
    work = chain(what_i_see(), "relax")
    run(work)
    assert output(store, work) == {}


def test_no_credential_ever_sits_in_the_database(store, run):
    run(Flow([chain(fail(999), "relax"), chain(Nest().make("x"), "phonon")]))
    password = store.address.password.get_secret_value() if store.address.password else None
    assert password
    for collection in store.database.list_collection_names():
        for document in store.database[collection].find({}):
            assert password not in repr(document)


def test_names():
    assert firework_name(block_of("c", 2, "sample")) == "c/r02/sample"
    assert firework_name(block_of("c", 2, "judge", "c-r02-0001")) == "c/r02/judge/c-r02-0001"


def moved(structure, x):
    at = structure.copy()
    at.translate_sites([0], [x, 0, 0], to_unit_cell=False)
    return at


@job
def give(x):
    return moved(CUBE, x)


@dataclass
class Stepper(Maker):
    """Walks along x, a step each launch, and is stopped by its wall-time until it has come far enough."""

    name: str = "stepper"
    until: int = 3
    stuck: bool = False

    def resume(self, directories):
        found = [g for d in directories if (g := self.last_geometry(d)) is not None]
        return {"structure": found[0]} if found else {}

    def last_geometry(self, directory):
        path = directory / "at.json"
        return Structure.from_file(path) if path.exists() else None

    @job
    def make(self, structure):
        at = structure.copy() if self.stuck else moved(structure, 0.1)
        at.to_file("at.json")
        if round(at.frac_coords[0][0] / 0.1) < self.until:
            raise DftError(101, "stopped before the allocation ended")
        return at


def in_the_store(store):
    launchpad = CampaignLaunchPad.signed(store.launchpad, "tester")
    return JobRunner(launchpad, Path.cwd() / "launches")


CUBE = Structure(Lattice.cubic(4.0), ["Po"], [[0, 0, 0]])


def test_a_job_that_its_walltime_stopped_goes_on_where_it_was(store, run):
    work = chain(Stepper().make(CUBE), "relax")
    store.launchpad.add_wf(to_workflow(Flow([work, chain(add(work.output, 1), "gate")]), name="test"))
    runner = in_the_store(store)
    assert runner.run_all(limit=3) == 3
    assert states(store)["c/r01/relax/c-r01-0001"] == "COMPLETED"
    reached = Structure.from_dict(output(store, work))
    assert reached.frac_coords[0][0] == pytest.approx(0.3)
    attempts = list(store.attempts.find({"stage": "relax"}).sort("launch_id", 1))
    assert [a["state"] for a in attempts] == ["lost", "lost", "completed"]
    assert [a["cause"]["code"] for a in attempts[:2]] == [101, 101]
    assert attempts[0]["last_geometry"]["sites"][0]["abc"][0] == pytest.approx(0.1)
    assert root_cause(store.database, "c", 1, "c-r01-0001") == {}
    fw = store.launchpad.fireworks.find_one({"name": "c/r01/relax/c-r01-0001"})
    assert (len(fw["launches"]), len(fw["archived_launches"])) == (1, 2)


def test_a_job_that_gets_nowhere_fails_with_what_stopped_it(store, run, monkeypatch):
    monkeypatch.setattr(attempts, "FAIR_TRY_S", 0.0)
    work = chain(Stepper(stuck=True).make(CUBE), "relax")
    store.launchpad.add_wf(to_workflow(work, name="test"))
    assert in_the_store(store).run_all(limit=10) == 4
    assert states(store)["c/r01/relax/c-r01-0001"] == "FIZZLED"
    assert root_cause(store.database, "c", 1, "c-r01-0001")["relax"].code == 101


def test_the_tails_of_allocations_are_no_fair_tries(store, run, monkeypatch):
    monkeypatch.setattr(attempts, "MAX_INTERRUPTIONS", 5)
    store.launchpad.add_wf(to_workflow(chain(Stepper(stuck=True).make(CUBE), "relax"), name="test"))
    assert in_the_store(store).run_all(limit=10) == 6  # five were given back, though nothing moved


def test_a_job_that_is_asked_something_else_begins_anew(store, run):
    """After a re-run of the job before it, what was computed for the old question is no start."""
    before = chain(give(0.0), "sample")
    work = chain(Stepper(until=2).make(before.output), "relax")
    store.launchpad.add_wf(to_workflow(Flow([before, work]), name="test"))
    runner = in_the_store(store)
    assert runner.run_all(limit=2) == 2  # the second was stopped at x = 0.1
    store.jobstore.docs_store._collection.update_one(
        {"uuid": before.uuid}, {"$set": {"output": moved(CUBE, 0.5).as_dict()}}
    )
    assert runner.run_all(limit=1) == 1
    assert Structure.from_dict(output(store, work)).frac_coords[0][0] == pytest.approx(0.6)


def test_a_completed_job_that_is_run_again_is_computed_again(store, run):
    work = chain(Stepper(until=1).make(CUBE), "relax")
    store.launchpad.add_wf(to_workflow(work, name="test"))
    runner = in_the_store(store)
    runner.run_all()
    (fw,) = store.launchpad.get_fw_ids({})
    store.launchpad.rerun_fw(fw)
    runner.run_all()
    assert Structure.from_dict(output(store, work)).frac_coords[0][0] == pytest.approx(0.1)  # not 0.2


def resources(store):
    found = store.launchpad.fireworks.find({}, {"name": 1, "spec.resources": 1})
    return {fw["name"]: fw["spec"].get("resources") for fw in found}


def test_what_may_be_begun_near_the_end_of_an_allocation_says_so(store, run):
    of_round = dress(one(), block_of("c", 1, "sample"), "gpu")
    goes_on, plain = chain(Stepper().make(CUBE), "relax"), chain(Doubler().make(CUBE), "gate")
    store.launchpad.add_wf(to_workflow(Flow([of_round, goes_on, plain]), name="test"))
    assert resources(store) == {
        "c/r01/sample": {"resumable": True},
        "c/r01/relax/c-r01-0001": {"resumable": True},
        "c/r01/gate/c-r01-0001": None,
    }


def test_dynamic_children_of_the_same_stage_take_as_much(store, run):
    work = chain(spread(1), "phonon")
    work.config.manager_config["resources"] = {"cores": 4, "minutes": 90, "resumable": True}
    run(work)
    assert sorted(map(str, resources(store).values())) == [
        "{'cores': 4, 'minutes': 90, 'resumable': True}",
        "{'cores': 4, 'minutes': 90}",  # whether it can go on is its own
    ]


def test_an_attempt_names_the_pilot_that_it_ran_in(store, run, monkeypatch):
    monkeypatch.setenv("NUCLEATE_CLUSTER", "alps")
    monkeypatch.setenv("NUCLEATE_PILOT", "c-alps-dft-0a1b2c")
    run(chain(one(), "relax"))
    attempt = Attempt.model_validate(store.attempts.find_one({}, {"_id": 0}))
    assert (attempt.cluster, attempt.pilot) == ("alps", "c-alps-dft-0a1b2c")
