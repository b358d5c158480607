"""custodian's handlers for VASP, each made anew for every job, and two of ours.

custodian's own ``WalltimeHandler`` wants the wall-time when it is made, which is when the job was written, often on
another machine and days before; it also remembers a start in the environment, which a worker shares among its jobs.
Ours asks the scheduler's allocation whenever it looks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from custodian.custodian import ErrorHandler
from custodian.vasp.handlers import (
    FrozenJobErrorHandler,
    IncorrectSmearingHandler,
    KspacingMetalHandler,
    LargeSigmaHandler,
    MeshSymmetryErrorHandler,
    NonConvergingErrorHandler,
    PositiveEnergyErrorHandler,
    PotimErrorHandler,
    StdErrHandler,
    UnconvergedErrorHandler,
    VaspErrorHandler,
)
from custodian.vasp.interpreter import VaspModder
from pymatgen.io.vasp import VaspInput

from dft_inputs.walltime import seconds_left

if TYPE_CHECKING:
    from collections.abc import Callable

CLOSING_SECONDS = 60.0
"""Kept back for what VASP writes at its end, for parsing and for storing the result."""

_IONIC = re.compile(r"LOOP\+:.*real time\s*([\d.]+)")
_COUNTED = re.compile(r"number of electron\s+\S+\s+magnetization")
_ELECTRONIC = re.compile(r"LOOP:.*real time\s*([\d.]+)")


class AllocationWalltimeHandler(ErrorHandler):  # type: ignore[misc] # custodian is untyped
    """Ask VASP to stop, by STOPCAR, while the allocation still lasts; the re-run goes on from the last geometry.

    First after the current ionic step (``LSTOP``), as soon as another one might not fit; if even the current one takes
    too long, after the current electronic step (``LABORT``).

    Parameters
    ----------
    check_seconds : float
        How often custodian asks; what can pass before it asks again.
    closing_seconds : float
        Kept back at the end.
    ask : callable, optional
        Gives the seconds left, or ``None`` where nobody knows a limit: :func:`dft_inputs.walltime.seconds_left`.
    """

    is_monitor = True
    is_terminating = False  # VASP ends by itself, with its files whole
    raises_runtime_error = False  # whether it is an error is for the diagnosis of the directory to say

    def __init__(
        self,
        check_seconds: float = 30.0,
        closing_seconds: float = CLOSING_SECONDS,
        ask: Callable[[], float | None] | None = None,
    ) -> None:
        self.check_seconds = check_seconds
        self.closing_seconds = closing_seconds
        self.ask = ask
        self.wanted = ""

    def as_dict(self) -> dict[str, Any]:
        """Give what custodian.json shows of it."""
        return {
            "@module": type(self).__module__,
            "@class": type(self).__name__,
            "check_seconds": self.check_seconds,
            "closing_seconds": self.closing_seconds,
        }

    def check(self, directory: str = "./") -> bool:
        """Tell whether VASP has to stop now."""
        left = (self.ask or seconds_left)()
        if left is None:
            return False
        # twice the longest so far: steps grow where the electronic cycle gets harder
        ionic, electronic = (2 * longest for longest in longest_loops(Path(directory) / "OUTCAR"))
        spare = left - self.closing_seconds - self.check_seconds
        if spare < electronic:
            self.wanted = "LABORT"
        elif spare < ionic:
            self.wanted = "LSTOP"
        else:
            return False
        return True

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Write STOPCAR."""
        (Path(directory) / "STOPCAR").write_text(f"{self.wanted or 'LSTOP'} = .TRUE.\n", encoding="ascii")
        return {"errors": ["walltime"], "actions": None}


class EarlyDiagonalisationHandler(ErrorHandler):  # type: ignore[misc] # custodian is untyped
    """Change the algorithm when Davidson fails in the very first electronic step.

    custodian's own handler knows the remedy, and falls over an OUTCAR that has not counted its electrons yet
    (custodian 2026.10: ``nelect < nprocs`` with ``None``).
    """

    is_monitor = False

    def check(self, directory: str = "./") -> bool:
        """Tell whether that is what happened."""
        said, outcar = (_read(Path(directory) / name) for name in ("vasp.out", "OUTCAR"))
        return "EDDDAV: Call to ZHEGV failed" in said and _COUNTED.search(outcar) is None

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Use all bands at once (ALGO = All), as custodian would; nothing is left to try if that is what failed."""
        inputs = VaspInput.from_directory(directory)
        if str(inputs["INCAR"].get("ALGO", "Normal")).lower() == "all":
            return {"errors": ["edddav"], "actions": None}
        actions = [{"dict": "INCAR", "action": {"_set": {"ALGO": "All", "ISEARCH": 1}}}]
        VaspModder(vi=inputs, directory=directory).apply_actions(actions)
        return {"errors": ["edddav"], "actions": actions}


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="ignore")
    except OSError:
        return ""


def longest_loops(outcar: Path) -> tuple[float, float]:
    """Give the longest ionic and electronic step (s) that OUTCAR has timed; zero where it has none."""
    text = _read(outcar)
    ionic = max((float(s) for s in _IONIC.findall(text)), default=0.0)
    electronic = max((float(s) for s in _ELECTRONIC.findall(text)), default=0.0)
    return max(ionic, electronic), electronic


def default_handlers(check_seconds: float = 30.0) -> list[ErrorHandler]:
    """Make custodian's handlers in atomate2's order, and before them ours.

    Made for each job: some of them count what they have tried, and atomate2's own are shared by all jobs of a process.
    """
    return [
        AllocationWalltimeHandler(check_seconds),
        EarlyDiagonalisationHandler(),
        VaspErrorHandler(),
        MeshSymmetryErrorHandler(),
        UnconvergedErrorHandler(),
        NonConvergingErrorHandler(),
        PotimErrorHandler(),
        PositiveEnergyErrorHandler(),
        FrozenJobErrorHandler(),
        StdErrHandler(),
        LargeSigmaHandler(),
        IncorrectSmearingHandler(),
        KspacingMetalHandler(),
    ]
