"""What SLURM prints and we read, and the words that we give it: what needs no cluster to be tried."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflows.runtime.scheduler import states
from workflows.runtime.scheduler.base import JobRequest
from workflows.runtime.scheduler.slurm import SlurmScheduler
from workflows.runtime.scheduler.slurm_script import environment, options, script
from workflows.runtime.scheduler.slurm_tables import UNIT, parse_accounts, parse_queue, told_by_accounts, told_by_queue

REQUEST = JobRequest("name", ("/bin/true",), Path("/work dir"), Path("/logs/out.txt"))


@pytest.mark.parametrize(
    ("state", "phase"),
    [
        ("PENDING", "queued"),
        ("REQUEUE_HOLD", "queued"),
        ("RUNNING", "running"),
        ("SUSPENDED", "running"),
        ("COMPLETING", "running"),
        ("A_WORD_OF_SLURM_99", "running"),  # what is not known has not ended
        ("COMPLETED", "ended"),
        ("PREEMPTED", "ended"),
    ],
)
def test_phases(state: str, phase: str):
    assert states.phase_of(state) == phase


@pytest.mark.parametrize(
    ("state", "exit_code", "number", "memory", "cause"),
    [
        ("COMPLETED", 0, None, False, None),
        ("RUNNING", None, None, True, None),
        ("FAILED", 1, None, False, None),
        ("FAILED", 0, 9, False, 106),
        ("FAILED", 0, 125, False, 102),
        ("FAILED", 1, None, True, 102),
        ("FAILED", 0, 53, False, None),
        ("COMPLETED", 0, None, True, None),
        ("TIMEOUT", 0, 15, False, 101),
        ("DEADLINE", 0, None, False, 101),
        ("OUT_OF_MEMORY", 0, 125, True, 102),
        ("NODE_FAIL", 1, None, False, 103),
        ("BOOT_FAIL", 1, None, False, 103),
        ("PREEMPTED", 0, 15, False, 104),
        ("CANCELLED", 0, 15, False, 105),
    ],
)
def test_causes(state: str, exit_code: int | None, number: int | None, memory: bool, cause: int | None):
    assert states.cause_of(state, exit_code, number, memory=memory) == cause


def test_who_cancelled():
    assert states.split_state("CANCELLED by 4294967294") == ("CANCELLED", 4294967294)
    assert states.split_state("CANCELLED+") == ("CANCELLED", None)
    assert states.user_name(4294967294) == "uid (4294967294)"
    assert "yourself" in states.user_name(os.getuid())


@given(st.integers(0, 255), st.integers(0, 127))
def test_exit_codes_round_trip(code: int, number: int):
    assert states.parse_exit(f"{code}:{number}") == (code, number or None)
    assert states.parse_wait_status(str((code << 8) | number)) == (code, number or None)
    assert states.parse_wait_status(str((code << 8) | number | 0x80)) == (code, number or None)  # dumped core


@given(st.text(max_size=30))
def test_what_is_no_exit_code_or_time_is_none_and_no_error(text: str):
    exit_code, number = states.parse_exit(text)
    assert exit_code is None or text.strip().partition(":")[0].isdecimal()
    assert number is None or exit_code is not None
    at = states.parse_time(text)
    assert at is None or at.tzinfo is UTC
    assert isinstance(states.phase_of(states.split_state(text)[0]), str)


@given(st.integers(1, 10**10))
def test_times_as_epochs_and_as_words(seconds: int):
    at = datetime.fromtimestamp(seconds, UTC)
    assert states.parse_time(str(seconds)) == at
    assert states.parse_time(at.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0")) == at


@pytest.mark.parametrize("text", ["Unknown", "None", "N/A", "", "0", "now"])
def test_what_is_no_time(text: str):
    assert states.parse_time(text) is None


# -- tables -----------------------------------------------------------------------------------------------------------


def _queue(job: str, state: str, *, restarts: int = 0, name: str = "n", elapsed: str = "1:00") -> str:
    row = (job, state, str(restarts), "4", "c1", "1700000000", "1700000060", elapsed, "None", "0", "1699999999", name)
    return UNIT.join(row) + UNIT


def _account(job: str, state: str, submit: int, *, name: str = "n", end: str = "1700000100", code: str = "0:0") -> str:
    return UNIT.join((job, state, code, "c1", "4", "60", str(submit), str(submit + 1), end, "None", name))


def test_names_may_hold_whatever_is_no_control_character():
    name = "a|b, c 'd' é \t".strip()
    assert parse_queue(_queue("7", "RUNNING", name=name))["7"].info.name == name


@given(st.text(max_size=200))
def test_what_is_no_table_is_no_job(text: str):
    assert parse_queue(text) == {} or text.count(UNIT) > 10
    assert parse_accounts(text) == {} or text.count(UNIT) > 9


def test_runs_of_a_job_are_told_apart_and_added_up():
    text = "\n".join(
        [
            _account("7", "NODE_FAIL", 100),
            _account("7.batch", "CANCELLED", 100, name="batch"),
            _account("8", "COMPLETED", 100),
            _account("7", "FAILED", 300, code="1:0"),
            _account("7.batch", "OUT_OF_MEMORY", 300, name="batch", code="0:125"),
        ]
    )
    info = told_by_accounts(parse_accounts(text)["7"])
    assert (info.restarts, info.cause, info.core_seconds) == (1, 102, 480.0)
    assert [run.cause for run in info.earlier] == [103]
    assert "a step ran out of memory" in info.evidence


def test_an_id_that_was_given_out_again_is_its_newest_job():
    text = "\n".join([_account("7", "FAILED", 100, name="of last year"), _account("7", "COMPLETED", 900)])
    info = told_by_accounts(parse_accounts(text)["7"])
    assert (info.name, info.restarts, info.core_seconds) == ("n", 0, 240.0)


def test_half_written_accounts_do_not_tell_of_an_end():
    row = parse_queue(_queue("7", "FAILED"))["7"]
    half = parse_accounts(_account("7", "FAILED", 100, name="", end="Unknown"))["7"]
    assert told_by_queue(row, half, away="").source == "squeue"
    whole = parse_accounts(_account("7", "FAILED", 100))["7"]
    assert told_by_queue(row, whole, away="").source == "sacct"


def test_a_run_that_accounting_has_no_name_of_yet_is_one_of_the_same_job():
    text = "\n".join([_account("7", "NODE_FAIL", 100), _account("7", "CANCELLED", 300, name="allocation")])
    runs = parse_accounts(text)["7"]
    assert [run.closed for run in runs] == [True, False]
    assert told_by_accounts(runs).restarts == 1


def test_accounts_that_are_behind_do_not_end_a_job_that_runs_again():
    row = parse_queue(_queue("7", "RUNNING", restarts=1, elapsed="0:30"))["7"]
    info = told_by_queue(row, parse_accounts(_account("7", "PREEMPTED", 100))["7"], away="")
    assert (info.phase, info.restarts, info.cause) == ("running", 1, None)
    assert [run.cause for run in info.earlier] == [104]
    assert info.core_seconds == 240 + 4 * 30


def test_accounting_that_is_behind_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By whom a job was cancelled is in its accounts alone, and they are written a moment later."""
    says = {
        "squeue": f"printf '%s' '{_queue('7', 'CANCELLED')}'",
        "sacct": f"""echo again >> {tmp_path}/asked
        case $(wc -l < {tmp_path}/asked) in
            1) ;;
            2) printf '%s' '{_account("7", "RUNNING", 100, end="Unknown")}' ;;
            *) printf '%s' '{_account("7", "CANCELLED by 0", 100)}' ;;
        esac""",
    }
    for program, lines in says.items():
        (tmp_path / program).write_text(f"#!/bin/sh\n{lines}\n")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    info = SlurmScheduler().jobs(["7"])["7"]
    assert (info.cause, info.source) == (105, "sacct")
    assert "CANCELLED by root" in info.evidence


