"""Against a real SLURM: two nodes, accounting, on this machine. What can't be made to happen is in test_slurm_words."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from slurm_fixtures import SCRIPTS, wait_until

from workflows.runtime.scheduler.base import JobInfo, JobRequest, SchedulerAwayError, SchedulerError
from workflows.runtime.scheduler.slurm import SlurmScheduler
from workflows.runtime.scheduler.slurm_tables import NOBODY_ANSWERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slurm_fixtures import LocalSlurm

pytestmark = pytest.mark.xdist_group("slurm")

WALLTIME, OUT_OF_MEMORY, NODE_FAILURE, PREEMPTED, CANCELLED, KILLED = 101, 102, 103, 104, 105, 106


@dataclass
class Bench:
    """A scheduler and what it is asked in these tests."""

    slurm: LocalSlurm
    directory: Path

    def __post_init__(self) -> None:
        self.scheduler = SlurmScheduler(self.slurm.conf, timeout_s=30.0)

    def request(self, *command: str, name: str = "test", **more: object) -> JobRequest:
        base = JobRequest(name, command, self.directory, self.directory / f"{name}.out", memory_gb=0.2, minutes=1)
        return replace(base, **more)  # type: ignore[arg-type]

    def submit(self, *command: str, **more: object) -> str:
        return self.scheduler.submit(self.request(*command, **more))

    def info(self, job: str) -> JobInfo | None:
        return self.scheduler.jobs([job]).get(job)

    def until(self, job: str, true: Callable[[JobInfo], object], seconds: float = 30.0) -> JobInfo:
        """Wait until something is true of a job, and give what is known of it then."""

        def ask() -> JobInfo | None:
            info = self.info(job)
            return info if info and true(info) else None

        found = wait_until(ask, f"{job}: {self.info(job)}", seconds)
        assert found is not None
        return found

    def ended(self, job: str, seconds: float = 30.0) -> JobInfo:
        """Wait until accounting has told of a job's end."""
        return self.until(job, lambda info: info.phase == "ended" and info.source == "sacct", seconds)

    def running(self, job: str) -> JobInfo:
        return self.until(job, lambda info: info.phase == "running" and not info.ending)


@pytest.fixture
def bench(slurm: LocalSlurm, tmp_path: Path) -> Bench:
    return Bench(slurm, tmp_path)


# -- jobs that end ----------------------------------------------------------------------------------------------------


def test_a_job_that_completes_and_one_with_an_exit_code_of_its_own(bench: Bench):
    before = datetime.now(UTC) - timedelta(seconds=2)
    good = bench.submit("/bin/sh", "-c", "echo hello; sleep 1", cores=2)
    bad = bench.submit("/bin/sh", "-c", "exit 3", name="bad")
    info = bench.ended(good)
    assert (info.state, info.phase, info.cause, info.exit_code, info.signal) == ("COMPLETED", "ended", None, 0, None)
    assert (info.name, info.cores, info.restarts) == ("test", 2, 0)
    assert info.nodes in bench.slurm.nodes
    assert info.started is not None
    assert info.ended is not None
    assert before <= info.started <= info.ended <= datetime.now(UTC) + timedelta(seconds=2)
    assert info.core_seconds == 2 * (info.ended - info.started).total_seconds() > 0
    assert (bench.directory / "test.out").read_text() == "hello\n"
    failed = bench.ended(bad)
    assert (failed.state, failed.cause, failed.exit_code) == ("FAILED", None, 3)
    assert "exit code 3" in failed.evidence


def test_a_job_that_is_killed_by_a_signal(bench: Bench):
    info = bench.ended(bench.submit("/bin/sh", "-c", "kill -KILL $$"))
    assert (info.cause, info.signal) == (KILLED, 9)
    assert "SIGKILL" in info.evidence


@pytest.fixture
def eater(slurm: LocalSlurm) -> str:
    """Give Python that takes 400 MB, where taking too much is noticed."""
    if not slurm.kills_by_memory:
        pytest.skip("memory limits want root and cgroup v1")
    return "x = []\nfor _ in range(400): x.append(bytearray(1 << 20)); x[-1][::4096] = b'1' * 256"


def test_a_job_that_takes_too_much_memory(bench: Bench, eater: str):
    info = bench.ended(bench.submit(sys.executable, "-c", eater, memory_gb=0.05))
    assert (info.state, info.cause) == ("OUT_OF_MEMORY", OUT_OF_MEMORY)
    assert info.evidence.startswith("OUT_OF_MEMORY, on ")


def test_a_step_that_takes_too_much_memory_tells_why_its_job_failed(bench: Bench, eater: str):
    step = bench.submit("/bin/sh", "-c", 'srun -n1 "$0" -c "$1" || exit 7', sys.executable, eater, memory_gb=0.05)
    assert bench.ended(step).cause == OUT_OF_MEMORY


