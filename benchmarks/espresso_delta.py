"""Quantum ESPRESSO against all-electron PBE: the Δ of elements' equations of state, with our protocol ``balanced``.

Reference: WIEN2k values that ship with ASE (``ase.collections.dcdft``; Lejaeghere et al., Crit. Rev. Solid State Mater.
Sci. 39, 1 (2014)); Δ is the root mean square difference of two energy curves within ±6 % of volume
(``ase.utils.deltacodesdft``). As that test wants, cells and positions are those of its CIFs, scaled: nothing relaxes.
Every scf is kept: an interrupted run goes on where it was.

    python benchmarks/espresso_delta.py Al Si Mg Ca
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase.collections import dcdft
from ase.eos import EquationOfState
from ase.units import kJ
from ase.utils.deltacodesdft import delta
from pymatgen.io.ase import AseAtomsAdaptor

from dft_inputs.causes import DftError
from dft_inputs.espresso.command import PwCommand
from dft_inputs.espresso.inputs import make_input
from dft_inputs.espresso.protocols import load_protocol
from dft_inputs.espresso.run import finished, run_pw
from dft_inputs.files import NoRunError
from dft_inputs.pseudos import load_family

if TYPE_CHECKING:
    from dft_inputs.espresso.protocols import PwProtocol
    from dft_inputs.espresso.pw_input import PwInput

GPA = 1e-24 * kJ
"""One GPa in eV/Å³; ASE's ``delta`` wants bulk moduli in eV/Å³."""

VOLUMES = np.linspace(0.94, 1.06, 7)
DEFAULT = ("Al", "Si", "Ar", "Rb", "Sr", "Ca", "K", "Mg")


def measure(symbol: str, protocol: PwProtocol, work: Path, command: PwCommand) -> dict[str, Any]:
    """Compute one element's curve and its Δ."""
    family = load_family(protocol.family)
    family.require([symbol])
    start = AseAtomsAdaptor.get_structure(dcdft[symbol]).get_primitive_structure()
    base = make_input(start, protocol, family, "scf")
    began = time.monotonic()
    volumes, energies = [], []
    for number, factor in enumerate(VOLUMES):
        cell = base.structure.copy().scale_lattice(base.structure.volume * factor)
        inp = make_input(cell, protocol, family, "scf", refine=False, mesh=base.mesh)
        energies.append(energy(inp, work / symbol / f"{number}", command) / len(cell))
        volumes.append(cell.volume / len(cell))
    v, _, b = EquationOfState(volumes, energies, eos="birchmurnaghan").fit()
    prime = EquationOfState(volumes, energies, eos="birchmurnaghan")
    prime.fit()
    data = dcdft.data[symbol]
    reference = (data["wien2k_volume"], data["wien2k_B"] * GPA, data["wien2k_Bp"])
    ours = (float(v), float(b), float(prime.eos_parameters[2]))
    return {
        "element": symbol,
        "volume": ours[0],
        "B_gpa": ours[1] / GPA,
        "Bp": ours[2],
        "wien2k_volume": reference[0],
        "wien2k_B_gpa": data["wien2k_B"],
        "wien2k_Bp": reference[2],
        "delta_mev": 1000 * float(delta(*reference, *ours)),
        "ecutwfc_ry": base.get("system.ecutwfc"),
        "mesh": "x".join(map(str, base.mesh)),
        "seconds": round(time.monotonic() - began),
    }


def energy(inp: PwInput, directory: Path, command: PwCommand) -> float:
    """Give the energy (eV) of a cell; a directory that holds it already is read."""
    try:
        done = finished(directory)
    except (DftError, NoRunError):
        done = run_pw(inp, directory, command, keep_density=False)
    if done.output.energy_ev is None or not done.comparable:
        raise DftError(607 if not done.comparable else 611, f"{directory}: no energy to compare")
    return done.output.energy_ev


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("elements", nargs="*", default=list(DEFAULT))
    parser.add_argument("--protocol", default="balanced")
    parser.add_argument("--work", type=Path, default=Path(".cache/espresso-delta"))
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    protocol = load_protocol(options.protocol)
    work = (
        options.work.absolute() / f"{protocol.name}-{protocol.energies_sha256()[:8]}"
    )  # what is kept belongs to its settings
    rows = []
    with ThreadPoolExecutor(options.processes) as pool:  # each waits for a pw.x process of its own
        futures = [pool.submit(measure, e, protocol, work, PwCommand()) for e in options.elements]
        for future in futures:
            row = future.result()
            rows.append(row)
            print(
                f"{row['element']:2}  V {row['volume']:8.4f} ({row['wien2k_volume']:8.4f}) Å³/atom  "
                f"B {row['B_gpa']:7.2f} ({row['wien2k_B_gpa']:7.2f}) GPa  "
                f"B' {row['Bp']:5.2f} ({row['wien2k_Bp']:5.2f})  "
                f"Δ {row['delta_mev']:5.2f} meV/atom  {row['ecutwfc_ry']:g} Ry  {row['mesh']}  {row['seconds']} s",
                flush=True,
            )
    work.mkdir(parents=True, exist_ok=True)
    (work / "delta.json").write_text(json.dumps(rows, indent=1) + "\n")
    worst = max(rows, key=lambda row: row["delta_mev"])
    print(f"largest Δ: {worst['delta_mev']:.2f} meV/atom ({worst['element']}); WIEN2k in parentheses")


if __name__ == "__main__":
    main()
