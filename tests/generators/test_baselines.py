"""Both baselines keep the Generator contract; ion exchange and random structures learn without collapse."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from itertools import combinations, islice

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher

from generators.base import Condition, Generator, Labelled, derive_seed
from generators.baselines import IonExchange, RandomSymmetric
from generators.crystals.neutrality import neutral
from generators.crystals.validity import check_structure
from generators.exchanges import exchanges
from generators.registry import load_generator

LIGHT = ("Al", "Mg", "N", "O", "Si")
TERNARY = Condition(tuple(combinations(LIGHT, 3)), min_elements=2, max_elements=3, max_atoms=8)
BOTH = pytest.mark.parametrize("make", [IonExchange, RandomSymmetric])
N = 24


def same(one, other):
    return (
        one.index == other.index
        and one.seed == other.seed
        and one.info == other.info
        and one.structure.species == other.structure.species
        and np.array_equal(one.structure.lattice.matrix, other.structure.lattice.matrix)
        and np.array_equal(one.structure.frac_coords, other.structure.frac_coords)
    )


def verdict(sample, number=0, **what):
    return Labelled(f"c-{number:04d}", sample.structure, sample.generator, sample.info, **what)


def good(sample, number=0):
    return verdict(sample, number, energy_above_hull_ev_per_atom=0.0, stable=True, novel=True)


def bad(sample, number=0):
    return verdict(sample, number, energy_above_hull_ev_per_atom=0.8, stable=False, novel=True)


@pytest.fixture(scope="module")
def streams():
    return {make: list(make().sample(N, TERNARY, 11)) for make in (IonExchange, RandomSymmetric)}


@BOTH
def test_it_is_a_generator(make):
    assert isinstance(make(), Generator)


@BOTH
def test_every_sample_keeps_the_condition_and_is_a_crystal(make, streams):
    for i, sample in enumerate(streams[make]):
        assert sample.index == i
        assert sample.seed == derive_seed(11, i)
        assert (sample.generator, sample.version) == (make.name, "1+0")
        assert TERNARY.allows(site.specie.symbol for site in sample.structure)
        assert check_structure(sample.structure, TERNARY.max_atoms) == []
        assert neutral(sample.structure.composition, "strict")
        assert len(sample.structure.get_primitive_structure()) == len(sample.structure)
        assert json.loads(json.dumps(sample.info)) == sample.info


@BOTH
def test_largest_element_sets_have_a_decent_share(make):
    sizes = [len(sample.structure.composition) for sample in make().sample(60, TERNARY, 3)]
    assert sizes.count(3) >= 20
    assert sizes.count(2) >= 15


@BOTH
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, N - 1), n=st.integers(1, N))
def test_a_stream_resumes_anywhere(make, streams, start, n):
    tail = list(make().sample(n, TERNARY, 11, start=start))
    assert [s.index for s in tail] == list(range(start, n))
    assert all(same(a, b) for a, b in zip(tail, streams[make][start:n], strict=True))


@BOTH
def test_another_seed_gives_another_stream(make, streams):
    other = list(make().sample(6, TERNARY, 12))
    assert not all(a.structure.matches(b.structure) for a, b in zip(other, streams[make], strict=False))


@BOTH
def test_samples_are_the_same_in_another_process_with_another_hash_seed(make, streams):
    code = (
        "import json, sys; from itertools import combinations; from generators.base import Condition\n"
        "from generators.registry import make_generator\n"
        f"condition = Condition(tuple(combinations({LIGHT!r}, 3)), 2, 3, 8)\n"
        f"stream = make_generator({make.name!r}).sample(5, condition, 11)\n"
        "json.dump([[s.seed, s.info, s.structure.lattice.matrix.tolist(), s.structure.frac_coords.tolist(),"
        " [x.specie.symbol for x in s.structure]] for s in stream], sys.stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "4242"},
        capture_output=True,
        text=True,
        check=True,
    )
    here = [
        [
            s.seed,
            s.info,
            s.structure.lattice.matrix.tolist(),
            s.structure.frac_coords.tolist(),
            [x.specie.symbol for x in s.structure],
        ]
        for s in streams[make][:5]
    ]
    assert json.loads(done.stdout) == here


@BOTH
@pytest.mark.parametrize(
    ("systems", "rule", "minimum", "maximum", "atoms"),
    [
        ((("Al", "Mg"),), "off", 2, 2, 6),
        ((("Al", "Cu", "Ni"),), "permissive", 2, 3, 5),
        ((("Li", "O"), ("Na", "S")), "strict", 2, 2, 8),
        ((("Ba", "O", "Ti"),), "strict", 3, 3, 5),
        ((("Si",),), "strict", 1, 1, 4),
        ((("Ca", "F", "K", "O"), ("Fe", "O", "Ti")), "strict", 2, 4, 12),
    ],
)
def test_other_conditions_hold_too(make, systems, rule, minimum, maximum, atoms):
    condition = Condition(systems, minimum, maximum, atoms, rule)
    samples = list(make().sample(8, condition, 5))
    assert len(samples) == 8
    for sample in samples:
        assert condition.allows(site.specie.symbol for site in sample.structure)
        assert check_structure(sample.structure, atoms) == []
        assert neutral(sample.structure.composition, rule)


@BOTH
@pytest.mark.parametrize(
    "condition",
    [
        Condition((("Al", "Mg"),), neutrality="strict"),
        Condition((("Al", "Mg", "O"),), min_elements=3, max_elements=3, max_atoms=2),
        Condition((("O",),), min_elements=2),
    ],
)
def test_a_condition_that_nothing_meets_is_refused_at_once(make, condition):
    with pytest.raises(ValueError, match=f"^{make.name}: no "):
        make().sample(1, condition, 1)


@BOTH
def test_samples_stream_one_by_one(make):
    assert len(list(islice(make().sample(10**9, TERNARY, 1), 2))) == 2


@BOTH
def test_an_update_moves_towards_what_was_stable_and_novel(make, streams):
    first, second = streams[make][0], streams[make][1]
    taught = make().update([good(first, i) for i in range(3)] + [bad(second, 3 + i) for i in range(3)])
    if make is IonExchange:
        assert taught._memory.prototypes.weight(first.info["prototype"]) > 1
        assert taught._memory.prototypes.weight(second.info["prototype"]) < 1
    else:
        assert taught._groups.weight(str(first.info["spacegroup"])) > 1
        assert taught._groups.weight(str(second.info["spacegroup"])) < 1
    assert taught.version == "1+1"


def table_and_shares(generator):
    sets = tuple(s for size in (2, 3) for s in combinations(LIGHT, size))
    table = exchanges(sets, 8, "strict")
    return [option.exchange for option in table], generator.shares(table)


def entropy(shares):
    return float(-(shares * np.log(shares)).sum())


def test_ion_exchange_prefers_a_sibling_of_what_held_and_avoids_the_crystal_itself(streams):
    sample = next(s for s in streams[IonExchange] if not s.info["split"])
    table, before = table_and_shares(IonExchange())
    _, after = table_and_shares(IonExchange().update([good(sample)]))
    key = next(
        i
        for i, e in enumerate(table)
        if e.tag == sample.info["prototype"] and e.info["substitution"] == sample.info["substitution"]
    )
    siblings = [i for i, e in enumerate(table) if e.tag == sample.info["prototype"] and i != key]
    assert after[key] < 0.2 * before[key]
    assert siblings
    assert all(after[i] > before[i] for i in siblings)


def test_stable_but_known_is_not_rewarded(streams):
    sample = streams[IonExchange][0]
    taught = IonExchange().update(
        [verdict(sample, energy_above_hull_ev_per_atom=0.0, stable=True, novel=False, hit=True)]
    )
    assert taught._memory.prototypes.counts == {}
    assert list(taught._memory.tried.values()) == [1]


def test_a_machine_fault_teaches_nothing_and_may_be_proposed_again(streams):
    sample = streams[IonExchange][0]
    taught = IonExchange().update([verdict(sample, cause=106)])
    assert taught._memory.prototypes.counts == {}
    assert taught._memory.tried == {}


def test_a_hundred_rounds_of_the_same_lesson_do_not_collapse_the_choice(streams):
    favourite = next(s for s in streams[IonExchange] if len(s.structure.composition) == 2)
    _, before = table_and_shares(IonExchange())
    generator = IonExchange()
    others = [s for s in streams[IonExchange] if s.info["prototype"] != favourite.info["prototype"]]
    for _ in range(100):
        generator = generator.update(
            [good(favourite, i) for i in range(8)] + [bad(s, 8 + i) for i, s in enumerate(others)]
        )
    table, after = table_and_shares(generator)
    assert np.exp(entropy(after)) > 0.25 * np.exp(entropy(before))
    assert after.max() < 0.25
    family = np.array([e.tag == favourite.info["prototype"] for e in table])
    assert after[family].sum() < 0.5


def test_random_keeps_a_floor_under_every_space_group(streams):
    generator = RandomSymmetric()
    for _ in range(100):
        generator = generator.update([good(streams[RandomSymmetric][0], i) for i in range(8)])
    shares = generator._group_shares()
    assert shares.min() > 0.3 / 230
    assert shares.max() < 5 / 230


@BOTH
def test_order_of_verdicts_is_irrelevant_and_nothing_is_mutated(make, streams, tmp_path):
    labelled = [(good if i % 3 else bad)(s, i) for i, s in enumerate(streams[make])]
    labelled.append(verdict(streams[make][0], 99, energy_above_hull_ev_per_atom=0.137, stable=False))
    original = make()
    original.save(tmp_path / "before")
    one, other = original.update(labelled), original.update(reversed(labelled))
    original.save(tmp_path / "after")
    one.save(tmp_path / "one")
    other.save(tmp_path / "other")
    read = {name: (tmp_path / name / "generator.json").read_bytes() for name in ("before", "after", "one", "other")}
    assert read["before"] == read["after"] != read["one"] == read["other"]


@BOTH
def test_a_saved_state_comes_back_byte_for_byte_with_the_same_samples(make, streams, tmp_path):
    taught = make(exploration=0.1).update([good(s, i) for i, s in enumerate(streams[make][:5])])
    taught.save(tmp_path / "a")
    again = load_generator(tmp_path / "a")
    again.save(tmp_path / "b")
    assert (tmp_path / "a/generator.json").read_bytes() == (tmp_path / "b/generator.json").read_bytes()
    assert [p.name for p in (tmp_path / "a").iterdir()] == ["generator.json"]
    assert type(again) is make
    assert again.version == taught.version
    ours, theirs = taught.sample(4, TERNARY, 2), again.sample(4, TERNARY, 2)
    assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))


@BOTH
def test_verdicts_of_other_generators_are_left_alone(make, streams):
    foreign = Labelled("x", streams[make][0].structure, "somebody_else", streams[make][0].info, 0.0, True, True)
    taught = make().update([foreign])
    if make is IonExchange:
        assert taught._memory.prototypes.counts == {}
        assert taught._memory.tried == {}
    else:
        assert taught._groups.counts == {}


def test_ion_exchange_never_repeats_a_crystal_before_its_table_is_exhausted():
    table, _ = table_and_shares(IonExchange())
    samples = list(IonExchange().sample(len(table) + 5, TERNARY, 9))
    drawn = [(s.info["prototype"], s.info["split"], str(s.info["substitution"])) for s in samples]
    assert len(set(drawn[: len(table)])) == len(table)
    assert [s.info["pass"] for s in samples[-5:]] == [1] * 5
    matcher = StructureMatcher()
    rocksalt = [s.structure for s in samples[: len(table)] if s.structure.composition.reduced_formula == "MgO"]
    groups = matcher.group_structures(rocksalt)
    assert len(groups) >= 0.8 * len(rocksalt)  # a few prototypes differ by little more than their axial ratio


@BOTH
def test_options_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="exploration"):
        make(exploration=1.5)


@BOTH
def test_fit_says_that_there_is_nothing_to_train(make, streams):
    report = make().fit([s.structure for s in streams[make][:3]])
    assert report.n_structures == 3
    assert report.metrics == {"trained": 0.0}
    with pytest.raises(ValueError, match="epochs"):
        make().fit([], epochs=3)