def test_a_job_that_is_cancelled_and_by_whom(bench: Bench):
    job = bench.submit("/bin/sleep", "100")
    bench.running(job)
    bench.scheduler.cancel([job, "99999"])
    info = bench.ended(job)
    assert (info.state, info.cause) == ("CANCELLED", CANCELLED)
    assert f"({os.getuid()}, yourself)" in info.evidence
    bench.scheduler.cancel([job])  # passed over


def test_one_that_is_cancelled_before_it_began(bench: Bench):
    job = bench.submit("/bin/true", extra=("--begin=now+1hour",))
    assert bench.until(job, lambda info: info.reason).phase == "queued"
    bench.scheduler.cancel([job])
    info = bench.ended(job)
    assert (info.cause, info.started, info.core_seconds) == (CANCELLED, None, 0.0)


def test_a_job_whose_output_cannot_be_opened_was_not_killed(bench: Bench):
    info = bench.ended(bench.submit("/bin/true", output=bench.directory / "nowhere" / "out"))
    assert (info.state, info.cause) == ("FAILED", None)
    assert "output file could not be opened" in info.evidence


def test_wall_time_a_warning_before_it_and_what_is_left_of_it(bench: Bench):
    """One job for all three, for SLURM's least wall-time is a minute and its clock looks only now and then."""
    code = (
        "import signal, sys, time\n"
        "from dft_inputs.walltime import seconds_left\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('warned', seconds_left(), flush=True))\n"
        "print(seconds_left(), flush=True)\n"
        "time.sleep(0.1)\n"
        "while True: time.sleep(1)\n"
    )
    job = bench.submit(sys.executable, "-c", code, warn_s=10, environment={"PYTHONPATH": os.getcwd()})  # noqa: PTH109
    output = bench.directory / "test.out"
    wait_until(lambda: output.exists() and output.read_text().strip(), "the job's first line")
    assert 50.0 <= float(output.read_text().split()[0]) <= 60.0
    info = bench.ended(job, seconds=120.0)
    assert (info.state, info.cause) == ("TIMEOUT", WALLTIME)
    warned = re.search(r"warned (\S+)", output.read_text())  # SLURM writes a line of its own before it
    assert warned is not None
    assert float(warned[1]) > 5.0
    assert info.core_seconds is not None
    assert 55 <= info.core_seconds <= 100


# -- nodes, queues ----------------------------------------------------------------------------------------------------


def test_a_node_that_dies(bench: Bench):
    job = bench.submit("/bin/sleep", "100")
    node = bench.running(job).nodes
    bench.slurm.kill_node(node)
    bench.slurm.fail_node(node)
    info = bench.ended(job)
    assert (info.state, info.cause, info.nodes) == ("NODE_FAIL", NODE_FAILURE, node)


def test_a_job_that_is_put_back_into_the_queue_remembers_its_runs(bench: Bench):
    job = bench.submit("/bin/sleep", "100", requeue=True)
    first = bench.running(job)
    time.sleep(1.5)
    bench.slurm.kill_node(first.nodes)
    bench.slurm.fail_node(first.nodes)
    waiting = bench.until(job, lambda info: info.restarts and info.earlier)
    assert (waiting.phase, waiting.restarts, waiting.cause) == ("queued", 1, None)
    (run,) = waiting.earlier
    assert (run.phase, run.cause, run.nodes) == ("ended", NODE_FAILURE, first.nodes)
    bench.slurm.start_now(job)
    assert bench.running(job).restarts == 1
    time.sleep(1.1)
    bench.scheduler.cancel([job])
    info = bench.ended(job)
    assert (info.cause, info.restarts, len(info.earlier)) == (CANCELLED, 1, 1)
    spent = [run.core_seconds for run in info.earlier]
    assert info.core_seconds is not None
    assert info.started is not None
    assert info.ended is not None
    assert info.core_seconds == sum(filter(None, spent)) + (info.ended - info.started).total_seconds()
    assert all(spent)


def test_a_job_that_gives_way(bench: Bench):
    job = bench.submit("/bin/sleep", "100", cores=4, nodes=2)
    bench.running(job)
    urgent = bench.submit("/bin/true", name="urgent", partition="urgent")
    assert bench.ended(job).cause == PREEMPTED
    assert bench.ended(urgent).cause is None


# -- what a job begins with -------------------------------------------------------------------------------------------


