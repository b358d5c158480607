"""What a terminal shows: nothing wrapped or cut at 80 columns, the newest in sight however many rounds there are."""

import io
import re
from dataclasses import replace
from datetime import timedelta

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress
from rich.progress import TextColumn

from workflows.cli.progress import _Bars
from workflows.cli.tables import status_view
from workflows.monitor.standing import PilotStatus
from workflows.monitor.status import Progress, RoundStatus, Status, Stuck
from workflows.records import RoundSummary, now

FUNNEL = {"sampled": 64, "valid": 60, "unique": 40, "novel": 30, "selected": 10, "verified": 9}


def closed(number):
    summary = RoundSummary(number=number, **FUNNEL, stable=4, hits=2, failures=1, control={"sampled": 16, "valid": 9})
    return RoundStatus(number, "closed", summary, opened=now() - timedelta(hours=1), closed=now())


def opened(number):
    progress = {
        "sample": Progress(70, 80, control=16),
        "screen": Progress(0, 80, control=16),
        "prerelax": Progress(0, None),
        "verify": Progress(0, None),
    }
    summary = RoundSummary(number=number, sampled=64)
    return RoundStatus(number, "open", summary, stages={"sample": {"RUNNING": 1}}, progress=progress, opened=now())


def status(*rounds, wanted=20):
    names = (*FUNNEL, "stable", "hits", "failures")
    return Status(
        campaign="oxides",
        state="running",
        why="",
        engine="mlip",
        protocol="fast",
        rounds_wanted=wanted,
        rounds=list(rounds),
        totals={name: sum(getattr(r.summary, name) for r in rounds) for name in names},
        running=[],
        stuck=[],
        verdicts_per_hour=None,
        candidates_per_hour=None,
        expected_end=None,
    )


@pytest.fixture
def terminal():
    return Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)


def shown(terminal):
    return terminal.file.getvalue()


def test_the_funnel_fits_into_80_columns(terminal):
    terminal.print(status_view(status(*(closed(number) for number in range(1, 13)), opened(13))))
    assert "…" not in shown(terminal)
    assert max(map(len, shown(terminal).splitlines())) <= 80
    assert "70 of 80 (16 control)" in shown(terminal)
    row = next(line for line in shown(terminal).splitlines() if line.startswith("12 "))
    assert row.split() == ["12", "64", "60", "40", "30", "10", "9", "4", "2", "1"]


def test_earlier_rounds_make_room_for_the_last(terminal):
    terminal.print(status_view(status(*(closed(number) for number in range(1, 13)), opened(13)), 3))
    first = [line.split()[0] for line in shown(terminal).splitlines() if line[:1].isdigit()]
    assert first == ["1-10", "11", "12", "13"]
    row = next(line for line in shown(terminal).splitlines() if line.startswith("all "))
    assert row.split()[1] == str(13 * 64)  # the sum is that of all rounds


def pilots(*kinds):
    return [PilotStatus("alps", f"kind-{n}", *counts, cores=8, tasks=5) for n, counts in enumerate(kinds)]


@pytest.mark.parametrize(
    ("kinds", "says"),
    [
        ((), "waiting: no worker is on it"),
        (((1, 2), (1, 0)), "between tasks (alps: 2 running, 2 queued)"),
        (((0, 2),), "waiting for batch jobs (alps: 2 queued)"),
    ],
)
def test_batch_jobs_without_a_task_at_the_moment_are_workers_too(terminal, kinds, says):
    terminal.print(status_view(replace(status(opened(1)), state="idle", pilots=pilots(*kinds))))
    assert says in shown(terminal).splitlines()[0]


def test_why_jobs_wait_is_a_column_where_it_is_known(terminal):
    found = replace(status(opened(1)), pilots=pilots((1, 0)))
    terminal.print(status_view(found))
    assert "tasks done" in shown(terminal)
    assert "why they wait" not in shown(terminal)
    terminal.print(status_view(replace(found, pilots=[replace(found.pilots[0], waits="Priority")])))
    assert "why they wait" in shown(terminal)
    assert "Priority" in shown(terminal)


@pytest.mark.parametrize(
    ("core_hours", "says"),
    [
        ({"alps": 0.0}, "Spent: 0 core-h of 20, 20 left (alps 0)"),
        ({"alps": 0.0004, "outside": 1.26}, "Spent: 1.26 core-h of 20, 19 left (alps <0.01, outside 1.26)"),
    ],
)
def test_little_is_more_than_nothing(terminal, core_hours, says):
    terminal.print(status_view(replace(status(opened(1)), core_hours=core_hours, budget_hours=20.0)))
    assert says in shown(terminal)


def test_what_is_stuck_is_told_whole_with_commands_that_work_from_here(terminal):
    path = "/scratch/mat-42/" + 20 * "x" + "/launches/oxides/r01/oxides-r01-0001"
    stuck = Stuck("round 1", f"{path} is full; nucleate failures tells more", "nucleate submit --cluster alps", True)
    terminal.print(status_view(replace(status(opened(1)), stuck=[stuck]), there=" -C oxides"))
    lines = shown(terminal).splitlines()
    assert max(map(len, lines)) <= 80
    assert "nucleatesubmit-Coxides--clusteralps" in re.sub(r"\s+", "", cells(lines, 2))
    assert "nucleatefailures-Coxidestellsmore" in re.sub(r"\s+", "", cells(lines, 1))
    assert path in re.sub(r"\s+", "", cells(lines, 1))


def cells(lines, column):
    """Put together what one column of the last table says."""
    rule = next(n for n, line in reversed(list(enumerate(lines))) if line.strip().startswith("─"))
    starts = [lines[rule - 1].index(name) for name in ("what ", "why ", "what to do")]
    ends = [*starts[1:], None]
    return "".join(line[starts[column] : ends[column]] for line in lines[rule + 1 :])


def test_a_closed_round_becomes_a_line_and_only_open_ones_have_bars(terminal):
    columns = TextColumn("{task.description}"), TextColumn("{task.fields[told]}")
    with RichProgress(*columns, console=terminal, auto_refresh=False) as progress:
        bars = _Bars(progress)
        bars.show(status(opened(1)))
        told = [task.fields["told"] for task in progress.tasks]
        assert told == ["70/80 (16 control)", "0/80 (16 control)", "0/?", "0/?"]
        for _ in range(2):
            bars.show(status(closed(1), opened(2)))
        assert all(task.description.startswith("round 2 of 20") for task in progress.tasks)
        assert len(progress.tasks) == 4
    line = "round 1 of 20: 64 sampled, 30 novel, 9 verified, 4 stable, 2 hits, 1 failed"
    assert shown(terminal).count(line) == 1
