"""The file ``generator.json`` of a saved generator; read without torch, since most states have no weights."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

STATE = "generator.json"


class CheckpointError(ValueError):
    """A checkpoint that can't be used: missing, damaged, of another generator, or written by a newer version."""


def read_state(directory: Path) -> dict[str, Any]:
    """Read ``generator.json``; what it holds beside the name of its generator is not looked at.

    Raises
    ------
    CheckpointError
        If it is not there or damaged.
    """
    path = directory / STATE
    if not directory.exists():
        raise CheckpointError(f"{directory} is no checkpoint: there is no such folder")
    if not path.is_file():
        raise CheckpointError(f"{directory} is no checkpoint: it has no {STATE}")
    try:
        state = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise damaged(path, f"it is no whole JSON (line {error.lineno}, column {error.colno})") from error
    except UnicodeDecodeError as error:
        raise damaged(path, "it is no text in UTF-8") from error
    except RecursionError as error:
        raise damaged(path, "it is nested without end") from error
    if not isinstance(state, dict) or not isinstance(state.get("name"), str):
        raise damaged(path, "it does not say whose state it is (name)")
    return state


def damaged(path: Path, why: str) -> CheckpointError:
    """Make the error for a file of a checkpoint that can't be what was written."""
    return CheckpointError(f"{path} is damaged: {why}; take another copy")
