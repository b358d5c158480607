import math

import pytest

from workflows.report.collect import ReportError, collect
from workflows.summary import summarise


def test_closed_rounds_come_from_their_summary_and_open_ones_are_counted(database):
    database["rounds"].update_one({"round": 1}, {"$set": {"summary.sampled": 999}})
    data = collect(database, "light")
    first, second = data.rounds
    assert (first.state, first.summary.sampled) == ("closed", 999)  # as stored, though only 12 candidates exist
    assert second.state == "open"
    assert second.summary == summarise(database, data.spec, 2)
    assert second.summary.sampled == 12
    assert second.summary.control is not None
    assert second.summary.control["sampled"] == 4


def test_controls_are_no_candidates_of_the_sieve_table(database):
    before = collect(database, "light").refused
    database["candidates"].update_many(
        {"control": True}, {"$set": {"screen.valid": False, "screen.reasons": ["MgO is not neutral (strict rule)"]}}
    )
    after = collect(database, "light").refused
    assert after == before
    assert set(before) == {"atoms too close", "budget spent on better or less similar ones"}
    assert before["atoms too close"] == 4  # of 24; the control of index 15 is not among them


def test_verdicts_come_best_first(database):
    data = collect(database, "light")
    kinds = [
        "hit" if v.hit else "stable" if v.stable else "verified" if v.verified else "failed" for v in data.verdicts
    ]
    assert kinds == ["hit"] * 3 + ["stable"] + ["verified"] * 3 + ["failed"]
    hits = [v.energy_above_hull_ev_per_atom for v in data.of("hits")]
    assert hits == sorted(hits)


def test_origins_and_launches_belong_to_judged_candidates_only(database):
    data = collect(database, "light")
    judged = {v.candidate for v in data.verdicts}
    assert set(data.origins) == judged
    assert set(data.attempts) == judged
    assert data.origins["light-r01-0001"]["seed"] == 1001


def test_failures_group_by_cause_and_sun_counts_what_is_stable_unique_and_novel(database):
    data = collect(database, "light")
    assert {key: len(found) for key, found in data.failures.items()} == {
        (501, "ionic_steps_exhausted"): 1,
        (604, "phonon_failed"): 1,
    }
    assert data.sun == 3  # four are stable, one of them (index 2) is not novel
    database["candidates"].update_one({"candidate": "light-r01-0000"}, {"$set": {"select.novel": False}})
    assert collect(database, "light").sun == 2


def test_an_unknown_campaign_is_refused_by_name(database):
    with pytest.raises(ReportError, match=r"no campaign 'lite'.*it has light"):
        collect(database, "lite")


def test_fields_of_a_newer_version_are_passed_over_but_nonsense_is_refused(database):
    database["verdicts"].update_one({"candidate": "light-r01-0000"}, {"$set": {"colour": "green"}})
    assert len(collect(database, "light").verdicts) == 8
    database["verdicts"].update_one({"candidate": "light-r01-0000"}, {"$set": {"verified": "perhaps"}})
    with pytest.raises(ReportError, match="light-r01-0000"):
        collect(database, "light")


def test_a_verdict_that_is_not_a_number_sorts_last_of_its_kind(database):
    database["verdicts"].update_one(
        {"candidate": "light-r01-0000"}, {"$set": {"energy_above_hull_ev_per_atom": math.nan}}
    )
    assert [v.candidate for v in collect(database, "light").of("hits")][-1] == "light-r01-0000"
