"""Provoke every failure of pw.x that is handled, recover from it, and compare with a run that nobody disturbed.

Small crystals and coarse settings (silicon 20 Ry, aluminium 24 Ry): whether a result was recovered does not depend on
its precision. "real" is pw.x failing of itself, or killed by a real signal; "stand-in" is the real pw.x with a wrapper
that ends it and adds pw.x's words (``tests/support/pw_saboteur.py``), for failures that can't be brought about at will.

    python benchmarks/espresso_faults.py                 # all, a few minutes on one core
    python benchmarks/espresso_faults.py --only scf_not_converged,killed_9 --json table.json
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymatgen.core import Lattice, Structure

from dft_inputs.causes import DftError
from dft_inputs.espresso.command import PwCommand
from dft_inputs.espresso.handlers import handlers_for
from dft_inputs.espresso.inputs import make_input
from dft_inputs.espresso.protocols import load_protocol
from dft_inputs.espresso.relax import relax
from dft_inputs.espresso.run import run_pw
from dft_inputs.pseudos import install_family
from dft_inputs.walltime import DEADLINE

if TYPE_CHECKING:
    from collections.abc import Callable

    from dft_inputs.espresso.pw_input import PwInput
    from dft_inputs.espresso.record import Correction
    from dft_inputs.pseudos import Family

SABOTEUR = Path(__file__).parents[1] / "tests" / "support" / "pw_saboteur.py"

ENERGY_TOLERANCE_MEV = 1.0
VOLUME_TOLERANCE_PERCENT = 0.1

PROTOCOL = load_protocol("fast").changed(final_pressure_kbar=0.5, pressure_kbar=0.1, force_ev_per_angstrom=0.01)

SI = Structure(
    [[0.0, 2.85, 2.70], [2.75, 0.0, 2.75], [2.70, 2.85, 0.0]], ["Si", "Si"], [[0.0, 0.0, 0.0], [0.27, 0.25, 0.24]]
)
"""Silicon, pulled out of shape."""

AL = Structure(Lattice([[0.0, 2.0, 2.0], [2.0, 0.0, 2.0], [2.0, 2.0, 0.0]]), ["Al"], [[0.0, 0.0, 0.0]])

COARSE: dict[str, dict[str, Any]] = {
    "Si": {"mesh": (2, 2, 2), "ecutwfc_ry": 20.0},
    "Al": {"mesh": (4, 4, 4), "ecutwfc_ry": 24.0},
}


@dataclass(frozen=True)
class Outcome:
    """What a case ended with.

    Parameters
    ----------
    energy_ev_per_atom, volume : float
        Volume in Å³ per atom.
    corrections : tuple of Correction
    notes : str
    """

    energy_ev_per_atom: float
    volume: float
    corrections: tuple[Correction, ...] = ()
    comparable: bool = True
    notes: str = ""


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    case: str
    cause: int
    provoked: str
    changed: str
    milli_ev_per_atom: float
    volume_percent: float
    comparable: bool
    seconds: float
    agrees: bool


@dataclass(frozen=True)
class Case:
    """A failure and how it is brought about.

    Parameters
    ----------
    name : str
    code : int
        The cause that must have been seen.
    provoked : {"real", "stand-in"}
    reference : str
        Key of :data:`REFERENCES`.
    run : callable
        Takes the workbench and a directory.
    """

    name: str
    code: int
    provoked: str
    reference: str
    run: Callable[[Workbench, Path], Outcome]


@dataclass
class Workbench:
    """What all cases need: a family, and undisturbed results, computed when first asked for."""

    family: Family
    root: Path
    known: dict[str, Outcome] = field(default_factory=dict)

    def reference(self, name: str) -> Outcome:
        """Give an undisturbed result."""
        if name not in self.known:
            self.known[name] = REFERENCES[name](self, self.root / f"undisturbed-{name}")
        return self.known[name]

    def input(self, element: str, calculation: Any, extra: dict[str, Any] | None = None, **options: Any) -> PwInput:
        """Make an input that the coarse settings are for."""
        crystal = SI if element == "Si" else AL
        return make_input(crystal, PROTOCOL, self.family, calculation, extra=extra, **COARSE[element], **options)

    def run(self, inp: PwInput, directory: Path, command: PwCommand | None = None, **options: Any) -> Outcome:
        """Run an input to its result."""
        done = run_pw(inp, directory, command or PwCommand(), **options)
        n_atoms = len(done.output.structure)
        if done.output.energy_ev is None:
            raise ValueError(f"{directory}: no energy")
        return Outcome(
            done.output.energy_ev / n_atoms,
            done.output.structure.volume / n_atoms,
            done.corrections,
            done.comparable,
        )

    def relax(self, directory: Path, command: PwCommand | None = None, **options: Any) -> Outcome:
        """Relax silicon until its plane waves fit."""
        done = relax(SI, PROTOCOL, self.family, directory, command or PwCommand(), **COARSE["Si"], **options)
        if done.output.energy_ev is None:
            raise ValueError(f"{directory}: no energy")
        return Outcome(
            done.output.energy_ev / len(SI),
            done.structure.volume / len(SI),
            done.corrections,
            done.comparable,
            notes=f"{done.n_ionic_steps} ionic steps, {done.repeats} repeats",
        )


def saboteur(mode: str, times: int = 1) -> PwCommand:
    """Give a command with the saboteur before the real pw.x."""
    return PwCommand(launcher=(sys.executable, str(SABOTEUR), mode, str(times)))


def stopped_by_walltime(bench: Workbench, directory: Path) -> Outcome:
    """Let a relaxation run into its wall-time, then go on in another directory, as the next launch does."""
    before = os.environ.get(DEADLINE)
    os.environ[DEADLINE] = str(time.time() + 8.0)
    try:
        bench.relax(directory / "first")
    except DftError as why:
        if why.code != 101:
            raise
    else:
        raise ValueError("8 s of wall-time were enough: nothing was tested")
    finally:
        os.environ.pop(DEADLINE)
        if before is not None:
            os.environ[DEADLINE] = before
    return bench.relax(directory / "second", prev_dir=directory / "first")


def relaxed_with(mode: str, times: int = 1) -> Callable[[Workbench, Path], Outcome]:
    """Relax with the saboteur between."""
    return lambda bench, directory: bench.relax(directory, saboteur(mode, times))


def relaxed(overrides: dict[str, Any]) -> Callable[[Workbench, Path], Outcome]:
    """Relax with an input that is asked too much or given too little."""
    return lambda bench, directory: bench.relax(directory, overrides=overrides)


def computed(element: str, extra: dict[str, Any], command: PwCommand | None = None) -> Callable[..., Outcome]:
    """Compute an energy with an input that is asked too much or given too little."""
    return lambda bench, directory: bench.run(bench.input(element, "scf", extra), directory, command)


REFERENCES: dict[str, Callable[[Workbench, Path], Outcome]] = {
    "scf Si": computed("Si", {}),
    "scf Al": computed("Al", {}),
    "relaxed Si": relaxed({}),
    "positions Si": lambda bench, directory: bench.run(bench.input("Si", "relax"), directory),
    "pressed Si": relaxed({"cell.press": 400.0}),
}
"""Runs that nobody disturbs."""

CASES: tuple[Case, ...] = (
    Case("pools_too_many", 209, "real", "scf Si", computed("Si", {}, PwCommand(pools=9))),
    Case("too_few_bands", 305, "real", "scf Si", computed("Si", {"system.nbnd": 3})),
    Case(
        "metal_with_fixed_occupations",
        306,
        "real",
        "scf Al",
        lambda bench, directory: bench.run(
            bench.input("Al", "scf", {"system.occupations": "fixed", "system.smearing": None, "system.degauss": None}),
            directory,
            handlers=handlers_for(PROTOCOL, {"Al"}),
        ),
    ),
    Case("scf_not_converged", 410, "real", "scf Si", computed("Si", {"electrons.electron_maxstep": 4})),
    Case(
        "scf_mixed_too_boldly",
        410,
        "real",
        "scf Si",
        computed("Si", {"electrons.electron_maxstep": 8, "electrons.mixing_beta": 1.0, "electrons.mixing_ndim": 1}),
    ),
    Case("diagonalisation", 401, "stand-in", "scf Si", computed("Si", {}, saboteur("diagonalisation"))),
    Case("diagonalisation_twice", 401, "stand-in", "scf Si", computed("Si", {}, saboteur("diagonalisation", 2))),
    Case("charge_mixing", 411, "stand-in", "scf Si", computed("Si", {}, saboteur("mixing"))),
    Case("crashed_silently", 210, "stand-in", "scf Si", computed("Si", {}, saboteur("silent"))),
    Case("forces_missing", 611, "stand-in", "scf Si", computed("Si", {}, saboteur("incomplete"))),
    Case("steps_exhausted", 501, "real", "relaxed Si", relaxed({"control.nstep": 2})),
    Case("killed_9", 106, "real", "relaxed Si", relaxed_with("kill9:2")),
    Case("killed_9_before_the_first_step", 106, "real", "relaxed Si", relaxed_with("kill9:0")),
    Case("killed_term", 106, "real", "relaxed Si", relaxed_with("term:3")),
    Case("killed_mid_write", 106, "real", "relaxed Si", relaxed_with("midwrite:3")),
    Case("walltime", 101, "real", "relaxed Si", stopped_by_walltime),
    Case(
        "minimiser_history",
        510,
        "real",
        "positions Si",
        lambda bench, directory: bench.run(
            bench.input(
                "Si",
                "relax",
                {
                    "electrons.conv_thr": 3e-3,
                    "ions.upscale": 1.0,
                    "control.forc_conv_thr": 1e-6,
                    "control.etot_conv_thr": 1e-9,
                },
            ),
            directory,
        ),
    ),
    Case(
        "basis_not_consistent",
        610,
        "real",
        "relaxed Si",
        lambda bench, directory: bench.run(
            bench.input("Si", "vc-relax"), directory, pressure_tolerance_kbar=PROTOCOL.final_pressure_kbar
        ),
    ),
    Case("cell_left_its_tables", 511, "real", "pressed Si", relaxed({"cell.press": 400.0, "cell.cell_factor": 1.0})),
)


def judge(bench: Workbench, case: Case) -> Row:
    """Run a case and compare."""
    undisturbed = bench.reference(case.reference)
    begun = time.monotonic()
    outcome = case.run(bench, bench.root / case.name)
    seconds = time.monotonic() - begun
    energy = 1000.0 * (outcome.energy_ev_per_atom - undisturbed.energy_ev_per_atom)
    volume = 100.0 * (outcome.volume / undisturbed.volume - 1.0)
    seen = {one.code for one in outcome.corrections} | ({101} if case.code == 101 else set())
    return Row(
        case.name,
        case.code,
        case.provoked,
        "; ".join(", ".join(one.actions) for one in outcome.corrections),
        energy,
        volume,
        outcome.comparable,
        seconds,
        case.code in seen and abs(energy) <= ENERGY_TOLERANCE_MEV and abs(volume) <= VOLUME_TOLERANCE_PERCENT,
    )


def main() -> int:
    """Run them and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", help="names of cases, separated by commas")
    parser.add_argument("--family", default="PseudoDojo/0.4/PBE/SR/standard")
    parser.add_argument("--json", type=Path, help="write the table here as well")
    parser.add_argument("--keep", type=Path, help="keep the run directories here")
    asked = parser.parse_args()
    logging.getLogger("custodian").setLevel(logging.CRITICAL)  # it names each handler; the table says more
    wanted = asked.only.split(",") if asked.only else [case.name for case in CASES]
    if unknown := set(wanted) - {case.name for case in CASES}:
        parser.error(f"no such case: {', '.join(sorted(unknown))}")
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        bench = Workbench(install_family(asked.family), asked.keep or Path(scratch))
        for case in (case for case in CASES if case.name in wanted):
            try:
                rows.append(judge(bench, case))
            except DftError as why:
                print(f"{case.name:32} {case.code} {case.provoked:8} NOT RECOVERED: {why}", flush=True)
                rows.append(Row(case.name, case.code, case.provoked, str(why), 0.0, 0.0, True, 0.0, agrees=False))
                continue
            row = rows[-1]
            print(
                f"{row.case:32} {row.cause} {row.provoked:8} {row.milli_ev_per_atom:+8.3f} meV/atom "
                f"{row.volume_percent:+7.3f} % {row.seconds:6.1f} s {'agrees' if row.agrees else 'DIFFERS'} "
                f"{'' if row.comparable else '(not comparable) '}| {row.changed}",
                flush=True,
            )
    if asked.json:
        asked.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    return 0 if all(row.agrees for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
