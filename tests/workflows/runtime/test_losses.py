"""What dead processes of other hosts held is given back with the true cause; who is lost again and again fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from fake_scheduler import Told
from fireworks import FWAction, Workflow

from workflows.causes import CAUSES
from workflows.records import Attempt, Cause, Pilot, now
from workflows.runtime.attempts import MAX_INTERRUPTIONS
from workflows.runtime.identity import BatchJob, ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.losses import MAX_LOSSES
from workflows.runtime.reconciling import Reconciler
from workflows.runtime.worker_process import JobRunner

if TYPE_CHECKING:
    from pathlib import Path

    from workflows.runtime.repair import Repair
    from workflows.runtime.store import Store

ALIVE, OVER = "81", "82"


@dataclass
class Far:
    """A campaign whose tasks run in jobs 81 and 82 of a cluster, on hosts that we can't look into."""

    store: Store
    directory: Path
    scheduler: Told = field(default_factory=Told)

    def __post_init__(self) -> None:
        self.database = self.store.database
        self.launchpad = CampaignLaunchPad.signed(self.store.launchpad, str(ProcessName.own()))
        self.notes = self.directory / "notes"
        for job in (ALIVE, OVER):
            record = Pilot(
                pilot=f"name-{job}",
                campaign="c",
                cluster="alps",
                kind="cpu",
                job_id=job,
                state="ended",
                reason="stopped",
            )
            self.database.pilots.insert_one(record.model_dump())
        self.scheduler.say(ALIVE, "running", "RUNNING", restarts=1)
        self.scheduler.say(OVER, "ended", "TIMEOUT", cause=101, evidence="TIMEOUT on n7")

    def process(self, job: str = OVER, pid: int = 9) -> CampaignLaunchPad:
        name = ProcessName("n7", pid, 1790000000, BatchJob("alps", job, restart=1 if job == ALIVE else 0))
        return CampaignLaunchPad.signed(self.store.launchpad, str(name))

    def add(self, tag: str, candidate: str | None = "c-r01-0001", **params: Any) -> int:
        import sample_jobs as jobs

        block = {"campaign": "c", "round": 1, "stage": "relax", "candidate": candidate, "engine": "mlip"}
        first = jobs.act(tag, str(self.notes), spec={"nucleate": block}, **params)
        child = jobs.act(
            f"after {tag}", str(self.notes), parents=[first], spec={"nucleate": block, "_allow_fizzled_parents": True}
        )
        self.launchpad.add_wf(Workflow([first, child]))
        return first.fw_id

    def begin(self, fw_id: int, job: str = OVER, pid: int = 9) -> int:
        """Let a process of a job claim and launch a firework, and record its attempt; gives the launch."""
        launchpad = self.process(job, pid)
        assert launchpad.claim({"fw_id": fw_id})
        runner = JobRunner(launchpad, self.directory)
        _, launch_id = launchpad.checkout_fw(runner.fworker, str(self.directory), fw_id)
        block = self.database.fireworks.find_one({"fw_id": fw_id})["spec"]["nucleate"]
        attempt = Attempt(
            attempt=f"fw{fw_id}-l{launch_id}",
            fw_id=fw_id,
            launch_id=launch_id,
            started_at=now(),
            job_uuid=f"uuid-{fw_id}",
            **block,
        )
        self.database.attempts.insert_one(attempt.model_dump())
        return launch_id

    def mend(self, **more: Any) -> list[Repair]:
        return Reconciler(self.launchpad, {"alps": self.scheduler}, grace_s=1000.0, **more).run().repairs

    def lose(self, fw_id: int, code: int, **more: Any) -> list[Repair]:
        launch_id = self.begin(fw_id)
        self.scheduler.say(OVER, "ended", CAUSES[code].name.upper(), cause=code, evidence=f"cause {code}")
        found = self.mend()
        if more:
            self.database.attempts.update_one({"launch_id": launch_id}, {"$set": more})
        return found

    def state(self, fw_id: int) -> str:
        return self.database.fireworks.find_one({"fw_id": fw_id})["state"]


