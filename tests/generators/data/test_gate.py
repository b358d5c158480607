from __future__ import annotations

from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from generators.data.dataset import PROPERTY_UNITS, Entry
from generators.data.gate import PROPERTY_RANGES, Rejected, problems, rejection_rows, sift, sort_of, tally


def one(structure, energy=None, **properties):
    return Entry("one", structure, "p", "test", energy, properties)


def test_every_known_property_has_a_range():
    assert set(PROPERTY_RANGES) == set(PROPERTY_UNITS)


def test_a_good_crystal_passes(crystals):
    good = one(crystals["MgO"], -5.9, formation_energy=-3.0, bulk_modulus=160.0, band_gap=0.0)
    assert problems(good) == []
    assert sift([good], "set")[0].entries == (good,)


@pytest.mark.parametrize(
    ("spoil", "says", "sort"),
    [
        (lambda s: one(Structure(s.lattice, [{"Mg": 0.5, "Al": 0.5}, "O"], s.frac_coords)), "partially", "partial occ"),
        (lambda s: one(Structure(s.lattice, s.species, [[0, 0, 0], [0.02, 0, 0]])), "Å apart", "atoms too close"),
        (lambda s: one(Structure(Lattice.cubic(60), s.species, s.frac_coords)), "too large for its atoms", "cell"),
        (lambda s: one(Structure(Lattice.orthorhombic(3, 3, 0.05), s.species, s.frac_coords)), "flat", "cell"),
        (lambda s: one(Structure(s.lattice, ["Cf", "O"], s.frac_coords)), "beyond curium", "species"),
        (lambda s: one(s.make_supercell([3, 3, 3], in_place=False)), "54 atoms, at most 20", "size"),
        (lambda s: one(s, -300.0), "energy of -300 eV/atom is absurd", "energy"),
        (lambda s: one(s, nan), "energy of nan", "energy"),
        (lambda s: one(s, band_gap=nan), "not a finite number", "not a number"),
        (lambda s: one(s, bulk_modulus=inf), "not a finite number", "not a number"),
        (lambda s: one(s, band_gap=-0.1), "band_gap of -0.1 eV is absurd", "property"),
        (lambda s: one(s, formation_energy=-60.0), "formation_energy of -60 eV/atom is absurd", "property"),
        (lambda s: one(s, bulk_modulus=9000.0), "bulk_modulus of 9000 GPa is absurd", "property"),
        (lambda s: one(s, hardness=9.0), "hardness is not known", "property"),
    ],
)
def test_what_may_not_enter_is_told_why(crystals, spoil, says, sort):
    dataset, rejected = sift([spoil(crystals["MgO"])], "set")
    assert len(dataset) == 0
    assert rejected[0].label == "one"
    assert says in rejected[0].reason
    assert sort_of(rejected[0].reason).startswith(sort)


def test_a_bad_row_never_stops_the_others(crystals):
    entry = crystals["entry"]
    rows = [
        entry("a", crystals["MgO"]),
        entry("b", crystals["MgO"], -999.0),
        entry("a", crystals["Al"]),
        entry("c", crystals["rocksalt"](4.3)),
        entry("d", crystals["rocksalt"](4.3, "Ca")),
    ]
    dataset, rejected = sift(rows, "set")
    assert [e.label for e in dataset.entries] == ["a", "a-2", "d"]
    assert {r.label: sort_of(r.reason) for r in rejected} == {"b": "energy", "c": "duplicate"}
    assert rejected[-1].reason == "is the same crystal as a"
    assert tally(rejected) == {"duplicate": 1, "energy": 1}
    assert rejection_rows(rejected)[0] == {"label": "b", "sort": "energy", "reason": rejected[0].reason}


def test_a_label_that_is_taken_costs_no_crystal(crystals):
    entry, rocksalt = crystals["entry"], crystals["rocksalt"]
    rows = [
        entry("a", rocksalt(4.2)),
        entry("a", rocksalt(4.25)),  # the same crystal under the same name is a duplicate
        entry("a", rocksalt(4.8, "Ca")),
        entry("a", rocksalt(4.9, "Ca")),
        entry("a", rocksalt(5.2, "Sr"), 3.0),
        entry("a-2", rocksalt(5.5, "Ba")),  # keeps its own name, though it comes after one that would like it
    ]
    dataset, rejected = sift(rows, "set")
    assert {e.label: e.chemistry for e in dataset.entries} == {"a": "Mg-O", "a-3": "Ca-O", "a-4": "O-Sr", "a-2": "Ba-O"}
    assert [e.energy_ev_per_atom for e in dataset.entries] == [None, None, 3.0, None]
    assert [r.reason for r in rejected] == ["is the same crystal as a", "is the same crystal as a-3"]


def test_a_rejected_row_blocks_neither_its_label_nor_its_crystal(crystals):
    entry = crystals["entry"]
    dataset, _ = sift([entry("a", crystals["MgO"], -999.0), entry("a", crystals["MgO"])], "set")
    assert [e.energy_ev_per_atom for e in dataset.entries] == [None]


@settings(deadline=None, max_examples=15)
@given(st.permutations(range(3)), st.integers(0, 2), st.tuples(*[st.floats(-0.5, 0.5)] * 3), st.floats(0.97, 1.03))
def test_a_crystal_is_the_same_however_it_is_described(axes, grow, shift, scale):
    base = Structure.from_spacegroup(136, Lattice.tetragonal(4.6, 2.96), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]])
    other = Structure(
        Lattice(base.lattice.matrix[list(axes)] * scale),
        list(reversed(base.species)),
        [[site.frac_coords[i] + s for i, s in zip(axes, shift, strict=True)] for site in reversed(base)],
    )
    other.make_supercell([2 if i == grow else 1 for i in range(3)])
    dataset, rejected = sift([Entry("a", base, "p"), Entry("b", other, "p")], "set")
    assert [e.label for e in dataset.entries] == ["a"]
    assert rejected == [Rejected("b", "is the same crystal as a")]


def test_thousands_of_one_family_are_sifted_fast(crystals):
    import time
    from itertools import permutations

    elements = ("Sr", "Ti", "Ca", "Zr", "Ba", "Hf", "Na", "Nb")
    rows = [Entry("".join(three), crystals["perovskite"](6.0, three), "p") for three in permutations(elements, 3)]
    begin = time.process_time()
    dataset, _ = sift(rows, "set")
    rate = len(rows) / (time.process_time() - begin)
    assert len(dataset) == len(rows) == 336  # A and B exchanged is another crystal
    assert rate > 50, f"{rate:.0f} crystals/s; 700 and more were measured"
