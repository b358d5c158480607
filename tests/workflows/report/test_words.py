import io
from dataclasses import replace

import pytest
from rich.console import Console

from workflows.report.answer import answer, ladder
from workflows.report.protocols import sun_in_words
from workflows.report.terminal import summary_table
from workflows.report.words import limits, mev, number, pretty_formula, question, spacegroup_parts, thz
from workflows.spec import CampaignSpec, Range


@pytest.mark.parametrize(
    ("raw", "pretty"),
    [("Mg2 Al4 O8", "MgAl₂O₄"), ("O2", "O₂"), ("Mg12Al10", "Mg₆Al₅"), ("MgO", "MgO"), ("no formula!", "no formula!")],
)
def test_formulas(raw, pretty):
    assert pretty_formula(raw) == pretty


def test_space_groups():
    assert spacegroup_parts("P6_3/mmc") == [("P6₃/mmc", False)]
    assert spacegroup_parts("Fd-3m") == [("Fd", False), ("3", True), ("m", False)]
    assert spacegroup_parts(None) == [("–", False)]


def test_numbers():
    assert [number(x) for x in (193.75, 0.012345, 1234.5, -3.4159, 0.0, float("nan"), None)] == [
        "194",
        "0.0123",
        "1234",
        "−3.42",
        "0",
        "–",
        "–",
    ]
    assert [mev(x) for x in (0.0121, -0.0004, -0.012, None)] == ["12", "0", "−12", "–"]
    assert [thz(x) for x in (-0.001, -0.3, None)] == ["0.00", "−0.30", "–"]
    assert limits(Range(max=0.1, unit="eV/atom"), 1000, "meV/atom") == "≤ 100 meV/atom"
    assert limits(Range(min=1, max=3, unit="eV")) == "1–3 eV"


def test_the_question_names_chemistry_size_and_targets(data):
    assert question(data.spec) == (
        "Which crystals of Al, Mg, N, O, Si with at most 14 atoms in the cell are within 0.1 eV/atom of the hull, "
        "dynamically stable and with a bulk modulus ≥ 150 GPa?"
    )
    plain = CampaignSpec.model_validate({"name": "x", "chemistry": {"systems": ["Mg-Al-O"]}})
    assert (
        question(plain)
        == "Which crystals in Al–Mg–O with at most 8 atoms in the cell are within 0.1 eV/atom of the hull?"
    )


def test_the_ladder_meets_targets_one_after_another_and_ends_at_the_hits(data):
    steps = ladder(data)
    assert [s.passed for s in steps] == [7, 6, 4, 3]
    assert steps[-1].passed == len(data.of("hits"))
    assert [s.measured for s in steps[1:]] == [7, 5, 4]


def test_the_answer_is_honest_about_what_was_not_measured(make_data):
    unmeasured = ("AlN", 0.01, 0.2, "stable", None, (603, "equation_of_state_failed", "no minimum"))
    told = answer(make_data(judged=(unmeasured,)))
    assert told.headline == "No hit yet."
    assert "1 candidate came as far as “bulk modulus ≥ 150 GPa”, for which none has a trustworthy value" in told.detail
    assert "Round 2 is still open" in told.detail
    far = answer(make_data(judged=(("AlN", 0.3, None, "not_measured", None, None),)))
    assert "“within the hull cut (≤ 100 meV/atom)” and none met it (lowest 300 meV/atom, AlN)" in far.detail
    wobbly = answer(make_data(judged=(("AlN", 0.02, -2.0, "unstable", 200.0, None),)))
    assert "“phonons stable (≥ −0.3 THz)” and none met it (nearest −2.00 THz, AlN)" in wobbly.detail


def test_sun_is_never_said_without_what_it_rests_on(data):
    told = sun_in_words(data)
    for needed in ("hull cut", "reference set mlip:7net-0:fast:0a1b2c3d", "lower bound", "by prototype", "by skeleton"):
        assert needed in told.replace("Hull", "hull")


def test_the_terminal_shows_rounds_best_and_answer(data):
    console = Console(file=io.StringIO(), width=140)
    console.print(summary_table(data))
    text = console.file.getvalue()
    for expected in ("2 open", "MgAl₂O₄", "★ hit", "≤ 100 meV/atom", "≥ 150 GPa", "3 hits."):
        assert expected in text
    narrow = Console(file=io.StringIO(), width=60)
    narrow.print(summary_table(data, best=2))
    assert "light-r01-0003" not in narrow.file.getvalue()


def test_a_control_stands_under_the_columns_it_has_and_is_never_selected(data):
    drawn = {"sampled": 4, "valid": 3, "unique": 2, "novel": 2, "promising": 1}
    first = replace(data.rounds[0], summary=data.rounds[0].summary.model_copy(update={"control": drawn}))
    console = Console(file=io.StringIO(), width=140)
    console.print(summary_table(replace(data, rounds=(first,))))
    (control,) = [line.split() for line in console.file.getvalue().splitlines() if line.startswith("control")]
    assert control == ["control", "4", "3", "2", "2"]