def test_words_paths_and_environments_arrive_as_they_are(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SECRET_OF_A_TERMINAL", "not for jobs")
    monkeypatch.setenv("SBATCH_WAIT", "1")  # of a user's own; it would make sbatch wait for the job's end
    directory = bench.directory / 'it\'s $odd %j, "é"'
    directory.mkdir()
    odd = 'x\'y "$HOME" `id` \\ \n%j é'
    code = "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]))"
    request = bench.request(
        sys.executable, "-c", code, odd, "", name="a b'c$x,|%é",
        directory=directory, output=directory / "out %j",
        environment={"ODD": odd, "PATH": "/usr/bin:/odd", "EMPTY": ""},
        setup=("export FROM_SETUP=1", "echo set up"),
    )  # fmt: skip
    job = bench.scheduler.submit(request)
    assert bench.ended(job).name == request.name
    first, second = (directory / "out %j").read_text().splitlines()
    words, where, environ = json.loads(second)
    assert (first, words, where) == ("set up", [odd, ""], str(directory))
    assert {name: environ[name] for name in ("ODD", "PATH", "EMPTY", "FROM_SETUP")} == {
        "ODD": odd, "PATH": "/usr/bin:/odd", "EMPTY": "", "FROM_SETUP": "1"
    }  # fmt: skip
    assert "SECRET_OF_A_TERMINAL" not in environ
    assert not [name for name in environ if name.startswith("nucleate_")]
    assert bench.scheduler.named([request.name, "nobody"]).keys() == {request.name}


def test_what_is_secret_is_neither_in_the_script_nor_on_a_command_line(bench: Bench):
    job = bench.submit("/bin/sh", "-c", "sleep 100", environment={"PASSWORD": "hunter-2"})
    bench.running(job)
    assert "hunter-2" not in bench.slurm.scontrol("write", "batch_script", job, "-")
    assert "hunter-2" not in bench.slurm.scontrol("show", "job", "-dd", job)
    assert "hunter-2" not in bench.slurm.run("sacct", "-j", job, "-P", "-o", "ALL")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "two\nlines"}, "control characters"),
        ({"name": 'a "b"'}, "neither"),
        ({"environment": {"A B": "1"}}, "'A B' is no name of a variable"),
        ({"command": ()}, "no command"),
    ],
)
def test_what_cannot_reach_slurm_as_it_is(bench: Bench, changes: dict[str, object], message: str):
    with pytest.raises(SchedulerError, match=message):
        bench.scheduler.submit(replace(bench.request("/bin/true"), **changes))  # type: ignore[arg-type]


# -- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"partition": "nope"}, "nope.*partitions that there are: debug, short, urgent"),
        ({"minutes": 10, "partition": "short"}, "10 min: partition short gives 2 min at most"),
        ({"minutes": 61}, "61 min: partition debug gives 60 min at most"),
        ({"cores": 99}, "node configuration is not available"),
        ({"memory_gb": 500.0}, "node configuration is not available"),
        ({"exclude": ("no-such-node",)}, "Invalid node name"),
        ({"constraint": "avx1024"}, "Invalid feature"),
        ({"extra": ("--no-such-option",)}, "no-such-option"),
    ],
)
def test_what_is_refused_before_anything_is_submitted(bench: Bench, changes: dict[str, object], message: str):
    with pytest.raises(SchedulerError, match=message):
        bench.scheduler.check(replace(bench.request("/bin/true"), **changes))  # type: ignore[arg-type]
    assert bench.slurm.run("squeue", "--noheader") == ""


def test_what_can_run_passes_the_check(bench: Bench):
    bench.scheduler.check(bench.request("/bin/true", cores=3, nodes=2, gpus=2, partition="debug", warn_s=30))
    assert bench.slurm.run("squeue", "--noheader") == ""


@pytest.mark.parametrize("name", ["cpu.sh", "gpu.sh"])
def test_templates_are_taken_as_they_are(bench: Bench, name: str):
    bench.slurm.run("sbatch", "--test-only", str(SCRIPTS / "templates" / name), str(bench.directory))


def test_a_reservation_that_has_expired(bench: Bench):
    scontrol = bench.slurm.scontrol
    scontrol(
        "create", "reservation", "ReservationName=maintenance", "StartTime=now", "Duration=60",
        "Nodes=ALL", "Flags=IGNORE_JOBS", "Users=root",
    )  # fmt: skip
    request = bench.request("/bin/true", reservation="maintenance")
    try:
        bench.scheduler.check(request)
    finally:
        scontrol("delete", "ReservationName=maintenance")
    with pytest.raises(SchedulerError, match="maintenance is none, or has expired"):
        bench.scheduler.check(request)
    with pytest.raises(SchedulerError, match="reservation is invalid"):
        bench.scheduler.submit(request)


def test_no_sbatch_on_the_path(bench: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SchedulerAwayError, match="no sbatch on the PATH: is this a login node"):
        bench.scheduler.check(bench.request("/bin/true"))
    with pytest.raises(SchedulerAwayError, match="no squeue on the PATH"):
        bench.info("1")


