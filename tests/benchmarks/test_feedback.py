"""The proof of feedback in small: the same code, two rounds of a few crystals, really relaxed and verified."""

import json
import math

import pytest

from benchmarks.feedback.arms import ARMS, SYSTEMS, spec_of
from benchmarks.feedback.cache import Cache, name_of
from benchmarks.feedback.play import Site, play
from benchmarks.feedback.run import campaign, result_path
from benchmarks.feedback.selection import hits_of, is_hit, known_of
from benchmarks.feedback.table import gather, poisson_interval, ratio_interval, table

SYSTEM = "Mg-Al-Si-N-O"
pytestmark = pytest.mark.xdist_group("feedback")  # its campaigns are played once, by one worker


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("feedback")


@pytest.fixture(scope="module")
def results(place):
    """Ion exchange with and without feedback: the smallest arms that propose within seconds."""
    found = {}
    for arm in ("ion exchange + feedback", "ion exchange"):
        campaign(SYSTEM, arm, 1, 2, 5, 1, str(place))
        found[arm] = json.loads(result_path(SYSTEM, arm, 1, 2, 5, 1, str(place)).read_text())
    return found


def test_arms_start_from_the_same_samples_and_spend_the_same(results):
    one, other = results.values()
    assert len(one["verdicts"]) == len(other["verdicts"]) == 2
    first = [[v["formula"] for v in r["verdicts"] if v["round"] == 1] for r in (one, other)]
    assert first[0] == first[1]
    assert one["rounds"][0]["sampled"] == 5


def test_every_hit_is_stable_new_and_on_target(results):
    for result in results.values():
        for verdict in result["verdicts"]:
            if verdict["hit"]:
                assert verdict["above_hull_ev_per_atom"] <= 0.1
                assert verdict["known_as"] is None
                assert verdict["properties"]["bulk_modulus"] >= 120
            if verdict["stable"]:
                assert verdict["above_hull_ev_per_atom"] <= 0.1


def test_a_second_run_computes_nothing_and_tells_the_same(results, place, monkeypatch):
    spec = spec_of(SYSTEM, 2, 5, 1, 1)
    site = Site(spec, place)

    def never(*_):
        raise AssertionError("a verdict was computed again")

    monkeypatch.setattr(type(site.engine), "relax_now", never)
    again = play(next(a for a in ARMS if a.name == "ion exchange"), spec, site)
    told = results["ion exchange"]
    assert [(v["candidate"], v["hit"]) for v in again["verdicts"]] == [
        (v["candidate"], v["hit"]) for v in told["verdicts"]
    ]
    assert again["cpu_s"]["verify"] == pytest.approx(told["cpu_s"]["verify"])


def test_the_selection_is_asked_about_crystals_whose_verdicts_are_known(results, place):
    spec = spec_of(SYSTEM, 2, 5, 1, 1)
    crystals = known_of(Site(spec, place), set(SYSTEMS[SYSTEM]["chemistry"]["allowed"]))
    verdicts = {round(v["above_hull_ev_per_atom"], 6) for r in results.values() for v in r["verdicts"]}
    assert {round(one.above_hull_ev_per_atom, 6) for one in crystals} == verdicts
    hits = sum(is_hit(one, spec.targets) for one in crystals)
    n = len(crystals)
    assert hits_of(crystals, spec.targets, 0, n, n, seed=0) == hits  # a budget for all of them finds every hit
    assert hits_of(crystals, spec.targets, n, n, 0, seed=0) == 0


def test_the_cache_knows_a_structure_by_what_it_is(tmp_path):
    from generators.data import prototypes

    one, two = (p.structure for p in prototypes(4)[:2])
    assert name_of(one, "a") == name_of(one.copy(), "a")
    assert name_of(one, "a") != name_of(two, "a")
    assert name_of(one, "a") != name_of(one, "b")
    cache = Cache(tmp_path, "a")
    assert cache.remember(one, lambda: {"x": 1}) == cache.remember(one, lambda: {"x": 2}) == {"x": 1}


def test_intervals_hold_what_they_promise():
    """Exact intervals: their tails have the probability they say."""
    from scipy.stats import poisson

    low, high = poisson_interval(7)
    assert poisson.sf(6, low) == pytest.approx(0.025, abs=1e-6)
    assert poisson.cdf(7, high) == pytest.approx(0.025, abs=1e-6)
    assert poisson_interval(0)[0] == 0.0
    low, high = ratio_interval(20, 10)
    assert low < 2 < high
    assert ratio_interval(5, 0)[1] == math.inf
    assert ratio_interval(0, 5)[0] == 0.0
    a, b = ratio_interval(200, 100)
    assert high - low > b - a


def test_the_table_counts_hits_and_their_ratio():
    def made(arm, seed, hits, samples=16):
        verdicts = [{"hit": i < hits, "stable": i < hits + 1} for i in range(8)]
        told = {"system": "X", "samples": samples, "arm": arm, "seed": seed}
        return {**told, "verdicts": verdicts, "cpu_s": {"verify": 3600.0}}

    results = [
        made("learned + feedback", 1, 4),
        made("learned", 1, 2),
        made("learned + feedback", 2, 6),
        made("learned", 2, 2),
        made("random", 1, 8, samples=64),  # another task, which these are not compared with
    ]
    text = table(results)
    assert "| learned + feedback | 2 | 16 | 12 | 10 |" in text
    assert "10 to 4, ratio 2.50" in text
    assert "| 4, 6 | 62.5 | 5.0 |" in text
    assert "**X, 16 proposals a round**" in text
    assert "**X, 64 proposals a round**" in text
    assert {task: list(arms) for task, arms in gather(results).items()} == {
        ("X", 16): ["learned + feedback", "learned"], ("X", 64): ["random"]
    }  # fmt: skip
