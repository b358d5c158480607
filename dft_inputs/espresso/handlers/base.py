"""What every handler of pw.x's failures has in common."""

from __future__ import annotations

import shutil
from abc import abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from custodian.custodian import ErrorHandler

from dft_inputs.causes import DftError
from dft_inputs.espresso.continuation import continue_from, left_by
from dft_inputs.espresso.diagnose import diagnose_pw
from dft_inputs.espresso.pw_input import PwInput
from dft_inputs.espresso.record import CRASH, ERRORS, FAILED, INPUT, OUTPUT, Correction, RunRecord
from dft_inputs.files import NoRunError

if TYPE_CHECKING:
    from dft_inputs.diagnosis import Diagnosis

GEOMETRY, DENSITY, HISTORY = "geometry", "density", "history"
"""What a change may go on from. A geometry also brings the density and the minimiser's history if they are named."""


@dataclass(frozen=True)
class Failure:
    """A failed run as a handler sees it.

    Parameters
    ----------
    directory : pathlib.Path
    diagnosis : Diagnosis
    inp : PwInput
        What was asked.
    record : RunRecord
        With the corrections made so far.
    """

    directory: Path
    diagnosis: Diagnosis
    inp: PwInput
    record: RunRecord

    def earlier(self, handler: str) -> tuple[Correction, ...]:
        """Give the corrections that a handler made in this directory, oldest first."""
        return tuple(one for one in self.record.corrections if one.handler == handler)

    def text(self, name: str = OUTPUT) -> str:
        """Give a file of the run; nothing if there is none."""
        try:
            return (self.directory / name).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return ""


@dataclass(frozen=True)
class Change:
    """What a handler wants to be different.

    Parameters
    ----------
    actions : tuple of str
        In words.
    values : dict
        By ``"namelist.key"``; ``None`` removes.
    pools : int or None
        In place of the command's.
    keep : frozenset of str
        What to go on from: of :data:`GEOMETRY`, :data:`DENSITY`, :data:`HISTORY`.
    comparable : bool
        Whether energies still belong with those of the protocol's undisturbed runs.
    """

    actions: tuple[str, ...]
    values: dict[str, Any] = field(default_factory=dict)
    pools: int | None = None
    keep: frozenset[str] = frozenset({GEOMETRY, DENSITY, HISTORY})
    comparable: bool = True


class PwHandler(ErrorHandler):  # type: ignore[misc]  # custodian carries no types
    """One cause and what is changed for it.

    A handler says that it has found something only while it has something to offer: a ladder climbed to its end, or a
    budget that is spent, leaves the directory as the failure left it, so that it explains itself. In a Custodian of
    your own, let :class:`~dft_inputs.espresso.handlers.PwValidator` refuse what no handler took.

    What was tried is read from the directory's record and not kept here: a handler goes on where a killed process
    stopped.
    """

    code: ClassVar[int]
    """The cause."""

    priority: ClassVar[int] = 100
    """Smaller goes first."""

    is_monitor = False

    def failure(self, directory: str | Path) -> Failure | None:
        """Give the failure if it is of this handler's cause; else ``None``."""
        where = Path(directory).absolute()
        try:
            diagnosis = diagnose_pw(where)
            if diagnosis.code != self.code:
                return None
            return Failure(where, diagnosis, PwInput.read(where / INPUT), RunRecord.read(where))
        except (NoRunError, DftError, FileNotFoundError):
            return None

    @abstractmethod
    def change(self, failure: Failure) -> Change | None:
        """Say what is to be changed; ``None`` if there is nothing left to try."""

    def check(self, directory: str | Path = "./") -> bool:
        """Tell whether the run failed of this cause and something can be done about it."""
        failure = self.failure(directory)
        if failure is None or _is_spent(failure.record):
            return False
        return self.change(failure) is not None

    def correct(self, directory: str | Path = "./") -> dict[str, Any]:
        """Change the input, keep what the failed run left in ``failed-NN/``, and write down what was done."""
        failure = self.failure(directory)
        change = None if failure is None else self.change(failure)
        if failure is None or change is None:
            return {"errors": [type(self).__name__], "actions": None}
        correction = apply(failure, change, type(self).__name__)
        return {
            "errors": [f"{correction.code} {failure.diagnosis.name}: {correction.evidence}"],
            "actions": list(correction.actions),
        }


def _is_spent(record: RunRecord) -> bool:
    return record.max_corrections is not None and len(record.corrections) >= record.max_corrections


def apply(failure: Failure, change: Change, handler: str) -> Correction:
    """Make a change.

    Returns
    -------
    Correction
        As it was added to the record.
    """
    directory, record = failure.directory, failure.record
    left = left_by(directory, failure.inp)
    inp = failure.inp.changed(change.values)
    inp, taken = continue_from(
        inp,
        replace(
            left,
            structure=left.structure if GEOMETRY in change.keep else None,
            density=left.density if DENSITY in change.keep else None,
        ),
        directory,
        history=HISTORY in change.keep and GEOMETRY in change.keep,
    )
    before = {key: failure.inp.get(key) for key in change.values}
    after = dict(change.values)
    actions = change.actions
    if change.pools is not None:
        before["pools"], after["pools"] = record.pools, change.pools
    if left.structure is not None and GEOMETRY in change.keep and "relax" in inp.calculation:
        actions = (*actions, f"go on from the last geometry{''.join(f', {one}' for one in taken)}")
    correction = Correction(
        code=failure.diagnosis.code,
        handler=handler,
        evidence=str(failure.diagnosis.evidence[0]) if failure.diagnosis.evidence else failure.diagnosis.name,
        actions=actions,
        before=before,
        after=after,
        comparable=change.comparable,
    )
    archive(directory)
    inp.write(directory / INPUT)
    corrections = (*record.corrections, correction)
    replace(record.before_a_run(), corrections=corrections, pools=change.pools or record.pools).write(directory)
    return correction


def archive(directory: Path) -> Path | None:
    """Move what an attempt left to the next free ``failed-NN/``.

    Returns
    -------
    pathlib.Path or None
        The archive; ``None`` if there was no output to keep.
    """
    outputs = (OUTPUT, f"{OUTPUT}.gz")
    if not any((directory / name).exists() for name in outputs):
        return None
    taken = [int(path.name.removeprefix(FAILED)) for path in directory.glob(f"{FAILED}[0-9]*")]
    kept = directory / f"{FAILED}{max(taken, default=0) + 1:02d}"
    kept.mkdir()
    if (directory / INPUT).exists():
        shutil.copy2(directory / INPUT, kept / INPUT)
    for name in (*outputs, ERRORS, CRASH):
        if (directory / name).exists():
            (directory / name).replace(kept / name)
    return kept
