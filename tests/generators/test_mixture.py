"""A mixture honours its shares on every prefix, keeps its members' streams and passes on what was learned."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.base import Condition, Generator, Labelled, derive_seed
from generators.mixture import Mixture
from generators.random_symmetric import RandomSymmetric
from generators.registry import load_generator, make_generator

BINARY = Condition((("Mg", "O"),), min_elements=2, max_elements=2, max_atoms=4)
DEMO = [("ion_exchange", 0.6), ("random", 0.4, {"exploration": 0.5})]


@settings(deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=5))
def test_every_prefix_honours_the_shares_within_one(shares):
    mixture = Mixture([("random", share) for share in shares])
    wanted = np.array(shares) / sum(shares)
    counts = np.zeros(len(shares))
    for turn, (member, local) in enumerate(islice(mixture.turns(), 60), start=1):
        assert local == counts[member]
        counts[member] += 1
        assert np.abs(counts - turn * wanted).max() < 1 + 1e-9


def test_samples_are_those_of_the_members_own_streams():
    mixture = Mixture(DEMO)
    assert isinstance(mixture, Generator)
    samples = list(mixture.sample(10, BINARY, 5))
    assert [s.index for s in samples] == list(range(10))
    assert [s.generator for s in samples].count("ion_exchange") == 6
    own = [
        list(make_generator("ion_exchange").sample(6, BINARY, derive_seed(5, 0))),
        list(make_generator("random", exploration=0.5).sample(4, BINARY, derive_seed(5, 1))),
    ]
    for sample in samples:
        twin = own[sample.info["member"]][sample.info["member_index"]]
        assert sample.structure == twin.structure
        assert (sample.seed, sample.generator, sample.version) == (twin.seed, twin.generator, twin.version)


@settings(max_examples=10, deadline=None)
@given(start=st.integers(0, 9), n=st.integers(0, 10))
def test_a_mixture_resumes_anywhere(start, n):
    whole = list(Mixture(DEMO).sample(10, BINARY, 5))
    tail = list(Mixture(DEMO).sample(n, BINARY, 5, start=start))
    assert [(s.index, s.seed, s.info) for s in tail] == [(s.index, s.seed, s.info) for s in whole[start:n]]
    assert all(a.structure == b.structure for a, b in zip(tail, whole[start:n], strict=True))


def test_two_members_of_one_kind_have_streams_of_their_own():
    samples = list(Mixture([("random", 1), ("random", 1)]).sample(6, BINARY, 5))
    assert len({s.seed for s in samples}) == 6


def test_each_member_learns_from_its_own_and_the_mixture_is_not_mutated(tmp_path):
    mixture = Mixture(DEMO)
    samples = list(mixture.sample(10, BINARY, 5))
    labelled = [
        Labelled(f"c{s.index}", s.structure, s.generator, s.info, 0.0, stable=True, novel=True) for s in samples
    ]
    taught = mixture.update(labelled)
    assert taught.version == "ion_exchange=1+1,random=1+1"
    assert mixture.version == "ion_exchange=1+0,random=1+0"
    exchange, random = taught._members
    assert set(exchange._memory.prototypes.counts) == {s.info["prototype"] for s in samples if "prototype" in s.info}
    assert set(random._groups.counts) == {str(s.info["spacegroup"]) for s in samples if "prototype" not in s.info}

    taught.save(tmp_path / "a")
    mixture.update(reversed(labelled)).save(tmp_path / "b")
    again = load_generator(tmp_path / "a")
    again.save(tmp_path / "c")

    def files(name):
        root = tmp_path / name
        return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}

    assert files("a") == files("b") == files("c")
    assert sorted(files("a")) == ["generator.json", "member-0/generator.json", "member-1/generator.json"]
    pairs = zip(taught.sample(6, BINARY, 8), again.sample(6, BINARY, 8), strict=True)
    assert all(a.structure == b.structure and a.info == b.info for a, b in pairs)


def test_a_member_that_cannot_meet_the_condition_says_so_at_once():
    with pytest.raises(ValueError, match=r"^random: no composition of"):
        Mixture([("random", 1)]).sample(4, Condition((("Al", "Mg"),), neutrality="strict"), 1)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "at least one member"),
        ([("random", 0)], "must be above 0"),
        ([("random", float("nan"))], "must be above 0"),
        ([("random", float("inf"))], "finite"),
        ([("nobody", 1)], "no generator is called 'nobody'"),
        ([("random", 1, {"colour": 1})], "no option colour"),
        ([{"name": "random", "weight": 1}], "name, share and options"),
    ],
)
def test_a_wrong_mix_is_refused(members, message):
    with pytest.raises(ValueError, match=message):
        Mixture(members)


def test_members_may_be_mappings_and_ready_made():
    assert Mixture([{"name": "random", "share": 2, "options": {"exploration": 0.5}}]).names == ("random",)
    assert Mixture.of([(RandomSymmetric(), 1.0)]).conditions_on == frozenset()


def test_fit_reports_for_every_member():
    assert Mixture(DEMO).fit([]).metrics == {"0.ion_exchange.trained": 0.0, "1.random.trained": 0.0}
