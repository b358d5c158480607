"""``nucleate submit`` against a real SLURM and a database over TCP, with fast stand-ins for tasks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fireworks import Firework, Workflow
from slurm_fixtures import wait_until

from workflows.records import Pilot
from workflows.runtime import pilots as pilots_module
from workflows.runtime.accounting import core_hours
from workflows.runtime.store import open_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slurm_fixtures import LocalSlurm

    from workflows.runtime.store import Store

SUPPORT = Path(__file__).parents[2] / "support"

pytestmark = pytest.mark.xdist_group("slurm")


class Site:
    """A launched campaign ``c`` in the daemon's database, and a cluster file."""

    def __init__(self, store: Store, directory: Path, slurm: LocalSlurm) -> None:
        self.store = store
        self.slurm = slurm
        self.directory = directory / "campaign"
        self.directory.mkdir()
        (self.directory / "campaign.yaml").write_text("name: c\n")
        self.notes = directory / "notes"
        self.notes.write_text("")
        self.bin = directory / "bin"
        self.bin.mkdir()
        store.ensure_indexes()
        store.write_configs(self.directory)
        store.campaigns.insert_one({"name": "c", "state": "running", "directory": str(self.directory), "spec": {}})
        self.file = directory / "clusters.yaml"
        self.kind = {"categories": ["cpu"], "cores": 1, "memory_gb": 0.5, "minutes": 5, "drain_s": 10, "idle_s": 2}
        self.kind["task"] = {"cores": 1, "memory_gb": 0.2, "minutes": 1.0}
        self.write()

    def write(self, cluster: dict[str, Any] | None = None, **kind: Any) -> None:
        """Write the cluster file anew."""
        local = {"environment": {"PYTHONPATH": str(SUPPORT)}, "pilots": {"cpu": {**self.kind, **kind}}}
        self.file.write_text(json.dumps({"clusters": {"local": {**local, **(cluster or {})}}}, indent=1))

    def add(self, *tags: str, seconds: float = 0.0, **resources: Any) -> list[int]:
        """Add tasks that are READY."""
        import sample_jobs as jobs

        made = []
        for tag in tags:
            block = {"campaign": "c", "round": 1, "stage": "relax", "candidate": f"c-r01-{tag}", "engine": "mlip"}
            spec = {"nucleate": block, "_category": "cpu", **({"resources": resources} if resources else {})}
            task = jobs.Occupy(tag=tag, notes=str(self.notes), seconds=seconds)
            workflow = Workflow([Firework([task], name=tag, spec=spec)])
            made += self.store.launchpad.add_wf(workflow).values()
        return made

    def pilots(self, **query: Any) -> list[Pilot]:
        found = self.store.database.pilots.find(query, {"_id": 0}).sort([("submitted_at", 1), ("pilot", 1)])
        return [Pilot.model_validate(record) for record in found]

    def jobs(self) -> list[str]:
        """Names of all jobs that are in the queue."""
        return self.slurm.run("squeue", "--noheader", "--format=%j").split()

    def states(self) -> dict[str, str]:
        return {fw["name"]: fw["state"] for fw in self.store.database.fireworks.find({}, {"name": 1, "state": 1})}

    def arguments(self, *more: str) -> list[str]:
        return ["submit", "--cluster", "local", "--clusters", str(self.file), "-C", str(self.directory), *more]

    def start(self, *more: str) -> subprocess.Popen[str]:
        """Start the command in a process of its own."""
        command = [sys.executable, "-m", "workflows.cli", *self.arguments(*more)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def wrap(self, program: str, script: str) -> None:
        """Put a program of ours before one of SLURM's; ``$REAL`` is the real one."""
        path = self.bin / program
        path.write_text(f"#!/bin/bash\nREAL={shutil.which(program)}\n{script}\n")
        path.chmod(0o755)

    def refuse(self, message: str, also: str = "true") -> None:
        """Let sbatch accept what it is asked to test, and refuse what it is asked to submit."""
        said = f'{also}; echo "sbatch: error: {message}" >&2; exit 1'
        self.wrap("sbatch", f'case "$*" in *--test-only*) $REAL "$@";; *) {said};; esac')


@pytest.fixture
def site(slurm: LocalSlurm, uri_profile: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with open_store(uri_profile) as store:
        made = Site(store, tmp_path, slurm)
        monkeypatch.setenv("PATH", f"{made.bin}{os.pathsep}{os.environ['PATH']}")
        yield made
        slurm.cancel_all()


@pytest.fixture
def submit(nucleate: Callable[..., Any], site: Site) -> Callable[..., Any]:
    return lambda *more: nucleate(*site.arguments(*more))


def test_a_pilot_is_submitted_does_the_work_and_its_core_hours_are_counted(site, submit):
    site.add("a", "b", "d")
    ran = submit("--json")
    assert ran.code == 0, ran.err
    said = json.loads(ran.out)
    assert (said["ready"], list(said["submitted"].values())) == (3, ["cpu"])
    (pilot,) = site.pilots()
    assert pilot.job_id
    assert pilot.pilot.startswith("c-local-cpu-")
    assert (pilot.cores, pilot.minutes) == (1, 5)
    order = site.directory / "pilots" / pilot.pilot / "pilot.json"
    assert oct(order.stat().st_mode & 0o777) == "0o600"
    assert oct(order.parent.stat().st_mode & 0o777) == "0o700"
    wait_until(lambda: set(site.states().values()) == {"COMPLETED"}, "the work to be done", 90)
    site.slurm.wait_for_state(pilot.job_id, "COMPLETED", 60)

    def counted():
        submit()
        return core_hours(site.store.database, "c").get("local", 0) > 0 and site.pilots()[0].settled

    wait_until(counted, "its accounts", 30)
    (pilot,) = site.pilots()
    assert (pilot.state, pilot.reason, pilot.tasks, pilot.scheduler_state) == ("ended", "drained", 3, "COMPLETED")
    assert pilot.node in site.slurm.nodes
    assert 0 < core_hours(site.store.database, "c")["local"] < 0.1


HELD = ["--hold"]
"""A kind of pilot whose jobs wait until they are cancelled."""


def test_no_more_than_the_work_there_is_and_none_twice(site, submit):
    site.write(extra=HELD, cores=1)
    site.add("a", "b", minutes=4)
    assert submit("--dry-run").out.splitlines()[-1] == "would submit 2 cpu pilots"
    assert site.pilots() == []
    first = submit()
    assert first.code == 0
    assert "submitted 2 cpu pilots" in first.out.splitlines()
    assert "with --watch" in first.out.splitlines()[-1], "nothing comes after the first jobs by itself"
    again = submit()
    assert again.code == 0
    assert "submitted" not in again.out
    assert again.out.splitlines()[:3] == [
        "tasks: 2 ready, 0 running, 0 waiting",
        "jobs on local: 0 running, 2 queued (2 cpu)",
        "no new pilots",
    ]
    assert sorted(site.jobs()) == sorted(pilot.pilot for pilot in site.pilots())
    assert len(site.jobs()) == 2


def test_a_campaign_by_name_from_anywhere(site, nucleate, uri_profile):
    site.write(extra=HELD)
    site.add("a")
    command = ["submit", "--cluster", "local", "--clusters", str(site.file), "--campaign", "c"]
    ran = nucleate(*command)
    assert (ran.code, "embedded" in ran.err) == (2, True), "the default is the store that nodes can't reach"
    ran = nucleate(*command, "--store", uri_profile)
    assert ran.code == 0, ran.err
    assert site.jobs() == [pilot.pilot for pilot in site.pilots()]
    site.store.campaigns.update_one({"name": "c"}, {"$set": {"directory": "/nowhere"}})
    ran = nucleate(*command, "--store", uri_profile)
    assert (ran.code, "is not on this host" in ran.err) == (2, True)


def test_two_at_once_submit_no_more_than_one_would(site):
    site.write(extra=HELD, max_jobs=9)
    site.add("a", "b", "d", minutes=4)
    both = [site.start(), site.start()]
    said = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(site.jobs()) == 3
    assert {pilot.state for pilot in site.pilots()} == {"queued"}


@pytest.mark.parametrize(
    ("limits", "max_jobs", "why"),
    [({"jobs": 2}, 9, "limits.jobs"), ({"cores": 2}, 9, "limits.cores"), ({}, 2, "max_jobs")],
)
def test_limits_hold_for_all_campaigns_of_the_store(site, submit, limits, max_jobs, why):
    site.write({"limits": limits}, extra=HELD, max_jobs=max_jobs)
    site.add("a", "b", "d", minutes=4)
    other = Pilot(pilot="other", campaign="d", cluster="local", kind="cpu", state="queued", job_id="999999")
    site.store.database.pilots.insert_one(other.model_dump())
    ran = submit()
    assert ran.code == 0, ran.err
    assert why in ran.out
    assert len(site.jobs()) == 1


def test_the_budget_holds(site, submit):
    site.write(extra=HELD, max_jobs=9)
    site.add("a", "b", "d", minutes=2)
    site.store.campaigns.update_one({"name": "c"}, {"$set": {"spec": {"budget": {"hours": 9 / 60}}}})
    ran = submit()
    assert ran.code == 0, ran.err
    assert [pilot.minutes for pilot in site.pilots()] == [5, 4], "the second gets what is left"
    assert "core-hours" in ran.out
    site.slurm.cancel_all()
    site.store.database.pilots.update_many({}, {"$set": {"state": "ended", "settled": True, "core_seconds": 300.0}})
    ran = submit()
    assert ran.code == 1
    assert "core-hours are spent" in ran.out


def test_queued_jobs_without_work_are_taken_back(site, submit):
    site.write(extra=HELD)
    fw_ids = site.add("a", "b", minutes=4)
    submit()
    assert len(site.jobs()) == 2
    site.store.launchpad.defuse_fw(fw_ids[0])
    ran = submit()
    assert "no work for it" in ran.out
    assert len(site.jobs()) == 1


# --- crashes ----------------------------------------------------------------------------------------------------------


def test_killed_after_sbatch_has_answered_the_job_is_found_by_its_name(site, submit):
    site.write(extra=HELD)
    site.add("a", minutes=4)
    site.wrap("sbatch", '$REAL "$@"; code=$?; case "$*" in *--test-only*) ;; *) kill -9 $PPID;; esac; exit $code')
    process = site.start()
    process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL
    assert [(pilot.state, pilot.job_id) for pilot in site.pilots()] == [("submitting", None)]
    (site.bin / "sbatch").unlink()
    ran = submit()
    assert ran.code == 0, ran.err
    (pilot,) = site.pilots()
    assert pilot.state == "queued"
    assert site.jobs() == [pilot.pilot]
    assert pilot.job_id == site.slurm.run("squeue", "--noheader", "--format=%A")


def test_killed_before_sbatch_got_through_another_takes_its_place(site, submit, monkeypatch):
    monkeypatch.setattr(pilots_module, "_CRASH_S", 1.0)
    site.write(extra=HELD)
    site.add("a", minutes=4)
    site.wrap("sbatch", 'case "$*" in *--test-only*) $REAL "$@";; *) kill -9 $PPID;; esac')
    assert site.start().wait(120) == -signal.SIGKILL
    (site.bin / "sbatch").unlink()
    ran = submit()
    assert ran.code == 0, ran.err
    broken, taken = site.pilots()
    assert (broken.state, taken.state) == ("refused", "queued")
    assert "broke off" in broken.message
    assert site.jobs() == [taken.pilot]


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "cluster", "said"),
    [
        ({"partition": "nosuch"}, {}, "partition"),
        ({"partition": "short", "minutes": 30}, {}, "30 min"),
        ({"reservation": "gone"}, {}, "reservation"),
        ({"cores": 99, "minutes": 5}, {}, "local.pilots.cpu"),
        ({}, {"python": "/nowhere/python"}, "/nowhere/python"),
        ({}, {"python": "/bin/false"}, "has no nucleate"),
        ({}, {"slurm_conf": "/nowhere/slurm.conf"}, "slurm_conf"),
        ({"corez": 1}, {}, "did you mean cores?"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_submitted(site, submit, kind, cluster, said):
    site.write(cluster, **kind)
    site.add("a")
    ran = submit()
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert site.pilots() == []
    assert site.jobs() == []


def test_all_that_is_wrong_is_said_at_once(site, submit):
    kinds = {name: {**site.kind, "partition": f"no-{name}"} for name in ("a", "b")}
    site.write({"python": "/nowhere/python", "pilots": kinds})
    ran = submit()
    assert ran.code == 2
    assert all(part in ran.err for part in ("local.python", "pilots.a", "pilots.b"))


def test_no_sbatch_and_no_such_names(site, submit, nucleate, monkeypatch):
    assert "did you mean local?" in nucleate(*site.arguments()[:2], "locl", *site.arguments()[3:]).err
    ran = submit("--kind", "gpu")
    assert (ran.code, "no kind of pilot gpu" in ran.err) == (2, True)
    monkeypatch.setenv("PATH", str(site.bin))
    ran = submit("--watch")
    assert (ran.code, "no sbatch on the PATH" in ran.err) == (2, True)


def test_no_cluster_file(site, nucleate, monkeypatch):
    monkeypatch.setenv("NUCLEATE_CLUSTERS", str(site.directory / "none.yaml"))
    ran = nucleate("submit", "--cluster", "local", "-C", str(site.directory))
    assert ran.code == 2
    assert "none.yaml does not exist" in ran.err


def test_the_embedded_store_is_for_clusters_on_this_host_alone(store, tmp_path, nucleate, slurm):
    site = Site(store, tmp_path, slurm)
    ran = nucleate(*site.arguments())
    assert ran.code == 2
    assert "embedded" in ran.err

    site.write({"same_host": True})
    site.add("a", seconds=0.1)
    ran = nucleate(*site.arguments())
    assert ran.code == 0, ran.err
    wait_until(lambda: site.states() == {"a": "COMPLETED"}, "the task", 90)


def test_what_the_scheduler_refuses_later_is_not_tried_for_ever(site, submit):
    site.write(extra=HELD)
    site.add("a", "b", minutes=4)
    tried = site.bin / "tried"
    site.refuse("QOSMaxSubmitJob", also=f"echo x >> {tried}")

    def times():
        return len(tried.read_text().split()) if tried.exists() else 0

    for number in (1, 2, 3):
        ran = submit()
        assert ran.code == 1
        assert "QOSMaxSubmitJob" in ran.out
        assert times() == number, "one refusal of a kind is enough for a turn"
    assert {(pilot.state, "QOSMaxSubmitJob" in pilot.message) for pilot in site.pilots()} == {("refused", True)}
    ran = submit()
    assert (ran.code, times()) == (1, 3)
    assert "set aside, refused 3 times in a row" in ran.out
    assert submit("--retry").code == 1
    assert times() == 4
    site.write(extra=HELD, memory_gb=0.6)
    submit()
    assert times() == 5, "another cluster file, another try"
    (site.bin / "sbatch").unlink()
    assert submit("--retry").code == 0
    assert len(site.jobs()) == 2


def test_a_silent_scheduler_stops_nothing_but_the_submission(site, submit):
    site.add("a")
    site.refuse("Unable to contact slurm controller (connect failure)")
    ran = submit()
    assert ran.code == 1
    assert "does not answer" in ran.out
    assert [pilot.state for pilot in site.pilots()] == ["submitting"], "it may have got through"


# --- reservations -----------------------------------------------------------------------------------------------------


def test_each_task_may_have_a_job_of_its_size_that_no_pilot_takes_from_it(site, submit):
    site.write({"limits": {"jobs": 5}}, cores=2, max_jobs=9)
    site.add("small", minutes=2)
    site.add("large", cores=2, memory_gb=0.3, minutes=3)
    ran = submit("--reserve")
    assert ran.code == 0, ran.err
    sizes = {pilot.fw_id: (pilot.cores, pilot.memory_gb, pilot.minutes) for pilot in site.pilots()}
    assert sorted(sizes.values()) == [(1, 0.7, 3), (2, 0.8, 4)]
    assert "submitted" not in submit("--reserve").out
    assert "submitted" not in submit().out, "pilots find no work that others are reserved for"
    wait_until(lambda: set(site.states().values()) == {"COMPLETED"}, "the work to be done", 120)


def test_a_reservation_ends_with_its_job(site, submit):
    site.write(extra=HELD)
    (fw_id,) = site.add("a", minutes=2)
    submit("--reserve")
    (first,) = site.pilots()
    fireworks = site.store.database.fireworks
    assert fireworks.find_one({"fw_id": fw_id})["spec"]["_fworker"] == first.pilot
    site.slurm.cancel_all()

    def free():
        submit("--dry-run", "--reserve")
        ran = submit("--reserve")
        return "submitted 1 cpu" in ran.out

    wait_until(free, "another job for it", 30)
    assert [pilot.state for pilot in site.pilots()] == ["ended", "queued"]


def test_jobs_for_a_task_that_never_begin_it_are_not_submitted_for_ever(site, submit):
    site.write({"setup": ["exit 3"]})  # a module that is not there on the nodes, say
    site.add("a", minutes=2)
    for _ in range(3):
        wait_until(lambda: "submitted 1 cpu" in submit("--reserve").out, "a job for it", 60)
    wait_until(lambda: "3 jobs ended without beginning it" in submit("--reserve").out, "no more of them", 60)
    assert submit("--reserve").code == 1
    assert len(site.pilots()) == 3
    assert "submitted 1 cpu" in submit("--reserve", "--retry").out


# --- cancelling and watching ------------------------------------------------------------------------------------------


def test_cancel_takes_back_what_waits_and_lets_running_tasks_end(site, submit):
    site.add("long", seconds=8.0, minutes=4)
    submit()
    wait_until(lambda: site.states()["long"] == "RUNNING", "the task to run", 90)
    site.write(extra=HELD)
    site.add("b", "d", minutes=4)
    submit()
    assert len(site.jobs()) >= 2
    ran = submit("--cancel", "--json")
    said = json.loads(ran.out)
    assert ran.code == 0, ran.err
    assert len(said["draining"]) == 1
    assert len(said["cancelled"]) >= 1
    wait_until(lambda: not site.jobs(), "the queue to be empty", 60)
    assert site.states()["long"] == "COMPLETED"
    assert "READY" in site.states().values()


def test_a_watch_sees_a_campaign_through(site):
    site.add("a", "b")
    watch = site.start("--watch", "--every", "1")
    wait_until(lambda: set(site.states().values()) == {"COMPLETED"}, "the work to be done", 120)
    site.store.campaigns.update_one({"name": "c"}, {"$set": {"state": "finished"}})
    said, _ = watch.communicate(timeout=90)
    assert watch.returncode == 0, said
    assert "submitted 1 cpu" in said or "submitted 2 cpu" in said
    assert said.strip().splitlines()[-1].endswith("the campaign is finished")
    assert {(pilot.state, pilot.settled) for pilot in site.pilots()} == {("ended", True)}


def test_a_watch_stops_when_asked_and_its_jobs_stay(site):
    site.write(extra=HELD)
    site.add("a", minutes=4)
    watch = site.start("--watch", "--every", "1")
    wait_until(lambda: [p.state for p in site.pilots()] == ["queued"], "a pilot", 90)
    watch.send_signal(signal.SIGTERM)
    said, _ = watch.communicate(timeout=60)
    assert watch.returncode == 0, said
    assert "jobs in the queue stay" in said
    assert len(site.jobs()) == 1


def test_a_node_on_which_everything_failed_gets_no_more_pilots(site, submit):
    site.write(extra=HELD)
    bad = Pilot(pilot="bad", campaign="c", cluster="local", kind="cpu", state="ended", settled=True, core_seconds=1.0)
    told = {"reason": "bad_state", "ended_at": bad.submitted_at, "node": site.slurm.nodes[0]}
    site.store.database.pilots.insert_one({**bad.model_dump(), **told})
    site.add("a", minutes=4)
    submit()
    (job,) = site.slurm.run("squeue", "--noheader", "--format=%A").split()
    assert f"ExcNodeList={site.slurm.nodes[0]}" in site.slurm.scontrol("show", "job", job)


def test_nodes_on_which_everything_failed_are_tried_again_when_somebody_asks(site, submit):
    """Where all of them are left out nothing can be submitted: a full scratch may be mended in minutes."""
    for node in site.slurm.nodes:
        bad = Pilot(pilot=f"bad-{node}", campaign="c", cluster="local", kind="cpu", state="ended", core_seconds=1.0)
        told = {"reason": "bad_state", "ended_at": bad.submitted_at, "node": node, "settled": True}
        site.store.database.pilots.insert_one({**bad.model_dump(), **told})
    site.add("a", minutes=4)
    refused = submit()
    assert refused.code == 1
    assert "--retry" in refused.out
    assert all(node in refused.out for node in site.slurm.nodes)
    assert site.jobs() == []

    tried = submit("--retry")
    assert tried.code == 0, tried.out
    assert "submitted 1 cpu" in tried.out
    assert site.store.database.pilots.count_documents({"reason": "bad_state"}) == 0
