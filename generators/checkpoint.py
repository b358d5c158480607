"""Checkpoints: ``generator.json`` and ``weights.safetensors``, never a pickle; damaged and foreign ones are refused."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import safetensors.torch
from safetensors import SafetensorError

from generators.state_file import STATE, CheckpointError, damaged, read_own, write_own

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from torch import Tensor

__all__ = ("STATE", "WEIGHTS", "CheckpointError", "fitting", "none_ships", "read", "write")

WEIGHTS = "weights.safetensors"


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
    document = dict(state)
    if tensors:
        directory.mkdir(parents=True, exist_ok=True)
        data = safetensors.torch.save({key: tensors[key].detach().cpu().contiguous() for key in sorted(tensors)})
        (directory / WEIGHTS).write_bytes(data)
        document["weights_sha256"] = hashlib.sha256(data).hexdigest()
    write_own(directory, name, version, document)


def read(
    directory: Path, name: str, version: int, gaps: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read a checkpoint.

    Parameters
    ----------
    directory : pathlib.Path
    name : str
        Registry name of the generator that asks.
    version : int
        Newest format that it understands.
    gaps : collection of str
        Tensors in which NaN stands for a value that nobody knows; all others must be finite.

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
    state = read_own(directory, name, version)
    if "weights_sha256" not in state:
        return state, {}
    return state, _read_weights(directory, state["weights_sha256"], gaps)


def _read_weights(directory: Path, sha256: str, gaps: Collection[str]) -> dict[str, Tensor]:
    path = directory / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{directory} has no {WEIGHTS}, which its {STATE} names; take another copy")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != sha256:
        raise damaged(path, f"its sha256 is not the one in {STATE}")
    try:
        tensors: dict[str, Tensor] = safetensors.torch.load(data)
    except SafetensorError as error:
        raise damaged(path, str(error).partition("\n")[0]) from error
    for name, tensor in sorted(tensors.items()):
        numbers = tensor.double()
        known = numbers[~numbers.isnan()] if name in gaps else numbers
        if not known.isfinite().all():
            raise damaged(path, f"tensor {name} holds numbers that are not finite")
    return tensors


@contextmanager
def fitting(directory: Path, name: str) -> Iterator[None]:
    """Say in one line that weights and ``generator.json`` make no model; torch would list every tensor, line by line.

    Parameters
    ----------
    directory : pathlib.Path
        Of the checkpoint.
    name : str
        Registry name of the generator.

    Raises
    ------
    CheckpointError
        For whatever goes wrong inside.
    """
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise CheckpointError(
            f"the weights of {directory} do not fit its {STATE}, or not this version of {name}; take another copy, or "
            "train it again"
        ) from error


def none_ships(name: str) -> CheckpointError:
    """Make the error for a model that was asked for by its name alone, and has to be trained first."""
    return CheckpointError(
        f"{name}: no trained model of it ships; train one with `nucleate generator train {name} --output my-{name}`, "
        f"then name its folder: `nucleate generator sample my-{name}`, or in campaign.yaml the option "
        f"`checkpoint: my-{name}`"
    )
