"""How fast the baselines are and how much of what they propose is a crystal at all: Mg-Al-Si-N-O, up to ternary.

Run: ``OMP_NUM_THREADS=1 python benchmarks/baselines.py [samples]``. One core; prints a table. pyxtal's own loop
(``pyxtal().from_random``, the same kind of compositions and random groups) is timed beside ours for a ratio.
"""

from __future__ import annotations

import sys
import time
import warnings
from itertools import combinations

import numpy as np
from pymatgen.analysis.structure_matcher import StructureMatcher
from pyxtal import pyxtal
from pyxtal.msg import Comp_CompatibilityError

from generators.base import Condition, derive_seed
from generators.compositions import element_sets, neutral_stoichiometries
from generators.crystals.neutrality import neutral
from generators.crystals.validity import check_structure
from generators.registry import make_generator

CONDITION = Condition(tuple(combinations(("Al", "Mg", "N", "O", "Si"), 3)), 2, 3, 8, "strict")
MIX = {"members": [("ion_exchange", 0.6), ("random", 0.4)]}


def measure(name: str, n: int) -> float:
    """Print one generator's row; return its samples per CPU-second."""
    begin = time.process_time()
    generator = make_generator(name, **(MIX if name == "mixture" else {}))
    next(generator.sample(1, CONDITION, 1))
    cold = time.process_time() - begin
    begin = time.process_time()
    samples = list(generator.sample(n, CONDITION, 2))
    seconds = time.process_time() - begin
    valid = [s for s in samples if not check_structure(s.structure, CONDITION.max_atoms)]
    charged = [s for s in valid if neutral(s.structure.composition, "strict")]
    groups = StructureMatcher().group_structures([s.structure for s in charged])
    ternary = sum(len(s.structure.composition) == 3 for s in samples)
    print(
        f"{name:14s} first sample {cold:5.1f} s, then {n / seconds:7.1f} samples/s; valid {len(valid) / n:.3f}, "
        f"valid and strictly neutral {len(charged) / n:.3f}, of these unique {len(groups) / max(1, len(charged)):.3f}, "
        f"ternary {ternary / n:.2f}"
    )
    return n / seconds


def pyxtal_rate(seconds: float) -> float:
    """Let pyxtal's own loop make crystals of the same compositions for a while; return crystals per CPU-second."""
    rng = np.random.default_rng(derive_seed("pyxtal"))
    sets = [s for sets in element_sets(CONDITION).values() for s in sets if neutral_stoichiometries(s, 8, "strict")]
    begin = time.process_time()
    made = 0
    while time.process_time() - begin < seconds:
        elements = sets[rng.integers(len(sets))]
        options = neutral_stoichiometries(elements, 8, "strict")
        counts = options[rng.integers(len(options))]
        crystal = pyxtal()
        try:
            crystal.from_random(
                3,
                int(rng.integers(1, 231)),
                list(elements),
                list(counts),
                conventional=False,
                random_state=int(rng.integers(2**31)),
            )
        except (Comp_CompatibilityError, RuntimeError):
            continue
        made += bool(crystal.valid)
    return made / (time.process_time() - begin)


def main() -> None:
    """Print the table."""
    warnings.simplefilter("ignore")
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    rates = {name: measure(name, n) for name in ("random", "ion_exchange", "mixture")}
    theirs = pyxtal_rate(30.0)
    ratio = rates["random"] / max(theirs, 1e-9)
    print(f"pyxtal's own loop {theirs:.2f} crystals/s; random symmetric is {ratio:.1f} times as fast")


if __name__ == "__main__":
    main()
