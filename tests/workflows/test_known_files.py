"""Crystals of the user's own: read from any place, refused all at once, stored once, and screened out."""

import shutil

import pytest
from pymatgen.core import Lattice, Structure
from pymatgen.io.ase import AseAtomsAdaptor

from generators.crystals.novelty import KnownStructures
from generators.data.dataset import Dataset, Entry
from workflows.campaign import LaunchRefusedError, launch
from workflows.known import known_structures_of
from workflows.known_files import KnownFilesError, from_bytes, read_known, to_bytes
from workflows.records import Candidate
from workflows.reference_proposals import polymorphs
from workflows.spec import CampaignSpec
from workflows.stages.screen import screen_all

# No known phase: MgO as zincblende with a stretched axis, so that what ships in dependencies can't be what it equals.
MINE = Structure(
    Lattice.tetragonal(3.3, 6.2),
    ["Mg2+", "Mg2+", "O2-", "O2-"],
    [[0, 0, 0], [0.5, 0.5, 0.35], [0.5, 0, 0.12], [0, 0.5, 0.72]],
)
PARTIAL = """data_x
_cell_length_a 4
_cell_length_b 4
_cell_length_c 4
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P 1'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
Mg1 Mg 0 0 0 0.5
O1 O 0.5 0.5 0.5 1
"""


def spec_with(*known, **more):
    chemistry = {"systems": ["Mg-O"], "max_elements": 2}
    return CampaignSpec.model_validate({"name": "own", "chemistry": chemistry, "known": known, "samples": 4} | more)


@pytest.fixture
def crystals(tmp_path):
    """Give a directory with the same crystal in several formats, and things beside it."""
    place = tmp_path / "campaign"
    (place / "mine").mkdir(parents=True)
    MINE.to(str(place / "a.cif"), fmt="cif")
    MINE.to(str(place / "mine" / "POSCAR"), fmt="poscar")
    larger = MINE.copy().scale_lattice(1.3 * MINE.volume)
    frames = [AseAtomsAdaptor.get_atoms(structure) for structure in (MINE, larger)]
    frames[0].write(place / "mine" / "two.extxyz")
    frames[1].write(place / "mine" / "two.extxyz", append=True)
    (place / "mine" / "notes.txt").write_text("not a crystal")
    (place / "mine" / ".hidden.cif").write_text("nor this")
    return place


def test_files_and_folders_are_read_and_labelled_as_the_campaign_names_them(crystals):
    known = read_known(spec_with("mine", "a.cif", str(crystals / "a.cif")), crystals)
    labels = ["mine/POSCAR", "mine/two.extxyz", "mine/two.extxyz#2", "a.cif", str(crystals / "a.cif")]
    assert [label for label, _ in known] == labels
    assert all(structure.composition.as_dict() == {"Mg": 2, "O": 2} for _, structure in known)  # no oxidation states


def test_a_data_set_as_data_add_writes_it_is_read_crystal_by_crystal(crystals):
    plain = MINE.copy().remove_oxidation_states()
    larger = plain.copy().scale_lattice(1.3 * plain.volume)
    entries = tuple(Entry(f"my label {n}", structure, "p") for n, structure in enumerate((plain, larger)))
    Dataset("mine", entries).write(crystals / "mine" / "set.extxyz.gz")
    Dataset("mine", entries).write(crystals / "set.extxyz")
    known = read_known(spec_with("mine/set.extxyz.gz", "set.extxyz"), crystals)
    labels = ["mine/set.extxyz.gz", "mine/set.extxyz.gz#2", "set.extxyz", "set.extxyz#2"]
    assert [label for label, _ in known] == labels
    assert [round(s.volume, 3) for _, s in known] == [round(s.volume, 3) for s in (plain, larger)] * 2
    assert "mine/set.extxyz.gz#2" in [label for label, _ in read_known(spec_with("mine"), crystals)]
    (crystals / "torn.extxyz.gz").write_bytes((crystals / "mine" / "set.extxyz.gz").read_bytes()[:-9])
    with pytest.raises(KnownFilesError, match="can't be read as a crystal"):
        read_known(spec_with("torn.extxyz.gz"), crystals)


