"""Crystals of a folder come in the order of names, each once, and what does not fit is passed over and counted."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from outside_fixtures import same
from pymatgen.core import Structure

from generators.adapters.folder import FolderOfCrystals
from generators.base import Condition, Generator, derive_seed
from generators.registry import load_generator, make_generator

OXIDES = Condition((("Mg", "O"), ("Li", "O")), max_atoms=4)


def salt(cation, anion, edge, *, conventional=False):
    h = edge / 2
    primitive = Structure([[0, h, h], [h, 0, h], [h, h, 0]], [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]])
    return primitive * [[-1, 1, 1], [1, -1, 1], [1, 1, -1]] if conventional else primitive


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """MgO three times (b, c and twice in d), and what can't be used."""
    crystals = tmp_path_factory.mktemp("folder") / "crystals"
    (crystals / "deeper").mkdir(parents=True)
    salt("Mg", "O", 4.21).to(str(crystals / "b.cif"))
    salt("Mg", "O", 4.30, conventional=True).to(str(crystals / "POSCAR_c"), fmt="poscar")
    frames = ""
    for edge in (4.4, 4.5):
        lattice = " ".join(map(str, salt("Mg", "O", edge).lattice.matrix.ravel()))
        x, y, z = salt("Mg", "O", edge).cart_coords[1]
        frames += f'2\nLattice="{lattice}" Properties=species:S:1:pos:R:3 pbc="T T T"\nMg 0 0 0\nO {x} {y} {z}\n'
    (crystals / "d.extxyz").write_text(frames)
    salt("Na", "Cl", 5.64).to(str(crystals / "a.cif"))
    salt("Li", "O", 4.2).to(str(crystals / "e.cif"))
    (crystals / "f.cif").write_text("data_nothing\n")
    (crystals / "README.md").write_text("not a crystal")
    salt("Mg", "O", 4.21).to(str(crystals / "deeper" / "g.cif"))
    return crystals


def draw(generator, n, **more):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(generator.sample(n, OXIDES, 3, **more))


def test_crystals_come_by_name(folder):
    samples = draw(FolderOfCrystals(str(folder)), 4)
    assert [(s.info["file"], s.info["number"]) for s in samples] == [
        ("POSCAR_c", 1),
        ("b.cif", 1),
        ("d.extxyz", 1),
        ("d.extxyz", 2),
    ]
    assert [s.seed for s in samples] == [derive_seed(3, i) for i in range(4)]
    assert all(len(s.structure) == 2 for s in samples)  # the conventional cell of POSCAR_c became primitive
    edges = [(4 * s.structure.volume) ** (1 / 3) for s in samples]
    assert np.allclose(edges, [4.30, 4.21, 4.4, 4.5], atol=1e-3)


def test_what_is_passed_over_is_counted(folder):
    with pytest.warns(UserWarning, match="3 crystals passed over") as caught:
        FolderOfCrystals(str(folder)).sample(4, OXIDES, 3)
    (message,) = [str(w.message) for w in caught if w.category is UserWarning]
    assert "1 outside the chemical systems (such as a.cif: NaCl)" in message
    assert "1 not charge neutral (such as e.cif: Li2O2, rule 'strict')" in message
    assert "f.cif" in message


def test_asking_for_more_than_fit_is_refused_at_once(folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=r"5 crystals are asked for, 4 of those in .* fit the condition"):
            FolderOfCrystals(str(folder)).sample(5, OXIDES, 3)
        with pytest.raises(ValueError, match="1 crystals are asked for, 0 of those"):
            FolderOfCrystals(str(folder), repeat=True).sample(1, Condition((("Zn", "S"),)), 3)


@settings(deadline=None, max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 11), st.integers(0, 11))
def test_a_stream_that_repeats_can_begin_anywhere(folder, n, start):
    generator = FolderOfCrystals(str(folder), repeat=True)
    whole = draw(generator, 11)
    assert all(a.structure == b.structure for a, b in zip(whole, whole[4:], strict=False))
    part = draw(generator, n, start=start)
    assert len(part) == max(0, n - start)
    assert all(map(same, part, whole[start:n]))


def test_samples_are_not_shared(folder):
    generator = FolderOfCrystals(str(folder), repeat=True)
    first, *_, again = draw(generator, 5)
    first.structure.remove_sites([0])
    assert len(again.structure) == 2


def test_a_single_file_will_do(folder):
    assert len(draw(FolderOfCrystals(str(folder / "d.extxyz")), 2)) == 2


def test_a_path_is_taken_from_where_the_generator_is_made(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    generator = FolderOfCrystals("crystals")
    monkeypatch.chdir("/")
    assert generator.path == str(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"folder: .*nowhere \(option path\) is not there"):
        FolderOfCrystals(str(tmp_path / "nowhere")).sample(1, OXIDES, 1)


@pytest.mark.parametrize(
    ("option", "value"), [("path", 3), ("path", ""), ("path", None), ("repeat", "yes"), ("repeat", 1)]
)
def test_an_option_of_a_wrong_type_is_named(option, value):
    with pytest.raises(ValueError, match=f"folder: the option {option}"):
        FolderOfCrystals(**{"path": "x", option: value})


def test_it_is_saved_and_learns_nothing(folder, tmp_path):
    generator = FolderOfCrystals(str(folder), repeat=True)
    generator.save(tmp_path / "state")
    assert load_generator(tmp_path / "state") == generator == generator.update([])
    assert isinstance(generator, Generator)
    assert make_generator("folder", path=str(folder)) != generator
