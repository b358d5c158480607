"""What the page of a comparison says in its first line."""

from __future__ import annotations

from workflows.report.comparison_page import headline


def row(label, count, n=6):
    share = count / n
    sun = {"share": share, "standard_error": (share * (1 - share) / n) ** 0.5, "count": count, "n": n}
    return {"label": label, "shares": {"sun": sun}}


def test_one_that_found_most_is_named_beside_the_next():
    assert headline([row("a", 1), row("b", 3)]) == (
        "b found most: 3 of 6 samples are stable, unique and novel (50 ± 20 %). a, the next (17 ± 15 %), is not told "
        "apart from it at this number of samples."
    )
    assert "is told apart from it" in headline([row("a", 90, 100), row("b", 10, 100)])


def test_none_is_said_to_have_found_most_where_several_did():
    assert headline([row("a", 1), row("b", 1), row("c", 0), row("d", 1)]) == (
        "a, b and d found equally many: 1 of 6 samples are stable, unique and novel (17 ± 15 %)."
    )


def test_nothing_found_is_nothing_found():
    assert headline([row("a", 0), row("b", 0)]).startswith("No generator found")
    assert headline([]).startswith("No generator found")
