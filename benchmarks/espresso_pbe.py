"""Quantum ESPRESSO against PBE of others: lattice constants of compounds, and the optical phonon of silicon at Γ.

Our protocol's number is compared with PBE numbers of others, never with experiment: what is tested is our use of pw.x,
not PBE. Each crystal starts 2 to 3 % too long. For silicon's phonon an atom of the two-atom cell, at our own lattice
constant, is moved (a cell's own zone centre needs no supercell); phonopy makes displacements and force constants. Runs
are kept: an interrupted benchmark goes on where it was.

    python benchmarks/espresso_pbe.py --work /tmp/pbe MgO NaCl AlN Si
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ase.collections import dcdft
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms
from pymatgen.core import Lattice, Structure
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from dft_inputs.causes import DftError
from dft_inputs.espresso.command import PwCommand
from dft_inputs.espresso.inputs import make_input
from dft_inputs.espresso.outputs import read_pw
from dft_inputs.espresso.protocols import load_protocol
from dft_inputs.espresso.relax import relax
from dft_inputs.espresso.run import finished, run_pw
from dft_inputs.files import NoRunError
from dft_inputs.pseudos import load_family

if TYPE_CHECKING:
    from dft_inputs.espresso.protocols import PwProtocol
    from dft_inputs.espresso.relax import Relaxation
    from dft_inputs.pseudos import Family


@dataclass(frozen=True)
class Published:
    """A PBE number of others.

    Parameters
    ----------
    quantity : str
        ``a`` or ``c`` of the conventional cell (Å), or ``optical`` (THz).
    value : float
    source : str
    """

    quantity: str
    value: float
    source: str


@dataclass(frozen=True)
class Case:
    """A crystal, where it starts, and what others found.

    Parameters
    ----------
    name : str
    structure : str
        In words.
    start : pymatgen.core.Structure
    published : tuple of Published
    """

    name: str
    structure: str
    start: Structure
    published: tuple[Published, ...]


def crystal(group: str, lattice: Lattice, species: list[str], sites: list[list[float]]) -> Structure:
    """Give the smallest cell of a crystal."""
    return Structure.from_spacegroup(group, lattice, species, sites).get_primitive_structure()


ORIGIN = [0.0, 0.0, 0.0]
THIRDS = [1 / 3, 2 / 3]

ACWF = "FLEUR and WIEN2k, mean: Bosoni et al., Nat. Rev. Phys. 6, 45 (2024)"
"""``min_volume`` of ``Mg-XO``, 19.24904 Å³ per formula unit, in ``results-oxides-verification-PBE-v1-ae.json`` of
github.com/aiidateam/acwf-verification-scripts (``3-analyze/outputs``)."""

DCDFT = "WIEN2k: Lejaeghere et al., Crit. Rev. Solid State Mater. Sci. 39, 1 (2014)"
"""As it ships with ASE (``ase.collections.dcdft``)."""

GBRV = "WIEN2k: Garrity, Bennett, Rabe, Vanderbilt, Comput. Mater. Sci. 81, 446 (2014)"
"""All-electron column of the supplement's table of rock salts, as ASE once carried it (``ase/test/tasks/gbrv.py``)."""

MP = "VASP: Materials Project, mp-661; Jain et al., APL Mater. 1, 011002 (2013)"
"""As quoted in AiiDA-VASP's documentation (a daily life with AiiDA-VASP calculation)."""

PHONO3PY = "VASP forces of github.com/phonopy/phono3py, example/Si-PBE"
"""From the one single displacement of its ``FORCES_FC3`` (64 atoms, a = 5.46626 Å, 0.03 Å along x): the forces on the
two sublattices add up to ∓0.392694 eV/Å, so that the frequency is √(2 × 13.08980 eV/Å² / 28.0855 u) / 2π."""

CASES = (
    Case(
        "MgO",
        "rock salt",
        crystal("Fm-3m", Lattice.cubic(4.37), ["Mg", "O"], [ORIGIN, [0.5, 0.5, 0.5]]),
        (Published("a", 4.2543, ACWF), Published("a", 4.259, GBRV)),
    ),
    Case(
        "NaCl",
        "rock salt",
        crystal("Fm-3m", Lattice.cubic(5.85), ["Na", "Cl"], [ORIGIN, [0.5, 0.5, 0.5]]),
        (Published("a", 5.714, GBRV),),
    ),
    Case(
        "AlN",
        "wurtzite",
        crystal("P6_3mc", Lattice.hexagonal(3.20, 5.15), ["Al", "N"], [[*THIRDS, 0.0], [*THIRDS, 0.375]]),
        (Published("a", 3.1286, MP), Published("c", 5.0170, MP)),
    ),
    Case(
        "Si",
        "diamond",
        crystal("Fd-3m", Lattice.cubic(5.60), ["Si"], [ORIGIN]),
        (
            Published("a", round(math.cbrt(8 * dcdft.data["Si"]["wien2k_volume"]), 4), DCDFT),
            Published("optical", 15.094, PHONO3PY),
        ),
    ),
)

TOLERANCE_PERCENT = {"a": 0.5, "c": 0.5, "optical": 2.0}


