"""How often schedulers are asked."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from fake_scheduler import Told

from workflows.runtime.scheduler.base import SchedulerAwayError
from workflows.runtime.scheduler.inquiry import Inquiry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workflows.runtime.scheduler.base import JobInfo

FRESH_S = 0.4


class Slow(Told):
    """Takes longer to answer than an answer is used again."""

    def jobs(self, job_ids: Sequence[str]) -> dict[str, JobInfo]:
        time.sleep(1.25 * FRESH_S)
        return super().jobs(job_ids)


def test_an_answer_is_as_fresh_as_when_it_came():
    scheduler = Slow()
    scheduler.say("81", "running", "RUNNING")
    inquiry = Inquiry({"alps": scheduler}, fresh_s=FRESH_S)
    for _ in range(3):
        assert set(inquiry.jobs("alps", ["81", "82"])) == {"81"}
    assert scheduler.asked == [["81", "82"]]
    time.sleep(1.25 * FRESH_S)
    inquiry.jobs("alps", ["81"])
    assert scheduler.asked == [["81", "82"], ["81"]], "that was too long ago"


def test_what_is_added_to_an_answer_makes_the_rest_no_fresher():
    scheduler = Told()
    inquiry = Inquiry({"alps": scheduler}, fresh_s=FRESH_S)
    inquiry.jobs("alps", ["81"])
    time.sleep(0.75 * FRESH_S)
    inquiry.jobs("alps", ["81", "82"])
    time.sleep(0.5 * FRESH_S)
    inquiry.jobs("alps", ["81"])
    assert scheduler.asked == [["81"], ["82"], ["81"]]


def test_a_silent_scheduler_is_not_asked_again_at_once():
    scheduler = Told(is_away=True)
    inquiry = Inquiry({"alps": scheduler}, fresh_s=60.0)
    for _ in range(2):
        with pytest.raises(SchedulerAwayError, match="Unable to contact"):
            inquiry.jobs("alps", ["81"])
    assert scheduler.asked == [["81"]]
