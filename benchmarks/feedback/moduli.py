"""How well the surrogate behind the selection knows bulk moduli after some verdicts; whether CHGNet's own would help.

    python -m benchmarks.feedback.moduli --place DIR [--system 'Al-Ni-Cu-Zr window'] [--verdicts 48] [--splits 20]

DIR is that of a finished ``python -m benchmarks.feedback``: its verified crystals, with SevenNet-0's moduli, are split
at random into verdicts that teach and crystals that are predicted. Errors are root mean squares of
ln(predicted / measured).
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pymatgen.core import Structure

from benchmarks.feedback.arms import SYSTEMS, spec_of
from generators.data.labels import bulk_moduli_of
from workflows.acquisition import AcquisitionInput, Outcome, choose

if TYPE_CHECKING:
    from workflows.spec import Targets


def main() -> None:
    """Read what was verified; print errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", type=Path, required=True)
    parser.add_argument("--system", choices=sorted(SYSTEMS), default="Al-Ni-Cu-Zr window")
    parser.add_argument("--verdicts", type=int, default=48)
    parser.add_argument("--splits", type=int, default=20)
    o = parser.parse_args()
    warnings.simplefilter("ignore")
    spec = spec_of(o.system, 1, 1, 1, 1)
    structures, moduli = measured(o.place / "verified", set(SYSTEMS[o.system]["chemistry"]["allowed"]))
    found = [
        (predicted, stated)
        for split in range(o.splits)
        for predicted, stated in errors(structures, moduli, spec.targets, o.verdicts, split)
    ]
    off = np.array([one for one, _ in found])
    ratio = np.array([one / stated for one, stated in found])
    print(f"{len(moduli)} crystals of {o.system}; moduli scatter by {100 * np.std(np.log(moduli)):.1f} %")
    print(
        f"surrogate after {o.verdicts} verdicts, {o.splits} splits: {100 * math.sqrt((off**2).mean()):.1f} % off, "
        f"{math.sqrt((ratio**2).mean()):.2f} times what it states"
    )
    own = bulk_moduli_of(structures)
    apart = [math.log(a / b) for a, b in zip(own, moduli, strict=True) if a is not None and a > 0]
    print(f"CHGNet's own moduli of {len(apart)}: {100 * math.sqrt(np.square(apart).mean()):.1f} % off")


def measured(folder: Path, elements: set[str]) -> tuple[list[Structure], list[float]]:
    """Read the verified crystals of some elements that have a bulk modulus (GPa)."""
    structures, moduli = [], []
    for path in sorted(folder.glob("*.json")):
        verdict = json.loads(path.read_text())
        value = verdict.get("properties", {}).get("bulk_modulus", 0.0)
        if value <= 0:
            continue
        structure = Structure.from_dict(verdict["structure"])
        if {e.symbol for e in structure.composition.elements} <= elements:
            structures.append(structure)
            moduli.append(value)
    return structures, moduli


def errors(
    structures: list[Structure], moduli: list[float], targets: Targets, verdicts: int, seed: int
) -> list[tuple[float, float]]:
    """Teach some and predict the others; gives errors of ln(modulus) and the standard deviations stated for them."""
    order = np.random.default_rng(seed).permutation(len(structures))
    taught = [Outcome(f"t{i}", structures[i], 0.0, 0.0, {"bulk_modulus": moduli[i]}) for i in order[:verdicts]]
    asked = {f"a{i:05d}": i for i in order[verdicts:]}
    choices = choose([AcquisitionInput(name, structures[i], 0.0) for name, i in asked.items()], taught, targets, 0, 0)
    return [
        (
            math.log(c.parts["bulk_modulus"] / moduli[asked[c.candidate]]),
            math.asinh(c.parts["bulk_modulus_std"] / c.parts["bulk_modulus"]),
        )
        for c in choices
    ]


if __name__ == "__main__":
    main()
