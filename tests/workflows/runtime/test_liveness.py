"""The fate of a process by its name: what each thing that a scheduler can say, or not say, proves."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from fake_scheduler import Told

from workflows.records import Cause, Pilot
from workflows.runtime.identity import BatchJob, ProcessName
from workflows.runtime.liveness import (
    ASK_S,
    FORGOTTEN_S,
    OTHERS_ASK_S,
    SETTLE_S,
    STILL_S,
    Fate,
    Liveness,
)
from workflows.runtime.scheduler.base import JobInfo
from workflows.runtime.scheduler.inquiry import Inquiry
from workflows.runtime.watch import Watch

if TYPE_CHECKING:
    from workflows.runtime.store import Store

PASS_S = 15.0


@dataclass
class Post:
    """An observer with a clock of its own, a scheduler that it asks, and pilots that beat or don't."""

    database: Any
    scheduler: Told = field(default_factory=Told)
    now_s: float = 1000.0

    def __post_init__(self) -> None:
        inquiry = Inquiry({"alps": self.scheduler}, fresh_s=-1.0)
        self.liveness = Liveness(self.database, inquiry, watch=Watch(clock=lambda: self.now_s))

    def pilot(self, job_id: str = "81", **more: Any) -> None:
        record = Pilot(
            pilot=f"name-{job_id}", campaign="oxides", cluster="alps", kind="cpu", job_id=job_id, state="running"
        )
        self.database.pilots.insert_one(record.model_copy(update=more).model_dump())

    def beat(self) -> None:
        self.database.pilots.update_many({}, {"$inc": {"beat": 1}})

    def fate(self, name: ProcessName | str) -> Fate:
        self.liveness.look([str(name)])
        return self.liveness.fate(str(name))

    def over(self, name: ProcessName | str, seconds: float, *, beating: bool = False) -> list[str]:
        """Look again and again for some time; gives the states in the order they were seen."""
        states = []
        until = self.now_s + seconds
        while True:
            states.append(self.fate(name).state)
            if self.now_s >= until:
                return states
            self.now_s = min(until, self.now_s + PASS_S)
            if beating:
                self.beat()


@pytest.fixture
def post(store: Store) -> Post:
    return Post(store.database)


def elsewhere(restart: int = 0, job_id: str = "81", cluster: str = "alps") -> ProcessName:
    return ProcessName("node-3", 4711, 1790000000, BatchJob(cluster, job_id, restart))


@pytest.fixture
def gone() -> ProcessName:
    """A process of this host that has ended, in job 81."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        name = ProcessName.of(process.pid)
        process.kill()
        process.wait()
    return ProcessName(name.host, name.pid, name.started, BatchJob("alps", "81"))


# -- other hosts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "code"),
    [
        ("TIMEOUT", 101),
        ("OUT_OF_MEMORY", 102),
        ("PREEMPTED", 104),
        ("CANCELLED", 105),
        ("FAILED", 106),
    ],
)
def test_a_job_that_ended_is_dead_of_what_ended_it(post: Post, state: str, code: int):
    post.pilot()
    post.scheduler.say("81", "ended", state, cause=code, evidence=f"{state} 0:9 on c1")
    assert post.fate(elsewhere()).state == "unknown", "it may still be about to beat"
    post.now_s += STILL_S
    fate = post.fate(elsewhere())
    assert (fate.state, fate.code) == ("dead", code)
    assert fate.evidence == f"job 81 of alps: {state} 0:9 on c1"
    assert fate.whole_job


def test_a_beat_that_was_watched_before_the_end_need_not_be_waited_for_again(post: Post):
    post.pilot()
    post.scheduler.say("81", "running", "RUNNING")
    assert post.over(elsewhere(), 30.0) == ["alive"] * 3
    post.scheduler.say("81", "ended", "TIMEOUT", cause=101)
    assert post.fate(elsewhere()).code == 101


def test_a_job_that_said_itself_that_it_ended_is_not_waited_for(post: Post):
    post.pilot(state="ended", reason="drained")
    post.scheduler.say("81", "ended", "COMPLETED", evidence="COMPLETED 0:0")
    fate = post.fate(elsewhere())
    assert (fate.state, fate.code) == ("dead", 106)
    assert fate.evidence == "job 81 of alps: COMPLETED 0:0, and this launch had left no result"


def test_who_beats_lives_whatever_the_scheduler_says(post: Post):
    """A node that only the controller can't reach, a controller that has lost its state."""
    post.pilot()
    for says in (
        lambda: post.scheduler.say("81", "ended", "NODE_FAIL", cause=103),
        lambda: post.scheduler.say("81", "ended", "CANCELLED", cause=105),
        post.scheduler.known.clear,
        lambda: post.scheduler.say("81", "running", "RUNNING", source="sacct"),
    ):
        says()
        assert "dead" not in post.over(elsewhere(), 300.0, beating=True)