@pytest.fixture
def far(store: Store, tmp_path: Path) -> Far:
    return Far(store, tmp_path)


def test_what_a_dead_job_held_is_given_back_and_what_a_living_one_holds_is_not(far: Far):
    fireworks = {job: {what: far.add(f"{what} {job}") for what in ("run", "claim", "lock")} for job in (ALIVE, OVER)}
    for job, fws in fireworks.items():
        far.begin(fws["run"], job)
        assert far.process(job).claim({"fw_id": fws["claim"]})
        lock = {"by": far.process(job).owner, "token": job}
        far.database.workflows.update_one({"nodes": fws["lock"]}, {"$set": {"locked": lock}})
    dry = far.mend(dry_run=True)
    repairs = far.mend()
    locked = far.database.workflows.find_one({"nodes": fireworks[OVER]["lock"]})["nodes"][0]
    assert {(r.kind, r.fw_id, r.code) for r in repairs} == {
        ("lost", fireworks[OVER]["run"], 101),
        ("unlaunched", fireworks[OVER]["claim"], None),
        ("locked", locked, None),
    }
    assert {(r.kind, r.fw_id) for r in dry} == {(r.kind, r.fw_id) for r in repairs}
    assert {what: far.state(fw_id) for what, fw_id in fireworks[OVER].items()} == dict.fromkeys(
        ("run", "claim", "lock"), "READY"
    )
    assert far.state(fireworks[ALIVE]["run"]) == "RUNNING"
    assert far.state(fireworks[ALIVE]["claim"]) == "RESERVED"
    assert far.database.workflows.count_documents({"locked": {"$exists": True}}) == 1
    attempt = far.database.attempts.find_one({"fw_id": fireworks[OVER]["run"]})
    assert (attempt["state"], attempt["cause"]["code"]) == ("lost", 101)
    assert "TIMEOUT on n7" in attempt["cause"]["evidence"]
    assert far.mend() == []


def test_nothing_is_given_back_while_the_scheduler_is_silent(far: Far):
    fw_id = far.add("a")
    far.begin(fw_id)
    far.scheduler.is_away = True
    reconciler = Reconciler(far.launchpad, {"alps": far.scheduler})
    found = reconciler.run()
    assert found.repairs == []
    assert list(found.unknown) == [far.process().owner]
    assert "alps" in found.pilots.away
    assert far.state(fw_id) == "RUNNING"


def test_out_of_memory_fails_at_once_with_the_cause_and_its_children_go_on(far: Far):
    fw_id = far.add("a")
    (repair,) = far.lose(fw_id, 102)
    assert (repair.kind, repair.code) == ("failed", 102)
    assert far.state(fw_id) == "FIZZLED"
    attempt = far.database.attempts.find_one({"fw_id": fw_id})
    assert (attempt["state"], attempt["cause"]["code"]) == ("failed", 102)
    firework = far.launchpad.get_fw_by_id(fw_id)
    assert firework.launches[0].state == "FIZZLED"
    assert "out_of_memory" in firework.launches[0].action.stored_data["_message"], "lpad tells it, too"
    child = far.database.fireworks.find_one({"fw_id": {"$ne": fw_id}})
    assert child["state"] == "READY"
    far.launchpad.rerun_fw(fw_id)
    assert far.state(fw_id) == "READY", "plain FireWorks can run it again"


def test_who_shared_a_job_that_ran_out_of_memory_gets_a_second_try(far: Far):
    """Nobody knows which of them took it all."""
    one, other = far.add("a"), far.add("b")
    far.begin(one, pid=9)
    far.begin(other, pid=10)
    far.scheduler.say(OVER, "ended", "OUT_OF_MEMORY", cause=102)
    assert [r.kind for r in far.mend()] == ["lost", "lost"]
    far.begin(one, pid=9)
    far.begin(other, pid=10)
    assert [r.kind for r in far.mend()] == ["failed", "failed"]


