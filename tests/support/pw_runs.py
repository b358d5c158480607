"""Real runs of pw.x, each a second or so, that end in as many ways as such runs can be made to end.

Used by tests and by ``benchmarks/diagnose.py``.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_TEMPLATE = """&control
 calculation='{calculation}', pseudo_dir='{pseudos}', outdir='./out', prefix='pw', tprnfor=.true., tstress=.true.
 {control}
/
&system
 ibrav=0, nat={nat}, ntyp=1, ecutwfc=20
 {system}
/
&electrons
 {electrons}
/
{ions}ATOMIC_SPECIES
{element} 28.085 {element}.upf
CELL_PARAMETERS angstrom
{cell}
ATOMIC_POSITIONS crystal
{positions}
K_POINTS automatic
{mesh} 0 0 0
"""

_PRIMITIVE = "0.0 2.7 2.7\n2.7 0.0 2.7\n2.7 2.7 0.0"


def input_text(
    pseudos: Path | str,
    *,
    calculation: str = "scf",
    control: str = "",
    system: str = "",
    electrons: str = "",
    element: str = "Si",
    cell: str = _PRIMITIVE,
    second: str | None = "0.25 0.25 0.25",
    mesh: str = "2 2 2",
) -> str:
    """Write an input: silicon with two atoms, unless something else is asked."""
    moves = calculation in {"relax", "vc-relax"}
    return _TEMPLATE.format(
        calculation=calculation,
        pseudos=pseudos,
        control=control,
        system=system,
        electrons=electrons,
        ions="" if not moves else "&ions\n/\n" + ("&cell\n/\n" if calculation == "vc-relax" else ""),
        element=element,
        cell=cell,
        positions=f"{element} 0 0 0" + (f"\n{element} {second}" if second else ""),
        nat=2 if second else 1,
        mesh=mesh,
    )


@dataclass(frozen=True)
class Ending:
    """A way to end.

    Parameters
    ----------
    code : int
        The cause that it must be given.
    changes : dict
        For :func:`input_text`.
    run : callable, optional
        ``run(directory, pw_x)`` in place of plain ``pw.x -in pw.in``.
    prepare : callable, optional
        ``prepare(directory, pseudos)`` gives another directory of pseudopotentials, or ``None``.
    """

    code: int
    changes: dict[str, str] = field(default_factory=dict)
    run: Callable[[Path, Path], None] | None = None
    prepare: Callable[[Path, Path], Path | None] | None = None


def environment() -> dict[str, str]:
    """One thread, and Open MPI as whoever runs the tests."""
    # hash: Open MPI's own files in shared memory shall not count against a limit on the size of files
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "PMIX_MCA_gds": "hash",
    }


def start(directory: Path, pw_x: Path | str, *arguments: str) -> subprocess.Popen[bytes]:
    """Start pw.x in a directory, output and error to files, added to what is there."""
    with (directory / "pw.out").open("ab") as out, (directory / "pw.err").open("ab") as err:
        return subprocess.Popen(
            [str(pw_x), *arguments, "-in", "pw.in"], cwd=directory, stdout=out, stderr=err, env=environment()
        )


def run_pw(directory: Path, pw_x: Path | str, *arguments: str) -> int:
    """Run pw.x in a directory to its end."""
    return start(directory, pw_x, *arguments).wait(timeout=120)


def _in_shell(command: str) -> Callable[[Path, Path], None]:
    def run(directory: Path, pw_x: Path) -> None:
        script = f"( {command.format(pw=pw_x)} ) > pw.out 2> pw.err"
        subprocess.run(["/bin/bash", "-c", script], cwd=directory, env=environment(), check=False, timeout=120)

    return run


def _when_in_scf(act: Callable[[subprocess.Popen[bytes], Path], None]) -> Callable[[Path, Path], None]:
    """Run pw.x and do something to it when it has read its input."""

    def run(directory: Path, pw_x: Path) -> None:
        process = start(directory, pw_x)
        end = time.monotonic() + 60
        # its directory says so; its output stays in a buffer
        while not (directory / "out").exists() and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.2)
        act(process, directory)
        process.wait(timeout=120)

    return run


def _signal(number: int) -> Callable[[subprocess.Popen[bytes], Path], None]:
    return lambda process, _: process.send_signal(number)


def _cut_pseudopotential(directory: Path, pseudos: Path) -> Path:
    (directory / "pseudos").mkdir()
    (directory / "pseudos" / "Si.upf").write_bytes((pseudos / "Si.upf").read_bytes()[:20000])
    return directory / "pseudos"


def _empty_pseudopotential(directory: Path, _: Path) -> Path:
    (directory / "pseudos").mkdir()
    (directory / "pseudos" / "Si.upf").touch()
    return directory / "pseudos"


def _no_pseudopotential(directory: Path, _: Path) -> Path:
    return directory / "nowhere"


def _scf_then_nscf(directory: Path, pw_x: Path) -> None:
    text = (directory / "pw.in").read_text()
    (directory / "pw.in").write_text(text.replace("'nscf'", "'scf'"))
    run_pw(directory, pw_x)
    (directory / "pw.in").write_text(text)
    run_pw(directory, pw_x)


def _twice(directory: Path, pw_x: Path) -> None:
    """Stop for want of time, then restart into the same output."""
    text = (directory / "pw.in").read_text()
    run_pw(directory, pw_x)
    (directory / "pw.in").write_text(text.replace("max_seconds=0.01", "restart_mode='restart'"))
    run_pw(directory, pw_x)


_MOVED = "0.28 0.25 0.25"
_METAL = {"element": "Al", "second": "", "system": ""}
# seconds in its first step on any machine, so that what is done to it comes before its end
_SLOW = {"mesh": "12 12 12", "second": "0.26 0.245 0.25"}

ENDINGS: dict[str, Ending] = {
    "scf": Ending(0),
    "spin_and_smearing": Ending(
        0, {"system": "nspin=2, starting_magnetization(1)=0.5, occupations='smearing', degauss=0.01, smearing='cold'"}
    ),
    "empty_bands": Ending(0, {"system": "nbnd=8"}),
    "relax": Ending(0, {"calculation": "relax", "second": "0.26 0.25 0.25"}),
    "nscf": Ending(0, {"calculation": "nscf", "system": "nbnd=8"}, run=_scf_then_nscf),
    "restarted": Ending(
        0, {**_SLOW, "mesh": "3 3 3", "calculation": "relax", "control": "max_seconds=0.01"}, run=_twice
    ),
    "wrong_and_happy": Ending(610, {"calculation": "vc-relax"}),
    "scf_not_converged": Ending(410, {"electrons": "electron_maxstep=2"}),
    "let_pass_unconverged": Ending(410, {"electrons": "electron_maxstep=2, scf_must_converge=.false."}),
    "ionic_steps": Ending(501, {"calculation": "relax", "control": "nstep=2", "second": _MOVED}),
    "ionic_steps_of_cell": Ending(501, {"calculation": "vc-relax", "control": "nstep=2"}),
    # thresholds that no minimiser reaches
    "minimiser_gave_up": Ending(
        510,
        {
            "calculation": "relax",
            "control": "forc_conv_thr=1e-9, etot_conv_thr=1e-14",
            "system": "nosym=.true.",
            "second": "0.28 0.24 0.25",
        },
    ),
    "walltime": Ending(101, {**_SLOW, "control": "max_seconds=0.01"}),
    "told_to_stop": Ending(105, _SLOW, run=_when_in_scf(lambda _, directory: (directory / "out" / "pw.EXIT").touch())),
    "killed": Ending(106, _SLOW, run=_when_in_scf(_signal(signal.SIGKILL))),
    "terminated": Ending(106, _SLOW, run=_when_in_scf(_signal(signal.SIGTERM))),
    "too_few_bands": Ending(305, {"system": "nbnd=2"}),
    "metal_without_smearing": Ending(306, _METAL),
    "unknown_key": Ending(303, {"control": "foo=1"}),
    "wrong_card": Ending(303, {"system": "ntyp=2"}),
    "bad_smearing": Ending(303, {"system": "occupations='nonsense'"}),
    "atoms_on_each_other": Ending(301, {"second": "0.0 0.0 1.0"}),
    "flat_cell": Ending(301, {"cell": "0.0 2.7 2.7\n2.7 0.0 2.7\n0.0 2.7 2.7"}),
    "no_pseudopotential": Ending(201, prepare=_no_pseudopotential),
    "cut_pseudopotential": Ending(208, prepare=_cut_pseudopotential),
    "empty_pseudopotential": Ending(208, prepare=_empty_pseudopotential),
    "no_scratch": Ending(206, {"control": "outdir='/proc/nowhere'"}),
    "file_too_large": Ending(202, run=_in_shell("ulimit -f 30; {pw} -in pw.in")),
    "output_nowhere": Ending(106, run=_in_shell("{pw} -in pw.in > /dev/full")),
    "binary_missing": Ending(203, run=_in_shell("pw-that-is-not-there.x -in pw.in")),
    "binary_of_another_place": Ending(203, run=_in_shell("/nowhere/bin/pw.x -in pw.in")),
    "binary_not_executable": Ending(206, run=_in_shell("./pw.in -in pw.in")),
    "pools": Ending(209, run=lambda directory, pw_x: run_pw(directory, pw_x, "-nk", "4") and None),
    "bands_without_scf": Ending(211, {"calculation": "nscf"}),
}
"""By name."""


@cache
def made_once(name: str, base: Path, pw_x: Path, pseudos: Path) -> Path:
    """Make a run once for whoever asks for it in this process."""
    return make_run(name, base / name, pw_x, pseudos)


def make_run(name: str, directory: Path, pw_x: Path, pseudos: Path) -> Path:
    """Make a directory and run in it what ends in the way of that name."""
    ending = ENDINGS[name]
    directory.mkdir(parents=True)
    chosen = (ending.prepare(directory, pseudos) if ending.prepare else None) or pseudos
    changes = {key: value for key, value in ending.changes.items() if key != "second"}
    second = ending.changes.get("second", "0.25 0.25 0.25") or None
    (directory / "pw.in").write_text(input_text(chosen, second=second, **changes))
    (ending.run or run_pw)(directory, pw_x)
    return directory
