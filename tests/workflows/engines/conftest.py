"""Crystals, and a way to run a flow as a worker would: through a JobStore with an additional store."""

from __future__ import annotations

import warnings

import pytest
from jobflow import Flow, JobStore, run_locally
from maggma.stores import MemoryStore
from pymatgen.core import Lattice, Structure


@pytest.fixture(scope="session")
def crystals():
    rocksalt = Structure.from_spacegroup("Fm-3m", Lattice.cubic(4.26), ["Mg", "O"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    diamond = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.46), ["Si"], [[0, 0, 0]])
    perovskite = Structure.from_spacegroup(
        "Pm-3m", Lattice.cubic(4.03), ["Ba", "Ti", "O"], [[0, 0, 0], [0.5, 0.5, 0.5], [0.5, 0.5, 0]]
    )
    wurtzite = Structure.from_spacegroup(
        "P6_3mc", Lattice.hexagonal(3.13, 5.02), ["Al", "N"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.381]]
    )
    return {
        "MgO": rocksalt.get_primitive_structure(),
        "Si": diamond.get_primitive_structure(),
        "BaTiO3": perovskite,
        "AlN": wurtzite,
    }


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run a job or flow in a directory of its own; returns the output of its end, as stored."""
    monkeypatch.chdir(tmp_path)

    def _run(flow):
        store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
        store.connect()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            run_locally(flow, store=store, log=False, ensure_success=True)
        uuid = flow.output.uuid if isinstance(flow, Flow) else flow.uuid
        return store.get_output(uuid, load=True)

    return _run