@pytest.mark.parametrize("code", [101, 103, 106])
def test_a_task_that_is_lost_again_and_again_fails_with_that_cause(far: Far, code: int):
    fw_id = far.add("a")
    kinds = [far.lose(fw_id, code)[0].kind for _ in range(MAX_LOSSES)]
    assert kinds == ["lost"] * (MAX_LOSSES - 1) + ["failed"]
    attempts = list(far.database.attempts.find({"fw_id": fw_id}).sort("launch_id", 1))
    assert [a["cause"]["code"] for a in attempts] == [code] * MAX_LOSSES
    assert f"lost {MAX_LOSSES} times in a row" in attempts[-1]["cause"]["evidence"]
    assert far.state(fw_id) == "FIZZLED"
    # whoever has it run again gives it as many tries
    far.launchpad.rerun_fw(fw_id)
    assert far.lose(fw_id, code)[0].kind == "lost"


def test_who_has_to_make_way_is_patient(far: Far):
    fw_id = far.add("a")
    kinds = [far.lose(fw_id, code)[0].kind for code in [104, 105] * (MAX_INTERRUPTIONS // 2)]
    assert kinds == ["lost"] * (MAX_INTERRUPTIONS - 1) + ["failed"]


def test_losses_before_a_new_geometry_and_on_bad_nodes_do_not_count(far: Far):
    fw_id = far.add("a")
    for n in range(MAX_LOSSES - 1):
        assert far.lose(fw_id, 103)[0].kind == "lost", n
    # one that stopped by itself, and had come further
    far.lose(fw_id, 104, last_geometry={"step": 7}, seconds=900.0)
    for n in range(MAX_LOSSES - 1):
        assert far.lose(fw_id, 103)[0].kind == "lost", n
    for n in range(3):
        far.database.attempts.update_many({"cause.code": 103}, {"$set": {"set_aside": True}})
        assert far.lose(fw_id, 103)[0].kind == "lost", n


def test_jobs_of_a_round_are_given_more_tries(far: Far):
    fw_id = far.add("a", candidate=None)
    assert {far.lose(fw_id, 101)[0].kind for _ in range(MAX_LOSSES + 2)} == {"lost"}


def test_launches_that_died_before_they_could_record_an_attempt_count(far: Far):
    fw_id = far.add("a")
    kinds = []
    for _ in range(MAX_LOSSES):
        far.begin(fw_id)
        far.database.attempts.delete_many({})
        kinds += [r.kind for r in far.mend()]
    assert kinds == ["lost"] * (MAX_LOSSES - 1) + ["failed"]
    assert far.state(fw_id) == "FIZZLED"


def test_what_a_supervisor_knows_of_its_worker_is_the_cause(far: Far):
    fw_id = far.add("a")
    far.launchpad.owner = far.process().owner  # as if we were it
    far.begin(fw_id)
    from workflows.runtime.repair import Repairer

    (repair,) = Repairer(far.launchpad).run({far.launchpad.owner: 102})
    assert (repair.kind, repair.code) == ("failed", 102)


def test_a_result_that_came_in_after_all_stands(far: Far):
    """Between our look and our write the process may have ended well, at the very last moment."""
    fw_id = far.add("a")
    launch_id = far.begin(fw_id)
    reconciler = Reconciler(far.launchpad, {"alps": far.scheduler})
    archive = far.launchpad.archive_launch

    def late(launch: int) -> bool:
        far.database.attempts.update_one({"launch_id": launch}, {"$set": {"state": "completed", "cause": None}})
        far.process().complete_launch(launch, FWAction(), "COMPLETED")
        return archive(launch)

    far.launchpad.archive_launch = late  # type: ignore[method-assign]
    assert reconciler.run().repairs == []
    assert far.state(fw_id) == "COMPLETED"
    assert far.database.launches.find_one({"launch_id": launch_id})["state"] == "COMPLETED"


def test_causes_have_their_names(far: Far):
    far.lose(far.add("a"), 104)
    assert Cause.model_validate(far.database.attempts.find_one()["cause"]).name == "preempted"