def test_a_failed_node_is_given_longer(post: Post):
    post.pilot()
    post.scheduler.say("81", "ended", "NODE_FAIL", cause=103, evidence="NODE_FAIL on c1")
    assert set(post.over(elsewhere(), FORGOTTEN_S - 1)) == {"unknown"}
    post.now_s += 1
    assert post.fate(elsewhere()).code == 103


@pytest.mark.parametrize("accounts", [True, False])
def test_a_forgotten_job_is_dead_once_it_has_not_beaten_for_a_minute(post: Post, accounts: bool):
    post.scheduler.accounting = accounts
    post.pilot()
    assert set(post.over(elsewhere(), FORGOTTEN_S - 1)) == {"unknown"}
    post.now_s += 1
    fate = post.fate(elsewhere())
    assert (fate.state, fate.code) == ("dead", 106)
    assert "knows nothing of it" in fate.evidence


def test_a_forgotten_job_without_a_pilots_record_is_never_called_dead(post: Post):
    assert set(post.over(elsewhere(), 1000.0)) == {"unknown"}


def test_accounts_that_were_never_closed_are_no_sign_of_life(post: Post):
    """After slurmctld has lost its state, sacct goes on saying RUNNING."""
    post.pilot()
    post.scheduler.say("81", "running", "RUNNING", source="sacct")
    assert post.over(elsewhere(), FORGOTTEN_S)[-1] == "dead"


def test_a_scheduler_that_is_away_proves_nothing(post: Post):
    post.pilot()
    post.scheduler.say("81", "ended", "TIMEOUT", cause=101)
    post.scheduler.is_away = True
    assert set(post.over(elsewhere(), 3600.0)) == {"unknown"}
    assert "does not answer" in post.fate(elsewhere()).evidence
    assert list(post.liveness.away) == ["alps"]
    post.scheduler.is_away = False
    assert post.fate(elsewhere()).code == 101


def test_what_a_scheduler_once_said_holds_when_it_is_away_or_has_forgotten(post: Post):
    cause = Cause(code=104, name="preempted", evidence="PREEMPTED on c2")
    post.pilot(state="ended", scheduler_state="PREEMPTED", cause=cause, settled=True)
    assert "dead" not in post.over(elsewhere(), 100.0, beating=True), "but it beats"
    post.now_s += STILL_S
    for away in (True, False):
        post.scheduler.is_away = away
        fate = post.fate(elsewhere())
        assert (fate.state, fate.code, fate.evidence) == ("dead", 104, "PREEMPTED on c2")
    # ... but not of a run that began after it was said
    post.scheduler.is_away = True
    assert post.fate(elsewhere(restart=1)).state == "unknown"


@pytest.mark.parametrize("phase", ["queued", "running"])
def test_a_living_job_is_alive(post: Post, phase: str):
    post.pilot()
    post.scheduler.say("81", phase, phase.upper())
    assert set(post.over(elsewhere(), 1000.0)) == {"alive"}, "with or without a beat: the scheduler says so"


def test_a_job_that_is_being_ended_may_still_live(post: Post):
    post.pilot()
    post.scheduler.say("81", "running", "COMPLETING", ending=True)
    assert set(post.over(elsewhere(), 300.0)) == {"alive"}


def test_an_earlier_run_is_dead_of_what_ended_that_run(post: Post):
    post.pilot()
    runs = (
        JobInfo("81", "p", "PREEMPTED", "ended", cause=104, evidence="PREEMPTED on c1"),
        JobInfo("81", "p", "NODE_FAIL", "ended", cause=103, evidence="NODE_FAIL on c2"),
    )
    post.scheduler.say("81", "running", "RUNNING", restarts=2, earlier=runs)
    assert [post.fate(elsewhere(restart)).code for restart in range(3)] == [104, 103, None]
    assert post.fate(elsewhere(2)).state == "alive"
    assert "run 1: put back into the queue; NODE_FAIL on c2" in post.fate(elsewhere(1)).evidence


def test_an_earlier_run_may_still_be_ending_while_its_job_is_queued_again(post: Post):
    post.pilot()
    post.scheduler.say("81", "queued", "PENDING", restarts=1)
    assert set(post.over(elsewhere(), 100.0, beating=True)) == {"unknown"}
    assert post.over(elsewhere(), STILL_S)[-1] == "dead"
    assert "does not tell why" in post.fate(elsewhere()).evidence


def test_clusters_that_are_not_in_the_file_are_unknown(post: Post):
    post.pilot()
    fate = post.fate(elsewhere(cluster="rhine"))
    assert (fate.state, fate.wait_s) == ("unknown", 0.0)
    assert "cluster file" in fate.evidence
    assert "cluster file" in post.fate(elsewhere(cluster="")).evidence, "somebody's own job"


