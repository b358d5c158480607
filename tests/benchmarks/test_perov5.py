"""The Perov-5 benchmark on cases made by hand; matminer is stood in for by a package of the test's own."""

from __future__ import annotations

import json
import stat
import sys
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from benchmarks.perov5 import worker
from benchmarks.perov5.__main__ import main
from benchmarks.perov5.coverage import COMPOSITION_CUTOFF, STRUCTURE_CUTOFF, Fingerprint, coverage, distance, scaled
from benchmarks.perov5.crystals import condition_of, load_sets, write_table
from benchmarks.perov5.environment import Fingerprints, fingerprint, key_of
from benchmarks.perov5.generation import copies, sampled
from benchmarks.perov5.published import ROWS
from benchmarks.perov5.report import markdown
from benchmarks.perov5.surrogate import _Hurdle, features_of
from benchmarks.perov5.targets import centres, met
from benchmarks.perov5.validity import composition_valid, structure_valid
from generators.base import Sample
from generators.data.dataset import Dataset, Entry

SITES = [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]
CATIONS = ("Ca", "Sr", "Ba", "Ti", "Zr", "Hf", "Sn")


def perovskite(a, b, x="O", edge=4.0):
    return Structure(Lattice.cubic(edge), [a, b, x, x, x], SITES)


@pytest.mark.parametrize(
    ("species", "valid"),
    [
        (["Sr", "Ti", "O", "O", "O"], True),
        (["Mg", "Al", "Ti", "Ti", "Ti"], True),  # an alloy passes, whatever its charges
        (["Cs"], True),
        (["Ca", "Ca", "O", "O"], True),
        (["Mg", "Mg", "Mg", "Mg", "F"], False),
        (["K", "Ca", "F", "F", "F"], True),
        (["Ba", "Ba", "F", "F", "F"], False),  # both would have to be +3/2: an element has one state
        (["O", "F"], True),  # O +1 is in the list, and F is more electronegative
        (["N", "N", "N", "Cl"], False),  # Cl +3 and N -1 would balance, but Cl is the more electronegative
        (["Cl", "Cl", "F", "F", "F"], False),
        (["Al", "Sc", "F", "F", "F"], True),
    ],
)
def test_compositions(species, valid):
    structure = Structure(Lattice.cubic(9), species, [[i / 10, 0, 0] for i in range(len(species))])
    assert composition_valid(structure) == valid


def test_structures():
    assert structure_valid(perovskite("Sr", "Ti"))
    near = Structure(Lattice.cubic(4), ["Sr", "Ti"], [[0, 0, 0], [0.1249, 0, 0]])
    assert not structure_valid(near)  # 0.4996 Å
    assert structure_valid(Structure(Lattice.cubic(4), ["Sr", "Ti"], [[0, 0, 0], [0.1251, 0, 0]]))
    across = Structure(Lattice.cubic(4), ["Sr", "Ti"], [[0.01, 0, 0], [0.99, 0, 0]])
    assert not structure_valid(across)  # through the face of the cell
    assert not structure_valid(Structure(Lattice.cubic(0.4), ["Sr"], [[0, 0, 0]]))


MEAN = np.array(json.loads(Path(worker.__file__).with_name("scaler.json").read_text())["means"])


def one(structure, composition):
    """A fingerprint that lies ``composition`` standard deviations of the first feature from the mean."""
    scale = 1 / (scaled([MEAN + np.eye(132)[0]])[0, 0])
    return Fingerprint([structure] + [0.0] * 60, (MEAN + composition * scale * np.eye(132)[0]).tolist())


def test_coverage_counts_both_ways():
    reference = [one(0.0, 0.0), one(1.0, 0.0), one(2.0, 100.0), one(3.0, 0.0)]
    samples = [one(0.1, 0.0), one(0.0, 1.0), one(2.0, 50.0)]
    found = coverage(samples, reference)
    # only the first is near in both; the third is near in structure alone, the others have nothing near
    assert found.recall == pytest.approx(1 / 4)
    assert found.precision == pytest.approx(2 / 3)
    assert found.structure_recall_distance == pytest.approx((0 + 0.9 + 0 + 1.0) / 4)
    assert found.structure_precision_distance == pytest.approx((0.1 + 0 + 0) / 3)
    assert found.composition_precision_distance == pytest.approx((0 + 1 + 50) / 3)


