"""Real pw.x on silicon with settings as coarse as they may be: what is shown is what becomes of a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from custodian.custodian import Custodian, ValidationError
from pymatgen.core import Lattice, Structure

from dft_inputs.causes import DftError
from dft_inputs.espresso.command import PwCommand
from dft_inputs.espresso.density import density_of
from dft_inputs.espresso.diagnose import diagnose_pw
from dft_inputs.espresso.handlers import BasisHandler, PwValidator, default_handlers
from dft_inputs.espresso.handlers.base import Failure
from dft_inputs.espresso.inputs import make_input
from dft_inputs.espresso.job import PwJob
from dft_inputs.espresso.protocols import load_protocol
from dft_inputs.espresso.pw_input import PwInput
from dft_inputs.espresso.record import Correction, RunRecord
from dft_inputs.espresso.run import run_pw

if TYPE_CHECKING:
    from dft_inputs.pseudos import Family

ROOT = Path(__file__).parents[3]
SABOTEUR = ROOT / "tests" / "support" / "pw_saboteur.py"
SI = Structure(Lattice([[0.0, 2.7, 2.7], [2.7, 0.0, 2.7], [2.7, 2.7, 0.0]]), ["Si", "Si"], [[0, 0, 0], [0.25] * 3])
COARSE: dict[str, Any] = {"mesh": (2, 2, 2), "ecutwfc_ry": 12.0}


@pytest.fixture(autouse=True)
def _real(pw_x: Path) -> None:
    """All of these run the real thing."""


def scf(family: Family, **extra: Any) -> PwInput:
    return make_input(SI, load_protocol("fast"), family, "scf", extra=extra, **COARSE)


def saboteur(mode: str, times: int = 1) -> PwCommand:
    return PwCommand(launcher=(sys.executable, str(SABOTEUR), mode, str(times)))


def cause_of(*args: Any, **options: Any) -> int:
    with pytest.raises(DftError) as caught:
        run_pw(*args, **options)
    return caught.value.code


def test_a_run_leaves_a_result_and_no_wave_functions(family: Family, tmp_path: Path):
    done = run_pw(scf(family), tmp_path / "run", PwCommand(memory_gb=4.0), family=family)
    assert done.output.energy_ev == pytest.approx(-227.0, abs=5.0)
    assert (done.corrections, done.comparable) == ((), True)
    assert density_of(tmp_path / "run" / "out" / "pw.save") is not None
    assert not list((tmp_path / "run").rglob("wfc*"))
    assert done.record.returncode == 0
    again = run_pw(scf(family), tmp_path / "again", PwCommand(), restart_from=tmp_path / "run", keep_density=False)
    assert again.record.continued_with == ("charge density",)
    assert again.output.n_scf_iterations < done.output.n_scf_iterations
    assert again.output.energy_ev == pytest.approx(done.output.energy_ev, abs=1e-4)
    assert not (tmp_path / "again" / "out").exists()


def test_a_large_output_is_compressed_and_still_read(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("dft_inputs.espresso.job._GZIP_ABOVE", 1000)
    first = run_pw(scf(family), tmp_path, PwCommand())
    assert (tmp_path / "pw.out.gz").exists()
    assert not (tmp_path / "pw.out").exists()
    again = run_pw(scf(family), tmp_path, PwCommand())  # in the same place: what was there is kept
    assert (tmp_path / "failed-01" / "pw.out.gz").exists()
    assert again.output.energy_ev == pytest.approx(first.output.energy_ev, abs=1e-6)


def test_a_spent_budget_leaves_a_directory_that_explains_itself(family: Family, tmp_path: Path):
    inp = scf(family, **{"electrons.electron_maxstep": 2})
    assert cause_of(inp, tmp_path, PwCommand(), max_corrections=0) == 410
    assert diagnose_pw(tmp_path).code == 410
    assert RunRecord.read(tmp_path).corrections == ()


def test_a_ladder_that_is_climbed_ends_with_the_cause(family: Family, tmp_path: Path):
    assert cause_of(scf(family), tmp_path, saboteur("diagonalisation", 9)) == 401
    tried = [one.after["electrons.diagonalization"] for one in RunRecord.read(tmp_path).corrections]
    assert tried == ["paro", "cg"]
    assert sorted(path.name for path in tmp_path.glob("failed-*")) == ["failed-01", "failed-02"]
    assert diagnose_pw(tmp_path).code == 401


def test_what_an_attempt_learned_is_taken_over_unless_asked_otherwise(family: Family, tmp_path: Path):
    run_pw(scf(family), tmp_path / "first", saboteur("diagonalisation"))
    second = run_pw(scf(family), tmp_path / "second", PwCommand(), restart_from=tmp_path / "first")
    assert second.inp.get("electrons.diagonalization") == "paro"
    assert [one.code for one in second.corrections] == [401]
    asked = scf(family, **{"electrons.diagonalization": "cg"})
    third = run_pw(asked, tmp_path / "third", PwCommand(), restart_from=tmp_path / "first")
    assert third.inp.get("electrons.diagonalization") == "cg"


def test_no_time_left_means_no_start(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NUCLEATE_DEADLINE", str(time.time() + 1.0))
    assert cause_of(scf(family), tmp_path, PwCommand()) == 101
    assert not (tmp_path / "pw.out").exists()


def test_pw_x_that_does_not_stop_in_time_is_ended(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sleeper = tmp_path / "deaf.sh"  # a stand-in: pw.x stuck in something that never looks at the clock
    sleeper.write_text("#!/bin/sh\nsleep 60\n", encoding="utf-8")
    sleeper.chmod(0o755)
    monkeypatch.setenv("NUCLEATE_DEADLINE", str(time.time() + 10.0))
    begun = time.monotonic()
    assert cause_of(scf(family), tmp_path / "run", PwCommand(executable=str(sleeper))) == 101
    assert time.monotonic() - begun < 10.0
    assert RunRecord.read(tmp_path / "run").stopped == "walltime"


def test_told_to_stop_is_not_tried_again(family: Family, tmp_path: Path):
    inp = scf(family)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "pw.EXIT").touch()
    assert cause_of(inp, tmp_path, PwCommand()) == 105


def test_missing_binary(family: Family, tmp_path: Path):
    assert cause_of(scf(family), tmp_path, PwCommand(executable="pw.y")) == 203
    assert cause_of(scf(family), tmp_path, PwCommand(launcher=("mpirun-of-mars", "-np", "2"))) == 203


def test_scratch_that_cannot_be_written(family: Family, tmp_path: Path):
    (tmp_path / "file").touch()
    assert cause_of(scf(family), tmp_path / "run", PwCommand(scratch=str(tmp_path / "file" / "scratch"))) == 206


def test_memory_is_refused_before_the_start(family: Family, tmp_path: Path):
    assert cause_of(scf(family), tmp_path / "run", PwCommand(memory_gb=0.001), family=family) == 304
    assert not (tmp_path / "run").exists()


def test_killed_by_the_kernel_for_memory(family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The kernel's count is a stand-in here; the fault matrix lets a real one grow."""
    counts = iter([3, 4, 4, 4])  # before and after each process of pw.x
    monkeypatch.setattr("dft_inputs.memory.oom_kills", lambda: next(counts))
    done = run_pw(scf(family), tmp_path, saboteur("kill9:0"))
    assert [(one.code, one.handler) for one in done.corrections] == [(102, "MemoryHandler")]
    assert done.comparable
    assert RunRecord.read(tmp_path).out_of_memory is None


