from __future__ import annotations

import pytest
from pymatgen.core import Lattice, Structure

from generators.evaluation import store as module
from generators.evaluation.store import Protocol, Store, content_key, numbers, relaxations

FCC = [[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]]
QUICK = Protocol(max_steps=3)


def rocksalt(edge: float, a: str = "Mg", b: str = "O") -> Structure:
    return Structure(Lattice([[edge * x for x in row] for row in FCC]), [a, b], [[0, 0, 0], [0.5, 0.5, 0.5]])


def test_what_is_relaxed_once_is_not_relaxed_again(tmp_path, monkeypatch):
    structures = [rocksalt(4.2), rocksalt(4.4), rocksalt(4.2)]
    first = relaxations(structures, Store(tmp_path), QUICK)
    assert first[0].energy_ev_per_atom == first[2].energy_ev_per_atom
    assert first[0].cpu_s > 0

    asked = []
    real = module.relax

    def counted(missing, **options):
        asked.extend(missing)
        return real(missing, **options)

    monkeypatch.setattr(module, "relax", counted)
    again = relaxations(structures, Store(tmp_path), QUICK)
    assert not asked
    assert [o.energy_ev_per_atom for o in again] == [o.energy_ev_per_atom for o in first]
    assert [o.structure for o in again] == [o.structure for o in first]


def test_a_killed_run_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    structures = [rocksalt(4.1), rocksalt(4.3), rocksalt(4.5)]
    relaxations(structures, Store(tmp_path), QUICK)
    path = tmp_path / "results.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], lines[1][: len(lines[1]) // 2]]))  # the kill cut the second line off
    asked = []
    real = module.relax

    def counted(missing, **options):
        asked.extend(missing)
        return real(missing, **options)

    monkeypatch.setattr(module, "relax", counted)
    relaxations(structures, Store(tmp_path), QUICK)
    assert len(asked) == 2
    # What was added after the cut line is whole: a third run finds everything.
    relaxations(structures, Store(tmp_path), QUICK)
    assert len(asked) == 2


def test_other_limits_are_other_relaxations(tmp_path):
    store = Store(tmp_path)
    relaxations([rocksalt(4.6)], store, Protocol(max_steps=0))
    before = len(store)
    relaxations([rocksalt(4.6)], store, Protocol(max_steps=1))
    assert len(store) == before + 1


def test_numbers_are_asked_for_once_and_none_is_an_answer(tmp_path):
    asked: list[int] = []

    def ask(missing):
        asked.append(len(missing))
        return [None if s.lattice.a > 3 else 1.5 for s in missing]

    structures = [rocksalt(4.2), rocksalt(4.4)]
    found = numbers(structures, Store(tmp_path), "a", ask)
    assert numbers(structures, Store(tmp_path), "a", ask) == found == [1.5, None]
    assert asked == [2]
    numbers(structures, Store(tmp_path), "b", ask)
    assert asked == [2, 2]


@pytest.mark.parametrize("other", [rocksalt(4.2001), rocksalt(4.2, "Ca"), rocksalt(4.2, "O", "Mg")])
def test_content_key_tells_crystals_apart(other):
    assert content_key(other) != content_key(rocksalt(4.2))
    assert content_key(rocksalt(4.2)) == content_key(rocksalt(4.2 + 1e-9))
