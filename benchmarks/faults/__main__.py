"""Play every fault at random moments and compare each run with an undisturbed one; goes on where it was.

    FAULTS_N=1 python -m benchmarks.faults                       # one of each
    python -m benchmarks.faults --only node,scancel --kinds fast  # ten of two of them

One result file a run goes to ``.cache/faults``; delete a file to have its run again. Exit code 1 if any run went wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.faults.rounds import disturbed, undisturbed
from benchmarks.faults.slurm import ROOT, Slurm, available
from benchmarks.faults.strikes import FAULTS
from benchmarks.faults.table import markdown, read_results, write_into

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.faults.campaign import Kind
    from benchmarks.faults.strikes import Fault

PLACE = ROOT / ".cache" / "faults"


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = parser.add_argument("--only", default=",".join(FAULTS), help="faults, with commas: %(default)s")
    parser.add_argument("--kinds", default="fast,pw", help="stand-in tasks and real pw.x runs: %(default)s")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("FAULTS_N", "10")), help="of each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--place", type=Path, default=PLACE, help="of the result files")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/faults.md")
    options = parser.parse_args(arguments)
    options.only = options.only.split(",")
    options.kinds = options.kinds.split(",")
    if unknown := [name for name in options.only if name not in FAULTS]:
        raise argparse.ArgumentError(names, f"no such fault: {', '.join(unknown)}; there are {', '.join(FAULTS)}")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Play what has no result yet, then print the table."""
    options = _arguments(arguments)
    if missing := available():
        print(f"no SLURM here ({missing} missing): `make slurm` installs it (as root)")
        return 2
    place: Path = options.place
    place.mkdir(parents=True, exist_ok=True)
    wanted = [
        (FAULTS[name], kind, number)
        for number in range(1, options.rounds + 1)
        for name in options.only
        for kind in options.kinds
        if kind in FAULTS[name].kinds
    ]
    left = [(f, k, n) for f, k, n in wanted if not _file(place, f, k, n).exists()]
    print(f"{len(wanted)} runs wanted, {len(left)} left; seed {options.seed}", flush=True)
    if left:
        directory = Path(tempfile.mkdtemp(prefix="nucleate-slurm-"))
        slurm = Slurm(directory)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is stopped then, too
        try:
            slurm.start()
            for fault, kind, number in left:
                _play(slurm, fault, kind, number, options.seed, place)
        finally:
            slurm.stop()
            shutil.rmtree(directory, ignore_errors=True)
    results = read_results(place)
    table = markdown(results)
    (place / "table.md").write_text(table)
    if options.docs:
        write_into(ROOT / "docs" / "faults.md", results)
    print(table)
    wrong = [r for r in results if r["problems"]]
    for result in wrong:
        print(f"{result['fault']} {result['kind']} {result['number']}: {result['struck']}")
        print("".join(f"    {problem}\n" for problem in result["problems"]), end="")
    return 1 if wrong else 0


def _file(place: Path, fault: Fault, kind: str, number: int) -> Path:
    return place / f"{fault.name}-{kind}-{number:02d}.json"


def _play(slurm: Slurm, fault: Fault, kind: Kind, number: int, seed: int, place: Path) -> None:
    if why := fault.wants():
        print(f"{fault.name}: not played, it wants {why}", flush=True)
        return
    calm = _calm(slurm, fault, kind, place)
    print(f"{time.strftime('%H:%M:%S')} {fault.name} {kind} {number} (seed {seed}): ", end="", flush=True)
    outcome = disturbed(slurm, fault, kind, number, seed, calm, place)
    _write(_file(place, fault, kind, number), outcome.as_dict())
    more = f"; and {len(outcome.problems) - 2} more" if len(outcome.problems) > 2 else ""
    verdict = "; ".join(outcome.problems[:2]) + more if outcome.problems else "as undisturbed"
    print(
        f"{outcome.struck}: {verdict}; {outcome.longer_s:+.0f} s, untrue for {outcome.truth_max_s:.0f} s at most",
        flush=True,
    )


def _calm(slurm: Slurm, fault: Fault, kind: Kind, place: Path) -> dict[str, Any]:
    """Give the undisturbed run to compare with, computed when it is first asked for."""
    special = "" if fault.conditions.size == "usual" else f"-{fault.conditions.size}"
    file = place / f"undisturbed-{kind}{special}.json"
    if not file.exists():
        print(f"{time.strftime('%H:%M:%S')} undisturbed, {kind}{special}: ", end="", flush=True)
        found = undisturbed(slurm, kind, fault.conditions, place)
        _write(file, found)
        print(f"{found['seconds']:.0f} s", flush=True)
    calm: dict[str, Any] = json.loads(file.read_text())
    return calm


def _write(file: Path, document: dict[str, Any]) -> None:
    new = file.with_suffix(f".{os.getpid()}")
    new.write_text(json.dumps(document, indent=1, default=str))
    new.replace(file)


if __name__ == "__main__":
    sys.exit(main())