@pytest.mark.parametrize("step", [0.999, 1.001])
def test_cutoffs(step):
    near = coverage([one(step * STRUCTURE_CUTOFF, 0.0)], [one(0.0, 0.0)])
    assert near.recall == near.precision == float(step < 1)
    near = coverage([one(0.0, step * COMPOSITION_CUTOFF)], [one(0.0, 0.0)])
    assert near.recall == near.precision == float(step < 1)


def test_a_sample_without_fingerprint_counts_as_not_covered():
    found = coverage([one(0.0, 0.0), Fingerprint(None, None)], [one(0.0, 0.0)])
    assert (found.recall, found.precision) == (1.0, 0.5)
    with pytest.raises(ValueError, match="nothing to compare"):
        coverage([Fingerprint(None, None)], [one(0.0, 0.0)])


def test_what_a_feature_lacks_becomes_the_mean():
    assert scaled([[np.nan] * 132]).tolist() == [[0.0] * 132]
    assert np.abs(scaled([MEAN])).max() < 1e-9


def test_distances_are_those_of_distributions():
    assert distance([1, 2, 3], [3, 2, 1]) == 0
    assert distance([0, 0], [1, 3]) == pytest.approx(2)


def test_published_rows_are_percentages_and_distances():
    assert [row.method for row in ROWS][-2:] == ["CDVAE", "DiffCSP"]
    assert all(0 <= share <= 100 for row in ROWS for share in row[1:5])


def test_a_target_is_met_by_those_inside_and_what_has_no_prediction_misses():
    assert met(np.array([1.0, 1.1, 2.0, np.nan]), 1.0, 0.2) == {"mae": 0.3667, "hit": 0.5, "predicted": 0.75}
    assert met(np.array([np.nan]), 1.0, 0.2) == {"mae": None, "hit": 0.0, "predicted": 0.0}


def crystals():
    """Make perovskites whose heat of formation depends on which cation is in the middle."""
    made = []
    for a, b in permutations(CATIONS, 2):
        structure = perovskite(a, b, edge=4.0 + 0.01 * CATIONS.index(a))
        heat = round(0.2 * (CATIONS.index(a) - CATIONS.index(b)), 3)
        gap = 2.0 + 0.1 * CATIONS.index(a) if CATIONS.index(a) < CATIONS.index(b) else 0.0
        properties = {"heat_of_formation": heat, "band_gap": gap}
        made.append(Entry(f"{a}{b}O3", structure, "p", properties=properties))
    return Dataset("made", tuple(made))


STAND_IN = {
    "matminer/__init__.py": "",
    "matminer/featurizers/__init__.py": "",
    "matminer/featurizers/site/__init__.py": "",
    "matminer/featurizers/composition/__init__.py": "",
    "matminer/featurizers/site/fingerprint.py": """
class CrystalNNFingerprint:
    @classmethod
    def from_preset(cls, name):
        assert name == "ops"
        return cls()
    def featurize(self, structure, i):
        near = sorted(n.nn_distance for n in structure.get_neighbors(structure[i], 9.0))[:61]
        assert len(near) == 61, "too few neighbours"
        return [1 / d for d in near]
""",
    "matminer/featurizers/composition/composite.py": """
class ElementProperty:
    @classmethod
    def from_preset(cls, name):
        assert name == "magpie"
        return cls()
    def featurize(self, composition):
        numbers = sorted(e.Z for e in composition)
        return [float(numbers[0]), float(numbers[-1]), float("nan")] + [float(sum(numbers))] * 129
""",
    "matminer-0.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: matminer\nVersion: 0.0\n",
}


@pytest.fixture
def python(tmp_path):
    """Give an interpreter that has the stand-in for matminer."""
    folder = tmp_path / "packages"
    for name, text in STAND_IN.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\nPYTHONPATH="{folder}" exec "{sys.executable}" "$@"\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return script


