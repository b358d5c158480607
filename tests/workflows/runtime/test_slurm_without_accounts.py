"""A real SLURM that keeps no accounts: slurmctld's own memory is all there is, and that is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from slurm_fixtures import wait_until

from workflows.runtime.scheduler.slurm import SlurmScheduler

if TYPE_CHECKING:
    from slurm_fixtures import LocalSlurm

    from workflows.runtime.scheduler.base import JobInfo

pytestmark = pytest.mark.xdist_group("slurm")


@pytest.fixture
def scheduler(plain_slurm: LocalSlurm) -> SlurmScheduler:
    return SlurmScheduler(plain_slurm.conf)


def ended(scheduler: SlurmScheduler, job: str) -> JobInfo:
    def look() -> JobInfo | None:
        info = scheduler.jobs([job]).get(job)
        return info if info is not None and info.phase == "ended" else None

    found = wait_until(look, f"{job} to end", 60.0)
    assert found is not None
    return found


def test_that_there_are_none_is_known(scheduler: SlurmScheduler):
    assert not scheduler.accounting
    assert scheduler.named(["never seen"]) == {}


def test_ends_have_the_cause_that_the_controller_remembers(plain_slurm: LocalSlurm, scheduler: SlurmScheduler):
    job = plain_slurm.sbatch("sleep 100")
    assert wait_until(lambda: scheduler.jobs([job])[job].phase == "running", "it to run", 60.0)
    plain_slurm.run("scancel", job)
    info = ended(scheduler, job)
    assert (info.cause, info.source, info.core_seconds) == (105, "squeue", None)
    assert "accounting does not answer" not in info.evidence, "nobody waits for what there is not"
    info = ended(scheduler, plain_slurm.sbatch("exit 3"))
    assert (info.cause, info.exit_code) == (None, 3)
    assert ended(scheduler, plain_slurm.sbatch("kill -9 $$")).cause == 106


def test_what_the_controller_has_forgotten_is_not_made_up(plain_slurm: LocalSlurm, scheduler: SlurmScheduler):
    job = plain_slurm.sbatch("true", "--job-name=forgotten")
    ended(scheduler, job)
    wait_until(lambda: not plain_slurm.state(job), "it to be forgotten", 90.0)
    assert scheduler.jobs([job]) == {}
    assert scheduler.named(["forgotten"]) == {}
