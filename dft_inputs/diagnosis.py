"""What a run directory shows: one cause with its evidence, whichever code ran there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dft_inputs.causes import DFT_CAUSES, SUCCESS

if TYPE_CHECKING:
    from dft_inputs.causes import CauseInfo

Code = Literal["espresso", "vasp"]


@dataclass(frozen=True)
class Evidence:
    """A place that shows a cause.

    Parameters
    ----------
    file : str
        Relative to the run directory.
    line : int or None
        Counted from 1; ``None`` where the whole file (or its absence) shows it.
    text : str
        The line itself, stripped, or what is to be seen, in words.
    """

    file: str
    line: int | None
    text: str

    def __str__(self) -> str:
        """Give ``file:line: text``."""
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {self.text}"


@dataclass(frozen=True)
class Diagnosis:
    """Why a run ended as it did.

    Parameters
    ----------
    program : {"espresso", "vasp"}
        What ran there.
    code : int
        0 is success, else a key of :data:`dft_inputs.causes.DFT_CAUSES`.
    evidence : tuple of Evidence
        Most telling first.
    suggestion : str
        What a re-run would change; empty if nothing helps or nothing is wrong.
    """

    program: Code
    code: int
    evidence: tuple[Evidence, ...] = ()
    suggestion: str = ""

    @property
    def cause(self) -> CauseInfo | None:
        """Row of the table; ``None`` for success."""
        return None if self.code == SUCCESS else DFT_CAUSES[self.code]

    @property
    def name(self) -> str:
        """``success`` or the name of the cause."""
        return self.cause.name if self.cause else "success"

    @property
    def recoverable(self) -> bool:
        """Whether a re-run can help; false for success, which needs none."""
        return bool(self.cause and self.cause.recoverable)

    def as_dict(self) -> dict[str, Any]:
        """Give what ``nucleate diagnose --json`` prints."""
        return {
            "program": self.program,
            "code": self.code,
            "name": self.name,
            "evidence": [vars(item) for item in self.evidence],
            "recoverable": self.recoverable,
            "suggestion": self.suggestion,
        }
