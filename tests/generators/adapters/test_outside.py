"""What the helper for foreign scripts writes is read back as it was; it needs nothing but a Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from generators.adapters import outside
from generators.adapters.manifest import parts
from generators.adapters.runs import FailedRun

edges = st.floats(2.0, 9.0)
places = st.tuples(*[st.floats(0, 1, exclude_max=True)] * 3)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.tuples(edges, edges, st.floats(-1, 1), st.lists(places, min_size=1, max_size=4)), max_size=4))
def test_crystals_are_read_as_they_were_written(tmp_path_factory, drawn):
    folder = tmp_path_factory.mktemp("out")
    crystals = [
        outside.Crystal([[a, 0, 0], [skew, b, 0], [0, skew, a]], ["Mg", "O", "Na", "Cl"][: len(xyz)], xyz)
        for a, b, skew, xyz in drawn
    ]
    writer = outside.Writer(folder, "m", "1", start=5)
    for crystal in crystals:
        writer.write([crystal])
    lines = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()] if crystals else []
    assert [line["start"] for line in lines] == [5 + k for k in range(len(crystals))]
    read = [structure for part in parts(folder, 0, 0) for structure in part.crystals]
    assert len(read) == len(crystals)
    for structure, crystal in zip(read, crystals, strict=True):
        assert [site.specie.symbol for site in structure] == list(crystal.species)
        assert np.allclose(structure.lattice.matrix, crystal.lattice, atol=1e-9)
        moved = structure.frac_coords - np.array(crystal.frac_coords)
        assert np.allclose(moved, np.round(moved), atol=1e-9)


def test_a_batch_counts_only_with_its_whole_line(tmp_path):
    writer = outside.Writer(tmp_path, "m", "1")
    writer.write([outside.Crystal([[4, 0, 0], [0, 4, 0], [0, 0, 4]], ["Na"], [[0, 0, 0]])])
    line = (tmp_path / "manifest.jsonl").read_bytes()
    for cut in range(len(line)):
        (tmp_path / "manifest.jsonl").write_bytes(line[:cut])
        assert list(parts(tmp_path, 0, None)) == []
    (tmp_path / "manifest.jsonl").write_bytes(line)
    assert len(list(parts(tmp_path, 0, None))) == 1
    assert list(parts(tmp_path, 1, None)) == []


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"n": 2}, "has 1 crystals, manifest.jsonl says 2"), ({"n": "1"}, "no n of type int"),
        ({"file": "batch-1.xyz"}, "batches are called"), ({"file": "../batch-00000.extxyz"}, "batches are called"),
        ({"file": "batch-00009.extxyz"}, "which is no file there"), ({"sha256": "0"}, "another sha256"),
        ({"model": None}, "no model of type str"),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_fit_is_refused(change, wanted, tmp_path):
    outside.Writer(tmp_path, "m", "1").write([outside.Crystal([[4, 0, 0], [0, 4, 0], [0, 0, 4]], ["Na"], [[0, 0, 0]])])
    line = json.loads((tmp_path / "manifest.jsonl").read_text())
    (tmp_path / "manifest.jsonl").write_text(json.dumps({**line, **change}) + "\n")
    with pytest.raises(FailedRun, match=wanted):
        list(parts(tmp_path, 0, None))


def test_the_helper_needs_the_standard_library_alone(tmp_path):
    (tmp_path / "outside.py").write_bytes(Path(outside.__file__).read_bytes())
    code = "import sys, outside; print({m.partition('.')[0] for m in sys.modules} - set(sys.stdlib_module_names))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, env={}, capture_output=True, text=True, check=True
    )
    assert set(eval(done.stdout)) <= {"outside", "__main__"}  # noqa: S307 - a set of names that we printed


def test_allows_is_what_a_condition_allows():
    condition = {"chemical_systems": [["Mg", "O"], ["Li", "Na", "O"]], "min_elements": 2, "max_elements": 2}
    assert outside.allows(condition, ["O", "Mg", "O"])
    assert outside.allows(condition, ["Li", "O"])
    assert not outside.allows(condition, ["Mg", "Li"])
    assert not outside.allows(condition, ["O"])
    assert not outside.allows(condition, ["Li", "Na", "O"])
