"""Results of real pw.x runs, compared with ASE's reader; geometries of runs cut off anywhere."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import ase.io
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from monty.json import MontyDecoder, MontyEncoder
from pw_runs import ENDINGS, made_once
from pymatgen.core import Structure

from dft_inputs.espresso.bands import eigenvalues, gap
from dft_inputs.espresso.diagnose import diagnose_pw
from dft_inputs.espresso.document import PwDocument
from dft_inputs.espresso.outputs import last_geometry, read_pw
from dft_inputs.espresso.pw_input import PwInput
from dft_inputs.espresso.units import BOHR_ANG
from dft_inputs.texts import Text

pytestmark = pytest.mark.xdist_group("pw-runs")


@pytest.fixture(scope="session")
def runs(tmp_path_factory, pw_x, family):
    """Give a function that makes a run once."""
    base = tmp_path_factory.getbasetemp() / "pw-runs"
    return lambda name: made_once(name, base, pw_x, family.directory)


@pytest.mark.parametrize("name", ["scf", "spin_and_smearing", "empty_bands", "relax", "wrong_and_happy"])
def test_numbers_are_those_that_ase_reads(name, runs):
    output = read_pw(runs(name), pressure_tolerance_kbar=10)
    atoms = ase.io.read(runs(name) / "pw.out", format="espresso-out")
    # ASE has constants of 2006 here: 1e-7 apart
    assert output.energy_ev == pytest.approx(atoms.get_potential_energy(), rel=2e-7)
    assert output.forces == pytest.approx(atoms.get_forces(), abs=1e-6)
    voigt = [output.stress_kbar[i, j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))]
    assert voigt == pytest.approx(-atoms.get_stress() / ase.units.GPa * 10, abs=2e-3)
    assert output.efermi_ev == pytest.approx(atoms.calc.get_fermi_level() or output.efermi_ev)
    # the header's cell has six decimals
    assert output.structure.lattice.matrix == pytest.approx(np.array(atoms.cell), abs=1e-5)
    assert output.structure.cart_coords == pytest.approx(atoms.positions, abs=1e-5)
    assert output.version.startswith("6.")
    assert output.walltime_s > 0
    assert output.completed_at is not None


def test_pressure_has_the_sign_and_the_size_that_pw_x_prints(runs):
    output = read_pw(runs("scf"))
    printed = next(line for line in (runs("scf") / "pw.out").read_text().splitlines() if "P=" in line)
    assert output.pressure_kbar == pytest.approx(float(printed.split("P=")[1]), abs=0.01)
    assert output.pressure_kbar > 50  # compressed by 3 %: positive, as VASP has it


def test_steps_of_a_relaxed_cell_and_its_final_scf(runs):
    run = runs("wrong_and_happy")
    output = read_pw(run, pressure_tolerance_kbar=10)
    text = (run / "pw.out").read_text()
    assert output.has_final_scf
    assert output.n_ionic_steps == text.count("!    total energy") - 1
    assert output.initial_structure.volume < output.structure.volume
    block = text[text.index("Begin final coordinates") :].split("CELL_PARAMETERS (angstrom)\n")[1].splitlines()[:3]
    assert output.structure.lattice.matrix.tolist() == [[float(x) for x in line.split()] for line in block]


def test_bands_and_gap(runs):
    with_empty, without = read_pw(runs("empty_bands")), read_pw(runs("scf"))
    assert without.gap is None
    assert with_empty.gap.is_direct is False
    assert 0 < with_empty.bandgap_ev < 1.5
    assert with_empty.bandgap_ev == pytest.approx(with_empty.gap.cbm_ev - with_empty.gap.vbm_ev)
    assert with_empty.efermi_ev == pytest.approx(with_empty.gap.vbm_ev, abs=1e-3)
    # nscf on the same mesh gives the same gap, and no energy
    nscf = read_pw(runs("nscf"))
    assert nscf.energy_ev is None
    assert nscf.forces is None
    assert nscf.bandgap_ev == pytest.approx(with_empty.bandgap_ev, abs=0.01)
    spins = read_pw(runs("spin_and_smearing"))
    assert spins.total_magnetization == pytest.approx(0, abs=0.02)
    assert spins.smearing_ev is not None
    assert 0 < spins.bandgap_ev < 1.5


def test_gap_counts_electrons():
    """Made-up bands, in the form that pw.x prints."""

    def printed(*k_points):
        blocks = [f"          k = 0.0000 0.0000 0.0000 (   411 PWs)   bands (ev):\n\n  {row}\n\n" for row in k_points]
        return Text("pw.out", "     End of self-consistent calculation\n\n" + "".join(blocks))

    semiconductor = printed("  -5.0000   1.0000   3.0000", "  -4.0000   0.5000   2.5000")
    assert gap(semiconductor, 4).bandgap_ev == 1.5
    assert gap(semiconductor, 4).is_direct is False
    assert gap(semiconductor, 3).bandgap_ev == 0  # an odd number of electrons
    assert gap(semiconductor, 6) is None  # no empty band
    assert gap(semiconductor, 2, noncollinear=True).bandgap_ev == 1.5
    semimetal = printed("  -5.0000   1.0000   3.0000", "  -4.0000   0.5000   0.9000")
    assert gap(semimetal, 4).bandgap_ev == 0
    # columns that touch
    assert eigenvalues(printed("-100.0000-100.0000   1.0000")).shape == (1, 1, 3)


def test_cells_keep_all_digits_of_the_input(runs):
    output = read_pw(runs("relax"))
    assert output.structure.lattice.matrix.tolist() == [[0.0, 2.7, 2.7], [2.7, 0.0, 2.7], [2.7, 2.7, 0.0]]


def test_without_its_input_the_printed_geometry_serves(runs, tmp_path):
    text = (runs("relax") / "pw.out").read_text()
    (tmp_path / "pw.out").write_text(text)
    output = read_pw(tmp_path)
    assert output.structure.lattice.matrix == pytest.approx(
        np.array([[0.0, 2.7, 2.7], [2.7, 0.0, 2.7], [2.7, 2.7, 0.0]]), abs=1e-5
    )
    # an input of something else does not count
    (tmp_path / "pw.in").write_text((runs("relax") / "pw.in").read_text().replace("2.7", "2.8"))
    assert read_pw(tmp_path).structure.volume == pytest.approx(output.structure.volume)


def geometries(text):
    """Find the blocks that a relaxation printed, with the position where each ends."""
    found, begin = [], 0
    while (at := text.find("ATOMIC_POSITIONS", begin)) >= 0:
        end = at
        for _ in range(3):
            end = text.index("\n", end) + 1
        rows = [line.split() for line in text[at:end].splitlines()[1:]]
        cell = text.rfind("CELL_PARAMETERS", 0, at)
        lattice = None
        if cell > begin - 1 and cell >= 0:
            lattice = [[float(x) for x in line.split()] for line in text[cell:].splitlines()[1:4]]
        found.append((end, [[float(x) for x in row[1:]] for row in rows], lattice))
        begin = end
    return found


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_last_geometry_is_the_last_complete_one_wherever_the_output_ends(data, runs):
    name = data.draw(st.sampled_from(["ionic_steps", "ionic_steps_of_cell", "wrong_and_happy", "relax"]))
    text = (runs(name) / "pw.out").read_text()
    blocks = geometries(text)
    assert len(blocks) >= 2
    near = data.draw(st.sampled_from([end for end, _, _ in blocks]))
    cut = data.draw(st.one_of(st.integers(0, len(text)), st.integers(near - 200, near + 3)))
    with TemporaryDirectory() as place:
        (Path(place) / "pw.out").write_text(text[:cut])
        (Path(place) / "pw.in").write_text((runs(name) / "pw.in").read_text())
        found = last_geometry(Path(place))
    complete = [(coords, lattice) for end, coords, lattice in blocks if end <= cut]
    if not complete:
        assert found is None
        return
    coords, lattice = complete[-1]
    assert found.frac_coords.tolist() == coords
    if lattice is not None:
        assert found.lattice.matrix.tolist() == lattice


def test_a_restart_that_was_stopped_at_once_leaves_what_was_reached_before(runs, tmp_path):
    text = (runs("relax") / "pw.out").read_text()
    reached = last_geometry(runs("relax"))
    (tmp_path / "pw.out").write_text(text + text[: text.index("iteration #  2")])
    assert diagnose_pw(tmp_path).code == 106
    found = last_geometry(tmp_path)
    assert found.frac_coords.tolist() == reached.frac_coords.tolist()
    other = text[: text.index("iteration #  2")].replace("Si  tau", "Ge  tau")
    (tmp_path / "pw.out").write_text(text + other)
    assert last_geometry(tmp_path) is None  # another crystal


@pytest.mark.parametrize(
    ("cell", "positions"),
    [
        ("(angstrom)", "(crystal)"),
        (f"(alat= {7.21568634:.8f})", "(alat)"),
        ("(bohr)", "(bohr)"),
        ("{bohr}", "{angstrom}"),
        ("angstrom", "angstrom"),
    ],
)
def test_geometries_in_all_of_pw_xs_units(cell, positions, runs, tmp_path):
    """Blocks of a real run rewritten in other units."""
    text = (runs("ionic_steps_of_cell") / "pw.out").read_text()
    expected = last_geometry(runs("ionic_steps_of_cell"))
    alat = 7.21568634 * BOHR_ANG
    factor = {"angstrom": 1.0, "bohr": BOHR_ANG, "alat": alat}
    at = text.rindex("CELL_PARAMETERS")
    end = text.index("\n", text.index("Si ", text.index("Si ", at) + 3))
    unit = next(u for u in factor if u in cell)
    lines = [f"CELL_PARAMETERS {cell}"]
    lines += [" ".join(f"{x:.10f}" for x in row / factor[unit]) for row in expected.lattice.matrix]
    lines += ["", f"ATOMIC_POSITIONS {positions}"]
    place = next((u for u in factor if u in positions), None)
    coords = expected.frac_coords if place is None else expected.cart_coords / factor[place]
    lines += ["Si " + " ".join(f"{x:.10f}" for x in row) for row in coords]
    (tmp_path / "pw.out").write_text(text[:at] + "\n".join(lines) + text[end:])
    found = last_geometry(tmp_path)
    assert found.lattice.matrix == pytest.approx(expected.lattice.matrix, abs=1e-5)
    assert found.cart_coords == pytest.approx(expected.cart_coords, abs=1e-5)


@pytest.mark.parametrize("name", [name for name, ending in ENDINGS.items() if ending.code in {201, 203, 303, 305}])
def test_no_geometry_where_no_step_was_finished(name, runs):
    assert last_geometry(runs(name)) is None


def document(run, **more):
    output = read_pw(run, pressure_tolerance_kbar=10)
    return PwDocument.from_runs([(output, run)], PwInput.read(run / "pw.in"), run, **more)


@pytest.mark.parametrize("name", ["scf", "spin_and_smearing", "wrong_and_happy", "nscf"])
def test_document_survives_json(name, runs):
    doc = document(runs(name), uuid="u", run_type="PBE", corrections=[{"code": 410}], protocol={"name": "fast"})
    assert PwDocument.model_validate_json(doc.model_dump_json()) == doc
    again = json.loads(json.dumps(doc, cls=MontyEncoder), cls=MontyDecoder)
    assert isinstance(again, PwDocument)
    assert again == doc


def test_document_adds_up_its_runs(runs):
    outputs = [(read_pw(runs(name)), runs(name)) for name in ("scf", "relax")]
    doc = PwDocument.from_runs(outputs, PwInput.read(runs("relax") / "pw.in"), runs("relax").parent)
    assert doc.n_steps == outputs[0][0].n_ionic_steps + outputs[1][0].n_ionic_steps
    assert doc.output.energy == outputs[1][0].energy_ev
    assert doc.output.energy_per_atom == pytest.approx(outputs[1][0].energy_ev / 2)
    assert doc.task_type == "Structure Optimization"
    assert doc.walltime == pytest.approx(sum(output.walltime_s for output, _ in outputs))
    with pytest.raises(ValueError, match="succeeded"):
        PwDocument.from_runs([], PwInput.read(runs("relax") / "pw.in"), runs("relax"))


def test_jobflow_hands_on_what_the_phonon_flow_asks_for(runs, tmp_path, monkeypatch):
    from jobflow import Flow, JobStore, job, run_locally
    from maggma.stores import MemoryStore

    doc = document(runs("relax"))

    @job(output_schema=PwDocument)
    def relax():
        return doc

    @job
    def take(structure, uuid, dir_name, energy, forces):
        return {"kind": type(structure).__name__, "uuid": uuid, "dir": dir_name, "energy": energy, "n": len(forces)}

    first = relax()
    out = first.output
    second = take(out.structure, out.uuid, out.dir_name, out.output.energy, out.output.forces)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        store = JobStore(MemoryStore(), additional_stores={"data": MemoryStore()})
        results = run_locally(Flow([first, second]), store=store, ensure_success=True, log=False)
    taken = results[second.uuid][1].output
    assert taken == {
        "kind": Structure.__name__,
        "uuid": first.uuid,
        "dir": str(runs("relax")),
        "energy": doc.output.energy,
        "n": 2,
    }
