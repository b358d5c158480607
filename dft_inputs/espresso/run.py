"""Run pw.x until it has a trustworthy result, or say why there is none."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from custodian.custodian import Custodian, CustodianError

from dft_inputs.causes import SUCCESS, DftError
from dft_inputs.espresso.continuation import continue_from, left_by
from dft_inputs.espresso.diagnose import diagnose_pw
from dft_inputs.espresso.estimate import estimate
from dft_inputs.espresso.handlers import WalltimeMonitor, default_handlers
from dft_inputs.espresso.handlers.base import archive
from dft_inputs.espresso.job import PwJob, bring_home, storage_errors
from dft_inputs.espresso.outputs import read_pw
from dft_inputs.espresso.pw_input import PwInput
from dft_inputs.espresso.record import INPUT, RunRecord

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from custodian.custodian import ErrorHandler

    from dft_inputs.espresso.command import PwCommand
    from dft_inputs.espresso.outputs import PwOutput
    from dft_inputs.espresso.record import Correction
    from dft_inputs.pseudos import Family

POLL = 0.2
"""s between looks at whether pw.x is done."""

_MANY = 100

LOOK_EVERY = 5
"""Polls between looks at the wall-time."""


@dataclass(frozen=True)
class PwRun:
    """A run with a trustworthy result.

    Parameters
    ----------
    directory : pathlib.Path
    output : PwOutput
    inp : PwInput
        What the successful attempt was asked: corrections included.
    record : RunRecord
        Corrections, and what the run went on from.
    """

    directory: Path
    output: PwOutput
    inp: PwInput
    record: RunRecord

    @property
    def corrections(self) -> tuple[Correction, ...]:
        """What was changed after failures, oldest first; those of the run that this one went on from too."""
        return self.record.corrections

    @property
    def comparable(self) -> bool:
        """Whether the energy belongs with those of the protocol's undisturbed runs."""
        return self.record.comparable


def run_pw(
    inp: PwInput,
    directory: Path,
    command: PwCommand,
    *,
    max_corrections: int = 8,
    restart_from: Path | None = None,
    learn_from: Path | None = None,
    pressure_tolerance_kbar: float | None = None,
    handlers: Sequence[ErrorHandler] | None = None,
    keep_density: bool = True,
    family: Family | None = None,
) -> PwRun:
    """Run pw.x, correct what can be corrected, and give a result only if it can be trusted.

    Parameters
    ----------
    inp : PwInput
    directory : pathlib.Path
        Made if needed. An earlier attempt in it is moved to ``failed-NN/`` first.
    command : PwCommand
    max_corrections : int
        Of this call; those of the run that it goes on from are not counted.
    restart_from : pathlib.Path, optional
        Directory of an earlier attempt: its last geometry (if ``inp`` relaxes), its charge density and the history of
        its minimiser are taken where they are whole, and so are the settings that its corrections arrived at, unless
        ``inp`` asks for something else than that attempt was first asked.
    learn_from : pathlib.Path, optional
        Directory of an earlier run of which only those settings are taken.
    pressure_tolerance_kbar : float, optional
        Largest pressure of a relaxed cell's final scf.
    handlers : sequence of ErrorHandler, optional
        :func:`~dft_inputs.espresso.handlers.default_handlers` if not given.
    keep_density : bool
        Whether the charge density outlives success.
    family : Family, optional
        That ``inp`` was made with: needed to estimate memory, for ``command.memory_gb``.

    Returns
    -------
    PwRun

    Raises
    ------
    DftError
        With the cause, when there is nothing left to try or nothing can be done: 101 for the wall-time (go on with
        ``restart_from`` in the next launch), 203 for a missing executable, 304 for an input above
        ``command.memory_gb``, ...
    """
    directory = directory.absolute()
    _require_memory(inp, command, family)
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        record = RunRecord(
            calculation=inp.calculation,
            pressure_tolerance_kbar=pressure_tolerance_kbar,
            max_corrections=max_corrections,
        )
        inp = inp.changed({"control.outdir": "./out"})
        if restart_from is not None:
            inp, record = _go_on(inp, record, restart_from.absolute(), directory)
        elif learn_from is not None:
            inp, record = _learn(inp, record, learn_from)
        archive(directory)
        inp.write(directory / INPUT)
        record.write(directory)
        _supervise(directory, PwJob(command, keep_density), default_handlers() if handlers is None else handlers)
    return finished(directory)


