"""Logs of labels: what is there is not made again, and what is not asked for stays out."""

from __future__ import annotations

import json

import pytest
from pymatgen.core import Lattice, Structure

from generators.data.labelling import labelled, read_labels
from generators.data.labels import Label

ROCKSALT = Lattice([[0, 2.1, 2.1], [2.1, 0, 2.1], [2.1, 2.1, 0]])


@pytest.fixture
def wanted():
    return {f"{a}O": Structure(ROCKSALT, [a, "O"], [[0, 0, 0], [0.5, 0.5, 0.5]]) for a in ("Mg", "Mn", "Ni")}


def line(name, structure):
    label = Label(name, structure.as_dict(), -6.0, 150.0, converged=True, volume_change=0.0, error=None)
    return json.dumps(label.as_dict()) + "\n"


def test_a_finished_log_gives_its_labels_in_the_order_asked_for(wanted, tmp_path):
    log, told = tmp_path / "labels.jsonl", []
    log.write_text("".join(line(name, wanted[name]) for name in ("NiO", "MgO", "MnO")))
    before = log.read_bytes()
    found = labelled(wanted, log, on_progress=lambda done, total: told.append((done, total)))
    assert list(found) == list(wanted)
    assert told == [(3, 3)]
    assert log.read_bytes() == before


def test_two_processes_make_what_is_missing_and_what_nobody_asked_for_stays_out(wanted, tmp_path):
    log, told = tmp_path / "labels.jsonl", []
    log.write_text(line("FeO", wanted["MgO"]) + line("MgO", wanted["MgO"]) + line("NiO", wanted["NiO"])[:50])
    found = labelled(wanted, log, processes=2, on_progress=lambda done, total: told.append((done, total)))
    assert list(found) == ["MgO", "MnO", "NiO"]
    assert found["MgO"].energy_ev_per_atom == -6.0
    assert all(found[name].energy_ev_per_atom != -6.0 for name in ("MnO", "NiO"))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert [label.label for label in read_labels(log)][:2] == ["FeO", "MgO"]
    assert {label.label for label in read_labels(log)} == {"FeO", "MgO", "MnO", "NiO"}