def test_no_such_slurm_conf(tmp_path: Path):
    with pytest.raises(SchedulerAwayError, match=r"there is no file .*gone\.conf"):
        SlurmScheduler(tmp_path / "gone.conf").jobs(["1"])


# -- silence ----------------------------------------------------------------------------------------------------------


def test_slurmctld_is_down(bench: Bench):
    old = bench.submit("/bin/true")
    bench.ended(old)
    job = bench.submit("/bin/sleep", "300", name="long")
    bench.running(job)
    wait_until(lambda: job in bench.slurm.run("sacct", "-n", "-X", "-o", "jobid", "-s", "R"), "accounting to know it")
    bench.slurm.wait_until_kept(job)
    bench.slurm.stop("slurmctld", signal.SIGKILL)
    quick = SlurmScheduler(bench.slurm.conf, timeout_s=3.0)
    known = quick.jobs([old, job, "4711"])
    assert (known[old].phase, known[old].source) == ("ended", "sacct")
    assert (known[job].phase, known[job].source) == ("running", NOBODY_ANSWERS)
    assert (known["4711"].phase, known["4711"].state) == ("queued", "UNKNOWN")  # an end is not concluded from silence
    with pytest.raises(SchedulerAwayError):
        quick.submit(bench.request("/bin/true"))
    with pytest.raises(SchedulerAwayError):
        quick.named(["long"])
    assert SlurmScheduler(bench.slurm.conf, timeout_s=3.0).accounting
    bench.slurm.stop("slurmdbd")
    with pytest.raises(SchedulerAwayError):
        quick.jobs([old, job])
    bench.slurm.start()
    # a controller that was killed takes its time to answer on a busy machine
    assert bench.until(job, lambda info: info.source == "squeue", seconds=120.0).phase == "running"


def test_slurmctld_is_slow(bench: Bench):
    job = bench.submit("/bin/sleep", "100")
    bench.running(job)
    bench.slurm.freeze("slurmctld")
    try:
        begun = time.monotonic()
        known = SlurmScheduler(bench.slurm.conf, timeout_s=1.5).jobs([job])
        assert time.monotonic() - begun < 10
        assert known[job].phase != "ended"
    finally:
        bench.slurm.thaw("slurmctld")


def test_slurmdbd_is_down(bench: Bench):
    bench.slurm.stop("slurmdbd", signal.SIGKILL)
    bad = bench.submit("/bin/sh", "-c", "exit 3")
    killed = bench.submit("/bin/sh", "-c", "kill -TERM $$", name="killed")
    info = bench.until(bad, lambda info: info.phase == "ended")
    assert (info.state, info.exit_code, info.cause, info.source) == ("FAILED", 3, None, "squeue")
    assert "accounting does not answer" in info.evidence
    assert bench.until(killed, lambda info: info.phase == "ended").cause == KILLED
    assert info.core_seconds is None
    with pytest.raises(SchedulerAwayError):  # whoever finds nothing would submit it once more
        bench.scheduler.named(["nobody"])
    bench.slurm.start_daemon("slurmdbd")
    assert bench.ended(bad).exit_code == 3  # what was kept back comes in


def test_a_job_that_slurmctld_has_forgotten(bench: Bench):
    job = bench.submit("/bin/sh", "-c", "exit 4", name="forgotten")
    bench.ended(job)
    conf = bench.slurm.conf
    text = conf.read_text()
    conf.write_text(text.replace("MinJobAge=300", "MinJobAge=2"))
    try:
        bench.slurm.scontrol("reconfigure")
        # it forgets when it next looks, which is within half a minute
        wait_until(lambda: not bench.slurm.state(job), "the job to be forgotten", 60.0)
        info = bench.info(job)
        assert info is not None
        assert (info.exit_code, info.source) == (4, "sacct")
        assert bench.scheduler.named(["forgotten"])["forgotten"].job_id == job
        bench.slurm.stop("slurmdbd", signal.SIGKILL)
        assert bench.info(job) is None
    finally:
        conf.write_text(text)
        bench.slurm.start()
        bench.slurm.scontrol("reconfigure")


def test_a_cluster_of_before_its_database_had_temporary_files_of_its_own_comes_back(bench: Bench):
    bench.slurm.stop("slurmdbd", signal.SIGKILL)
    bench.slurm.stop("mariadbd")
    shutil.rmtree(bench.slurm.directory / "db" / "tmp")
    bench.slurm.start()
    assert bench.ended(bench.submit("/bin/true")).cause is None


def test_of_several_of_one_name_the_newest(bench: Bench):
    first = bench.submit("/bin/true", name="twice")
    bench.ended(first)
    second = bench.submit("/bin/true", name="twice")
    assert bench.scheduler.named(["twice"])["twice"].job_id == second
    assert bench.scheduler.named([]) == {}
    assert bench.scheduler.jobs([]) == {}
    assert bench.info("4711") is None