# -- our words --------------------------------------------------------------------------------------------------------


def test_options_of_a_job_with_everything():
    request = JobRequest(
        "name", ("true",), Path("/d"), Path("/logs/%x.out"), cores=5, nodes=2, gpus=3, memory_gb=1.5, minutes=90,
        partition="gpu", account="a", qos="q", reservation="r", constraint="c", exclude=("n1", "n2"), warn_s=60,
        requeue=True, extra=("--licenses=vasp",),
    )  # fmt: skip
    assert options(request) == [
        "--job-name=name", "--chdir=/d", "--output=/logs/%%x.out", "--open-mode=append", "--nodes=2", "--ntasks=5",
        "--ntasks-per-node=3", "--mem=1536M", "--time=90", "--requeue", "--export=ALL", "--propagate=NONE",
        "--signal=B:TERM@60", "--gres=gpu:2", "--partition=gpu", "--account=a", "--qos=q", "--reservation=r",
        "--constraint=c", "--exclude=n1,n2", "--licenses=vasp",
    ]  # fmt: skip


def test_what_a_terminal_has_is_not_what_a_job_begins_with(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSH_AUTH_SOCK", "/tmp/agent")  # noqa: S108  # a value, not a file
    monkeypatch.setenv("NUCLEATE_STORE", "elsewhere")
    given = environment(REQUEST)
    assert "HOME" in given
    assert not {"SSH_AUTH_SOCK", "NUCLEATE_STORE"} & given.keys()


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20), min_size=1))
def test_a_command_stays_the_same_words(words: list[str]):
    import shlex
    from dataclasses import replace

    text = script(replace(REQUEST, command=tuple(words)))
    assert shlex.split(text.partition("\nexec ")[2]) == words
