"""Real relaxations of silicon pulled out of shape, cut off and gone on with."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from pymatgen.core import Structure

from dft_inputs.causes import DftError
from dft_inputs.espresso.command import PwCommand
from dft_inputs.espresso.continuation import _belongs, left_by
from dft_inputs.espresso.inputs import make_input
from dft_inputs.espresso.protocols import load_protocol
from dft_inputs.espresso.pw_input import PwInput
from dft_inputs.espresso.record import RunRecord
from dft_inputs.espresso.relax import Relaxation, count_ionic_steps, relax

if TYPE_CHECKING:
    from dft_inputs.pseudos import Family

SABOTEUR = Path(__file__).parents[2] / "support" / "pw_saboteur.py"
SI = Structure(
    [[0.0, 2.85, 2.70], [2.75, 0.0, 2.75], [2.70, 2.85, 0.0]], ["Si", "Si"], [[0.0, 0.0, 0.0], [0.27, 0.25, 0.24]]
)
COARSE: dict[str, Any] = {"mesh": (2, 2, 2), "ecutwfc_ry": 16.0}
PROTOCOL = load_protocol("fast").changed(final_pressure_kbar=0.8, pressure_kbar=0.2, force_ev_per_angstrom=0.02)


def relaxed(family: Family, directory: Path, command: PwCommand | None = None, **options: Any) -> Relaxation:
    return relax(SI, PROTOCOL, family, directory, command or PwCommand(), **COARSE, **options)


@pytest.fixture(scope="module")
def undisturbed(family: Family, pw_x: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Relaxation, Path]:
    directory = tmp_path_factory.mktemp("undisturbed")
    return relaxed(family, directory), directory


def agree(one: Relaxation, other: Relaxation) -> None:
    assert one.output.energy_ev is not None
    assert one.output.energy_ev / 2 == pytest.approx(other.output.energy_ev / 2, abs=1e-3)
    assert one.structure.volume == pytest.approx(other.structure.volume, rel=1e-3)


def test_it_ends_when_plane_waves_fit_to_the_cell(undisturbed: tuple[Relaxation, Path]):
    done, directory = undisturbed
    pressure = done.output.pressure_kbar
    assert pressure is not None
    assert abs(pressure) <= PROTOCOL.final_pressure_kbar
    assert done.repeats > 1  # the first one ended happily, and wrong: nobody would have needed a second
    assert done.repeats == len(list(directory.glob("relax-*")))
    assert done.n_ionic_steps == count_ionic_steps(directory)
    assert done.comparable


def test_without_repeats_left_it_says_so_and_a_rerun_goes_on(
    family: Family, undisturbed: tuple[Relaxation, Path], tmp_path: Path
):
    """The first repeat ends with a wrong pressure; whoever runs it again wants the next one, not the same answer."""
    once = PROTOCOL.changed(max_relaxations=1)
    with pytest.raises(DftError) as caught:
        relax(SI, once, family, tmp_path / "first", PwCommand(), **COARSE)
    assert caught.value.code == 610
    assert "repeated 1 times" in str(caught.value)
    again = relax(SI, once, family, tmp_path / "again", PwCommand(), prev_dir=tmp_path / "first", **COARSE)
    assert again.repeats == 2
    whole, _ = undisturbed
    assert again.output.energy_ev == pytest.approx(whole.output.energy_ev, abs=1e-3 * len(SI))
    assert again.structure.volume == pytest.approx(whole.structure.volume, rel=1e-3)


def test_what_was_done_is_not_done_again(family: Family, undisturbed: tuple[Relaxation, Path], tmp_path: Path):
    done, directory = undisturbed
    absent = PwCommand(executable="no-pw.x-must-run")
    again = relaxed(family, tmp_path, absent, prev_dir=directory)
    agree(again, done)
    assert again.repeats == done.repeats


def test_a_relaxation_cut_three_times_loses_at_most_one_step_each_time(
    family: Family, undisturbed: tuple[Relaxation, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """By SIGKILL, by the wall-time, by SIGKILL in the middle of a write; each time another directory goes on."""
    done, _ = undisturbed

    def cut(name: str, prev: Path | None, command: PwCommand, cause: int) -> Path:
        with pytest.raises(DftError) as caught:
            relaxed(family, tmp_path / name, command, prev_dir=prev, max_corrections=0)
        assert caught.value.code == cause
        return tmp_path / name

    def saboteur(mode: str) -> PwCommand:
        return PwCommand(launcher=(sys.executable, str(SABOTEUR), mode, "1"))

    first = cut("first", None, saboteur("kill9:2"), 106)
    assert count_ionic_steps(first) == 2
    with monkeypatch.context() as patch:
        patch.setenv("NUCLEATE_DEADLINE", str(time.time() + 3.0))
        second = cut("second", first, PwCommand(), 101)
    third = cut("third", second, saboteur("midwrite:1"), 106)
    last = relaxed(family, tmp_path / "last", prev_dir=third)

    begun = RunRecord.read(next(second.glob("relax-*")))
    assert begun.continued_with == ("charge density", "minimiser history")
    geometry = PwInput.read(next(second.glob("relax-*")) / "pw.in").structure
    left = left_by(first / "relax-01", PwInput.read(first / "relax-01" / "pw.in")).structure
    assert left is not None
    assert geometry.lattice.matrix == pytest.approx(left.lattice.matrix, abs=1e-8)
    steps = sum(count_ionic_steps(one) for one in (first, second, third, tmp_path / "last"))
    assert steps <= done.n_ionic_steps + 3
    agree(last, done)


def test_another_crystal_is_no_earlier_attempt(family: Family, undisturbed: tuple[Relaxation, Path], tmp_path: Path):
    _, directory = undisturbed
    earlier = tmp_path / "earlier" / "relax-01"
    earlier.mkdir(parents=True)
    (earlier / "pw.in").write_text((directory / "relax-01" / "pw.in").read_text(encoding="utf-8"), encoding="utf-8")
    carbon = SI.copy()
    carbon.replace_species({"Si": "C"})
    with pytest.raises(ValueError, match="another crystal"):
        relax(carbon, PROTOCOL, family, tmp_path, PwCommand(), prev_dir=earlier.parent, **COARSE)


def test_a_history_belongs_to_the_step_before_the_geometry(family: Family, pw_x: Path, tmp_path: Path):
    inp = make_input(SI, PROTOCOL, family, "vc-relax", extra={"control.nstep": 1}, **COARSE)
    inp.write(tmp_path / "pw.in")
    with (tmp_path / "pw.out").open("w", encoding="utf-8") as output:
        subprocess.run([str(pw_x), "-in", "pw.in"], cwd=tmp_path, stdout=output, check=False)
    left = left_by(tmp_path, inp)
    assert left.minimiser is not None
    assert left.structure is not None
    assert not _belongs(left.minimiser, inp.structure)  # where it has just been: a step of no length
    text = left.minimiser.read_text(encoding="utf-8")
    left.minimiser.write_text(text[: len(text) // 2], encoding="utf-8")
    assert left_by(tmp_path, inp).minimiser is None
