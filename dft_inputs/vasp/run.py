"""Running VASP in a directory that holds its inputs: custodian around it, and an end that is a success or a cause."""

from __future__ import annotations

import json
import shlex
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from custodian import Custodian
from custodian.custodian import CustodianError
from custodian.vasp.validators import VaspFilesValidator, VasprunXMLValidator

from dft_inputs.causes import SUCCESS, DftError
from dft_inputs.diagnose import diagnose
from dft_inputs.vasp.handlers import CLOSING_SECONDS, default_handlers
from dft_inputs.vasp.job import RestartingVaspJob
from dft_inputs.walltime import seconds_left

if TYPE_CHECKING:
    from pathlib import Path

    from dft_inputs.diagnosis import Diagnosis


@dataclass(frozen=True)
class VaspCommand:
    """How VASP is started on this machine.

    Parameters
    ----------
    command : str
        As in a shell, such as ``srun vasp_std``; no shell reads it.
    gamma_command : str, optional
        For runs with the Γ point alone.
    poll_seconds : float
        How often it is asked whether VASP has ended.
    check_seconds : float
        How often a running VASP is looked at (wall-time, a frozen run).
    max_corrections : int
        Budget of custodian's corrections.
    """

    command: str
    gamma_command: str | None = None
    poll_seconds: float = 5.0
    check_seconds: float = 30.0
    max_corrections: int = 5

    def words(self) -> list[str]:
        """Split the command, and refuse it if its first word is no executable.

        Raises
        ------
        DftError
            203.
        """
        words = shlex.split(self.command)
        if not words or shutil.which(words[0]) is None:
            raise DftError(203, f"the VASP command {self.command!r} can't be started: no such executable")
        return words


def run_vasp(directory: Path, command: VaspCommand) -> Diagnosis:
    """Run VASP with custodian's corrections until it succeeds or nothing is left to try.

    Parameters
    ----------
    directory : pathlib.Path
        Holds INCAR, POSCAR, POTCAR and, unless INCAR has KSPACING, KPOINTS.
    command : VaspCommand

    Returns
    -------
    dft_inputs.diagnosis.Diagnosis
        Of success: everything else is raised.

    Raises
    ------
    DftError
        With the cause that the directory shows; 101 if the allocation ended it, or has no time left to begin.
    """
    words = command.words()
    left = seconds_left()
    if left is not None and left < CLOSING_SECONDS:
        raise DftError(101, f"{left:.0f} s of the allocation are left: too little to begin")
    gamma = shlex.split(command.gamma_command) if command.gamma_command else None
    job = RestartingVaspJob(words, gamma_vasp_cmd=gamma, auto_npar=False)
    custodian = Custodian(
        default_handlers(command.check_seconds),
        [job],
        validators=[VasprunXMLValidator(), VaspFilesValidator()],
        max_errors=command.max_corrections,
        polling_time_step=command.poll_seconds,
        monitor_freq=max(1, round(command.check_seconds / command.poll_seconds)),
        # some of custodian's handlers fall over files that a run left short; the diagnosis still knows the cause
        skip_over_errors=True,
        directory=str(directory),
    )
    gave_up = ""
    try:
        custodian.run()
    except CustodianError as error:
        gave_up = " ".join(str(error).split())[:300]
    except BaseException:  # told to stop: VASP leads a session of its own, which nobody else would end
        job.terminate(str(directory))
        raise
    found = diagnose(directory)
    if found.code != SUCCESS:
        seen = "; ".join(str(item) for item in found.evidence[:2])
        raise DftError(found.code, f"{seen}{f' (custodian: {gave_up})' if gave_up else ''}")
    if gave_up:
        raise DftError(210, f"custodian gave up: {gave_up}")
    return found


def corrections(directory: Path) -> list[dict[str, Any]]:
    """List what custodian changed in a run: ``errors`` and ``actions`` of each correction, in order."""
    path = directory / "custodian.json"
    if not path.is_file():
        return []
    log = json.loads(path.read_text(encoding="utf-8"))
    return [
        {"errors": item.get("errors"), "actions": item.get("actions")}
        for job in log
        for item in job.get("corrections", [])
    ]
