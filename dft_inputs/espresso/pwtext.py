"""What pw.x printed in one run: which part of a file it is, and its stages, told apart without numbers being read."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dft_inputs.diagnosis import Evidence
    from dft_inputs.texts import Text

_HEADER = re.compile(r"^ *Program PWSCF v\.(\S+) +.*starts on +(\S+) +at +([\d: ]+?) *$", re.MULTILINE)

_BLOCK = re.compile(r"^ *Error in routine +(\S+) +\( *(-?\d+|\*+)\):[ \t]*\n((?:(?! *%%%)[^\n]*\n?)*)", re.MULTILINE)

_CRASH_ENTRY = re.compile(r"^ *from +(\S+) *: error # +(-?\d+|\*+)[ \t]*\n((?:(?! *%%%)[^\n]*\n?)*)", re.MULTILINE)

JOB_DONE = "JOB DONE."

FINAL_SCF = re.compile(r"final scf calculation at the relaxed structure", re.IGNORECASE)


@dataclass(frozen=True)
class ErrorBlock:
    """An error that pw.x stopped with.

    Parameters
    ----------
    routine : str
    message : str
        One line.
    evidence : Evidence
        The line of the message.
    """

    routine: str
    message: str
    evidence: Evidence


@dataclass(frozen=True)
class PwText:
    """Output of one run of pw.x.

    Parameters
    ----------
    text : Text
        From the header of the run, which knows where in the file it stands.
    """

    text: Text

    @cached_property
    def version(self) -> str | None:
        """Version as printed."""
        header = _HEADER.search(self.text.content)
        return header.group(1) if header else None

    @cached_property
    def started(self) -> datetime:
        """When it began, by its own clock (local time, no zone); the beginning of time if it can't be read."""
        header = _HEADER.search(self.text.content)
        if header:
            try:
                return datetime.strptime(f"{header.group(2)} {header.group(3).replace(' ', '')}", "%d%b%Y %H:%M:%S")  # noqa: DTZ007 - pw.x prints no zone
            except ValueError:
                pass
        return datetime.min  # noqa: DTZ901 - only compared with its like

    @cached_property
    def job_done(self) -> bool:
        """Whether it says that it was done; no sign of success."""
        return JOB_DONE in self.text

    @cached_property
    def relaxes(self) -> bool:
        """Whether ions are moved by a minimiser."""
        return "force convergence thresh." in self.text or "BFGS Geometry Optimization" in self.text

    @cached_property
    def relaxes_cell(self) -> bool:
        """Whether the cell is moved too."""
        return "press convergence thresh." in self.text or "new unit-cell volume" in self.text

    @cached_property
    def moves(self) -> bool:
        """Whether it is molecular dynamics."""
        return "Molecular Dynamics Calculation" in self.text

    @cached_property
    def only_bands(self) -> bool:
        """Whether it is a non-self-consistent run."""
        return "Band Structure Calculation" in self.text and "Self-consistent Calculation" not in self.text

    @cached_property
    def final_scf(self) -> Text | None:
        """What was printed from the final scf of a relaxed cell on; ``None`` if it was not begun."""
        found = FINAL_SCF.search(self.text.content)
        return self.text.part(found.start()) if found else None

    @cached_property
    def last_step(self) -> Text:
        """What was printed from the last scf or band calculation on that was begun."""
        content = self.text.content
        begin = max(content.rfind("Self-consistent Calculation"), content.rfind("Band Structure Calculation"), 0)
        return self.text.part(begin)

    def blocks(self) -> list[ErrorBlock]:
        """Give the errors that it stopped with, each once: every process prints its own."""
        return _blocks(_BLOCK, self.text)


def runs_of(text: Text) -> list[PwText]:
    """Tell apart the runs whose outputs stand in one file, the first one first."""
    begins = [found.start() for found in _HEADER.finditer(text.content)]
    if not begins:
        return [PwText(text)]
    return [PwText(text.part(begin, end)) for begin, end in zip(begins, [*begins[1:], None], strict=True)]


def latest_run(texts: Sequence[Text]) -> tuple[PwText, list[PwText]] | None:
    """Choose the run that was begun last: the last one of a file, and of several files the one with the latest start.

    Parameters
    ----------
    texts : sequence of Text
        Files of pw.x's output, the newest first: it wins among runs that began in the same second.

    Returns
    -------
    tuple of PwText and list of PwText, or None
        The run, and all others.
    """
    of_files = [runs_of(text) for text in texts]
    if not of_files:
        return None
    latest = max((runs[-1] for runs in of_files), key=lambda run: run.started)
    return latest, [run for runs in of_files for run in runs if run is not latest]


def crash_entry(text: Text) -> ErrorBlock | None:
    """Give the last error of a CRASH file: pw.x adds to one that is there."""
    blocks = _blocks(_CRASH_ENTRY, text)
    return blocks[-1] if blocks else None


def _blocks(pattern: re.Pattern[str], text: Text) -> list[ErrorBlock]:
    blocks: dict[tuple[str, str], ErrorBlock] = {}
    for found in pattern.finditer(text.content):
        message = " ".join(found.group(3).split())
        begin = found.start(3) + len(found.group(3)) - len(found.group(3).lstrip())
        seen = text.at(begin if message else found.start(1))
        blocks.setdefault((found.group(1), message), ErrorBlock(found.group(1), message, seen))
    return list(blocks.values())