def test_outside_of_any_job_only_the_host_itself_can_tell(post: Post):
    fate = post.fate(ProcessName("node-3", 4711, 1790000000))
    assert fate.state == "unknown"
    assert "node-3" in fate.evidence
    assert post.fate("Automatically generated Worker").state == "unknown"
    assert not post.liveness.is_dead(None)


def test_a_scheduler_is_asked_once_a_pass_for_all_jobs(post: Post):
    for job in range(81, 86):
        post.pilot(str(job))
    names = [str(ProcessName("node-3", pid, 1, BatchJob("alps", str(81 + pid % 5)))) for pid in range(50)]
    post.liveness.look(names)
    for name in names:
        post.liveness.fate(name)
    assert post.scheduler.asked == [["81", "82", "83", "84", "85"]]


# -- this host --------------------------------------------------------------------------------------------------------


def test_the_living_of_this_host_live_whatever_a_scheduler_says(post: Post):
    own = ProcessName.own()
    post.scheduler.say("81", "ended", "NODE_FAIL", cause=103)
    assert post.fate(ProcessName(own.host, own.pid, own.started, BatchJob("alps", "81"))).state == "alive"


def test_the_dead_of_this_host_are_dead_of_what_ended_their_job(post: Post, gone: ProcessName):
    post.pilot()
    post.scheduler.say("81", "ended", "TIMEOUT", cause=101, evidence="TIMEOUT on c1", source="sacct")
    fate = post.fate(gone)
    assert (fate.state, fate.code) == ("dead", 101), "at once: the pid is proof enough"


def test_who_died_while_the_job_lives_was_killed_alone(post: Post, gone: ProcessName):
    post.pilot()
    post.scheduler.say("81", "running", "RUNNING")
    assert post.fate(gone).state == "unknown", "its job may be about to end"
    post.now_s += SETTLE_S
    fate = post.fate(gone)
    assert (fate.state, fate.code, fate.whole_job) == ("dead", 106, False)


def test_the_cause_comes_in_while_it_is_waited_for(post: Post, gone: ProcessName):
    post.pilot()
    post.scheduler.say("81", "running", "COMPLETING", ending=True)
    assert post.fate(gone).state == "unknown"
    post.now_s += SETTLE_S / 2
    post.scheduler.say("81", "ended", "CANCELLED", cause=105, evidence="CANCELLED by ada", source="sacct")
    assert post.fate(gone).code == 105


def test_who_cancelled_it_is_waited_for_but_not_for_long(post: Post, gone: ProcessName):
    """Accounting is a second behind the queue; should it not answer at all, the queue's word must do."""
    post.scheduler.say("81", "ended", "CANCELLED", cause=105, evidence="CANCELLED", source="squeue")
    assert post.fate(gone).state == "unknown"
    post.now_s += SETTLE_S
    fate = post.fate(gone)
    assert (fate.state, fate.code, fate.whole_job) == ("dead", 105, True)
    post.scheduler.say("81", "ended", "CANCELLED", cause=105, evidence="CANCELLED by ada", source="sacct")
    assert "by ada" in post.fate(gone).evidence


def test_hearsay_proves_nothing(post: Post):
    """What accounting still says, or nobody, while slurmctld is silent."""
    post.pilot()
    for source in ("", "sacct, slurmctld does not answer"):
        post.scheduler.say("81", "queued", "UNKNOWN", source=source)
        assert set(post.over(elsewhere(), 300.0)) == {"unknown"}


def test_the_dead_are_dead_in_the_end_if_nobody_says_of_what(post: Post, gone: ProcessName):
    post.scheduler.is_away = True
    states = post.over(gone, ASK_S)
    assert (set(states[:-1]), states[-1]) == ({"unknown"}, "dead")
    assert "does not answer" in post.fate(gone).evidence


def test_without_a_cluster_file_the_dead_of_jobs_are_left_to_those_who_have_one_for_a_while(
    store: Store, gone: ProcessName
):
    clock = [0.0]
    liveness = Liveness(store.database, watch=Watch(clock=lambda: clock[0]))
    liveness.look([str(gone)])
    assert 0 < liveness.fate(str(gone)).wait_s <= OTHERS_ASK_S
    clock[0] += OTHERS_ASK_S
    liveness.look([str(gone)])
    assert liveness.fate(str(gone)).code == 106


def test_within_its_own_job_the_dead_are_known_at_once(post: Post, gone: ProcessName, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SLURM_JOB_ID", "81")
    monkeypatch.setenv("NUCLEATE_CLUSTER", "alps")
    assert post.fate(gone).code == 106


def test_waits_begin_anew_after_the_database_was_away(post: Post):
    post.pilot()
    post.over(elsewhere(), FORGOTTEN_S - 1)
    post.liveness.forget()
    post.now_s += 10
    assert post.fate(elsewhere()).state == "unknown"
