"""Metrics on hand-made samples: a planted duplicate, a known crystal, an unstable one, one that is outside."""

from __future__ import annotations

from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Lattice, Structure

from generators.base import Bounds, Condition
from generators.evaluation.hull import Hull, Phase
from generators.evaluation.judge import displacement, hit, measure, place, sieve, take_in
from generators.evaluation.known import Familiar
from generators.evaluation.metrics import costs_of, means_of, recovered, shares_of, spacegroups_of, training_minutes
from generators.evaluation.samples import Drawn
from generators.evaluation.statistics import share
from generators.evaluation.store import Outcome, Protocol, Store

CONDITION = Condition((("Mg", "O"),), min_elements=2, max_elements=2, max_atoms=8)
CUT = 0.1


def rocksalt(a: str = "Mg", b: str = "O", edge: float = 4.25) -> Structure:
    return Structure.from_spacegroup(
        "Fm-3m", Lattice.cubic(edge), [a, b], [[0, 0, 0], [0.5, 0.5, 0.5]]
    ).get_primitive_structure()


def caesium_chloride(edge: float = 2.66) -> Structure:
    return Structure(Lattice.cubic(edge), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])


def zincblende(edge: float = 4.6) -> Structure:
    return Structure.from_spacegroup(
        "F-43m", Lattice.cubic(edge), ["Mg", "O"], [[0, 0, 0], [0.25, 0.25, 0.25]]
    ).get_primitive_structure()


def element(symbol: str, edge: float) -> Structure:
    return Structure(Lattice.cubic(edge), [symbol], [[0, 0, 0]])


def supercell(structure: Structure) -> Structure:
    copy = structure.copy()
    copy.make_supercell([2, 1, 1])
    return copy


def drawn(structures: list[Structure]) -> list[Drawn]:
    return [Drawn(i, s, 0.1, 0.1) for i, s in enumerate(structures)]


HULL = Hull(
    [Phase("Mg", element("Mg", 3.0), -1.5), Phase("O2", element("O", 3.0), -4.9), Phase("MgO", rocksalt(), -6.0)]
)
KNOWN = Familiar([("salt", rocksalt("Na", "Cl", 5.6)), ("magnesia", rocksalt())], "two crystals")


def outcome(structure: Structure, energy: float, **other) -> Outcome:
    return Outcome(structure, energy, **{"converged": True, "steps": 5, "volume_change": 0.01, "cpu_s": 2.0, **other})


PLANTED = [
    rocksalt(),  # known
    supercell(rocksalt()),  # its duplicate
    zincblende(),  # not known, unstable
    caesium_chloride(),  # not known, called stable
    caesium_chloride(2.67),  # a duplicate of it
    rocksalt("Ca", "O", 4.8),  # outside the condition
    Structure(Lattice.cubic(2.0), ["Mg", "O"], [[0, 0, 0], [0.1, 0, 0]]),  # atoms on top of each other
    Structure(Lattice.cubic(4.0), ["Mg", "O", "O"], [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5]]),  # not neutral
]
ENERGIES = {0: -6.0, 1: -6.0, 2: -5.7, 3: -5.95, 4: -5.951}


@pytest.fixture
def judged():
    found = sieve(drawn(PLANTED), 0, CONDITION)
    for j in found:
        if j.valid:
            take_in(j, outcome(j.structure, ENERGIES[j.index]))
    place(found, KNOWN, HULL)
    return found


def test_each_planted_fault_is_seen(judged):
    assert [j.valid for j in judged] == [True] * 5 + [False] * 3
    assert "outside" in judged[5].reasons[0]
    assert "apart" in judged[6].reasons[0]
    assert "not neutral" in judged[7].reasons[-1]
    assert sum(j.unique for j in judged[:2]) == 1
    assert judged[2].unique
    assert sum(j.unique for j in judged[3:5]) == 1


def test_known_new_stable_and_unstable(judged):
    assert [j.known_as for j in judged[:2]] == ["magnesia", "magnesia"]
    assert [j.new_crystal for j in judged] == [False, False, True, True, True, False, False, False]
    assert not any(j.new_composition for j in judged)
    assert [j.new_skeleton for j in judged[:5]] == [False, False, True, True, True]
    assert judged[2].above_hull_ev_per_atom == pytest.approx(0.3)
    assert [j.stable(CUT) for j in judged[:5]] == [True, True, False, True, True]
    assert judged[0].stable(0.0)
    assert judged[0].formation_ev_per_atom == pytest.approx(-6.0 + (1.5 + 4.9) / 2)


def test_of_two_that_became_the_same_the_lower_one_counts_once(judged):
    assert [j.index for j in judged if j.sun(CUT)] == [4]


def test_shares_count_all_samples_that_were_asked_for(judged):
    # Ten were asked for; the stream ended after eight.
    found = shares_of(judged, 10, [0], CONDITION, CUT)
    counts = {name: value.count for name, value in found.items()}
    expected = {"valid": 5, "unique": 3, "relaxed": 5, "novel": 3, "stable": 4, "at_hull": 2, "sun": 1, "symmetric": 5}
    assert {name: counts[name] for name in expected} == expected
    assert all(value.n == 10 for value in found.values())
    assert "hits" not in found
    assert spacegroups_of(judged) == {"225": 2, "221": 2, "216": 1}


