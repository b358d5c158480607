"""VASP's failures in its own words, from the stand-in, through custodian: recovered, or given a cause."""

from __future__ import annotations

import signal
import sys
import time
from dataclasses import replace

import psutil
import pytest
from pymatgen.core import Structure
from pymatgen.io.vasp import Vasprun
from pymatgen.io.vasp.sets import MPRelaxSet
from vasp_stand_in.fixtures import COMMAND

from dft_inputs.causes import DftError
from dft_inputs.vasp.geometry import last_geometry
from dft_inputs.vasp.job import usable_geometry
from dft_inputs.vasp.potcar import potcars_in
from dft_inputs.vasp.run import VaspCommand, corrections, run_vasp
from dft_inputs.walltime import DEADLINE

TAGS = {"EDIFFG": -0.01, "LDAU": False}


@pytest.fixture
def vasp(vasp_stand_in):
    assert vasp_stand_in.command == COMMAND
    return VaspCommand(COMMAND, poll_seconds=0.05, check_seconds=0.1)


def prepare(directory, structure, potcars, **tags):
    directory.mkdir()
    settings = {"force_gamma": True, "user_incar_settings": {**TAGS, **tags}}
    with potcars_in(potcars):
        MPRelaxSet(**settings, user_kpoints_settings={"reciprocal_density": 16}).get_input_set(structure).write_input(
            directory
        )
    return directory


def result(directory):
    run = Vasprun(directory / "vasprun.xml", parse_potcar_file=False)
    return float(run.final_energy) / len(run.final_structure), run.final_structure.volume, len(run.ionic_steps)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, magnesia, vasp_model, vasp_potcars):
    directory = prepare(tmp_path_factory.mktemp("run") / "undisturbed", magnesia, vasp_potcars)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VASP_STAND_IN_SOCKET", str(vasp_model))
        assert run_vasp(directory, VaspCommand(COMMAND, poll_seconds=0.05, check_seconds=0.1)).code == 0
    assert corrections(directory) == []
    return result(directory)


@pytest.mark.parametrize(("fault", "step"), [("edddav", 4), ("edddav", 1), ("zbrent", 4), ("brmix", 4), ("nelm", 4)])
def test_a_failure_is_recovered_from_the_last_geometry(
    fault, step, tmp_path, magnesia, vasp_stand_in, vasp, undisturbed
):
    vasp_stand_in.plan({"fault": fault, "step": step})
    directory = prepare(tmp_path / "run", magnesia, vasp_stand_in.potcars)
    assert run_vasp(directory, vasp).code == 0
    assert vasp_stand_in.left() == 0
    assert [c["errors"] for c in corrections(directory) if c["actions"]] != []
    energy, volume, steps = result(directory)
    assert energy == pytest.approx(undisturbed[0], abs=1e-3)
    assert volume == pytest.approx(undisturbed[1], rel=1e-3)
    if fault != "nelm":  # an unconverged cycle ends no relaxation, so that nothing is left to relax then
        assert step - 1 + steps <= undisturbed[2] + 2
    start = Structure.from_file(directory / "POSCAR")
    assert (step == 1) == (start.volume == pytest.approx(magnesia.volume, rel=1e-4))


@pytest.mark.parametrize(("fault", "code"), [("edddav", 401), ("brmix", 411), ("nelm", 410), ("killed", 106)])
def test_what_can_not_be_recovered_has_its_cause(fault, code, tmp_path, magnesia, vasp_stand_in, vasp):
    vasp_stand_in.plan({"fault": fault, "times": 99, "step": 2})
    directory = prepare(tmp_path / "run", magnesia, vasp_stand_in.potcars, **({"NSW": 2} if fault == "nelm" else {}))
    with pytest.raises(DftError) as caught:
        run_vasp(directory, replace(vasp, max_corrections=2))
    assert caught.value.code == code


def test_no_contcar_is_no_success(tmp_path, magnesia, vasp_stand_in, vasp):
    vasp_stand_in.plan({"fault": "no_contcar"})
    directory = prepare(tmp_path / "run", magnesia, vasp_stand_in.potcars)
    with pytest.raises(DftError) as caught:
        run_vasp(directory, vasp)
    assert caught.value.code in {210, 611}


def test_steps_exhausted_go_on_by_themselves(tmp_path, magnesia, vasp_stand_in, vasp, undisturbed):
    directory = prepare(tmp_path / "run", magnesia, vasp_stand_in.potcars, NSW=5)
    assert run_vasp(directory, vasp).code == 0
    assert corrections(directory)
    assert result(directory)[0] == pytest.approx(undisturbed[0], abs=1e-3)


