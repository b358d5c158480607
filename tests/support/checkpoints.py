"""Checkpoints that are wrong in a way which no hash tells."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import safetensors.torch

from generators import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from torch import Tensor


def rewrite(folder: Path, change: Callable[[str, Tensor], Tensor | None] | None = None, **state: Any) -> None:
    """Write a checkpoint anew, hash and all: some entries of its state, and its tensors as they are changed to."""
    before = json.loads((folder / checkpoint.STATE).read_text())
    tensors = safetensors.torch.load_file(folder / checkpoint.WEIGHTS)
    if change is not None:
        tensors = {name: new for name, tensor in tensors.items() if (new := change(name, tensor)) is not None}
    name, version = before.pop("name"), before.pop("format")
    del before["weights_sha256"]
    checkpoint.write(folder, name, version, {**before, **state}, tensors)
