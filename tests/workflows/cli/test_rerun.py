"""``nucleate rerun``: what is typed is judged first, and what is planned fits a terminal."""

from __future__ import annotations

import pytest
from rich.console import Console

from workflows.cli.rerun_tables import hours, plan_view
from workflows.monitor.rerun.plan import Item, Plan, Skipped


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
