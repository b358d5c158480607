"""What a pilot is told: a file beside the campaign, written before the job is submitted and read when it starts.

A batch job may start hours later, and restart; what it was sized for must not change with the cluster file.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

from pydantic import BaseModel, ConfigDict, Field

from workflows.runtime.cluster import PilotKind, Through

if TYPE_CHECKING:
    from pathlib import Path

PILOTS = "pilots"
"""Directory of a campaign with one directory a pilot: its order, its output."""
FILE = "pilot.json"


class Order(BaseModel):
    """What one pilot is to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pilot: str = Field(description="name of its record, and of the job")
    cluster: str
    campaign: str
    kind: PilotKind
    fw_id: int | None = Field(None, description="the one firework that it is for; it takes no other")
    database: Through | None = Field(None, description="how the job reaches the database, where it can't by itself")
    patience_s: float = Field(
        60.0, ge=0, description="s that a task which fits the empty job may be passed over for smaller ones"
    )

    @staticmethod
    def path(directory: Path, pilot: str) -> Path:
        """Tell where a pilot's order lies in a campaign's directory."""
        return directory / PILOTS / pilot / FILE

    def write(self, directory: Path) -> Path:
        """Write it into a campaign's directory, readable by its owner alone."""
        path = self.path(directory, self.pilot)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        new = path.with_suffix(".new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(self.model_dump_json(indent=1))
        new.replace(path)
        return path

    @classmethod
    def read(cls, directory: Path, pilot: str) -> Self:
        """Read a pilot's order.

        Raises
        ------
        FileNotFoundError
            If there is none by that name.
        """
        return cls.model_validate_json(cls.path(directory, pilot).read_text(encoding="utf-8"))
