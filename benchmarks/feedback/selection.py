"""How many hits the selection finds among crystals whose verdicts are known, before and after it was taught.

    python -m benchmarks.feedback.selection --place DIR --system NAME [--verdicts 48] [--asked 110] [--budget 16]
                                            [--splits 15]

DIR is that of a finished ``python -m benchmarks.feedback``: its verified crystals are split at random into verdicts
that teach and crystals to choose from, of which the selection may verify as many as a round does. What it can't find
there, no better selection finds: then proposals are what lacks.
"""

from __future__ import annotations

import argparse
import json
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from pymatgen.core import Structure

from benchmarks.feedback.arms import SYSTEMS, spec_of
from benchmarks.feedback.play import Site
from workflows.acquisition import AcquisitionInput, Outcome, choose
from workflows.screening import screening_hull

if TYPE_CHECKING:
    from workflows.spec import Targets


class Known(NamedTuple):
    """A crystal as pre-relaxed, how far the screening model and the engine see it from their hulls, properties."""

    structure: Structure
    screened_ev_per_atom: float
    above_hull_ev_per_atom: float
    properties: dict[str, float]


def main() -> None:
    """Read what was verified; print hits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", type=Path, required=True)
    parser.add_argument("--system", choices=sorted(SYSTEMS), required=True)
    parser.add_argument("--verdicts", type=int, default=48)
    parser.add_argument("--asked", type=int, default=110)
    parser.add_argument("--budget", type=int, default=16)
    parser.add_argument("--splits", type=int, default=15)
    o = parser.parse_args()
    warnings.simplefilter("ignore")
    spec = spec_of(o.system, 1, 1, 1, 1)
    crystals = known_of(Site(spec, o.place), set(SYSTEMS[o.system]["chemistry"]["allowed"]))
    hits = sum(is_hit(one, spec.targets) for one in crystals)
    print(f"{len(crystals)} verified crystals of {o.system}, {hits} stable and on target")
    for verdicts in (0, o.verdicts):
        found = [hits_of(crystals, spec.targets, verdicts, o.asked, o.budget, seed) for seed in range(o.splits)]
        error = np.std(found, ddof=1) / math.sqrt(len(found))
        there = o.asked * hits / len(crystals)
        print(
            f"taught by {verdicts} verdicts: {np.mean(found):.1f} ± {error:.1f} hits of {o.budget} "
            f"(of {there:.0f} among {o.asked}; at random {o.budget * hits / len(crystals):.1f})"
        )


def known_of(site: Site, elements: set[str]) -> list[Known]:
    """Read the crystals that were pre-relaxed and verified, in a fixed order."""
    hull = screening_hull(site.reference)
    found: dict[str, Known] = {}
    for path in sorted(site.prerelaxed.folder.glob("*.json")):
        block = json.loads(path.read_text())["block"]
        if block["structure"] is None:
            continue
        structure = Structure.from_dict(block["structure"])
        verdict = site.verified.get(structure)
        if verdict is None or "above_hull_ev_per_atom" not in verdict:
            continue
        screened = hull.above(structure.composition, block["energy_ev_per_atom"])
        if screened is not None and {e.symbol for e in structure.composition.elements} <= elements:
            key = json.dumps(verdict["structure"], sort_keys=True)
            found[key] = Known(structure, screened, verdict["above_hull_ev_per_atom"], verdict["properties"])
    return list(found.values())


def is_hit(one: Known, targets: Targets) -> bool:
    """Tell whether a crystal is stable and meets every property target."""
    return targets.energy_above_hull.holds(one.above_hull_ev_per_atom) and targets.met_by(one.properties)


def hits_of(crystals: list[Known], targets: Targets, verdicts: int, asked: int, budget: int, seed: int) -> int:
    """Teach some, let others be chosen from, and count the hits among those."""
    order = np.random.default_rng(seed).permutation(len(crystals))
    pool = {f"a{i:05d}": crystals[i] for i in order[-asked:]}
    history = [
        Outcome(f"t{i:05d}", one.structure, one.screened_ev_per_atom, one.above_hull_ev_per_atom, one.properties)
        for i in order[:verdicts]
        for one in [crystals[i]]
    ]
    inputs = [AcquisitionInput(name, one.structure, one.screened_ev_per_atom) for name, one in pool.items()]
    return sum(is_hit(pool[c.candidate], targets) for c in choose(inputs, history, targets, budget, seed) if c.selected)


if __name__ == "__main__":
    main()
