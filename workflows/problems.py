"""A problem that can be refused before anything is submitted: in a campaign file, or in a structure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Problem:
    """Something that can be refused before submission.

    Parameters
    ----------
    key : str
        Dotted key in the campaign (``targets.bulk_modulus.max``), or a site of the structure; empty for all of it.
    message : str
        What is wrong and what would be right.
    level : {"error", "warning"}
    line : int or None
        Line of the file, counted from 1, where it is known.
    value : str or None
        The offending value as a person would write it, where there is one.
    """

    key: str
    message: str
    level: Literal["error", "warning"] = "error"
    line: int | None = None
    value: str | None = None

    def __str__(self) -> str:
        """Give one line: where, what value, what is wrong and what would be right."""
        where = f"line {self.line}: " if self.line is not None else ""
        what = f"{self.key} = {self.value}" if self.key and self.value is not None else self.key or self.value
        return f"{where}{what}: {self.message}" if what else f"{where}{self.message}"
