"""The wall-time: pw.x stops itself in time, and where it can't, we end it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from custodian.custodian import ErrorHandler

from dft_inputs.espresso.record import RunRecord
from dft_inputs.walltime import seconds_left

LAST_SECONDS = 4.0
"""s; what we need to write down why a run ended."""


class WalltimeMonitor(ErrorHandler):  # type: ignore[misc]  # custodian carries no types
    """End a pw.x that overran the ``max_seconds`` it was given, in the last seconds of the allocation.

    pw.x looks at its clock between iterations; one that is longer than all before would run into the scheduler's kill,
    and the cause would be lost with it. There is nothing to correct: the next launch goes on from the last geometry.
    """

    is_monitor = True

    def __init__(self, last_seconds: float = LAST_SECONDS) -> None:
        self.last_seconds = last_seconds

    def check(self, directory: str | Path = "./") -> bool:
        """Tell whether pw.x is still running and time is up."""
        record = RunRecord.read(Path(directory).absolute())
        if record.max_seconds is None or record.returncode is not None:
            return False
        left = seconds_left()
        return left is not None and left < min(self.last_seconds, 0.5 * record.max_seconds)

    def correct(self, directory: str | Path = "./") -> dict[str, Any]:
        """Write down that it was us, and why; custodian ends the run."""
        where = Path(directory).absolute()
        replace(RunRecord.read(where), stopped="walltime").write(where)
        return {"errors": ["walltime"], "actions": None}
