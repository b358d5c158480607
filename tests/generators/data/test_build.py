"""Builds of the first three known crystals: the labels are CHGNet's, nothing is made up."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from generators.data.build import Progress, assemble, build, entry_of
from generators.data.dataset import Dataset, Entry
from generators.data.gate import Rejected, sort_of
from generators.data.labelling import read_labels
from generators.data.labels import Label
from generators.data.proposals import Amounts, Proposal

AMOUNTS = Amounts(exchange=0, alloy=0, blind=0, blind_alloy=0, random=0, random_alloy=0)
LIMIT = 3


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("built")
    told = []
    dataset, rejected = build(folder, AMOUNTS, limit=LIMIT, on_progress=told.append)
    return folder, dataset, rejected, told


def test_a_build_keeps_every_label_and_tells_how_far_it_is(built):
    folder, dataset, rejected, told = built
    assert len(dataset) + len(rejected) == LIMIT
    assert [p.labelled for p in told] == [0, 1, 2, 3]
    assert all(isinstance(p, Progress) and p.total == LIMIT for p in told)
    assert [label.label for label in read_labels(folder / "labels.jsonl")] == [
        f"known aflow/{name}" for name in ("AB_hP6_154_a_b/HgS", "AB2_tI6_139_a_e/Si2Mo", "AB_oI4_44_a_b/GaAs")
    ]
    assert set(json.loads((folder / "elements.json").read_text())) == {"Hg", "S", "Si", "Mo", "Ga", "As"}


def test_the_file_and_its_card_say_what_was_built(built):
    folder, dataset, rejected, _ = built
    back = Dataset.read(folder / "crystals.extxyz.gz")
    assert [e.label for e in back.entries] == [e.label for e in dataset.entries]
    for entry in back.entries:
        assert entry.energy_ev_per_atom is not None
        assert -1.5 < entry.properties["formation_energy"] < 0.5
    card = json.loads((folder / "crystals.card.json").read_text())
    assert card["crystals"] == len(dataset) > 0
    assert sum(card["rejected"].values()) == len(rejected)
    assert card["options"] == {
        "amounts": dict.fromkeys(["exchange", "alloy", "blind", "blind_alloy", "random", "random_alloy"], 0),
        "seed": 0,
        "model": "chgnet-0.3.0",
        "format": 1,
        "limit": LIMIT,
    }
    assert card["relaxer"].startswith("chgnet ")


def test_an_interrupted_build_goes_on_to_the_same_file(built, tmp_path):
    """A kill leaves the first line whole, the second cut in the middle, and no result."""
    folder, whole, _, _ = built
    for name in ("build.json", "proposals.json", "elements.json"):
        shutil.copy(folder / name, tmp_path / name)
    lines = (folder / "labels.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "labels.jsonl").write_text(lines[0] + lines[1][:200])
    told = []
    resumed, _ = build(tmp_path, AMOUNTS, limit=LIMIT, on_progress=told.append)
    assert [p.labelled for p in told] == [1, 2, 3]
    assert [e.label for e in resumed.entries] == [e.label for e in whole.entries]
    for old, new in zip(whole.entries, resumed.entries, strict=True):
        assert new.energy_ev_per_atom == pytest.approx(old.energy_ev_per_atom, abs=1e-6)
        assert new.properties == pytest.approx(old.properties, rel=1e-4)
        assert np.allclose(new.structure.lattice.matrix, old.structure.lattice.matrix, atol=1e-5)
    # The next run finds all of them: nothing was lost to the cut line.
    told.clear()
    build(tmp_path, AMOUNTS, limit=LIMIT, on_progress=told.append)
    assert [p.labelled for p in told] == [3]


def test_a_finished_build_writes_the_same_bytes_again(built, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(built[0], folder)
    before = (folder / "crystals.extxyz.gz").read_bytes()
    (folder / "crystals.extxyz.gz").unlink()
    build(folder, AMOUNTS, limit=LIMIT)
    assert (folder / "crystals.extxyz.gz").read_bytes() == before


@pytest.mark.parametrize("other", [{"seed": 1}, {"limit": 2}, {"model": "chgnet-0.2.0"}, {"amounts": Amounts()}])
def test_a_folder_belongs_to_one_set_of_options(built, other):
    folder = built[0]
    before = (folder / "build.json").read_bytes()
    with pytest.raises(ValueError, match="other options"):
        build(folder, **{"amounts": AMOUNTS, "limit": LIMIT, **other})
    assert (folder / "build.json").read_bytes() == before


@pytest.fixture
def label(crystals):
    return Label("known MgO", crystals["MgO"].as_dict(), -6.0, 160.0, True, 0.02, None)


ENERGIES = {"Mg": -1.6, "O": -4.9}


@pytest.mark.parametrize(
    ("change", "says", "sort"),
    [
        ({"error": "atoms 0.3 Å apart, less than 0.5"}, "0.3 Å apart", "atoms too close"),
        ({"error": "isolated atoms: no neighbour within 6 Å"}, "isolated", "isolated atoms"),
        ({"converged": False}, "did not converge", "not converged"),
        ({"volume_change": 1.6}, "grew by 160 %", "fell apart"),
        ({"energy_ev_per_atom": None}, "no energy", "other"),
    ],
)
def test_what_did_not_hold_is_rejected_with_its_reason(label, change, says, sort):
    found = entry_of(replace(label, **change), "source", ENERGIES)
    assert isinstance(found, Rejected)
    assert says in found.reason
    assert sort_of(found.reason) == sort


def test_a_label_becomes_an_entry_and_other_properties_stay(label):
    found = entry_of(label, "mine", ENERGIES, {"band_gap": 4.4, "bulk_modulus": 1.0, "formation_energy": 9.0})
    assert isinstance(found, Entry)
    assert found.properties == pytest.approx({"band_gap": 4.4, "bulk_modulus": 160.0, "formation_energy": -2.75})
    assert found.prototype == "225_1a_1b"
    assert entry_of(label, "mine", {"Mg": -1.6}).properties == {"bulk_modulus": 160.0}


def test_the_order_of_the_labels_does_not_matter(crystals):
    made = {
        name: Label(name, crystals[name].as_dict(), -5.0, None, True, 0.0, None) for name in ("MgO", "Al", "SrTiO3")
    }
    twin = replace(made["MgO"], label="twin")
    wanted = [Proposal(name, "known", crystals["MgO"]) for name in ("MgO", "twin", "Al", "SrTiO3")]
    labels = [*made.values(), twin]
    first, rejected = assemble(wanted, {one.label: one for one in labels}, {})
    again, _ = assemble(wanted, {one.label: one for one in reversed(labels)}, {})
    assert [e.label for e in first.entries] == [e.label for e in again.entries] == ["MgO", "Al", "SrTiO3"]
    assert rejected == [Rejected("twin", "is the same crystal as MgO")]
