"""``nucleate rerun``: what is typed is judged first, and what is planned fits a terminal."""

from __future__ import annotations

import errno
import json

import jobflow
import pytest
from rich.console import Console

from workflows import generator_states
from workflows.cli.rerun_tables import hours, plan_view
from workflows.monitor.rerun.plan import Item, Plan, Skipped
from workflows.runtime.identity import ProcessName
from workflows.runtime.launchpad import CampaignLaunchPad
from workflows.runtime.worker_process import JobRunner


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--set", "memory=8"), "did you mean memory_gb"),
        (("--set", "ENCUT=600"), "can't be changed"),
        (("--cause", "50"), "is no cause"),
        (("--stage", "relaxx"), "did you mean relax"),
        ((), "there is no campaign.yaml here"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_opened(nucleate, arguments, says):
    ran = nucleate("rerun", *arguments)
    assert ran.code == 2
    assert says in " ".join(ran.err.split())


def test_where_one_setting_is_meant_the_others_are_not_listed(nucleate):
    assert "NBANDS" not in nucleate("rerun", "--set", "memory=8").err
    assert "NBANDS" in nucleate("rerun", "--set", "qqq=8").err


@pytest.mark.parametrize("verb", ["rerun", "failures"])
@pytest.mark.parametrize(("named", "says"), [(("--round", "7"), "has no round 7"), (("--candidate", "x"), "has no x")])
def test_what_is_not_there_is_refused_not_well(nucleate, launched, verb, named, says):
    ran = nucleate(verb, "-C", launched, *named)
    assert (ran.code, ran.out, says in ran.err) == (2, "", True)


def item(fw_id, words):
    return Item(
        fw_id=fw_id,
        job=("uuid", 1),
        campaign="oxides",
        round=1,
        candidate=f"oxides-r01-{fw_id:04d}",
        stage="relax",
        blamed="relax",
        engine="mlip",
        name="relax",
        code=501,
        evidence="100 steps",
        words=words,
        overrides={},
        resources={},
        start={},
        after=(),
        replaced=(),
        after_launch=1,
        core_hours=0.5,
        tries=0,
        retries=3,
    )


def test_a_plan_fits_eighty_columns_and_says_what_why_and_how_much():
    words = "200 steps instead of 100, from the last geometry"
    left = Skipped(9, 1, "oxides-r01-0009", "relax", 601, "a re-run can't help (--over-budget runs it all the same)")
    console = Console(width=80, record=True, highlight=False, file=None, force_terminal=False)
    with console.capture() as captured:
        console.print(plan_view(Plan("oxides", [item(1, words), item(2, words)], [left])))
    lines = captured.get().splitlines()
    assert max(map(len, lines)) <= 80
    told = " ".join(captured.get().split())
    assert "501 relax of 2 200 steps instead of" in told
    assert "1.00" in told
    assert "601 structure_exploded" in told
    assert hours(0) == "-"


def disk_full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def failed(launched, store, tmp_path, monkeypatch):
    """A launched campaign whose sampling met a full disk; its directory, and a worker."""
    monkeypatch.setattr(jobflow.SETTINGS, "JOB_STORE", store.jobstore)
    launchpad = CampaignLaunchPad.signed(store.launchpad, str(ProcessName.own()))
    worker = JobRunner(launchpad, tmp_path / "launches", campaign="oxides")
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(generator_states, "load_state", disk_full)
        worker.run_all()
    return launched, worker


def test_a_rerun_is_shown_done_taken_back_and_done_again(nucleate, store, failed):
    directory, worker = failed

    def states():
        found = store.database.fireworks.find({}, {"_id": 0, "spec.nucleate.stage": 1, "state": 1})
        return {fw["spec"]["nucleate"]["stage"]: fw["state"] for fw in found}

    def rerun(*arguments):
        return nucleate("rerun", "-C", directory, *arguments)

    before = states()
    assert before["sample"] == "FIZZLED"
    ran = rerun()
    assert (ran.code, "202 disk_full" in ran.out) == (0, True)
    assert "Nothing is changed yet: --yes does it." in ran.out
    assert states() == before

    ran = rerun("--yes", "--set", "memory_gb=4")
    assert ran.code == 0, ran.err
    assert "1 job runs again" in ran.out
    assert "nucleate rerun --undo" in ran.out
    assert states() == before | {"sample": "READY"}
    assert "it is to run again already" in " ".join(rerun().out.split())
    assert nucleate("failures", "-C", directory, "--json").code == 0

    assert (rerun("--undo").out, states()) == ("taken back: 1 re-run\n", before)
    ran = rerun("--undo")
    assert (ran.code, ran.out) == (0, "Nothing was taken back.\n")

    told = json.loads(rerun("--yes", "--json").out)
    assert [(item["stage"], item["code"]) for item in told["items"]] == [("sample", 202)]
    assert [outcome["done"] for outcome in told["done"]] == [True]
    worker.run_all(1)
    assert states()["sample"] == "COMPLETED"
    assert rerun("--undo").out.endswith("Nothing was taken back.\n")  # after what the worker said: it has run
    assert states()["sample"] == "COMPLETED"
    assert nucleate("failures", "-C", directory).out == "Nothing failed.\n"