def test_a_relaxation_that_gave_no_crystal_does_not_count():
    found = sieve(drawn([rocksalt()] * 4), 0, CONDITION)
    take_in(found[0], outcome(rocksalt(), -9.0, converged=False))
    take_in(found[1], outcome(rocksalt(edge=9.0), -9.0, volume_change=8.0))
    take_in(found[2], Outcome(None, None, False, 3, None, 1.0, "exploded"))
    take_in(found[3], outcome(PLANTED[6], -99.0))
    place(found, KNOWN, HULL)
    shares = shares_of(found, 4, [0], CONDITION, CUT)
    assert shares["valid"].count == 4
    assert shares["relaxed"].count == shares["stable"].count == 0
    assert means_of(found)["moved_angstrom"].n == 0


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(len(PLANTED))))
def test_what_is_unique_does_not_depend_on_the_order(order):
    found = sieve(drawn([PLANTED[i] for i in order]), 0, CONDITION)
    unique = {order[j.index] for j in found if j.unique}
    assert unique == _unique_in_order()


@cache
def _unique_in_order() -> frozenset[int]:
    return frozenset(j.index for j in sieve(drawn(PLANTED), 0, CONDITION) if j.unique)


def test_hits_need_a_stable_crystal_and_a_measured_property(tmp_path, judged):
    wanted = Condition((("Mg", "O"),), properties={"bulk_modulus": Bounds(100, 400, "GPa")})
    assert not hit(judged[0], wanted, CUT)
    measure(judged, wanted, CUT, Store(tmp_path), Protocol())
    assert 90 < judged[0].properties["bulk_modulus"] < 200  # periclase: 160 GPa; CHGNet is soft
    assert "bulk_modulus" not in judged[2].properties  # not stable: nobody asked
    assert hit(judged[0], wanted, CUT)
    assert shares_of(judged, 8, [0], wanted, CUT)["hits"].count >= 2
    high = Condition((("Mg", "O"),), properties={"bulk_modulus": Bounds(500, None, "GPa")})
    assert shares_of(judged, 8, [0], high, CUT)["hits"].count == 0
    gap = Condition((("Mg", "O"),), properties={"band_gap": Bounds(1, None, "eV")})
    assert "hits" not in shares_of(judged, 8, [0], gap, CUT)


def test_a_crystal_that_swells_has_not_moved():
    assert displacement(rocksalt(), rocksalt(edge=4.6)) == pytest.approx(0, abs=1e-9)


def test_one_of_two_atoms_moves_by_a_known_distance():
    # Half the shift each way once the common part is taken out.
    moved = Structure(Lattice.cubic(4.0), ["Mg", "O"], [[0, 0, 0], [0.6, 0.5, 0.5]])
    still = Structure(Lattice.cubic(4.0), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    assert displacement(still, moved) == pytest.approx(0.2)


@given(st.lists(st.floats(-2, 2), min_size=3, max_size=3), st.integers(0, 4))
def test_a_common_shift_is_no_displacement(shift, wraps):
    still = PLANTED[wraps]
    moved = Structure(still.lattice, still.species, (still.frac_coords + np.array(shift)) % 1.0)
    assert displacement(still, moved) == pytest.approx(0, abs=1e-6)


def test_costs_and_their_error(judged):
    sun = share([(1, 8)])
    costs = costs_of(judged, [0.5] * 8, 9.0, 3.0, 1.0, sun, 12.5)
    assert costs["samples_per_s"] == pytest.approx(2.0)
    assert costs["cpu_s"] == pytest.approx(3 + 1 + 5 * 2.0)
    assert costs["cpu_s_per_stable_novel"] == pytest.approx(14.0)
    assert costs["cpu_s_per_stable_novel_error"] == pytest.approx(14.0 * sun.standard_error * 8)
    assert (costs["training_minutes"], costs["start_s"]) == (12.5, 9.0)
    assert costs_of(judged, [], None, 3.0, 1.0, share([(0, 8)]), 0.0)["cpu_s_per_stable_novel"] is None


def test_held_out_prototypes_that_came_back(judged):
    keys = frozenset({judged[0].prototype, "1_9a"})
    assert recovered(judged, keys) == {"prototypes": 2, "recovered": 1}


def test_training_minutes_of_whatever_says_so():
    assert training_minutes(SimpleNamespace(training={"seconds": 90.0})) == 1.5
    assert training_minutes(SimpleNamespace(training=SimpleNamespace(seconds=60))) == 1.0
    assert training_minutes(SimpleNamespace(training={"curves": {"seconds": 30}, "sizes": {}})) == 0.5
    assert training_minutes(object()) == 0


def test_distances_to_the_hull_by_hand():
    # Half-way between Mg and MgO the hull is half-way between their energies per atom.
    assert HULL.above(Composition("Mg3O"), -3.75) == pytest.approx(0.0)
    assert HULL.above(Composition("Mg3O"), -3.70) == pytest.approx(0.05)
    assert HULL.above(Composition("MgO"), -6.2) == pytest.approx(-0.2)
    assert HULL.above(Composition("CaO"), -6.0) is None
    assert HULL.formation(Composition("CaO"), -6.0) is None


def test_a_denser_hull_never_brings_anything_nearer():
    denser = Hull([*HULL.phases, Phase("Mg2O", PLANTED[7], -5.5)])
    for formula in ("MgO", "Mg3O", "MgO2"):
        assert denser.above(Composition(formula), -5.0) >= HULL.above(Composition(formula), -5.0)


def test_near_phases_are_those_inside_the_window():
    hull = Hull([*HULL.phases, Phase("high", zincblende(), -5.8)])
    assert {p.label for p in hull.near(["Mg", "O"], 0.1)} == {"Mg", "O2", "MgO"}
    assert "high" in {p.label for p in hull.near(["Mg", "O"], 0.3)}