def test_fingerprints_are_kept_and_a_cut_line_is_made_again(tmp_path, python):
    structures = [perovskite("Sr", "Ti"), perovskite("Ca", "Zr"), Structure(Lattice.cubic(30), ["He"], [[0, 0, 0]])]
    rows = Fingerprints(tmp_path / "place", processes=2, python=python).of(structures)
    assert rows[0]["key"] == key_of(structures[0])
    assert len(rows[0]["composition"]) == 132
    assert np.shape(rows[1]["sites"]) == (5, 61)
    assert rows[2]["sites"] is None
    assert "too few neighbours" in rows[2]["error"]
    assert fingerprint(rows[2]) == Fingerprint(None, None)
    assert np.isnan(fingerprint(rows[0]).composition[2])
    assert np.isnan(features_of(structures[2], rows[2])).all()
    assert np.isfinite(features_of(structures[0], rows[0])).sum() == 131 + 61 * 9 + 1
    for path in (tmp_path / "place" / "fingerprints").glob("*.jsonl"):
        path.write_text(path.read_text()[:-20])
    again = Fingerprints(tmp_path / "place", processes=2, python=python).of(structures)
    assert again == rows


def test_a_crystal_keeps_its_name_when_it_is_written_and_read(tmp_path):
    """Else a run that goes on would compute all fingerprints again."""
    turned = Lattice.from_parameters(4.1, 4.2, 4.3, 88.0, 91.0, 93.0)
    coords = [[-1e-9, 0, 1 - 1e-9], *SITES[1:]]
    structure = Structure(turned, ["Sr", "Ti", "O", "O", "O"], coords)
    Dataset("one", (Entry("one", structure, "p"),)).write(tmp_path / "one.extxyz")
    assert key_of(Dataset.read(tmp_path / "one.extxyz").entries[0].structure) == key_of(structure)
    structure.translate_sites([1], [0, 0, 0.01])
    assert key_of(Dataset.read(tmp_path / "one.extxyz").entries[0].structure) != key_of(structure)


def test_features_tell_which_cation_is_where(tmp_path, python):
    one_way, other = perovskite("Ba", "Ti"), perovskite("Ti", "Ba")
    rows = Fingerprints(tmp_path, python=python).of([one_way, other])
    a, b = (features_of(s, row) for s, row in zip((one_way, other), rows, strict=True))
    assert np.allclose(np.nan_to_num(a[: 132 + 61]), np.nan_to_num(b[: 132 + 61]))
    assert np.abs(a - b)[132 + 61 :].max() > 0.01


def test_the_surrogate_learns_a_number_and_a_mostly_zero_one():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 6))
    gap = np.where(features[:, 0] > 1.0, 2.0 + features[:, 1], 0.0)
    heat = 3.0 * features[:, 2]
    for values in (gap, heat):
        predicted = _Hurdle(0).fit(features[:300], values[:300]).predict(features[300:])
        off = np.abs(predicted - values[300:]).mean()
        assert off < 0.35 * np.abs(values[300:] - np.median(values)).mean()
    assert (predicted != 0).all()
    assert (_Hurdle(0).fit(features, gap).predict(features) == 0).mean() > 0.7


def test_sets_have_no_system_in_common(tmp_path):
    write_table(tmp_path / "train.csv.gz", crystals())
    sets = load_sets(tmp_path / "train.csv.gz", None, tmp_path / "place")
    systems = [{e.chemistry for e in part.entries} for part in sets[:3]]
    assert sum(map(len, systems)) == len(set().union(*systems))
    assert sum(map(len, sets[:3])) == len(crystals()) == 42
    assert sets.unseen.entries == sets.reference.entries
    again = load_sets(tmp_path / "train.csv.gz", None, tmp_path / "place")
    assert [e.label for e in again.training.entries] == [e.label for e in sets.training.entries]
    condition = condition_of(sets.training)
    assert (condition.min_elements, condition.max_elements, condition.max_atoms) == (3, 3, 5)
    assert set(condition.chemical_systems) == {tuple(sorted(s.split("-"))) for s in systems[0]}
    write_table(tmp_path / "other.csv.gz", Dataset("other", crystals().entries[:9]))
    with pytest.raises(ValueError, match="another table"):
        load_sets(tmp_path / "other.csv.gz", None, tmp_path / "place")


def test_a_test_set_is_halved_for_the_surrogate(tmp_path):
    made = crystals().entries
    write_table(tmp_path / "train.csv", Dataset("train", made[:12]))
    write_table(tmp_path / "test.csv", Dataset("test", made[12:]))
    sets = load_sets(tmp_path / "train.csv", tmp_path / "test.csv", tmp_path / "place")
    assert (len(sets.training), len(sets.reference)) == (12, 30)
    assert 0 < len(sets.judging) < 30
    assert len(sets.unseen) == 30 - len(sets.judging)
    assert not {e.chemistry for e in sets.unseen.entries} & {e.chemistry for e in sets.judging.entries}


