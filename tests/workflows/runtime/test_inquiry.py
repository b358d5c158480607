"""How often schedulers are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fake_scheduler import Told

from workflows.runtime.scheduler import inquiry as module
from workflows.runtime.scheduler.base import SchedulerAwayError
from workflows.runtime.scheduler.inquiry import Inquiry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflows.runtime.scheduler.base import JobInfo

FRESH_S = 0.4


class Clock:
    """Goes on only when it is told to, so that a busy machine changes nothing."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(module, "time", made)
    return made


class Slow(Told):
    """Takes longer to answer than an answer is used again."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def jobs(self, job_ids: Sequence[str]) -> dict[str, JobInfo]:
        self.clock.sleep(1.25 * FRESH_S)
        return super().jobs(job_ids)


def test_an_answer_is_as_fresh_as_when_it_came(clock: Clock):
    scheduler = Slow(clock)
    scheduler.say("81", "running", "RUNNING")
    inquiry = Inquiry({"alps": scheduler}, fresh_s=FRESH_S)
    for _ in range(3):
        assert set(inquiry.jobs("alps", ["81", "82"])) == {"81"}
    assert scheduler.asked == [["81", "82"]]
    clock.sleep(1.25 * FRESH_S)
    inquiry.jobs("alps", ["81"])
    assert scheduler.asked == [["81", "82"], ["81"]], "that was too long ago"


def test_what_is_added_to_an_answer_makes_the_rest_no_fresher(clock: Clock):
    scheduler = Told()
    inquiry = Inquiry({"alps": scheduler}, fresh_s=FRESH_S)
    inquiry.jobs("alps", ["81"])
    clock.sleep(0.75 * FRESH_S)
    inquiry.jobs("alps", ["81", "82"])
    clock.sleep(0.5 * FRESH_S)
    inquiry.jobs("alps", ["81"])
    assert scheduler.asked == [["81"], ["82"], ["81"]]


def test_a_silent_scheduler_is_not_asked_again_at_once():
    scheduler = Told(is_away=True)
    inquiry = Inquiry({"alps": scheduler}, fresh_s=60.0)
    for _ in range(2):
        with pytest.raises(SchedulerAwayError, match="Unable to contact"):
            inquiry.jobs("alps", ["81"])
    assert scheduler.asked == [["81"]]
