"""Endings of VASP: from the stand-in (no VASP runs here), real outputs that ASE ships, and VASP's words written out."""

from __future__ import annotations

import gzip
import shlex
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymatgen.io.vasp import Poscar, Vasprun
from pymatgen.io.vasp.sets import MPRelaxSet

from dft_inputs.causes import DFT_CAUSES
from dft_inputs.diagnose import diagnose
from dft_inputs.files import NoRunError
from dft_inputs.vasp.diagnose import diagnose_vasp
from dft_inputs.vasp.geometry import last_geometry
from dft_inputs.vasp.potcar import potcars_in

REAL = files("ase.test") / "testdata" / "vasp"

STAND_IN_ENDINGS = {
    "done": ({}, {}, 0),
    "edddav": ({"fault": "edddav", "step": 3}, {}, 401),
    "zbrent": ({"fault": "zbrent", "step": 3}, {}, 510),
    "brmix": ({"fault": "brmix", "step": 2}, {}, 411),
    "nelm": ({"fault": "nelm", "step": 2}, {"NSW": 2}, 410),
    "no_contcar": ({"fault": "no_contcar"}, {}, 611),
    "killed": ({"fault": "killed", "step": 3}, {}, 106),
    "nsw": ({}, {"NSW": 2}, 501),
    "static": ({}, {"NSW": 0, "IBRION": -1}, 0),
    "no_potcar": ({}, {}, 201),
}

_MADE: dict[str, Path] = {}


@pytest.fixture
def ending(tmp_path_factory, magnesia, vasp_stand_in):
    """Give a function that lets the stand-in end in some way, once."""

    def made(name):
        if name not in _MADE:
            fault, tags, _ = STAND_IN_ENDINGS[name]
            directory = tmp_path_factory.mktemp(name)
            incar = {"EDIFFG": -0.01, "LDAU": False, **tags}
            with potcars_in(vasp_stand_in.potcars):
                MPRelaxSet(
                    force_gamma=True,
                    user_incar_settings=incar,
                    user_kpoints_settings={"reciprocal_density": 16},
                ).get_input_set(magnesia).write_input(directory)
            if name == "no_potcar":
                (directory / "POTCAR").unlink()
            vasp_stand_in.plan(*([fault] if fault else []))
            with (directory / "vasp.out").open("wb") as out, (directory / "std_err.txt").open("wb") as err:
                subprocess.run(shlex.split(vasp_stand_in.command), cwd=directory, stdout=out, stderr=err, check=False)
            _MADE[name] = directory
        return _MADE[name]

    return made


def copy_of(run, to):
    shutil.copytree(run, to)
    return to


@pytest.mark.parametrize("name", STAND_IN_ENDINGS)
def test_endings_of_the_stand_in(name, ending):
    found = diagnose(ending(name))
    assert found.program == "vasp"
    assert found.code == STAND_IN_ENDINGS[name][2], found
    assert found.evidence
    assert bool(found.suggestion) == bool(found.code)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_outputs_cut_off_anywhere_are_no_success(data, ending):
    run = ending("done")
    name = data.draw(st.sampled_from(["OUTCAR", "vasprun.xml"]))
    content = (run / name).read_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))
    with TemporaryDirectory() as place:
        copied = copy_of(run, Path(place) / "run")
        (copied / name).write_bytes(content[:cut])
        found = diagnose_vasp(copied)
        # an OUTCAR without a beginning is not known for one; then vasprun.xml alone is judged
        whole = b"General timing and accounting" in content[:cut] or b"</modeling>" in content[:cut]
        if found.code == 0:
            assert whole or cut < 600
        last_geometry(copied)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_names_and_compression_do_not_matter(data, ending):
    name = data.draw(st.sampled_from(sorted(set(STAND_IN_ENDINGS) - {"no_contcar"})))
    before = diagnose(ending(name))
    with TemporaryDirectory() as place:
        run = copy_of(ending(name), Path(place) / "run")
        for number, path in enumerate(sorted(run.iterdir())):
            content = path.read_bytes()
            path.unlink()
            packed = content and data.draw(st.booleans())
            (run / f"{number}.txt").write_bytes(gzip.compress(content) if packed else content)
        after = diagnose(run)
    assert (after.code, after.suggestion) == (before.code, before.suggestion)
    assert [item.line for item in after.evidence] == [item.line for item in before.evidence]


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_broken_diagnosing_does_not_raise(data, ending):
    name = data.draw(st.sampled_from(sorted(STAND_IN_ENDINGS)))
    with TemporaryDirectory() as place:
        run = copy_of(ending(name), Path(place) / "run")
        for path in sorted(run.iterdir()):
            content = bytearray(path.read_bytes())
            for _ in range(data.draw(st.integers(0, 3))):
                at = data.draw(st.integers(0, len(content)))
                end = data.draw(st.integers(at, min(len(content), at + 400)))
                content[at:end] = data.draw(st.sampled_from([b"", b"*" * 8, b"NaN", b"\0\0", b"\n\n", b"\xff\xfe"]))
            path.write_bytes(content)
        try:
            found = diagnose(run)
        except NoRunError:
            return
        assert found.code == 0 or found.code in DFT_CAUSES
        last_geometry(run)