def test_what_is_stored_reads_back_and_does_not_depend_on_the_place(crystals, tmp_path):
    spec = spec_with("mine", "a.cif")
    data = to_bytes(read_known(spec, crystals))
    elsewhere = shutil.copytree(crystals, tmp_path / "deep" / "elsewhere")
    assert to_bytes(read_known(spec, elsewhere)) == data
    assert to_bytes(from_bytes(data)) == data
    MINE.copy().scale_lattice(1.01 * MINE.volume).to(str(elsewhere / "a.cif"), fmt="cif")
    assert to_bytes(read_known(spec, elsewhere)) != data


def test_everything_that_is_wrong_comes_at_once(crystals):
    (crystals / "empty").mkdir()
    (crystals / "partial.cif").write_text(PARTIAL)
    (crystals / "flat.cif").write_text(PARTIAL.replace("length_c 4", "length_c 0.001").replace("0.5\nO1", "1\nO1"))
    (crystals / "words.cif").write_text("no CIF")
    (crystals / "close.cif").write_text(PARTIAL.replace("0 0 0 0.5", "0.5 0.5 0.4 1"))
    names = ["a.cif", "partial.cif", "flat.cif", "words.cif", "close.cif", "gone.cif", "empty", "mine/notes.txt"]
    with pytest.raises(KnownFilesError) as caught:
        read_known(spec_with(*names), crystals)
    found = caught.value.problems
    assert [(problem.key, problem.value) for problem in found] == [(f"known[{i}]", names[i]) for i in range(1, 8)]
    words = [
        "partially occupied",
        "below threshold",
        "can't be read",
        "apart",
        "no such file",
        "no crystal files",
        "not known",
    ]
    for problem, word in zip(found, words, strict=True):
        assert word in problem.message
        assert str(crystals / "partial.cif") not in problem.message


def test_a_bad_file_in_a_folder_is_named(crystals):
    (crystals / "mine" / "z.cif").write_text(PARTIAL)
    with pytest.raises(KnownFilesError) as caught:
        read_known(spec_with("mine"), crystals)
    assert [(problem.key, problem.value) for problem in caught.value.problems] == [("known[0]", "mine/z.cif")]


def test_a_candidate_that_equals_ones_own_crystal_is_screened_out(crystals):
    spec = spec_with("a.cif")
    known = KnownStructures((f"known {label}", structure) for label, structure in read_known(spec, crystals))
    turned = MINE.copy()
    turned.remove_oxidation_states()
    turned.translate_sites(range(len(turned)), [0.1, 0.2, 0.3])
    rocksalt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.2), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])

    def candidate(index, structure):
        return Candidate(
            candidate=f"own-r01-{index:04d}",
            campaign="own",
            round=1,
            index=index,
            generator="random",
            generator_version="1",
            generator_state="0",
            seed=index,
            condition={},
            structure=structure.as_dict(),
            formula="MgO",
            n_atoms=len(structure),
        )

    batch = [candidate(0, turned), candidate(1, rocksalt)]
    (_, mine), (_, other) = screen_all(batch, [], known, spec)
    assert (mine.valid, mine.passed, mine.known_as) == (True, False, "known a.cif")
    assert (other.valid, other.passed, other.known_as) == (True, True, None)


def test_launch_keeps_the_crystals_and_refuses_the_name_when_they_change(store, crystals, tmp_path):
    spec = spec_with("a.cif")
    assert launch(spec, crystals, store=store).created
    stored = store.database.campaigns.find_one({"name": "own"})["known"]
    assert stored["n"] == 1
    assert store.files.get_bytes(stored["sha256"]) == to_bytes(read_known(spec, crystals))
    known = known_structures_of(store.database, store.files, spec)
    plain = MINE.copy().remove_oxidation_states()
    assert known.match(plain) == "known a.cif"
    assert known.match(dict(polymorphs())["literature/zincblende-AlN"]) == "literature/zincblende-AlN"
    assert not launch(spec, crystals, store=store).created

    other = tmp_path / "other"
    other.mkdir()
    MINE.copy().scale_lattice(1.1 * MINE.volume).to(str(other / "a.cif"), fmt="cif")
    with pytest.raises(LaunchRefusedError, match="other crystals"):
        launch(spec, crystals, store=store, base=other)
    (other / "a.cif").unlink()
    with pytest.raises(LaunchRefusedError, match="no such file"):
        launch(spec, tmp_path / "new", store=store, base=other)
    assert not (tmp_path / "new").exists()
