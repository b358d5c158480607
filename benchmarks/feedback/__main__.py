"""Does feedback pay? Campaigns at equal verification budget, each arm with several seeds, in several systems.

    python -m benchmarks.feedback --place DIR [--seeds 3] [--rounds 4] [--samples 64] [--budget 16] [--processes 2]
                                  [--system NAME] [--arm NAME] [--reference] [--table] [--picture FILE]

A hit is stable (within 0.1 eV/atom of the hull of SevenNet-0), novel (in no library, reference or training set, nor
found before in this campaign) and meets the bulk modulus. Everything is kept in DIR: a run that was stopped goes on, a
verdict is computed once for all arms. CPU seconds are those that each piece of work took when it was done.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.feedback.arms import ARMS, SYSTEMS, spec_of
from benchmarks.feedback.run import result_path, run
from benchmarks.feedback.table import picture, table


def main() -> None:
    """Read the options; run what is missing; print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--place", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--budget", type=int, default=16)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--system", choices=sorted(SYSTEMS), action="append")
    parser.add_argument("--arm", choices=[arm.name for arm in ARMS], action="append")
    parser.add_argument("--reference", action="store_true", help="build the reference sets that are missing, and end")
    parser.add_argument("--table", action="store_true", help="only print the table")
    parser.add_argument("--picture", type=Path)
    o = parser.parse_args()
    systems = o.system or list(SYSTEMS)
    if o.reference:
        build_references(o.place, systems, o.processes)
        return
    if not o.table:
        wanted = [
            (system, arm.name, seed, o.rounds, o.samples, o.budget, str(o.place))
            for seed in range(1, o.seeds + 1)
            for system in systems
            for arm in ARMS
            if not o.arm or arm.name in o.arm
        ]
        run([w for w in wanted if not result_path(*w).exists()], o.processes)
    results = [json.loads(path.read_text()) for path in sorted((o.place / "results").glob("*.json"))]
    print(table(results))
    if o.picture:
        picture(results, o.picture)


def build_references(place: Path, systems: list[str], processes: int) -> None:
    """Build the reference subsystems that do not ship."""
    from workflows.engines.registry import make_engine
    from workflows.reference_build import build

    for system in systems:
        spec = spec_of(system, 1, 1, 1, 1)
        engine = make_engine(spec.engine, spec.protocol)

        def tell(what: str, done: int, total: int) -> None:
            print(f"reference: {what}, {done} of {total}", file=sys.stderr, flush=True)

        build(engine, spec.condition().chemical_systems, place / "reference", processes=processes, progress=tell)


if __name__ == "__main__":
    main()