def real_outcar(directory, cut=None):
    text = (REAL / "OUTCAR_example_1").read_text()
    directory.mkdir(exist_ok=True)
    (directory / "OUTCAR").write_text(text[:cut])
    return directory, text


def test_a_real_outcar_is_a_success_and_a_part_of_it_is_not(tmp_path):
    run, text = real_outcar(tmp_path / "run")
    assert diagnose(run).code == 0
    for share in (0.1, 0.5, 0.9):
        real_outcar(run, int(share * len(text)))
        found = diagnose(run)
        assert found.code == 106
        assert found.evidence[0].line == text[: int(share * len(text))].rstrip().count("\n") + 1


@pytest.mark.parametrize("name", ["vasprun_pstress.xml", "vasprun_dfpt.xml"])
def test_a_real_vasprun_is_judged_without_an_outcar(name, tmp_path):
    text = (REAL / name).read_text()
    (tmp_path / "vasprun.xml").write_text(text)
    assert diagnose(tmp_path).code == 0
    (tmp_path / "vasprun.xml").write_text(text[: len(text) // 2])
    assert diagnose(tmp_path).code == 106


VASP_WORDS = [
    (" Error EDDDAV: Call to ZHEGV failed. Returncode =   8 2  16", 401),
    (" WARNING in EDDRMM: call to ZHEGV failed, returncode =   6  3      3", 401),
    (" ERROR in EDDIAG: call to ZHEEV/ZHEEVX/DSYEV/DSYEVX failed! error code was 32", 401),
    (" WARNING: Sub-Space-Matrix is not hermitian in DAV            3", 401),
    (" LAPACK: Routine ZPOTRF failed!           13           1           1", 401),
    (" ERROR in subspace rotation PSSYEVX: not enough eigenvalues found          11          13", 401),
    (" ZBRENT: fatal error in bracketing", 510),
    (" BRIONS problems: POTIM should be increased", 510),
    (" BRMIX: very serious problems", 411),
    (" POSMAP internal error: symmetry equivalent atom not found,", 307),
    (" VERY BAD NEWS! internal error in subroutine SGRCON:", 307),
    (" VERY BAD NEWS! internal error in subroutine PRICEL (probably precision problem, try to change SYMPREC ):", 307),
    (" VERY BAD NEWS! internal error in subroutine IBZKPT: Fatal error: unable to match k-point!", 307),
    ("  ERROR RSPHER: internal ERROR: increase NQDIS or reduce RADIUS", 210),
    (" REAL_OPTLAY: internal error (1)", 210),
    ("|     TOO FEW BANDS!!                                                     |", 305),
    (" internal error in: mpi.F  at line: 898\n number of bands is not sufficient to hold all electrons.", 305),
    (" Tetrahedron method fails (number of k-points < 4)", 306),
    (" ERROR: the triple product of the basis vectors", 301),
    (" ERROR: while reading WAVECAR, plane wave coefficients changed", 211),
    ("Error reading item 'ENCUT' from file INCAR.", 303),
    ("forrtl: severe (174): SIGSEGV, segmentation fault occurred", 210),
    ("forrtl: severe (41): insufficient virtual memory", 102),
    ("forrtl: severe (38): error during write, unit 18, file /scratch/WAVECAR", 202),
    ("forrtl: No space left on device", 202),
    ("slurmstepd: error: *** JOB 71 ON c1 CANCELLED AT 2026-11-24T10:00:00 DUE TO TIME LIMIT ***", 101),
    ("slurmstepd: error: Detected 1 oom-kill event(s) in StepId=71.batch.", 102),
    ("/bin/bash: line 1: vasp_std: command not found", 203),
]


@pytest.mark.parametrize(("words", "code"), VASP_WORDS)
def test_words_of_vasp(words, code, tmp_path):
    """Written out as VASP, its compiler's library and SLURM print them, beside the beginning of a real OUTCAR."""
    run, text = real_outcar(tmp_path / "run", 100_000)
    (run / "vasp.out").write_text(f" running on   16 total cores\n entering main loop\n{words}\n")
    found = diagnose(run)
    assert found.code == code
    assert found.evidence[0].file == "vasp.out"
    assert found.evidence[0].text in words
    assert found.suggestion
    # the same words on the way to a result explain nothing
    (run / "OUTCAR").write_text(text)
    assert diagnose(run).code == 0


@pytest.mark.parametrize(("name", "code"), [("convergence_OUTCAR_y_n", 410), ("convergence_OUTCAR_y_y", 0)])
def test_last_electronic_cycle_decides(name, code, tmp_path):
    """Ends of electronic cycles that ASE ships, in place of that of a whole OUTCAR."""
    run, text = real_outcar(tmp_path / "run")
    mark = next(line for line in text.splitlines() if "aborting loop because EDIFF is reached" in line)
    last = (REAL / name).read_text().rstrip().splitlines()[-1]
    (run / "OUTCAR").write_text(text.replace(mark, last))
    assert diagnose(run).code == code


@pytest.mark.parametrize(("number", "code"), [("         NaN", 602), ("************", 611)])
def test_energy_that_is_no_number(number, code, tmp_path):
    run, text = real_outcar(tmp_path / "run")
    (run / "OUTCAR").write_text(
        text.replace("  free  energy   TOTEN  =       -68.22868532", f"  free  energy   TOTEN  = {number}")
    )
    assert diagnose(run).code == code


@pytest.mark.parametrize(
    ("record", "code"), [(None, 105), ('[{"corrections": [{"handler": "WalltimeHandler"}]}]', 101)]
)
def test_who_wrote_stopcar(record, code, tmp_path):
    run, _ = real_outcar(tmp_path / "run")
    (run / "vasp.out").write_text(" running on   16 total cores\n soft stop encountered!  aborting job ...\n")
    if record:
        (run / "custodian.json").write_text(record)
    assert diagnose(run).code == code


def test_of_two_runs_the_later_one_counts(tmp_path):
    run, text = real_outcar(tmp_path / "run")
    (run / "OUTCAR").rename(run / "OUTCAR.relax1")
    later = text.replace("date 2015.03.18", "date 2015.03.19")
    (run / "OUTCAR.relax2.gz").write_bytes(gzip.compress(later[:90_000].encode()))
    assert diagnose(run).code == 106
    (run / "OUTCAR.relax2.gz").write_bytes(gzip.compress(later.encode()))
    (run / "OUTCAR.relax1").write_text(text[:90_000])
    assert diagnose(run).code == 0


def test_inputs_alone_are_no_run(ending, tmp_path):
    for name in ("INCAR", "POSCAR", "KPOINTS", "POTCAR"):
        shutil.copy(ending("done") / name, tmp_path)
    with pytest.raises(NoRunError, match="nothing that a run has written"):
        diagnose_vasp(tmp_path)
    (tmp_path / "std_err.txt").touch()
    assert diagnose(tmp_path).code == 106


def test_last_geometry_of_a_finished_run(ending):
    run = ending("done")
    final = Vasprun(run / "vasprun.xml", parse_potcar_file=False).final_structure
    found = last_geometry(run)
    assert found.species == final.species
    assert found.frac_coords == pytest.approx(final.frac_coords, abs=1e-6)
    assert found.lattice.matrix == pytest.approx(final.lattice.matrix, abs=1e-6)


def test_last_geometry_of_a_killed_run_is_its_last_complete_step(ending, tmp_path):
    run = copy_of(ending("killed"), tmp_path / "run")  # CONTCAR cut off, XDATCAR and vasprun.xml with two steps
    text = (run / "vasprun.xml").read_text()
    assert text.count("</calculation>") == 2
    found = last_geometry(run)
    whole = text[: text.rindex("</calculation>")]
    first = whole[whole.rindex('name="positions"') :].split("<v>")[1].split("</v>")[0]
    assert found.frac_coords[0].tolist() == pytest.approx([float(x) for x in first.split()], abs=1e-7)
    for name in ("vasprun.xml", "XDATCAR"):
        (run / name).unlink()
        assert (last_geometry(run) is None) == (name == "XDATCAR")


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_contcar_that_is_cut_off_is_not_taken(data, ending):
    content = (ending("done") / "CONTCAR").read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    whole = Poscar.from_str(content.decode()).structure
    with TemporaryDirectory() as place:
        (Path(place) / "CONTCAR").write_bytes(content[:cut])
        found = last_geometry(Path(place))
    if cut >= len(content) - 1:
        assert found.frac_coords == pytest.approx(whole.frac_coords, abs=1e-12)
    elif found is not None:
        pytest.fail(f"a geometry from {cut} of {len(content)} bytes")
