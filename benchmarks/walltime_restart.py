"""Core-time that a scheduler's kill costs: going on from the last ionic step, against starting over.

The same relaxation (distorted silicon, variable cell, real pw.x) three times: undisturbed; killed with SIGKILL in the
electronic cycle after its N-th ionic step and gone on with in another directory, as our next launch does; and killed at
the same place and begun again, which is what atomate2 does unless its user arranges otherwise. Core-seconds are those
of the processes (``getrusage``), so other load on the machine hardly counts. What a cut lost is its total less the
undisturbed one's; ours is never taken as less than the iterations that the kill threw away.

    python benchmarks/walltime_restart.py                # one cut after 6 steps, about 2 minutes
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pymatgen.core import Structure

from dft_inputs.causes import DftError
from dft_inputs.espresso.command import PwCommand
from dft_inputs.espresso.protocols import load_protocol
from dft_inputs.espresso.relax import count_ionic_steps, relax
from dft_inputs.pseudos import install_family

if TYPE_CHECKING:
    from dft_inputs.espresso.relax import Relaxation
    from dft_inputs.pseudos import Family

SABOTEUR = Path(__file__).parents[1] / "tests" / "support" / "pw_saboteur.py"

PROTOCOL = load_protocol("fast").changed(force_ev_per_angstrom=0.01)

SI = Structure(
    [[0.0, 2.85, 2.70], [2.75, 0.0, 2.75], [2.70, 2.85, 0.0]], ["Si", "Si"], [[0.0, 0.0, 0.0], [0.27, 0.25, 0.24]]
)

COARSE: dict[str, Any] = {"mesh": (2, 2, 2), "ecutwfc_ry": 30.0}


@dataclass(frozen=True)
class Way:
    """One way to a relaxed crystal.

    Parameters
    ----------
    name : str
    core_seconds : float
    ionic_steps : int
        Finished ones.
    energy_ev_per_atom, volume : float
        Volume in Å³ per atom.
    """

    name: str
    core_seconds: float
    ionic_steps: int
    energy_ev_per_atom: float
    volume: float


def core_seconds() -> float:
    """Give what all processes started from here, and waited for, have used."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def way(name: str, family: Family, directory: Path, cut: int | None, *, go_on: bool) -> Way:
    """Relax, with a kill after some ionic steps."""
    begun = core_seconds()
    first = directory / "first"
    done: Relaxation | None = None
    if cut is None:
        done = relax(SI, PROTOCOL, family, first, PwCommand(), **COARSE)
    else:
        killed = PwCommand(launcher=(sys.executable, str(SABOTEUR), f"kill9:{cut}", "1"))
        try:
            relax(SI, PROTOCOL, family, first, killed, max_corrections=0, **COARSE)
        except DftError as why:
            if why.code != 106:
                raise
        else:
            raise ValueError(f"the relaxation was over before step {cut}")
        done = relax(
            SI, PROTOCOL, family, directory / "second", PwCommand(), prev_dir=first if go_on else None, **COARSE
        )
    if done.output.energy_ev is None:
        raise ValueError(f"{directory}: no energy")
    return Way(
        name,
        core_seconds() - begun,
        count_ionic_steps(directory),
        done.output.energy_ev / len(SI),
        done.structure.volume / len(SI),
    )


def thrown_away(directory: Path) -> float:
    """Give the part of a killed run's electronic iterations that came after its last finished ionic step."""
    text = next(directory.rglob("pw.out")).read_text(encoding="utf-8")
    finished, cut = text[: text.rfind("total   stress")], text[text.rfind("total   stress") :]
    return cut.count("iteration #") / (finished.count("iteration #") + cut.count("iteration #"))


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cut", type=int, default=6, help="finished ionic steps before the kill")
    parser.add_argument("--family", default="PseudoDojo/0.4/PBE/SR/standard")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    asked = parser.parse_args()
    logging.getLogger("custodian").setLevel(logging.CRITICAL)
    family = install_family(asked.family)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch)
        undisturbed = way("undisturbed", family, root / "undisturbed", None, go_on=False)
        ours = way("gone on with", family, root / "ours", asked.cut, go_on=True)
        theirs = way("started over", family, root / "theirs", asked.cut, go_on=False)
        # up to the kill both did the same work
        before_kill = theirs.core_seconds - undisturbed.core_seconds
        floor = thrown_away(root / "ours" / "first") * before_kill
    lost = {
        ours.name: max(ours.core_seconds - undisturbed.core_seconds, floor),
        theirs.name: theirs.core_seconds - undisturbed.core_seconds,
    }
    for one in (undisturbed, ours, theirs):
        energy = 1000 * (one.energy_ev_per_atom - undisturbed.energy_ev_per_atom)
        print(
            f"{one.name:14} {one.core_seconds:8.1f} core-s, {one.ionic_steps:3d} ionic steps, lost "
            f"{lost.get(one.name, 0.0):6.1f} core-s, {energy:+.3f} "
            f"meV/atom, {100 * (one.volume / undisturbed.volume - 1):+.3f} % volume"
        )
    ratio = lost[theirs.name] / lost[ours.name]
    print(f"starting over loses {ratio:.1f} times as much as going on")
    if asked.json:
        numbers = {"ways": [asdict(one) for one in (undisturbed, ours, theirs)], "lost": lost, "ratio": ratio}
        asked.json.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
