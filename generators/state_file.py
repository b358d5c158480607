"""The file ``generator.json`` of a saved generator; read without torch, since most states have no weights."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
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


def read_own(directory: Path, name: str, version: int) -> dict[str, Any]:
    """Read ``generator.json`` of a generator and a format that are known.

    Parameters
    ----------
    directory : pathlib.Path
    name : str
        Registry name of the generator that asks.
    version : int
        The format that it understands.

    Raises
    ------
    CheckpointError
        If it is not there, damaged, of another generator, or of another format.
    """
    path = directory / STATE
    state = read_state(directory)
    found, number = state["name"], state.get("format")
    if not isinstance(number, int):
        raise damaged(path, "it does not say its format")
    if found != name:
        raise CheckpointError(f"{path} is a checkpoint of {found!r}, not of {name!r}")
    if number > version:
        raise CheckpointError(
            f"{path} has format {number} of {name!r}, this version understands {version} at most: update nucleate"
        )
    if number < version:
        raise CheckpointError(f"{path} has the old format {number} of {name!r}; {version} is needed: train it again")
    return state


def write_own(directory: Path, name: str, version: int, state: Mapping[str, Any]) -> None:
    """Write ``generator.json``; the folder is made if missing.

    Parameters
    ----------
    directory : pathlib.Path
    name : str
        Registry name of the generator.
    version : int
        Of the format.
    state : mapping
        JSON-compatible; may not hold ``name`` or ``format``.
    """
    directory.mkdir(parents=True, exist_ok=True)
    document = {**state, "name": name, "format": version}
    (directory / STATE).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")


@contextmanager
def understood(directory: Path) -> Iterator[None]:
    """Say in one line that ``generator.json`` lacks something, or holds what it can't.

    Raises
    ------
    CheckpointError
        For whatever goes wrong inside.
    """
    try:
        yield
    except CheckpointError:
        raise
    except KeyError as error:
        raise damaged(directory / STATE, f"{error} is missing") from error
    except ValueError as error:
        raise damaged(directory / STATE, str(error).partition("\n")[0]) from error
    except (LookupError, TypeError, AttributeError) as error:  # Python's own words would name functions
        what = "something in it is not of the kind that this version writes"
        raise damaged(directory / STATE, what) from error


def damaged(path: Path, why: str) -> CheckpointError:
    """Make the error for a file of a checkpoint that can't be what was written."""
    return CheckpointError(f"{path} is damaged: {why}; take another copy")
