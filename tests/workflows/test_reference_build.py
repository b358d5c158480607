from __future__ import annotations

import warnings

import pytest
from pymatgen.core import Lattice, Structure

from generators.crystals.neutrality import neutral
from generators.relaxer import evaluate
from workflows.causes import CausedError
from workflows.engines.base import Result
from workflows.reference import hull, load_reference
from workflows.reference_build import build, build_subsystem
from workflows.reference_proposals import MAX_GAP, Limits, enumerate_subsystem, polymorphs, widest_gap

SMALL = Limits(any_atoms=2, neutral_atoms=3, known_atoms=2, first_look=4, first_window=5.0, window=1.0, hull_window=1.0)


class SinglePoints:
    """An engine that is quick: CHGNet's energy of what it is given; stops or fails when told."""

    reference_key = "test:single-points"

    def __init__(self, stop_after=None, fail=()):
        self.seen = []
        self.stop_after = stop_after
        self.fail = fail

    def settings(self):
        return {"engine": "test"}

    def relax_now(self, structure):
        if len(self.seen) == self.stop_after:
            raise KeyboardInterrupt
        self.seen.append(structure.composition.reduced_formula)
        if self.seen[-1] in self.fail:
            raise CausedError(601, "made for a test")
        (point,) = evaluate([structure])
        return Result(structure, point.evaluation.energy_ev_per_atom, converged=True)


@pytest.fixture(autouse=True)
def _quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def test_enumeration_is_deterministic_and_exact():
    once, twice = enumerate_subsystem(("O", "Mg")), enumerate_subsystem(["Mg", "O", "O"])
    assert [p.id for p in once] == [p.id for p in twice] == sorted(p.id for p in once)
    assert all(a.structure == b.structure for a, b in zip(once, twice, strict=True))
    assert {tuple(sorted(e.symbol for e in p.structure.composition.elements)) for p in once} == {("Mg", "O")}


def test_large_substitutions_are_neutral_and_small_ones_need_not_be():
    proposals = [p for p in enumerate_subsystem(("Mg", "O", "Si")) if p.source.kind == "substituted"]
    large = {p.structure.composition.reduced_formula for p in proposals if len(p.structure) > 8}
    small = {p.structure.composition.reduced_formula for p in proposals if len(p.structure) <= 8}
    assert "Mg2SiO4" in large  # spinel
    assert all(neutral(formula, "strict") for formula in large)
    assert not all(neutral(formula, "strict") for formula in small)
    assert max(len(p.structure) for p in proposals) <= 16


@pytest.mark.parametrize(
    ("elements", "formula", "coordination"),
    [
        (("N", "Si"), "Si3N4", {"Si": {"N": 4}}),
        (("Mg", "O", "Si"), "Mg2SiO4", {"Si": {"O": 4}, "Mg": {"O": 6}}),
        (("Mg", "N"), "Mg3N2", {"Mg": {"N": 4}, "N": {"Mg": 6}}),
        (("Mg", "N", "Si"), "MgSiN2", {"Mg": {"N": 4}, "Si": {"N": 4}}),
        (("N", "O", "Si"), "Si2N2O", {"Si": {"N": 3, "O": 1}, "O": {"Si": 2}}),
        (("Mg", "O"), "MgO2", {"Mg": {"O": 6}}),
    ],
)
def test_literature_phases_are_the_crystals_they_are_named_after(elements, formula, coordination):
    from collections import Counter

    (phase,) = (p for p in enumerate_subsystem(elements) if p.source.prototype.startswith("literature/"))
    assert phase.structure.composition.reduced_formula == formula
    for site, neighbours in zip(phase.structure, phase.structure.get_all_neighbors(2.35), strict=True):
        expected = coordination.get(site.specie.symbol)
        if expected:
            assert Counter(n.specie.symbol for n in neighbours) == expected


def test_metastable_polymorphs_are_the_crystals_they_are_named_after():
    from collections import Counter

    # coordination of cations by anions, in Å from the papers: 1.90, 2.02, 1.83 and 1.87, 1.78, 1.66 and 2.07
    expected = {
        "zincblende-AlN": ("AlN", {"Al": {4}}),
        "rocksalt-AlN": ("AlN", {"Al": {6}}),
        "spinel-Si3N4": ("Si3N4", {"Si": {4, 6}}),
        "stishovite-SiO2": ("SiO2", {"Si": {6}}),
        "ringwoodite-Mg2SiO4": ("Mg2SiO4", {"Mg": {6}, "Si": {4}}),
    }
    found = {name.removeprefix("literature/"): structure for name, structure in polymorphs()}
    assert found.keys() == expected.keys()
    for name, (formula, coordination) in expected.items():
        structure = found[name]
        assert structure.composition.reduced_formula == formula
        anion = "N" if "N" in formula else "O"
        seen: dict[str, set[int]] = {symbol: set() for symbol in coordination}
        for site, neighbours in zip(structure, structure.get_all_neighbors(2.3), strict=True):
            if site.specie.symbol in seen:
                counted = Counter(n.specie.symbol for n in neighbours)
                seen[site.specie.symbol].add(counted[anion])
        assert seen == coordination


