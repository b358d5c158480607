"""Run directories read and diagnosed a minute, on one core.

Real pw.x runs of all endings that small runs can have (``tests/support/pw_runs.py``), a longer one, and VASP outputs
that ASE ships, whole and cut off with VASP's words of failure beside them, are copied to 1,000 directories, half of
them gzipped. Timed, in seconds of CPU of one process with everything imported: diagnosing each directory, and reading
the result where it is a success, the last geometry where it is not.

    python benchmarks/diagnose.py                 # 1,000 directories
    python benchmarks/diagnose.py --n 100
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import sys
import tempfile
import time
from collections import Counter
from importlib.resources import files
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests" / "support"))
from pw_runs import ENDINGS, Ending, make_run

from dft_inputs.diagnose import diagnose
from dft_inputs.espresso.outputs import last_geometry, read_pw
from dft_inputs.pseudos import install_family
from dft_inputs.vasp.geometry import last_geometry as last_geometry_of_vasp

GOAL = 1000
"""Directories a minute."""

FAMILY = "PseudoDojo/0.4/PBE/SR/standard"

LONG = {
    "many_k_points": Ending(0, {"mesh": "8 8 8", "second": "0.26 0.245 0.25", "control": "verbosity='high'"}),
}  # fmt: skip
"""Outputs of a size that campaigns have."""

VASP_WORDS = (
    "",
    " Error EDDDAV: Call to ZHEGV failed. Returncode =   8 2  16",
    " ZBRENT: fatal error in bracketing",
    " BRMIX: very serious problems",
    "slurmstepd: error: *** JOB 71 ON c1 CANCELLED AT 2026-11-24T10:00:00 DUE TO TIME LIMIT ***",
)


def originals(base: Path) -> list[Path]:
    """Make one directory of each kind."""
    pw_x = shutil.which("pw.x")
    if pw_x is None:
        raise SystemExit("pw.x is missing: `make espresso` installs it (as root)")
    pseudos = install_family(FAMILY).directory
    ENDINGS.update(LONG)
    made = [make_run(name, base / name, Path(pw_x), pseudos) for name in ENDINGS]
    vasp = files("ase.test") / "testdata" / "vasp"
    outcar = (vasp / "OUTCAR_example_1").read_text()
    for number, words in enumerate(VASP_WORDS):
        directory = base / f"vasp-{number}"
        directory.mkdir()
        (directory / "OUTCAR").write_text(outcar if not words else outcar[: len(outcar) * 2 // 3])
        (directory / "vasp.out").write_text(f" running on   16 total cores\n entering main loop\n{words}\n")
        made.append(directory)
    for name in ("vasprun_pstress.xml", "vasprun_dfpt.xml"):
        directory = base / name
        directory.mkdir()
        shutil.copy(str(vasp / name), directory / "vasprun.xml")
        made.append(directory)
    return made


def copies(made: list[Path], base: Path, n: int) -> list[Path]:
    """Copy what the codes left, without scratch; every second directory gzipped."""
    directories = []
    for number in range(n):
        original = made[number % len(made)]
        directory = base / f"{number:05d}"
        directory.mkdir()
        for path in original.iterdir():
            if not path.is_file():
                continue
            if (number // len(made)) % 2 and path.stat().st_size:
                (directory / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
            else:
                shutil.copy(path, directory / path.name)
        directories.append(directory)
    return directories


def look(directory: Path) -> str:
    """Diagnose a directory, and read what there is to read."""
    found = diagnose(directory)
    if found.program == "vasp":
        last_geometry_of_vasp(directory)
    elif found.code:
        last_geometry(directory)
    else:
        read_pw(directory)
    return f"{found.code} {found.name}"


def main() -> None:
    """Print the rate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=1000, help="directories")
    n = parser.parse_args().n
    with tempfile.TemporaryDirectory() as place:
        (base := Path(place) / "made").mkdir()
        made = originals(base)
        (many := Path(place) / "many").mkdir()
        directories = copies(made, many, n)
        size = sum(path.stat().st_size for directory in directories for path in directory.iterdir())
        look(directories[0])  # imports and compiled patterns
        wall, begin = time.perf_counter(), time.process_time()
        found = Counter(look(directory) for directory in directories)
        seconds, wall = time.process_time() - begin, time.perf_counter() - wall
    print(f"{n} directories of {len(made)} kinds, {size / 1e6:.0f} MB on disk, {len(found)} diagnoses:")
    for name, count in found.most_common():
        print(f"  {count:4d}  {name}")
    rate = 60 * n / seconds
    print(
        f"{seconds:.1f} s of CPU ({wall:.1f} s wall-clock): {rate:,.0f} directories/minute on one core (goal {GOAL:,})"
    )
    sys.exit(rate < GOAL)


if __name__ == "__main__":
    main()
