"""What is told while something is counted: the pace of this run, nothing in what is piped."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from workflows.cli import counting
from workflows.cli.counting import Counting, in_words


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ((7, None, None), "7"),
        ((7, 40, None), "7 of 40"),
        ((7, 40, 10.0), "7 of 40, about 1 min left"),
        ((7, 40, 3599.0), "7 of 40, about 1 h 0 min left"),
        ((7, 40, 9000.0), "7 of 40, about 2 h 30 min left"),
        ((40, 40, 0.0), "40 of 40"),
    ],
)
def test_words(told, says):
    assert in_words(*told) == says


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(counting.time, "monotonic", lambda: now[0])
    return now


def test_a_pipe_gets_a_line_now_and_then_with_the_time_left_at_the_pace_of_this_run(clock, capsys):
    with Counting("labelled") as shown:
        shown.show(100, 400)  # found done
        clock[0] += 16
        shown.show(104, 400)
        clock[0] += 1
        shown.show(105, 400)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "labelled: 104 of 400, about 20 min left\n"


def test_a_terminal_gets_a_bar_that_goes_away(clock):
    with Counting("read") as shown:
        shown._screen = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
        shown.show(1, 10)
        clock[0] += 120
        shown.show(3, 10)
        assert shown._bars.tasks[0].fields["told"] == "3 of 10, about 7 min left"
        assert shown._bars.live.is_started
    assert not shown._bars.live.is_started
