"""``nucleate.json``: what we decided about the run of a directory, beside what pw.x itself wrote there.

It is what makes a directory explain itself, and what lets handlers go on where an earlier process was killed: nothing
of importance is kept in memory alone.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pathlib import Path

FILE = "nucleate.json"

INPUT, OUTPUT, ERRORS, CRASH = "pw.in", "pw.out", "pw.err", "CRASH"
"""Files of a run."""

FAILED = "failed-"
"""Directories of a run's directory that keep what each corrected attempt left: ``failed-01``, ``failed-02``, ..."""


@dataclass(frozen=True)
class Correction:
    """One thing changed after a failure.

    Parameters
    ----------
    code : int
        The cause, a key of :data:`dft_inputs.causes.DFT_CAUSES`.
    handler : str
        Class that changed it.
    evidence : str
        Where it was seen.
    actions : tuple of str
        What was changed, in words.
    before, after : dict
        Values by ``"namelist.key"`` (``None``: not given), ``mesh``, or ``pools``.
    comparable : bool
        Whether energies still belong with those of the protocol's undisturbed runs.
    """

    code: int
    handler: str
    evidence: str
    actions: tuple[str, ...]
    before: dict[str, Any] = field(default_factory=dict)
    after: dict[str, Any] = field(default_factory=dict)
    comparable: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "actions", tuple(self.actions))  # read back from JSON it is a list


@dataclass(frozen=True)
class RunRecord:
    """What we decided about a run, and what became of its process.

    Parameters
    ----------
    calculation : str
        As pw.x calls it.
    pressure_tolerance_kbar : float or None
        Largest pressure of a relaxed cell's final scf that still counts as success.
    max_corrections : int or None
        Budget of :attr:`corrections`; ``None`` leaves it to whoever runs.
    corrections : tuple of Correction
    pools : int or None
        In place of the command's.
    outdir : str or None
        pw.x's own directory if it is outside of this one.
    max_seconds : float or None
        What pw.x was told at its last start.
    returncode : int or None
        Of the last process, negative: the signal that ended it. ``None`` while it runs, or if nobody saw its end.
    stopped : str or None
        Why we ended it ourselves: ``walltime``.
    out_of_memory : bool or None
        Whether the kernel ended a process of this batch job for want of memory while this one ran, and it ended badly.
    continued_from : str or None
        Directory whose geometry this one began with.
    continued_with : tuple of str
        What else was taken from there: ``charge density``, ``minimiser history``.
    """

    calculation: str = "scf"
    pressure_tolerance_kbar: float | None = None
    max_corrections: int | None = None
    corrections: tuple[Correction, ...] = ()
    pools: int | None = None
    outdir: str | None = None
    max_seconds: float | None = None
    returncode: int | None = None
    stopped: str | None = None
    out_of_memory: bool | None = None
    continued_from: str | None = None
    continued_with: tuple[str, ...] = ()

    @property
    def comparable(self) -> bool:
        """Whether no correction took the result away from those of its protocol."""
        return all(correction.comparable for correction in self.corrections)

    def before_a_run(self) -> Self:
        """Give it without what became of the last process."""
        return replace(self, returncode=None, stopped=None, out_of_memory=None)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read a directory's record; an empty one if it has none (somebody else's run) or one that is no record."""
        try:
            data = json.loads((directory / FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            return cls()
        if not isinstance(data, dict):
            return cls()
        known = {one.name for one in fields(cls)}
        kept = {key: value for key, value in data.items() if key in known}
        kept["corrections"] = tuple(Correction(**one) for one in kept.get("corrections", ()))
        kept["continued_with"] = tuple(kept.get("continued_with", ()))
        return cls(**kept)

    def write(self, directory: Path) -> None:
        """Write it, without what is not known; a reader never sees half of it."""
        partial = directory / f".{FILE}.partial"
        known = {key: value for key, value in asdict(self).items() if value is not None}
        partial.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        partial.replace(directory / FILE)
