from __future__ import annotations

import gzip
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from generators.crystals.duplicates import same
from generators.data import dataset as module
from generators.data.dataset import PROPERTY_UNITS, Dataset, Entry

SYMBOLS = ("Mg", "Al", "O", "N", "Cs", "F")
finite = st.floats(-50, 50).map(lambda x: round(x, 5))


@st.composite
def structures(draw):
    n = draw(st.integers(1, 4))
    lattice = Lattice.from_parameters(
        *draw(st.tuples(*[st.floats(3, 9)] * 3)), *draw(st.tuples(*[st.floats(70, 110)] * 3))
    )
    coords = draw(st.lists(st.tuples(*[st.floats(-1, 2)] * 3), min_size=n, max_size=n))
    return Structure(lattice, draw(st.lists(st.sampled_from(SYMBOLS), min_size=n, max_size=n)), coords)


text = st.one_of(
    st.text(max_size=12), st.sampled_from(["", "007", "T", "1e5", "nan", 'a "b"', "c\\", "x label=1", "\n"])
)
entries = st.builds(
    Entry,
    label=text,
    structure=structures(),
    prototype=text,
    source=text,
    energy_ev_per_atom=st.none() | finite,
    properties=st.dictionaries(st.sampled_from(sorted(PROPERTY_UNITS)), finite),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(entries, max_size=4), st.sampled_from(["set.extxyz", "set.extxyz.gz"]))
def test_what_is_written_is_read_back(tmp_path_factory, made, name):
    path = tmp_path_factory.mktemp("set") / name
    Dataset("set", tuple(made)).write(path)
    back = Dataset.read(path)
    assert len(back) == len(made)
    assert back.name == "set"
    for old, new in zip(made, back.entries, strict=True):
        assert (new.label, new.prototype, new.source) == (old.label, old.prototype, old.source)
        assert new.energy_ev_per_atom == old.energy_ev_per_atom
        assert new.properties == old.properties
        assert [s.specie.symbol for s in new.structure] == [s.specie.symbol for s in old.structure]
        assert np.array_equal(new.structure.lattice.matrix, old.structure.lattice.matrix)
        apart = new.structure.frac_coords - old.structure.frac_coords
        assert np.abs((apart - np.round(apart)) @ old.structure.lattice.matrix).max() < 1e-7


@settings(max_examples=15, deadline=None)
@given(st.lists(entries, max_size=4))
def test_the_same_set_gives_the_same_bytes(tmp_path_factory, made):
    folder = tmp_path_factory.mktemp("set")
    for name in ("a.extxyz.gz", "b.extxyz.gz"):
        Dataset("set", tuple(made)).write(folder / name)
    assert (folder / "a.extxyz.gz").read_bytes() == (folder / "b.extxyz.gz").read_bytes()
    assert not list(folder.glob("*.part"))


def test_other_programs_read_the_file(tmp_path, crystals):
    from ase.io import read

    path = tmp_path / "set.extxyz"
    Dataset("set", (crystals["entry"]("a b", crystals["MgO"], -6.0, band_gap=4.4),)).write(path)
    atoms = read(path, format="extxyz")
    assert atoms.get_chemical_formula() == "MgO"
    assert atoms.info["label"] == "a b"
    assert atoms.info["band_gap"] == 4.4
    assert atoms.pbc.all()
    assert atoms.get_volume() == pytest.approx(crystals["MgO"].volume)


def test_what_ase_wrote_is_read(tmp_path, crystals):
    from ase.io import write
    from pymatgen.io.ase import AseAtomsAdaptor

    atoms = AseAtomsAdaptor.get_atoms(crystals["MgO"], msonable=False)
    atoms.info = {"label": 'known "a"/b', "prototype": "225_1a_1b", "energy_per_atom": -6.25}
    path = tmp_path / "set.extxyz"
    write(path, atoms, format="extxyz", columns=["symbols", "positions"])
    back = Dataset.read(path).entries[0]
    assert (back.label, back.prototype, back.energy_ev_per_atom) == ('known "a"/b', "225_1a_1b", -6.25)
    assert same(back.structure, crystals["MgO"])