def test_memory_that_runs_out_has_a_cause(family: Family, tmp_path: Path):
    inp = scf(family, **{"system.ecutwfc": 40.0, "system.ecutrho": 160.0})
    tight = PwCommand(launcher=("prlimit", "--as=100000000"))
    assert cause_of(inp, tmp_path, tight) in {102, 106}  # MPI itself may be what gets no memory, and says nothing
    assert len(RunRecord.read(tmp_path).corrections) == 2


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    place = tmp_path / "disk"
    place.mkdir()
    mount = subprocess.run(["/bin/mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(place)], check=False)
    yield place if mount.returncode == 0 else None
    if mount.returncode == 0:
        subprocess.run(["/bin/umount", str(place)], check=True)


def test_a_disk_that_fills_in_mid_run(family: Family, tmp_path: Path, small_disk: Path | None):
    if small_disk is None:  # only root may mount: a limit on the size of files is the next best
        command = PwCommand(launcher=("prlimit", "--fsize=32768"))
        assert cause_of(scf(family), tmp_path / "run", command, max_corrections=0) in {106, 202}
    else:
        # pw.x says JOB DONE, and does not notice
        assert cause_of(scf(family), tmp_path / "run", PwCommand(scratch=str(small_disk))) == 202
        assert not list(small_disk.iterdir())


def test_scratch_elsewhere_is_cleaned_and_the_density_comes_home(family: Family, tmp_path: Path):
    scratch = tmp_path / "scratch"
    run_pw(scf(family), tmp_path / "run", PwCommand(scratch=str(scratch)))
    assert not list(scratch.iterdir())
    assert density_of(tmp_path / "run" / "out" / "pw.save") is not None
    assert PwInput.read(tmp_path / "run" / "pw.in").get("control.outdir") == "./out"


def test_a_shared_outdir_keeps_what_is_not_ours(family: Family, tmp_path: Path):
    shared = tmp_path / "shared"
    shared.mkdir()
    (shared / "thesis.tex").write_text("years of work", encoding="utf-8")
    scf(family, **{"control.outdir": str(shared)}).write(tmp_path / "pw.in")
    Custodian(
        default_handlers(),
        [PwJob(PwCommand(), keep_density=False)],
        [PwValidator()],
        directory=str(tmp_path),
        terminate_on_nonzero_returncode=False,
        polling_time_step=0.1,
    ).run()
    assert [path.name for path in shared.iterdir()] == ["thesis.tex"]


def test_job_handlers_and_validator_work_in_a_custodian_of_ones_own(family: Family, tmp_path: Path):
    scf(family, **{"system.nbnd": 3}).write(tmp_path / "pw.in")
    custodian = Custodian(
        default_handlers(),
        [PwJob(PwCommand())],
        [PwValidator()],
        max_errors=5,
        directory=str(tmp_path),
        terminate_on_nonzero_returncode=False,
        polling_time_step=0.1,
    )
    log = custodian.run()
    assert diagnose_pw(tmp_path).code == 0
    assert [type(one["handler"]).__name__ for one in log[0]["corrections"]] == ["BandsHandler"]
    stored = json.loads((tmp_path / "custodian.json").read_text(encoding="utf-8"))
    assert stored[0]["job"]["command"]["executable"] == "pw.x"


def test_the_validator_refuses_what_no_handler_took(family: Family, tmp_path: Path):
    scf(family, **{"electrons.electron_maxstep": 2}).write(tmp_path / "pw.in")
    custodian = Custodian(
        [],
        [PwJob(PwCommand())],
        [PwValidator()],
        directory=str(tmp_path),
        terminate_on_nonzero_returncode=False,
        polling_time_step=0.1,
    )
    with pytest.raises(ValidationError):
        custodian.run()


def test_nothing_runs_on_when_whoever_started_it_is_killed(family: Family, tmp_path: Path):
    scf(family, **{"system.ecutwfc": 60.0, "system.ecutrho": 240.0}).write(tmp_path / "pw.in")
    code = (
        "from pathlib import Path; from dft_inputs.espresso.job import PwJob; "
        "from dft_inputs.espresso.command import PwCommand; "
        f"job = PwJob(PwCommand()); job.setup({str(tmp_path)!r}); print(job.run({str(tmp_path)!r}).pid, flush=True); "
        "import time; time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    child.wait(timeout=10)
    assert not child.is_running()


def test_a_higher_cutoff_is_marked_as_not_comparable(family: Family, tmp_path: Path):
    inp = make_input(SI, load_protocol("fast"), family, "vc-relax", **COARSE)
    repeat = Correction(610, "BasisHandler", "", ())
    handler = BasisHandler()

    def change(done: int) -> Any:
        record = RunRecord(corrections=(repeat,) * done)
        return handler.change(Failure(tmp_path, diagnose_pw(tmp_path), inp, record))

    inp.write(tmp_path / "pw.in")
    (tmp_path / "pw.out").touch()
    assert (change(0).comparable, change(0).values) == (True, {})
    assert (change(2).comparable, change(2).values["system.ecutwfc"]) == (False, 15.0)
    assert change(4) is None


def test_failures_are_recovered_as_if_they_had_not_been(tmp_path: Path):
    """The bounded part of the table: what takes seconds each."""
    cases = [
        "pools_too_many",
        "too_few_bands",
        "metal_with_fixed_occupations",
        "scf_not_converged",
        "charge_mixing",
        "crashed_silently",
        "forces_missing",
    ]
    table = tmp_path / "table.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "espresso_faults.py")]
    done = subprocess.run(
        [*command, "--only", ",".join(cases), "--json", str(table)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads(table.read_text(encoding="utf-8"))
    assert [row["case"] for row in rows] == cases
    assert all(row["agrees"] and row["comparable"] for row in rows)