def test_an_interrupted_build_goes_on_where_it_stopped(tmp_path):
    whole = build_subsystem(SinglePoints(), ("Al", "Mg"), limits=SMALL)
    assert whole.relaxed == len(whole.entries) >= 2
    with pytest.raises(KeyboardInterrupt):
        build_subsystem(SinglePoints(stop_after=1), ("Al", "Mg"), limits=SMALL, checkpoints=tmp_path)
    (checkpoint,) = tmp_path.iterdir()
    with checkpoint.open("a") as stream:
        stream.write('{"stage": "relaxed", "id": "cut sh')  # as a crash leaves it
    engine, told = SinglePoints(), []
    again = build_subsystem(
        engine, ("Al", "Mg"), limits=SMALL, checkpoints=tmp_path, progress=lambda *what: told.append(what)
    )
    assert again == whole
    assert len(engine.seen) == whole.relaxed - 1
    assert told[-1] == ("Al-Mg relaxing", whole.relaxed, whole.relaxed)
    third = SinglePoints()
    assert build_subsystem(third, ("Al", "Mg"), limits=SMALL, checkpoints=tmp_path) == whole
    assert third.seen == []


def test_one_failure_is_recorded_and_stops_nothing():
    part = build_subsystem(SinglePoints(fail=("MgO",)), ("Mg", "O"), limits=SMALL)
    assert part.failures
    assert all("601" in failure for failure in part.failures)
    assert len(part.entries) == part.relaxed - len(part.failures)


def test_build_completes_only_what_is_missing(tmp_path):
    engine = SinglePoints()
    first = build(engine, [("Mg",)], tmp_path, limits=SMALL)
    calls, told = len(engine.seen), []
    second = build(engine, [("Mg", "O")], tmp_path, limits=SMALL, progress=lambda *what: told.append(what))
    assert set(second.subsystems) == {"Mg", "O", "Mg-O"}
    assert second.subsystems["Mg"] == first.subsystems["Mg"]
    assert [what[0] for what in told if what[0].endswith("done")] == ["O done", "Mg-O done"]
    assert engine.seen[calls:].count("Mg") == 0
    assert load_reference(engine.reference_key, [tmp_path]) == second
    assert second.settings == {"engine": "test"}
    assert set(build(engine, [("Mg",)], tmp_path / "new", fresh=True, limits=SMALL).subsystems) == {"Mg"}
    assert "MgO" in {e.composition.reduced_formula for e in hull(second, ("Mg", "O")).stable_entries}


def test_subsystems_are_built_side_by_side(tmp_path, monkeypatch):
    from workflows.engines.mlip import MlipEngine

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    engine = MlipEngine("fast", "chgnet-0.3.0")
    both = build(engine, [("Al",), ("Mg",)], tmp_path / "two", processes=2, limits=SMALL)
    assert both.missing([("Al",), ("Mg",)]) == []
    alone = build(engine, [("Mg",)], tmp_path / "one", limits=SMALL)
    assert [e.id for e in both.entries(("Mg",))] == [e.id for e in alone.entries(("Mg",))]
    for ours, theirs in zip(both.entries(("Mg",)), alone.entries(("Mg",)), strict=True):
        assert ours.energy_ev_per_atom == pytest.approx(theirs.energy_ev_per_atom, abs=1e-3)


def test_layers_in_vacuum_are_no_competing_phases():
    layer = Structure(Lattice.orthorhombic(3.3, 30.0, 4.6), ["P"] * 2, [[0, 0.49, 0], [0.5, 0.51, 0.5]])
    assert widest_gap(layer) > 20
    shifted = layer.copy()
    shifted.translate_sites([0, 1], [0.3, 0.5, 0.1])
    assert widest_gap(shifted) == pytest.approx(widest_gap(layer))
    assert all(widest_gap(p.structure) <= MAX_GAP for p in enumerate_subsystem(("P",)))