def measure(case: Case, protocol: PwProtocol, work: Path, command: PwCommand) -> list[dict[str, Any]]:
    """Relax one crystal, of silicon compute the phonon too, and compare."""
    family = load_family(protocol.family)
    family.require(sorted({site.specie.symbol for site in case.start}))
    directory = work / case.name
    relaxed = relax(case.start, protocol, family, directory, command, prev_dir=directory)  # of itself: goes on
    if not relaxed.comparable:
        raise DftError(607, f"{directory}: a correction changed the physics")
    seconds = {"a": spent(directory), "c": spent(directory)}
    cell = SpacegroupAnalyzer(relaxed.structure).get_conventional_standard_structure().lattice
    found = {"a": cell.a, "c": cell.c}
    if any(one.quantity == "optical" for one in case.published):
        there = directory / f"phonon-{protocol.displacement:g}-{protocol.phonon_scf_energy_ev_per_atom:g}"
        found["optical"] = optical_thz(relaxed, protocol, family, there, command)
        seconds["optical"] = spent(there)
    return [
        {
            "crystal": case.name,
            "structure": case.structure,
            "quantity": one.quantity,
            "value": found[one.quantity],
            "reference": one.value,
            "source": one.source,
            "deviation_percent": 100 * (found[one.quantity] / one.value - 1),
            "tolerance_percent": TOLERANCE_PERCENT[one.quantity],
            "ecutwfc_ry": relaxed.final.inp.get("system.ecutwfc"),
            "mesh": "x".join(map(str, relaxed.final.inp.mesh)),
            "final_pressure_kbar": relaxed.output.pressure_kbar,
            "repeats": relaxed.repeats,
            "seconds": round(seconds[one.quantity]),
        }
        for one in case.published
    ]


def optical_thz(
    relaxed: Relaxation, protocol: PwProtocol, family: Family, directory: Path, command: PwCommand
) -> float:
    """Give the highest frequency at Γ (THz) of a relaxed crystal by finite displacements of its primitive cell."""
    cell = make_input(relaxed.structure, protocol, family, "scf").structure
    phonon = Phonopy(
        PhonopyAtoms(
            symbols=[site.specie.symbol for site in cell], cell=cell.lattice.matrix, scaled_positions=cell.frac_coords
        ),
        supercell_matrix=[[1, 0, 0], [0, 1, 0], [0, 0, 1]],
        primitive_matrix="P",
    )
    phonon.generate_displacements(distance=protocol.displacement)  # the other way too, unless symmetry gives it
    forces = []
    for number, moved in enumerate(phonon.supercells_with_displacements):
        inp = make_input(
            Structure(moved.cell, moved.symbols, moved.scaled_positions),
            protocol,
            family,
            "scf",
            refine=False,
            mesh=relaxed.final.inp.mesh,
            scf_energy_ev_per_atom=protocol.phonon_scf_energy_ev_per_atom,
        )
        here = directory / f"{number}"
        try:
            done = finished(here)
        except (DftError, NoRunError):
            done = run_pw(inp, here, command, keep_density=False)
        if done.output.forces is None or not done.comparable:
            raise DftError(607 if not done.comparable else 611, f"{here}: no forces to compare")
        forces.append(done.output.forces)
    phonon.forces = forces
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants()  # acoustic sum rule
    phonon.run_qpoints([[0.0, 0.0, 0.0]])
    return float(phonon.qpoints.frequencies.max())


def spent(directory: Path) -> float:
    """Add up the wall-time (s) that pw.x reports of the runs of a directory, whenever they were."""
    times = (
        read_pw(path.parent, pressure_tolerance_kbar=math.inf).walltime_s for path in sorted(directory.glob("*/pw.out"))
    )
    return sum(time or 0.0 for time in times)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("crystals", nargs="*", default=[case.name for case in CASES])
    parser.add_argument("--protocol", default="balanced")
    parser.add_argument("--work", type=Path, default=Path(".cache/espresso-pbe"))
    options = parser.parse_args()
    known = {case.name: case for case in CASES}
    if unknown := set(options.crystals) - set(known):
        parser.error(f"no published value for {', '.join(sorted(unknown))}: known are {', '.join(known)}")
    protocol = load_protocol(options.protocol)
    work = options.work.absolute() / f"{protocol.name}-{protocol.energies_sha256()[:8]}"  # another's never count
    rows: list[dict[str, Any]] = []
    for name in options.crystals:
        for row in measure(known[name], protocol, work, PwCommand()):
            rows.append(row)
            unit = "THz" if row["quantity"] == "optical" else "Å"
            print(
                f"{name:4} {row['structure']:9} {row['quantity']:7} {row['value']:8.4f} {unit:3} "
                f"({row['reference']:g})  {row['deviation_percent']:+6.2f} %  {row['ecutwfc_ry']:g} Ry  "
                f"{row['mesh']}  {row['repeats']} vc-relax, {row['final_pressure_kbar']:+.2f} kbar  "
                f"{row['seconds']} s  {row['source']}",
                flush=True,
            )
    work.mkdir(parents=True, exist_ok=True)
    (work / "pbe.json").write_text(json.dumps(rows, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    far = [row for row in rows if abs(row["deviation_percent"]) > row["tolerance_percent"]]
    print(f"{len(rows) - len(far)} of {len(rows)} within 0.5 % (lengths) and 2 % (frequency)")
    if far:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