def _supervise(directory: Path, job: PwJob, handlers: Sequence[ErrorHandler]) -> None:
    """Let custodian run it.

    Raises
    ------
    DftError
        With the cause, where custodian itself gives up.
    """
    record = RunRecord.read(directory)
    custodian = Custodian(
        [WalltimeMonitor(), *handlers],
        [job],
        directory=str(directory),
        # our handlers keep the budget, and stop before custodian would change an input that nobody runs any more
        max_errors=1 + (record.max_corrections or _MANY),
        polling_time_step=POLL,
        monitor_freq=LOOK_EVERY,
        checkpoint=False,
        terminate_on_nonzero_returncode=False,
    )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="subprocess returned a non-zero return code")  # we look ourselves
            custodian.run()
    except CustodianError as why:
        _give_up(directory, str(why))
    finally:
        job.terminate(directory)


def finished(directory: Path) -> PwRun:
    """Give the result of a directory whose run is over.

    Raises
    ------
    DftError
        With the cause if it has none to be trusted.
    """
    record = RunRecord.read(directory)
    code = diagnose_pw(directory, pressure_tolerance_kbar=record.pressure_tolerance_kbar).code
    if code != SUCCESS:
        _give_up(directory, "")
    return PwRun(
        directory=directory,
        output=read_pw(directory, pressure_tolerance_kbar=record.pressure_tolerance_kbar),
        inp=PwInput.read(directory / INPUT),
        record=record,
    )


def _give_up(directory: Path, said: str) -> None:
    """Raise the cause, after bringing home what the next launch can go on from."""
    record = RunRecord.read(directory)
    bring_home(directory)
    if record.stopped == "walltime":
        raise DftError(101, f"{directory}: pw.x was ended in the last seconds of the wall-time")
    diagnosis = diagnose_pw(directory, pressure_tolerance_kbar=record.pressure_tolerance_kbar)
    if diagnosis.code == SUCCESS:
        raise DftError(210, f"{directory}: {said}")
    shown = "; ".join(map(str, diagnosis.evidence)) or diagnosis.name
    tried = f" (after {len(record.corrections)} corrections)" if record.corrections else ""
    raise DftError(diagnosis.code, f"{directory}: {shown}{tried}")


def _learn(inp: PwInput, record: RunRecord, earlier: Path) -> tuple[PwInput, RunRecord]:
    """Take over the settings that an earlier run's corrections arrived at."""
    known = RunRecord.read(earlier).corrections
    for correction in known:
        values = {key: value for key, value in correction.after.items() if "." in key}
        inp = inp.changed({key: value for key, value in values.items() if inp.get(key) == correction.before.get(key)})
    return inp, replace(
        record,
        corrections=known,
        max_corrections=None if record.max_corrections is None else len(known) + record.max_corrections,
        pools=next((one.after["pools"] for one in reversed(known) if "pools" in one.after), None),
    )


def _go_on(inp: PwInput, record: RunRecord, earlier: Path, directory: Path) -> tuple[PwInput, RunRecord]:
    """Take over what an earlier attempt left and learned."""
    inp, record = _learn(inp, record, earlier)
    inp, taken = continue_from(inp, left_by(earlier, inp), directory)
    return inp, replace(record, continued_from=os.fspath(earlier), continued_with=taken)


def _require_memory(inp: PwInput, command: PwCommand, family: Family | None) -> None:
    if command.memory_gb is None or family is None:
        return
    needed = estimate(inp, family, processes=command.processes, pools=command.pools).memory_gb
    if needed > command.memory_gb:
        raise DftError(304, f"about {needed:.1f} GB of memory are needed, {command.memory_gb:g} GB may be used")