def test_the_end_of_the_allocation_stops_it_with_its_files_whole(tmp_path, magnesia, vasp_stand_in, vasp, monkeypatch):
    vasp_stand_in.plan({"fault": "slow", "seconds": 0.3})
    directory = prepare(tmp_path / "run", magnesia, vasp_stand_in.potcars)
    monkeypatch.setenv(DEADLINE, str(time.time() + 60 + 3.5))  # 60 s are kept back
    with pytest.raises(DftError) as caught:
        run_vasp(directory, vasp)
    assert caught.value.code == 101
    # what pymatgen, and with it atomate2, makes of such a run
    stopped = Vasprun(directory / "vasprun.xml", parse_potcar_file=False)
    assert stopped.converged
    assert 1 <= len(stopped.ionic_steps) < 99
    assert usable_geometry(directory) is not None


def test_no_time_is_left_to_begin(tmp_path, magnesia, vasp_stand_in, vasp, monkeypatch):
    directory = prepare(tmp_path / "run", magnesia, vasp_stand_in.potcars)
    monkeypatch.setenv(DEADLINE, str(time.time() + 30))
    with pytest.raises(DftError) as caught:
        run_vasp(directory, vasp)
    assert caught.value.code == 101
    assert not (directory / "OUTCAR").exists()


def test_a_run_killed_mid_write_leaves_a_geometry_to_go_on_from(tmp_path, magnesia, vasp_stand_in, vasp):
    vasp_stand_in.plan({"fault": "killed", "step": 4})
    directory = prepare(tmp_path / "run", magnesia, vasp_stand_in.potcars)
    with pytest.raises(DftError):
        run_vasp(directory, vasp)
    geometry = last_geometry(directory)
    assert geometry is not None
    assert len(geometry) == len(magnesia)
    assert geometry.volume != pytest.approx(magnesia.volume, rel=1e-4)


def test_a_geometry_that_exploded_is_none_to_go_on_from(tmp_path, magnesia, vasp_stand_in, vasp):
    directory = prepare(tmp_path / "run", magnesia, vasp_stand_in.potcars, NSW=3, EDIFFG=-1.0)
    run_vasp(directory, vasp)
    assert usable_geometry(directory, magnesia) is not None
    assert usable_geometry(directory, magnesia.copy().scale_lattice(3 * magnesia.volume)) is None


def test_who_is_told_to_stop_takes_vasp_along(tmp_path, magnesia, vasp_stand_in, vasp):
    vasp_stand_in.plan({"fault": "slow", "seconds": 0.5, "min_steps": 99})
    directory = prepare(tmp_path / "run", magnesia, vasp_stand_in.potcars)

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 2)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_vasp(directory, vasp)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert not [p for p in psutil.Process().children(recursive=True) if "vasp_std" in " ".join(p.cmdline())]


def test_cut_three_times_nothing_but_the_minimisers_memory_is_lost(
    tmp_path, magnesia, vasp_stand_in, vasp, undisturbed
):
    vasp_stand_in.plan({"fault": "stopped", "step": 2, "times": 3})
    geometry, energies = magnesia, []
    for attempt in range(3):
        directory = prepare(tmp_path / f"attempt-{attempt}", geometry, vasp_stand_in.potcars)
        with pytest.raises(DftError) as caught:
            run_vasp(directory, vasp)
        assert caught.value.code == 105  # nobody's wall-time: somebody wrote STOPCAR
        steps = Vasprun(directory / "vasprun.xml", parse_potcar_file=False).ionic_steps
        assert len(steps) == 2
        energies += [step["e_0_energy"] for step in steps]
        geometry = usable_geometry(directory)
    directory = prepare(tmp_path / "last", geometry, vasp_stand_in.potcars)
    assert run_vasp(directory, vasp).code == 0
    energies += [step["e_0_energy"] for step in Vasprun(directory / "vasprun.xml", parse_potcar_file=False).ionic_steps]
    # each attempt begins below where the one before it ended: no ionic step is done twice
    assert all(energies[first] < energies[first - 1] for first in (2, 4, 6))
    energy, volume, _ = result(directory)
    assert energy == pytest.approx(undisturbed[0], abs=1e-3)
    assert volume == pytest.approx(undisturbed[1], rel=1e-3)
    assert len(energies) <= undisturbed[2] + 3


@pytest.mark.parametrize("command", ["/nowhere/vasp_std", "", "no-such-launcher -n 4 vasp_std"])
def test_a_missing_binary(command, tmp_path, magnesia, vasp_stand_in):
    directory = prepare(tmp_path / "run", magnesia, vasp_stand_in.potcars)
    with pytest.raises(DftError) as caught:
        run_vasp(directory, VaspCommand(command))
    assert caught.value.code == 203


def test_a_program_that_is_not_vasp(tmp_path, magnesia, vasp_stand_in):
    directory = prepare(tmp_path / "run", magnesia, vasp_stand_in.potcars)
    with pytest.raises(DftError):
        run_vasp(directory, VaspCommand(f"{sys.executable} -c pass", poll_seconds=0.05, check_seconds=0.1))
