"""A real SLURM that keeps no accounts: slurmctld's own memory is all there is, and that is said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from slurm_fixtures import LocalSlurm, require_slurm, running, wait_until

from workflows.runtime.scheduler.slurm import SlurmScheduler

if TYPE_CHECKING:
    from collections.abc import Iterator

    from workflows.runtime.scheduler.base import JobInfo

pytestmark = pytest.mark.xdist_group("slurm")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalSlurm]:
    require_slurm()
    with running(tmp_path_factory.mktemp("plain"), ACCOUNTING="0", MINJOBAGE="2") as slurm:
        yield slurm


@pytest.fixture
def scheduler(plain: LocalSlurm) -> SlurmScheduler:
    return SlurmScheduler(plain.conf)


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


def test_ends_have_the_cause_that_the_controller_remembers(plain: LocalSlurm, scheduler: SlurmScheduler):
    job = plain.sbatch("sleep 100")
    assert wait_until(lambda: scheduler.jobs([job])[job].phase == "running", "it to run", 60.0)
    plain.run("scancel", job)
    info = ended(scheduler, job)
    assert (info.cause, info.source, info.core_seconds) == (105, "squeue", None)
    assert "accounting does not answer" not in info.evidence, "nobody waits for what there is not"
    info = ended(scheduler, plain.sbatch("exit 3"))
    assert (info.cause, info.exit_code) == (None, 3)
    assert ended(scheduler, plain.sbatch("kill -9 $$")).cause == 106


def test_what_the_controller_has_forgotten_is_not_made_up(plain: LocalSlurm, scheduler: SlurmScheduler):
    job = plain.sbatch("true", "--job-name=forgotten")
    ended(scheduler, job)
    wait_until(lambda: not plain.state(job), "it to be forgotten", 90.0)
    assert scheduler.jobs([job]) == {}
    assert scheduler.named(["forgotten"]) == {}