def drop(text, n):
    return "\n".join(text.split("\n")[:-n]) + "\n"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda text: drop(text, 2), "the file ends before the last of them"),
        (lambda text: text.replace("2\n", "two\n", 1), "should hold a number of atoms"),
        (lambda text: text.replace("label=", "lable="), "no label and prototype"),
        (lambda text: text.replace("species:S:1:", ""), "should say Properties="),
        (lambda text: text.replace('Lattice="', 'Lattice="nan '), "no good cell or atoms"),
        (lambda text: text.replace("Mg ", "Xx "), "no good cell or atoms"),
        (lambda text: text.replace("energy_per_atom=-6.0", "energy_per_atom=low"), "no number"),
    ],
)
def test_a_damaged_file_is_refused_with_its_name(tmp_path, crystals, spoil, says):
    path = tmp_path / "set.extxyz"
    Dataset("set", (crystals["entry"]("a", crystals["MgO"], -6.0),)).write(path)
    path.write_text(spoil(path.read_text()))
    with pytest.raises(ValueError, match=says) as caught:
        Dataset.read(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "data", [b"nothing", gzip.compress(b"2\n", mtime=0)[:-4], gzip.compress(b"\xff\xfe\xff", mtime=0)]
)
def test_no_such_file_is_no_data_set(tmp_path, data):
    path = tmp_path / "set.extxyz.gz"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="can't be read as a data set"):
        Dataset.read(path)


def test_a_folder_is_no_data_set(tmp_path):
    with pytest.raises(ValueError, match=r"is a folder; name the data set in it, or read it with `nucleate data add`"):
        Dataset.read(tmp_path)
    (tmp_path / "crystals.extxyz.gz").touch()
    with pytest.raises(ValueError, match=r"name the data set in it, .*crystals\.extxyz\.gz, or"):
        Dataset.read(tmp_path)


numbers = count()
relatives = st.builds(
    lambda prototype, elements: Entry(
        f"e{next(numbers)}", Structure(Lattice.cubic(9), elements, np.zeros((len(elements), 3))), prototype
    ),
    st.sampled_from([f"p{i}" for i in range(12)]),
    st.lists(st.sampled_from(SYMBOLS), min_size=1, max_size=3, unique=True),
)
shares = st.tuples(*[st.integers(1, 9)] * 3)


def groups(part, by):
    return {e.prototype if by == "prototype" else e.chemistry for e in part.entries}


@settings(deadline=None)
@given(st.lists(relatives, max_size=40), st.sampled_from(["prototype", "chemistry"]), shares, st.integers(0, 5))
def test_splits_part_the_rows_and_never_relatives(made, by, wanted, seed):
    parts = Dataset("set", tuple(made)).split(by, wanted, seed)
    assert sorted(e.label for part in parts for e in part.entries) == sorted(e.label for e in made)
    found = [groups(part, by) for part in parts]
    assert sum(map(len, found)) == len(set().union(*found))


@settings(deadline=None)
@given(st.lists(relatives, max_size=30), st.lists(relatives, max_size=30), st.randoms(), shares, st.integers(0, 5))
def test_rows_that_are_added_or_moved_leave_the_others_where_they_were(made, more, random, wanted, seed):
    def places(rows):
        parts = Dataset("set", tuple(rows)).split("prototype", wanted, seed)
        return {e.label: i for i, part in enumerate(parts) for e in part.entries}

    before = places(made)
    rows = made + more
    random.shuffle(rows)
    after = places(rows)
    assert before == {label: after[label] for label in before}


def test_shares_are_kept_about(crystals):
    bare = crystals["MgO"]
    made = tuple(Entry(f"{i}", bare, f"p{i}") for i in range(2000))
    sizes = [len(part) / 2000 for part in Dataset("set", made).split("prototype", (0.8, 0.1, 0.1))]
    assert sizes == pytest.approx([0.8, 0.1, 0.1], abs=0.025)
    assert Dataset("set", made).split("prototype", seed=1).test.entries != Dataset("set", made).split().test.entries


def test_bare_structures_become_a_data_set(crystals):
    made = Dataset.of([crystals["MgO"], crystals["Al"]], "mine")
    assert [e.label for e in made.entries] == ["mine-00000", "mine-00001"]
    assert [e.prototype for e in made.entries] == ["225_1a_1b", "225_1a"]
    assert Dataset.of(made) is made
    assert made.elements() == ("Al", "Mg", "O")
    assert [e.chemistry for e in made.entries] == ["Mg-O", "Al"]


def test_the_set_that_ships_is_whole():
    from generators.data.gate import problems

    shipped, card = module.shipped(), module.shipped_card()
    assert len(shipped) == card["crystals"]
    assert len({e.label for e in shipped.entries}) == len(shipped)
    assert card["known_failings"]
    assert len(shipped) >= 3000
    several = sum(len(e.structure.composition.elements) >= 3 for e in shipped.entries)
    assert several >= len(shipped) / 2
    assert max(len(e.structure) for e in shipped.entries) <= 8
    for one in shipped.entries[::50]:
        assert problems(one) == []
        assert one.energy_ev_per_atom is not None
    parts = shipped.split()
    assert min(map(len, parts)) > 0
    assert module.shipped() is shipped
