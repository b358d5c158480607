from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from generators.evaluation.statistics import design_effect, mean, share, wilson

COUNTS = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS)
def test_wilson_is_that_of_scipy(counts):
    k, n = counts
    theirs = binomtest(k, n).proportion_ci(confidence_level=0.95, method="wilson")
    assert wilson(k, n) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_wilson_against_its_quadratic():
    # The bounds are where |p - k/n| is z standard errors of p itself.
    low, high = wilson(7, 24)
    for bound in (low, high):
        assert abs(7 / 24 - bound) / math.sqrt(bound * (1 - bound) / 24) == pytest.approx(1.959963984540054)


@pytest.mark.parametrize("bad", [(1, 0), (3, 2), (-1, 5)])
def test_what_is_no_share_is_refused(bad):
    with pytest.raises(ValueError, match="is no share"):
        wilson(*bad)


def test_share_of_one_seed_has_nearly_the_binomial_error():
    found = share([(6, 24)])
    assert (found.count, found.n, found.share) == (6, 24, 0.25)
    low, high = wilson(6, 24, 1.0)
    assert found.standard_error == pytest.approx((high - low) / 2) == pytest.approx(math.sqrt(0.1875 / 24), rel=0.03)
    assert (found.low, found.high) == pytest.approx(wilson(6, 24))


def test_none_or_all_of_a_few_leave_an_error():
    """0 of 3 is no proof of never: Wilson's middle is 1/8 and he goes from 0 to 1/4."""
    assert share([(0, 3)]).standard_error == share([(3, 3)]).standard_error == pytest.approx(1 / 8)


def test_share_of_nothing_is_unknown():
    assert share([]).share is None
    assert share([(0, 0)]).standard_error is None


def test_seeds_that_disagree_widen_the_error_and_those_that_agree_do_not():
    alike, apart = share([(6, 12), (6, 12)]), share([(12, 12), (0, 12)])
    assert alike.share == apart.share == 0.5
    assert alike.standard_error == pytest.approx(math.sqrt(0.25 / 25))
    # Two seeds, 12 and 0 of 12: 2/(2-1) * (36 + 36) / 24^2 = 1/4, as if there were one sample.
    assert apart.standard_error == pytest.approx(math.sqrt(0.25 / 2))
    assert apart.low < alike.low
    assert apart.high > alike.high


@given(st.lists(COUNTS, min_size=1, max_size=6))
def test_a_share_lies_inside_its_interval_and_seeds_have_no_order(clusters):
    found = share(clusters)
    assert 0 <= found.low <= found.share <= found.high <= 1
    assert design_effect(clusters) >= 1
    assert share(clusters[::-1]) == pytest.approx(found)


def test_mean():
    found = mean([1.0, 2.0, 6.0])
    assert (found.n, found.mean, found.median) == (3, 3.0, 2.0)
    assert found.standard_error == pytest.approx(math.sqrt(7 / 3))
    assert mean([]).mean is None
    assert mean([2.0]).standard_error is None
