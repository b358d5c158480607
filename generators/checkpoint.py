"""Checkpoints: ``generator.json`` and ``weights.safetensors``, never a pickle; damaged and foreign ones are refused."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import safetensors.torch
from safetensors import SafetensorError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

STATE, WEIGHTS = "generator.json", "weights.safetensors"


class CheckpointError(ValueError):
    """A checkpoint that can't be used: missing, damaged, of another generator, or written by a newer version."""


def write(
    directory: Path, name: str, version: int, state: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None
) -> None:
    """Write a checkpoint; the weights come first, so that a JSON file never names weights that are not there.

    Parameters
    ----------
    directory : pathlib.Path
        Made if missing.
    name : str
        Registry name of the generator.
    version : int
        Of the checkpoint's format.
    state : mapping
        JSON-compatible; may not hold ``name``, ``format`` or ``weights_sha256``.
    tensors : mapping of str to Tensor, optional
    """
    directory.mkdir(parents=True, exist_ok=True)
    document = {**state, "name": name, "format": version}
    if tensors:
        data = safetensors.torch.save({key: tensors[key].detach().cpu().contiguous() for key in sorted(tensors)})
        (directory / WEIGHTS).write_bytes(data)
        document["weights_sha256"] = hashlib.sha256(data).hexdigest()
    (directory / STATE).write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def read(directory: Path, name: str, version: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint.

    Parameters
    ----------
    directory : pathlib.Path
    name : str
        Registry name of the generator that asks.
    version : int
        Newest format that it understands.

    Returns
    -------
    state : dict
    tensors : dict of str to Tensor
        Empty if the checkpoint has no weights.

    Raises
    ------
    CheckpointError
        The message names the file, what is wrong and what would be right.
    """
    path = directory / STATE
    if not path.is_file():
        raise CheckpointError(f"{directory} is no checkpoint: it has no {STATE}")
    try:
        state = json.loads(path.read_text())
        found, number = str(state["name"]), int(state["format"])
    except (UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}; take another copy") from error
    if found != name:
        raise CheckpointError(f"{path} is a checkpoint of {found!r}, not of {name!r}")
    if number > version:
        raise CheckpointError(
            f"{path} has format {number} of {name!r}, this version understands {version} at most: update nucleate"
        )
    if number < version:
        raise CheckpointError(f"{path} has the old format {number} of {name!r}; {version} is needed: train it again")
    if "weights_sha256" not in state:
        return state, {}
    weights = directory / WEIGHTS
    if not weights.is_file():
        raise CheckpointError(f"{directory} has no {WEIGHTS}, which its {STATE} names; take another copy")
    data = weights.read_bytes()
    if hashlib.sha256(data).hexdigest() != state["weights_sha256"]:
        raise CheckpointError(f"{weights} is damaged: its sha256 is not the one in {STATE}; take another copy")
    try:
        return state, safetensors.torch.load(data)
    except SafetensorError as error:  # pragma: no cover - the hash is checked first
        raise CheckpointError(f"{weights} is damaged: {error}; take another copy") from error
