"""Stand between custodian and the real pw.x, and make it fail: a test's tool, never offered to users.

    pw_saboteur.py MODE TIMES pw.x -in pw.in

runs the real pw.x and passes its output on; in the first TIMES runs of a directory (counted in ``sabotage.txt`` there)
it does what MODE says, after that nothing. Modes:

``kill9:N`` / ``term:N``
    The real signal to the real pw.x, in the electronic cycle after its N-th finished ionic step (0: in the first).
``midwrite:N``
    As ``kill9:N``, then cut the charge density that it left, as a kill in the middle of a write does.
``diagonalisation`` / ``mixing``
    A stand-in: after pw.x's second iteration it is ended, and the words of pw.x for a broken Cholesky factorisation, or
    for a charge that went wrong, are put where it would have put them. These can't be provoked at will.
``silent``
    A stand-in: ended after the second iteration with the words of ``MPI_ABORT`` alone.
``incomplete``
    A stand-in: pw.x runs to its end, and its forces are left out of what is passed on.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

BLOCK = """
 %%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%
     Error in routine {routine} (1):
     {message}
 %%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%%

     stopping ...
"""

WORDS = {
    "diagonalisation": ("cdiaghg", "problems computing cholesky"),
    "mixing": ("electrons", "charge is wrong"),
}

ABORT = """--------------------------------------------------------------------------
MPI_ABORT was invoked on rank 0 in communicator MPI_COMM_WORLD
with errorcode 1.
--------------------------------------------------------------------------
"""


def main() -> int:
    """Run it."""
    mode, times, *command = sys.argv[1:]
    counter = Path("sabotage.txt")
    count = int(counter.read_text(encoding="utf-8")) if counter.exists() else 0
    counter.write_text(str(count + 1), encoding="utf-8")
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if process.stdout is None:
        return 1
    name, _, step = mode.partition(":")
    steps = 0
    cycle = 0
    hidden = False
    for line in process.stdout:
        if name == "incomplete" and count < int(times):
            hidden = "Forces acting on atoms" in line or (hidden and "Total force" not in line)
            if hidden:
                continue
        sys.stdout.write(line)
        sys.stdout.flush()
        steps += "total   stress" in line
        cycle = 0 if "total   stress" in line else cycle + ("iteration #" in line)
        if count < int(times) and name != "incomplete" and cycle == 2 and steps == int(step or 0):
            return _sabotage(process, name)
    return process.wait()


def _sabotage(process: subprocess.Popen[str], name: str) -> int:
    process.send_signal(signal.SIGTERM if name == "term" else signal.SIGKILL)
    process.wait()
    if name == "midwrite":
        for density in Path().glob("out/*.save/charge-density.dat"):
            data = density.read_bytes()
            density.write_bytes(data[: len(data) // 2])
    if name in WORDS:
        routine, message = WORDS[name]
        sys.stdout.write(BLOCK.format(routine=routine, message=message))
        sys.stderr.write(ABORT)
        return 1
    if name == "silent":
        sys.stderr.write(ABORT)
        return 1
    return 143 if name == "term" else 137


if __name__ == "__main__":
    sys.exit(main())
