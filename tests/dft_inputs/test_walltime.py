from __future__ import annotations

import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dft_inputs.walltime import Remaining, parse_duration, seconds_left

if TYPE_CHECKING:
    from pathlib import Path


def test_no_limit_known():
    assert seconds_left({}) is None


def test_deadline_of_our_own():
    assert seconds_left({"NUCLEATE_DEADLINE": str(time.time() + 60.0)}) == pytest.approx(60.0, abs=1.0)
    assert seconds_left({"NUCLEATE_DEADLINE": str(time.time() - 60.0)}) == pytest.approx(-60.0, abs=1.0)


def test_what_is_left_runs_down_between_two_questions(monkeypatch):
    monkeypatch.setenv("NUCLEATE_DEADLINE", str(time.time() + 60.0))
    patient, eager = Remaining(every_s=1000.0), Remaining(every_s=0.0)
    begun = time.monotonic()
    first = patient.seconds()
    assert first == pytest.approx(60.0, abs=1.0)
    time.sleep(0.05)
    left = patient.seconds()
    assert first - (time.monotonic() - begun) <= left <= first - 0.05 + 1e-6

    monkeypatch.setenv("NUCLEATE_DEADLINE", str(time.time() + 600.0))
    assert patient.seconds() < 60.0
    assert eager.seconds() > 590.0


def test_a_deadline_that_is_none_is_not_passed_over():
    with pytest.raises(ValueError, match="NUCLEATE_DEADLINE='noon'"):
        seconds_left({"NUCLEATE_DEADLINE": "noon"})


def test_slurm_says_when_it_ends():
    environ = {"SLURM_JOB_ID": "7", "SLURM_JOB_END_TIME": str(int(time.time()) + 3600)}
    assert seconds_left(environ) == pytest.approx(3600, abs=2.0)


def test_the_earliest_end_counts():
    now = time.time()
    environ = {
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_END_TIME": str(int(now) + 3600),
        "NUCLEATE_DEADLINE": str(now + 60.0),
    }
    assert seconds_left(environ) == pytest.approx(60.0, abs=1.0)


def _command(directory: Path, name: str, prints: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{prints}\nEND\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_an_older_slurm_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _command(tmp_path, "squeue", "1-02:03:04")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert seconds_left({"SLURM_JOB_ID": "7"}) == 86400 + 2 * 3600 + 3 * 60 + 4


def test_pbs_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _command(tmp_path, "qstat", "Resource_List.walltime = 02:00:00\n    resources_used.walltime = 00:30:00")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert seconds_left({"PBS_JOBID": "7"}) == 5400


def test_a_scheduler_that_does_not_answer_is_no_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert seconds_left({"SLURM_JOB_ID": "7", "PBS_JOBID": "7"}) is None


@pytest.mark.parametrize("text", ["UNLIMITED", "INVALID", "NOT_SET", "", "1:2:3:4", "-1"])
def test_what_is_no_duration(text: str):
    assert parse_duration(text) is None


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("1:30", 90), ("2:00:00", 7200), ("1-02", 93600)])
def test_durations_as_schedulers_print_them(text: str, seconds: float):
    assert parse_duration(text) == seconds


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_durations_round_trip(days: int, hours: int, minutes: int, seconds: int):
    text = f"{days}-{hours:02d}:{minutes:02d}:{seconds:02d}"
    assert parse_duration(text) == ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def test_it_is_read_from_the_process_environment_at_the_moment_of_asking():
    code = "from dft_inputs.walltime import seconds_left; print(seconds_left())"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"NUCLEATE_DEADLINE": str(time.time() + 1000.0), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert 900 < float(done.stdout) < 1000