def test_targets_are_put_at_values_that_occur():
    heats = centres(crystals(), "heat_of_formation")
    assert heats == sorted(heats)
    assert -1.2 <= heats[0] < 0 < heats[-1] <= 1.2
    assert all(gap >= 2.0 for gap in centres(crystals(), "band_gap"))


class Counting:
    """Counts what it was asked for; every crystal is another."""

    def __init__(self):
        self.asked = []

    def sample(self, n, condition, seed, start=0):  # noqa: ARG002 - the protocol's
        for index in range(start, n):
            self.asked.append(index)
            yield Sample(index, perovskite("Sr", "Ti", edge=4 + index / 100), seed, "counting", "1")


def test_samples_go_on_where_they_stopped(tmp_path):
    generator, path = Counting(), tmp_path / "samples.jsonl"
    sampled(generator, 3, condition_of(crystals()), 1, path)
    path.write_text(path.read_text()[:-30])
    made = sampled(generator, 4, condition_of(crystals()), 1, path)
    assert generator.asked == [0, 1, 2, 2, 3]
    assert [round(s.lattice.a, 2) for s in made] == [4.0, 4.01, 4.02, 4.03]
    assert len(sampled(generator, 4, condition_of(crystals()), 1, path)) == 4
    assert generator.asked == [0, 1, 2, 2, 3]


@pytest.mark.parametrize(("mae", "weak"), [(0.1, False), (0.65, True), (None, True)])
def test_the_page_says_when_the_surrogate_is_no_judge(mae, weak):
    errors = {"mae": mae, "mae_of_the_median": 0.7, "crystals": 9, "mae_above_zero": mae, "above_zero": 3}
    sets = {"training": 1, "systems": 1, "elements": 3, "reference": 9, "judging": 9, "reference_is_the_test_set": True}
    page = markdown({"sets": sets, "versions": {}, "generation": {}, "surrogate": {"band_gap": errors}, "targets": {}})
    assert ("knows little more than guessing" in page) == weak


def test_copies_are_of_the_training_set():
    made = copies(crystals(), 10, 0)
    assert len({s.composition.formula + str(s.lattice.a) for s in made}) == 10
    assert len(copies(crystals(), 1000, 0)) == 42


def test_from_a_table_to_a_page(tmp_path, python):
    write_table(tmp_path / "train.csv.gz", crystals())
    place, page = tmp_path / "place", tmp_path / "perov5.md"
    arguments = ["--data", tmp_path / "train.csv.gz", "--place", place, "--only", "random", "--samples", 4]
    arguments = [str(a) for a in [*arguments, "--target-samples", 2, "--python", python, "--docs", page]]
    main(arguments)
    results = json.loads((place / "results.json").read_text())
    itself = results["generation"]["training set"]
    assert itself["known"] == itself["unique"] == itself["valid"] == 1.0
    assert itself["elements"] == 0
    assert itself["structures"] == 1.0
    made = results["generation"]["random"]
    assert made["n"] == 4
    assert made["trained_on"] == 0
    assert 0 <= made["coverage_precision"] <= 1
    judge = results["surrogate"]["heat_of_formation"]
    assert judge["crystals"] > 0
    asked = results["targets"]["random"]["heat_of_formation"]
    assert asked["conditions_on"] is False
    assert asked["mean"]["conditioned"] is None
    assert asked["mean"]["free"]["mae"] > 0
    text = page.read_text()
    assert "| CDVAE (published) | 11356 | 10000 | 100.00 | 98.59 | 99.45 | 98.46 | 0.1258 | 0.0264 | 0.0628 |" in text
    assert "| random | - | 4 |" in text
    assert "matminer 0.0" in text
    before = (place / "random" / "samples.jsonl").read_bytes()
    main(arguments)  # nothing is drawn again
    assert (place / "random" / "samples.jsonl").read_bytes() == before
    assert json.loads((place / "results.json").read_text())["generation"]["random"]["coverage_recall"] == pytest.approx(
        made["coverage_recall"]
    )
